//! Streams as the store sees them: who reads which lane, how far it is, and what came out, in one step.
//!
//! A *stream* is one integration's reading of one source; its name is the reader's choice and holds for ever. A *lane* is a part of it
//! whose records have an order: a partition, a shard. Progress is text that the reader wrote and reads; the store does not look into it.
//!
//! What came of a record is a job that has ended already: found, listed, delivered, expired and erased like any other. A record that
//! could not be worked on is a failed job that keeps the record's bytes, so that the job's retry is the replay of the dead letter.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::{InvocationId, Problem};

use super::blobs::DocumentRef;
use super::deliveries::NewDelivery;
use super::error::StoreError;
use super::jobs::{Job, Sight};

/// The streams' side of the store.
#[async_trait]
pub trait StreamStore: Send + Sync {
    /// Takes lanes for a reader: from the return on whoever had them commits nothing more of them. Gives those that it got, in the
    /// order asked for; the others are somebody else's. Called when a reader gains lanes, and now and then for lanes that are free.
    ///
    /// # Errors
    ///
    /// Nothing was taken.
    async fn take_lanes(&self, take: TakeLanes) -> Result<Vec<TakenLane>, StoreError>;

    /// Prolongs the leases of lanes to `now + lease`, and gives back those that are no longer held.
    ///
    /// # Errors
    ///
    /// No lease was prolonged; try again before the lease ends.
    async fn renew_lanes(
        &self,
        stream: &str,
        held: Vec<Hold>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<Hold>, StoreError>;

    /// Lets lanes go, so that others need not wait for the leases' end. Those that are no longer held stay as they are.
    ///
    /// # Errors
    ///
    /// Unknown; the leases end by themselves.
    async fn release_lanes(&self, stream: &str, held: Vec<Hold>) -> Result<(), StoreError>;

    /// Stores what came out of records together with the lanes' progress: all of it, in one transaction, or nothing. Durable on return.
    ///
    /// # Errors
    ///
    /// `Full`, `Busy`, `Unreachable`: nothing was stored, and the same can be tried again. Others: unknown; read the progress anew.
    async fn commit_stream(&self, commit: StreamCommit) -> Result<StreamCommitted, StoreError>;

    /// Every known lane of a stream, by name.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn lanes(&self, stream: &str) -> Result<Vec<LaneStatus>, StoreError>;

    /// Forgets lanes that are no more: ended ones whose shard is gone. Lanes that are leased stay.
    ///
    /// # Errors
    ///
    /// Nothing was forgotten.
    async fn forget_lanes(&self, stream: &str, lanes: Vec<String>) -> Result<(), StoreError>;

    /// A page of jobs that have ended with a result that is still there, newest first, with the results.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn list_results(&self, query: ResultQuery) -> Result<ResultPage, StoreError>;

    /// How often which label came out, by minute, oldest first.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn label_counts(&self, query: LabelQuery) -> Result<Vec<LabelCount>, StoreError>;
}

/// Which lanes are taken, and by whom.
#[derive(Clone, Debug)]
pub struct TakeLanes {
    /// The stream.
    pub stream: String,
    /// The lanes.
    pub lanes: Vec<String>,
    /// Who takes them: the gateway's name.
    pub owner: String,
    /// Which of them.
    pub which: Takeable,
    /// How long they may go without a sign of life.
    pub lease: SignedDuration,
    /// The time.
    pub now: Timestamp,
}

/// Which lanes can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeable {
    /// Those that nobody holds, or whose lease is over.
    Free,
    /// All: somebody else (Kafka's group) has decided who reads them, or they are taken from a reader that has too many.
    Any,
}

/// A lane that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenLane {
    /// The lane under its token.
    pub hold: Hold,
    /// How far it is done; none where nothing was ever committed.
    pub progress: Option<String>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// A lane that is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    /// The lane.
    pub lane: String,
    /// The fencing token: higher each time the lane is taken.
    pub token: u64,
}

