//! What a pool counts, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;

/// A pool's counters, as they change.
#[derive(Default)]
pub(super) struct Counters {
    running: watch::Sender<usize>,
    pub(super) busy: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    pub(super) invocations: AtomicU64,
    pub(super) cold_starts: AtomicU64,
    pub(super) cold_start_micros: AtomicU64,
    pub(super) last_cold_start_micros: AtomicU64,
    pub(super) recycled: AtomicU64,
    pub(super) crashed: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) idled_out: AtomicU64,
    pub(super) failed_starts: AtomicU64,
}

/// A pool's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Worker processes that exist.
    pub running: usize,
    /// Workers with an invocation.
    pub busy: usize,
    /// Invocations that wait for a worker.
    pub waiting: usize,
    /// Invocations handed to a worker, since the start.
    pub invocations: u64,
    /// Workers that were started and asked for work, since the start.
    pub cold_starts: u64,
    /// How long these starts took together.
    pub cold_start_total: Duration,
    /// How long the latest start took.
    pub cold_start_last: Duration,
    /// Workers that were replaced after their number of invocations.
    pub recycled: u64,
    /// Workers that ended by themselves.
    pub crashed: u64,
    /// Workers that were killed because an invocation took too long.
    pub timed_out: u64,
    /// Workers that were ended because no work came.
    pub idled_out: u64,
    /// Workers that never asked for work.
    pub failed_starts: u64,
}

impl Stats {
    /// The mean time from the start of a worker to its first request for work.
    #[must_use]
    pub fn cold_start_mean(&self) -> Option<Duration> {
        u32::try_from(self.cold_starts)
            .ok()
            .filter(|&starts| starts > 0)
            .map(|starts| self.cold_start_total / starts)
    }
}

impl Counters {
    pub(super) fn cold_start(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.cold_starts.fetch_add(1, Relaxed);
        self.cold_start_micros.fetch_add(micros, Relaxed);
        self.last_cold_start_micros.store(micros, Relaxed);
    }

    /// Waits until no worker process exists.
    pub(super) async fn none_running(&self) {
        // The sender is ours: waiting cannot fail while `self` is there.
        let _ = self
            .running
            .subscribe()
            .wait_for(|&running| running == 0)
            .await;
    }

    pub(super) fn snapshot(&self) -> Stats {
        Stats {
            running: *self.running.borrow(),
            busy: self.busy.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            invocations: self.invocations.load(Relaxed),
            cold_starts: self.cold_starts.load(Relaxed),
            cold_start_total: Duration::from_micros(self.cold_start_micros.load(Relaxed)),
            cold_start_last: Duration::from_micros(self.last_cold_start_micros.load(Relaxed)),
            recycled: self.recycled.load(Relaxed),
            crashed: self.crashed.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            idled_out: self.idled_out.load(Relaxed),
            failed_starts: self.failed_starts.load(Relaxed),
        }
    }
}

/// Counts a worker process while it exists.
pub(super) struct Running(Arc<Counters>);

impl Running {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        counters.running.send_modify(|running| *running += 1);
        Self(counters.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0
            .running
            .send_modify(|running| *running = running.saturating_sub(1));
    }
}

/// Counts one while it lives.
pub(super) struct Gauge<'a>(&'a AtomicUsize);

impl<'a> Gauge<'a> {
    pub(super) fn new(gauge: &'a AtomicUsize) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
