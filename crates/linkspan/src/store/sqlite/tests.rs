//! The cases of every store, on SQLite, and what only SQLite can show.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use linkspan_model::{InvocationId, JobState};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::schema::{APPLICATION, STEPS};
use super::{SqliteOptions, SqliteStore};
use crate::store::conformance::deliveries::{by, succeeded};
use crate::store::conformance::streams::scored;
use crate::store::conformance::{Open, Site, at, bill, conformance, content, seconds};
use crate::store::{
    AttemptEnd, AuditLog, Blobs, Command, Commanded, Content, DeliveryClaim, DeliveryEnd,
    DeliveryOutcome, DeliveryQueue, Endpoint, Enqueued, ErrorKind, FileBlobs, Health, JobQueue,
    JobStore, RecordOutcome, ResultQuery, Retention, Sight, Start, StoreError, Upkeep,
};

struct Folder(TempDir);

conformance!(Folder::new());

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("data/linkspan.db")
    }

    fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(FileBlobs::open(self.0.path().join("data/blobs")).unwrap())
    }

    fn sqlite(&self, max_size: Option<u64>) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.file(), SqliteOptions { max_size }, self.blobs())
    }
}

impl Site for Folder {
    fn open(&self) -> Open {
        let blobs = self.blobs();
        let store =
            SqliteStore::open(self.file(), SqliteOptions::default(), Arc::clone(&blobs)).unwrap();
        Open {
            store: Arc::new(store),
            blobs,
        }
    }

    fn files_with(&self, bytes: &[u8]) -> Vec<PathBuf> {
        files(self.0.path())
            .into_iter()
            .filter(|file| {
                let content = fs::read(file).unwrap();
                content.windows(bytes.len()).any(|window| window == bytes)
            })
            .collect()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn kind<T>(outcome: Result<T, StoreError>) -> ErrorKind {
    match outcome {
        Ok(_) => panic!("it did not fail"),
        Err(error) => error.kind,
    }
}

#[tokio::test]
async fn callers_who_wait_share_commits_and_each_is_answered() {
    let folder = Folder::new();
    let store = Arc::new(folder.sqlite(None).unwrap());
    let before = store.commits();
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.enqueue(bill()).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let commits = store.commits() - before;
    assert!(
        (1..100).contains(&commits),
        "{commits} commits for 200 jobs"
    );
    assert_eq!(store.counts().await.unwrap().tallies[0].jobs, 200);
}

#[tokio::test]
async fn a_change_that_fails_does_not_spoil_its_batch() {
    let folder = Folder::new();
    let store = Arc::new(folder.sqlite(None).unwrap());
    let twice = bill();
    store.enqueue(twice.clone()).await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let store = Arc::clone(&store);
            let job = if number % 2 == 0 {
                bill()
            } else {
                twice.clone()
            };
            tokio::spawn(async move { store.enqueue(job).await })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let outcome = task.await.unwrap();
        if number % 2 == 0 {
            outcome.unwrap();
        } else {
            assert_eq!(kind(outcome), ErrorKind::Internal);
        }
    }
    assert_eq!(store.counts().await.unwrap().tallies[0].jobs, 11);
    assert_eq!(store.health(), Health::Accepting);
}

#[tokio::test]
async fn a_full_store_refuses_lets_jobs_be_deleted_and_accepts_again_when_there_is_space() {
    let folder = Folder::new();
    let store = folder.sqlite(Some(1024 * 1024)).unwrap();
    let big = || {
        let mut job = bill();
        job.request = format!("{{\"text\":\"{}\"}}", "word ".repeat(10_000));
        job
    };
    let mut accepted = Vec::new();
    let refused = loop {
        let job = big();
        let id = job.id;
        match store.enqueue(job).await {
            Ok(_) => accepted.push(id),
            Err(error) => break error,
        }
        assert!(accepted.len() < 100);
    };
    assert_eq!(refused.kind, ErrorKind::Full);
    assert!(refused.kind.retry_after().is_some());
    assert!(accepted.len() > 10);
    assert_eq!(store.health(), Health::Refusing(ErrorKind::Full));
    assert_eq!(
        kind(store.enqueue(bill()).await),
        ErrorKind::Full,
        "small ones too, until a probe finds space"
    );
    for id in &accepted {
        assert_eq!(
            store.get(*id).await.unwrap().unwrap().state,
            JobState::Queued,
            "nothing accepted was lost"
        );
    }
    for id in accepted.drain(..5) {
        let done = store
            .command(id, Command::Delete, Default::default(), at(1))
            .await
            .unwrap();
        assert!(matches!(done, Commanded::Deleted));
    }
    // Whoever asks after the health has a probe made, at most one a second.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while store.health() != Health::Accepting {
        assert!(
            std::time::Instant::now() < deadline,
            "it never accepts again"
        );
        tokio::task::yield_now().await;
    }
    store.enqueue(big()).await.unwrap();
}

