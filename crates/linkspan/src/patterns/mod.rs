//! The integration patterns, one file each: the same four names as in the documentation and the tests.
//!
//! All of them take [`Pipeline`](crate::pipeline::Pipeline) as it is.

pub mod r#async;
pub mod full_stream;
pub mod stream_in;
pub mod sync;

use linkspan_model::{InvocationId, ResultDocument, Status};

use crate::http::prefer::Prefer;
use crate::http::trace::RequestIds;
use crate::keys::Caller;
use crate::pipeline::Request;
use crate::refusal::Refusal;
use crate::request::Incoming;
use crate::store::{Finished, Job, Outcome};

/// One invocation, as it came in.
pub struct Arrival {
    /// The invocation.
    pub id: InvocationId,
    /// Who asks.
    pub caller: Caller,
    /// The request's ids.
    pub ids: RequestIds,
    /// What is asked.
    pub incoming: Incoming,
    /// How the answer should come.
    pub prefer: Prefer,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

impl Arrival {
    /// The request as the pipeline takes it.
    fn to_request(&self) -> Request {
        Request {
            traceparent: Some(self.ids.trace.to_string()),
            ..self.incoming.to_request()
        }
    }
}

/// How an invocation is answered.
#[derive(Debug)]
pub enum Reply {
    /// 200 with the result document, as JSON text.
    Result {
        /// The invocation that made it.
        id: InvocationId,
        /// The result document.
        json: String,
        /// Whether it is the first result again, for an idempotency key.
        replayed: bool,
        /// The value of `Preference-Applied`.
        applied: Option<String>,
    },
    /// 202 and a job.
    Accepted {
        /// The job.
        job: Box<Job>,
        /// The value of `Preference-Applied`.
        applied: Option<String>,
    },
}

impl Reply {
    /// The same, with the preference that was honoured.
    fn applying(self, preference: Option<String>) -> Self {
        match self {
            Self::Result {
                id,
                json,
                replayed,
                applied,
            } => Self::Result {
                id,
                json,
                replayed,
                applied: applied.or(preference),
            },
            Self::Accepted { job, applied } => Self::Accepted {
                job,
                applied: applied.or(preference),
            },
        }
    }
}

/// A result document as JSON text.
///
/// # Errors
///
/// Never in practice: result documents hold nothing that JSON cannot.
pub fn to_json(result: &ResultDocument) -> Result<String, Refusal> {
    serde_json::to_string(result).map_err(|error| {
        tracing::error!(%error, "a result document cannot be written");
        Refusal::new(
            linkspan_model::Code::Internal,
            "the result cannot be written as JSON",
        )
    })
}

/// The end of an attempt that will not be tried again.
pub(crate) fn final_outcome(result: &ResultDocument, json: String, release_key: bool) -> Outcome {
    match (result.status, &result.error) {
        (Status::Failed, Some(problem)) => Outcome::Failed {
            problem: problem.clone(),
            result: json,
            release_key: release_key && problem.retryable,
        },
        _ => Outcome::Succeeded { result: json },
    }
}

/// The problem with which a failed invocation is answered, if it failed.
fn failure(result: &ResultDocument) -> Option<Refusal> {
    result.error.clone().map(Refusal::from)
}

/// Logs an attempt whose end changed nothing: another one has taken its place.
pub(crate) fn note_fenced(id: InvocationId, finished: &Finished) {
    if matches!(finished, Finished::Fenced) {
        tracing::info!(invocation = %id, "an attempt ended after its job had been taken from it; its outcome was dropped");
    }
}
