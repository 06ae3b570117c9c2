//! Deliveries over HTTP: the listing, one of them, replay and giving up.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use linkspan_model::config::IntegrationName;
use linkspan_model::{Code, DeliveryId, DeliveryState, InvocationId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::link::{self, Link};
use super::query::{self, Known, Words};
use super::segment::Segment;
use super::session::Session;
use super::{layers, small};
use crate::gateway::Gateway;
use crate::keys::Action;
use crate::refusal::Refusal;
use crate::store::deliveries::COMMANDED_AT_ONCE;
use crate::store::{Delivery, DeliveryCommand, DeliveryQuery, Sight, Try};

/// A delivery as callers see it: one result on its way through one channel.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryView {
    /// The delivery's id: the same at each attempt and replay.
    pub id: DeliveryId,
    /// The job whose result it carries.
    pub job: InvocationId,
    /// The job's integration.
    pub integration: String,
    /// The channel's name within it.
    pub channel: String,
    /// The kind of channel.
    pub kind: String,
    /// Where it goes, without secrets.
    pub receiver: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts started since it was made or replayed last.
    pub attempts: u32,
    /// When it was made (RFC 3339).
    #[schemars(with = "String")]
    pub created: Timestamp,
    /// When it changed last.
    #[schemars(with = "String")]
    pub updated: Timestamp,
    /// When its next attempt may start, of a pending one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub due: Option<Timestamp>,
    /// When it arrived or was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub finished: Option<Timestamp>,
    /// Why it is dead, or what its last attempt met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True where its job was retried since: its result is no longer there.
    pub superseded: bool,
    /// The latest attempts that ended, oldest first.
    pub tries: Vec<Try>,
    /// Where to go from here.
    pub links: DeliveryLinks,
}

/// A delivery's own addresses.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveryLinks {
    /// The delivery.
    #[serde(rename = "self")]
    pub this: String,
    /// The job whose result it carries.
    pub job: String,
}

/// A page of deliveries.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveriesPage {
    /// The deliveries, newest first.
    pub deliveries: Vec<DeliveryView>,
    /// The value of `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<DeliveryId>,
}

/// What became of a replay of many.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Replayed {
    /// How many are on their way again.
    pub replayed: u64,
    /// How many could not be: their result is gone.
    pub left: u64,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            links: DeliveryLinks {
                this: format!("/v1/deliveries/{}", delivery.id),
                job: format!("/v1/jobs/{}", delivery.job),
            },
            id: delivery.id,
            job: delivery.job,
            integration: delivery.endpoint.integration,
            channel: delivery.endpoint.channel,
            kind: delivery.kind,
            receiver: delivery.receiver,
            state: delivery.state,
            attempts: delivery.attempts,
            created: delivery.created,
            updated: delivery.updated,
            due: (delivery.state == DeliveryState::Pending).then_some(delivery.due),
            finished: delivery.finished,
            reason: delivery.reason,
            superseded: delivery.superseded,
            tries: delivery.tries,
        }
    }
}

/// The query of the listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    id: Option<String>,
    job: Option<String>,
    integration: Option<String>,
    channel: Option<String>,
    state: Option<String>,
    from: Option<String>,
    until: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

impl Words for ListQuery {
    const WORDS: &'static str =
        "id, job, integration, channel, state, from, until, after and limit (a number)";
}

