//! Topics of a [`KafkaCluster`], the records that go in, and what readers see.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::KafkaCluster;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A record as it lies in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The partition.
    pub partition: i32,
    /// The offset; none of a record that is written.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
}

impl Seen {
    /// The key as text.
    ///
    /// # Panics
    ///
    /// Where there is none, or it is no text.
    #[must_use]
    pub fn key(&self) -> &str {
        text(self.key.as_deref())
    }

    /// The value as JSON.
    ///
    /// # Panics
    ///
    /// Where there is none, or it is no JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(self.value.as_deref().expect("a value")).expect("JSON")
    }

    /// The values of a header, in order.
    ///
    /// # Panics
    ///
    /// Where one is no text.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(header, _)| header == name);
        named.map(|(_, value)| text(value.as_deref())).collect()
    }

    /// The value of a header that stands there once.
    ///
    /// # Panics
    ///
    /// Where it does not.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {:?}", self.headers);
        all[0]
    }
}

fn text(bytes: Option<&[u8]>) -> &str {
    std::str::from_utf8(bytes.expect("bytes")).expect("UTF-8")
}

/// The settings of a client of the cluster.
#[must_use]
pub fn client(kafka: &KafkaCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.brokers())
        .set("enable.idempotence", "true")
        .set_log_level(RDKafkaLogLevel::Critical);
    config
}

/// A name that no other test of this process has.
#[must_use]
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a topic of that very name.
///
/// # Panics
///
/// When it cannot be made.
pub async fn make(client: &ClientConfig, name: &str, partitions: i32, properties: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = client.create().expect("an admin client");
    let mut new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (property, value) in properties {
        new = new.set(property, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = admin
        .create_topics([&new], &options)
        .await
        .expect("an answer");
    made[0].as_ref().expect("the topic is made");
}

/// A test fails where a record does not arrive.
struct Delivered;

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((fault, _)) = result {
            panic!("a record did not arrive: {fault}");
        }
    }
}

/// Writes records as they are.
///
/// # Panics
///
/// When one does not arrive.
pub fn write(kafka: &KafkaCluster, topic: &str, records: &[Seen]) {
    let producer: BaseProducer<Delivered> = client(kafka)
        .create_with_context(Delivered)
        .expect("a producer");
    for record in records {
        give(&producer, topic, record);
    }
    producer.flush(PATIENCE).expect("the records arrive");
}

/// Gives a record to a producer.
///
/// # Panics
///
/// When it takes none.
pub fn give<C: ProducerContext<DeliveryOpaque = ()>>(
    producer: &BaseProducer<C>,
    topic: &str,
    record: &Seen,
) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        let value = value.as_deref();
        headers = headers.insert(Header { key, value });
    }
    let mut new: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
        .partition(record.partition)
        .headers(headers);
    if let Some(key) = &record.key {
        new = new.key(key);
    }
    if let Some(value) = &record.value {
        new = new.payload(value);
    }
    if let Some(timestamp) = record.timestamp {
        new = new.timestamp(timestamp);
    }
    producer
        .send(new)
        .map_err(|(fault, _)| fault)
        .expect("room");
}

/// Waits until a topic shows that many records to readers of committed transactions, and gives all that it shows then, by partition and
/// offset. The topic may still have to be made.
///
/// # Panics
///
/// When that takes too long.
pub async fn shows(kafka: &'static KafkaCluster, topic: &str, count: usize) -> Vec<Seen> {
    let topic = topic.to_owned();
    let read = tokio::task::spawn_blocking(move || read(kafka, &topic, count, "read_committed"));
    read.await.expect("the topic is read")
}

/// What readers of committed transactions see of a topic, by partition and offset.
///
/// # Panics
///
/// When it cannot be read to its end.
#[must_use]
pub fn dump(kafka: &KafkaCluster, topic: &str) -> Vec<Seen> {
    read(kafka, topic, 0, "read_committed")
}

/// What lies in a topic, aborted transactions too.
///
/// # Panics
///
/// When it cannot be read to its end.
#[must_use]
pub fn dump_uncommitted(kafka: &KafkaCluster, topic: &str) -> Vec<Seen> {
    read(kafka, topic, 0, "read_uncommitted")
}

fn read(kafka: &KafkaCluster, topic: &str, count: usize, isolation: &str) -> Vec<Seen> {
    let consumer: BaseConsumer = client(kafka)
        .set("group.id", unique("reader"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .create()
        .expect("a consumer");
    let end = Instant::now() + PATIENCE;
    let partitions = loop {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE);
        let found = metadata.expect("metadata").topics()[0].partitions().len();
        if found > 0 {
            break i32::try_from(found).expect("a count");
        }
        assert!(Instant::now() < end, "{topic} is not there");
    };
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("a partition");
    }
    consumer.assign(&list).expect("an assignment");
    let mut seen = Vec::new();
    let mut ended = HashSet::new();
    while seen.len() < count || ended.len() < list.count() {
        assert!(
            Instant::now() < end,
            "{topic} shows {} of {count} records",
            seen.len()
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                ended.remove(&message.partition());
                seen.push(Seen {
                    partition: message.partition(),
                    offset: message.offset(),
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: message.headers().map_or_else(Vec::new, |headers| {
                        let pair = |header: Header<'_, &[u8]>| {
                            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
                        };
                        headers.iter().map(pair).collect()
                    }),
                    timestamp: message.timestamp().to_millis(),
                });
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            // The broker is being started again.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )))
            | None => {}
            Some(Err(fault)) => panic!("{topic}: {fault}"),
        }
    }
    seen.sort_by_key(|record| (record.partition, record.offset));
    seen
}
