//! Whether the gateway lives, whether it takes work, and what it measures.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use linkspan_model::Code;

use super::session::Session;
use crate::gateway::Gateway;
use crate::keys::Action;
use crate::refusal::Refusal;

impl Gateway {
    /// Refuses work that the gateway cannot take, before its body is read.
    pub(super) fn readiness_for_work(&self) -> Result<(), Refusal> {
        if self.stop.is_cancelled() {
            return Err(Refusal::new(Code::ShuttingDown, "the gateway is stopping"));
        }
        Ok(())
    }
}

/// 200 while the process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// 200 while new work is accepted; 503 says why not.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Result<&'static str, Refusal> {
    match gateway.readiness() {
        Ok(()) => Ok("ready\n"),
        Err(reason) => Err(Refusal::new(Code::StoreUnavailable, reason)),
    }
}

/// The metrics, for keys with `read` for all integrations (or `admin`): they tell of everybody's work.
pub(super) async fn metrics(session: Session) -> Result<Response, Refusal> {
    session.must_everywhere(Action::Read)?;
    session.gateway.measure().await;
    let page = session.gateway.metrics.page();
    Ok((
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        page,
    )
        .into_response())
}
