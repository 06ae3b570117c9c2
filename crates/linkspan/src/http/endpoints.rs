//! Endpoints over HTTP: where deliveries go, how that goes, pause and resume.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use linkspan_model::{Code, DeliveryState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layers;
use super::session::Session;
use super::small;
use crate::deliveries::BreakerState;
use crate::gateway::Gateway;
use crate::keys::{Action, Caller};
use crate::refusal::Refusal;
use crate::store::{Endpoint, EndpointStatus, Pause};

/// An endpoint as callers see it: a channel of an integration, and how its deliveries do. How many there are of everybody's is said to
/// its administrators only; the others see their own in the listing of deliveries.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EndpointView {
    /// The integration.
    pub integration: String,
    /// The channel's name within it.
    pub channel: String,
    /// The kind of channel, where it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Where it sends to, without secrets, where it is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// False where the configuration no longer has it: its deliveries stay where they are.
    pub configured: bool,
    /// Since when and why it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Deliveries that wait for an attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
    /// Deliveries that are on their way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sending: Option<u64>,
    /// Deliveries that arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// Dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead: Option<u64>,
    /// Deliveries that are held back because it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// When the pending delivery that has been due for longest was due; it may lie ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub oldest_due: Option<Timestamp>,
    /// This gateway's circuit breaker: `closed` (all is well), `open` (no attempts for a while), `half-open` (one attempt decides).
    pub breaker: &'static str,
}

/// The endpoints that a caller may see.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EndpointsPage {
    /// The endpoints, by integration and channel.
    pub endpoints: Vec<EndpointView>,
}

/// A channel that the configuration has.
pub(super) struct Configured {
    pub(super) endpoint: Endpoint,
    pub(super) kind: &'static str,
    pub(super) receiver: String,
    pub(super) breaker: &'static str,
}

/// The endpoints that a caller may see, with what the store says of them.
pub(super) fn views(
    gateway: &Gateway,
    caller: &Caller,
    statuses: &[EndpointStatus],
) -> Vec<EndpointView> {
    let mut views: BTreeMap<Endpoint, EndpointView> = BTreeMap::new();
    for channel in gateway.channels() {
        let view = EndpointView {
            kind: Some(channel.kind),
            receiver: Some(channel.receiver),
            configured: true,
            breaker: channel.breaker,
            ..empty(&channel.endpoint)
        };
        views.insert(channel.endpoint, view);
    }
    for status in statuses {
        let view = views
            .entry(status.endpoint.clone())
            .or_insert_with(|| empty(&status.endpoint));
        view.paused = status.pause.clone();
    }
    views.retain(|endpoint, _| caller.may(Action::Read, &endpoint.integration));
    for (endpoint, view) in &mut views {
        if !caller.may(Action::Admin, &endpoint.integration) {
            continue;
        }
        let counts = [
            &mut view.pending,
            &mut view.sending,
            &mut view.delivered,
            &mut view.dead,
            &mut view.held,
        ];
        counts.into_iter().for_each(|count| *count = Some(0));
        let status = statuses.iter().find(|status| status.endpoint == *endpoint);
        let Some(status) = status else { continue };
        view.oldest_due = status.oldest_due;
        for (state, count) in &status.tallies {
            *match state {
                DeliveryState::Pending => &mut view.pending,
                DeliveryState::Sending => &mut view.sending,
                DeliveryState::Delivered => &mut view.delivered,
                DeliveryState::Dead => &mut view.dead,
                DeliveryState::Paused => &mut view.held,
            } = Some(*count);
        }
    }
    views.into_values().collect()
}

impl Gateway {
    /// The channels of all integrations, by integration and name.
    pub(super) fn channels(&self) -> impl Iterator<Item = Configured> {
        self.deliveries.channels().map(|opened| Configured {
            endpoint: opened.endpoint.clone(),
            kind: opened.kind,
            receiver: opened.receiver(),
            breaker: match opened.breaker() {
                BreakerState::Closed => "closed",
                BreakerState::HalfOpen => "half-open",
                BreakerState::Open => "open",
            },
        })
    }
}

fn empty(endpoint: &Endpoint) -> EndpointView {
    EndpointView {
        integration: endpoint.integration.clone(),
        channel: endpoint.channel.clone(),
        kind: None,
        receiver: None,
        configured: false,
        paused: None,
        pending: None,
        sending: None,
        delivered: None,
        dead: None,
        held: None,
        oldest_due: None,
        breaker: "closed",
    }
}

pub(super) async fn list(session: Session) -> Result<Response, Refusal> {
    session.must(Action::Read)?;
    let statuses = session.gateway.store.endpoints().await?;
    let endpoints = views(&session.gateway, &session.caller, &statuses);
    Ok(axum::Json(EndpointsPage { endpoints }).into_response())
}

/// Why an endpoint is paused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pausing {
    /// One line for whoever wonders; absent: who paused it.
    pub reason: Option<String>,
}

pub(super) async fn pause(
    session: Session,
    Path((integration, channel)): Path<(String, String)>,
    body: axum::body::Body,
) -> Result<Response, Refusal> {
    let endpoint = known(&session, &integration, &channel).await?;
    let Pausing { reason } =
        small::json_or_default(&session.gateway, body, "{\"reason\": \"…\"}, or nothing").await?;
    let reason = match reason.as_deref().map(str::trim) {
        None | Some("") => format!("paused by {}", session.caller.name),
        Some(reason) if reason.len() > 500 || reason.chars().any(char::is_control) => {
            return Err(Refusal::new(
                Code::BadRequest,
                "reason: write one line of at most 500 bytes",
            ));
        }
        Some(reason) => reason.to_owned(),
    };
    set(&session, endpoint, Some(reason)).await
}

pub(super) async fn resume(
    session: Session,
    Path((integration, channel)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let endpoint = known(&session, &integration, &channel).await?;
    set(&session, endpoint, None).await
}

/// An endpoint that the caller may pause: one that is configured, or of which there are still deliveries.
async fn known(session: &Session, integration: &str, channel: &str) -> Result<Endpoint, Refusal> {
    if !session.caller.may(Action::Admin, integration) {
        return Err(Refusal::new(
            Code::Forbidden,
            format!("the key lacks the scope admin or admin:{integration}"),
        ));
    }
    let endpoint = Endpoint::new(integration, channel);
    view(session, &endpoint).await.map(|_| endpoint)
}

async fn set(
    session: &Session,
    endpoint: Endpoint,
    pause: Option<String>,
) -> Result<Response, Refusal> {
    session
        .gateway
        .store
        .set_pause(endpoint.clone(), pause, layers::actor(), Timestamp::now())
        .await?;
    Ok(axum::Json(view(session, &endpoint).await?).into_response())
}

async fn view(session: &Session, endpoint: &Endpoint) -> Result<EndpointView, Refusal> {
    let statuses = session.gateway.store.endpoints().await?;
    views(&session.gateway, &session.caller, &statuses)
        .into_iter()
        .find(|view| view.integration == endpoint.integration && view.channel == endpoint.channel)
        .ok_or_else(|| {
            Refusal::new(
                Code::NotFound,
                "no such channel; GET /v1/endpoints lists them",
            )
        })
}
