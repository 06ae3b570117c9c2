//! The runner: claims due jobs where places are free, runs them in attempts, and keeps their leases.
//!
//! An attempt's start is durable before its engine is called; its end carries the attempt's fencing token. What was cut off (a
//! kill, a lost lease) is tried again after a wait, up to the job's attempts.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use linkspan_model::{Code, InvocationId, JobState, Problem, ResultDocument, Status};
use tokio_util::sync::CancellationToken;

use crate::admission::Place;
use crate::gateway::Gateway;
use crate::integration::Integration;
use crate::logging;
use crate::patterns::{final_outcome, note_fenced, to_json};
use crate::pipeline::Request;
use crate::request::{self, OfJobError};
use crate::store::{
    Attempt, AttemptEnd, Claim, Claimed, DocumentRef, Finished, Job, LocalBlob, NewDelivery,
    Outcome, Places, Recover, StoreError, signed,
};
use crate::streaming;

/// How long the runner sleeps at most when nothing tells it of work: other gateways on the same store do not.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The attempts that this gateway runs, with what stops each.
#[derive(Debug, Default)]
pub struct InFlight(Mutex<HashMap<Attempt, CancellationToken>>);

/// An attempt that this gateway holds: its lease is renewed until this is dropped.
#[derive(Debug)]
pub struct Held {
    gateway: Arc<Gateway>,
    attempt: Attempt,
    lost: CancellationToken,
}

impl InFlight {
    fn attempts(&self) -> MutexGuard<'_, HashMap<Attempt, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many attempts are under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.attempts().len()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gateway.in_flight.attempts().remove(&self.attempt);
    }
}

/// Holds an attempt: renews its lease until the answer is dropped.
#[must_use]
pub fn hold(gateway: &Arc<Gateway>, attempt: Attempt) -> Held {
    let lost = CancellationToken::new();
    gateway.in_flight.attempts().insert(attempt, lost.clone());
    Held {
        gateway: gateway.clone(),
        attempt,
        lost,
    }
}

/// Takes over work that is under way as a job's attempt, and ends it durably. The work's other output is held to its end.
pub fn adopt<T: Send + 'static>(
    gateway: &Arc<Gateway>,
    integration: &Arc<Integration>,
    job: &Job,
    attempt: Attempt,
    work: impl Future<Output = (ResultDocument, T)> + Send + 'static,
) {
    let held = hold(gateway, attempt);
    let integration = integration.clone();
    let attempts = job.attempts;
    gateway.tasks.spawn(async move {
        let work = async {
            let (result, _held) = work.await;
            result
        };
        conclude(held, &integration, attempts, work).await;
    });
}

/// Runs jobs until the gateway stops. Waits for no attempt: [`Gateway::drain`] does.
pub async fn run(gateway: Arc<Gateway>) {
    loop {
        let sleep = match claim(&gateway).await {
            Ok(sleep) => sleep,
            Err(error) => {
                tracing::warn!(error = logging::chain(&error), "no jobs can be claimed");
                error.kind.retry_after().unwrap_or(LONGEST_SLEEP)
            }
        };
        let woken = async {
            tokio::select! {
                () = gateway.store.watchers().work() => {}
                () = gateway.place_freed.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        };
        if gateway.stop.run_until_cancelled(woken).await.is_none() {
            return;
        }
    }
}

/// Starts what is due where places are free; says how long nothing more is due.
async fn claim(gateway: &Arc<Gateway>) -> Result<Duration, StoreError> {
    let mut places: HashMap<String, Vec<Place>> = gateway
        .integrations
        .values()
        .map(|integration| {
            (
                integration.name.clone(),
                integration.gate.take(integration.concurrency),
            )
        })
        .filter(|(_, places)| !places.is_empty())
        .collect();
    if places.is_empty() {
        return Ok(LONGEST_SLEEP); // a freed place wakes the runner
    }
    let now = Timestamp::now();
    let claims = gateway
        .store
        .claim(Claim {
            owner: gateway.owner.clone(),
            places: places
                .iter()
                .map(|(integration, places)| Places {
                    integration: integration.clone(),
                    limit: u32::try_from(places.len()).unwrap_or(u32::MAX),
                })
                .collect(),
            lease: signed(gateway.config.store.lease),
            now,
        })
        .await?;
    for claimed in claims.claimed {
        let place = places.get_mut(&claimed.job.integration).and_then(Vec::pop);
        let integration = gateway.integrations.get(&claimed.job.integration).cloned();
        let (Some(mut place), Some(integration)) = (place, integration) else {
            tracing::error!(invocation = %claimed.job.id, "the store started a job for which there is no place; it is tried again when its lease is over");
            continue;
        };
        place.occupy();
        integration.job_started();
        gateway
            .tasks
            .spawn(attempt(gateway.clone(), integration, claimed, place));
    }
    let until_next = claims
        .next
        .and_then(|next| Duration::try_from(next.duration_since(Timestamp::now())).ok());
    // More is due than there were places: a freed place wakes the runner. Those that were not needed must not: it would go round
    // for nothing.
    places.into_values().flatten().for_each(Place::give_back);
    Ok(until_next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP))
}

