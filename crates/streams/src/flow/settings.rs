//! How a flow goes.

use std::time::Duration;

/// How a flow goes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// In which order outputs are given on.
    pub order: Order,
    /// The most records taken and not committed.
    pub in_flight: usize,
    /// The most bytes of them.
    pub in_flight_bytes: usize,
    /// The most calls of the process at once; the adaptive limit stays below it.
    pub concurrency: usize,
    /// How often a record is tried, at the most.
    pub attempts: u32,
    /// The wait before the second try; it doubles, and a random part is left off.
    pub backoff_first: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// How long a record that was begun may hold up its lane, being the first that is not done: then it is a dead letter.
    pub deadline: Duration,
    /// How long outputs are gathered for one commit.
    pub linger: Duration,
    /// The most outputs of one lane in one commit.
    pub commit_records: usize,
    /// How long work of revoked lanes, or of a flow that is stopped, may go on.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            order: Order::Lane,
            in_flight: 10_000,
            in_flight_bytes: 64 << 20,
            concurrency: 16,
            attempts: 5,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            deadline: Duration::from_secs(300),
            linger: Duration::from_millis(20),
            commit_records: 5_000,
            drain: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// The wait after so many tries: twice as long each time, and up to a half of it left off by chance.
    pub(super) fn rest(&self, tries: u32) -> Duration {
        let doubled = self
            .backoff_first
            .saturating_mul(1 << tries.saturating_sub(1).min(20));
        doubled
            .min(self.backoff_max)
            .mul_f64(1.0 - fastrand::f64() / 2.0)
    }
}

/// In which order outputs are given on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the records stand in their lane.
    Lane,
    /// As the records of the same key stand in their lane; records without a key have no order.
    Key,
    /// As they are done.
    None,
}
