//! Lanes, and what came out of records: stored with the progress, and jobs like any other afterwards.

use linkspan_model::{DeliveryState, InvocationId, JobState};
use tokio::sync::broadcast::error::TryRecvError;

use super::commands::{changed, crm, only};
use super::deliveries::{by, succeeded};
use super::retention::sweep;
use super::{Open, Site, at, bill, content, problem, seconds};
use crate::store::streams::TOLD;
use crate::store::{
    AttemptOutcome, Command, Commanded, Content, DeliveryOutcome, DocumentRef, ErrorKind, Event,
    Filter, Hold, Job, Label, LabelCount, LabelQuery, LaneProgress, LaneStatus, RecordOutcome,
    ResultPage, ResultQuery, Sight, StreamCommit, StreamCommitted, TakeLanes, Takeable, TakenLane,
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
fn spoiled(bytes: DocumentRef) -> RecordOutcome {
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

    async fn lanes(&self) -> Vec<LaneStatus> {
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

    async fn results(&self, query: ResultQuery) -> ResultPage {
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

fn names(taken: &[TakenLane]) -> Vec<&str> {
    taken.iter().map(|lane| lane.hold.lane.as_str()).collect()
}

fn ids(page: &ResultPage) -> Vec<InvocationId> {
    page.results.iter().map(|(job, _)| job.id).collect()
}

fn all(limit: u32) -> ResultQuery {
    ResultQuery {
        limit,
        ..ResultQuery::default()
    }
}

pub(in crate::store) async fn a_lane_is_one_readers_and_its_tokens_only_grow(site: &dyn Site) {
    let open = site.open();
    let first = open.take("one", Takeable::Free, &["b", "a", "b"], 0).await;
    assert_eq!(names(&first), ["b", "a"], "in the order asked for, once");
    assert_eq!((&first[0].progress, first[0].ended), (&None, false));
    let other = open.take("two", Takeable::Free, &["a", "c", "b"], 59).await;
    assert_eq!(names(&other), ["c"], "the others are leased");
    let mut tokens: Vec<u64> = first.iter().map(|lane| lane.hold.token).collect();

    let second = open.take("two", Takeable::Free, &["a"], 60).await;
    assert_eq!(names(&second), ["a"], "its lease was over");
    tokens.push(second[0].hold.token);
    let third = open.take("one", Takeable::Any, &["a"], 61).await;
    tokens.push(third[0].hold.token);
    let stale = vec![second[0].hold.clone()];
    open.store.release_lanes("reviews", stale).await.unwrap();
    let fourth = open.take("two", Takeable::Free, &["a"], 61).await;
    assert!(fourth.is_empty(), "who lost it cannot release it");

    let hold = third[0].hold.clone();
    let forget = vec!["a".to_owned()];
    let forgotten = open.store.forget_lanes("reviews", forget.clone()).await;
    forgotten.unwrap();
    assert!(open.lanes().await.iter().any(|lane| lane.lane == "a"));
    open.store
        .release_lanes("reviews", vec![hold.clone()])
        .await
        .unwrap();
    let released = &open.lanes().await[0];
    assert_eq!((&released.owner, released.until), (&None, None));
    let fifth = open.take("two", Takeable::Free, &["a"], 61).await;
    tokens.push(fifth[0].hold.token);
    open.store
        .release_lanes("reviews", vec![fifth[0].hold.clone()])
        .await
        .unwrap();
    open.store.forget_lanes("reviews", forget).await.unwrap();
    assert!(open.lanes().await.iter().all(|lane| lane.lane != "a"));
    drop(open);

    let open = site.open();
    let anew = open.take("two", Takeable::Free, &["a"], 61).await;
    tokens.push(anew[0].hold.token);
    let mut sorted = tokens.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(tokens.len(), sorted.len(), "none was given twice");
    assert_eq!(tokens[1..], sorted[1..], "each of `a` is later");
    assert_eq!(anew[0].progress, None);
    let elsewhere = TakeLanes {
        stream: "orders".to_owned(),
        lanes: vec!["a".to_owned()],
        owner: "one".to_owned(),
        which: Takeable::Free,
        lease: seconds(60),
        now: at(61),
    };
    let elsewhere = open.store.take_lanes(elsewhere).await.unwrap();
    assert_eq!(names(&elsewhere), ["a"], "another stream's lane");
}

pub(in crate::store) async fn a_lease_is_prolonged_by_who_holds_the_lane(site: &dyn Site) {
    let open = site.open();
    let held = open
        .take("one", Takeable::Free, &["a", "b", "c"], 0)
        .await
        .into_iter()
        .map(|taken| taken.hold)
        .collect::<Vec<_>>();
    let taken = open.take("two", Takeable::Any, &["b"], 10).await;
    open.store
        .release_lanes("reviews", vec![held[2].clone()])
        .await
        .unwrap();
    let lost = open
        .store
        .renew_lanes("reviews", held.clone(), seconds(60), at(50))
        .await
        .unwrap();
    assert_eq!(lost, held[1..]);
    let free = open
        .take("three", Takeable::Free, &["a", "b", "c"], 100)
        .await;
    assert_eq!(names(&free), ["b", "c"]);
    let lost = open
        .store
        .renew_lanes("reviews", vec![taken[0].hold.clone()], seconds(60), at(100))
        .await
        .unwrap();
    assert_eq!(lost, [taken[0].hold.clone()]);
    // Over, and nobody else's: it is held again.
    let late = vec![held[0].clone()];
    let lost = open
        .store
        .renew_lanes("reviews", late, seconds(60), at(500))
        .await
        .unwrap();
    assert!(lost.is_empty());
    assert!(
        open.take("two", Takeable::Free, &["a"], 559)
            .await
            .is_empty()
    );
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

pub(in crate::store) async fn results_are_listed_newest_first_and_within_sight(site: &dyn Site) {
    let open = site.open();
    let hold = open.hold("a").await;
    let mut made = Vec::new();
    for number in 0..7 {
        let mut outcome = match number % 3 {
            2 => spoiled(open.document(b"x").await),
            _ => scored(),
        };
        outcome.result = format!("{{\"number\":{number}}}");
        if number >= 5 {
            outcome.integration = "orders".to_owned();
        }
        if number == 3 {
            outcome.record = "reviews-1@3".to_owned();
        }
        made.push(outcome);
    }
    let id: Vec<_> = made.iter().map(|outcome| outcome.id).collect();
    // The order of the commit is not that of the ids.
    made.reverse();
    open.commit(&[&hold], "7", made, 1).await;
    // Jobs of callers have results too; those that have not ended have none.
    let (asked, attempt) = open.running().await;
    open.succeed(attempt, 2).await;
    open.created(bill()).await;

    let page = open.results(all(3)).await;
    assert_eq!(ids(&page), [asked, id[6], id[5]]);
    assert_eq!(page.results[1].1, r#"{"number":6}"#);
    assert_eq!(page.results[1].0, open.job(id[6]).await);
    let rest = ResultQuery {
        after: page.next,
        ..all(1000)
    };
    let page = open.results(rest).await;
    assert_eq!(
        (ids(&page), page.next),
        (vec![id[4], id[3], id[2], id[1], id[0]], None)
    );

    let bills = || ResultQuery {
        integration: Some("bills".to_owned()),
        ..all(100)
    };
    let sight = |own: Option<&[&str]>, whole: &[&str]| {
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Some(Sight {
            caller: "finance".to_owned(),
            own: own.map(texts),
            whole: texts(whole),
        })
    };
    let created = open.job(id[0]).await.created;
    let hour = seconds(3600);
    let cases = [
        (bills(), vec![asked, id[4], id[3], id[2], id[1], id[0]]),
        (
            ResultQuery {
                failed: Some(true),
                ..bills()
            },
            vec![id[2]],
        ),
        (
            ResultQuery {
                failed: Some(true),
                ..all(100)
            },
            vec![id[5], id[2]],
        ),
        (
            ResultQuery {
                failed: Some(false),
                after: Some(id[3]),
                ..bills()
            },
            vec![id[1], id[0]],
        ),
        (
            ResultQuery {
                record: Some("reviews-1@3".to_owned()),
                ..all(100)
            },
            vec![id[3]],
        ),
        (
            ResultQuery {
                sight: sight(None, &[]),
                ..all(100)
            },
            vec![asked],
        ),
        (
            ResultQuery {
                sight: sight(Some(&["orders"]), &["orders"]),
                ..all(100)
            },
            vec![id[6], id[5]],
        ),
        (
            ResultQuery {
                sight: sight(None, &["orders"]),
                ..bills()
            },
            vec![asked],
        ),
        (
            // The caller's job was accepted long before.
            ResultQuery {
                from: Some(created),
                until: Some(created + hour),
                ..bills()
            },
            vec![id[4], id[3], id[2], id[1], id[0]],
        ),
        (
            ResultQuery {
                from: Some(created + hour),
                ..all(100)
            },
            Vec::new(),
        ),
        (
            ResultQuery {
                until: Some(created),
                failed: Some(true),
                ..all(100)
            },
            Vec::new(),
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(
            ids(&open.results(query.clone()).await),
            expected,
            "{query:?}"
        );
    }
    open.command(id[4], Command::Delete, 3).await;
    open.command(id[2], Command::Retry, 3).await;
    assert_eq!(
        ids(&open.results(bills()).await),
        [asked, id[3], id[1], id[0]]
    );
}

pub(in crate::store) async fn labels_are_counted_by_minute_and_swept(site: &dyn Site) {
    let open = site.open();
    let hold = open.hold("a").await;
    let with = |labels: &[&str]| RecordOutcome {
        labels: labels.iter().map(|name| label(name)).collect(),
        ..scored()
    };
    let foreign = RecordOutcome {
        integration: "orders".to_owned(),
        ..with(&["good"])
    };
    // 1,790,000,000 is 20 seconds past a full minute.
    let commits = [
        (5, vec![with(&["good"]), with(&["bad", "good"]), foreign]),
        (39, vec![with(&["good"])]),
        (40, vec![with(&["bad"]), with(&[])]),
    ];
    for (now, outcomes) in commits {
        open.commit(&[&hold], "1", outcomes, now).await;
    }
    let count = |minute, name, count| LabelCount {
        minute: at(minute),
        label: label(name),
        count,
    };
    let asked = |from, until| {
        let query = LabelQuery {
            integration: "bills".to_owned(),
            from: at(from),
            until: at(until),
        };
        open.store.label_counts(query)
    };
    let expected = [
        count(-20, "bad", 1),
        count(-20, "good", 3),
        count(40, "bad", 1),
    ];
    assert_eq!(asked(-20, 41).await.unwrap(), expected);
    assert_eq!(asked(-19, 41).await.unwrap(), expected[2..]);
    assert_eq!(asked(-20, 40).await.unwrap(), expected[..2]);
    sweep(&open, 979).await;
    assert_eq!(asked(-20, 41).await.unwrap(), expected);
    sweep(&open, 980).await;
    assert_eq!(asked(-20, 41).await.unwrap(), expected[2..]);
}
