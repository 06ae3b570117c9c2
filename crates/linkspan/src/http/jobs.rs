//! Jobs over HTTP: state with long polling, result, cancel, retry, delete and the listing.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts as _, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use linkspan_model::{Code, InvocationId, JobState, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers;
use super::link::{self, Link};
use super::prefer::Prefer;
use super::query::{self, Known, Words};
use super::segment::Segment;
use super::session::Session;
use crate::gateway::Gateway;
use crate::patterns::r#async::result_of;
use crate::refusal::Refusal;
use crate::store::{AttemptRecord, Command, Commanded, DocumentRef, Filter, Job, Sight};

/// A job as callers see it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobView {
    /// The invocation's id.
    pub id: InvocationId,
    /// The integration that was invoked.
    pub integration: String,
    /// Who invoked it.
    pub caller: String,
    /// The id of the request that made it.
    pub request_id: String,
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
    /// The latest attempts that ended, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<AttemptRecord>,
    /// The document that came with it, while it is kept; only where one job is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentView>,
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
    /// Its document.
    pub document: String,
    /// The deliveries of its result.
    pub deliveries: String,
}

/// A job's document, without its content.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DocumentView {
    /// The media type that its sender gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The file name that its sender gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Its size in bytes.
    pub size: u64,
}

impl From<DocumentRef> for DocumentView {
    fn from(document: DocumentRef) -> Self {
        Self {
            size: document.size(),
            media_type: document.media_type,
            file_name: document.file_name,
        }
    }
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let this = format!("/v1/jobs/{}", job.id);
        Self {
            id: job.id,
            integration: job.integration,
            caller: job.caller,
            request_id: job.request_id,
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
            history: job.history,
            document: None,
            links: JobLinks {
                result: format!("{this}/result"),
                events: format!("{this}/events"),
                document: format!("{this}/document"),
                deliveries: format!("/v1/deliveries?job={}", job.id),
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
        let document = session.gateway.store.document(job.id).await?;
        let view = JobView {
            document: document.map(DocumentView::from),
            ..JobView::from(job)
        };
        axum::Json(view).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, value);
    }
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    if let Some(value) = applied.and_then(|applied| HeaderValue::from_str(&applied).ok()) {
        headers.insert(HeaderName::from_static("preference-applied"), value);
    }
    Ok(response)
}

pub(super) async fn result(
    State(gateway): State<Arc<Gateway>>,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut parts, _) = request.into_parts();
    if let Some(link) = Link::of(parts.uri.query()) {
        return by_link(&gateway, &id, &link).await;
    }
    let session = Session::from_request_parts(&mut parts, &gateway).await?;
    let prefer = Prefer::of(&parts.headers, gateway.config.limits.max_wait);
    let mut job = session.job(&id).await?;
    let end = tokio::time::Instant::now() + prefer.wait.unwrap_or_default();
    let mut watch = gateway.store.watchers().watch(job.id);
    while prefer.wait.is_some() && !job.state.is_terminal() {
        job = session.job(&id).await?;
        if job.state.is_terminal() || !session.waited(end, watch.changed()).await? {
            break;
        }
    }
    let applied = Prefer::applied(false, prefer.wait);
    result_of(&gateway, job, false, applied)
        .await
        .map(IntoResponse::into_response)
}

/// The result of a job for whoever has a link to it, without a key.
async fn by_link(gateway: &Gateway, id: &str, link: &Link) -> Result<Response, Refusal> {
    let id: InvocationId = link.open(gateway, id)?;
    let job = gateway.store.get(id).await?.ok_or_else(|| {
        Refusal::new(
            Code::Expired,
            "the result has outlived its retention, or was deleted",
        )
    })?;
    let result = result_of(gateway, job, false, None).await;
    Ok(link::answered(result.map(IntoResponse::into_response)))
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
    session.may_change(&job.caller, &job.integration)?;
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
    caller: Option<String>,
    q: Option<String>,
    from: Option<String>,
    until: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

impl Words for ListQuery {
    const WORDS: &'static str =
        "integration, state, caller, q, from, until, after and limit (a number)";
}

pub(super) async fn list(
    session: Session,
    Known(query): Known<ListQuery>,
) -> Result<Response, Refusal> {
    let sight = session.sight(query.integration.as_deref())?;
    let stranger = |sight: &Sight| {
        let other = query.caller.as_ref().is_some_and(|it| *it != sight.caller);
        other && sight.whole.is_empty()
    };
    if sight.as_ref().is_some_and(stranger) {
        return Err(Refusal::new(
            Code::Forbidden,
            "caller: other callers' jobs are listed for administrators only",
        ));
    }
    let most = session.gateway.config.limits.max_page;
    let filter = Filter {
        sight,
        caller: query.caller,
        integration: query.integration,
        state: query::state(query.state.as_deref(), &JobState::ALL.map(JobState::name))?,
        request_id: query.q.clone(),
        from: query::time("from", query.from.as_deref())?,
        until: query::time("until", query.until.as_deref())?,
        after: query::cursor(query.after.as_deref())?,
        limit: query.limit.unwrap_or(50).clamp(1, most),
    };
    let mut page = session.gateway.store.list(filter.clone()).await?;
    // A request's id may look like a job's: both are looked for.
    let id = query.q.and_then(|q| q.parse::<InvocationId>().ok());
    if let Some(id) = id.filter(|_| filter.after.is_none())
        && let Some(job) = session.gateway.store.get(id).await?
        && session.sees(&job.caller, &job.integration)
        && fits(&job, &filter)
    {
        page.jobs.insert(0, job);
    }
    let jobs = page.jobs.into_iter().map(JobView::from).collect();
    Ok(axum::Json(JobsPage {
        jobs,
        next: page.next,
    })
    .into_response())
}

/// Whether a filter that names a job by its id lets it through.
fn fits(job: &Job, filter: &Filter) -> bool {
    let is = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|it| it == own);
    is(&filter.caller, &job.caller)
        && is(&filter.integration, &job.integration)
        && filter.state.is_none_or(|state| state == job.state)
        && filter.from.is_none_or(|from| job.created >= from)
        && filter.until.is_none_or(|until| job.created < until)
        // Listed already where its request has the same id.
        && filter.request_id.as_ref() != Some(&job.request_id)
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
        if !matches_tag(known, &etag(&latest)) || !session.waited(end, watch.changed()).await? {
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
