//! What the tests do with clusters: make topics, write, read, wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use linkspan_streams::kafka::Cluster;
use linkspan_streams::replicate::{Replicator, Settings, State, Status, TopicState};
use linkspan_testkit::KafkaCluster;
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A record as it stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp: Option<i64>,
}

impl Kept {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).expect("text")
    }

    /// Without where it stands.
    pub(crate) fn content(&self) -> Self {
        Self {
            offset: 0,
            ..self.clone()
        }
    }
}

pub(crate) fn cluster(of: &KafkaCluster) -> Cluster {
    Cluster::new(&of.brokers(), None, None, Vec::new()).expect("a cluster")
}

/// Settings with short times.
pub(crate) fn settings(
    name: &str,
    source: &KafkaCluster,
    target: &KafkaCluster,
    topics: &[&str],
) -> Settings {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let mut settings = Settings::new(name, cluster(source), cluster(target), topics);
    settings.sync_every = Duration::from_secs(1);
    settings.commit_every = Duration::from_millis(100);
    settings.sign_every = Duration::from_millis(500);
    settings
}

pub(crate) fn client(of: &KafkaCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", of.brokers());
    config
}

pub(crate) fn admin(of: &KafkaCluster) -> AdminClient<DefaultClientContext> {
    client(of).create().expect("an admin client")
}

/// Waits for a future of rdkafka's.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

pub(crate) fn make_topic(of: &KafkaCluster, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (name, value) in config {
        topic = topic.set(name, value);
    }
    let made = wait(admin(of).create_topics([&topic], &AdminOptions::new()));
    made.expect("an answer")
        .pop()
        .expect("a result")
        .expect("the topic is made");
}

pub(crate) fn delete_topic(of: &KafkaCluster, name: &str) {
    let deleted = wait(admin(of).delete_topics(&[name], &AdminOptions::new()));
    deleted
        .expect("an answer")
        .pop()
        .expect("a result")
        .expect("the topic is deleted");
}

/// What was set on a topic itself.
pub(crate) fn config_of(of: &KafkaCluster, name: &str) -> BTreeMap<String, String> {
    use rdkafka::admin::{ConfigSource, ResourceSpecifier};
    let asked = [ResourceSpecifier::Topic(name)];
    let told = wait(admin(of).describe_configs(&asked, &AdminOptions::new()));
    let resource = told.expect("an answer").pop().expect("a result");
    let Ok(resource) = resource else {
        return BTreeMap::new();
    };
    resource
        .entries
        .into_iter()
        .filter(|entry| entry.source == ConfigSource::DynamicTopic)
        .map(|entry| (entry.name, entry.value.unwrap_or_default()))
        .collect()
}

pub(crate) fn partitions_of(of: &KafkaCluster, name: &str) -> usize {
    let admin = admin(of);
    let metadata = admin
        .inner()
        .fetch_metadata(Some(name), PATIENCE)
        .expect("metadata");
    metadata.topics()[0].partitions().len()
}

pub(crate) fn producer(of: &KafkaCluster) -> BaseProducer {
    let mut config = client(of);
    config.set("enable.idempotence", "true");
    config.create().expect("a producer")
}

pub(crate) fn transactional(of: &KafkaCluster, id: &str) -> BaseProducer {
    let mut config = client(of);
    config.set("transactional.id", id);
    let producer: BaseProducer = config.create().expect("a producer");
    producer
        .init_transactions(PATIENCE)
        .expect("the transactions begin");
    producer
}

/// Writes a value with its number as key.
pub(crate) fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
    let mut record = BaseRecord::to(topic)
        .partition(partition)
        .key("key")
        .payload(value);
    let end = Instant::now() + PATIENCE;
    while let Err((fault, back)) = producer.send(record) {
        assert!(Instant::now() < end, "{fault}");
        producer.poll(Duration::from_millis(10));
        record = back;
    }
}

