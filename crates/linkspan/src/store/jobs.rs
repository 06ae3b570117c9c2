//! Jobs as the door sees them: accepted, looked up, listed, commanded.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::{Code, InvocationId, JobState, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::Actor;
use super::blobs::DocumentRef;
use super::error::StoreError;
use super::queue::Attempt;

/// The door's side of the store. Called for each request, from any number of tasks at once.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Accepts a job: the job, its document and its idempotency key, in one transaction. When it returns `Created`, they are on disk
    /// and 202 may be answered. The document's blob must be durable already (see [`Body::keep`](super::Body::keep)); the reference
    /// keeps it from being swept until the row is there.
    ///
    /// # Errors
    ///
    /// `Full`, `Io`, `Corrupt`, `Closed`: not accepted; answer 503. `Busy`: not accepted; answer 503 with Retry-After.
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError>;

    /// One job, whoever owns it: the caller checks that.
    ///
    /// # Errors
    ///
    /// `Io`, `Corrupt`, `Busy`: unknown whether there is such a job; answer 503, never 404.
    async fn get(&self, id: InvocationId) -> Result<Option<Job>, StoreError>;

    /// A page of jobs, newest first. Jobs made while pages are read do not move the pages.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`].
    async fn list(&self, filter: Filter) -> Result<Page, StoreError>;

    /// The job's result document as JSON text, the same bytes each time. None where there is none (yet, or any more), or no such job.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`].
    async fn result(&self, id: InvocationId) -> Result<Option<String>, StoreError>;

    /// The job's document. None where there was none or it is erased, or no such job.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`].
    async fn document(&self, id: InvocationId) -> Result<Option<DocumentRef>, StoreError>;

    /// Cancels, retries or deletes a job, and writes the audit line (also of a refusal) in the same transaction. A running attempt of a
    /// cancelled or deleted job is fenced at once and learns it from its [`Watch`](super::Watch).
    ///
    /// # Errors
    ///
    /// As [`JobStore::enqueue`]: nothing was changed.
    async fn command(
        &self,
        id: InvocationId,
        command: Command,
        actor: Actor,
        now: Timestamp,
    ) -> Result<Commanded, StoreError>;
}

/// A job to accept.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The invocation.
    pub id: InvocationId,
    /// The integration that was invoked.
    pub integration: String,
    /// Who invoked it: the name of the owner of the key.
    pub caller: String,
    /// The document, where there is one.
    pub document: Option<DocumentRef>,
    /// The rest of the request (text, parameters, claim) as JSON text. Erased with the document: it may hold a password.
    pub request: String,
    /// The request's id.
    pub request_id: String,
    /// The W3C trace context that came with the request.
    pub traceparent: Option<String>,
    /// The idempotency key, where one came.
    pub idempotency: Option<Idempotency>,
    /// Given: the job is stored as running, with its first attempt. None: it is queued.
    pub start: Option<Start>,
    /// How many attempts may be started and not given back before recovery fails the job.
    pub max_attempts: u32,
    /// When it may be started first.
    pub due: Timestamp,
    /// How long its result and document are kept after its end.
    pub keep: SignedDuration,
    /// The time of acceptance.
    pub now: Timestamp,
}

/// An idempotency key, scoped to caller and integration.
#[derive(Clone)]
pub struct Idempotency {
    /// The key, as the caller sent it.
    pub key: String,
    /// A SHA-256 over everything of the request that makes it the same request.
    pub fingerprint: [u8; 32],
    /// When the key is free again. The key of a job that has not ended stays taken.
    pub expires: Timestamp,
}

/// A first attempt that starts with the acceptance.
#[derive(Clone, Debug)]
pub struct Start {
    /// Who runs it: this gateway's name.
    pub owner: String,
    /// How long the attempt may go without a sign of life.
    pub lease: SignedDuration,
    /// True for a `sync` invocation with an idempotency key: only a waiting connection wants the answer, and the document is not
    /// stored. If the gateway ends, recovery fails the job and frees its key. [`JobQueue::detach`](super::JobQueue::detach) makes it
    /// an ordinary job.
    pub held: bool,
}

