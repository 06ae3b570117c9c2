//! The host of worker processes: the one mechanism by which engines run apart from the gateway.
//!
//! A worker is a program that takes its work from the AWS Lambda Runtime API at `AWS_LAMBDA_RUNTIME_API`: linkspan's own binary today
//! ([`crate::worker`]), and unchanged, anyone's function. A [`WorkerPool`] starts workers when there is work, keeps them warm, gives
//! each one invocation at a time, replaces them after a number of invocations, and ends them when none comes.
//!
//! What an invocation can cost: its own worker. A crash, a hang or a bomb ends that process and answers that invocation with an
//! error; the next one gets another worker.
//!
//! Architecture invariant: nothing of a document reaches a log or an error's text from here. What a worker writes on standard error is
//! read, looked through for a few known words, and dropped.

mod death;
pub mod event;
mod folder;
mod outcome;
mod peer;
mod process;
mod runtime_api;
mod spec;
mod stats;
mod worker;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use linkspan_model::{Code, InvocationId};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use self::event::{Event, Performed};
use self::folder::PoolFolder;
use self::stats::{Counters, Gauge};
use self::worker::{Started, Worked, Worker, deadline_passed};
use crate::engine::EngineError;
use crate::sandbox::Enforcement;

pub use self::folder::Source;
pub use self::spec::{Handshake, INHERITED, Limits, WorkerSpec};
pub use self::stats::Stats;

/// The workers of one engine.
///
/// It is shared by reference (or in an `Arc`) between all invocations, and must be used inside a tokio runtime. When it is dropped, its
/// workers are killed; [`WorkerPool::shutdown`] lets them finish first.
pub struct WorkerPool {
    inner: Arc<Inner>,
}

/// What goes with an event to a worker.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The document; its place in the worker's folder is written to the event's `document.path`.
    pub document: Option<Source>,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The invocation's id; in a function it is the request id.
    pub id: String,
    /// The caller's W3C trace context.
    pub traceparent: Option<String>,
}

impl Default for Invocation {
    /// An id of its own, and nothing else.
    fn default() -> Self {
        Self {
            document: None,
            deadline: None,
            id: InvocationId::new().to_string(),
            traceparent: None,
        }
    }
}

struct Inner {
    spec: WorkerSpec,
    limits: Limits,
    folder: Arc<PoolFolder>,
    /// One permit for each worker that may exist; first come, first served.
    slots: Arc<Semaphore>,
    counters: Arc<Counters>,
    state: Mutex<State>,
    cold_start_hook: OnceLock<Box<dyn Fn(Duration) + Send + Sync>>,
    enforcement: OnceLock<Option<Enforcement>>,
}

#[derive(Default)]
struct State {
    /// Warm workers, the most recently used last.
    idle: Vec<(Instant, Worker)>,
    /// Whether a task watches for workers that idle too long.
    watched: bool,
    closed: bool,
}

