//! `POST /v1/integrations/{name}/invocations`: the one door of the patterns `sync` and `async`.

use std::time::Instant;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use linkspan_model::config::Pattern;
use linkspan_model::{Code, InvocationId};

use super::intake;
use super::jobs::JobView;
use super::prefer::Prefer;
use super::segment::Segment;
use super::session::Session;
use crate::patterns::{self, Arrival, Reply};
use crate::refusal::Refusal;

const INVOCATION_ID: HeaderName = HeaderName::from_static("linkspan-invocation-id");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) async fn invoke(
    session: Session,
    Segment(name): Segment,
    request: Request,
) -> Result<Response, Refusal> {
    let integration = session.integration(&name)?.clone();
    session.gateway.readiness_for_work()?;
    let prefer = Prefer::of(request.headers(), session.gateway.config.limits.max_wait);
    let idempotency_key = idempotency_key(
        request.headers(),
        session.gateway.config.limits.max_idempotency_key as usize,
    )?;
    let pattern = match integration.pattern {
        Pattern::Sync if !prefer.respond_async => Pattern::Sync,
        // Beside its stream, an integration takes calls as jobs: what is tried by hand, and what came before the pattern changed.
        Pattern::Sync | Pattern::Async | Pattern::StreamIn => Pattern::Async,
        Pattern::FullStream => {
            return Err(Refusal::new(
                Code::WrongState,
                format!(
                    "the integration {name} reads a Kafka topic and answers to topics (full-stream): send the record there"
                ),
            ));
        }
    };
    // At once, not after a body that may take its time; decided again when the body is here.
    match pattern {
        Pattern::Sync => patterns::sync::admits(&integration)?,
        _ => patterns::r#async::admits(&integration)?,
    }
    let incoming = intake::read(&session.gateway, &integration, request).await?;
    integration.pipeline.check(&incoming.to_request())?;
    let arrival = Arrival {
        id: InvocationId::new(),
        caller: session.caller,
        ids: session.ids,
        incoming,
        prefer,
        idempotency_key,
    };
    let start = Instant::now();
    let answer = match pattern {
        Pattern::Sync => patterns::sync::invoke(&session.gateway, &integration, arrival).await,
        _ => patterns::r#async::submit(&session.gateway, &integration, arrival).await,
    };
    if pattern == Pattern::Sync {
        let outcome = match &answer {
            Ok(Reply::Result { .. }) => "succeeded",
            Ok(Reply::Accepted { .. }) => "overflowed",
            Err(_) => "failed",
        };
        session
            .gateway
            .metrics
            .invocation(&integration.name, "sync", outcome);
        // What overflowed is noted where its attempt ends.
        if !matches!(answer, Ok(Reply::Accepted { .. })) {
            integration.recent.note(start.elapsed(), answer.is_err());
        }
    }
    answer.map(Reply::into_response)
}

fn idempotency_key(headers: &HeaderMap, longest: usize) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value
        .to_str()
        .ok()
        .filter(|key| !key.trim().is_empty() && key.len() <= longest);
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        Refusal::new(
            Code::BadRequest,
            format!("Idempotency-Key must hold 1 to {longest} visible ASCII characters"),
        )
    })
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let (mut response, id, applied) = match self {
            Self::Result {
                id,
                json,
                replayed,
                applied,
            } => {
                let mut response =
                    ([(header::CONTENT_TYPE, "application/json")], json).into_response();
                if replayed {
                    response
                        .headers_mut()
                        .insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
                }
                (response, id, applied)
            }
            Self::Accepted { job, applied } => {
                let location = format!("/v1/jobs/{}", job.id);
                let headers = [
                    (header::LOCATION, location),
                    (header::RETRY_AFTER, "1".to_owned()),
                ];
                let id = job.id;
                (
                    (
                        StatusCode::ACCEPTED,
                        headers,
                        axum::Json(JobView::from(*job)),
                    )
                        .into_response(),
                    id,
                    applied,
                )
            }
        };
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
            headers.insert(INVOCATION_ID, value);
        }
        if let Some(value) = applied.and_then(|applied| HeaderValue::from_str(&applied).ok()) {
            headers.insert(PREFERENCE_APPLIED, value);
        }
        response
    }
}
