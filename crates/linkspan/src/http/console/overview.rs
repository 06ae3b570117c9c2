//! `GET /console/overview`: every integration on its pattern, with what goes on there.
//!
//! Rates and times are this gateway's own, of the last minute. What waits is the store's, of all gateways.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use linkspan_model::JobState;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::signin::no_store;
use crate::gateway::Gateway;
use crate::http::catalog;
use crate::http::endpoints::{self, EndpointView};
use crate::http::session::Session;
use crate::http::streams::Figures;
use crate::integration::Integration;
use crate::keys::{Action, Caller};
use crate::recent::WINDOW;
use crate::refusal::Refusal;
use crate::store::{Counts, EndpointStatus, StoreError};

/// How old what the store said may be.
const FRESH: Duration = Duration::from_millis(900);

/// The machine's name; empty where it has none that can be read.
static HOST: LazyLock<String> = LazyLock::new(|| {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
});

/// The overview of one caller.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Overview {
    version: &'static str,
    uptime_s: u64,
    /// The machine's name, for people.
    host: String,
    /// Where the gateway listens.
    listen: String,
    /// Whether other gateways may use the store too.
    shared: bool,
    accepting: bool,
    reason: Option<String>,
    window_s: u64,
    integrations: Vec<IntegrationOverview>,
    endpoints: Vec<EndpointView>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct IntegrationOverview {
    name: String,
    pattern: &'static str,
    takes: &'static str,
    steps: Vec<StepOverview>,
    deliver: Vec<ChannelOverview>,
    may_invoke: bool,
    deadline_s: f64,
    max_body: u64,
    rate: f64,
    error_share: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    count: u64,
    queued: u64,
    running: u64,
    waiting: u64,
    oldest_waiting_s: Option<f64>,
    /// How its stream goes, for whoever may read it.
    stream: Option<StreamOverview>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct StreamOverview {
    #[serde(flatten)]
    figures: Figures,
    /// Dead letters that are kept, and calls that failed.
    failed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct StepOverview {
    service: String,
    task: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ChannelOverview {
    channel: String,
    kind: &'static str,
    receiver: String,
}

/// What the store said last, for everyone who looks: it is asked once a second at most, and less often where it is slow.
#[derive(Default)]
pub(super) struct Snapshots(Mutex<Option<Snapshot>>);

#[derive(Clone)]
struct Snapshot {
    asked: Instant,
    took: Duration,
    said: Arc<(Counts, Vec<EndpointStatus>)>,
}

impl Snapshots {
    async fn latest(
        &self,
        gateway: &Gateway,
    ) -> Result<Arc<(Counts, Vec<EndpointStatus>)>, StoreError> {
        let mut latest = self.0.lock().await;
        if let Some(snapshot) = &*latest
            && snapshot.asked.elapsed() < FRESH.max(snapshot.took * 10)
        {
            return Ok(snapshot.said.clone());
        }
        let asked = Instant::now();
        let counts = gateway.store.counts().await?;
        let endpoints = gateway.store.endpoints().await?;
        let snapshot = Snapshot {
            asked,
            took: asked.elapsed(),
            said: Arc::new((counts, endpoints)),
        };
        let said = snapshot.said.clone();
        *latest = Some(snapshot);
        Ok(said)
    }
}

impl Overview {
    /// What a caller may see now: the integrations that it may read or invoke.
    pub(super) async fn of(gateway: &Gateway, caller: &Caller) -> Result<Self, Refusal> {
        let said = gateway.console.snapshots.latest(gateway).await?;
        let (counts, statuses) = &*said;
        let now = Timestamp::now();
        let readiness = gateway.readiness();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: gateway.started.elapsed().as_secs(),
            host: HOST.clone(),
            listen: gateway.config.server.listen.to_string(),
            shared: gateway.store.is_shared(),
            accepting: readiness.is_ok(),
            reason: readiness.err(),
            window_s: WINDOW,
            integrations: gateway
                .integrations
                .values()
                .filter(|integration| {
                    caller.may(Action::Read, &integration.name)
                        || caller.may(Action::Invoke, &integration.name)
                })
                .map(|integration| {
                    IntegrationOverview::of(gateway, caller, integration, counts, now)
                })
                .collect(),
            endpoints: endpoints::views(gateway, caller, statuses),
        })
    }

    /// Whether anything but the clock has moved since.
    pub(super) fn differs(&self, from: &Self) -> bool {
        let uptime_s = from.uptime_s;
        *from
            != Self {
                uptime_s,
                ..self.clone()
            }
    }
}

impl IntegrationOverview {
    fn of(
        gateway: &Gateway,
        caller: &Caller,
        integration: &Integration,
        counts: &Counts,
        now: Timestamp,
    ) -> Self {
        let minute = integration.recent.minute();
        let jobs = |state: JobState| {
            counts
                .tallies
                .iter()
                .find(|tally| tally.integration == integration.name && tally.state == state)
                .map_or(0, |tally| tally.jobs)
        };
        let oldest = counts
            .oldest
            .iter()
            .find(|(name, _)| *name == integration.name)
            .map(|(_, due)| now.duration_since(*due).as_secs_f64().max(0.0));
        Self {
            name: integration.name.clone(),
            pattern: integration.pattern.name(),
            takes: catalog::takes(integration.takes),
            steps: integration
                .pipeline
                .steps()
                .map(|(service, task)| StepOverview {
                    service: service.to_owned(),
                    task: task.name(),
                })
                .collect(),
            deliver: gateway
                .channels()
                .filter(|channel| channel.endpoint.integration == integration.name)
                .map(|channel| ChannelOverview {
                    channel: channel.endpoint.channel,
                    kind: channel.kind,
                    receiver: channel.receiver,
                })
                .collect(),
            may_invoke: caller.may(Action::Invoke, &integration.name),
            deadline_s: integration.deadline.as_secs_f64(),
            max_body: integration.max_body,
            rate: rounded(minute.rate),
            error_share: match minute.count {
                0 => 0.0,
                count => rounded(minute.failed as f64 / count as f64),
            },
            p50_ms: minute.p50.map(milliseconds),
            p99_ms: minute.p99.map(milliseconds),
            count: minute.count,
            queued: jobs(JobState::Queued),
            running: jobs(JobState::Running),
            waiting: jobs(JobState::Waiting),
            oldest_waiting_s: oldest.map(|age| (age * 10.0).round() / 10.0),
            stream: gateway
                .streams
                .of_integration(&integration.name)
                .filter(|_| caller.may(Action::Read, &integration.name))
                .map(|reader| StreamOverview {
                    figures: Figures::of(reader, gateway),
                    failed: jobs(JobState::Failed),
                }),
        }
    }
}

pub(super) async fn show(session: Session) -> Result<Response, Refusal> {
    let overview = Overview::of(&session.gateway, &session.caller).await?;
    Ok(no_store(Json(overview).into_response()))
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
