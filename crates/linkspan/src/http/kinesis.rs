//! The Kinesis API for the gateway's own streams: `POST /` with `X-Amz-Target: Kinesis_20131202.<Operation>`.
//!
//! Whoever writes to Amazon Kinesis Data Streams writes here with another endpoint and an access key of `linkspan keys add --sigv4`. The
//! signature (SigV4) is checked before anything else is looked at, and the key must be known before the body is read. Errors are the
//! service's own, not problem documents: clients tell by their names whether to try again.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use linkspan_model::Code;
use linkspan_streams::kinesis::sigv4::Signed;
use linkspan_streams::kinesis::{Access, Answer, Call, Codec, Fault, Kind};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::layers::{self, Operation};
use super::{origin, session};
use crate::auth::Signer;
use crate::gateway::Gateway;
use crate::keys::{Action, Caller};
use crate::refusal::Refusal;
use crate::store::StoreError;
use crate::streaming::own::OwnStreams;

const TARGET: &str = "x-amz-target";
const VERSION: &str = "Kinesis_20131202.";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The largest body: 10 MiB of records, which base64 makes a third larger, and what stands around them.
const MOST_BODY: usize = 16 << 20;
/// The region where nothing is signed.
const NO_REGION: &str = "us-east-1";

/// The API's one path.
pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new().route("/", post(answer))
}

async fn answer(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(target) = parts.headers.get(TARGET) else {
        let what = "a POST to / is a call of the Kinesis API, and this one has no header X-Amz-Target: Kinesis_20131202.<Operation>; a \
                    document is sent to POST /v1/integrations/{name}/invocations, and GET /docs lists what else there is";
        return Refusal::new(Code::NotFound, what).into_response();
    };
    let target = target.to_str().unwrap_or_default();
    let form = parts.headers.get(header::CONTENT_TYPE);
    let form = form.and_then(|value| value.to_str().ok());
    let codec = form.and_then(Codec::of);
    match perform(&gateway, &parts, target, codec, body).await {
        Ok(answer) => {
            let known = answer.fault != Some(Kind::UnknownOperation);
            let operation = target.strip_prefix(VERSION).filter(|_| known);
            let code = answer.fault.and_then(code_of);
            let mut response = respond(answer, codec.unwrap_or(Codec::Json), code);
            if let Some(operation) = operation {
                response
                    .extensions_mut()
                    .insert(Operation(operation.into()));
            }
            response
        }
        Err(Refused { fault, code }) => {
            let codec = codec.unwrap_or(Codec::Json);
            respond(Answer::refusing(&fault, codec), codec, code)
        }
    }
}

/// A request that does not reach the service.
struct Refused {
    fault: Fault,
    /// What it counts as among the gateway's own refusals.
    code: Option<Code>,
}

/// Who asks, and what for.
struct Known {
    caller: Caller,
    region: String,
    body: Bytes,
    /// The memory that the body takes.
    room: OwnedSemaphorePermit,
}

async fn perform(
    gateway: &Arc<Gateway>,
    parts: &Parts,
    target: &str,
    codec: Option<Codec>,
    body: Body,
) -> Result<Answer, Refused> {
    let Some(own) = &gateway.own_streams else {
        return Err(Fault::new(
            Kind::UnknownOperation,
            "This gateway has no Kinesis streams of its own. Its configuration switches them on by [streams] with enabled = true, or by an \
             integration that reads one: source = { kinesis = \"NAME\" }.",
        )
        .into());
    };
    if gateway.stop.is_cancelled() {
        return Err(Refused {
            fault: Fault::new(
                Kind::ServiceUnavailable,
                "The gateway is stopping. Try again.",
            ),
            code: Some(Code::ShuttingDown),
        });
    }
    let now = Timestamp::now();
    let (known, signer) = if gateway.auth.is_off() {
        session::same_machine(parts, gateway).map_err(denied)?;
        (unsigned(gateway, own, parts, body, now).await?, None)
    } else {
        let (known, signer) = signed(gateway, own, parts, body, now).await?;
        (known, Some(signer))
    };
    layers::set_caller(&known.caller.name);
    let operation = target.strip_prefix(VERSION).ok_or_else(|| {
        let what = format!("X-Amz-Target must be {VERSION}<Operation>.");
        Fault::new(Kind::UnknownOperation, what)
    })?;
    if signer.is_some_and(|signer| gateway.auth.within_own_rate(&signer).is_err()) {
        return Err(over_rate(operation));
    }
    let codec = codec.ok_or_else(|| {
        let [json, cbor] = [Codec::Json, Codec::Cbor].map(Codec::content_type);
        let what = format!("Content-Type must be {json} or {cbor}.");
        Fault::new(Kind::Serialization, what)
    })?;
    let service = own.service().clone();
    let operation = operation.to_owned();
    // A change that was begun is also ended where the client goes away, and the drain waits for it.
    let task = gateway.tasks.spawn(async move {
        let Known {
            caller,
            region,
            body,
            room: _room,
        } = known;
        service
            .answer(Call {
                operation: &operation,
                codec,
                body: &body,
                region: &region,
                may: &|access, stream| may(&caller, access, stream),
                now,
            })
            .await
    });
    task.await.map_err(|_| {
        // It is logged where it panicked.
        Fault::new(Kind::InternalFailure, "Internal service failure.").into()
    })
}

