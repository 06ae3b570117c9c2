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
    /// How long after it was taken a record may hold up its lane: then it is a dead letter.
    pub deadline: Duration,
    /// How long outputs are gathered for one commit.
    pub linger: Duration,
    /// The most outputs of one commit.
    pub commit_records: usize,
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
