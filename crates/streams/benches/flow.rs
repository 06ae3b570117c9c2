//! A flow with exactly once, beside a plain copy loop of librdkafka, on the same preloaded topic in the same run:
//! `cargo bench -p linkspan-streams --bench flow`.
//!
//! The plain loop is the limit: one consumer, one idempotent producer, key, headers, timestamp and partition kept, no transaction, no
//! order to keep, offsets committed once at the end. The flow does nothing with a record either, but commits outputs and offsets in
//! transactions. Then a flow whose work takes 200 ms a record, with 1,000 at once: it can be no faster than 5,000 records a second.
//! `FLOW_BENCH_RECORDS` (300,000) of 1 KiB, `FLOW_BENCH_ROUNDS` (3), alternating; medians are shown.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that fails may say so"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use linkspan_streams::Record;
use linkspan_streams::flow::{Failure, Flow, Meter, Order, Process, Settings};
use linkspan_streams::kafka::{
    Cluster, CommitterSettings, KafkaCommitter, KafkaMessage, KafkaOutput, KafkaSource,
    SourceSettings, Start,
};
use linkspan_testkit::KafkaCluster;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const PARTITIONS: i32 = 4;
const SIZE: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(300);

/// How long the simulated call takes, how many there are at once, and how many records are worked on.
const CALL: Duration = Duration::from_millis(200);
const AT_ONCE: usize = 1000;
const CALLS: u64 = 30_000;

fn main() {
    let records = set("FLOW_BENCH_RECORDS", 300_000);
    let rounds = set("FLOW_BENCH_ROUNDS", 3);
    let kafka = KafkaCluster::start(&[]);
    let runtime = Runtime::new().unwrap();
    for topic in ["in", "calls", "out"] {
        runtime.block_on(make(&kafka, topic));
    }
    fill(&kafka, "in", records);
    fill(&kafka, "calls", CALLS);
    println!(
        "records/s of {SIZE} bytes, median of {rounds} rounds, alternating; {}",
        load()
    );
    let (mut plain, mut flows, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        plain.push(copy(&kafka, round, records));
        let noop = Arc::new(Work { call: None });
        let settings = Settings {
            in_flight: 50_000,
            in_flight_bytes: 128 << 20,
            ..Settings::default()
        };
        flows.push(runtime.block_on(flow(&kafka, "in", round, records, noop, settings)));
        let slow = Arc::new(Work { call: Some(CALL) });
        let settings = Settings {
            in_flight: 4 * AT_ONCE,
            concurrency: AT_ONCE,
            ..Settings::default()
        };
        calls.push(runtime.block_on(flow(&kafka, "calls", round, CALLS, slow, settings)));
    }
    let (plain, flows, calls) = (median(plain), median(flows), median(calls));
    let most = AT_ONCE as f64 / CALL.as_secs_f64();
    println!("| | records/s | of the limit |");
    println!("| --- | --- | --- |");
    println!("| plain copy loop, at least once | {plain:.0} | 1 |");
    println!("| flow, exactly once | {flows:.0} | {:.2} |", flows / plain);
    println!(
        "| flow, {CALL:?} a record, {AT_ONCE} at once | {calls:.0} | {:.2} of {most:.0} |",
        calls / most
    );
}

/// What the flow does with a record: nothing, or nothing for a while.
struct Work {
    call: Option<Duration>,
}

#[async_trait]
impl Process for Work {
    type Output = KafkaOutput;

    fn batch(&self) -> usize {
        if self.call.is_some() { 1 } else { 1000 }
    }

    async fn process(&self, records: &[Arc<Record>]) -> Vec<Result<KafkaOutput, Failure>> {
        if let Some(call) = self.call {
            tokio::time::sleep(call).await;
        }
        let topic: Arc<str> = "out".into();
        let output = |record: &Arc<Record>| {
            Ok(KafkaOutput {
                messages: vec![KafkaMessage {
                    topic: topic.clone(),
                    key: None,
                    value: record.value.clone(),
                    headers: Vec::new(),
                }],
            })
        };
        records.iter().map(output).collect()
    }
}

