//! Pattern 1, `sync`: the response is the result.
//!
//! Nothing is stored unless an `Idempotency-Key` is sent: then the first result is durable before it is answered. Past the
//! deadline: 504, or with `overflow = "async"` or `Prefer: wait=N` the work goes on as a job and the answer is 202. A client
//! that goes away cancels its work, unless a key was sent, with which it can come back for the result.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_model::config::Overflow;
use linkspan_model::{Code, Problem, ResultDocument};

use super::r#async::{key_reused, new_job, reply, result_of};
use super::{Arrival, Reply, failure, final_outcome, note_fenced, to_json};
use crate::admission::{Place, Ticket};
use crate::gateway::Gateway;
use crate::http::prefer::Prefer;
use crate::integration::Integration;
use crate::logging;
use crate::refusal::Refusal;
use crate::runner;
use crate::store::{
    Attempt, AttemptEnd, Detach, Enqueued, Finished, Job, Outcome, Start, StoreError, signed,
};

/// How long a call is held, and what happens then.
#[derive(Clone, Debug)]
struct Patience {
    deadline: Duration,
    overflow: Overflow,
    /// The value of `Preference-Applied`.
    applied: Option<String>,
}

impl Patience {
    /// The integration's, but for a client that prefers `wait=N`: that one takes a 202 after N seconds.
    fn of(integration: &Integration, prefer: Prefer) -> Self {
        match prefer.wait {
            None => Self {
                deadline: integration.deadline,
                overflow: integration.overflow,
                applied: None,
            },
            Some(wait) => Self {
                deadline: integration.deadline.min(wait),
                overflow: Overflow::Async,
                applied: Prefer::applied(false, Some(wait)),
            },
        }
    }
}

/// Answers an invocation with its result.
///
/// # Errors
///
/// The queue is full, the deadline passed, a step failed, or the idempotency key does not allow it.
pub async fn invoke(
    gateway: &Arc<Gateway>,
    integration: &Arc<Integration>,
    arrival: Arrival,
) -> Result<Reply, Refusal> {
    let ticket = integration
        .gate
        .join()
        .ok_or_else(|| queue_full(integration))?;
    let patience = Patience::of(integration, arrival.prefer);
    let applied = patience.applied.clone();
    let (gateway, integration) = (gateway.clone(), integration.clone());
    let answer = if arrival.idempotency_key.is_some() {
        let work = keyed(gateway.clone(), integration, arrival, ticket, patience);
        outliving(&gateway, work).await
    } else if patience.overflow == Overflow::Async {
        overflowing(gateway, integration, arrival, ticket, patience).await
    } else {
        answer_only(&integration, arrival, ticket).await
    };
    answer.map(|reply| reply.applying(applied))
}

/// Refuses a call for which there is no place now.
///
/// # Errors
///
/// The queue is full.
pub fn admits(integration: &Integration) -> Result<(), Refusal> {
    if integration.gate.is_full() {
        return Err(queue_full(integration));
    }
    Ok(())
}

fn queue_full(integration: &Integration) -> Refusal {
    Refusal::new(
        Code::Overloaded,
        format!(
            "the integration {} is at its concurrency, and {} calls wait already; that is its queue",
            integration.name, integration.queue
        ),
    )
}

/// Runs in a task of its own what must go on when the connection ends. The drain waits for it.
async fn outliving(
    gateway: &Gateway,
    work: impl Future<Output = Result<Reply, Refusal>> + Send + 'static,
) -> Result<Reply, Refusal> {
    gateway.tasks.spawn(work).await.unwrap_or_else(|error| {
        Err(if error.is_panic() {
            Refusal::new(
                Code::Internal,
                "the gateway met a fault of its own; it is logged under this request_id",
            )
        } else {
            stopping()
        })
    })
}

/// No key, no overflow: nothing outlives the call, and dropping it cancels the work.
async fn answer_only(
    integration: &Integration,
    arrival: Arrival,
    ticket: Ticket,
) -> Result<Reply, Refusal> {
    let request = arrival.to_request();
    let work = async {
        let _place = ticket.enter().await;
        integration.pipeline.run(arrival.id, &request).await
    };
    match tokio::time::timeout(integration.deadline, work).await {
        Ok(result) => answer(&result),
        Err(_) => Err(deadline_exceeded(integration)),
    }
}