async fn attempt(
    gateway: Arc<Gateway>,
    integration: Arc<Integration>,
    claimed: Claimed,
    place: Place,
) {
    let Claimed {
        job,
        attempt,
        document,
        request,
    } = claimed;
    let held = hold(&gateway, attempt);
    let work = async {
        match fetch(&gateway, &integration.name, &request, document.as_ref()).await {
            Ok((request, _local)) => {
                let request = Request {
                    traceparent: job.traceparent.clone(),
                    ..request
                };
                let limit = integration.attempt_time_limit;
                run_within(&integration, limit, job.id, &request).await
            }
            Err(problem) => ResultDocument::failed(job.id, &integration.name, problem),
        }
    };
    conclude(held, &integration, job.attempts, work).await;
    drop(place);
}

/// The request of a job, with its document's file. Waits for a store that can be asked again: its being away is no fault of the job's,
/// and uses up none of its attempts.
async fn fetch(
    gateway: &Gateway,
    integration: &str,
    request: &str,
    document: Option<&DocumentRef>,
) -> Result<(Request, Option<LocalBlob>), Problem> {
    loop {
        let error = match request::of_job(request, document, &*gateway.blobs).await {
            Ok((request, None, local)) => return Ok((request, local)),
            Ok((request, Some(record), local)) => {
                let document = request.document;
                let request = streaming::again(gateway, integration, record, document).await?;
                if let Some(integration) = gateway.integrations.get(integration) {
                    integration.pipeline.check(&request)?;
                }
                return Ok((request, local));
            }
            Err(OfJobError::Unfit(problem)) => return Err(problem),
            Err(OfJobError::Store(error)) => error,
        };
        tracing::warn!(
            error = logging::chain(&error),
            "a job's document cannot be had"
        );
        match error.kind.retry_after() {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(Problem::new(Code::StoreUnavailable, error.to_string())),
        }
    }
}

/// Takes an integration's steps, for so long.
pub(crate) async fn run_within(
    integration: &Integration,
    limit: Duration,
    id: InvocationId,
    request: &Request,
) -> ResultDocument {
    let run = integration.pipeline.run(id, request);
    tokio::time::timeout(limit, run).await.unwrap_or_else(|_| {
        // A document that takes this long would take it again: not retried.
        let problem = Problem::new(
            Code::EngineTimeout,
            format!(
                "the attempt took longer than {limit:?}; raise the integration's attempt_time_limit, or send less"
            ),
        );
        ResultDocument::failed(id, &integration.name, problem)
    })
}

/// Waits for an attempt's work, and ends the attempt durably.
async fn conclude(
    held: Held,
    integration: &Integration,
    attempts: u32,
    work: impl Future<Output = ResultDocument>,
) {
    let gateway = held.gateway.clone();
    let start = Instant::now();
    let (outcome, deliveries) = tokio::select! {
        biased;
        () = taken_away(&held) => return, // cancelled, deleted, or another's: dropping the work stops it
        ended = async { end(&gateway, integration, attempts, work.await).await } => ended,
        () = gateway.abandon.cancelled() => (Outcome::Released, Vec::new()),
    };
    let outcome_name = match &outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Failed { .. } => "failed",
        Outcome::Retry { .. } => "retried",
        Outcome::Cancelled => "cancelled",
        Outcome::Released => "released",
    };
    gateway
        .metrics
        .invocation(&integration.name, "async", outcome_name);
    match outcome {
        Outcome::Succeeded { .. } => integration.recent.note(start.elapsed(), false),
        Outcome::Failed { .. } | Outcome::Retry { .. } => {
            integration.recent.note(start.elapsed(), true);
        }
        Outcome::Cancelled | Outcome::Released => {}
    }
    loop {
        let end = AttemptEnd {
            attempt: held.attempt,
            outcome: outcome.clone(),
            deliveries: deliveries.clone(),
            now: Timestamp::now(),
        };
        match gateway.store.finish(end).await {
            Ok(finished) => {
                note_fenced(held.attempt.id, &finished);
                if let (Finished::Done(_), Outcome::Released | Outcome::Retry { .. }) =
                    (&finished, &outcome)
                {
                    integration.job_accepted();
                }
                return;
            }
            Err(error) => {
                tracing::warn!(invocation = %held.attempt.id, error = logging::chain(&error), "an attempt's end cannot be stored");
                let Some(wait) = error.kind.retry_after() else {
                    return; // recovery after the restart runs the job again
                };
                if gateway
                    .abandon
                    .run_until_cancelled(tokio::time::sleep(wait))
                    .await
                    .is_none()
                {
                    return;
                }
            }
        }
    }
}