/// What became of an acceptance.
#[derive(Clone, Debug)]
pub enum Enqueued {
    /// It is new, and durable.
    Created {
        /// The job.
        job: Job,
        /// Its attempt, where [`NewJob::start`] was given.
        attempt: Option<Attempt>,
    },
    /// The key was used with the same request: this is the first job. Nothing was stored.
    Existing(Job),
    /// The key was used with another request. Nothing was stored.
    KeyMismatch,
}

/// A job, without its document and result.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The invocation.
    pub id: InvocationId,
    /// The integration that was invoked.
    pub integration: String,
    /// Who invoked it.
    pub caller: String,
    /// Where it stands.
    pub state: JobState,
    /// Grows at each change; starts at 1.
    pub version: u64,
    /// Attempts started, without those given back. A retry by command starts from 0 again.
    pub attempts: u32,
    /// How many may be started before recovery fails the job.
    pub max_attempts: u32,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it changed last.
    pub updated: Timestamp,
    /// When it may be started (queued, waiting).
    pub due: Timestamp,
    /// When its latest attempt started.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// When its result and document are erased; known once it has ended.
    pub expires: Option<Timestamp>,
    /// Why the latest attempt failed.
    pub problem: Option<Problem>,
    /// The id of the request that made it.
    pub request_id: String,
    /// The W3C trace context that came with the request.
    pub traceparent: Option<String>,
    /// Whether a connection waits for it: see [`Start::held`].
    pub held: bool,
    /// The latest [`REMEMBERED_ATTEMPTS`] attempts that ended, oldest first, over all retries.
    pub history: Vec<AttemptRecord>,
}

/// How many attempts a job's row remembers; older ones are left out.
pub const REMEMBERED_ATTEMPTS: usize = 20;

/// One attempt that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRecord {
    /// When it started (RFC 3339).
    #[schemars(with = "String")]
    pub started: Timestamp,
    /// When it ended, or was taken for dead.
    #[schemars(with = "String")]
    pub ended: Timestamp,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The problem's code, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// The job succeeded.
    Succeeded,
    /// The job failed for good.
    Failed,
    /// It failed, and another followed.
    Retried,
    /// The job was cancelled.
    Cancelled,
    /// It was given back by a gateway that stopped.
    Released,
    /// Its gateway ended without a word.
    Lost,
}

/// How far a listing looks for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Who asks.
    pub caller: String,
    /// Their own things are seen in these integrations; none: in all.
    pub own: Option<Vec<String>>,
    /// Everybody's things are seen in these integrations.
    pub whole: Vec<String>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only what whoever asks may see; none: everything.
    pub sight: Option<Sight>,
    /// Only this caller's.
    pub caller: Option<String>,
    /// Only this integration's.
    pub integration: Option<String>,
    /// Only in this state.
    pub state: Option<JobState>,
    /// Only those that this request made.
    pub request_id: Option<String>,
    /// Only those made at this time or later.
    pub from: Option<Timestamp>,
    /// Only those made before this time.
    pub until: Option<Timestamp>,
    /// Only jobs older than this one: the `next` of the page before.
    pub after: Option<InvocationId>,
    /// At most so many; 0 counts as 1, and more than 1,000 as 1,000.
    pub limit: u32,
}

/// A page of jobs.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The jobs, newest first.
    pub jobs: Vec<Job>,
    /// The cursor of the next page; none on the last one.
    pub next: Option<InvocationId>,
}

/// What a caller can do to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop it: queued, waiting and running jobs.
    Cancel,
    /// Run it again: failed and cancelled jobs whose request is still there. Its result is erased and its attempts start from 0. Its
    /// deliveries that have arrived stay as superseded records, the others are removed.
    Retry,
    /// Erase it, in whatever state: document, request, result, deliveries and idempotency key. The audit line stays.
    Delete,
}

/// What became of a command.
#[derive(Clone, Debug)]
pub enum Commanded {
    /// Done; the job as it is now.
    Done(Job),
    /// Deleted.
    Deleted,
    /// The job's state does not allow it; the job as it is.
    WrongState(Job),
    /// No such job.
    NotFound,
}

impl std::fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is the caller's own text: it stays out of logs.
        f.debug_struct("Idempotency")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