/// Overflow without a key: cancelled when the client goes away before the deadline, a job after it.
async fn overflowing(
    gateway: Arc<Gateway>,
    integration: Arc<Integration>,
    arrival: Arrival,
    ticket: Ticket,
    patience: Patience,
) -> Result<Reply, Refusal> {
    let arrival = Arc::new(arrival);
    let mut work = Box::pin(work(integration.clone(), arrival.clone(), ticket));
    if let Ok((result, _place)) = tokio::time::timeout(patience.deadline, &mut work).await {
        return answer(&result);
    }
    let tasks = gateway.clone();
    outliving(&tasks, async move {
        let (document, request) = arrival.incoming.keep().await?;
        let start = Some(start(&gateway, false));
        let job = new_job(&arrival, &integration, document, request, start);
        match gateway.enqueue(job).await? {
            Enqueued::Created {
                job,
                attempt: Some(attempt),
            } => {
                runner::adopt(&gateway, &integration, &job, attempt, work);
                accepted(job)
            }
            Enqueued::Created { job, attempt: None } | Enqueued::Existing(job) => accepted(job),
            Enqueued::KeyMismatch => Err(key_reused()),
        }
    })
    .await
}

/// With a key: a job holds the key from the start, and its result is durable before it is answered.
async fn keyed(
    gateway: Arc<Gateway>,
    integration: Arc<Integration>,
    arrival: Arrival,
    ticket: Ticket,
    patience: Patience,
) -> Result<Reply, Refusal> {
    let held = new_job(
        &arrival,
        &integration,
        None,
        "{}".to_owned(),
        Some(start(&gateway, true)),
    );
    let (job, attempt) = match gateway.enqueue(held).await? {
        Enqueued::Created {
            job,
            attempt: Some(attempt),
        } => (job, attempt),
        Enqueued::Created { job, attempt: None } => return accepted(job),
        Enqueued::Existing(job) => {
            return existing(&gateway, patience.overflow, job, arrival.prefer).await;
        }
        Enqueued::KeyMismatch => return Err(key_reused()),
    };
    let lease = runner::hold(&gateway, attempt);
    let arrival = Arc::new(arrival);
    let mut work = Box::pin(work(integration.clone(), arrival.clone(), ticket));
    let worked = tokio::select! {
        biased;
        () = runner::taken_away(&lease) => return Err(taken_away()),
        worked = tokio::time::timeout(patience.deadline, &mut work) => worked,
        () = gateway.abandon.cancelled() => {
            give_up(&gateway, attempt).await;
            return Err(stopping());
        }
    };
    match worked {
        Ok((result, _place)) => {
            let json = to_json(&result)?;
            let outcome = final_outcome(&result, json.clone(), true);
            finish(&gateway, attempt, outcome).await?;
            drop(lease);
            match failure(&result) {
                Some(refusal) => Err(refusal),
                None => Ok(Reply::Result {
                    id: job.id,
                    json,
                    replayed: false,
                    applied: None,
                }),
            }
        }
        Err(_) if patience.overflow == Overflow::Async => {
            match detach(&gateway, &arrival, attempt).await {
                Ok(Finished::Done(job)) => {
                    drop(lease);
                    runner::adopt(&gateway, &integration, &job, attempt, work);
                    accepted(job)
                }
                Ok(Finished::Fenced) => Err(taken_away()),
                Err(error) => {
                    give_up(&gateway, attempt).await;
                    Err(error.into())
                }
            }
        }
        Err(_) => {
            drop(work);
            let problem = Problem::new(Code::DeadlineExceeded, deadline_detail(&integration));
            let result = ResultDocument::failed(arrival.id, &integration.name, problem.clone());
            let outcome = final_outcome(&result, to_json(&result)?, true);
            finish(&gateway, attempt, outcome).await?;
            drop(lease);
            Err(problem.into())
        }
    }
}

