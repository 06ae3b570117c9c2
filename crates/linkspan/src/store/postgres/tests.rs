//! The cases of every store, on a real PostgreSQL server, and what only PostgreSQL can show.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use linkspan_model::{DeliveryId, InvocationId, JobState};
use linkspan_testkit::PostgresServer;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::{Migrated, PostgresOptions, PostgresStore};
use crate::store::conformance::streams::{label, scored};
use crate::store::conformance::{
    Open, Site, at, bill, conformance, content, key, problem, seconds,
};
use crate::store::{
    AttemptEnd, Blobs, Claim, Claimed, Command, Content, DeliveryQueue, DeliveryStore, Enqueued,
    ErrorKind, FileBlobs, Health, JobQueue, JobStore, NewDelivery, NewJob, Outcome, Places,
    RecordOutcome, ResultQuery, Retention, StoreError, StreamCommitted, StreamStore, TakeLanes,
    Takeable, Upkeep,
};

/// A database of its own on the server that all tests share, and a folder of blobs.
struct Database {
    url: String,
    name: String,
    folder: TempDir,
}

conformance!(Database::new());

impl Database {
    fn new() -> Self {
        let url = PostgresServer::shared().database();
        let name = url.rsplit('/').next().unwrap().to_owned();
        Self {
            url,
            name,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::new(FileBlobs::open(self.folder.path().join("blobs")).unwrap())
    }

    /// A store beside others on the same database, with blobs of its own.
    async fn gateway(&self) -> PostgresStore {
        let blobs = self.folder.path().join(Uuid::new_v4().to_string());
        let blobs = Arc::new(FileBlobs::open(blobs).unwrap());
        PostgresStore::open(&self.url, PostgresOptions::default(), blobs)
            .await
            .unwrap()
    }

    fn sql(&self, statements: &str) -> String {
        PostgresServer::shared().sql(&self.name, statements)
    }

    fn tables(&self, like: &str) -> Vec<String> {
        let names = self.sql(&format!(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '{like}' ORDER BY 1"
        ));
        names.lines().map(str::to_owned).collect()
    }
}

impl Site for Database {
    fn open(&self) -> Open {
        let blobs = self.blobs();
        let (url, given) = (self.url.clone(), Arc::clone(&blobs));
        // Called within a test's runtime, and without one: the store's own tasks have a runtime that outlives both.
        let store = std::thread::scope(|scope| {
            let opening = scope.spawn(move || {
                home().block_on(PostgresStore::open(&url, PostgresOptions::default(), given))
            });
            opening.join().unwrap().unwrap()
        });
        Open {
            store: Arc::new(store),
            blobs,
        }
    }

    /// The tables whose rows hold them, and the blobs.
    fn files_with(&self, bytes: &[u8]) -> Vec<PathBuf> {
        let mark = std::str::from_utf8(bytes).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut found: Vec<PathBuf> = self
            .sql("SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname = 'linkspan'")
            .lines()
            .filter(|table| {
                let count = self.sql(&format!(
                    "SELECT count(*) FROM ONLY {table} t WHERE t::text LIKE '%{mark}%' OR t::text LIKE '%{hex}%'"
                ));
                count != "0"
            })
            .map(PathBuf::from)
            .collect();
        found.extend(blobs_with(self.folder.path(), bytes));
        found
    }
}

fn home() -> &'static Runtime {
    static HOME: OnceLock<Runtime> = OnceLock::new();
    HOME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    })
}

