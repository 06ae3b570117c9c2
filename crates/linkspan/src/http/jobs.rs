//! Jobs over HTTP: state with long polling, result, cancel, retry, delete and the listing.

use std::time::Duration;

use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use linkspan_model::{Code, InvocationId, JobState, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers;
use super::prefer::Prefer;
use super::segment::Segment;
use super::session::Session;
use crate::keys::Action;
use crate::patterns::r#async::result_of;
use crate::refusal::Refusal;
use crate::store::{Command, Commanded, Filter, Job};

/// A job as callers see it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobView {
    /// The invocation's id.
    pub id: InvocationId,
    /// The integration that was invoked.
    pub integration: String,
    /// Where it stands.
    pub state: JobState,
    /// Attempts started.
    pub attempts: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// When it was accepted (RFC 3339).
    #[schemars(with = "String")]
    pub created: Timestamp,
    /// When it changed last.
    #[schemars(with = "String")]
    pub updated: Timestamp,
    /// When its latest attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub finished: Option<Timestamp>,
    /// When the next attempt starts, of a waiting job.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub next_attempt: Option<Timestamp>,
    /// When its result and document are erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires: Option<Timestamp>,
    /// Why the latest attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// The trace that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Where to go from here.
    pub links: JobLinks,
}

/// A job's own addresses.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobLinks {
    /// The job.
    #[serde(rename = "self")]
    pub this: String,
    /// Its result.
    pub result: String,
    /// Its events.
    pub events: String,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let this = format!("/v1/jobs/{}", job.id);
        Self {
            id: job.id,
            integration: job.integration,
            state: job.state,
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            created: job.created,
            updated: job.updated,
            started: job.started,
            finished: job.finished,
            next_attempt: (job.state == JobState::Waiting).then_some(job.due),
            expires: job.expires,
            error: job.problem,
            traceparent: job.traceparent,
            links: JobLinks {
                result: format!("{this}/result"),
                events: format!("{this}/events"),
                this,
            },
        }
    }
}

/// A page of jobs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobsPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobView>,
    /// The value of `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<InvocationId>,
}

