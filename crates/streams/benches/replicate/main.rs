//! Replication between two real clusters on this machine, beside MirrorMaker 2 over the same preloaded topic in the same run: throughput,
//! CPU, memory, and the time from being written on the source to being readable on the target at a fixed rate.
//!
//! `RECORDS` says how many records of 1 KiB are preloaded (a million), `RATE` how many a second come at the fixed rate (5,000), `SECONDS`
//! for how long (20). `ONLY` names one of the two: `linkspan` or `mirrormaker`.

#![expect(
    clippy::expect_used,
    reason = "a bench that cannot go on says why and ends"
)]

mod mirror;
mod paced;
mod process;

use std::io::Read as _;
use std::time::{Duration, Instant};

use linkspan_streams::kafka::Cluster;
use linkspan_streams::replicate::{Naming, Replicator, Settings};
use linkspan_testkit::KafkaCluster;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use process::Process;

const PARTITIONS: i32 = 4;

/// The bytes of a record's value; with key and header it is a little more.
const VALUE: usize = 1_000;

/// How long the target may stand still before all is taken for copied.
const STILL: Duration = Duration::from_secs(3);

/// What was measured of one of them.
struct Measured {
    name: &'static str,
    /// From the start of the process to the first record.
    start: f64,
    /// From the first record to the last.
    took: f64,
    records: f64,
    cpu: f64,
    peak: u64,
    /// Milliseconds, sorted.
    times: Vec<i64>,
}

fn main() {
    if let Ok(brokers) = std::env::var("REPLICATE") {
        return replicate(&brokers);
    }
    let number = |name: &str, or: u64| {
        let set = std::env::var(name).ok();
        set.and_then(|text| text.parse().ok()).unwrap_or(or)
    };
    let (records, rate) = (number("RECORDS", 1_000_000), number("RATE", 5_000));
    let seconds = Duration::from_secs(number("SECONDS", 20));
    let only = std::env::var("ONLY").ok();
    let (source, target) = KafkaCluster::shared_pair();
    make(source, "preloaded");
    make(source, "paced");
    preload(source, records);
    println!(
        "{records} records of 1 KiB are preloaded in {PARTITIONS} partitions; exactly once on both sides"
    );
    let mut all = Vec::new();
    for (name, prefix) in [("linkspan", "copy."), ("mirrormaker", "source.")] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let process = match name {
            "linkspan" => ours(source, target),
            _ => mirror::start(source, target),
        };
        let (start, took, copied, cpu) =
            copied(&process, target, &format!("{prefix}preloaded"), records);
        let times = paced::times(source, target, &format!("{prefix}paced"), rate, seconds);
        all.push(Measured {
            name,
            start,
            took,
            records: copied,
            cpu,
            peak: process.peak_mib(),
            times,
        });
    }
    table(&all, rate);
}

/// What the process of our side does: it replicates until its standard input is closed.
fn replicate(brokers: &str) {
    let (source, target) = brokers.split_once(',').expect("two clusters");
    let of = |brokers: &str| Cluster::new(brokers, None, None, Vec::new()).expect("a cluster");
    let topics = vec!["preloaded".to_owned(), "paced".to_owned()];
    let mut settings = Settings::new("bench", of(source), of(target), topics);
    settings.naming = Naming::Prefix("copy.".to_owned());
    let replicator = Replicator::start(settings).expect("it starts");
    let _ = std::io::stdin().read(&mut [0]);
    drop(replicator);
}

fn ours(source: &KafkaCluster, target: &KafkaCluster) -> Process {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
    command.env(
        "REPLICATE",
        format!("{},{}", source.brokers(), target.brokers()),
    );
    Process::start(command)
}

/// Waits until all is in the target: seconds to the first record, from there to the last, records in between, and CPU in between.
fn copied(
    process: &Process,
    target: &KafkaCluster,
    topic: &str,
    records: u64,
) -> (f64, f64, f64, f64) {
    let consumer: BaseConsumer = client(target).create().expect("a consumer");
    let mut first = None;
    let (mut last, mut changed, mut cpu) = (0, Instant::now(), 0.0);
    loop {
        let mut end = 0;
        for partition in 0..PARTITIONS {
            let marks = consumer.fetch_watermarks(topic, partition, Duration::from_secs(5));
            end += marks.map_or(0, |(_, end)| end);
        }
        if end != last {
            (last, changed, cpu) = (end, Instant::now(), process.cpu_seconds());
            first.get_or_insert((changed, end, cpu));
        } else if last >= records as i64 && changed.elapsed() > STILL {
            break;
        }
        process.must_run();
        std::thread::sleep(Duration::from_millis(10));
    }
    // Each transaction ends with a marker in each of its partitions.
    assert!(last > records as i64, "it does not copy in transactions");
    let (begun, already, before) = first.expect("something was copied");
    let took = changed.duration_since(begun).as_secs_f64();
    let copied = (records as f64 - already as f64).max(1.0);
    (
        begun.duration_since(process.begun).as_secs_f64(),
        took,
        copied,
        cpu - before,
    )
}

fn table(all: &[Measured], rate: u64) {
    println!(
        "| | first record | MB/s | records/s | CPU-s/GB | peak memory | p50 at {rate}/s | p99 at {rate}/s |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    let size = VALUE as f64;
    for one in all {
        let at = |part: f64| {
            let last = one.times.len().saturating_sub(1) as f64;
            one.times.get((last * part) as usize).copied().unwrap_or(-1)
        };
        println!(
            "| {} | {:.1} s | {:.1} | {:.0} | {:.1} | {} MiB | {} ms | {} ms |",
            one.name,
            one.start,
            one.records * size / one.took / 1e6,
            one.records / one.took,
            one.cpu / (one.records * size / 1e9),
            one.peak,
            at(0.5),
            at(0.99)
        );
    }
    if let [ours, other] = all {
        let speed = |one: &Measured| one.records / one.took;
        println!(
            "linkspan: {:.1} times the throughput, {:.2} of the CPU, {:.2} of the memory",
            speed(ours) / speed(other),
            (ours.cpu / ours.records) / (other.cpu / other.records),
            ours.peak as f64 / other.peak as f64
        );
    }
}

fn client(of: &KafkaCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", of.brokers());
    config
}

fn make(of: &KafkaCluster, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = client(of).create().expect("an admin client");
    let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(admin.create_topics([&topic], &AdminOptions::new()))
        .expect("the topic is made");
}

fn send(producer: &BaseProducer, topic: &str, number: u64, value: &[u8], timestamp: i64) {
    let key = number.to_string();
    let header = Header {
        key: "trace",
        value: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    };
    let mut record = BaseRecord::to(topic)
        .partition((number % PARTITIONS as u64) as i32)
        .key(&key)
        .payload(value)
        .timestamp(timestamp)
        .headers(OwnedHeaders::new().insert(header));
    while let Err((_, back)) = producer.send(record) {
        producer.poll(Duration::from_millis(5));
        record = back;
    }
}

fn preload(of: &KafkaCluster, records: u64) {
    let producer: BaseProducer = client(of)
        .set("batch.size", "1000000")
        .set("linger.ms", "20")
        .create()
        .expect("a producer");
    let mut value = vec![0_u8; VALUE];
    let mut state = 7_u64;
    for number in 0..records {
        // Nothing that compresses well.
        for chunk in value.chunks_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        send(&producer, "preloaded", number, &value, paced::millis());
    }
    producer
        .flush(Duration::from_secs(60))
        .expect("all is written");
}
