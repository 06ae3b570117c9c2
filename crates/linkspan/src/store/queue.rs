//! Jobs as the runner sees them: claimed, run in attempts, ended, recovered.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, try_join_all};
use jiff::{SignedDuration, Timestamp};
use linkspan_model::{Code, InvocationId, Problem, ResultDocument};

use super::blobs::DocumentRef;
use super::deliveries::NewDelivery;
use super::error::{ErrorKind, StoreError};
use super::jobs::Job;

/// The runner's side of the store.
#[async_trait]
pub trait JobQueue: Send + Sync {
    /// Starts attempts of due jobs, the longest due first in each integration. Called by the runner whenever it has places free and
    /// [`Watchers::work`](super::Watchers::work) says that work is there, or `next` has come. The starts are durable on return: call
    /// the engine only then.
    ///
    /// # Errors
    ///
    /// Nothing was started. `Full`, `Busy`: try again after the hint. Others: stop claiming.
    async fn claim(&self, claim: Claim) -> Result<Claims, StoreError>;

    /// Ends an attempt. Durable on return. Called once for each attempt; calling it again (after an error, or a crash of the caller)
    /// is safe: the second call is fenced.
    ///
    /// # Errors
    ///
    /// `Full`, `Busy`: nothing changed; try again after the hint for as long as the lease lasts. `Io`, `Corrupt`: unknown; recovery
    /// after the restart runs the job again.
    async fn finish(&self, end: AttemptEnd) -> Result<Finished, StoreError>;

    /// Makes a held attempt (see [`Start::held`](super::Start::held)) an ordinary job that survives the gateway: from here on its
    /// document is durable. Called when a `sync` invocation with an idempotency key overflows to `async`.
    ///
    /// # Errors
    ///
    /// As [`JobStore::enqueue`](super::JobStore::enqueue): the job is still held.
    async fn detach(&self, detach: Detach) -> Result<Finished, StoreError>;

    /// Prolongs the leases of running attempts to `now + lease` and gives back those that are no longer held: stop them, their ends
    /// would be fenced. Called by the runner every third of a lease or so. Does not change a job's version.
    ///
    /// # Errors
    ///
    /// No lease was prolonged; try again before the lease ends.
    async fn renew(
        &self,
        attempts: Vec<Attempt>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<Attempt>, StoreError>;

    /// Takes jobs away from attempts that are dead: they wait for another attempt, or fail where
    /// [`NewJob::max_attempts`](super::NewJob::max_attempts) is reached, so that a document that kills the gateway does not do so for
    /// ever. Held jobs fail and free their key. Called at the start of a gateway, and by several gateways on one store now and then.
    ///
    /// # Errors
    ///
    /// What was recovered stays so; the rest is recovered by the next call.
    async fn recover(&self, recover: Recover) -> Result<Recovered, StoreError>;
}

/// One attempt of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The job.
    pub id: InvocationId,
    /// The fencing token: higher at each attempt of the job, never used twice.
    pub token: u64,
}

/// Which jobs to start.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Who runs them: this gateway's name.
    pub owner: String,
    /// How many of which integrations. Jobs of integrations that are not named stay where they are.
    pub places: Vec<Places>,
    /// How long an attempt may go without a sign of life.
    pub lease: SignedDuration,
    /// The time.
    pub now: Timestamp,
}

/// Free places for an integration's jobs.
#[derive(Clone, Debug)]
pub struct Places {
    /// The integration.
    pub integration: String,
    /// How many of its jobs can be started.
    pub limit: u32,
}

/// What was started.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// The started attempts.
    pub claimed: Vec<Claimed>,
    /// When the next job of the named integrations is due. May be past: more jobs were due than there were places.
    pub next: Option<Timestamp>,
}

/// One started attempt, with all that it needs.
#[derive(Clone)]
pub struct Claimed {
    /// The job, running; `attempts` counts this attempt.
    pub job: Job,
    /// The attempt.
    pub attempt: Attempt,
    /// The document, where there is one.
    pub document: Option<DocumentRef>,
    /// The rest of the request as JSON text, as [`NewJob::request`](super::NewJob::request) was.
    pub request: String,
}

/// The end of an attempt.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// The attempt.
    pub attempt: Attempt,
    /// How it ended.
    pub outcome: Outcome,
    /// The deliveries of its result, stored in the same transaction where the outcome has a result, else dropped.
    pub deliveries: Vec<NewDelivery>,
    /// The time.
    pub now: Timestamp,
}