/// A lane as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// The lane.
    pub lane: String,
    /// Its latest token.
    pub token: u64,
    /// Who holds it; none where it was released.
    pub owner: Option<String>,
    /// When its lease ends.
    pub until: Option<Timestamp>,
    /// How far it is done.
    pub progress: Option<String>,
    /// Whether all of it is done.
    pub ended: bool,
    /// When something was committed of it.
    pub updated: Option<Timestamp>,
}

/// What is committed together.
#[derive(Clone, Debug)]
pub struct StreamCommit {
    /// The stream.
    pub stream: String,
    /// The lanes' progress, each under its token.
    pub lanes: Vec<LaneProgress>,
    /// What came of the records.
    pub outcomes: Vec<RecordOutcome>,
    /// The time.
    pub now: Timestamp,
}

/// How far a lane is done from here on.
#[derive(Clone, Debug)]
pub struct LaneProgress {
    /// The lane, held.
    pub hold: Hold,
    /// How far it is done; none leaves it as it is.
    pub progress: Option<String>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// What came of a record: a job that has ended.
#[derive(Clone)]
pub struct RecordOutcome {
    /// The invocation. The row's time is the id's.
    pub id: InvocationId,
    /// The integration.
    pub integration: String,
    /// Why it failed; none where it succeeded.
    pub problem: Option<Problem>,
    /// The result document as JSON text.
    pub result: String,
    /// A failed record's bytes; its blob, where it has one, is durable already.
    pub document: Option<DocumentRef>,
    /// A failed record's request, as a retry of the job needs it; none where it succeeded: it could not be retried anyway.
    pub request: Option<String>,
    /// Where the record stands in its source, in place of a request's id.
    pub record: String,
    /// The W3C trace context that came with the record.
    pub traceparent: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// As of a job: for its retry.
    pub max_attempts: u32,
    /// When work on it began.
    pub started: Timestamp,
    /// How long its result is kept.
    pub keep: SignedDuration,
    /// The deliveries of its result.
    pub deliveries: Vec<NewDelivery>,
    /// What it is counted under.
    pub labels: Vec<Label>,
}

/// A label that a service gave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The service.
    pub service: String,
    /// The label.
    pub label: String,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamCommitted {
    /// All of it is stored.
    Done,
    /// These lanes are somebody else's: nothing was stored.
    Fenced(Vec<String>),
}

/// Which results to list.
#[derive(Clone, Debug, Default)]
pub struct ResultQuery {
    /// Only what whoever asks may see; none: everything.
    pub sight: Option<Sight>,
    /// Only this integration's.
    pub integration: Option<String>,
    /// Only those that failed, or only those that succeeded.
    pub failed: Option<bool>,
    /// Only those whose record stands there: see [`RecordOutcome::record`].
    pub record: Option<String>,
    /// Only those made at this time or later.
    pub from: Option<Timestamp>,
    /// Only those made before this time.
    pub until: Option<Timestamp>,
    /// Only those older than this one.
    pub after: Option<InvocationId>,
    /// At most so many; 0 counts as 1, and more than 1,000 as 1,000.
    pub limit: u32,
}

/// A page of results.
#[derive(Clone, Debug, Default)]
pub struct ResultPage {
    /// The jobs with their results as JSON text, newest first.
    pub results: Vec<(Job, String)>,
    /// The cursor of the next page; none on the last one.
    pub next: Option<InvocationId>,
}

/// Which labels are counted.
#[derive(Clone, Debug)]
pub struct LabelQuery {
    /// The integration.
    pub integration: String,
    /// From this time on.
    pub from: Timestamp,
    /// Before this time.
    pub until: Timestamp,
}

/// How often a label came out within a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCount {
    /// The minute's begin.
    pub minute: Timestamp,
    /// The label.
    pub label: Label,
    /// How often.
    pub count: u64,
}

impl std::fmt::Debug for RecordOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the result or the request.
        f.debug_struct("RecordOutcome")
            .field("id", &self.id)
            .field("integration", &self.integration)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}
