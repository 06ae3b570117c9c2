//! Reading an invocation's body: the document itself, JSON with a text, or a multipart form.
//!
//! Documents go to a spool as they come; nothing large is held in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest as _, Multipart, Request};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::header;
use linkspan_model::Code;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::paced::{Excess, Pace, Paced};
use crate::gateway::Gateway;
use crate::integration::Integration;
use crate::refusal::Refusal;
use crate::request::{Incoming, IncomingDocument, Rest};
use crate::store::{Body as Spool, Intake, IntakeError};

/// Reads a request's body.
pub(super) async fn read(
    gateway: &Arc<Gateway>,
    integration: &Integration,
    request: Request,
) -> Result<Incoming, Refusal> {
    let limits = Limits::new(gateway, integration.max_body);
    limits.check(&request)?;
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let essence = content_type
        .as_deref()
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "multipart/form-data" => multipart(gateway, &limits, request).await,
        "application/json" => json(&limits, request.into_body()).await,
        // What curl sends when nothing is said: no hint on the content.
        "application/x-www-form-urlencoded" => {
            document(gateway, &limits, None, request.into_body()).await
        }
        _ => document(gateway, &limits, content_type, request.into_body()).await,
    }
}

/// Reads a body that is a document and nothing else, to be looked at once.
pub(super) async fn read_document(
    gateway: &Arc<Gateway>,
    request: Request,
) -> Result<Spool, Refusal> {
    let limits = Limits::new(gateway, gateway.config.server.max_body.bytes());
    limits.check(&request)?;
    spool(gateway, &limits, request.into_body()).await
}

struct Limits {
    body: u64,
    claim: u64,
    text: u64,
    idle: Duration,
    /// When the whole body must be there.
    end: Instant,
}

impl Limits {
    fn new(gateway: &Gateway, body: u64) -> Self {
        let config = &gateway.config;
        Self {
            body,
            claim: config.limits.max_claim.bytes(),
            text: config.limits.max_text.bytes(),
            idle: config.server.body_idle_timeout,
            end: Instant::now() + config.server.body_timeout,
        }
    }

    /// Refuses a body before it is read.
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        if content_length(request).is_some_and(|length| length > self.body) {
            return Err(self.too_large());
        }
        // Read as it is, a packed text would be taken for a damaged one; unpacked, a small body could be a large one.
        let packed = request.headers().get_all(header::CONTENT_ENCODING);
        if packed
            .iter()
            .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Err(Refusal::new(
                Code::UnsupportedMediaType,
                "the body has a Content-Encoding: send it as it is, without one",
            ));
        }
        Ok(())
    }

    fn too_large(&self) -> Refusal {
        Refusal::new(
            Code::BodyTooLarge,
            format!(
                "the body is larger than {} bytes; that is max_body",
                self.body
            ),
        )
    }

    fn text_too_large(&self) -> Refusal {
        Refusal::new(
            Code::BodyTooLarge,
            format!(
                "the text is larger than {} bytes; that is limits.max_text: send it as a document (Content-Type: text/plain)",
                self.text
            ),
        )
    }

    fn member_too_large(&self, name: &str) -> Refusal {
        Refusal::new(
            Code::BodyTooLarge,
            format!(
                "{name} is larger than {} bytes; that is limits.max_claim",
                self.claim
            ),
        )
    }

    fn refuse(&self, error: IntakeError) -> Refusal {
        match error {
            IntakeError::TooLarge { .. } => self.too_large(),
            IntakeError::Store(error) => error.into(),
        }
    }

    /// The next chunk, or a refusal where the client is silent for too long or goes away.
    async fn next<E: std::fmt::Display>(
        &self,
        chunks: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    ) -> Result<Option<Bytes>, Refusal> {
        let silent = self.end.min(Instant::now() + self.idle);
        match tokio::time::timeout_at(silent, chunks.next()).await {
            Ok(None) => Ok(None),
            Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
            Ok(Some(Err(error))) => Err(Refusal::new(
                Code::BadRequest,
                format!("the body ended early: {error}"),
            )),
            Err(_) if Instant::now() >= self.end => Err(Refusal::new(
                Code::RequestTimeout,
                "the body took longer than server.body_timeout",
            )),
            Err(_) => Err(Refusal::new(
                Code::RequestTimeout,
                format!("nothing came of the body for {:?}", self.idle),
            )),
        }
    }
}

