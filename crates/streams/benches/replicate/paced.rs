//! Records at a fixed rate: how long each takes from being written on the source to being read on the target.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use linkspan_testkit::KafkaCluster;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::topic_partition_list::Offset;

use super::{PARTITIONS, VALUE, client, send};

/// The first seconds are the start's.
const START: Duration = Duration::from_secs(5);

/// How long the last records may take.
const LAST: Duration = Duration::from_secs(60);

/// Milliseconds from being written to being read, of each record, sorted. `copy` is the target's topic.
pub(crate) fn times(
    source: &KafkaCluster,
    target: &KafkaCluster,
    copy: &str,
    rate: u64,
    over: Duration,
) -> Vec<i64> {
    let consumer: BaseConsumer = client(target)
        .set("group.id", "paced")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(copy, partition, Offset::End)
            .expect("an assignment");
    }
    while consumer
        .fetch_metadata(Some(copy), Duration::from_secs(10))
        .is_ok_and(|metadata| metadata.topics()[0].partitions().is_empty())
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    consumer.assign(&list).expect("it is assigned");
    let producer: BaseProducer = client(source)
        .set("linger.ms", "1")
        .create()
        .expect("a producer");
    let begun = millis();
    let end = Instant::now() + START + over;
    let writer = std::thread::spawn(move || {
        let (begun, mut number) = (Instant::now(), 0);
        while Instant::now() < end {
            while number < (begun.elapsed().as_secs_f64() * rate as f64) as u64 {
                send(&producer, "paced", number, &[7; VALUE], millis());
                number += 1;
            }
            producer.poll(Duration::from_millis(1));
        }
        producer
            .flush(Duration::from_secs(60))
            .expect("all is written");
        millis()
    });
    let from = begun + START.as_millis() as i64;
    let (mut times, mut last) = (Vec::new(), None);
    let mut writer = Some(writer);
    let patience = Instant::now() + START + over + LAST;
    let mut heard = Instant::now();
    while Instant::now() < patience {
        match consumer.poll(Duration::from_millis(10)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let sent = message.timestamp().to_millis().unwrap_or_default();
                if sent >= from {
                    times.push(millis() - sent);
                }
            }
            // All that was written has come when nothing more does.
            _ if last.is_some() && heard.elapsed() > Duration::from_secs(5) => break,
            _ => {}
        }
        if writer
            .as_ref()
            .is_some_and(std::thread::JoinHandle::is_finished)
        {
            last = writer.take().and_then(|writer| writer.join().ok());
        }
    }
    times.sort_unstable();
    times
}

pub(crate) fn millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
