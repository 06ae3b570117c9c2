//! Pattern 2, `async`: accept now, answer later.
//!
//! Accept means durable: 202 is answered only after the job and its document are on disk. Jobs are attempted at least once;
//! an attempt's start is durable before an engine is called. No order holds across jobs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_model::{Code, JobState};

use super::{Arrival, Reply};
use crate::gateway::Gateway;
use crate::http::prefer::Prefer;
use crate::integration::Integration;
use crate::refusal::Refusal;
use crate::store::{Enqueued, Idempotency, Job, NewJob, Start};

/// Accepts an invocation as a job, and waits for its end where the client prefers to.
///
/// # Errors
///
/// Nothing was accepted: too much waits, the store does not accept, or the idempotency key was used with another request. Or, after
/// a wait: the job's own problem.
pub async fn submit(
    gateway: &Arc<Gateway>,
    integration: &Arc<Integration>,
    arrival: Arrival,
) -> Result<Reply, Refusal> {
    admits(integration)?;
    let (document, request) = arrival.incoming.keep().await?;
    let job = new_job(&arrival, integration, document, request, None);
    let job = match gateway.enqueue(job).await? {
        Enqueued::Created { job, .. } => {
            integration.job_accepted();
            job
        }
        Enqueued::Existing(job) => job,
        Enqueued::KeyMismatch => return Err(key_reused()),
    };
    reply(gateway, job, arrival.prefer).await
}

/// Refuses a job that would wait behind too many.
///
/// # Errors
///
/// The backlog is full.
pub fn admits(integration: &Integration) -> Result<(), Refusal> {
    if !integration.accepts_another_job() {
        return Err(Refusal::new(
            Code::Overloaded,
            format!(
                "{} jobs of the integration {} wait already; that is its backlog",
                integration.backlog, integration.name
            ),
        ));
    }
    Ok(())
}

/// Answers with a job: at once, or after a wait where the client prefers one.
pub(super) async fn reply(gateway: &Gateway, job: Job, prefer: Prefer) -> Result<Reply, Refusal> {
    let Some(wait) = prefer.wait else {
        let applied = Prefer::applied(prefer.respond_async, None);
        return Ok(Reply::Accepted {
            job: Box::new(job),
            applied,
        });
    };
    let applied = Prefer::applied(prefer.respond_async, Some(wait));
    let job = wait_for_end(gateway, job, wait).await?;
    match job.state {
        JobState::Succeeded | JobState::Failed | JobState::Expired | JobState::Cancelled => {
            result_of(gateway, job, false, applied).await
        }
        JobState::Queued | JobState::Running | JobState::Waiting => Ok(Reply::Accepted {
            job: Box::new(job),
            applied,
        }),
    }
}

/// The result of a job that has ended.
///
/// # Errors
///
/// The job's problem; 410 where its result has expired; 409 where it has none (yet, or because it was cancelled).
pub async fn result_of(
    gateway: &Gateway,
    job: Job,
    replayed: bool,
    applied: Option<String>,
) -> Result<Reply, Refusal> {
    match job.state {
        JobState::Succeeded => match gateway.store.result(job.id).await? {
            Some(json) => Ok(Reply::Result {
                id: job.id,
                json,
                replayed,
                applied,
            }),
            None => Err(expired()),
        },
        JobState::Failed => Err(final_problem(job)),
        JobState::Expired => Err(expired()),
        JobState::Cancelled => Err(Refusal::new(
            Code::WrongState,
            "the job was cancelled; retry it to have a result",
        )),
        JobState::Queued | JobState::Running | JobState::Waiting => Err(Refusal::new(
            Code::NotReady,
            format!(
                "the job is {}; ask again, or send Prefer: wait=30",
                job.state
            ),
        )),
    }
}

/// Why a job failed, for whoever asks for its result: asking again changes nothing, also where the failure itself could have passed.
fn final_problem(job: Job) -> Refusal {
    let Some(mut problem) = job.problem else {
        return Refusal::new(Code::Internal, "the job failed and its reason is lost");
    };
    if problem.retryable {
        problem.retryable = false;
        problem.detail = format!(
            "{}; the job has failed for good after {} attempts, POST /v1/jobs/{}/retry runs it again",
            problem.detail, job.attempts, job.id
        );
    }
    problem.into()
}

/// A job as the store takes it.
pub(super) fn new_job(
    arrival: &Arrival,
    integration: &Integration,
    document: Option<crate::store::DocumentRef>,
    request: String,
    start: Option<Start>,
) -> NewJob {
    // As fine as the store keeps it, so that the 202 and later reads say the same time.
    let now = Timestamp::now();
    let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    NewJob {
        id: arrival.id,
        integration: integration.name.clone(),
        caller: arrival.caller.name.clone(),
        document,
        request,
        request_id: arrival.ids.request_id.clone(),
        traceparent: Some(arrival.ids.trace.to_string()),
        idempotency: arrival.idempotency_key.as_ref().map(|key| Idempotency {
            key: key.clone(),
            fingerprint: arrival.incoming.fingerprint(),
            expires: now + integration.idempotency_ttl,
        }),
        start,
        max_attempts: integration.attempts,
        due: now,
        keep: integration.retention,
        now,
    }
}

pub(super) fn key_reused() -> Refusal {
    Refusal::new(
        Code::KeyReused,
        "this Idempotency-Key was used with another request; use a new key for a new request",
    )
}

fn expired() -> Refusal {
    Refusal::new(
        Code::Expired,
        "the result has outlived its retention and was removed",
    )
}

/// Waits until a job has ended or the time is over; gives the job as it then is.
async fn wait_for_end(gateway: &Gateway, job: Job, wait: Duration) -> Result<Job, Refusal> {
    let mut watch = gateway.store.watchers().watch(job.id);
    let end = tokio::time::Instant::now() + wait;
    let id = job.id;
    loop {
        let latest = gateway.store.get(id).await?.ok_or_else(|| {
            Refusal::new(
                Code::NotFound,
                "the job was deleted while you waited for it",
            )
        })?;
        if latest.state.is_terminal() || !gateway.waited(end, watch.changed()).await {
            return Ok(latest);
        }
    }
}
