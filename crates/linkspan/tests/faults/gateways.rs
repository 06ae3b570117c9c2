//! Two gateways on one PostgreSQL: killed in turn under load, and restarted one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use linkspan_testkit::ledger::{Ledger, Sent};
use linkspan_testkit::{Answer, Client, Gateway, PostgresServer, S3Server, Setup, fixture};
use serde_json::Value;

use crate::PROGRAM;
use crate::receiver::Receiver;

/// How many jobs are sent while gateways are killed, where `LINKSPAN_JOBS` says nothing else.
const JOBS: usize = 5_000;

/// How many jobs are sent at once.
const CLIENTS: usize = 48;

/// A document that takes a worker some seconds.
const SCAN: &str = "pdf/scanned-upside-down.pdf";

/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program under test: `LINKSPAN_BIN`, or that of this build.
fn program() -> String {
    std::env::var("LINKSPAN_BIN").unwrap_or_else(|_| PROGRAM.to_owned())
}

fn toml(deliver: &str, bucket: &S3Server) -> String {
    format!(
        r#"
{}
[server]
rate_limit = 0
[store]
jobs = "${{env:DATABASE_URL}}"
blobs = "s3://documents/team"
lease = "8s"
[outbound]
private_networks = ["127.0.0.0/8"]
[service.text]
task = "extract-text"
[service.language]
task = "detect-language"
[integration.reviews]
pattern = "async"
steps = ["language"]
concurrency = 32
backlog = 1000000
attempts = 100
backoff = {{ first = "1ms", max = "20ms" }}
deliver = [{deliver}]
[integration.letters]
pattern = "async"
steps = ["text"]
backoff = {{ first = "1ms", max = "20ms" }}
"#,
        bucket.toml()
    )
}

/// Two gateways on one database and one bucket, each with a folder of its own.
struct Pair {
    setups: [Setup; 2],
    _bucket: S3Server,
    database: String,
    key: String,
    /// Each with its client; none while it is down.
    gateways: [Mutex<Option<(Gateway, Client)>>; 2],
}

impl Pair {
    fn new(deliver: &str) -> Self {
        let url = PostgresServer::shared().database();
        let database = url.rsplit('/').next().expect("a name").to_owned();
        let bucket = S3Server::start("documents");
        let setups = [0, 1].map(|_| {
            let setup = Setup::new(&program(), &toml(deliver, &bucket))
                .env("DATABASE_URL", &url)
                .env("S3_KEY_ID", S3Server::ACCESS_KEY_ID)
                .env("S3_SECRET", S3Server::SECRET_ACCESS_KEY);
            Receiver::secrets()
                .iter()
                .fold(setup, |setup, (name, secret)| setup.env(name, secret))
        });
        let key = setups[0].key("estate", &["invoke", "read", "admin"]);
        let [one, other] = setups
            .each_ref()
            .map(|setup| setup.folder().join("linkspan.key"));
        std::fs::copy(one, other).expect("the key's file is copied");
        Self {
            setups,
            _bucket: bucket,
            database,
            key,
            gateways: [Mutex::new(None), Mutex::new(None)],
        }
    }

    fn start(&self, nth: usize) {
        let gateway = tokio::task::block_in_place(|| self.setups[nth].serve());
        let client = gateway.client(&self.key);
        *self.locked(nth) = Some((gateway, client));
    }

    fn kill(&self, nth: usize) {
        let (gateway, _) = self.locked(nth).take().expect("it runs");
        gateway.kill();
    }

    /// SIGTERM; callers find out by themselves.
    fn stop(&self, nth: usize) {
        let (gateway, _) = self.locked(nth).take().expect("it runs");
        let code = tokio::task::block_in_place(|| gateway.stop());
        assert_eq!(code, Some(0));
    }

    /// The client of a gateway, or of the other one where that is down.
    fn client(&self, nth: usize) -> Option<Client> {
        let client = |nth: usize| self.locked(nth).as_ref().map(|(_, client)| client.clone());
        client(nth % 2).or_else(|| client((nth + 1) % 2))
    }

    fn has_worker(&self, nth: usize) -> bool {
        let gateway = self.locked(nth);
        gateway
            .as_ref()
            .is_some_and(|(gateway, _)| !gateway.workers().is_empty())
    }

    fn locked(&self, nth: usize) -> std::sync::MutexGuard<'_, Option<(Gateway, Client)>> {
        self.gateways[nth]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn sql(&self, statements: &str) -> String {
        PostgresServer::shared().sql(&self.database, statements)
    }
}