pub(super) async fn list(
    session: Session,
    Known(query): Known<ListQuery>,
) -> Result<Response, Refusal> {
    let sight = session.sight(query.integration.as_deref())?;
    let most = session.gateway.config.limits.max_page.min(1000);
    let page = session
        .gateway
        .store
        .list_deliveries(DeliveryQuery {
            id: query::parsed("id", query.id.as_deref(), "a delivery's id")?,
            job: query::parsed("job", query.job.as_deref(), "a job's id")?,
            sight,
            caller: None,
            integration: query.integration,
            channel: query.channel,
            state: query::state(
                query.state.as_deref(),
                &DeliveryState::ALL.map(DeliveryState::name),
            )?,
            from: query::time("from", query.from.as_deref())?,
            until: query::time("until", query.until.as_deref())?,
            after: query::cursor(query.after.as_deref())?,
            limit: query.limit.unwrap_or(50).clamp(1, most),
        })
        .await?;
    let deliveries = page
        .deliveries
        .into_iter()
        .map(DeliveryView::from)
        .collect();
    Ok(axum::Json(DeliveriesPage {
        deliveries,
        next: page.next,
    })
    .into_response())
}

pub(super) async fn show(session: Session, Segment(id): Segment) -> Result<Response, Refusal> {
    let delivery = session.delivery(&id).await?;
    Ok(axum::Json(DeliveryView::from(delivery)).into_response())
}

/// What a delivery carries: the result document, or what the channel's `map` makes of it now. For whoever has a link to it, or a key.
pub(super) async fn content(
    State(gateway): State<Arc<Gateway>>,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut parts, _) = request.into_parts();
    let Some(link) = Link::of(parts.uri.query()) else {
        let session = Session::from_request_parts(&mut parts, &gateway).await?;
        let delivery = session.delivery(&id).await?;
        return content_of(&gateway, delivery).await;
    };
    let id: DeliveryId = link.open(&gateway, &id)?;
    let delivery = gateway.store.get_delivery(id).await?.ok_or_else(gone)?;
    Ok(link::answered(content_of(&gateway, delivery).await))
}

async fn content_of(gateway: &Gateway, delivery: Delivery) -> Result<Response, Refusal> {
    let result = match delivery.superseded {
        true => None,
        false => gateway.store.result(delivery.job).await?,
    };
    let result = result.ok_or_else(gone)?;
    let opened = gateway.deliveries.get(&delivery.endpoint).ok_or_else(|| {
        let message = "its channel is no longer configured, so nobody knows what it sends";
        Refusal::new(Code::WrongState, message)
    })?;
    let content = opened.content_of(Some(&result)).await.map_err(|reason| {
        let message = format!("the channel cannot make it of the result: {reason}");
        Refusal::new(Code::WrongState, message)
    })?;
    Ok(axum::Json(content).into_response())
}

fn gone() -> Refusal {
    Refusal::new(
        Code::Expired,
        "what the delivery carried is no longer there: its job was retried or deleted, or its retention is over",
    )
}

pub(super) async fn replay(session: Session, Segment(id): Segment) -> Result<Response, Refusal> {
    command(&session, &id, DeliveryCommand::Replay).await
}

pub(super) async fn give_up(session: Session, Segment(id): Segment) -> Result<Response, Refusal> {
    command(&session, &id, DeliveryCommand::GiveUp).await
}

async fn command(
    session: &Session,
    id: &str,
    command: DeliveryCommand,
) -> Result<Response, Refusal> {
    let delivery = session.delivery(id).await?;
    session.may_change(&delivery.caller, &delivery.endpoint.integration)?;
    let query = DeliveryQuery {
        id: Some(delivery.id),
        limit: 1,
        ..DeliveryQuery::default()
    };
    let done = session
        .gateway
        .store
        .command_deliveries(query, command, layers::actor(), Timestamp::now())
        .await?;
    let delivery = session.delivery(id).await?;
    if done.changed > 0 {
        return Ok(axum::Json(DeliveryView::from(delivery)).into_response());
    }
    let state = delivery.state;
    Err(Refusal::new(
        Code::WrongState,
        match command {
            DeliveryCommand::Replay if state == DeliveryState::Sending => {
                "the delivery is sending: it is on its way just now".to_owned()
            }
            DeliveryCommand::Replay if state == DeliveryState::Paused => {
                "the delivery is paused with its endpoint: it is sent when the endpoint is resumed".to_owned()
            }
            DeliveryCommand::Replay => {
                "the result that it carried is no longer there: its job was retried or deleted, or its retention is over".to_owned()
            }
            DeliveryCommand::GiveUp => format!(
                "the delivery is {state}; only pending, sending and paused ones can be given up"
            ),
        },
    ))
}