fn blobs_with(folder: &std::path::Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(blobs_with(&path, bytes));
        } else if std::fs::read(&path)
            .unwrap()
            .windows(bytes.len())
            .any(|window| window == bytes)
        {
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

fn claim(owner: &str, limit: u32) -> Claim {
    Claim {
        owner: owner.to_owned(),
        places: vec![Places {
            integration: "bills".to_owned(),
            limit,
        }],
        lease: seconds(60),
        now: at(0),
    }
}

fn success(claimed: &Claimed) -> AttemptEnd {
    AttemptEnd {
        attempt: claimed.attempt,
        outcome: Outcome::Succeeded {
            result: r#"{"status":"succeeded"}"#.to_owned(),
        },
        deliveries: Vec::new(),
        now: at(1),
    }
}

/// Waits for a condition, at most so long that a test that fails says so.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < end, "{what} never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An id of a moment.
fn id_at(time: Timestamp) -> [u8; 16] {
    let mut bytes = *InvocationId::new().as_bytes();
    bytes[..6].copy_from_slice(&time.as_millisecond().to_be_bytes()[2..]);
    bytes
}

#[tokio::test]
async fn callers_who_wait_share_transactions_and_each_is_answered() {
    let site = Database::new();
    let store = Arc::new(site.gateway().await);
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
    let site = Database::new();
    let store = Arc::new(site.gateway().await);
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
async fn one_of_many_with_the_same_key_at_once_is_accepted_and_the_others_get_it() {
    let site = Database::new();
    let stores = [
        Arc::new(site.gateway().await),
        Arc::new(site.gateway().await),
    ];
    let tasks: Vec<_> = (0..60)
        .map(|number| {
            let store = Arc::clone(&stores[number % 2]);
            let mut job = bill();
            job.idempotency = key(&format!("k{}", number % 3), 1);
            tokio::spawn(async move { store.enqueue(job).await.unwrap() })
        })
        .collect();
    let (mut created, mut existing) = (HashSet::new(), HashSet::new());
    for task in tasks {
        match task.await.unwrap() {
            Enqueued::Created { job, .. } => created.insert(job.id),
            Enqueued::Existing(job) => existing.insert(job.id),
            Enqueued::KeyMismatch => panic!("the requests are the same"),
        };
    }
    assert_eq!(created.len(), 3);
    assert_eq!(existing, created);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_the_jobs_and_none_runs_twice() {
    let site = Database::new();
    let stores = [
        Arc::new(site.gateway().await),
        Arc::new(site.gateway().await),
    ];
    let jobs = (0..400).map(|_| stores[0].enqueue(bill()));
    futures_util::future::try_join_all(jobs).await.unwrap();
    let gateways = stores.map(|store| {
        tokio::spawn(async move {
            let mut done = Vec::new();
            loop {
                let claims = store.claim(claim("gateway", 7)).await.unwrap();
                if claims.claimed.is_empty() && claims.next.is_none() {
                    return done;
                }
                let ends = claims
                    .claimed
                    .iter()
                    .map(|claimed| store.finish(success(claimed)));
                futures_util::future::try_join_all(ends).await.unwrap();
                done.extend(claims.claimed.iter().map(|claimed| claimed.job.id));
            }
        })
    });
    let mut all = Vec::new();
    for gateway in gateways {
        let done = gateway.await.unwrap();
        assert!(!done.is_empty(), "both took part");
        all.extend(done);
    }
    assert_eq!(all.len(), 400);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 400);
    assert_eq!(site.sql("SELECT count(*) FROM linkspan.results"), "400");
}

#[tokio::test]
async fn what_another_gateway_does_is_told_here() {
    let site = Database::new();
    let (here, there) = (site.gateway().await, site.gateway().await);
    let job = bill();
    let id = job.id;
    let mut watch = here.watchers().watch(id);
    there.enqueue(job).await.unwrap();
    here.watchers().work().await;
    let claimed = here.claim(claim("here", 1)).await.unwrap().claimed;
    assert_eq!(claimed.len(), 1);
    while watch.changed().await.state != Some(JobState::Running) {}
    there
        .command(id, Command::Cancel, Default::default(), at(1))
        .await
        .unwrap();
    let change = watch.changed().await;
    assert_eq!(
        (change.state, change.version),
        (Some(JobState::Cancelled), 3)
    );
    there
        .command(id, Command::Delete, Default::default(), at(2))
        .await
        .unwrap();
    assert_eq!(watch.changed().await.state, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_lose_nothing_and_the_store_goes_on() {
    let site = Database::new();
    let store = Arc::new(site.gateway().await);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for _ in 0..100 {
                    let job = bill();
                    let id = job.id;
                    match store.enqueue(job).await {
                        Ok(_) => acknowledged.push(id),
                        Err(error) => assert_eq!(error.kind, ErrorKind::Unreachable, "{error:?}"),
                    }
                }
                acknowledged
            })
        })
        .collect();
    let mut killed = 0;
    while !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        let count = site.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'linkspan'",
        );
        killed += count.parse::<u32>().unwrap();
    }
    assert!(killed > 0);
    let mut acknowledged = 0;
    for caller in callers {
        for id in caller.await.unwrap() {
            assert!(
                store.get(id).await.unwrap().is_some(),
                "{id} was acknowledged"
            );
            acknowledged += 1;
        }
    }
    assert!(acknowledged > 100, "{acknowledged}");
    store.enqueue(bill()).await.unwrap();
    assert_eq!(store.health(), Health::Accepting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_found_again() {
    let server = Arc::new(PostgresServer::start(&[]));
    let folder = tempfile::tempdir().unwrap();
    let blobs = Arc::new(FileBlobs::open(folder.path()).unwrap());
    let url = server.database();
    let store = PostgresStore::open(&url, PostgresOptions::default(), blobs)
        .await
        .unwrap();
    let job = bill();
    let id = job.id;
    store.enqueue(job).await.unwrap();
    let stopped = Arc::clone(&server);
    tokio::task::spawn_blocking(move || stopped.stop())
        .await
        .unwrap();
    let refused = store.enqueue(bill()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unreachable);
    assert!(refused.kind.retry_after().is_some());
    assert_eq!(store.health(), Health::Refusing(ErrorKind::Unreachable));
    assert_eq!(kind(store.get(id).await), ErrorKind::Unreachable);
    let started = Arc::clone(&server);
    tokio::task::spawn_blocking(move || started.run())
        .await
        .unwrap();
    // By itself, without a call: the probe finds it.
    until("health", async || store.health() == Health::Accepting).await;
    assert!(store.get(id).await.unwrap().is_some());
    store.enqueue(bill()).await.unwrap();
    assert_eq!(store.counts().await.unwrap().tallies[0].jobs, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_that_open_at_once_migrate_once() {
    let site = Database::new();
    let opening = (0..8).map(|_| site.gateway());
    let stores = futures_util::future::join_all(opening).await;
    assert_eq!(
        site.sql("SELECT count(*) FROM linkspan.linkspan_schema"),
        "1"
    );
    for store in &stores {
        store.enqueue(bill()).await.unwrap();
    }
    assert_eq!(stores[0].counts().await.unwrap().tallies[0].jobs, 8);
    let again = PostgresStore::migrate(&site.url).await.unwrap();
    assert_eq!(
        again,
        Migrated {
            from: again.to,
            to: again.to
        }
    );
}

#[tokio::test]
async fn a_later_versions_tables_are_left_alone() {
    let site = Database::new();
    let migrated = PostgresStore::migrate(&site.url).await.unwrap();
    assert_eq!(migrated.from, 0);
    site.sql("UPDATE linkspan.linkspan_schema SET version = 1000");
    assert_eq!(
        kind(PostgresStore::migrate(&site.url).await),
        ErrorKind::Newer
    );
    assert_eq!(
        kind(PostgresStore::open_beside(&site.url).await),
        ErrorKind::Newer
    );
    assert_eq!(
        site.sql("SELECT version FROM linkspan.linkspan_schema"),
        "1000"
    );
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_refused_with_the_reason() {
    let server = PostgresServer::shared();
    server.sql("postgres", "CREATE ROLE weak LOGIN");
    server.sql("postgres", "CREATE DATABASE theirs");
    let weak = server.url("theirs").replace("postgres@", "weak@");
    let nowhere = {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("postgres://u@{}/d", port.local_addr().unwrap())
    };
    let unsafe_server = PostgresServer::start(&["fsync=off"]);
    let cases = [
        (server.url("missing"), ErrorKind::Unusable, "does not exist"),
        (
            server.url("postgres").replace("postgres@", "nobody@"),
            ErrorKind::Unusable,
            "does not exist",
        ),
        (weak, ErrorKind::Unusable, "permission denied"),
        (nowhere, ErrorKind::Unreachable, "connect"),
        (unsafe_server.database(), ErrorKind::Unusable, "fsync"),
        (
            "postgres://u@h/d?sslmode=odd".to_owned(),
            ErrorKind::Unusable,
            "sslmode",
        ),
    ];
    for (url, expected, reason) in cases {
        let error = PostgresStore::open_beside(&url).await.unwrap_err();
        assert_eq!(error.kind, expected, "{url}: {error:?}");
        let text = crate::logging::chain(&error);
        assert!(text.contains(reason), "{url}: {text}");
    }
}

#[tokio::test]
async fn what_is_over_goes_with_its_day() {
    let site = Database::new();
    let store = site.gateway().await;
    let begin: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
    let keep = SignedDuration::from_hours(24 * 7);
    let hours = |hours: i64| begin + SignedDuration::from_hours(hours);
    let mut jobs = Vec::new();
    for hour in [0, 1, 30] {
        let job = NewJob {
            id: InvocationId::from_bytes(id_at(hours(hour))),
            request: format!("{{\"text\":\"marker-{hour}\"}}"),
            now: hours(hour),
            due: hours(hour),
            keep,
            ..bill()
        };
        jobs.push(job.id);
        store.enqueue(job).await.unwrap();
        let claims = store
            .claim(Claim {
                now: hours(hour),
                ..claim("gateway", 1)
            })
            .await
            .unwrap();
        let end = AttemptEnd {
            now: hours(hour),
            deliveries: vec![NewDelivery {
                id: DeliveryId::from_bytes(id_at(hours(hour))),
                channel: "archive".to_owned(),
                kind: "file".to_owned(),
                receiver: "bills.jsonl".to_owned(),
                due: hours(hour),
                dead: Some("for the test".to_owned()),
            }],
            ..success(&claims.claimed[0])
        };
        store.finish(end).await.unwrap();
    }
    assert_eq!(
        site.tables("documents_202603%"),
        ["documents_20260301", "documents_20260302"]
    );
    let retention = Retention {
        rows: SignedDuration::from_hours(24 * 30),
        audit: SignedDuration::from_hours(24 * 365),
    };
    // The first of the two of the first day is over.
    let week = 24 * 7;
    let swept = store.sweep(retention, hours(week)).await.unwrap();
    assert_eq!(swept.expired, 1);
    assert_eq!(
        store.result(jobs[0]).await.unwrap(),
        None,
        "it is hidden at once"
    );
    assert!(store.result(jobs[1]).await.unwrap().is_some());
    assert_eq!(
        site.sql("SELECT count(*) FROM linkspan.documents_20260301"),
        "2",
        "it waits for its day"
    );
    // And now the second: the day goes.
    let swept = store.sweep(retention, hours(week + 1)).await.unwrap();
    assert_eq!(swept.expired, 1);
    assert_eq!(site.tables("documents_202603%"), ["documents_20260302"]);
    assert_eq!(site.tables("results_202603%"), ["results_20260302"]);
    assert!(site.files_with(b"marker-0").is_empty());
    assert_eq!(
        store.get(jobs[0]).await.unwrap().unwrap().state,
        JobState::Expired
    );

    // Rows go with their day too, and the counts with them.
    store.sweep(retention, hours(week + 30)).await.unwrap();
    let swept = store
        .sweep(retention, hours(week + 24 * 30 + 1))
        .await
        .unwrap();
    assert_eq!(swept.rows, 2);
    assert_eq!(site.tables("jobs_202603%"), ["jobs_20260302"]);
    assert_eq!(site.tables("deliveries_202603%"), ["deliveries_20260302"]);
    assert!(store.get(jobs[0]).await.unwrap().is_none());
    let tallies = store.counts().await.unwrap().tallies;
    assert_eq!((tallies.len(), tallies[0].jobs), (1, 1));
    assert_eq!(store.endpoints().await.unwrap()[0].tallies[0].1, 1);

    // What comes late for a day that is gone makes it anew.
    let late = NewJob {
        id: InvocationId::from_bytes(id_at(hours(2))),
        ..bill()
    };
    store.enqueue(late).await.unwrap();
    assert_eq!(
        store
            .claim(claim("gateway", 9))
            .await
            .unwrap()
            .claimed
            .len(),
        1
    );
}

#[tokio::test]
async fn one_day_with_two_retentions_is_deleted_by_row() {
    let site = Database::new();
    let store = site.gateway().await;
    let begin: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
    for (hours, mark) in [(24 * 7, "short"), (24 * 70, "long")] {
        let job = NewJob {
            id: InvocationId::from_bytes(id_at(begin)),
            request: format!("{{\"text\":\"{mark}-marker\"}}"),
            keep: SignedDuration::from_hours(hours),
            now: begin,
            due: begin,
            ..bill()
        };
        store.enqueue(job).await.unwrap();
    }
    let now = begin;
    let claims = store
        .claim(Claim {
            now,
            ..claim("gateway", 9)
        })
        .await
        .unwrap();
    for claimed in &claims.claimed {
        store
            .finish(AttemptEnd {
                now,
                ..success(claimed)
            })
            .await
            .unwrap();
    }
    let retention = Retention {
        rows: SignedDuration::from_hours(24 * 30),
        audit: SignedDuration::from_hours(24 * 365),
    };
    store
        .sweep(retention, begin + SignedDuration::from_hours(24 * 7))
        .await
        .unwrap();
    assert!(site.files_with(b"short-marker").is_empty());
    assert_eq!(site.files_with(b"long-marker").len(), 1);
}

#[tokio::test]
async fn a_blob_that_another_gateway_is_about_to_name_is_not_lost_in_silence() {
    let site = Database::new();
    let blobs = site.blobs();
    let open = |blobs: Arc<dyn Blobs>| {
        let url = site.url.clone();
        async move {
            let store = PostgresStore::open(&url, PostgresOptions::default(), blobs)
                .await
                .unwrap();
            Arc::new(store)
        }
    };
    // Two gateways on one store of blobs, each with pins of its own; here one that knows no pins does the removing.
    let here = Open {
        store: open(Arc::clone(&blobs)).await,
        blobs: Arc::clone(&blobs),
    };
    let bytes = content("shared ", 100_000);
    let mut first = bill();
    first.document = Some(here.document(&bytes).await);
    let id = first.id;
    here.created(first).await;
    let unpinned = |document: &crate::store::DocumentRef| {
        let mut document = document.clone();
        if let Content::Blob(blob) = &mut document.content {
            blob.pin = None;
        }
        document
    };
    // It has come in once more elsewhere, and its only row goes before the new one is there.
    let coming = unpinned(&here.document(&bytes).await);
    here.command(id, Command::Delete, 1).await;
    let mut second = bill();
    second.document = Some(coming.clone());
    assert_eq!(
        kind(here.store.enqueue(second.clone()).await),
        ErrorKind::Busy
    );
    // Sent again, it is there again.
    here.document(&bytes).await;
    here.created(second).await;
    here.store
        .sweep(
            Retention {
                rows: seconds(1),
                audit: seconds(1),
            },
            at(2),
        )
        .await
        .unwrap();
    let Content::Blob(blob) = &coming.content else {
        panic!("not a blob")
    };
    assert!(blobs.open(blob).await.is_ok());
}

#[tokio::test]
async fn an_old_transaction_is_seen_for_as_long_as_it_is_open() {
    let server = PostgresServer::start(&[]);
    let url = server.database();
    let store = PostgresStore::open_beside(&url).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    client
        .batch_execute("BEGIN; CREATE TABLE open (x int)")
        .await
        .unwrap();
    let age = async || super::upkeep::old_transaction(&store.db).await.unwrap();
    until("its age", async || age().await > 100).await;
    drop(client);
    connection.await.unwrap().unwrap();
    until("its end", async || age().await == 0).await;
}

#[tokio::test]
async fn a_closed_store_has_made_what_waited_and_refuses_more() {
    let site = Database::new();
    let store = Arc::new(site.gateway().await);
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
    assert_eq!(
        site.sql("SELECT count(*) FROM linkspan.jobs"),
        accepted.to_string()
    );
}

#[tokio::test]
async fn a_connection_that_is_open_and_of_no_use_is_replaced() {
    let site = Database::new();
    let store = site.gateway().await;
    // A transaction that somebody left behind, and a server that takes no changes any more.
    for spoil in [
        "BEGIN; SELECT 1 / 0",
        "SET default_transaction_read_only = on",
    ] {
        let mut all = Vec::new();
        for _ in 0..PostgresOptions::default().connections - 2 {
            all.push(store.db.pool.get().await.unwrap());
        }
        for client in &all {
            let _ = client.batch_execute(spoil).await;
        }
        drop(all);
        // Often enough that each of them has its turn.
        for _ in 0..20 {
            let job = bill();
            let id = job.id;
            store.enqueue(job).await.unwrap();
            assert!(store.get(id).await.unwrap().is_some(), "after {spoil}");
        }
        assert_eq!(store.health(), Health::Accepting);
    }
}

/// Stands before a server, and can hold back all that goes to and fro: then the server hangs, with every connection open.
struct Middle {
    port: u16,
    frozen: tokio::sync::watch::Sender<bool>,
}

impl Middle {
    async fn before(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (frozen, seen) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .unwrap();
                let (near, far) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near.0, far.1, seen.clone()));
                tokio::spawn(pass(far.0, near.1, seen.clone()));
            }
        });
        Self { port: own, frozen }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: tokio::sync::watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if frozen.wait_for(|frozen| !frozen).await.is_err()
            || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_seen_by_itself_and_holds_nobody_for_long() {
    let site = Database::new();
    let url = PostgresServer::shared().url(&site.name);
    let port = url::Url::parse(&url).unwrap().port().unwrap();
    let middle = Middle::before(port).await;
    let url = url.replace(&port.to_string(), &middle.port.to_string());
    let options = PostgresOptions {
        patience: Duration::from_secs(2),
        ..PostgresOptions::default()
    };
    let store = PostgresStore::open(&url, options, site.blobs())
        .await
        .unwrap();
    let job = bill();
    let id = job.id;
    store.enqueue(job).await.unwrap();
    middle.frozen.send(true).unwrap();
    assert_eq!(kind(store.get(id).await), ErrorKind::Unreachable);
    assert_eq!(
        kind(store.enqueue(bill()).await),
        ErrorKind::Unreachable,
        "whether it was made is unknown"
    );
    middle.frozen.send(false).unwrap();
    until("health", async || store.health() == Health::Accepting).await;
    store.enqueue(bill()).await.unwrap();
    // And where nobody asks for anything.
    middle.frozen.send(true).unwrap();
    until("red", async || store.health() != Health::Accepting).await;
    assert_eq!(store.health(), Health::Refusing(ErrorKind::Unreachable));
    middle.frozen.send(false).unwrap();
    until("health", async || store.health() == Health::Accepting).await;
    assert!(store.get(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_gateway_with_a_wrong_clock_takes_nobodys_work() {
    let site = Database::new();
    // Without tasks of their own: nothing sets the clock meanwhile.
    let right = PostgresStore::open_beside(&site.url).await.unwrap();
    let ahead = PostgresStore::open_beside(&site.url).await.unwrap();
    assert_eq!(right.db.ahead(), SignedDuration::ZERO, "on one machine");
    let hour = SignedDuration::from_hours(1);
    ahead.db.set_ahead(-hour);
    // What each one's clock shows.
    let on = |store: &PostgresStore, second: i64| {
        if std::ptr::eq(store, &raw const ahead) {
            at(second) + hour
        } else {
            at(second)
        }
    };
    for (own, other) in [(&right, &ahead), (&ahead, &right)] {
        let job = NewJob {
            now: at(0),
            due: at(0),
            ..bill()
        };
        own.enqueue(job).await.unwrap();
        let claims = own
            .claim(Claim {
                now: on(own, 0),
                ..claim("own", 1)
            })
            .await
            .unwrap();
        let attempt = claims.claimed[0].attempt;
        let recovered = async |store: &PostgresStore, second| {
            let now = on(store, second);
            let recovered = store.recover(recover(now)).await.unwrap();
            recovered.waiting + recovered.failed
        };
        assert_eq!(recovered(other, 59).await, 0);
        let lost = own
            .renew(vec![attempt], seconds(60), on(own, 50))
            .await
            .unwrap();
        assert!(lost.is_empty());
        assert_eq!(recovered(other, 109).await, 0);
        assert_eq!(recovered(other, 111).await, 1, "its gateway is dead");
    }
}

fn recover(now: Timestamp) -> crate::store::Recover {
    crate::store::Recover {
        all: false,
        now,
        backoff: Arc::new(|_| seconds(1)),
        outbox: Arc::new(|_| Box::pin(async { Vec::new() })),
    }
}

#[tokio::test]
async fn nobody_waits_for_an_endpoint_that_is_being_paused() {
    let site = Database::new();
    let store = site.gateway().await;
    let end = async |number: u64| {
        store.enqueue(bill()).await.unwrap();
        let claims = store.claim(claim("gateway", 1)).await.unwrap();
        let end = AttemptEnd {
            deliveries: vec![NewDelivery {
                id: DeliveryId::new(),
                channel: "crm".to_owned(),
                kind: "webhook".to_owned(),
                receiver: number.to_string(),
                due: at(1),
                dead: None,
            }],
            ..success(&claims.claimed[0])
        };
        store.finish(end).await.unwrap();
    };
    end(0).await;
    let (client, connection) = tokio_postgres::connect(&site.url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    client
        .batch_execute("BEGIN; SELECT FROM linkspan.deliveries FOR UPDATE")
        .await
        .unwrap();
    let crm = crate::store::Endpoint::new("bills", "crm");
    let began = Instant::now();
    let pause = Some("upkeep".to_owned());
    let changed = store
        .set_pause(crm.clone(), pause, Default::default(), at(2))
        .await
        .unwrap();
    assert_eq!(changed, 1);
    end(1).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "nobody waited for the lock"
    );
    drop(client);
    connection.await.unwrap().unwrap();
    // It has not followed yet, and is not claimed all the same.
    let claimed = store
        .claim_deliveries(crate::store::DeliveryClaim {
            owner: "gateway".to_owned(),
            places: vec![(crm, 9)],
            lease: seconds(60),
            now: at(9),
        })
        .await
        .unwrap();
    assert!(claimed.claimed.is_empty());
    assert_eq!(claimed.next, None);
    super::deliveries::pauses::follow_up(&store.db, at(10))
        .await
        .unwrap();
    assert_eq!(
        site.sql("SELECT DISTINCT state FROM linkspan.deliveries"),
        "4"
    );
}

#[tokio::test]
async fn a_pooler_is_refused_where_a_session_does_not_keep_its_connection() {
    let site = Database::new();
    let server = url::Url::parse(&site.url).unwrap().port().unwrap();
    for (mode, fits) in [("session", true), ("transaction", false)] {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let settings = format!(
            "[databases]\n{} = host=127.0.0.1 port={server} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\npool_mode = {mode}\nunix_socket_dir =\n",
            site.name
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        // It does not run as root, and reads its file before it is another. It ends when its standard input does.
        let script = r#"
            PATH=$PATH:/usr/sbin; user=; [ "$(id -u)" = 0 ] && user='-u nobody'
            pgbouncer -q $user "$1" >/dev/null 2>&1 </dev/null & pooler=$!; read -r word; kill $pooler; wait $pooler
        "#;
        let mut pooler = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&file)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        until("the pooler", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}", site.name);
        match (PostgresStore::open_beside(&url).await, fits) {
            (Ok(store), true) => assert!(store.counts().await.is_ok()),
            (Err(error), false) => {
                assert_eq!(error.kind, ErrorKind::Unusable);
                let text = crate::logging::chain(&error);
                assert!(text.contains("pool_mode = session"), "{text}");
            }
            (outcome, _) => panic!("{mode}: {:?}", outcome.map(drop)),
        }
        drop(pooler.stdin.take());
        pooler.wait().unwrap();
    }
}

#[tokio::test]
async fn results_are_found_in_the_order_of_an_index() {
    let site = Database::new();
    let open = site.open();
    let hold = open.hold("a").await;
    for number in 0..4 {
        let outcomes = (0..500).map(|nth| RecordOutcome {
            integration: ["bills", "orders"][nth % 2].to_owned(),
            problem: (nth % 4 > 1).then(problem),
            ..scored()
        });
        open.commit(&[&hold], "1", outcomes.collect(), number).await;
    }
    site.sql("ANALYZE");
    for (failed, index) in [
        (None, "integration_id_idx"),
        (Some(true), "integration_id_idx1"),
    ] {
        let query = ResultQuery {
            integration: Some("bills".to_owned()),
            failed,
            limit: 50,
            ..ResultQuery::default()
        };
        let (statement, _) = super::results::walk(&query);
        let plan = site.sql(&format!(
            "SET search_path = linkspan; PREPARE found AS {statement}; EXPLAIN EXECUTE found ('bills', 'bills')"
        ));
        assert!(plan.contains(&format!("{index} ")), "{plan}");
        assert!(!plan.contains("Sort"), "{plan}");
    }
}

#[tokio::test]
async fn labels_are_the_same_before_and_after_they_are_summed_up() {
    let site = Database::new();
    let open = site.open();
    let hold = open.hold("a").await;
    for now in [1, 2, 90] {
        let outcome = RecordOutcome {
            labels: vec![label("good"), label("good"), label("bad")],
            ..scored()
        };
        open.commit(&[&hold], "1", vec![outcome], now).await;
        let before = open.labels().await;
        site.sql(&format!(
            "SET search_path = linkspan; {}",
            super::tallies::FOLD
        ));
        assert_eq!(open.labels().await, before);
    }
    let counts: Vec<u64> = open.labels().await.iter().map(|one| one.count).collect();
    assert_eq!(counts, [2, 4, 1, 2]);
    assert_eq!(site.sql("SELECT count(*) FROM linkspan.label_changes"), "0");
}

#[tokio::test]
async fn of_gateways_that_come_to_a_lane_at_once_one_gets_it_and_only_the_last_commits() {
    let site = Database::new();
    let gateways = [site.gateway().await, site.gateway().await];
    let take = |which, owner: usize| TakeLanes {
        stream: "reviews".to_owned(),
        lanes: (0..20).map(|lane| lane.to_string()).collect(),
        owner: owner.to_string(),
        which,
        lease: seconds(60),
        now: at(0),
    };
    let (one, other) = tokio::join!(
        gateways[0].take_lanes(take(Takeable::Free, 0)),
        gateways[1].take_lanes(take(Takeable::Free, 1))
    );
    assert_eq!(one.unwrap().len() + other.unwrap().len(), 20);
    for _ in 0..10 {
        let (one, other) = tokio::join!(
            gateways[0].take_lanes(take(Takeable::Any, 0)),
            gateways[1].take_lanes(take(Takeable::Any, 1))
        );
        let mut committed = 0;
        for (gateway, taken) in gateways.iter().zip([one.unwrap(), other.unwrap()]) {
            assert_eq!(taken.len(), 20);
            let commit = crate::store::StreamCommit {
                stream: "reviews".to_owned(),
                lanes: taken
                    .into_iter()
                    .map(|lane| crate::store::LaneProgress {
                        hold: lane.hold,
                        progress: Some("1".to_owned()),
                        ended: false,
                    })
                    .collect(),
                outcomes: vec![scored()],
                now: at(1),
            };
            let done = gateway.commit_stream(commit).await.unwrap();
            committed += u32::from(done == StreamCommitted::Done);
        }
        assert_eq!(committed, 1);
    }
    assert_eq!(site.sql("SELECT count(*) FROM linkspan.jobs"), "10");
}
