//! Replication between two real clusters on this machine: throughput over a preloaded topic, and the time from being written on the
//! source to being readable on the target at a fixed rate.
//!
//! `RECORDS` says how many records of 1 KiB are preloaded (a million and a half), `RATE` how many a second come at the fixed rate.

#![expect(
    clippy::expect_used,
    reason = "a bench that cannot go on says why and ends"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use linkspan_streams::kafka::Cluster;
use linkspan_streams::replicate::{Naming, Replicator, Settings};
use linkspan_testkit::KafkaCluster;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};

const PARTITIONS: i32 = 4;

fn main() {
    let number = |name: &str, or: u64| {
        let set = std::env::var(name).ok();
        set.and_then(|text| text.parse().ok()).unwrap_or(or)
    };
    let (records, rate) = (number("RECORDS", 1_500_000), number("RATE", 5_000));
    let (source, target) = KafkaCluster::shared_pair();
    make(source, "preloaded");
    make(source, "paced");
    preload(source, records);
    // What the preloading took stays with the process: the peak counts from here on.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = peak_mib();
    let of =
        |of: &KafkaCluster| Cluster::new(&of.brokers(), None, None, Vec::new()).expect("a cluster");
    let replicate = |topic: &str| {
        let topics = vec![topic.to_owned()];
        let mut settings = Settings::new(topic, of(source), of(target), topics);
        settings.naming = Naming::Prefix("copy.".to_owned());
        Replicator::start(settings).expect("it starts")
    };

    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let replicator = replicate("preloaded");
    let mut first = None;
    while replicator.status().records < records {
        if first.is_none() && replicator.status().records > 0 {
            first = Some((Instant::now(), replicator.status().records));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (took, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let status = replicator.stop();
    let mib = status.bytes as f64 / f64::from(1 << 20);
    let (steady, first) = first.unwrap_or((begun, 0));
    let steady_rate = (records - first) as f64 / steady.elapsed().as_secs_f64();
    println!(
        "preloaded: {records} records, {mib:.0} MiB in {took:.1} s: {:.0} MiB/s, {:.0} records/s ({steady_rate:.0} after the first commit), {:.1} CPU-s/GB, {} MiB resident more than before",
        mib / took,
        records as f64 / took,
        cpu / (status.bytes as f64 / 1e9),
        peak_mib().saturating_sub(before)
    );

    let replicator = replicate("paced");
    let mut times = paced(source, target, rate, Duration::from_secs(15));
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "paced: {rate} records/s, {} seen: p50 {} ms, p99 {} ms, most {} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    drop(replicator);
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
    let mut value = vec![0_u8; 1_000];
    let mut state = 7_u64;
    for number in 0..records {
        // Nothing that compresses well.
        for chunk in value.chunks_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        send(&producer, "preloaded", number, &value, millis());
    }
    producer
        .flush(Duration::from_secs(60))
        .expect("all is written");
}

/// Milliseconds from being written to being read, of each record.
fn paced(source: &KafkaCluster, target: &KafkaCluster, rate: u64, over: Duration) -> Vec<i64> {
    let producer: BaseProducer = client(source)
        .set("linger.ms", "1")
        .create()
        .expect("a producer");
    let end = Instant::now() + over;
    let writer = std::thread::spawn(move || {
        let (begun, mut number) = (Instant::now(), 0);
        while Instant::now() < end {
            while number < (begun.elapsed().as_secs_f64() * rate as f64) as u64 {
                send(&producer, "paced", number, &[7; 1_000], millis());
                number += 1;
            }
            producer.poll(Duration::from_millis(1));
        }
        producer
            .flush(Duration::from_secs(60))
            .expect("all is written");
        number
    });
    let consumer: BaseConsumer = client(target)
        .set("group.id", "paced")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset("copy.paced", partition, Offset::Beginning)
            .expect("an assignment");
    }
    while consumer
        .fetch_metadata(Some("copy.paced"), Duration::from_secs(10))
        .is_ok_and(|metadata| metadata.topics()[0].partitions().is_empty())
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    consumer.assign(&list).expect("it is assigned");
    let (mut times, mut written) = (Vec::new(), u64::MAX);
    let mut writer = Some(writer);
    // The first seconds are the start's.
    let from = millis() + 3_000;
    let mut seen = 0;
    while seen < written {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(10)) {
            seen += 1;
            let sent = message.timestamp().to_millis().unwrap_or_default();
            if sent >= from {
                times.push(millis() - sent);
            }
        }
        if writer
            .as_ref()
            .is_some_and(std::thread::JoinHandle::is_finished)
        {
            let writer = writer.take().expect("it runs");
            written = writer.join().expect("it has written");
        }
    }
    times
}

fn millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// What this process has used, in seconds.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = text
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

fn peak_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1_024
}
