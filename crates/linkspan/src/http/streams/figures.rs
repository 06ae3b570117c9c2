//! How a stream's reading goes, in figures: for the API and for the console.

use jiff::Timestamp;
use linkspan_model::config::stream::Stream;
use schemars::JsonSchema;
use serde::Serialize;

use crate::gateway::Gateway;
use crate::streaming::{Behind, Reader, State};

/// How a stream's reading goes on this gateway. Counts are since its start.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Figures {
    /// What is read.
    pub source: SourceView,
    /// `starting`, `reading`, `waiting` (it met a fault and begins again after a wait) or `stopped`.
    pub state: &'static str,
    /// The fault, where it waits after one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when it is in this state (RFC 3339).
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Records a second, over the last minute; each try counts.
    pub rate: f64,
    /// The share of these that failed.
    pub error_share: f64,
    /// Records taken from the source.
    pub taken: u64,
    /// Records committed, dead letters among them.
    pub committed: u64,
    /// Records that became dead letters.
    pub dead: u64,
    /// Tries after the first.
    pub retried: u64,
    /// Commits.
    pub commits: u64,
    /// Records that were taken and are not committed.
    pub in_flight: u64,
    /// Bytes of them.
    pub in_flight_bytes: u64,
    /// How many calls at once the engine is trusted with, now.
    pub limit: u64,
    /// How far behind the source the lanes that are read here are, in sum; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagView>,
}

/// What a stream is read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SourceView {
    /// `kafka`; `kinesis` for one of Amazon's streams; `own` for one of the gateway's own.
    pub kind: &'static str,
    /// The topic or stream.
    pub name: String,
    /// The Kafka cluster's name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Amazon's region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// How much was not read yet: records where the source counts them (Kafka), else the time that they came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct LagView {
    /// Records; of several lanes their sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Seconds; of several lanes the longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl Figures {
    /// A reader's figures now.
    #[must_use]
    pub fn of(reader: &Reader, gateway: &Gateway) -> Self {
        let (meter, minute) = (reader.meter.read(), reader.integration.recent.minute());
        let status = reader.status();
        let behind = reader.behind();
        Self {
            source: SourceView::of(reader, gateway),
            state: status.state.name(),
            since: status.since,
            reason: match status.state {
                State::Waiting { reason } => Some(reason),
                _ => None,
            },
            rate: rounded(minute.rate),
            error_share: match minute.count {
                0 => 0.0,
                count => rounded(minute.failed as f64 / count as f64),
            },
            taken: meter.taken,
            committed: meter.committed,
            dead: meter.dead,
            retried: meter.retried,
            commits: meter.commits,
            in_flight: meter.in_flight,
            in_flight_bytes: meter.in_flight_bytes,
            limit: meter.limit,
            lag: (!behind.is_empty())
                .then(|| LagView::of(behind.into_iter().map(|(_, behind)| behind))),
        }
    }
}

impl SourceView {
    fn of(reader: &Reader, gateway: &Gateway) -> Self {
        match &reader.source.stream {
            Stream::KafkaSource(kafka) => Self {
                kind: "kafka",
                name: kafka.kafka.to_string(),
                cluster: gateway
                    .config
                    .cluster(kafka.cluster.as_ref())
                    .map(|(name, _)| name.to_string()),
                region: None,
            },
            Stream::KinesisSource(kinesis) => Self {
                kind: if kinesis.aws.is_some() {
                    "kinesis"
                } else {
                    "own"
                },
                name: kinesis.kinesis.to_string(),
                cluster: None,
                region: kinesis.aws.as_ref().map(|aws| aws.region.clone()),
            },
        }
    }
}

impl LagView {
    /// The lag of some lanes.
    #[must_use]
    pub fn of(lanes: impl IntoIterator<Item = Behind>) -> Self {
        let mut lag = Self::default();
        for behind in lanes {
            match behind {
                Behind::Records(records) => {
                    lag.records = Some(lag.records.unwrap_or(0).saturating_add(records));
                }
                Behind::Time(time) => {
                    let seconds = rounded(time.as_secs_f64());
                    lag.seconds = Some(lag.seconds.unwrap_or(0.0).max(seconds));
                }
            }
        }
        lag
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn records_are_summed_and_of_times_the_longest_counts() {
        let seconds = |seconds| Behind::Time(Duration::from_secs(seconds));
        let lag = LagView::of([
            Behind::Records(3),
            seconds(2),
            Behind::Records(4),
            seconds(1),
        ]);
        assert_eq!((lag.records, lag.seconds), (Some(7), Some(2.0)));
        assert_eq!(LagView::of([]), LagView::default());
    }
}