#[tokio::test]
async fn a_second_gateway_is_refused_and_the_command_line_is_not() {
    let folder = Folder::new();
    let store = folder.sqlite(None).unwrap();
    let other = Arc::new(FileBlobs::open(folder.0.path().join("other")).unwrap());
    let refused = SqliteStore::open(folder.file(), SqliteOptions::default(), other).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Locked);
    assert!(
        refused.to_string().contains("another gateway has it open"),
        "{refused}"
    );
    let blobs = FileBlobs::open(folder.0.path().join("data/blobs"));
    assert_eq!(kind(blobs), ErrorKind::Locked);

    let beside = SqliteStore::open_beside(folder.file()).unwrap();
    let job = bill();
    let id = job.id;
    store.enqueue(job).await.unwrap();
    assert!(beside.get(id).await.unwrap().is_some());
    beside
        .command(id, Command::Cancel, Default::default(), at(1))
        .await
        .unwrap();
    assert_eq!(
        store.get(id).await.unwrap().unwrap().state,
        JobState::Cancelled
    );
    store.enqueue(bill()).await.unwrap();
    drop(beside);
    drop(store);
    folder.sqlite(None).unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_in_a_copy_of_the_files_taken_at_any_moment() {
    let folder = Folder::new();
    let store = folder.sqlite(None).unwrap();
    for round in 0..5 {
        for _ in 0..20 {
            store.enqueue(bill()).await.unwrap();
        }
        let copy = Folder::new();
        fs::create_dir_all(copy.file().parent().unwrap()).unwrap();
        for suffix in ["", "-wal"] {
            let name = format!("linkspan.db{suffix}");
            fs::copy(
                folder.file().with_file_name(&name),
                copy.file().with_file_name(&name),
            )
            .unwrap();
        }
        let counts = copy.sqlite(None).unwrap().counts().await.unwrap();
        assert_eq!(counts.tallies[0].jobs, 20 * (round + 1));
    }
}

#[tokio::test]
async fn files_are_private() {
    let folder = Folder::new();
    let open = folder.open();
    let mut job = bill();
    job.document = Some(open.document(&content("private ", 100_000)).await);
    open.created(job).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let found = files(folder.0.path());
    assert!(found.len() >= 5, "{found:?}");
    for file in found {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        let parent = file.parent().unwrap();
        assert_eq!(mode(parent), 0o700, "{}", parent.display());
    }
}

