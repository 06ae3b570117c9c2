//! How many jobs the store takes a second: `cargo bench -p linkspan --bench store`.
//!
//! Good as ratios between shapes of load on one machine, not as promises. Each line: what, jobs, seconds, jobs/s, median and 99th
//! percentile of one call, jobs a commit, and the rate against the first line's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use linkspan::store::{
    AttemptEnd, Claim, Claimed, Enqueued, FileBlobs, JobQueue, JobStore, NewJob, Outcome, Places,
    SqliteOptions, SqliteStore, StoreError, Upkeep,
};
use linkspan_model::InvocationId;

type Outcomes = Result<Vec<Duration>, StoreError>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // Beside the build, on a real disk: the system's temporary folder may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    println!(
        "{:<44} {:>7} {:>7} {:>9} {:>8} {:>8} {:>7} {:>7}",
        "", "jobs", "s", "jobs/s", "p50 ms", "p99 ms", "/commit", "ratio"
    );
    let mut first = None;
    for (callers, jobs) in [(1, 500), (16, 5_000), (128, 40_000), (1024, 60_000)] {
        let store = open(folder.path(), &format!("enqueue-{callers}"))?;
        let line = Line::start(format!("enqueue, {callers} waiting callers"), &store);
        let calls = runtime.block_on(each(callers, jobs, {
            let store = Arc::clone(&store);
            move |_| {
                let store = Arc::clone(&store);
                async move { store.enqueue(job()).await.map(|_| ()) }
            }
        }))?;
        line.end(jobs, calls, &mut first);
        runtime.block_on(store.close());
    }
    for batch in [1, 128, 1024] {
        let jobs = if batch == 1 { 300 } else { 20_000 };
        let store = open(folder.path(), &format!("life-{batch}"))?;
        let line = Line::start(format!("enqueue, claim, finish, {batch} at once"), &store);
        let calls = runtime.block_on(lives(Arc::clone(&store), batch, jobs))?;
        line.end(jobs, calls, &mut first);
        runtime.block_on(store.close());
    }
    Ok(())
}

fn open(folder: &std::path::Path, name: &str) -> Result<Arc<SqliteStore>, StoreError> {
    let blobs = Arc::new(FileBlobs::open(folder.join(name).join("blobs"))?);
    let store = SqliteStore::open(
        folder.join(name).join("jobs.db"),
        SqliteOptions::default(),
        blobs,
    )?;
    Ok(Arc::new(store))
}

fn job() -> NewJob {
    let now = Timestamp::now();
    NewJob {
        id: InvocationId::new(),
        integration: "bills".to_owned(),
        caller: "finance".to_owned(),
        document: None,
        // About 1 KiB, as the measures that the design started from.
        request: format!("{{\"text\":\"{}\"}}", "word ".repeat(200)),
        request_id: "0198f2a4-1111-7222-8333-444455556666".to_owned(),
        traceparent: None,
        idempotency: None,
        start: None,
        max_attempts: 3,
        due: now,
        keep: SignedDuration::from_hours(24),
        now,
    }
}

/// Shares `jobs` calls among `callers` tasks, each of which waits for its answer before its next call.
async fn each<F, W>(callers: usize, jobs: usize, call: F) -> Outcomes
where
    F: Fn(usize) -> W + Clone + Send + 'static,
    W: Future<Output = Result<(), StoreError>> + Send,
{
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                for number in (caller..jobs).step_by(callers) {
                    let begun = Instant::now();
                    call(number).await?;
                    times.push(begun.elapsed());
                }
                Ok::<_, StoreError>(times)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        if let Ok(times) = task.await {
            all.extend(times?);
        }
    }
    Ok(all)
}

/// The whole life of jobs, so many side by side; each job's time from its enqueueing to its durable end.
async fn lives(store: Arc<SqliteStore>, batch: usize, jobs: usize) -> Outcomes {
    let mut times = Vec::new();
    for _ in 0..jobs.div_ceil(batch) {
        let begun = Instant::now();
        let calls = (0..batch).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.enqueue(job()).await })
        });
        for call in calls.collect::<Vec<_>>() {
            if let Ok(outcome) = call.await {
                debug_assert!(matches!(outcome?, Enqueued::Created { .. }));
            }
        }
        let claim = Claim {
            owner: "gateway".to_owned(),
            places: vec![Places {
                integration: "bills".to_owned(),
                limit: u32::try_from(batch).unwrap_or(u32::MAX),
            }],
            lease: SignedDuration::from_secs(60),
            now: Timestamp::now(),
        };
        let claimed = store.claim(claim).await?.claimed;
        let calls = claimed.into_iter().map(|Claimed { attempt, .. }| {
            let store = Arc::clone(&store);
            let end = AttemptEnd {
                attempt,
                outcome: Outcome::Succeeded {
                    result: format!("{{\"text\":\"{}\"}}", "word ".repeat(200)),
                },
                deliveries: Vec::new(),
                now: Timestamp::now(),
            };
            tokio::spawn(async move { store.finish(end).await })
        });
        for call in calls.collect::<Vec<_>>() {
            if let Ok(outcome) = call.await {
                outcome?;
                times.push(begun.elapsed());
            }
        }
    }
    Ok(times)
}

struct Line {
    what: String,
    store: Arc<SqliteStore>,
    begun: Instant,
    commits: u64,
}

impl Line {
    fn start(what: String, store: &Arc<SqliteStore>) -> Self {
        Self {
            what,
            commits: store.commits(),
            store: Arc::clone(store),
            begun: Instant::now(),
        }
    }

    fn end(self, jobs: usize, mut calls: Vec<Duration>, first: &mut Option<f64>) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let commits = (self.store.commits() - self.commits).max(1);
        let rate = jobs as f64 / seconds;
        let ratio = rate / *first.get_or_insert(rate);
        calls.sort_unstable();
        let at = |share: f64| {
            let index = (calls.len() as f64 * share) as usize;
            calls
                .get(index)
                .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        println!(
            "{:<44} {jobs:>7} {seconds:>7.2} {rate:>9.0} {:>8.2} {:>8.2} {:>7.1} {ratio:>7.1}",
            self.what,
            at(0.5),
            at(0.99),
            jobs as f64 / commits as f64,
        );
    }
}
