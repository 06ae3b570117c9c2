//! A history moved from SQLite to a real PostgreSQL, while its gateway works, and taken up there.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use linkspan_model::{InvocationId, JobState};
use linkspan_testkit::PostgresServer;

use super::{Copied, Export as _, IN_USE, Import as _, Progress, copy};
use crate::store::conformance::deliveries::by;
use crate::store::conformance::streams::{label, scored};
use crate::store::conformance::{Open, at, bill, clerk, content, key};
use crate::store::{
    AttemptEnd, AuditLine, AuditQuery, Blobs, Command, DeliveryQuery, Digest, Endpoint, ErrorKind,
    FileBlobs, Idempotency, KeyRecord, NewJob, Outcome, PostgresOptions, PostgresStore,
    SqliteOptions, SqliteStore, StoreError, Takeable,
};

struct Move {
    folder: tempfile::TempDir,
    url: String,
}

impl Move {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            url: PostgresServer::shared().database(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The old gateway's store.
    fn old(&self) -> Open {
        let blobs: Arc<dyn Blobs> = Arc::new(FileBlobs::open(self.path("old")).unwrap());
        let file = self.path("old.db");
        let store = SqliteStore::open(file, SqliteOptions::default(), blobs.clone()).unwrap();
        Open {
            store: Arc::new(store),
            blobs,
        }
    }

    /// The new gateway's store.
    async fn new_home(&self) -> Open {
        let blobs: Arc<dyn Blobs> = Arc::new(FileBlobs::open(self.path("new")).unwrap());
        let options = PostgresOptions::default();
        let store = PostgresStore::open(&self.url, options, blobs.clone()).await;
        Open {
            store: Arc::new(store.unwrap()),
            blobs,
        }
    }

    /// What `linkspan store copy` does.
    async fn copy(&self) -> Copied {
        self.try_copy("old.db", true).await.unwrap()
    }

    async fn try_copy(&self, file: &str, documents: bool) -> Result<Copied, StoreError> {
        let from = SqliteStore::open_beside(self.path(file)).unwrap();
        let to = PostgresStore::open_beside(&self.url).await.unwrap();
        let old = FileBlobs::open_beside(self.path("old"));
        let new: Arc<dyn Blobs> = Arc::new(FileBlobs::open(self.path("new")).unwrap());
        let places: (&dyn Blobs, _) = (&old, &new);
        copy(&from, &to, documents.then_some(places), |_| {}).await
    }
}

/// The same whatever store says it.
async fn shown(open: &Open, id: InvocationId) -> String {
    let store = &open.store;
    let query = DeliveryQuery {
        job: Some(id),
        limit: 100,
        ..DeliveryQuery::default()
    };
    let document = store.document(id).await.unwrap();
    let bytes = match &document {
        None => None,
        Some(document) => match &document.content {
            crate::store::Content::Inline(bytes) => Some(Digest::of(bytes)),
            crate::store::Content::Blob(blob) => {
                let local = open.blobs.local(blob).await.unwrap();
                Some(Digest::of(&std::fs::read(local.path()).unwrap()))
            }
        },
    };
    format!(
        "{:?} {:?} {bytes:?} {:?} {:?} {:?}",
        store.get(id).await.unwrap(),
        store.result(id).await.unwrap(),
        document.as_ref().and_then(|one| one.media_type.clone()),
        document.as_ref().and_then(|one| one.file_name.clone()),
        store.list_deliveries(query).await.unwrap().deliveries,
    )
}

async fn everything(open: &Open) -> Vec<InvocationId> {
    let mut ids = Vec::new();
    for nth in 0..12_u8 {
        let mut new = bill();
        new.idempotency = (nth % 3 == 0).then(|| Idempotency {
            expires: Timestamp::now() + jiff::SignedDuration::from_hours(1),
            ..key(&format!("key {nth}"), nth).unwrap()
        });
        if nth % 2 == 0 {
            let size = if nth % 4 == 0 { 3000 } else { 90_000 };
            new.document = Some(open.document(&content(&format!("bill {nth} "), size)).await);
        }
        // What PostgreSQL's texts do not hold, and what JSON has to escape.
        new.request = format!("{{\"text\":\"nul \\u0000 {nth} \\\\ é\"}}");
        ids.push(open.created(new).await.0.id);
    }
    let claimed = open.claim(8, 1).await;
    for (nth, one) in claimed.iter().enumerate() {
        match nth {
            0..3 => {
                let end = AttemptEnd {
                    attempt: one.attempt,
                    outcome: Outcome::Succeeded {
                        result: format!("{{\"status\":\"succeeded\",\"nth\":{nth}}}"),
                    },
                    deliveries: vec![by("crm"), by("mail")],
                    now: at(2),
                };
                open.store.finish(end).await.unwrap();
            }
            3..5 => {
                open.fail(one.attempt, false, 2).await;
            }
            5 => {
                open.command(one.job.id, Command::Cancel, 2).await;
            }
            _ => {}
        }
    }
    let record = KeyRecord {
        id: "k1".to_owned(),
        name: "crm".to_owned(),
        hash: vec![0, 1, 254, 255],
        sealed: Some(vec![7, 0, 255]),
        scopes: "[\"invoke\"]".to_owned(),
        rate: Some(7),
        created: at(0),
        expires: Some(at(9000)),
        revoked: None,
    };
    open.store.insert_key(record, clerk()).await.unwrap();
    open.store.settle("secret", vec![1, 2, 3]).await.unwrap();
    let (read, ended) = (open.hold("reviews-0").await, open.hold("reviews-1").await);
    let mut scored = scored();
    scored.labels = ["good", "nul \0"].map(label).to_vec();
    ids.push(scored.id);
    open.commit(&[&read], "at 17", vec![scored], 3).await;
    open.commit(&[&ended], "at 9", Vec::new(), 3).await;
    open.store
        .release_lanes("reviews", vec![ended])
        .await
        .unwrap();
    let endpoint = Endpoint::new("bills", "mail");
    let reason = Some("they move house".to_owned());
    open.store
        .set_pause(endpoint, reason, clerk(), at(3))
        .await
        .unwrap();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_reads_the_same_in_its_new_home_and_goes_on_there() {
    let site = Move::new();
    let old = site.old();
    let ids = everything(&old).await;
    let copied = site.copy().await;
    assert_eq!((copied.differences.as_slice(), copied.lost), (&[][..], 0));
    assert_eq!(copied.blobs, 3);
    let mut before = Vec::new();
    for id in &ids {
        before.push(shown(&old, *id).await);
    }
    let (keys, counts) = (
        old.store.list_keys().await.unwrap(),
        old.store.counts().await.unwrap(),
    );
    let endpoints = old.store.endpoints().await.unwrap();
    let lanes = old.store.lanes("reviews").await.unwrap();
    assert_eq!((lanes.len(), old.labels().await.len()), (2, 2));
    let audit = old
        .store
        .list_audit(AuditQuery::newest(100))
        .await
        .unwrap()
        .lines;
    drop(old);
    let new = site.new_home().await;
    for (id, before) in ids.iter().zip(&before) {
        assert_eq!(&shown(&new, *id).await, before);
    }
    assert_eq!(new.store.list_keys().await.unwrap(), keys);
    assert_eq!(new.store.counts().await.unwrap(), counts);
    assert_eq!(new.store.endpoints().await.unwrap(), endpoints);
    assert_eq!(new.store.lanes("reviews").await.unwrap(), lanes);
    let labels = new.labels().await;
    assert_eq!(labels.iter().map(|one| one.count).sum::<u64>(), 2);
    // A stream goes on where it was, under tokens that are later than all before.
    let taken = new
        .take("new", Takeable::Any, &["reviews-0", "new"], 50)
        .await;
    assert_eq!(taken[0].progress.as_deref(), Some("at 17"));
    for taken in &taken {
        assert!(lanes.iter().all(|lane| lane.token < taken.hold.token));
    }
    assert_eq!(
        new.store
            .list_audit(AuditQuery::newest(100))
            .await
            .unwrap()
            .lines,
        audit
    );
    let settled = new.store.settle("secret", vec![9]).await.unwrap();
    assert_eq!(settled, [1, 2, 3]);
    // Jobs that waited run; what ran in the old gateway is recovered; a key still brings its first job.
    let claimed = new.claim(100, 10).await;
    assert_eq!(claimed.len(), 4);
    let with_document = claimed.iter().find(|one| one.document.is_some()).unwrap();
    assert!(matches!(
        new.succeed(with_document.attempt, 11).await,
        crate::store::Finished::Done(_)
    ));
    assert_eq!(new.recover(false, 1000).await, (5, 0));
    let again = NewJob {
        idempotency: key("key 3", 3),
        ..bill()
    };
    let existing = new.store.enqueue(again).await.unwrap();
    assert!(matches!(existing, crate::store::Enqueued::Existing(job) if job.id == ids[3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_takes_over_what_changed_and_removes_what_is_gone() {
    let site = Move::new();
    let old = site.old();
    let ids = everything(&old).await;
    site.copy().await;
    // The old gateway works on.
    let claimed = old.claim(100, 100).await;
    for one in &claimed {
        old.succeed(one.attempt, 101).await;
    }
    let erased = ids[0];
    old.command(erased, Command::Delete, 102).await;
    let added = old.created(bill()).await.0.id;
    let deliveries = old
        .store
        .claim_deliveries(crate::store::DeliveryClaim {
            owner: "old".to_owned(),
            places: vec![(Endpoint::new("bills", "crm"), 1)],
            lease: jiff::SignedDuration::from_secs(60),
            now: at(300),
        })
        .await
        .unwrap();
    let line = AuditLine {
        at: at(103),
        actor: clerk(),
        action: "request.refused".to_owned(),
        target: "bills".to_owned(),
        outcome: "forbidden".to_owned(),
    };
    old.store.append_audit(line).await.unwrap();
    // A stream goes on, and a lane is no more.
    let read = old.hold("reviews-0").await;
    let mut more = scored();
    more.labels = vec![label("good")];
    let scored_since = more.id;
    old.commit(&[&read], "at 18", vec![more], 104).await;
    let gone = vec!["reviews-1".to_owned()];
    old.store.forget_lanes("reviews", gone).await.unwrap();
    let copied = site.copy().await;
    assert_eq!(copied.differences, []);
    assert_eq!(copied.removed, 1);
    let third = site.copy().await;
    assert_eq!((third.differences.as_slice(), third.removed), (&[][..], 0));
    let moved = deliveries.claimed[0].delivery.job;
    let mut before = Vec::new();
    for id in [added, moved, ids[11], scored_since] {
        before.push((id, shown(&old, id).await));
    }
    drop(old);
    let new = site.new_home().await;
    for (id, before) in before {
        assert_eq!(shown(&new, id).await, before);
    }
    assert!(new.store.get(erased).await.unwrap().is_none());
    let lanes = new.store.lanes("reviews").await.unwrap();
    assert_eq!(
        (lanes.len(), lanes[0].progress.as_deref()),
        (1, Some("at 18"))
    );
    assert_eq!(new.labels().await.len(), 3);
    // What the new gateway did is neither undone nor removed by a copy too many.
    let later = Timestamp::now();
    let mine = NewJob {
        now: later,
        due: later,
        ..bill()
    };
    let mine = new.created(mine).await.0.id;
    let claimed = new.claim(100, 400).await;
    let one = claimed.iter().find(|one| one.job.id == added).unwrap();
    new.succeed(one.attempt, 401).await;
    new.store.settle(IN_USE, vec![1]).await.unwrap();
    let revoked = new.store.revoke_key("k1", clerk(), at(402)).await.unwrap();
    assert!(revoked);
    drop(new);
    let refused = site.try_copy("old.db", true).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Foreign);
    assert!(
        refused
            .source
            .unwrap()
            .to_string()
            .contains("a gateway has worked")
    );
    let new = site.new_home().await;
    assert!(new.store.get(mine).await.unwrap().is_some());
    assert_eq!(new.job(added).await.state, JobState::Succeeded);
    assert!(new.store.list_keys().await.unwrap()[0].revoked.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_source_did_not_bring_refuses_its_copy_and_stays_as_it_is() {
    let site = Move::new();
    let old = site.old();
    everything(&old).await;
    // Made here before the first copy.
    let new = site.new_home().await;
    let mine = new.created(bill()).await.0.id;
    drop(new);
    let refused = site.try_copy("old.db", true).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Foreign);
    let new = site.new_home().await;
    assert!(new.store.list_keys().await.unwrap().is_empty());
    assert_eq!(new.job(mine).await.state, JobState::Queued);
    drop((old, new));

    let site = Move::new();
    let old = site.old();
    everything(&old).await;
    site.copy().await;
    // Another installation's, at whatever address.
    let refused = site.try_copy("other.db", true).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Foreign);
    // A key that is revoked before the new gateway starts stays so.
    let new = site.new_home().await;
    assert!(new.store.revoke_key("k1", clerk(), at(5)).await.unwrap());
    drop(new);
    assert_eq!(site.copy().await.removed, 0);
    let new = site.new_home().await;
    assert_eq!(new.store.list_keys().await.unwrap()[0].revoked, Some(at(5)));
    let counts = old.store.counts().await.unwrap();
    assert_eq!(new.store.counts().await.unwrap(), counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_a_copy_left_behind_are_told_and_follow_with_the_next() {
    let site = Move::new();
    let old = site.old();
    everything(&old).await;
    let first = site.try_copy("old.db", false).await.unwrap();
    assert_eq!((first.blobs, first.left, first.differences), (0, 3, vec![]));
    let second = site.copy().await;
    assert_eq!(
        (second.blobs, second.left, second.differences),
        (3, 0, vec![])
    );
    assert_eq!(site.copy().await.jobs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_cut_off_goes_on_where_it_ended() {
    let site = Move::new();
    let old = site.old();
    for _ in 0..450 {
        old.created(bill()).await;
    }
    let from = SqliteStore::open_beside(site.path("old.db")).unwrap();
    let to = PostgresStore::open_beside(&site.url).await.unwrap();
    let source = from.identity().await.unwrap();
    to.begin(&source).await.unwrap();
    let page = from.jobs(0, 200).await.unwrap();
    let progress = Progress {
        position: page[199].position,
        ..Progress::default()
    };
    to.take_jobs(page.clone(), &source, progress).await.unwrap();
    // The same once more, as after a crash before the answer: nothing is there twice.
    to.take_jobs(page, &source, Progress::default())
        .await
        .unwrap();
    to.take_jobs(Vec::new(), &source, progress).await.unwrap();
    let mut first = Vec::new();
    let copied = copy(&from, &to, None, |step| first.push(step))
        .await
        .unwrap();
    assert_eq!(copied.differences, []);
    assert_eq!(
        first,
        [
            super::Step::Ahead(450),
            super::Step::Jobs(200),
            super::Step::Jobs(50)
        ]
    );
}