impl WorkerPool {
    /// A pool without workers: they are started when work comes.
    ///
    /// # Errors
    ///
    /// When the folder for the workers' documents cannot be made.
    pub fn new(spec: WorkerSpec, limits: Limits) -> std::io::Result<Self> {
        let folder = PoolFolder::new(spec.folders.as_deref())?;
        let slots = Arc::new(Semaphore::new(
            limits.max_workers.clamp(1, Semaphore::MAX_PERMITS),
        ));
        let inner = Inner {
            spec,
            limits,
            folder,
            slots,
            counters: Arc::default(),
            state: Mutex::default(),
            cold_start_hook: OnceLock::new(),
            enforcement: OnceLock::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Has `hook` called with the time of every cold start, for a histogram. Only the first hook counts.
    #[must_use]
    pub fn on_cold_start(self, hook: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        let _ = self.inner.cold_start_hook.set(Box::new(hook));
        self
    }

    /// Has one of our own workers do a task. Otherwise as [`WorkerPool::invoke`].
    ///
    /// # Errors
    ///
    /// As [`WorkerPool::invoke`], and the engine's own.
    pub async fn perform(
        &self,
        event: &Event,
        invocation: &Invocation,
    ) -> Result<Performed, EngineError> {
        let internal = |detail: &str, source: serde_json::Error| {
            EngineError::new(Code::Internal, detail.to_owned()).because(source)
        };
        let event = serde_json::to_value(event)
            .map_err(|source| internal("The event could not be written.", source))?;
        let answer = self.invoke(&event, invocation).await?;
        serde_json::from_value(answer)
            .map_err(|source| internal("The worker's answer has not the form of one.", source))
    }

    /// Has a worker do one piece of work, and waits for its turn where all are busy. `event` is the JSON that the program's handler
    /// receives, an [`Event`] for our own workers.
    ///
    /// Dropping the future gives the work up: the worker, which cannot be interrupted, is killed and its place is free again.
    ///
    /// # Errors
    ///
    /// What the worker reported; `engine-crashed`, `memory-limit` or `engine-timeout` when it ended on this work;
    /// `deadline-exceeded` when the caller's deadline came first; `engine-unavailable` when no worker starts; `shutting-down` after
    /// [`WorkerPool::shutdown`].
    pub async fn invoke(
        &self,
        event: &Value,
        invocation: &Invocation,
    ) -> Result<Value, EngineError> {
        let inner = &self.inner;
        let mut lease = {
            let _waiting = Gauge::new(&inner.counters.waiting);
            in_time(invocation.deadline, inner.lease()).await?
        };
        let _busy = Gauge::new(&inner.counters.busy);
        loop {
            match lease
                .worker
                .work(event, invocation, &inner.limits, &inner.counters)
                .await
            {
                Worked::Done(result) => {
                    lease.give_back();
                    return result;
                }
                Worked::Broken(error) => return Err(error),
                Worked::Crashed(error) => {
                    lease.worker.end_crashed();
                    return Err(error);
                }
                // It died while it was idle, which is not this invocation's fault.
                Worked::NotTaken if lease.warm => {
                    let Lease { slot, worker, .. } = lease;
                    drop(worker);
                    lease = in_time(invocation.deadline, inner.worker(slot)).await?;
                }
                Worked::NotTaken => {
                    return Err(EngineError::new(
                        Code::EngineUnavailable,
                        "The engine's worker ended as soon as it had started.",
                    ));
                }
            }
        }
    }

    /// What the pool has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.counters.snapshot()
    }

    /// How well the workers are shut in; none before the first has started, or when they do not say.
    #[must_use]
    pub fn enforcement(&self) -> Option<&Enforcement> {
        self.inner.enforcement.get().and_then(Option::as_ref)
    }

    /// Takes no more work, lets the invocations that are under way finish, and waits until every worker has ended. Those that wait for a
    /// worker get `shutting-down`.
    pub async fn shutdown(&self) {
        self.inner
            .close()
            .into_iter()
            .for_each(|(_, worker)| worker.end());
        self.inner.counters.none_running().await;
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        drop(self.inner.close());
    }
}

async fn in_time(
    deadline: Option<Instant>,
    lease: impl Future<Output = Result<Lease, EngineError>>,
) -> Result<Lease, EngineError> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline.into(), lease)
            .await
            .unwrap_or_else(|_| Err(deadline_passed())),
        None => lease.await,
    }
}

/// A worker and the place that it takes. Dropped, the worker is killed and the place is free.
struct Lease {
    pool: Arc<Inner>,
    worker: Worker,
    /// Whether it has waited for this work.
    warm: bool,
    slot: OwnedSemaphorePermit,
}

impl Lease {
    /// Returns the worker for the next invocation.
    fn give_back(self) {
        let Self {
            pool, worker, slot, ..
        } = self;
        if worker.done() >= pool.limits.recycle_after {
            pool.counters.recycled.fetch_add(1, Relaxed);
            worker.end();
        } else if worker.is_alive() {
            pool.park(worker);
        }
        drop(slot);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) -> Vec<(Instant, Worker)> {
        self.slots.close();
        let mut state = self.state();
        state.closed = true;
        std::mem::take(&mut state.idle)
    }

