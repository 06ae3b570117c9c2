//! Topics, records that go in, and what readers of committed transactions see.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use linkspan_testkit::{Gateway, KafkaCluster};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A record as it lies in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp: Option<i64>,
}

impl Seen {
    pub(crate) fn key(&self) -> &str {
        text(self.key.as_deref())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.value.as_deref().expect("a value")).expect("JSON")
    }

    /// The values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(header, _)| header == name);
        named.map(|(_, value)| text(value.as_deref())).collect()
    }

    /// The value of a header that stands there once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {:?}", self.headers);
        all[0]
    }
}

fn text(bytes: Option<&[u8]>) -> &str {
    std::str::from_utf8(bytes.expect("bytes")).expect("UTF-8")
}

pub(crate) fn client(kafka: &KafkaCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.brokers())
        .set("enable.idempotence", "true")
        .set_log_level(RDKafkaLogLevel::Critical);
    config
}

/// A name that no other test has.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a topic whose records stay, however old.
pub(crate) async fn topic(kafka: &KafkaCluster, name: &str, partitions: i32) -> String {
    let name = unique(name);
    make(kafka, &name, partitions).await;
    name
}

/// Makes a topic of that very name.
pub(crate) async fn make(kafka: &KafkaCluster, name: &str, partitions: i32) {
    make_with(kafka, name, partitions, &[]).await;
}

/// The same with more properties.
pub(crate) async fn make_with(
    kafka: &KafkaCluster,
    name: &str,
    partitions: i32,
    properties: &[(&str, &str)],
) {
    let admin: AdminClient<DefaultClientContext> = client(kafka).create().expect("an admin client");
    let mut new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (property, value) in [("retention.ms", "-1")].iter().chain(properties) {
        new = new.set(property, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = admin
        .create_topics([&new], &options)
        .await
        .expect("an answer");
    made[0].as_ref().expect("the topic is made");
}

/// Writes records as they are.
pub(crate) fn write(kafka: &KafkaCluster, topic: &str, records: &[Seen]) {
    let producer: BaseProducer = client(kafka).create().expect("a producer");
    for record in records {
        give(&producer, topic, record);
    }
    producer.flush(PATIENCE).expect("the records arrive");
}

/// Writes a record by a producer of its own settings.
pub(crate) fn write_with(producer: &BaseProducer, topic: &str, record: &Seen) {
    give(producer, topic, record);
    producer.flush(PATIENCE).expect("the record arrives");
}

/// Gives a record to a producer.
pub(crate) fn give<C: ProducerContext<DeliveryOpaque = ()>>(
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

/// How many partitions a topic has.
pub(crate) fn partitions(kafka: &KafkaCluster, topic: &str) -> usize {
    let consumer: BaseConsumer = client(kafka).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE);
    metadata.expect("metadata").topics()[0].partitions().len()
}

/// How far a topic's partitions go, all together; grows with every transaction that writes to it.
pub(crate) async fn length(kafka: &'static KafkaCluster, topic: &str) -> i64 {
    let topic = topic.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(kafka).create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE);
        let metadata = metadata.expect("metadata");
        let partitions = metadata.topics()[0].partitions();
        let ends = partitions.iter().map(|partition| {
            let marks = consumer.fetch_watermarks(&topic, partition.id(), PATIENCE);
            marks.expect("watermarks").1
        });
        ends.sum()
    });
    asked.await.expect("the topic's length")
}

/// Waits until a topic shows that many records to readers of committed transactions, and gives all that it shows then, by partition and
/// offset. The topic may still have to be made.
pub(crate) async fn shows(kafka: &'static KafkaCluster, topic: &str, count: usize) -> Vec<Seen> {
    let topic = topic.to_owned();
    let read = tokio::task::spawn_blocking(move || read(kafka, &topic, count));
    read.await.expect("the topic is read")
}

fn read(kafka: &KafkaCluster, topic: &str, count: usize) -> Vec<Seen> {
    let consumer: BaseConsumer = client(kafka)
        .set("group.id", unique("reader"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
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

/// Waits until the gateway has logged a sentence.
pub(crate) async fn says(gateway: &Gateway, sentence: &str) {
    let end = Instant::now() + PATIENCE;
    while !gateway.log().contains(sentence) {
        assert!(Instant::now() < end, "no {sentence:?} in {}", gateway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