/// The whole work of a call; its parts are held to the end.
async fn work(
    integration: Arc<Integration>,
    arrival: Arc<Arrival>,
    ticket: Ticket,
) -> (ResultDocument, Place) {
    let request = arrival.to_request();
    let place = ticket.enter().await;
    // Past the deadline the work may be a job's attempt, with the time limit of one.
    let limit = integration.attempt_time_limit.max(integration.deadline);
    let result = runner::run_within(&integration, limit, arrival.id, &request).await;
    (result, place)
}

fn start(gateway: &Gateway, held: bool) -> Start {
    Start {
        owner: gateway.owner.clone(),
        lease: signed(gateway.config.store.lease),
        held,
    }
}

/// The key was used with the same request before.
async fn existing(
    gateway: &Gateway,
    overflow: Overflow,
    job: Job,
    prefer: Prefer,
) -> Result<Reply, Refusal> {
    if job.state.is_terminal() {
        return result_of(gateway, job, true, None).await;
    }
    // A job that goes on without a connection was answered 202, and is again where this call may overflow too.
    if !job.held && overflow == Overflow::Async {
        return reply(gateway, job, prefer).await;
    }
    Err(Refusal::new(
        Code::InProgress,
        "a request with this Idempotency-Key is still running; send it again in a moment for its result",
    ))
}

/// Ends a held attempt, if it is still this call's.
async fn finish(gateway: &Gateway, attempt: Attempt, outcome: Outcome) -> Result<(), Refusal> {
    let end = AttemptEnd {
        attempt,
        outcome,
        deliveries: Vec::new(), // the response is the delivery
        now: Timestamp::now(),
    };
    let finished = gateway.store.finish(end).await?;
    note_fenced(attempt.id, &finished);
    match finished {
        Finished::Done(_) => Ok(()),
        // Its result is nowhere stored: answered, the same key would bring another one later.
        Finished::Fenced => Err(taken_away()),
    }
}

/// Makes a held attempt an ordinary job, with its document.
async fn detach(
    gateway: &Gateway,
    arrival: &Arrival,
    attempt: Attempt,
) -> Result<Finished, StoreError> {
    let (document, request) = arrival.incoming.keep().await?;
    let detach = Detach {
        attempt,
        document,
        request,
        now: Timestamp::now(),
    };
    gateway.store.detach(detach).await
}

/// Ends a held attempt that comes to nothing, and frees its key. Where the store refuses this too, recovery does it when the
/// lease is over.
async fn give_up(gateway: &Gateway, attempt: Attempt) {
    let end = AttemptEnd {
        attempt,
        outcome: Outcome::Cancelled,
        deliveries: Vec::new(), // the response is the delivery
        now: Timestamp::now(),
    };
    if let Err(error) = gateway.store.finish(end).await {
        tracing::warn!(invocation = %attempt.id, error = logging::chain(&error), "an attempt's end cannot be stored");
    }
}

fn taken_away() -> Refusal {
    Refusal::new(
        Code::WrongState,
        "the request's job was cancelled or deleted while it ran; send the request again with a new Idempotency-Key",
    )
}

fn stopping() -> Refusal {
    Refusal::new(
        Code::ShuttingDown,
        "the gateway is stopping; send the request again",
    )
}

fn answer(result: &ResultDocument) -> Result<Reply, Refusal> {
    match failure(result) {
        Some(refusal) => Err(refusal),
        None => Ok(Reply::Result {
            id: result.id,
            json: to_json(result)?,
            replayed: false,
            applied: None,
        }),
    }
}

fn accepted(job: Job) -> Result<Reply, Refusal> {
    Ok(Reply::Accepted {
        job: Box::new(job),
        applied: None,
    })
}

fn deadline_detail(integration: &Integration) -> String {
    format!(
        "the integration {} did not answer within its deadline of {:?}; send Prefer: respond-async, or set overflow = \"async\"",
        integration.name, integration.deadline
    )
}

fn deadline_exceeded(integration: &Integration) -> Refusal {
    Refusal::new(Code::DeadlineExceeded, deadline_detail(integration))
}
