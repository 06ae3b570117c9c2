//! `GET /v1/streams`: what reads streams, how that goes, and what comes out.
//!
//! Figures are this gateway's own, since its start, but for the lanes' progress and the deliveries: those are the store's, of all gateways.

mod figures;
mod labels;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use linkspan_model::{Code, DeliveryState};
use schemars::JsonSchema;
use serde::Serialize;

pub use figures::{Figures, LagView, SourceView};
#[cfg(test)]
pub(super) use labels::LabelsQuery;
pub(super) use labels::labels;
pub use labels::{LabelTally, LabelsView};

use super::segment::Segment;
use super::session::Session;
use crate::keys::Action;
use crate::refusal::Refusal;
use crate::store::EndpointStatus;
use crate::streaming::Reader;
use crate::streaming::lanes::position;

/// A stream as callers see it: one integration's reading of its source.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamView {
    /// The integration.
    pub integration: String,
    /// `stream-in` or `full-stream`.
    pub pattern: &'static str,
    /// The name of the reading in the store, which holds for ever.
    pub stream: String,
    /// How it goes.
    #[serde(flatten)]
    pub figures: Figures,
    /// The deliveries of its results through all channels.
    pub deliveries: DeliverySums,
    /// The lanes (partitions, shards), by name; only where one stream is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Vec<LaneView>>,
    /// Where to go from here.
    pub links: StreamLinks,
}

/// A lane as callers see it.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct LaneView {
    /// The partition or shard.
    pub lane: String,
    /// Whether this gateway reads it.
    pub here: bool,
    /// The gateway that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The position of the last record up to which all is done, in the source's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Whether all of it is done: a shard that was split or merged.
    pub ended: bool,
    /// When something was committed of it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub updated: Option<Timestamp>,
    /// How far behind the source it is, where that is known: of a lane that is read here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagView>,
}

/// How many deliveries there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeliverySums {
    /// Those that wait for an attempt.
    pub pending: u64,
    /// Those that are on their way.
    pub sending: u64,
    /// Those that arrived.
    pub delivered: u64,
    /// Dead letters.
    pub dead: u64,
    /// Those that are held back because their endpoint is paused.
    pub held: u64,
}

/// A stream's own addresses.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamLinks {
    /// The stream.
    #[serde(rename = "self")]
    pub this: String,
    /// How often which label came out.
    pub labels: String,
    /// Its results.
    pub results: String,
}

/// The streams that a caller may see.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamsPage {
    /// The streams, by integration.
    pub streams: Vec<StreamView>,
}

pub(super) async fn list(session: Session) -> Result<Response, Refusal> {
    session.must(Action::Read)?;
    let endpoints = session.gateway.store.endpoints().await?;
    let readers = session.gateway.streams.iter();
    let streams = readers
        .filter(|reader| session.caller.may(Action::Read, &reader.integration.name))
        .map(|reader| StreamView::of(reader, &session, &endpoints))
        .collect();
    Ok(axum::Json(StreamsPage { streams }).into_response())
}

pub(super) async fn show(session: Session, Segment(name): Segment) -> Result<Response, Refusal> {
    let reader = session.stream(&name)?.clone();
    let store = &session.gateway.store;
    let endpoints = store.endpoints().await?;
    let known = store.lanes(&reader.stream).await?;
    let mut lanes: BTreeMap<String, LaneView> = BTreeMap::new();
    for lane in known {
        let view = LaneView {
            here: lane.owner.as_ref() == Some(&session.gateway.owner),
            lane: lane.lane.clone(),
            owner: lane.owner,
            progress: lane.progress.as_deref().and_then(position),
            ended: lane.ended,
            updated: lane.updated,
            lag: None,
        };
        lanes.insert(lane.lane, view);
    }
    for (lane, behind) in reader.behind() {
        let name = lane.as_str();
        let view = lanes.entry(name.to_owned()).or_insert_with(|| LaneView {
            lane: name.to_owned(),
            ..LaneView::default()
        });
        view.here = true;
        view.lag = Some(LagView::of([behind]));
    }
    let view = StreamView {
        lanes: Some(lanes.into_values().collect()),
        ..StreamView::of(&reader, &session, &endpoints)
    };
    Ok(axum::Json(view).into_response())
}

impl StreamView {
    fn of(reader: &Reader, session: &Session, endpoints: &[EndpointStatus]) -> Self {
        let name = &reader.integration.name;
        let this = format!("/v1/streams/{name}");
        Self {
            integration: name.clone(),
            pattern: reader.integration.pattern.name(),
            stream: reader.stream.clone(),
            figures: Figures::of(reader, &session.gateway),
            deliveries: DeliverySums::of(name, endpoints),
            lanes: None,
            links: StreamLinks {
                labels: format!("{this}/labels"),
                results: format!("/v1/results?integration={name}"),
                this,
            },
        }
    }
}

impl DeliverySums {
    fn of(integration: &str, endpoints: &[EndpointStatus]) -> Self {
        let mut sums = Self::default();
        let own = endpoints
            .iter()
            .filter(|status| status.endpoint.integration == integration);
        for (state, count) in own.flat_map(|status| &status.tallies) {
            *match state {
                DeliveryState::Pending => &mut sums.pending,
                DeliveryState::Sending => &mut sums.sending,
                DeliveryState::Delivered => &mut sums.delivered,
                DeliveryState::Dead => &mut sums.dead,
                DeliveryState::Paused => &mut sums.held,
            } += count;
        }
        sums
    }
}

impl Session {
    /// A stream that the caller may read.
    pub(super) fn stream(&self, integration: &str) -> Result<&Arc<Reader>, Refusal> {
        // Who may not read it does not learn whether it is there.
        self.sight(Some(integration))?;
        let streams = &self.gateway.streams;
        streams.of_integration(integration).ok_or_else(|| {
            let known: Vec<_> = streams
                .iter()
                .map(|reader| reader.integration.name.as_str())
                .filter(|name| self.caller.may(Action::Read, name))
                .collect();
            let known = if known.is_empty() {
                "none does".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            let message = format!("no integration {integration:?} reads a stream; {known}");
            Refusal::new(Code::NotFound, message)
        })
    }
}