/// Jobs that are sent by many clients at once, each until it is accepted.
struct Load {
    pair: Arc<Pair>,
    ledger: Ledger,
    next: AtomicUsize,
    /// How many are sent at most.
    most: AtomicUsize,
    accepted: AtomicUsize,
}

impl Load {
    fn new(pair: Arc<Pair>) -> Arc<Self> {
        Arc::new(Self {
            pair,
            ledger: Ledger::default(),
            next: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
        })
    }

    /// Sends until so many are sent in all.
    fn send(self: &Arc<Self>, most: usize) -> Vec<tokio::task::JoinHandle<()>> {
        self.most.store(most, Ordering::SeqCst);
        (0..CLIENTS)
            .map(|_| tokio::spawn(self.clone().client()))
            .collect()
    }

    async fn client(self: Arc<Self>) {
        loop {
            let number = self.next.load(Ordering::SeqCst);
            if number >= self.most.load(Ordering::SeqCst) {
                return;
            }
            if self
                .next
                .compare_exchange(number, number + 1, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
            {
                self.send_one(number).await;
            }
        }
    }

    async fn send_one(&self, number: usize) {
        let text = format!("The crossing number {number} was wonderful.");
        let sent = Sent {
            key: format!("key-{number:07}"),
            integration: "reviews".to_owned(),
            media_type: "application/json",
            body: serde_json::json!({ "text": text }).to_string(),
        };
        // With each attempt to the other gateway.
        let tried = AtomicUsize::new(number);
        crate::until("a job to be accepted", || async {
            let client = self.pair.client(tried.fetch_add(1, Ordering::SeqCst))?;
            self.ledger.open(&sent);
            let answer = Answer::try_of(sent.to(&client)).await.ok()?;
            self.ledger.note(&sent.key, &answer);
            (answer.status == 202).then_some(())
        })
        .await;
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_of_one_of_two_gateways_every_few_seconds_loses_no_job_and_gives_none_two_results() {
    let jobs = std::env::var("LINKSPAN_JOBS").map_or(JOBS, |jobs| {
        jobs.parse().expect("LINKSPAN_JOBS is a number")
    });
    let seed = std::env::var("LINKSPAN_SEED")
        .ok()
        .map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("LINKSPAN_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let receiver = Receiver::new().await;
    receiver.start().await;
    let channel = receiver.channel(
        "hmac",
        "concurrency = 32, retry = [\"50ms\", \"50ms\", \"1s\", \"1s\", \"5s\"]",
    );
    let pair = Arc::new(Pair::new(&channel));
    let load = Load::new(pair.clone());
    pair.start(0);
    pair.start(1);

    let start = Instant::now();
    let clients = load.send(jobs);
    let mut kills = 0;
    let mut progress = Progress::new();
    while receiver.taken("hmac") < jobs {
        let nth = kills % 2;
        tokio::time::sleep(Duration::from_millis(random.u64(2000..4000))).await;
        pair.kill(nth);
        kills += 1;
        pair.start(nth);
        progress.note(receiver.taken("hmac") + load.accepted.load(Ordering::SeqCst));
    }
    let took = start.elapsed();
    for client in clients {
        client.await.expect("every job is accepted");
    }
    settle(&pair, jobs).await;
    let lost = assert_each_has_one_result(&pair, &receiver, &load, jobs);
    eprintln!(
        "{jobs} jobs in {:.0} s ({:.0}/s), {kills} kills, {lost} attempts were cut off and made again",
        took.as_secs_f64(),
        jobs as f64 / took.as_secs_f64(),
    );
    assert!(kills > 0 && lost > 0, "no kill hit a job");

    // A rolling restart, under load until it is over.
    let clients = load.send(usize::MAX);
    for nth in [0, 1] {
        let before = load.accepted.load(Ordering::SeqCst);
        crate::until("load", || async {
            (load.accepted.load(Ordering::SeqCst) > before + CLIENTS).then_some(())
        })
        .await;
        pair.stop(nth);
        pair.start(nth);
    }
    load.most.store(0, Ordering::SeqCst);
    for client in clients {
        client.await.expect("every job is accepted");
    }
    let all = load.accepted.load(Ordering::SeqCst);
    settle(&pair, all).await;
    let still = assert_each_has_one_result(&pair, &receiver, &load, all);
    assert_eq!(still, lost, "a restart cuts no attempt off");
    eprintln!("{} jobs during a rolling restart", all - jobs);
    pair.stop(0);
    pair.stop(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kill_of_a_gateway_moves_its_running_job_to_the_other_when_the_lease_is_over() {
    let pair = Pair::new("");
    pair.start(0);
    pair.start(1);
    let document = std::fs::read(fixture(SCAN)).expect("it is there");
    let client = pair.client(0).expect("it runs");
    let job = Answer::of(client.invocation("letters").body(document))
        .await
        .job();
    let path = format!("/v1/jobs/{job}");
    let at_work = crate::until("a gateway with a worker", || async {
        [0, 1].into_iter().find(|nth| pair.has_worker(*nth))
    })
    .await;
    let killed = Instant::now();
    pair.kill(at_work);
    let client = pair.client(1 - at_work).expect("it runs");
    crate::until("the second attempt", || async {
        let shown = client.get(&path).await.json();
        (shown["attempts"] == 2).then_some(())
    })
    .await;
    eprintln!(
        "begun again after {:.1} s, with a lease of 8 s",
        killed.elapsed().as_secs_f64()
    );
    let answer = crate::until("the result", || async {
        let answer = client.result(&job).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.json()["status"], "succeeded", "{}", answer.body);
    pair.stop(1 - at_work);
}

/// Waits until no job and no delivery is under way.
async fn settle(pair: &Pair, jobs: usize) {
    let mut progress = Progress::new();
    loop {
        let client = pair.client(0).expect("it runs");
        let page = client.get("/v1/endpoints").await.json();
        let shown = &page["endpoints"][0];
        let [delivered, dead] =
            ["delivered", "dead"].map(|state| shown[state].as_u64().unwrap_or(0) as usize);
        assert_eq!(dead, 0, "{shown}");
        if delivered == jobs {
            return;
        }
        progress.note(delivered);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every accepted job, and no other, has succeeded once: one result in the store, one delivery, and what arrived under its id is that
/// result, always the same. Gives how many attempts were cut off.
fn assert_each_has_one_result(pair: &Pair, receiver: &Receiver, load: &Load, jobs: usize) -> usize {
    assert_eq!(load.ledger.faults(), Vec::<String>::new());
    let accepted: BTreeSet<_> = load
        .ledger
        .entries()
        .into_iter()
        .flat_map(|entry| entry.jobs)
        .collect();
    assert_eq!(
        accepted.len(),
        jobs,
        "two keys have one job, or one has none"
    );
    let results: BTreeMap<String, Value> = pair
        .sql("SELECT id, result FROM linkspan.results")
        .lines()
        .map(|line| {
            let (id, result) = line.split_once('|').expect("two columns");
            let result = serde_json::from_str(result).expect("a result document");
            (id.to_owned(), result)
        })
        .collect();
    assert!(
        results.keys().eq(accepted.iter()),
        "{} results of {jobs} jobs",
        results.len()
    );
    for (table, id) in [("jobs", "id"), ("deliveries", "job")] {
        let counts = pair.sql(&format!(
            "SELECT count(*), count(DISTINCT {id}) FROM linkspan.{table}"
        ));
        assert_eq!(counts, format!("{jobs}|{jobs}"), "{table}");
    }
    let arrived = receiver.arrived();
    assert_eq!(arrived.len(), jobs, "what arrived");
    for ((_, job), arrived) in &arrived {
        assert_eq!(
            (arrived.ids.len(), arrived.bodies.len()),
            (1, 1),
            "{job}: {arrived:?}"
        );
        let result = &results[job];
        assert_eq!(result["status"], "succeeded", "{job}");
        assert_eq!(arrived.result(), *result, "{job} has two results");
    }
    assert_eq!(receiver.faults(), Vec::<String>::new());
    let attempts = pair.sql("SELECT coalesce(sum(attempts - 1), 0) FROM linkspan.jobs");
    attempts.parse().expect("a number")
}

/// Fails where a number does not change for too long.
struct Progress {
    seen: usize,
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self {
            seen: 0,
            since: Instant::now(),
        }
    }

    fn note(&mut self, seen: usize) {
        if seen != self.seen {
            *self = Self {
                seen,
                since: Instant::now(),
            };
        }
        assert!(
            self.since.elapsed() < PATIENCE,
            "nothing happens any more at {seen}"
        );
    }
}
