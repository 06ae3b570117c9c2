//! Replications over HTTP: how the copying between clusters goes.

use axum::response::{IntoResponse, Response};
use linkspan_streams::replicate::{PartitionStatus, State, Status, TopicState, TopicStatus};
use schemars::JsonSchema;
use serde::Serialize;

use super::session::Session;
use crate::keys::Action;
use crate::refusal::Refusal;

/// The replications of this gateway.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReplicationsPage {
    /// The replications, by name.
    pub replications: Vec<ReplicationView>,
}

/// A replication: topics of one Kafka cluster copied to another.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReplicationView {
    /// Its name: `[replicate.NAME]`.
    pub name: String,
    /// The cluster that is copied from, `[kafka.NAME]`.
    pub from: String,
    /// The cluster that is copied to.
    pub to: String,
    /// `starting`, `running`, `standby` (another gateway copies, and this one takes its place when it has gone), `waiting` (it cannot copy
    /// now and tries again), `failed` (it has given up) or `stopped` (the gateway ends).
    pub state: &'static str,
    /// Why it waits or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Records that this gateway has copied and committed since it started.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Records a second, over the last seconds.
    pub records_per_second: f64,
    /// Bytes a second.
    pub bytes_per_second: f64,
    /// Its topics.
    pub topics: Vec<ReplicatedTopic>,
}

/// A topic of a replication.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReplicatedTopic {
    /// Its name on the source.
    pub source: String,
    /// Its name on the target.
    pub target: String,
    /// `running` or `stopped`.
    pub state: &'static str,
    /// Why it has stopped, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What could not be kept in step, though it is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Records that this gateway has copied and committed since it started.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Offsets that are not copied yet, where that is known: at least as many as there are records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// The age of the last copied record while there is a lag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    /// Its partitions.
    pub partitions: Vec<ReplicatedPartition>,
}

/// A partition of a replicated topic.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReplicatedPartition {
    /// Its number.
    pub partition: i32,
    /// The source's end for a reader of committed records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_end: Option<i64>,
    /// The source offset up to which, not with which, all is copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<i64>,
    /// Offsets between the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

impl ReplicationView {
    /// A status as callers see it.
    #[must_use]
    pub fn new(from: &str, to: &str, status: Status) -> Self {
        let (state, reason) = match status.state {
            State::Starting => ("starting", None),
            State::Running => ("running", None),
            State::Standby => ("standby", None),
            State::Waiting(why) => ("waiting", Some(why)),
            State::Stopped => ("stopped", None),
            State::Failed(why) => ("failed", Some(why)),
            State::Seen => ("seen", None),
        };
        Self {
            name: status.name,
            from: from.to_owned(),
            to: to.to_owned(),
            state,
            reason,
            records: status.records,
            bytes: status.bytes,
            records_per_second: status.records_per_second,
            bytes_per_second: status.bytes_per_second,
            topics: status.topics.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<TopicStatus> for ReplicatedTopic {
    fn from(topic: TopicStatus) -> Self {
        let (lag, lag_time) = (topic.lag(), topic.lag_time());
        let (state, reason) = match topic.state {
            TopicState::Running => ("running", None),
            TopicState::Stopped(why) => ("stopped", Some(why)),
        };
        Self {
            source: topic.source,
            target: topic.target,
            state,
            reason,
            warning: topic.warning,
            records: topic.records,
            bytes: topic.bytes,
            lag,
            lag_seconds: lag_time.map(|time| time.as_secs_f64()),
            partitions: topic.partitions.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<PartitionStatus> for ReplicatedPartition {
    fn from(partition: PartitionStatus) -> Self {
        Self {
            partition: partition.partition,
            source_end: partition.source_end,
            done: partition.done,
            lag: partition.lag,
        }
    }
}

/// For keys with `read` for all integrations (or `admin`): topics belong to no integration.
pub(super) async fn list(session: Session) -> Result<Response, Refusal> {
    session.must_everywhere(Action::Read)?;
    let gateway = &session.gateway;
    let replications = gateway.replications.status().into_iter().map(|status| {
        let mut given = gateway.config.replications.iter();
        let given = given.find(|(name, _)| name.as_str() == status.name);
        let (from, to) = given.map_or_else(Default::default, |(_, given)| {
            (given.from.to_string(), given.to.to_string())
        });
        ReplicationView::new(&from, &to, status)
    });
    Ok(axum::Json(ReplicationsPage {
        replications: replications.collect(),
    })
    .into_response())
}
