//! What is done with a record.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::record::Record;

/// The work on records. Called many times at once; a call may be dropped when its records' deadline is over or their lane is lost.
#[async_trait]
pub trait Process: Send + Sync + 'static {
    /// What becomes of a record.
    type Output: Send + 'static;

    /// How many records one call takes at most: 1 for slow engines, many for fast ones.
    fn batch(&self) -> usize {
        1
    }

    /// Processes records of one lane, in order. Gives an outcome for each, in order. A failed record spoils no other of its batch.
    async fn process(&self, records: &[Arc<Record>]) -> Vec<Result<Self::Output, Failure>>;
}

/// Why a record could not be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A stable code: those of problems (`engine-failed`), and of decoding (`undecodable`).
    pub code: String,
    /// A sentence for people, without content of the record.
    pub reason: String,
    /// Whether it may pass when tried again.
    pub retryable: bool,
    /// The least wait before it is tried again, where the engine said one.
    pub after: Option<Duration>,
    /// The engine has too much to do: the concurrency limit shrinks.
    pub overloaded: bool,
}