/// Which deliveries to replay: at least one of `integration`, `from` and `until` is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Only this integration's.
    pub integration: Option<String>,
    /// Only this channel's; with `integration`.
    pub channel: Option<String>,
    /// `dead` (the default), `delivered`, or `pending`: those that wait for their next attempt are tried now.
    pub state: Option<String>,
    /// Only those made then or later (RFC 3339).
    pub from: Option<String>,
    /// Only those made before then (RFC 3339).
    pub until: Option<String>,
}

/// Replays many: page after page, so that no one transaction holds up the others.
pub(super) async fn replay_many(session: Session, body: Body) -> Result<Response, Refusal> {
    session.must(Action::Admin)?;
    let form =
        "{\"integration\": …, \"channel\": …, \"state\": \"dead\", \"from\": …, \"until\": …}";
    let body: Replay = small::json(&session.gateway, body, form).await?;
    let sight = match &body.integration {
        Some(integration) if !session.caller.may(Action::Admin, integration) => {
            return Err(Refusal::new(
                Code::Forbidden,
                format!("the key lacks the scope admin or admin:{integration}"),
            ));
        }
        Some(_) => None,
        // Only what it administers, not what is its own elsewhere.
        None => session.caller.sight().map(|sight| Sight {
            own: Some(Vec::new()),
            ..sight
        }),
    };
    if body.integration.is_none() && body.from.is_none() && body.until.is_none() {
        return Err(Refusal::new(
            Code::BadRequest,
            "give at least one of integration, from and until: this would replay everything that there is",
        ));
    }
    if let Some(integration) = &body.integration {
        let gateway = &session.gateway;
        let configured = gateway.config.integrations.keys();
        let known = configured.map(IntegrationName::as_str).any(|name| name == integration)
            // One that was taken out of the configuration may have left deliveries.
            || gateway.store.endpoints().await?.iter().any(|status| status.endpoint.integration == *integration);
        if !known {
            return Err(Refusal::new(
                Code::NotFound,
                format!("there is no integration {integration:?}"),
            ));
        }
    }
    if body.channel.is_some() && body.integration.is_none() {
        return Err(Refusal::new(
            Code::BadRequest,
            "a channel is known within its integration: give integration too",
        ));
    }
    let states = [
        DeliveryState::Dead,
        DeliveryState::Delivered,
        DeliveryState::Pending,
    ]
    .map(DeliveryState::name);
    let state = body.state.as_deref().unwrap_or(states[0]);
    if !states.contains(&state) {
        return Err(Refusal::new(
            Code::BadRequest,
            "state: \"dead\", \"delivered\" or \"pending\"; others are on their way or paused",
        ));
    }
    let mut query = DeliveryQuery {
        sight,
        integration: body.integration,
        channel: body.channel,
        state: query::state(Some(state), &states)?,
        from: query::time("from", body.from.as_deref())?,
        // What dies while this goes on is not replayed again.
        until: Some(query::time("until", body.until.as_deref())?.unwrap_or_else(Timestamp::now)),
        limit: COMMANDED_AT_ONCE as u32,
        ..DeliveryQuery::default()
    };
    let mut sum = Replayed {
        replayed: 0,
        left: 0,
    };
    loop {
        let done = session
            .gateway
            .store
            .command_deliveries(
                query.clone(),
                DeliveryCommand::Replay,
                layers::actor(),
                Timestamp::now(),
            )
            .await?;
        sum.replayed += done.changed;
        sum.left += done.left;
        match done.next {
            Some(next) => query.after = Some(next),
            None => return Ok(axum::Json(sum).into_response()),
        }
    }
}