/// How an attempt ended.
#[derive(Clone)]
pub enum Outcome {
    /// The job succeeded.
    Succeeded {
        /// The result document as JSON text.
        result: String,
    },
    /// The job failed for good.
    Failed {
        /// Why.
        problem: Problem,
        /// The result document as JSON text.
        result: String,
        /// Whether the idempotency key is free again: where the failure can pass and the same request should then run anew.
        release_key: bool,
    },
    /// The attempt failed and another follows.
    Retry {
        /// When.
        due: Timestamp,
        /// Why it failed.
        problem: Problem,
    },
    /// The job was cancelled from within the attempt (the client of a held job went away). Frees the key.
    Cancelled,
    /// The attempt was given back unfinished, because the gateway stops: the job is queued again and the attempt does not count.
    Released,
}

/// What became of an attempt's end.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is the large one"
)]
pub enum Finished {
    /// Stored; the job as it is now.
    Done(Job),
    /// The attempt is no longer the job's: nothing changed. Drop the outcome.
    Fenced,
}

/// A held attempt that goes on as an ordinary job.
#[derive(Clone, Debug)]
pub struct Detach {
    /// The attempt.
    pub attempt: Attempt,
    /// The document, now durable.
    pub document: Option<DocumentRef>,
    /// The rest of the request as JSON text.
    pub request: String,
    /// The time.
    pub now: Timestamp,
}

/// Which attempts are dead, and when their jobs are tried again.
#[derive(Clone)]
pub struct Recover {
    /// True where this gateway has just started and is the only one: every running attempt is dead. False: those whose lease is over.
    pub all: bool,
    /// How long a job waits for its next attempt.
    pub backoff: Arc<dyn Fn(&Job) -> SignedDuration + Send + Sync>,
    /// The deliveries of the result of a job that fails here, and that is not held.
    pub outbox: Outbox,
    /// The time.
    pub now: Timestamp,
}

/// Makes the deliveries of a result. It takes as long as filters take, so no transaction waits for it.
pub type Outbox = Arc<dyn Fn(ResultDocument) -> BoxFuture<'static, Vec<NewDelivery>> + Send + Sync>;

/// How a job ends that recovery fails: made before the transaction that stores it.
#[derive(Clone)]
pub(in crate::store) struct Ending {
    pub(in crate::store) problem: Problem,
    /// The result document as JSON text.
    pub(in crate::store) result: String,
    pub(in crate::store) deliveries: Vec<NewDelivery>,
}

/// What was recovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Jobs that wait for another attempt.
    pub waiting: u64,
    /// Jobs that failed.
    pub failed: u64,
}

impl Recover {
    /// How jobs end whose attempts are dead; none for those that are tried again. To be stored for those attempts only.
    pub(in crate::store) async fn endings(
        &self,
        jobs: Vec<(Attempt, Job)>,
    ) -> Result<Vec<(Attempt, Option<Ending>)>, StoreError> {
        let each = jobs.into_iter().map(async |(attempt, job)| {
            let ending = match verdict(&job) {
                Some(problem) => Some(self.ending(&job, problem).await?),
                None => None,
            };
            Ok((attempt, ending))
        });
        try_join_all(each).await
    }

    async fn ending(&self, job: &Job, problem: Problem) -> Result<Ending, StoreError> {
        let document = ResultDocument::failed(job.id, &job.integration, problem.clone());
        let result = serde_json::to_string(&document)
            .map_err(|error| StoreError::new(ErrorKind::Internal, "recover jobs").because(error))?;
        let deliveries = if job.held {
            Vec::new() // nobody but its connection wants it
        } else {
            (self.outbox)(document).await
        };
        Ok(Ending {
            problem,
            result,
            deliveries,
        })
    }
}

/// Why a job whose attempt is dead fails; none where it is tried again.
fn verdict(job: &Job) -> Option<Problem> {
    if job.held {
        Some(Problem::new(
            Code::ShuttingDown,
            "the gateway ended while it worked on the request; send it again",
        ))
    } else if job.attempts >= job.max_attempts {
        Some(Problem::new(
            Code::EngineCrashed,
            format!(
                "the gateway ended during each of the {} attempts at this document; it is not tried again by itself",
                job.attempts
            ),
        ))
    } else {
        None
    }
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the request: it may hold a password or the caller's text.
        f.debug_struct("Claimed")
            .field("job", &self.job)
            .field("attempt", &self.attempt)
            .field("document", &self.document)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the result: it holds the document's content.
        match self {
            Self::Succeeded { .. } => f.write_str("Succeeded"),
            Self::Failed { problem, .. } => write!(f, "Failed({})", problem.code),
            Self::Retry { due, problem } => write!(f, "Retry({} at {due})", problem.code),
            Self::Cancelled => f.write_str("Cancelled"),
            Self::Released => f.write_str("Released"),
        }
    }
}

impl fmt::Debug for Recover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recover")
            .field("all", &self.all)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}
