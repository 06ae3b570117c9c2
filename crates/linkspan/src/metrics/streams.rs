//! What is measured of streams.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Seconds;
use crate::streaming::{Behind, Reader, State};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    integration: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordLabels {
    integration: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    integration: String,
    state: &'static str,
}

/// The metrics of streams. Counters follow what the readers have counted since the process's start.
pub(super) struct StreamMetrics {
    records: Family<RecordLabels, Counter>,
    taken: Family<StreamLabels, Counter>,
    retries: Family<StreamLabels, Counter>,
    commits: Family<StreamLabels, Counter>,
    in_flight: Family<StreamLabels, Gauge>,
    in_flight_bytes: Family<StreamLabels, Gauge>,
    limit: Family<StreamLabels, Gauge>,
    lag_records: Family<StreamLabels, Gauge>,
    lag_seconds: Family<StreamLabels, Seconds>,
    state: Family<StateLabels, Gauge>,
}

impl StreamMetrics {
    /// All of them, registered.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            records: Family::default(),
            taken: Family::default(),
            retries: Family::default(),
            commits: Family::default(),
            in_flight: Family::default(),
            in_flight_bytes: Family::default(),
            limit: Family::default(),
            lag_records: Family::default(),
            lag_seconds: Family::default(),
            state: Family::default(),
        };
        registry.register(
            "linkspan_stream_records",
            "Records committed; outcome is succeeded or dead (a dead letter)",
            metrics.records.clone(),
        );
        registry.register(
            "linkspan_stream_records_taken",
            "Records taken from the source",
            metrics.taken.clone(),
        );
        registry.register(
            "linkspan_stream_retries",
            "Tries of records after the first",
            metrics.retries.clone(),
        );
        registry.register(
            "linkspan_stream_commits",
            "Commits of results with the progress",
            metrics.commits.clone(),
        );
        registry.register(
            "linkspan_stream_in_flight",
            "Records taken and not committed",
            metrics.in_flight.clone(),
        );
        registry.register_with_unit(
            "linkspan_stream_in_flight",
            "Bytes of the records taken and not committed",
            Unit::Bytes,
            metrics.in_flight_bytes.clone(),
        );
        registry.register(
            "linkspan_stream_concurrency_limit",
            "How many calls at once the engine is trusted with",
            metrics.limit.clone(),
        );
        registry.register(
            "linkspan_stream_lag_records",
            "Records of the source that were not read yet, of the lanes that are read here",
            metrics.lag_records.clone(),
        );
        registry.register_with_unit(
            "linkspan_stream_lag",
            "The time that what was not read yet came in, of the lane that is furthest behind here",
            Unit::Seconds,
            metrics.lag_seconds.clone(),
        );
        registry.register(
            "linkspan_stream_state",
            "1 for the state that the reading is in",
            metrics.state.clone(),
        );
        metrics
    }

    /// Takes what a reader says.
    pub(super) fn set(&self, reader: &Reader) {
        let integration = &reader.integration.name;
        let labels = StreamLabels {
            integration: integration.clone(),
        };
        let meter = reader.meter.read();
        for (outcome, total) in [
            ("succeeded", meter.committed.saturating_sub(meter.dead)),
            ("dead", meter.dead),
        ] {
            let counter = self.records.get_or_create_owned(&RecordLabels {
                integration: integration.clone(),
                outcome,
            });
            follow(&counter, total);
        }
        for (counters, total) in [
            (&self.taken, meter.taken),
            (&self.retries, meter.retried),
            (&self.commits, meter.commits),
        ] {
            follow(&counters.get_or_create_owned(&labels), total);
        }
        for (gauges, value) in [
            (&self.in_flight, meter.in_flight),
            (&self.in_flight_bytes, meter.in_flight_bytes),
            (&self.limit, meter.limit),
        ] {
            gauges.get_or_create(&labels).set(whole(value));
        }
        self.set_lag(&labels, reader);
        let now = reader.status().state;
        for state in State::NAMES {
            let labels = StateLabels {
                integration: integration.clone(),
                state,
            };
            let is = i64::from(state == now.name());
            self.state.get_or_create(&labels).set(is);
        }
    }

    /// What is not known has no line: a lag of 0 would say that all is well.
    fn set_lag(&self, labels: &StreamLabels, reader: &Reader) {
        let (mut records, mut seconds) = (None, None);
        for (_, behind) in reader.behind() {
            match behind {
                Behind::Records(some) => records = Some(records.unwrap_or(0_u64) + some),
                Behind::Time(time) => {
                    seconds = Some(time.as_secs_f64().max(seconds.unwrap_or(0.0)));
                }
            }
        }
        match records {
            Some(records) => {
                self.lag_records.get_or_create(labels).set(whole(records));
            }
            None => {
                self.lag_records.remove(labels);
            }
        }
        match seconds {
            Some(seconds) => {
                self.lag_seconds.get_or_create(labels).set(seconds);
            }
            None => {
                self.lag_seconds.remove(labels);
            }
        }
    }
}

fn follow(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