    /// Waits for a place and takes a worker for it.
    async fn lease(self: &Arc<Self>) -> Result<Lease, EngineError> {
        let slot = self
            .slots
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| shutting_down())?;
        self.worker(slot).await
    }

    /// The warm worker that was used last, or a new one.
    async fn worker(self: &Arc<Self>, slot: OwnedSemaphorePermit) -> Result<Lease, EngineError> {
        loop {
            let warm = {
                let mut state = self.state();
                if state.closed {
                    return Err(shutting_down());
                }
                state.idle.pop()
            };
            match warm {
                Some((_, worker)) if worker.is_alive() => {
                    return Ok(Lease {
                        pool: self.clone(),
                        worker,
                        warm: true,
                        slot,
                    });
                }
                Some(_) => {}
                None => return self.start(slot).await,
            }
        }
    }

    /// Starts a worker. When the caller stops waiting, the worker still starts and waits for other work.
    async fn start(self: &Arc<Self>, slot: OwnedSemaphorePermit) -> Result<Lease, EngineError> {
        let pool = self.clone();
        let (started, start) = oneshot::channel();
        tokio::spawn(async move {
            let lease = match Worker::start(&pool.spec, &pool.limits, &pool.folder, &pool.counters)
                .await
            {
                Ok(Started {
                    worker,
                    enforcement,
                    took,
                }) => {
                    pool.started(enforcement, took);
                    Ok(Lease {
                        pool,
                        worker,
                        warm: false,
                        slot,
                    })
                }
                Err(error) => {
                    pool.counters.failed_starts.fetch_add(1, Relaxed);
                    tracing::warn!(worker = %pool.spec.name, program = %pool.spec.program.display(), %error, cause = ?error.source, "a worker did not start");
                    Err(error)
                }
            };
            if let Err(Ok(unwanted)) = started.send(lease) {
                unwanted.give_back();
            }
        });
        start.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    fn started(&self, enforcement: Option<Enforcement>, took: Duration) {
        if let Some(hook) = self.cold_start_hook.get() {
            hook(took);
        }
        if self.spec.handshake == Handshake::Open || self.enforcement.set(enforcement).is_err() {
            return;
        }
        // Once for each pool: every worker says the same.
        match self.enforcement.get().and_then(Option::as_ref) {
            None => {
                tracing::warn!(worker = %self.spec.name, "the worker does not say how it is shut in");
            }
            Some(enforcement) => {
                for lacking in enforcement.lacking() {
                    tracing::warn!(worker = %self.spec.name, protection = %lacking.name, level = ?lacking.level, "{}", lacking.detail);
                }
            }
        }
    }

    /// Keeps a worker for the next invocation.
    fn park(self: &Arc<Self>, worker: Worker) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            return worker.end();
        }
        state.idle.push((Instant::now(), worker));
        if !std::mem::replace(&mut state.watched, true) {
            tokio::spawn(watch_idle(Arc::downgrade(self), self.limits.idle_timeout));
        }
    }

    /// Takes out the workers that have waited too long; gives them and when to look again.
    fn idle_too_long(&self) -> (Vec<Worker>, Option<Instant>) {
        let mut state = self.state();
        let now = Instant::now();
        let fresh = state
            .idle
            .partition_point(|(since, _)| now.duration_since(*since) >= self.limits.idle_timeout);
        let ended = state
            .idle
            .drain(..fresh)
            .map(|(_, worker)| worker)
            .collect();
        let again = state
            .idle
            .first()
            .map(|(since, _)| *since + self.limits.idle_timeout);
        state.watched = again.is_some();
        (ended, again)
    }
}

async fn watch_idle(pool: Weak<Inner>, idle_timeout: Duration) {
    let mut wake = Some(Instant::now() + idle_timeout);
    while let Some(at) = wake {
        tokio::time::sleep_until(at.into()).await;
        let Some(pool) = pool.upgrade() else { return };
        let (ended, again) = pool.idle_too_long();
        for worker in ended {
            pool.counters.idled_out.fetch_add(1, Relaxed);
            worker.end();
        }
        wake = again;
    }
}

fn shutting_down() -> EngineError {
    EngineError::new(
        Code::ShuttingDown,
        "The gateway is stopping and takes no more work.",
    )
}
