//! Pattern 4 in the demo: reviews in the estate's Kafka cluster are copied to the cloud's, worked on there, and their results are copied
//! back, each step exactly once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use linkspan_model::config::{Config, Reference};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::Failure;
use super::stream::Review;
use crate::served::Served;

/// How often the reviews are written: as many records as make counting them worth it.
const TIMES: usize = 500;

const PARTITIONS: i32 = 3;
const SOURCE: &str = "reviews";

/// Where results lie, by what was expected of the review.
const TOPICS: [(&str, &str); 4] = [
    ("positive", "reviews.happy"),
    ("negative", "reviews.unhappy"),
    ("neutral", "reviews.others"),
    ("dead", "reviews.dead"),
];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a cluster may take to answer before it is asked again.
const TURN: Duration = Duration::from_secs(5);

/// The two clusters' brokers.
#[derive(Clone, Debug)]
pub(super) struct Clusters {
    pub(super) estate: String,
    pub(super) cloud: String,
}

/// Starts the gateway between the clusters.
pub(super) async fn start(clusters: &Clusters, folder: &Path) -> Result<Served, Failure> {
    let resolve = |reference: Reference<'_>| match reference {
        Reference::Env("DEMO_ESTATE") => Ok(clusters.estate.clone()),
        Reference::Env("DEMO_CLOUD") => Ok(clusters.cloud.clone()),
        other => Err(format!("the demo refers to nothing called {other}")),
    };
    let mut config = Config::parse(include_str!("kafka.toml"), "kafka.toml", &resolve)
        .map_err(|faults| Failure::work(faults.to_string()))?;
    config.server.listen.set_port(0);
    let topics = TOPICS.map(|(_, topic)| topic);
    make(&clusters.cloud, &topics).await?;
    make(&clusters.estate, &[SOURCE]).await?;
    Served::start(config, folder)
        .await
        .map_err(|error| Failure::of(&error))
}

/// Writes the reviews into the estate, and waits for their results there. True where each came once, in its topic.
pub(super) async fn show(clusters: &Clusters) -> Result<bool, Failure> {
    let clusters = clusters.clone();
    tokio::task::spawn_blocking(move || {
        let begin = Instant::now();
        let expected = write(&clusters.estate)?;
        let records: usize = expected.values().map(BTreeMap::len).sum();
        eprintln!("{records} reviews are in the estate's topic {SOURCE}");
        let found = read(&clusters.estate, records)?;
        let took = begin.elapsed();
        let mut right = true;
        for (label, topic) in TOPICS {
            let none = BTreeMap::new();
            let (expected, found) = (
                expected.get(label).unwrap_or(&none),
                found.get(topic).unwrap_or(&none),
            );
            let missing = expected.keys().filter(|key| !found.contains_key(*key));
            let twice = found.values().filter(|count| **count > 1);
            let (missing, twice) = (missing.count(), twice.count());
            right &= expected == found;
            let _ = writeln!(
                std::io::stdout(),
                "full-stream:      {topic:<16} {} results, {missing} missing, {twice} twice",
                found.len()
            );
        }
        let _ = writeln!(
            std::io::stdout(),
            "from the estate to the cloud, through {} steps and back: {records} records in {:.1} s",
            2,
            took.as_secs_f64()
        );
        Ok(right)
    })
    .await
    .map_err(|error| Failure::of(&error))?
}

type Counts<'k> = BTreeMap<&'k str, BTreeMap<String, usize>>;

/// Writes the reviews, each under a key of its own; gives the keys by what is expected.
fn write(brokers: &str) -> Result<Counts<'static>, Failure> {
    let producer: BaseProducer = client(brokers)
        .set("enable.idempotence", "true")
        .create()
        .map_err(|error| Failure::of(&error))?;
    let mut expected = Counts::new();
    let reviews = Review::all()?;
    for time in 0..TIMES {
        for (nth, (review, line)) in reviews.iter().enumerate() {
            let key = format!("{}-{time}-{nth}", review.product);
            let label = TOPICS.map(|(label, _)| label);
            let label = label.into_iter().find(|label| *label == review.expected);
            let label = label.ok_or_else(|| Failure::work("a review expects no known label"))?;
            expected.entry(label).or_default().insert(key.clone(), 1);
            while producer
                .send(BaseRecord::to(SOURCE).key(&key).payload(*line))
                .is_err()
            {
                producer.poll(Duration::from_millis(10));
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer
        .flush(PATIENCE)
        .map_err(|error| Failure::of(&error))?;
    Ok(expected)
}

/// Reads what is committed in the result topics until as many records are there as were written, and a moment longer: one that came
/// twice would come then.
fn read(brokers: &str, records: usize) -> Result<Counts<'static>, Failure> {
    let consumer: BaseConsumer = client(brokers)
        .set("group.id", "linkspan-demo")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set("allow.auto.create.topics", "false")
        .create()
        .map_err(|error| Failure::of(&error))?;
    let topics = TOPICS.map(|(_, topic)| topic);
    consumer
        .subscribe(&topics)
        .map_err(|error| Failure::of(&error))?;
    let mut found = Counts::new();
    let (mut count, mut end) = (0, Instant::now() + PATIENCE);
    let mut settling = false;
    while Instant::now() < end {
        if count >= records && !settling {
            settling = true;
            end = Instant::now() + Duration::from_secs(2);
        }
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let Some(topic) = topics.into_iter().find(|topic| *topic == message.topic()) else {
            continue;
        };
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        *found.entry(topic).or_default().entry(key).or_default() += 1;
        count += 1;
    }
    Ok(found)
}

async fn make(brokers: &str, topics: &[&str]) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = client(brokers)
        .create()
        .map_err(|error| Failure::of(&error))?;
    let new: Vec<_> = topics
        .iter()
        .map(|topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1)))
        .collect();
    // A cluster that does not answer is told of soon, and one that just starts is waited for.
    let options = AdminOptions::new()
        .request_timeout(Some(TURN))
        .operation_timeout(Some(TURN));
    let end = Instant::now() + PATIENCE;
    let made = loop {
        match admin.create_topics(&new, &options).await {
            Ok(made) => break made,
            Err(error) if Instant::now() > end => return Err(Failure::of(&error)),
            Err(_) => eprintln!("no answer from {brokers} yet"),
        }
    };
    for topic in made {
        match topic {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => {
                return Err(Failure::work(format!(
                    "the topic {topic} cannot be made: {error}"
                )));
            }
        }
    }
    Ok(())
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}
