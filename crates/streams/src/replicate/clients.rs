//! The clients of librdkafka that a replication needs, and how they are set.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::producer::BaseProducer;
use rdkafka::statistics::Statistics;

use super::reports::Reports;
use super::{ReplicateError, Settings};
use crate::kafka::Cluster;

/// How long one question to a cluster may take.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// How long a transaction may be open before the target gives it up. Longer than one can take: `LONGEST` to fill it, and twice
/// `PATIENCE`, once where the producer's queue is full and once for the commit.
pub(super) const TRANSACTION: Duration = Duration::from_secs(120);

/// The context of a client that only asks.
pub(super) struct Quiet;

/// The context of the consumer that copies: keeps what the statistics tell.
#[derive(Default)]
pub(super) struct Watched {
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// How often.
    times: u64,
    edges: HashMap<String, HashMap<i32, Edges>>,
}

/// What the source holds of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edges {
    pub(super) low: i64,
    /// The end for a reader of committed records.
    pub(super) end: i64,
    /// Whether librdkafka has given up to read it.
    pub(super) given_up: bool,
}

pub(super) type Reader = BaseConsumer<Quiet>;

/// A consumer that reads what it is assigned to, committed records only, and never guesses where to begin.
pub(super) fn reading(cluster: &Cluster, group: &str) -> ClientConfig {
    let mut config = patient(cluster);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("check.crcs", "true");
    config
}

/// A consumer beside the copying one.
pub(super) fn reader(cluster: &Cluster, group: &str, side: &str) -> Result<Reader, ReplicateError> {
    beside(cluster, group, side, "read_committed")
}

/// The same, that also sees what is not committed.
pub(super) fn uncommitted(
    cluster: &Cluster,
    group: &str,
    side: &str,
) -> Result<Reader, ReplicateError> {
    beside(cluster, group, side, "read_uncommitted")
}

fn beside(
    cluster: &Cluster,
    group: &str,
    side: &str,
    isolation: &str,
) -> Result<Reader, ReplicateError> {
    let mut config = reading(cluster, group);
    config
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("queued.max.messages.kbytes", "8192")
        .set("fetch.wait.max.ms", "100");
    config.create_with_context(Quiet).map_err(|fault| {
        ReplicateError::new(format!("make a consumer for the {side} cluster"), &fault)
    })
}

/// The consumer that copies.
pub(super) fn copying(settings: &Settings) -> Result<BaseConsumer<Watched>, ReplicateError> {
    let mut config = reading(&settings.source, &settings.transactional_id());
    config
        .set(
            "queued.max.messages.kbytes",
            settings.buffer_kib.to_string(),
        )
        .set("queued.min.messages", "1000000")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.message.max.bytes", "2097152")
        .set("fetch.max.bytes", "16777216")
        .set("fetch.error.backoff.ms", "100")
        // By default a full queue keeps librdkafka from fetching for a second.
        .set("fetch.queue.backoff.ms", "5")
        .set("topic.metadata.refresh.interval.ms", "30000")
        .set("statistics.interval.ms", "1000");
    config
        .create_with_context(Watched::default())
        .map_err(|fault| ReplicateError::new("make a consumer for the source cluster", &fault))
}

/// The transactional producer of the target. `batch` is the smallest batch that one of the topics takes, in bytes.
pub(super) fn producing(
    settings: &Settings,
    batch: usize,
) -> Result<BaseProducer<Reports>, ReplicateError> {
    let mut config = patient(&settings.target);
    config
        .set("transactional.id", settings.transactional_id())
        .set(
            "transaction.timeout.ms",
            TRANSACTION.as_millis().to_string(),
        )
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", settings.compression.name())
        .set("linger.ms", "5")
        .set("batch.size", batch.to_string())
        .set("batch.num.messages", "100000")
        // The brokers judge; a record that the source took is not refused here.
        .set("message.max.bytes", "1000000000")
        .set("queue.buffering.max.messages", "1000000")
        .set(
            "queue.buffering.max.kbytes",
            settings.buffer_kib.to_string(),
        )
        .set("allow.auto.create.topics", "false");
    config
        .create_with_context(Reports::default())
        .map_err(|fault| ReplicateError::new("make a producer for the target cluster", &fault))
}

pub(super) fn admin(cluster: &Cluster, side: &str) -> Result<AdminClient<Quiet>, ReplicateError> {
    patient(cluster)
        .create_with_context(Quiet)
        .map_err(|fault| {
            ReplicateError::new(format!("make a client for the {side} cluster"), &fault)
        })
}

/// A link that comes back is noticed soon.
fn patient(cluster: &Cluster) -> ClientConfig {
    let mut config = cluster.client();
    config
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.connection.setup.timeout.ms", "10000");
    config
}

impl Watched {
    pub(super) fn edges(&self, topic: &str, partition: i32) -> Option<Edges> {
        self.told().edges.get(topic)?.get(&partition).copied()
    }

    /// How often the statistics have come.
    pub(super) fn times(&self) -> u64 {
        self.told().times
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Watched {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: rdkafka::error::KafkaError, _: &str) {
        tracing::debug!(%error, "librdkafka");
    }

    fn stats(&self, statistics: Statistics) {
        let mut told = self.told();
        told.times += 1;
        for (topic, statistics) in statistics.topics {
            let known = told.edges.entry(topic).or_default();
            for (partition, statistics) in statistics.partitions {
                let given_up = statistics.fetch_state == "none";
                if partition >= 0 && (statistics.ls_offset >= 0 || given_up) {
                    let edges = Edges {
                        low: statistics.lo_offset,
                        end: statistics.ls_offset.max(0),
                        given_up,
                    };
                    known.insert(partition, edges);
                }
            }
        }
    }
}

impl ConsumerContext for Watched {}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: rdkafka::error::KafkaError, _: &str) {
        tracing::debug!(%error, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

/// librdkafka's own words. Addresses, topics and codes stand in them; no content of a record.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::warn!(facility, "librdkafka: {message}");
        }
        _ => tracing::debug!(facility, "librdkafka: {message}"),
    }
}
