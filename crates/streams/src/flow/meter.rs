//! What a flow counts of itself, for metrics and the console.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and gauges of one flow. Shared with whoever looks.
#[derive(Debug, Default)]
pub struct Meter {
    taken: AtomicU64,
    committed: AtomicU64,
    dead: AtomicU64,
    retried: AtomicU64,
    commits: AtomicU64,
    in_flight: AtomicU64,
    in_flight_bytes: AtomicU64,
    limit: AtomicU64,
}

/// A meter, read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Records taken from the source.
    pub taken: u64,
    /// Records committed, dead letters among them.
    pub committed: u64,
    /// Dead letters.
    pub dead: u64,
    /// Tries after the first.
    pub retried: u64,
    /// Commits.
    pub commits: u64,
    /// Records taken and not committed, now.
    pub in_flight: u64,
    /// Bytes of them.
    pub in_flight_bytes: u64,
    /// How many calls at once the engine is trusted with, now.
    pub limit: u64,
}

impl Meter {
    /// What it shows.
    #[must_use]
    pub fn read(&self) -> Reading {
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        Reading {
            taken: get(&self.taken),
            committed: get(&self.committed),
            dead: get(&self.dead),
            retried: get(&self.retried),
            commits: get(&self.commits),
            in_flight: get(&self.in_flight),
            in_flight_bytes: get(&self.in_flight_bytes),
            limit: get(&self.limit),
        }
    }

    pub(super) fn took(&self, records: usize) {
        self.taken.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(super) fn retries(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn commits(&self, records: usize, dead: usize) {
        self.committed.fetch_add(records as u64, Ordering::Relaxed);
        self.dead.fetch_add(dead as u64, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn holds(&self, records: usize, bytes: usize, limit: usize) {
        self.in_flight.store(records as u64, Ordering::Relaxed);
        self.in_flight_bytes.store(bytes as u64, Ordering::Relaxed);
        self.limit.store(limit as u64, Ordering::Relaxed);
    }
}
