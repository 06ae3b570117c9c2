//! The store's own keeping: counts, health, retention and its end.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::JobState;

use super::error::{ErrorKind, StoreError};
use super::watch::Watchers;

/// What the sweeper, the metrics and the health page ask of a store.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// How many jobs are in which state. Called for each scrape of the metrics.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// Removes what has outlived its time, a bounded piece a call: results and documents, rows, keys, audit lines, sessions, counts of
    /// labels, blobs without a row. A job with an open delivery expires when that has ended, or by [`Retention::rows`]; then the delivery is dead,
    /// and the row, which says so, stays as long again. Called every minute or so, and again at once where `Swept::more` says so.
    ///
    /// # Errors
    ///
    /// Some of it may have been removed; try again at the next turn.
    async fn sweep(&self, retention: Retention, now: Timestamp) -> Result<Swept, StoreError>;

    /// Whether changes are accepted, from memory: cheap enough for each request. Starts a probe where the store was full and the last
    /// probe is a second old.
    fn health(&self) -> Health;

    /// Whether other gateways may use the store at the same time: then what is running now is perhaps theirs.
    fn is_shared(&self) -> bool;

    /// Where changes are told to those who wait in this process.
    fn watchers(&self) -> &Watchers;

    /// Finishes the changes that wait, and closes. Later changes are refused with `Closed`; reads may still work. Called once, last,
    /// on the way out.
    async fn close(&self);
}

/// Jobs counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// By integration and state, without zeros.
    pub tallies: Vec<Tally>,
    /// When the job that has been due for longest (queued or waiting) was due; it may lie ahead. None where no job is queued or
    /// waiting.
    pub oldest_due: Option<Timestamp>,
    /// The same for each integration of which a job is queued or waiting.
    pub oldest: Vec<(String, Timestamp)>,
}

/// One integration's jobs in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The integration.
    pub integration: String,
    /// The state.
    pub state: JobState,
    /// How many.
    pub jobs: u64,
}

/// How long things are kept. (A job's result and document: [`NewJob::keep`](super::NewJob::keep).)
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// A job's row, after its result expired. Its idempotency key goes with it: give rows more time than keys. Also how long a result
    /// is kept past its time at most, for a delivery that is open or can be replayed, and how long labels are counted.
    pub rows: SignedDuration,
    /// An audit line.
    pub audit: SignedDuration,
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs whose result and document were erased.
    pub expired: u64,
    /// Rows removed.
    pub rows: u64,
    /// Idempotency keys removed.
    pub keys: u64,
    /// Blobs removed.
    pub blobs: u64,
    /// Audit lines removed.
    pub audit: u64,
    /// Whether there is more to remove.
    pub more: bool,
}

/// Whether changes are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Accepting,
    /// No: answer 503; the readiness page is red with the kind's sentence.
    Refusing(ErrorKind),
}
