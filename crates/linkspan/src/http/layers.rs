//! What is done around every request: its ids, its log line, its metrics, and the audit line of a refusal.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;
use linkspan_model::Code;

use super::server::Remote;
use super::trace::RequestIds;
use crate::gateway::Gateway;
use crate::logging;
use crate::metrics::RequestLabels;
use crate::store::{Actor, AuditLine};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

tokio::task_local! {
    static CURRENT: Current;
}

/// What was asked for, as an extension of the response, where the path does not say it: one of a service's own names.
#[derive(Clone, Debug)]
pub struct Operation(pub Box<str>);

/// The request that this task answers.
#[derive(Clone, Debug)]
struct Current {
    ids: RequestIds,
    remote: Option<SocketAddr>,
    caller: Arc<OnceLock<String>>,
    denied: Arc<AtomicBool>,
}

/// The id of the request that this task answers, if it answers one.
#[must_use]
pub fn request_id() -> Option<String> {
    CURRENT
        .try_with(|current| current.ids.request_id.clone())
        .ok()
}

/// The ids of the request that this task answers.
#[must_use]
pub fn request_ids() -> Option<RequestIds> {
    CURRENT.try_with(|current| current.ids.clone()).ok()
}

/// Remembers who makes the request that this task answers.
pub fn set_caller(name: &str) {
    let _ = CURRENT.try_with(|current| current.caller.set(name.to_owned()));
}

/// Remembers that the request reached for what is another's. It is answered as if there were nothing; the audit log says more.
pub fn deny() {
    let _ = CURRENT.try_with(|current| current.denied.store(true, Ordering::Relaxed));
}

/// Who makes the request that this task answers, for the audit log.
#[must_use]
pub fn actor() -> Actor {
    CURRENT.try_with(Current::actor).unwrap_or_default()
}

impl Current {
    fn actor(&self) -> Actor {
        Actor {
            name: self
                .caller
                .get()
                .cloned()
                .unwrap_or_else(|| "unknown".to_owned()),
            request_id: Some(self.ids.request_id.clone()),
            remote: self.remote.map(|remote| remote.ip().to_string()),
        }
    }
}

/// Answers a request with its ids, logged, measured and audited.
pub async fn observe(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let current = Current {
        ids: RequestIds::of(request.headers()),
        remote: request.extensions().get::<Remote>().map(|remote| remote.0),
        caller: Arc::default(),
        denied: Arc::default(),
    };
    let method = known_method(request.method()).to_owned();
    // Only the pattern: a path may hold what does not belong into a log, and its cardinality has no bound.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let path = request.uri().path();
    let private = path.starts_with("/v1/") || path.starts_with("/console/");
    let mut response = CURRENT.scope(current.clone(), next.run(request)).await;
    let took = start.elapsed();
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&current.ids.request_id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(&current.ids.trace.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    if private {
        keep_private(headers);
    }
    let code = response.extensions().get::<Code>().copied();
    tracing::info!(
        target: "linkspan::access",
        method, route, status,
        took_ms = logging::in_ms(took),
        request_id = current.ids.request_id, traceparent = %current.ids.trace,
        caller = current.caller.get(), code = code.map(Code::name),
        operation = response.extensions().get::<Operation>().map(|operation| &*operation.0),
        "answered"
    );
    if let Some(code) = code {
        gateway.metrics.refusal(code);
        let code = if current.denied.load(Ordering::Relaxed) {
            Code::Forbidden
        } else {
            code
        };
        // A red readiness probe is no refusal of anybody's work.
        if is_refusal(code) && route != "/readyz" {
            audit(&gateway, &current, &method, &route, code).await;
        }
    }
    let labels = RequestLabels {
        http_request_method: method,
        http_route: route,
        http_response_status_code: status,
    };
    gateway.metrics.request(&labels, took);
    response
}

/// What people's work is made of is kept by no cache, unless a handler says so, and is taken for nothing but what it says it is.
fn keep_private(headers: &mut HeaderMap) {
    let stream = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "text/event-stream");
    // Of a stream the framework says `no-cache`, which lets caches keep it.
    if stream || !headers.contains_key(header::CACHE_CONTROL) {
        let rule = HeaderValue::from_static("private, no-store");
        headers.insert(header::CACHE_CONTROL, rule);
    }
    let rule = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, rule);
}

/// The method, or `_OTHER` (as OpenTelemetry says) for one that is none of HTTP's own: anyone can send any word, and each would be a
/// metric of its own.
fn known_method(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE"
        | "PATCH") => known,
        _ => "_OTHER",
    }
}

/// Whether the gateway refused the request, other than an engine its document or a job its reading.
fn is_refusal(code: Code) -> bool {
    match code {
        Code::BadRequest
        | Code::Unauthenticated
        | Code::Forbidden
        | Code::RequestTimeout
        | Code::BodyTooLarge
        | Code::KeyReused
        | Code::InvalidParameter
        | Code::WrongState
        | Code::RateLimited
        | Code::Overloaded
        | Code::StoreUnavailable
        | Code::ShuttingDown => true,
        Code::NotFound
        | Code::MethodNotAllowed
        | Code::NotReady
        | Code::InProgress
        | Code::Expired
        | Code::UnsupportedMediaType
        | Code::UnreadableDocument
        | Code::PasswordRequired
        | Code::DocumentTooComplex
        | Code::UnsupportedLanguage
        | Code::EngineCrashed
        | Code::MemoryLimit
        | Code::Internal
        | Code::EngineUnavailable
        | Code::DeadlineExceeded
        | Code::EngineTimeout => false,
    }
}

/// Writes the audit line of a refusal. A flood of refusals must not fill the store: beyond a rate they are only logged. Those of
/// nobody known have a smaller rate of their own, so that they neither fill the store nor crowd out the others.
async fn audit(gateway: &Gateway, current: &Current, method: &str, route: &str, code: Code) {
    static KNOWN: OnceLock<DefaultDirectRateLimiter> = OnceLock::new();
    static UNKNOWN: OnceLock<DefaultDirectRateLimiter> = OnceLock::new();
    let line = AuditLine {
        at: Timestamp::now(),
        actor: current.actor(),
        action: "request.refused".to_owned(),
        target: format!("{method} {route}"),
        outcome: code.name().to_owned(),
    };
    tracing::warn!(
        target: "linkspan::audit",
        actor = line.actor.name, remote = line.actor.remote, request_id = line.actor.request_id,
        action = line.action, on = line.target, outcome = line.outcome, "refused"
    );
    let (flood, a_second) = match current.caller.get() {
        Some(_) => (&KNOWN, 50),
        None => (&UNKNOWN, 1),
    };
    let flood = flood.get_or_init(|| {
        let burst = NonZeroU32::MIN.saturating_add(2499);
        let a_second = NonZeroU32::new(a_second).unwrap_or(NonZeroU32::MIN);
        RateLimiter::direct(Quota::per_second(a_second).allow_burst(burst))
    });
    if flood.check().is_err() {
        return;
    }
    if let Err(error) = gateway.store.append_audit(line).await {
        tracing::warn!(
            error = logging::chain(&error),
            "an audit line was not stored; it is in this log"
        );
    }
}
