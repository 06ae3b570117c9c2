//! Topics as these tests need them, and what the gateway says.

use std::time::{Duration, Instant};

pub(crate) use linkspan_testkit::topics::{Seen, client, give, shows, unique, write};
use linkspan_testkit::{Gateway, KafkaCluster, topics};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, Producer as _};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

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
    let properties: Vec<_> = [("retention.ms", "-1")]
        .iter()
        .chain(properties)
        .copied()
        .collect();
    topics::make(&client(kafka), name, partitions, &properties).await;
}

/// Writes a record by a producer of its own settings.
pub(crate) fn write_with(producer: &BaseProducer, topic: &str, record: &Seen) {
    give(producer, topic, record);
    producer.flush(PATIENCE).expect("the record arrives");
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

/// Waits until the gateway has logged a sentence.
pub(crate) async fn says(gateway: &Gateway, sentence: &str) {
    let end = Instant::now() + PATIENCE;
    while !gateway.log().contains(sentence) {
        assert!(Instant::now() < end, "no {sentence:?} in {}", gateway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