fn content_length(request: &Request) -> Option<u64> {
    request
        .headers()
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The body is the document.
async fn document(
    gateway: &Arc<Gateway>,
    limits: &Limits,
    media_type: Option<String>,
    body: Body,
) -> Result<Incoming, Refusal> {
    Ok(Incoming {
        document: Some(IncomingDocument {
            body: spool(gateway, limits, body).await?,
            media_type,
            file_name: None,
        }),
        rest: Rest::default(),
    })
}

/// A body on its way to where it is kept.
async fn spool(gateway: &Arc<Gateway>, limits: &Limits, body: Body) -> Result<Spool, Refusal> {
    let mut intake = Intake::new(gateway.blobs.clone(), limits.body);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = limits.next(&mut chunks).await? {
        intake
            .write(&chunk)
            .await
            .map_err(|error| limits.refuse(error))?;
    }
    if intake.size() == 0 {
        return Err(Refusal::new(
            Code::BadRequest,
            "the body is empty: send the document as the body, JSON with a \"text\", or a multipart form",
        ));
    }
    intake.finish().await.map_err(|error| limits.refuse(error))
}

/// The body is JSON: `{"text": …, "params": {…}, "claim": {…}}`.
async fn json(limits: &Limits, body: Body) -> Result<Incoming, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Json {
        text: String,
        #[serde(default)]
        params: Map<String, Value>,
        claim: Option<Value>,
    }
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    // The text with its escapes, and beside it the claim and the parameters.
    let most = limits.text + 2 * limits.claim;
    while let Some(chunk) = limits.next(&mut chunks).await? {
        let size = (bytes.len() + chunk.len()) as u64;
        if size > limits.body {
            return Err(limits.too_large());
        }
        if size > most {
            return Err(limits.text_too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    let json: Json = serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::new(
            Code::BadRequest,
            format!(
                "the body is not JSON of the form {{\"text\": …, \"params\": {{…}}}}: {}",
                without_content(&error)
            ),
        )
    })?;
    for (name, size) in [
        (
            "params",
            Value::Object(json.params.clone()).to_string().len(),
        ),
        (
            "claim",
            json.claim
                .as_ref()
                .map_or(0, |claim| claim.to_string().len()),
        ),
    ] {
        if size as u64 > limits.claim {
            return Err(limits.member_too_large(name));
        }
    }
    Ok(Incoming {
        document: None,
        rest: Rest {
            text: Some(json.text.into()),
            params: json.params,
            claim: json.claim.map(Arc::new),
            record: None,
        },
    })
}

/// The body is a form with a part `document` and perhaps `params`, `claim`, or with a part `text`.
async fn multipart(
    gateway: &Arc<Gateway>,
    limits: &Limits,
    request: Request,
) -> Result<Incoming, Refusal> {
    let (head, body) = request.into_parts();
    let (paced, pace) = Paced::new(body.into_data_stream(), limits.body);
    let request = Request::from_parts(head, Body::from_stream(paced));
    let incoming = parts(gateway, limits, &pace, request).await;
    match pace.excess() {
        None => incoming,
        Some(Excess::Body) => Err(limits.too_large()),
        Some(Excess::Headers) => Err(Refusal::new(
            Code::BadRequest,
            "the multipart form cannot be read: what stands before a part, or its headers, is too long",
        )),
    }
}

/// The form's parts, each of which may come once.
async fn parts(
    gateway: &Arc<Gateway>,
    limits: &Limits,
    pace: &Pace,
    request: Request,
) -> Result<Incoming, Refusal> {
    let damaged = |error: &dyn std::fmt::Display| {
        Refusal::new(
            Code::BadRequest,
            format!("the multipart form cannot be read: {error}"),
        )
    };
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| damaged(&error))?;
    let mut incoming = Incoming::default();
    let mut seen = Vec::new();
    loop {
        pace.used();
        let field = tokio::time::timeout(limits.idle, form.next_field())
            .await
            .map_err(|_| {
                Refusal::new(
                    Code::RequestTimeout,
                    format!("nothing came of the form for {:?}", limits.idle),
                )
            })?
            .map_err(|error| damaged(&error))?;
        let Some(mut field) = field else { break };
        let name = field.name().unwrap_or_default().to_owned();
        if seen.contains(&name) {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("the form has more than one part named {name:?}"),
            ));
        }
        match name.as_str() {
            "document" => {
                let media_type = field
                    .content_type()
                    .filter(|kind| *kind != "application/octet-stream")
                    .map(str::to_owned);
                let file_name = field.file_name().map(str::to_owned);
                let mut intake = Intake::new(gateway.blobs.clone(), limits.body);
                while let Some(chunk) = limits.next(&mut field).await? {
                    pace.used();
                    intake
                        .write(&chunk)
                        .await
                        .map_err(|error| limits.refuse(error))?;
                }
                let body = intake
                    .finish()
                    .await
                    .map_err(|error| limits.refuse(error))?;
                incoming.document = Some(IncomingDocument {
                    body,
                    media_type,
                    file_name,
                });
            }
            "text" => {
                incoming.rest.text = Some(
                    small(limits, limits.text, pace, &name, &mut field)
                        .await?
                        .into(),
                );
            }
            "params" => {
                incoming.rest.params = part(
                    &name,
                    &small(limits, limits.claim, pace, &name, &mut field).await?,
                )?;
            }
            "claim" => {
                incoming.rest.claim = Some(Arc::new(part(
                    &name,
                    &small(limits, limits.claim, pace, &name, &mut field).await?,
                )?));
            }
            _ => {
                return Err(Refusal::new(
                    Code::BadRequest,
                    format!(
                        "the form has a part named {name:?}; the parts are document, text, params and claim"
                    ),
                ));
            }
        }
        seen.push(name);
    }
    Ok(incoming)
}

/// A part that is read into memory, up to a limit.
async fn small<E: std::fmt::Display>(
    limits: &Limits,
    limit: u64,
    pace: &Pace,
    name: &str,
    chunks: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = limits.next(chunks).await? {
        pace.used();
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(Refusal::new(
                Code::BodyTooLarge,
                format!("the part {name:?} is larger than {limit} bytes"),
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes)
        .map_err(|_| Refusal::new(Code::BadRequest, format!("the part {name:?} is not UTF-8")))
}

fn part<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| {
        Refusal::new(
            Code::BadRequest,
            format!(
                "the part {name:?} is not the JSON object that it must be: {}",
                without_content(&error)
            ),
        )
    })
}

/// What serde says of a fault, without the values that it may quote: they are the caller's.
fn without_content(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let place = format!("line {} column {}", error.line(), error.column());
    if said.starts_with("unknown field")
        || said.starts_with("missing field")
        || said.starts_with("duplicate field")
    {
        return said;
    }
    match error.classify() {
        serde_json::error::Category::Eof => format!("it ends early, at {place}"),
        serde_json::error::Category::Syntax => format!("it is not JSON at {place}"),
        serde_json::error::Category::Data | serde_json::error::Category::Io => {
            format!("a member has the wrong type at {place}")
        }
    }
}
