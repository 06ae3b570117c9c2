//! The loads of the store's bench, over any store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use linkspan::store::{
    Attempt, AttemptEnd, Claim, Label, LaneProgress, NewJob, Outcome, Places, RecordOutcome, Store,
    StoreError, StreamCommit, TakeLanes, Takeable,
};
use linkspan_model::InvocationId;
use tokio::sync::{Notify, Semaphore};

const INTEGRATION: &str = "bills";

/// How many jobs are run at once, where jobs are run.
const PLACES: usize = 128;

/// One load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// So many callers, each of which enqueues a job and waits until it is durable before its next.
    Enqueue { callers: usize },
    /// One caller that enqueues so many jobs at once, and waits for all of them before the next.
    Batch { batch: usize },
    /// So many jobs that wait already are claimed, and finished at once.
    Work { jobs: usize },
    /// A reader of a stream that commits so many results at once, with its progress, and waits before the next.
    Stream { outcomes: usize },
    /// [`Load::Enqueue`], while the jobs are claimed and finished: until the last one is.
    Life { callers: usize },
}

/// What came of a load.
pub(crate) struct Run {
    pub(crate) jobs: usize,
    pub(crate) seconds: f64,
    /// How long each call of a caller took, in milliseconds.
    pub(crate) calls: Vec<f64>,
}

impl Load {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Enqueue { callers: 1 } => "enqueue, 1 waiting caller".to_owned(),
            Self::Enqueue { callers } => format!("enqueue, {callers} waiting callers"),
            Self::Batch { batch } => format!("enqueue, {batch} at once by 1 caller"),
            Self::Work { jobs } => format!("claim and finish {jobs} waiting jobs"),
            Self::Stream { outcomes } => format!("stream, {outcomes} results a commit by 1 reader"),
            Self::Life { callers } => format!("whole life, {callers} waiting callers"),
        }
    }

    /// How long callers call.
    pub(crate) fn time(self) -> Duration {
        match self {
            Self::Life { .. } => Duration::from_secs(3),
            _ => Duration::from_millis(1500),
        }
    }

    /// Puts it on a store that is empty.
    pub(crate) async fn run(self, store: Arc<dyn Store>) -> Result<Run, StoreError> {
        match self {
            Self::Enqueue { callers } => enqueue(&store, callers, self.time()).await,
            Self::Batch { batch } => batches(&store, batch, self.time()).await,
            Self::Work { jobs } => work_off(&store, jobs).await,
            Self::Stream { outcomes } => read_stream(&store, outcomes, self.time()).await,
            Self::Life { callers } => lives(&store, callers, self.time()).await,
        }
    }
}

impl Run {
    pub(crate) fn rate(&self) -> f64 {
        self.jobs as f64 / self.seconds
    }
}

async fn enqueue(
    store: &Arc<dyn Store>,
    callers: usize,
    time: Duration,
) -> Result<Run, StoreError> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut calls = Vec::new();
                while start.elapsed() < time {
                    let begun = Instant::now();
                    store.enqueue(job()).await?;
                    calls.push(milliseconds(begun));
                }
                Ok::<_, StoreError>(calls)
            })
        })
        .collect();
    let mut calls = Vec::new();
    for task in tasks {
        calls.extend(task.await.unwrap_or_else(|_| Ok(Vec::new()))?);
    }
    Ok(Run {
        jobs: calls.len(),
        seconds: start.elapsed().as_secs_f64(),
        calls,
    })
}

async fn batches(store: &Arc<dyn Store>, batch: usize, time: Duration) -> Result<Run, StoreError> {
    let start = Instant::now();
    let mut calls = Vec::new();
    while start.elapsed() < time {
        let begun = Instant::now();
        fill(store, batch).await?;
        calls.push(milliseconds(begun));
    }
    Ok(Run {
        jobs: calls.len() * batch,
        seconds: start.elapsed().as_secs_f64(),
        calls,
    })
}

async fn read_stream(
    store: &Arc<dyn Store>,
    outcomes: usize,
    time: Duration,
) -> Result<Run, StoreError> {
    let take = TakeLanes {
        stream: "reviews".to_owned(),
        lanes: vec!["0".to_owned()],
        owner: "gateway".to_owned(),
        which: Takeable::Any,
        lease: SignedDuration::from_secs(60),
        now: Timestamp::now(),
    };
    let taken = store.take_lanes(take).await?;
    let start = Instant::now();
    let mut calls = Vec::new();
    while start.elapsed() < time {
        let commit = StreamCommit {
            stream: "reviews".to_owned(),
            lanes: taken
                .iter()
                .map(|lane| LaneProgress {
                    hold: lane.hold.clone(),
                    progress: Some(calls.len().to_string()),
                    ended: false,
                })
                .collect(),
            outcomes: (0..outcomes).map(|_| outcome()).collect(),
            now: Timestamp::now(),
        };
        let begun = Instant::now();
        store.commit_stream(commit).await?;
        calls.push(milliseconds(begun));
    }
    Ok(Run {
        jobs: calls.len() * outcomes,
        seconds: start.elapsed().as_secs_f64(),
        calls,
    })
}