#[tokio::test]
async fn a_file_of_a_later_version_or_of_another_program_is_left_alone() {
    let folder = Folder::new();
    drop(folder.sqlite(None).unwrap());
    let connection = Connection::open(folder.file()).unwrap();
    connection
        .pragma_update(None, "user_version", 1000)
        .unwrap();
    drop(connection);
    assert_eq!(kind(folder.sqlite(None)), ErrorKind::Newer);

    let folder = Folder::new();
    fs::create_dir_all(folder.file().parent().unwrap()).unwrap();
    let connection = Connection::open(folder.file()).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    assert_eq!(kind(folder.sqlite(None)), ErrorKind::Unusable);

    fs::write(folder.file(), content("not a database ", 10_000)).unwrap();
    assert_eq!(kind(folder.sqlite(None)), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_file_of_the_first_version_keeps_its_jobs_and_takes_deliveries() {
    let folder = Folder::new();
    fs::create_dir_all(folder.file().parent().unwrap()).unwrap();
    let old = Connection::open(folder.file()).unwrap();
    old.execute_batch(STEPS[0]).unwrap();
    old.pragma_update(None, "application_id", APPLICATION)
        .unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let (queued, done) = (InvocationId::new(), InvocationId::new());
    for (id, state) in [(queued, 0), (done, 3)] {
        old.execute(
            "INSERT INTO jobs (id, integration, caller, state, version, token, attempts, max_attempts, created, updated, due, keep, \
             expires, held, request_id) VALUES (?1, 'bills', 'finance', ?2, 1, 0, 0, 3, ?3, ?3, ?3, 1000000, ?4, 0, 'r-1')",
            params![
                id.as_bytes(),
                state,
                at(0).as_microsecond(),
                (state == 3).then(|| at(100).as_microsecond())
            ],
        )
        .unwrap();
        old.execute(
            "INSERT INTO documents (seq, request) VALUES (last_insert_rowid(), '{}')",
            [],
        )
        .unwrap();
    }
    old.execute(
        "INSERT INTO results SELECT seq, '{\"old\":true}' FROM jobs WHERE state = 3",
        [],
    )
    .unwrap();
    drop(old);

    let open = folder.open();
    let old = open.job(done).await;
    assert_eq!(
        (old.state, old.history.len()),
        (JobState::Succeeded, 0),
        "an old job"
    );
    assert_eq!(
        open.store.result(done).await.unwrap().as_deref(),
        Some("{\"old\":true}")
    );
    let attempt = open.claim(1, 1).await.remove(0).attempt;
    let new = by("crm");
    open.finish_with(attempt, succeeded(), std::slice::from_ref(&new), 2)
        .await;
    assert_eq!(open.job(queued).await.history.len(), 1);
    assert_eq!(open.send("crm", 2).await[0].delivery.id, new.id);
    let counts = open.store.counts().await.unwrap();
    assert_eq!(counts.tallies.len(), 1, "both have succeeded: {counts:?}");
    drop(open);
    drop(folder.open());
}

#[tokio::test]
async fn the_ends_of_several_deliveries_are_one_commit() {
    let folder = Folder::new();
    let store = folder.sqlite(None).unwrap();
    let mut job = bill();
    job.start = Some(Start {
        owner: "gateway".to_owned(),
        lease: seconds(60),
        held: false,
    });
    let Enqueued::Created { attempt, .. } = store.enqueue(job).await.unwrap() else {
        panic!("not created");
    };
    let end = AttemptEnd {
        attempt: attempt.unwrap(),
        outcome: succeeded(),
        deliveries: (0..50).map(|_| by("crm")).collect(),
        now: at(0),
    };
    let before = store.commits();
    store.finish(end).await.unwrap();
    assert_eq!(store.commits() - before, 1, "the outbox");
    let claim = DeliveryClaim {
        owner: "gateway".to_owned(),
        places: vec![(Endpoint::new("bills", "crm"), 50)],
        lease: seconds(60),
        now: at(0),
    };
    let claimed = store.claim_deliveries(claim).await.unwrap().claimed;
    assert_eq!(store.commits() - before, 2, "the starts");
    let ends = claimed.iter().map(|claimed| DeliveryEnd {
        attempt: claimed.attempt,
        outcome: DeliveryOutcome::Delivered,
        tried: None,
    });
    let stored = store.finish_deliveries(ends.collect(), at(1)).await;
    assert_eq!(stored.unwrap(), [true; 50]);
    assert_eq!(store.commits() - before, 3, "the ends");
}

#[tokio::test]
async fn a_closed_store_has_made_what_waited_and_refuses_more() {
    let folder = Folder::new();
    let store = Arc::new(folder.sqlite(None).unwrap());
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.enqueue(bill()).await.is_ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await;
    let mut accepted = 0;
    for task in waiting {
        accepted += u64::from(task.await.unwrap());
    }
    assert_eq!(kind(store.enqueue(bill()).await), ErrorKind::Closed);
    assert_eq!(store.health(), Health::Refusing(ErrorKind::Closed));
    drop(store);
    let store = folder.sqlite(None).unwrap();
    let jobs: u64 = store
        .counts()
        .await
        .unwrap()
        .tallies
        .iter()
        .map(|tally| tally.jobs)
        .sum();
    assert_eq!(jobs, accepted);
}

#[tokio::test]
async fn a_change_goes_on_when_its_caller_goes_away() {
    let folder = Folder::new();
    let store = folder.sqlite(None).unwrap();
    let job = bill();
    let id = job.id;
    let mut enqueue = store.enqueue(job);
    // Polled once: handed in, then dropped.
    assert!(futures_util::poll!(&mut enqueue).is_pending());
    drop(enqueue);
    // The queue is in order: this one comes after it.
    store
        .append_audit(crate::store::AuditLine {
            at: at(0),
            actor: Default::default(),
            action: "request.refused".to_owned(),
            target: "bills".to_owned(),
            outcome: "forbidden".to_owned(),
        })
        .await
        .unwrap();
    assert!(store.get(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_blob_without_a_row_is_swept_when_it_is_old() {
    let folder = Folder::new();
    let open = folder.open();
    let document = open.document(&content("orphan ", 100_000)).await;
    let Content::Blob(blob) = &document.content else {
        panic!("not a blob");
    };
    let local = open.blobs.local(blob).await.unwrap();
    let path = local.path().to_owned();
    drop(open);
    // As after a crash between the blob and its row: no pin, no row.
    let open = folder.open();
    let retention = Retention {
        rows: seconds(1),
        audit: seconds(1),
    };
    assert_eq!(
        open.store.sweep(retention, at(0)).await.unwrap().blobs,
        0,
        "it is young"
    );
    let hour = std::time::SystemTime::now() - Duration::from_secs(3700);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(hour)
        .unwrap();
    assert_eq!(open.store.sweep(retention, at(0)).await.unwrap().blobs, 1);
    assert!(!path.exists());
    assert!(open.store.get(InvocationId::new()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_file_is_noticed_and_not_written_any_more() {
    let folder = Folder::new();
    let store = folder.sqlite(None).unwrap();
    let ids: Vec<_> = (0..1000).map(|_| InvocationId::new()).collect();
    for chunk in ids.chunks(100) {
        let jobs = chunk
            .iter()
            .map(|id| store.enqueue(crate::store::NewJob { id: *id, ..bill() }));
        futures_util::future::try_join_all(jobs).await.unwrap();
    }
    store.close().await;
    drop(store);
    let mut bytes = fs::read(folder.file()).unwrap();
    let pages = bytes.len() / 4096;
    assert!(pages > 60);
    // The tables' roots come first; what follows is their rows.
    bytes[40 * 4096..].fill(0xa5);
    fs::write(folder.file(), &bytes).unwrap();
    let store = folder.sqlite(None).unwrap();
    assert_eq!(kind(store.get(ids[500]).await), ErrorKind::Corrupt);
    assert_eq!(store.health(), Health::Refusing(ErrorKind::Corrupt));
    let refused = store.enqueue(bill()).await.unwrap_err();
    assert!(
        refused.to_string().contains("restore it from a backup"),
        "{refused}"
    );
    drop(store);
    assert!(
        fs::read(folder.file()).unwrap() == bytes,
        "the file is as it was found"
    );
}

#[tokio::test]
async fn blobs_whose_disk_fails_are_refused_until_the_restart() {
    let folder = Folder::new();
    let open = folder.open();
    let body = open.body(&content("lost ", 100_000)).await;
    let away = folder
        .0
        .path()
        .join("data/blobs")
        .join(&body.digest().to_string()[..2]);
    fs::remove_dir(&away).unwrap();
    assert_eq!(kind(body.keep(None, None).await), ErrorKind::Io);
    assert_eq!(open.store.health(), Health::Refusing(ErrorKind::Io));
    fs::create_dir(&away).unwrap();
    assert_eq!(
        kind(body.keep(None, None).await),
        ErrorKind::Io,
        "it is not tried again"
    );
    drop((body, open));
    let open = folder.open();
    assert_eq!(open.store.health(), Health::Accepting);
    open.document(&content("lost ", 100_000)).await;
}

#[tokio::test]
async fn results_are_found_in_the_order_of_an_index() {
    let folder = Folder::new();
    let open = folder.open();
    let hold = open.hold("a").await;
    for number in 0..4 {
        let outcomes = (0..500).map(|nth| RecordOutcome {
            integration: ["bills", "orders"][nth % 2].to_owned(),
            ..scored()
        });
        open.commit(&[&hold], "1", outcomes.collect(), number).await;
    }
    drop(open);
    let connection = Connection::open(folder.file()).unwrap();
    let all = ResultQuery {
        from: Some(at(0)),
        until: Some(at(9)),
        after: Some(InvocationId::new()),
        ..ResultQuery::default()
    };
    let bills = ResultQuery {
        integration: Some("bills".to_owned()),
        ..all.clone()
    };
    let own = Sight {
        caller: "finance".to_owned(),
        own: None,
        whole: Vec::new(),
    };
    let cases = [
        (all.clone(), "sqlite_autoindex_jobs_1 (id>? AND id<?)"),
        (
            ResultQuery {
                failed: Some(true),
                ..all.clone()
            },
            "jobs_by_state (state=?",
        ),
        (
            ResultQuery {
                failed: Some(true),
                ..bills.clone()
            },
            "jobs_failed (integration=?",
        ),
        (
            ResultQuery {
                failed: Some(false),
                ..bills.clone()
            },
            "jobs_by_integration (integration=?",
        ),
        (
            ResultQuery {
                sight: Some(own.clone()),
                ..bills.clone()
            },
            "jobs_by_caller (caller=?",
        ),
        (
            ResultQuery {
                sight: Some(Sight {
                    whole: vec!["bills".to_owned()],
                    ..own
                }),
                ..all.clone()
            },
            "sqlite_autoindex_jobs_1 (id>? AND id<?)",
        ),
        (
            ResultQuery {
                record: Some("reviews-0@17".to_owned()),
                ..bills
            },
            "jobs_by_record (request_id=?",
        ),
    ];
    for analyzed in [false, true] {
        if analyzed {
            connection.execute_batch("ANALYZE").unwrap();
        }
        for (query, index) in &cases {
            let (statement, values) = super::results::walk(query);
            let plan: Vec<String> = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
                .unwrap()
                .query_map(rusqlite::params_from_iter(values), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let plan = plan.join("; ");
            assert!(plan.contains(index), "{index}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        }
    }
}
