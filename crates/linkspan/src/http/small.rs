//! Small JSON bodies, of requests that bring no document.

use std::time::Duration;

use axum::body::Body;
use linkspan_model::Code;
use serde::de::DeserializeOwned;

use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// The largest of them.
const MAX_BODY: usize = 64 * 1024;

/// Reads a body; `form` says what it should be, for whoever sent something else.
pub(super) async fn json<T: DeserializeOwned>(
    gateway: &Gateway,
    body: Body,
    form: &str,
) -> Result<T, Refusal> {
    let bytes = read(body, gateway.config.server.body_idle_timeout).await?;
    parse(&bytes, form)
}

/// The same where there may be none.
pub(super) async fn json_or_default<T: DeserializeOwned + Default>(
    gateway: &Gateway,
    body: Body,
    form: &str,
) -> Result<T, Refusal> {
    let bytes = read(body, gateway.config.server.body_idle_timeout).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    parse(&bytes, form)
}

async fn read(body: Body, patience: Duration) -> Result<axum::body::Bytes, Refusal> {
    tokio::time::timeout(patience, axum::body::to_bytes(body, MAX_BODY))
        .await
        .map_err(|_| Refusal::new(Code::RequestTimeout, "the body did not come in time"))?
        .map_err(|_| {
            Refusal::new(
                Code::BodyTooLarge,
                format!("the body is larger than {MAX_BODY} bytes, or ended early"),
            )
        })
}

fn parse<T: DeserializeOwned>(bytes: &[u8], form: &str) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        // What serde says may quote a value; where it stands does not.
        let place = format!("line {} column {}", error.line(), error.column());
        Refusal::new(
            Code::BadRequest,
            format!("the body is not JSON of the form {form} (at {place})"),
        )
    })
}