/// A record's result of 1 KiB, with a label.
fn outcome() -> RecordOutcome {
    RecordOutcome {
        id: InvocationId::new(),
        integration: INTEGRATION.to_owned(),
        problem: None,
        result: text(),
        document: None,
        request: None,
        record: "reviews-0@17".to_owned(),
        traceparent: None,
        attempts: 1,
        max_attempts: 3,
        started: Timestamp::now(),
        keep: SignedDuration::from_hours(24),
        deliveries: Vec::new(),
        labels: vec![Label {
            service: "mood".to_owned(),
            label: "positive".to_owned(),
        }],
    }
}

async fn fill(store: &Arc<dyn Store>, jobs: usize) -> Result<(), StoreError> {
    let calls = (0..jobs).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move { store.enqueue(job()).await })
    });
    for call in calls.collect::<Vec<_>>() {
        if let Ok(outcome) = call.await {
            outcome?;
        }
    }
    Ok(())
}

async fn work_off(store: &Arc<dyn Store>, jobs: usize) -> Result<Run, StoreError> {
    fill(store, jobs).await?;
    let worker = Worker::default();
    worker.expect(jobs);
    let start = Instant::now();
    worker.run(store).await?;
    Ok(Run {
        jobs,
        seconds: start.elapsed().as_secs_f64(),
        calls: Vec::new(),
    })
}

async fn lives(store: &Arc<dyn Store>, callers: usize, time: Duration) -> Result<Run, StoreError> {
    let worker = Worker::default();
    let start = Instant::now();
    let calling = async {
        let called = enqueue(store, callers, time).await?;
        worker.expect(called.jobs);
        Ok(called.jobs)
    };
    let (jobs, ()) = tokio::try_join!(calling, worker.run(store))?;
    Ok(Run {
        jobs,
        seconds: start.elapsed().as_secs_f64(),
        calls: Vec::new(),
    })
}

/// Claims jobs where places are free and finishes them at once, each in a task of its own, as the gateway's runner does.
struct Worker {
    ended: Arc<AtomicU64>,
    expected: AtomicU64,
    /// Told of each place that gets free.
    freed: Arc<Notify>,
    places: Arc<Semaphore>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            ended: Arc::default(),
            expected: AtomicU64::new(u64::MAX),
            freed: Arc::default(),
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }
}

impl Worker {
    /// How many jobs there are in all.
    fn expect(&self, jobs: usize) {
        self.expected.store(jobs as u64, Ordering::Release);
        self.freed.notify_one();
    }

    /// Works until all jobs that there are have durably ended.
    async fn run(&self, store: &Arc<dyn Store>) -> Result<(), StoreError> {
        while self.ended.load(Ordering::Acquire) < self.expected.load(Ordering::Acquire) {
            let free = self.places.available_permits();
            let mut more = false;
            if free > 0 {
                let claimed = store.claim(claim(free)).await?.claimed;
                more = claimed.len() == free;
                for claimed in claimed {
                    self.finish(store, claimed.attempt);
                }
            }
            tokio::select! {
                () = self.freed.notified() => {}
                () = store.watchers().work(), if !more => {}
            }
        }
        Ok(())
    }

    fn finish(&self, store: &Arc<dyn Store>, attempt: Attempt) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return; // never: no more are claimed than are free
        };
        let (store, ended, freed) = (
            Arc::clone(store),
            Arc::clone(&self.ended),
            Arc::clone(&self.freed),
        );
        tokio::spawn(async move {
            let end = AttemptEnd {
                attempt,
                outcome: Outcome::Succeeded { result: text() },
                deliveries: Vec::new(),
                now: Timestamp::now(),
            };
            match store.finish(end).await {
                Ok(_) => ended.fetch_add(1, Ordering::AcqRel),
                Err(error) => {
                    eprintln!("an attempt's end: {}", linkspan::logging::chain(&error));
                    0
                }
            };
            drop(place);
            freed.notify_one();
        });
    }
}

fn claim(places: usize) -> Claim {
    Claim {
        owner: "gateway".to_owned(),
        places: vec![Places {
            integration: INTEGRATION.to_owned(),
            limit: u32::try_from(places).unwrap_or(u32::MAX),
        }],
        lease: SignedDuration::from_secs(60),
        now: Timestamp::now(),
    }
}

fn job() -> NewJob {
    let now = Timestamp::now();
    NewJob {
        id: InvocationId::new(),
        integration: INTEGRATION.to_owned(),
        caller: "finance".to_owned(),
        document: None,
        request: text(),
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

/// About 1 KiB.
fn text() -> String {
    format!("{{\"text\":\"{}\"}}", "word ".repeat(200))
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}