/// Resolves when the attempt is no longer this gateway's.
pub(crate) async fn taken_away(held: &Held) {
    let mut watch = held.gateway.store.watchers().watch(held.attempt.id);
    let ended = async {
        // Held attempts change no state but by their own end, so any other state comes from outside.
        while watch.changed().await.state == Some(JobState::Running) {}
    };
    tokio::select! {
        () = ended => {}
        () = held.lost.cancelled() => {}
    }
}

/// What becomes of a job after an attempt, and the deliveries of its result where it has one.
async fn end(
    gateway: &Gateway,
    integration: &Integration,
    attempts: u32,
    result: ResultDocument,
) -> (Outcome, Vec<NewDelivery>) {
    let problem = result.error.clone();
    if let (Status::Failed, Some(problem)) = (result.status, problem)
        && problem.retryable
        && attempts < integration.attempts
    {
        let wait = integration.backoff.jittered(attempts);
        let due = Timestamp::now() + signed(wait);
        return (Outcome::Retry { due, problem }, Vec::new());
    }
    let (result, outcome) = match to_json(&result) {
        Ok(json) => {
            let outcome = final_outcome(&result, json, false);
            (result, outcome)
        }
        Err(_) => {
            let problem = Problem::new(Code::Internal, "the result cannot be written as JSON");
            let failed = ResultDocument::failed(result.id, &integration.name, problem.clone());
            tracing::error!(invocation = %result.id, owner = gateway.owner, "a result cannot be written");
            let outcome = Outcome::Failed {
                problem,
                result: serde_json::to_string(&failed).unwrap_or_default(),
                release_key: false,
            };
            (failed, outcome)
        }
    };
    let deliveries = gateway.deliveries.outbox(&result, Timestamp::now()).await;
    (outcome, deliveries)
}

/// Renews the leases of what is under way, until the last of it has ended after the stop.
pub async fn keep_leases(gateway: Arc<Gateway>) {
    let lease = gateway.config.store.lease;
    while gateway
        .closed
        .run_until_cancelled(tokio::time::sleep(lease / 3))
        .await
        .is_some()
    {
        let attempts: Vec<_> = gateway.in_flight.attempts().keys().copied().collect();
        if attempts.is_empty() {
            continue;
        }
        match gateway
            .store
            .renew(attempts, signed(lease), Timestamp::now())
            .await
        {
            Ok(lost) => {
                let in_flight = gateway.in_flight.attempts();
                for attempt in lost {
                    if let Some(token) = in_flight.get(&attempt) {
                        token.cancel();
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = logging::chain(&error), "leases cannot be renewed");
            }
        }
    }
}

/// Takes jobs away from attempts that are dead.
///
/// # Errors
///
/// Nothing was recovered.
pub async fn recover(gateway: &Gateway, all: bool) -> Result<(), StoreError> {
    let backoffs: HashMap<_, _> = gateway
        .integrations
        .values()
        .map(|integration| (integration.name.clone(), integration.backoff))
        .collect();
    let default = crate::backoff::Backoff {
        first: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };
    let deliveries = gateway.deliveries.clone();
    let now = Timestamp::now();
    let recovered = gateway
        .store
        .recover(Recover {
            all,
            backoff: Arc::new(move |job| {
                let backoff = backoffs.get(&job.integration).copied().unwrap_or(default);
                signed(backoff.jittered(job.attempts.max(1)))
            }),
            outbox: Arc::new(move |result| {
                let deliveries = deliveries.clone();
                Box::pin(async move { deliveries.outbox(&result, now).await })
            }),
            now,
        })
        .await?;
    if recovered.waiting + recovered.failed > 0 {
        tracing::info!(
            waiting = recovered.waiting,
            failed = recovered.failed,
            "recovered jobs whose attempts were cut off"
        );
    }
    Ok(())
}