/// The request of whoever signed it. What can be refused by the headers alone is refused before the body is read.
async fn signed(
    gateway: &Gateway,
    own: &OwnStreams,
    parts: &Parts,
    body: Body,
    now: Timestamp,
) -> Result<(Known, Signer), Refused> {
    let headers = headers(parts);
    let target = parts.uri.path_and_query();
    let request = Signed {
        method: parts.method.as_str(),
        target: target.map_or("/", |target| target.as_str()),
        headers: &headers,
        body: &[],
    };
    let claim = request.claim(now)?;
    if claim.service != "kinesis" {
        return Err(Fault::new(
            Kind::InvalidSignature,
            "Credential should be scoped to the service 'kinesis'.",
        )
        .into());
    }
    let signer = gateway
        .auth
        .signer(&*gateway.store, &claim.access_key_id)
        .await?;
    let signer = signer.ok_or_else(|| {
        Fault::new(
            Kind::UnrecognizedClient,
            "The access key is not known, or has expired or been revoked. linkspan keys add NAME --sigv4 makes one.",
        )
    })?;
    let (body, room) = read(gateway, own, parts, body).await?;
    Signed {
        body: &body,
        ..request
    }
    .verify(&claim, &signer.secret)?;
    let known = Known {
        caller: signer.caller.clone(),
        region: claim.region,
        body,
        room,
    };
    Ok((known, signer))
}

/// The request of anyone, where nobody has to prove who it is.
async fn unsigned(
    gateway: &Gateway,
    own: &OwnStreams,
    parts: &Parts,
    body: Body,
    now: Timestamp,
) -> Result<Known, Refused> {
    let headers = headers(parts);
    let request = Signed {
        method: parts.method.as_str(),
        target: "/",
        headers: &headers,
        body: &[],
    };
    // Clients sign all the same; the region of what they sign is that of the names that they expect.
    let claim = request.claim(now);
    let region = claim.map_or_else(|_| NO_REGION.to_owned(), |claim| claim.region);
    let (body, room) = read(gateway, own, parts, body).await?;
    Ok(Known {
        caller: Caller::anyone(),
        region,
        body,
        room,
    })
}

/// The headers that are text. In HTTP/2 the host is none of them.
fn headers(parts: &Parts) -> Vec<(&str, &str)> {
    let all = parts.headers.iter();
    let mut headers: Vec<_> = all
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    if !parts.headers.contains_key(header::HOST)
        && let Some(host) = origin::host(parts)
    {
        headers.push(("host", host));
    }
    headers
}