/// Runs a flow until all is committed; the records a second, from its start on.
async fn flow(
    kafka: &KafkaCluster,
    topic: &str,
    round: u64,
    records: u64,
    work: Arc<Work>,
    settings: Settings,
) -> f64 {
    let cluster = Cluster::new(&kafka.brokers(), None, None, Vec::new()).unwrap();
    let name = format!("flow-{topic}-{round}");
    let begin = Instant::now();
    let source = SourceSettings {
        topics: vec![topic.to_owned()],
        group: name.clone(),
        instance: None,
        start: Start::Earliest,
        buffered: 64 << 20,
        release_wait: Duration::from_secs(10),
        session_timeout: Duration::from_secs(30),
        checkpoints: None,
    };
    let (source, group) = KafkaSource::open(&cluster, source).unwrap();
    let committer = CommitterSettings {
        transactional_id: name,
        dead_letters: "dead".into(),
        transaction_timeout: Duration::from_secs(60),
        patience: PATIENCE,
        topics: std::collections::HashMap::new(),
    };
    let committer = KafkaCommitter::open(&cluster, committer, group)
        .await
        .unwrap();
    let (meter, stop) = (Arc::new(Meter::default()), CancellationToken::new());
    let running = tokio::spawn(
        Flow {
            source,
            process: work,
            committer,
            settings: Settings {
                order: Order::Lane,
                ..settings
            },
            meter: meter.clone(),
            stop: stop.clone(),
        }
        .run(),
    );
    while meter.read().committed < records {
        assert!(begin.elapsed() < PATIENCE && !running.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rate = records as f64 / begin.elapsed().as_secs_f64();
    stop.cancel();
    running.await.unwrap().unwrap();
    rate
}

/// The plain loop; the records a second, from its start on.
fn copy(kafka: &KafkaCluster, round: u64, records: u64) -> f64 {
    let begin = Instant::now();
    let consumer: BaseConsumer = client(kafka)
        .set("group.id", format!("plain-{round}"))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .unwrap();
    consumer.subscribe(&["in"]).unwrap();
    let producer = producer(kafka);
    let mut copied = 0;
    while copied < records {
        assert!(begin.elapsed() < PATIENCE);
        producer.poll(Duration::ZERO);
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap();
        let mut record = BaseRecord::<[u8], [u8]>::to("out").partition(message.partition());
        record.key = message.key();
        record.payload = message.payload();
        record.headers = message
            .headers()
            .map(rdkafka::message::BorrowedHeaders::detach);
        record.timestamp = message.timestamp().to_millis();
        send(&producer, record);
        copied += 1;
    }
    producer.flush(PATIENCE).unwrap();
    consumer.commit_consumer_state(CommitMode::Sync).unwrap();
    records as f64 / begin.elapsed().as_secs_f64()
}

fn send<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    producer: &BaseProducer,
    mut record: BaseRecord<'_, K, P>,
) {
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
}

fn fill(kafka: &KafkaCluster, topic: &str, records: u64) {
    let producer = producer(kafka);
    let value: Vec<u8> = (0..SIZE)
        .map(|at| (at.wrapping_mul(197) >> 3) as u8)
        .collect();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..records {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let key = number.to_string();
        let partition = i32::try_from(number % PARTITIONS.unsigned_abs() as u64).unwrap();
        let record = BaseRecord::to(topic)
            .partition(partition)
            .key(&key)
            .payload(&value);
        send(&producer, record);
    }
    producer.flush(PATIENCE).unwrap();
}

async fn make(kafka: &KafkaCluster, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = client(kafka).create().unwrap();
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = admin.create_topics([&new], &options).await.unwrap();
    made[0].as_ref().unwrap();
}

fn producer(kafka: &KafkaCluster) -> BaseProducer {
    client(kafka)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("queue.buffering.max.kbytes", "131072")
        .create()
        .unwrap()
}

fn client(kafka: &KafkaCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers());
    config
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn set(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |value| value.parse().unwrap())
}

/// What else the machine does.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let minute = text.split(' ').next().unwrap_or_default();
    format!("load average {minute} at the start")
}
