//! What came out of records: stored with the progress, and jobs like any other afterwards.

use linkspan_model::{DeliveryState, InvocationId, JobState};
use tokio::sync::broadcast::error::TryRecvError;

use super::commands::{changed, crm, only};
use super::deliveries::{by, succeeded};
use super::retention::sweep;
use super::{Open, Site, at, content, problem, seconds};
use crate::store::streams::TOLD;
use crate::store::{
    AttemptOutcome, Command, Commanded, Content, DeliveryOutcome, DocumentRef, ErrorKind, Event,
    Filter, Hold, Job, Label, LabelCount, LabelQuery, LaneProgress, LaneStatus, RecordOutcome,
    ResultPage, ResultQuery, StreamCommit, StreamCommitted, TakeLanes, Takeable, TakenLane,
};

const RESULT: &str = r#"{"status":"succeeded"}"#;

/// What came of a record that succeeded.
pub(in crate::store) fn scored() -> RecordOutcome {
    RecordOutcome {
        id: InvocationId::new(),
        integration: "bills".to_owned(),
        problem: None,
        result: RESULT.to_owned(),
        document: None,
        request: None,
        record: "reviews-0@17".to_owned(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        attempts: 1,
        max_attempts: 3,
        started: at(0),
        keep: seconds(3600),
        deliveries: Vec::new(),
        labels: Vec::new(),
    }
}

/// What came of a record that failed; `bytes` are the record's.
pub(in crate::store) fn spoiled(bytes: DocumentRef) -> RecordOutcome {
    RecordOutcome {
        problem: Some(problem()),
        result: r#"{"status":"failed"}"#.to_owned(),
        document: Some(bytes),
        request: Some(r#"{"params":{"target":"de"}}"#.to_owned()),
        attempts: 3,
        ..scored()
    }
}

pub(in crate::store) fn label(label: &str) -> Label {
    Label {
        service: "mood".to_owned(),
        label: label.to_owned(),
    }
}

impl Open {
    pub(in crate::store) async fn take(
        &self,
        owner: &str,
        which: Takeable,
        lanes: &[&str],
        now: i64,
    ) -> Vec<TakenLane> {
        let take = TakeLanes {
            stream: "reviews".to_owned(),
            lanes: lanes.iter().map(|lane| (*lane).to_owned()).collect(),
            owner: owner.to_owned(),
            which,
            lease: seconds(60),
            now: at(now),
        };
        self.store.take_lanes(take).await.unwrap()
    }

    /// One lane, taken from whoever had it.
    pub(in crate::store) async fn hold(&self, lane: &str) -> Hold {
        let mut taken = self.take("gateway", Takeable::Any, &[lane], 0).await;
        taken.remove(0).hold
    }

    pub(in crate::store) async fn lanes(&self) -> Vec<LaneStatus> {
        self.store.lanes("reviews").await.unwrap()
    }

    pub(in crate::store) async fn commit(
        &self,
        held: &[&Hold],
        progress: &str,
        outcomes: Vec<RecordOutcome>,
        now: i64,
    ) -> StreamCommitted {
        self.store
            .commit_stream(commit(held, progress, outcomes, now))
            .await
            .unwrap()
    }

    pub(in crate::store) async fn results(&self, query: ResultQuery) -> ResultPage {
        self.store.list_results(query).await.unwrap()
    }

    async fn count(&self) -> usize {
        let filter = Filter {
            limit: 1000,
            ..Filter::default()
        };
        self.store.list(filter).await.unwrap().jobs.len()
    }

    pub(in crate::store) async fn labels(&self) -> Vec<LabelCount> {
        let query = LabelQuery {
            integration: "bills".to_owned(),
            from: at(-60),
            until: at(1_000_000),
        };
        self.store.label_counts(query).await.unwrap()
    }
}

fn commit(held: &[&Hold], progress: &str, outcomes: Vec<RecordOutcome>, now: i64) -> StreamCommit {
    let lanes = held.iter().map(|hold| LaneProgress {
        hold: (*hold).clone(),
        progress: Some(progress.to_owned()),
        ended: false,
    });
    StreamCommit {
        stream: "reviews".to_owned(),
        lanes: lanes.collect(),
        outcomes,
        now: at(now),
    }
}

pub(in crate::store) fn all(limit: u32) -> ResultQuery {
    ResultQuery {
        limit,
        ..ResultQuery::default()
    }
}

pub(in crate::store) async fn what_came_out_and_the_progress_are_stored_together_or_not_at_all(
    site: &dyn Site,
) {
    let open = site.open();
    let (mine, other) = (open.hold("a").await, open.hold("b").await);
    let one = scored();
    let done = open
        .commit(&[&mine, &other], "17", vec![one.clone()], 100)
        .await;
    assert_eq!(done, StreamCommitted::Done, "though the leases are over");
    drop(open);

    let open = site.open();
    let lanes = open.lanes().await;
    let status = |lane: &LaneStatus| (lane.progress.clone(), lane.ended, lane.updated);
    let expected = (Some("17".to_owned()), false, Some(at(100)));
    assert_eq!(
        lanes.iter().map(status).collect::<Vec<_>>(),
        [expected.clone(), expected.clone()]
    );
    assert_eq!(open.count().await, 1);

    // Another reader has one of the lanes since.
    let taken = open.take("two", Takeable::Any, &["b"], 101).await.remove(0);
    assert_eq!(taken.progress.as_deref(), Some("17"));
    let mut late = scored();
    late.labels = vec![label("late")];
    late.deliveries = vec![by("crm")];
    let nobodys = Hold {
        lane: "x".to_owned(),
        token: 1,
    };
    let fenced = open
        .commit(&[&mine, &other, &nobodys], "18", vec![late], 102)
        .await;
    let expected_fence = ["b".to_owned(), "x".to_owned()];
    assert_eq!(fenced, StreamCommitted::Fenced(expected_fence.to_vec()));
    assert_eq!(
        open.lanes().await.iter().map(status).collect::<Vec<_>>(),
        [expected.clone(), expected]
    );
    assert_eq!((open.count().await, open.labels().await.len()), (1, 0));
    assert!(open.store.endpoints().await.unwrap().is_empty());

    // An id that is there already, or comes twice: nothing of the commit is stored.
    for twice in [vec![scored(), one.clone()], {
        let other = scored();
        vec![other.clone(), other]
    }] {
        let refused = open.store.commit_stream(commit(&[&mine], "19", twice, 103));
        assert_eq!(refused.await.unwrap_err().kind, ErrorKind::Internal);
    }
    assert_eq!(open.lanes().await[0].progress.as_deref(), Some("17"));
    assert_eq!(open.count().await, 1);
    assert_eq!(
        open.store.counts().await.unwrap().tallies[0].jobs,
        1,
        "nor counted"
    );

    // No outcomes and no progress: only that the lane has ended.
    let mut end = commit(&[&mine], "", Vec::new(), 104);
    end.lanes[0].progress = None;
    end.lanes[0].ended = true;
    let done = open.store.commit_stream(end).await.unwrap();
    assert_eq!(done, StreamCommitted::Done);
    let again = open.take("two", Takeable::Any, &["a"], 105).await.remove(0);
    assert_eq!((again.progress.as_deref(), again.ended), (Some("17"), true));
}

pub(in crate::store) async fn what_came_of_a_record_is_a_job_that_has_ended(site: &dyn Site) {
    let open = site.open();
    let hold = open.hold("a").await;
    let good = scored();
    let bad = spoiled(open.document(b"not a review").await);
    let done = open
        .commit(&[&hold], "2", vec![good.clone(), bad.clone()], 5)
        .await;
    assert_eq!(done, StreamCommitted::Done);
    drop(open);

    let open = site.open();
    let job = open.job(good.id).await;
    let day = jiff::Timestamp::now().duration_since(job.created);
    assert!(day.as_secs() < 3600, "made when its id was");
    let expected = Job {
        id: good.id,
        integration: "bills".to_owned(),
        caller: "stream:reviews".to_owned(),
        state: JobState::Succeeded,
        version: 1,
        attempts: 1,
        max_attempts: 3,
        created: job.created,
        updated: at(5),
        due: job.created,
        started: Some(at(0)),
        finished: Some(at(5)),
        expires: Some(at(3605)),
        problem: None,
        request_id: "reviews-0@17".to_owned(),
        traceparent: good.traceparent.clone(),
        held: false,
        history: job.history.clone(),
    };
    assert_eq!(job, expected);
    let attempt = &job.history[0];
    assert_eq!(
        (attempt.started, attempt.ended, attempt.outcome),
        (at(0), at(5), AttemptOutcome::Succeeded)
    );
    let failed = open.job(bad.id).await;
    assert_eq!((failed.state, failed.attempts), (JobState::Failed, 3));
    assert_eq!(failed.problem, Some(problem()));
    assert_eq!(
        (failed.history[0].outcome, failed.history[0].code),
        (AttemptOutcome::Failed, Some(problem().code))
    );
    let filter = Filter {
        request_id: Some("reviews-0@17".to_owned()),
        state: Some(JobState::Failed),
        limit: 10,
        ..Filter::default()
    };
    assert_eq!(open.store.list(filter).await.unwrap().jobs, [failed]);
    let result = open.store.result(good.id).await.unwrap();
    assert_eq!(result.as_deref(), Some(RESULT));
    let refused = open.command(good.id, Command::Retry, 6).await;
    assert!(matches!(refused, Commanded::WrongState(_)));
    assert!(open.claim(9, 6).await.is_empty(), "there is nothing to run");
    assert_eq!(open.recover(true, 6).await, (0, 0));

    assert!(matches!(
        open.command(good.id, Command::Delete, 7).await,
        Commanded::Deleted
    ));
    assert!(open.store.get(good.id).await.unwrap().is_none());
    assert_eq!(open.store.result(good.id).await.unwrap(), None);
    assert_eq!(sweep(&open, 3604).await.expired, 0);
    assert_eq!(sweep(&open, 3605).await.expired, 1);
    assert_eq!(open.job(bad.id).await.state, JobState::Expired);
    assert!(open.store.document(bad.id).await.unwrap().is_none());
    assert!(open.results(all(10)).await.results.is_empty());
}

pub(in crate::store) async fn a_failed_record_runs_again_with_its_bytes(site: &dyn Site) {
    let open = site.open();
    let hold = open.hold("a").await;
    let marks = ["inlined-record", "spooled-record"];
    for (mark, size) in [(marks[0], 2000), (marks[1], 200_000)] {
        let bytes = open.document(&content(mark, size)).await;
        sweep(&open, 1).await; // what is on its way to a row stays
        let bad = spoiled(bytes);
        let id = bad.id;
        open.commit(&[&hold], "1", vec![bad], 2).await;
        assert!(!site.files_with(mark.as_bytes()).is_empty());
        assert!(matches!(
            open.command(id, Command::Retry, 3).await,
            Commanded::Done(_)
        ));
        open.store.watchers().work().await;
        assert_eq!(open.store.result(id).await.unwrap(), None);
        let claimed = open.claim(9, 4).await.remove(0);
        assert_eq!(
            (
                claimed.job.id,
                claimed.job.attempts,
                claimed.job.max_attempts
            ),
            (id, 1, 3)
        );
        assert!(claimed.attempt.token > 1);
        assert_eq!(claimed.request, r#"{"params":{"target":"de"}}"#);
        let document = claimed.document.unwrap();
        assert_eq!(document.file_name.as_deref(), Some("bill.pdf"));
        match &document.content {
            Content::Inline(stored) => assert_eq!(stored[..], content(mark, size)[..]),
            Content::Blob(blob) => {
                assert_eq!(blob.size, size as u64);
                open.blobs.open(blob).await.unwrap();
            }
        }
        drop(document);
        open.finish_with(claimed.attempt, succeeded(), &[by("crm")], 5)
            .await;
        let job = open.job(id).await;
        assert_eq!((job.state, job.history.len()), (JobState::Succeeded, 2));
        assert_eq!(open.send("crm", 6).await.len(), 1);
        open.command(id, Command::Delete, 7).await;
    }
    drop(open);
    let open = site.open();
    sweep(&open, 8).await;
    for mark in marks {
        assert_eq!(
            site.files_with(mark.as_bytes()),
            [] as [std::path::PathBuf; 0]
        );
    }
}

pub(in crate::store) async fn a_records_result_is_delivered_and_told(site: &dyn Site) {
    let open = site.open();
    let hold = open.hold("a").await;
    let mut paused = by("crm");
    paused.due = at(1);
    open.set_pause(Some("upkeep"), 0).await;
    let mut unfit = by("unfit");
    unfit.dead = Some("its filter cannot be evaluated".to_owned());
    let mail = by("mail");
    let mut one = scored();
    one.deliveries = vec![mail.clone(), paused.clone(), unfit.clone()];
    let mut events = open.store.watchers().subscribe();
    open.commit(&[&hold], "1", vec![one.clone()], 2).await;
    open.store.watchers().delivery_work().await;
    let states = open.states(&[mail.id, paused.id, unfit.id]).await;
    assert_eq!(
        states,
        [
            DeliveryState::Pending,
            DeliveryState::Paused,
            DeliveryState::Dead
        ]
    );
    let told: Vec<Event> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    let job = Event::Job {
        id: one.id,
        integration: "bills".to_owned(),
        caller: "stream:reviews".to_owned(),
        state: Some(JobState::Succeeded),
        version: 1,
    };
    assert!(told.contains(&job) && told.len() == 4, "{told:?}");

    let sent = open.send("mail", 3).await.remove(0);
    assert_eq!(sent.result.as_deref(), Some(RESULT));
    assert_eq!(sent.traceparent, one.traceparent);
    assert_eq!(sent.delivery.job, one.id);
    assert!(open.end(sent.attempt, DeliveryOutcome::Delivered, 4).await);
    assert_eq!(open.replay(only(mail.id), 5).await, changed(1, 0));
    let again = open.send("mail", 5).await.remove(0);
    assert_eq!(again.result.as_deref(), Some(RESULT));
    assert!(open.end(again.attempt, DeliveryOutcome::Delivered, 6).await);
    assert_eq!(open.set_pause(None, 7).await, 1);
    assert_eq!(open.send("crm", 7).await.len(), 1);
    let endpoints = open.store.endpoints().await.unwrap();
    assert_eq!(endpoints.len(), 3, "each is counted");
    assert!(endpoints.iter().any(|status| status.endpoint == crm()));

    // Of very many, the latest are told.
    let mut events = open.store.watchers().subscribe();
    let many: Vec<_> = (0..TOLD + 30).map(|_| scored()).collect();
    let latest: Vec<_> = many[30..].iter().map(|outcome| outcome.id).collect();
    open.commit(&[&hold], "2", many, 8).await;
    let mut told = Vec::new();
    loop {
        match events.try_recv() {
            Ok(Event::Job { id, .. }) => told.push(id),
            Ok(other) => panic!("{other:?}"),
            Err(TryRecvError::Empty) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(told, latest);
}