pub(super) async fn show(
    session: Session,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let prefer = Prefer::of(&headers, session.gateway.config.limits.max_wait);
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let mut job = session.job(&id).await?;
    let mut applied = None;
    if let Some(wait) = prefer.wait {
        applied = Prefer::applied(false, Some(wait));
        // Whoever says what it knows waits for anything else; whoever does not, for a change from now.
        let known = known.clone().unwrap_or_else(|| etag(&job));
        job = until_changed(&session, job, &known, wait).await?;
    }
    let tag = etag(&job);
    let mut response = if known.is_some_and(|known| matches_tag(&known, &tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        axum::Json(JobView::from(job)).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(value) = applied.and_then(|applied| HeaderValue::from_str(&applied).ok()) {
        headers.insert(HeaderName::from_static("preference-applied"), value);
    }
    Ok(response)
}

pub(super) async fn result(
    session: Session,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let prefer = Prefer::of(&headers, session.gateway.config.limits.max_wait);
    let mut job = session.job(&id).await?;
    let end = tokio::time::Instant::now() + prefer.wait.unwrap_or_default();
    let mut watch = session.gateway.store.watchers().watch(job.id);
    while prefer.wait.is_some() && !job.state.is_terminal() {
        job = session.job(&id).await?;
        if job.state.is_terminal() || !session.gateway.waited(end, watch.changed()).await {
            break;
        }
    }
    let applied = Prefer::applied(false, prefer.wait);
    result_of(&session.gateway, job, false, applied)
        .await
        .map(IntoResponse::into_response)
}

pub(super) async fn cancel(session: Session, Segment(id): Segment) -> Result<Response, Refusal> {
    command(session, &id, Command::Cancel).await
}

pub(super) async fn retry(session: Session, Segment(id): Segment) -> Result<Response, Refusal> {
    command(session, &id, Command::Retry).await
}

pub(super) async fn delete(session: Session, Segment(id): Segment) -> Result<Response, Refusal> {
    command(session, &id, Command::Delete).await
}

async fn command(session: Session, id: &str, command: Command) -> Result<Response, Refusal> {
    let job = session.job(id).await?;
    let done = session
        .gateway
        .store
        .command(job.id, command, layers::actor(), Timestamp::now())
        .await?;
    match done {
        Commanded::Done(job) => Ok(axum::Json(JobView::from(job)).into_response()),
        Commanded::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        Commanded::WrongState(job) => Err(Refusal::new(
            Code::WrongState,
            match command {
                Command::Cancel => format!(
                    "the job is {}; only queued, running and waiting jobs can be cancelled",
                    job.state
                ),
                Command::Retry => format!(
                    "the job is {}; only failed and cancelled jobs whose document was stored can be retried",
                    job.state
                ),
                Command::Delete => format!("the job is {} and cannot be deleted", job.state),
            },
        )),
        Commanded::NotFound => Err(Refusal::new(
            Code::NotFound,
            "no such job, or it is not yours",
        )),
    }
}

/// The query of the listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    integration: Option<String>,
    state: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn list(
    session: Session,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    session.must(Action::Read)?;
    let bad = |detail: String| Refusal::new(Code::BadRequest, detail);
    let Query(query) = query.map_err(|_| {
        bad("the query takes integration, state, after and limit (a number)".to_owned())
    })?;
    let state = query
        .state
        .map(|state| {
            state.parse::<JobState>().map_err(|_| {
                let states: Vec<_> = JobState::ALL.iter().map(|state| state.name()).collect();
                bad(format!(
                    "state: {state:?} is not a state; the states are {}",
                    states.join(", ")
                ))
            })
        })
        .transpose()?;
    let after = query
        .after
        .map(|after| {
            after
                .parse::<InvocationId>()
                .map_err(|_| bad("after: not a cursor; take it from the page before".to_owned()))
        })
        .transpose()?;
    let admin_here = match &query.integration {
        Some(integration) => session.caller.may(Action::Admin, integration),
        None => session.caller.is_admin(),
    };
    if let Some(integration) = &query.integration
        && !session.caller.may(Action::Read, integration)
    {
        return Err(Refusal::new(
            Code::Forbidden,
            format!("the key lacks the scope read or read:{integration}"),
        ));
    }
    let most = session.gateway.config.limits.max_page;
    let page = session
        .gateway
        .store
        .list(Filter {
            caller: (!admin_here).then(|| session.caller.name.clone()),
            integration: query.integration,
            state,
            after,
            limit: query.limit.unwrap_or(50).clamp(1, most),
            ..Filter::default()
        })
        .await?;
    let jobs = page
        .jobs
        .into_iter()
        // A key for one integration sees no other's jobs, also its own.
        .filter(|job| session.caller.may(Action::Read, &job.integration))
        .map(JobView::from)
        .collect();
    Ok(axum::Json(JobsPage {
        jobs,
        next: page.next,
    })
    .into_response())
}

/// The job's entity tag: its version.
pub(super) fn etag(job: &Job) -> String {
    format!("\"v{}\"", job.version)
}

/// Weak comparison (RFC 9110 section 8.8.3.2) of `If-None-Match` with a tag.
fn matches_tag(known: &str, tag: &str) -> bool {
    known.trim() == "*"
        || known
            .split(',')
            .any(|one| one.trim().trim_start_matches("W/") == tag)
}

async fn until_changed(
    session: &Session,
    job: Job,
    known: &str,
    wait: Duration,
) -> Result<Job, Refusal> {
    let mut watch = session.gateway.store.watchers().watch(job.id);
    let end = tokio::time::Instant::now() + wait;
    let id = job.id.to_string();
    let mut latest = job;
    loop {
        if latest.state.is_terminal() || !matches_tag(known, &etag(&latest)) {
            return Ok(latest);
        }
        // Read after the watch was made, so that no change falls between.
        latest = session.job(&id).await?;
        if !matches_tag(known, &etag(&latest))
            || !session.gateway.waited(end, watch.changed()).await
        {
            return Ok(latest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches_tag;

    #[test]
    fn tags_compare_weakly_and_in_lists() {
        assert!(matches_tag("\"v3\"", "\"v3\""));
        assert!(matches_tag("\"v1\", W/\"v3\"", "\"v3\""));
        assert!(matches_tag("*", "\"v3\""));
        assert!(!matches_tag("\"v31\"", "\"v3\""));
    }
}