/// Reads the body, once there is room for it.
async fn read(
    gateway: &Gateway,
    own: &OwnStreams,
    parts: &Parts,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), Refused> {
    let server = &gateway.config.server;
    let end = Instant::now() + server.body_timeout;
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    let most = length.unwrap_or(MOST_BODY);
    if most > MOST_BODY {
        return Err(too_large());
    }
    let kib = u32::try_from(most.div_ceil(1024)).unwrap_or(u32::MAX);
    let room = own.bodies().clone().acquire_many_owned(kib);
    let Ok(Ok(room)) = timeout_at(Instant::now() + server.body_idle_timeout, room).await else {
        return Err(late("There is no room for the request now. Try again."));
    };
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::with_capacity(length.unwrap_or_default());
    loop {
        let silent = end.min(Instant::now() + server.body_idle_timeout);
        match timeout_at(silent, chunks.next()).await {
            Ok(None) => return Ok((whole.freeze(), room)),
            Ok(Some(Ok(chunk))) if whole.len() + chunk.len() > MOST_BODY => {
                return Err(too_large());
            }
            Ok(Some(Ok(chunk))) => whole.extend_from_slice(&chunk),
            Ok(Some(Err(_))) => return Err(late("The body ended early.")),
            Err(_) => return Err(late("The body did not come in time.")),
        }
    }
}

/// Whether a caller may do something with a stream, or with all.
fn may(caller: &Caller, access: Access, stream: Option<&str>) -> bool {
    let action = match access {
        Access::Write => Action::Invoke,
        Access::Read => Action::Read,
        Access::Admin => Action::Admin,
    };
    match stream {
        Some(stream) => caller.may(action, stream),
        None => caller.may_everywhere(action),
    }
}

fn too_large() -> Refused {
    Refused {
        fault: Fault::new(
            Kind::InvalidArgument,
            format!(
                "The request is larger than {MOST_BODY} bytes. Send fewer records at once: PutRecords takes 10 MiB of them."
            ),
        ),
        code: Some(Code::BodyTooLarge),
    }
}

fn late(what: &str) -> Refused {
    Refused {
        fault: Fault::new(Kind::ServiceUnavailable, what),
        code: Some(Code::RequestTimeout),
    }
}

fn denied(refusal: Refusal) -> Refused {
    let Refusal { problem, .. } = refusal;
    Refused {
        code: Some(problem.code),
        fault: Fault::new(Kind::AccessDenied, problem.detail),
    }
}

/// A key over its own rate, in the error by which clients slow down.
fn over_rate(operation: &str) -> Refused {
    let of_records = matches!(
        operation,
        "PutRecord" | "PutRecords" | "GetRecords" | "GetShardIterator"
    );
    let kind = if of_records {
        Kind::ProvisionedThroughputExceeded
    } else {
        Kind::LimitExceeded
    };
    Refused {
        fault: Fault::new(
            kind,
            "The access key is over the rate that it was made with. Wait a moment.",
        ),
        code: Some(Code::RateLimited),
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self {
            code: code_of(fault.kind),
            fault,
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        let refusal = Refusal::from(error); // which logs it
        Self {
            fault: Fault::new(
                Kind::ServiceUnavailable,
                "Access keys cannot be checked now. Try again.",
            ),
            code: Some(refusal.code()),
        }
    }
}

/// What an error counts as among the gateway's own refusals. A stream's limits are no refusal: clients try again as a matter of course.
const fn code_of(kind: Kind) -> Option<Code> {
    match kind {
        Kind::AccessDenied => Some(Code::Forbidden),
        Kind::IncompleteSignature
        | Kind::InvalidSignature
        | Kind::MissingAuthenticationToken
        | Kind::UnrecognizedClient => Some(Code::Unauthenticated),
        Kind::InternalFailure => Some(Code::Internal),
        Kind::ServiceUnavailable => Some(Code::StoreUnavailable),
        Kind::UnknownOperation | Kind::ResourceNotFound => Some(Code::NotFound),
        Kind::ResourceInUse => Some(Code::WrongState),
        Kind::Serialization => Some(Code::BadRequest),
        Kind::InvalidArgument | Kind::Validation => Some(Code::InvalidParameter),
        Kind::ExpiredIterator | Kind::LimitExceeded | Kind::ProvisionedThroughputExceeded => None,
    }
}

fn respond(answer: Answer, codec: Codec, code: Option<Code>) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let form = HeaderValue::from_static(codec.content_type());
    headers.insert(header::CONTENT_TYPE, form);
    let id = layers::request_id().and_then(|id| HeaderValue::try_from(id).ok());
    if let Some(id) = id {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(kind) = answer.fault {
        headers.insert(ERROR_TYPE, HeaderValue::from_static(kind.name()));
    }
    if let Some(code) = code {
        response.extensions_mut().insert(code);
    }
    response
}