/// Writes numbered values, so many to each partition.
pub(crate) fn fill(
    of: &KafkaCluster,
    topic: &str,
    partitions: i32,
    numbers: std::ops::Range<usize>,
) {
    let producer = producer(of);
    for number in numbers {
        for partition in 0..partitions {
            send(
                &producer,
                topic,
                partition,
                &format!("{partition}:{number}"),
            );
        }
    }
    producer.flush(PATIENCE).expect("all is written");
}

pub(crate) fn headers(list: &[(&str, Option<&str>)]) -> OwnedHeaders {
    list.iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: *value })
        })
}

/// Reads what a reader of committed records finds in a partition.
pub(crate) fn read(of: &KafkaCluster, topic: &str, partition: i32) -> Vec<Kept> {
    let mut config = client(of);
    config
        .set("group.id", "reads")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)
        .expect("an assignment");
    consumer.assign(&list).expect("it is assigned");
    let mut kept = Vec::new();
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "{topic}/{partition} has an end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => kept.push(Kept {
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    let list = headers.iter();
                    list.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                        .collect()
                }),
                timestamp: message.timestamp().to_millis(),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => return kept,
            Some(Err(_)) | None => {}
        }
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the replication has copied a topic up to its end.
pub(crate) fn until_copied(replicator: &Replicator, of: &KafkaCluster, topic: &str) {
    let ends = ends(of, topic);
    let end = Instant::now() + PATIENCE;
    loop {
        let status = replicator.status();
        let copied = status.topics.iter().find(|known| known.source == topic);
        let copied = copied.is_some_and(|known| {
            known.partitions.len() == ends.len()
                && known.partitions.iter().all(|partition| {
                    partition.done.unwrap_or_default() >= ends[partition.partition as usize]
                })
        });
        if copied {
            return;
        }
        assert!(
            Instant::now() < end,
            "{topic} is not copied up to {ends:?}: {status:#?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The ends of a topic's partitions.
pub(crate) fn ends(of: &KafkaCluster, topic: &str) -> Vec<i64> {
    let consumer: BaseConsumer = client(of).create().expect("a consumer");
    (0..partitions_of(of, topic))
        .map(|partition| {
            consumer
                .fetch_watermarks(topic, partition as i32, PATIENCE)
                .expect("the end")
                .1
        })
        .collect()
}

/// Waits until a topic is stopped, and gives the sentence.
pub(crate) fn until_stopped(replicator: &Replicator, topic: &str) -> String {
    let mut why = String::new();
    until(&format!("{topic} is stopped"), || {
        let status = replicator.status();
        let topic = status.topics.iter().find(|known| known.source == topic);
        match topic.map(|topic| &topic.state) {
            Some(TopicState::Stopped(sentence)) => {
                why.clone_from(sentence);
                true
            }
            _ => false,
        }
    });
    why
}

pub(crate) fn is_failed(status: &Status) -> Option<&str> {
    match &status.state {
        State::Failed(why) => Some(why),
        _ => None,
    }
}

/// All partitions are the same on both sides but for where the records stand.
pub(crate) fn assert_same(
    source: &KafkaCluster,
    target: &KafkaCluster,
    from: &str,
    to: &str,
    partitions: i32,
) -> usize {
    let mut count = 0;
    for partition in 0..partitions {
        let one: Vec<_> = read(source, from, partition)
            .iter()
            .map(Kept::content)
            .collect();
        let other: Vec<_> = read(target, to, partition)
            .iter()
            .map(Kept::content)
            .collect();
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        if let Some(at) = differs {
            panic!(
                "{from}/{partition} differs at record {at}: {:?} became {:?}",
                one[at], other[at]
            );
        }
        assert_eq!(one.len(), other.len(), "records of {from}/{partition}");
        count += one.len();
    }
    count
}

/// Deletes the records of a partition before an offset.
pub(crate) fn delete_before(of: &KafkaCluster, topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .expect("an offset");
    wait(admin(of).delete_records(&list, &AdminOptions::new())).expect("they are deleted");
}
