//! What a flow gives on, and who takes it.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;

use super::Failure;
use crate::record::{Lane, Position, Record};
use crate::source::Term;

/// Takes outputs and progress, in one step: a store's transaction (`stream-in`), a Kafka transaction (`full-stream`).
///
/// One call at a time. A call is not dropped: it runs to its end.
#[async_trait]
pub trait Committer<O>: Send {
    /// Makes outputs, dead letters and progress durable together.
    ///
    /// # Errors
    ///
    /// [`CommitError::Passing`]: nothing was committed; the same commit is offered again. [`CommitError::Fenced`]: lanes were
    /// another's already, nothing was committed; the flow forgets the commit's lanes. [`CommitError::Unknown`]: it may or may not have
    /// been; the flow ends and begins anew at what the source says is committed. [`CommitError::Lasting`]: the flow stops.
    async fn commit(&mut self, commit: &Commit<O>) -> Result<(), CommitError>;
}

/// What is committed together.
#[derive(Debug)]
pub struct Commit<O> {
    /// A part for each lane that has something, in no order.
    pub lanes: Vec<LaneCommit<O>>,
}

/// One lane's part of a commit.
#[derive(Debug)]
pub struct LaneCommit<O> {
    /// The lane.
    pub lane: Lane,
    /// The term in which its records were read. Whoever keeps terms refuses a part of an earlier one as [`CommitError::Fenced`].
    pub term: Term,
    /// The outputs, in the order in which they are given on.
    pub outputs: Vec<Output<O>>,
    /// How far the lane is done, with these outputs.
    pub progress: Progress,
}

/// A record and what became of it.
#[derive(Debug)]
pub struct Output<O> {
    /// The record.
    pub record: Arc<Record>,
    /// The processed output, or why it is a dead letter.
    pub outcome: Result<O, Failure>,
    /// How often it was tried.
    pub attempts: u32,
    /// When the flow took it.
    pub taken: Timestamp,
}

/// How far a lane is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last record of the contiguous done prefix; none where only records beyond it are done.
    pub last: Option<(u64, Position)>,
    /// The ordinals beyond the prefix whose outputs were given on, ascending ranges (first, last) without overlap; empty with
    /// [`Order::Lane`](super::Order::Lane).
    pub beyond: Vec<(u64, u64)>,
}

/// Why nothing was committed, or nobody knows.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Nothing was committed; it can pass.
    #[error("{0}")]
    Passing(String),
    /// Nothing was committed: another one has the lanes.
    #[error("{0}")]
    Fenced(String),
    /// It may have been committed.
    #[error("{0}")]
    Unknown(String),
    /// Nothing was committed and nothing will be.
    #[error("{0}")]
    Lasting(String),
}
