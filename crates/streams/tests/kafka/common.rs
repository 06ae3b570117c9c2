//! Topics, records that go in, records that came out, and the plainest flow: what comes in goes out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use linkspan_streams::flow::{Commit, CommitError, Committer as _, LaneCommit, Output, Progress};
use linkspan_streams::kafka::{
    Cluster, CommitterSettings, Group, KafkaCommitter, KafkaError, KafkaMessage, KafkaOutput,
    KafkaSource, SourceSettings,
};
use linkspan_streams::{Event, Lane, Record, Source as _, SourceError, Term};
pub(crate) use linkspan_testkit::topics::{Seen, client, dump, dump_uncommitted, shows, unique};
use linkspan_testkit::{KafkaCluster, topics};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupInfo;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::watch;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn cluster(kafka: &KafkaCluster) -> Cluster {
    Cluster::new(&kafka.brokers(), None, None, Vec::new()).expect("a cluster")
}

/// The same, and its statistics come often.
pub(crate) fn chatty(kafka: &KafkaCluster) -> Cluster {
    let often = ("statistics.interval.ms".to_owned(), "100".to_owned());
    Cluster::new(&kafka.brokers(), None, None, vec![often]).expect("a cluster")
}

/// Makes a topic with that many partitions and properties.
pub(crate) async fn topic(
    kafka: &KafkaCluster,
    name: &str,
    partitions: i32,
    properties: &[(&str, &str)],
) -> String {
    topic_with(&client(kafka), name, partitions, properties).await
}

pub(crate) async fn topic_with(
    client: &ClientConfig,
    name: &str,
    partitions: i32,
    properties: &[(&str, &str)],
) -> String {
    let name = unique(name);
    topics::make(client, &name, partitions, properties).await;
    name
}

/// Writes records with the numbers as keys and values, in turn to each partition.
pub(crate) fn fill(
    kafka: &KafkaCluster,
    topic: &str,
    partitions: i32,
    numbers: std::ops::Range<u32>,
) {
    fill_with(&client(kafka), topic, partitions, numbers);
}

pub(crate) fn fill_with(
    client: &ClientConfig,
    topic: &str,
    partitions: i32,
    numbers: std::ops::Range<u32>,
) {
    let producer: BaseProducer = client.create().expect("a producer");
    for number in numbers {
        let text = number.to_string();
        let partition = i32::try_from(number).expect("a small number") % partitions;
        loop {
            let record = BaseRecord::to(topic)
                .partition(partition)
                .key(&text)
                .payload(&text);
            match producer.send(record) {
                Ok(()) => break,
                Err(_) => producer.poll(Duration::from_millis(1)),
            }
        }
    }
    producer.flush(PATIENCE).expect("the records arrive");
}

/// Writes one record as it is.
pub(crate) fn write(kafka: &KafkaCluster, topic: &str, record: &Seen) {
    topics::write(kafka, topic, std::slice::from_ref(record));
}

/// The numbers in a topic, by partition in their order.
pub(crate) fn numbers(seen: &[Seen]) -> BTreeMap<i32, Vec<u32>> {
    let mut numbers: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for record in seen {
        let value = record.value.as_deref().expect("a value");
        let number = std::str::from_utf8(value)
            .expect("digits")
            .parse()
            .expect("a number");
        numbers.entry(record.partition).or_default().push(number);
    }
    numbers
}

/// Every number once, in its partition, in order.
pub(crate) fn assert_each_once(seen: &[Seen], partitions: i32, count: u32) {
    let numbers = numbers(seen);
    let modulus = u32::try_from(partitions).expect("some partitions");
    for partition in 0..modulus {
        let expected: Vec<u32> = (0..count)
            .filter(|number| number % modulus == partition)
            .collect();
        let found = &numbers[&i32::try_from(partition).expect("a partition")];
        assert!(
            *found == expected,
            "partition {partition} has {} records instead of {}, or not in their order",
            found.len(),
            expected.len()
        );
    }
}

/// Who copies what to where.
#[derive(Clone)]
pub(crate) struct Copier {
    pub(crate) cluster: Cluster,
    pub(crate) source: SourceSettings,
    pub(crate) committer: CommitterSettings,
    pub(crate) to: Arc<str>,
    /// How many records were copied.
    pub(crate) copied: Arc<AtomicUsize>,
}

impl Copier {
    pub(crate) fn new(kafka: &KafkaCluster, name: &str, group: &str, from: &str, to: &str) -> Self {
        Self {
            cluster: cluster(kafka),
            source: SourceSettings {
                topics: vec![from.to_owned()],
                group: group.to_owned(),
                session_timeout: Duration::from_secs(6),
                ..SourceSettings::default()
            },
            committer: CommitterSettings {
                transactional_id: unique(name),
                dead_letters: to.into(),
                transaction_timeout: Duration::from_secs(10),
                ..CommitterSettings::default()
            },
            to: to.into(),
            copied: Arc::default(),
        }
    }

    pub(crate) async fn open(&self) -> Result<(KafkaSource, KafkaCommitter), KafkaError> {
        let (source, group) =
            KafkaSource::open(&self.cluster, self.source.clone()).expect("a source");
        let committer = KafkaCommitter::open(&self.cluster, self.committer.clone(), group).await?;
        Ok((source, committer))
    }

    pub(crate) async fn open_all(&self) -> (KafkaSource, Group, KafkaCommitter) {
        let (source, group) =
            KafkaSource::open(&self.cluster, self.source.clone()).expect("a source");
        let settings = self.committer.clone();
        let committer = KafkaCommitter::open(&self.cluster, settings, group.clone());
        (source, group, committer.await.expect("a committer"))
    }

    /// Copies until it is told to stop. Begins anew where it must.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.open().await {
                Ok((mut source, mut committer)) => {
                    self.copy(&mut source, &mut committer, &mut stop).await;
                }
                Err(fault) => eprintln!("begins again: {fault}"),
            }
        }
    }

    async fn copy(
        &self,
        source: &mut KafkaSource,
        committer: &mut KafkaCommitter,
        stop: &mut watch::Receiver<bool>,
    ) {
        let mut lanes: HashSet<Lane> = HashSet::new();
        loop {
            let event = tokio::select! {
                event = source.next(true) => event,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let records = match event {
                Ok(Event::Gained(gained)) => {
                    lanes.extend(gained.into_iter().map(|gained| gained.lane));
                    continue;
                }
                Ok(Event::Revoked {
                    lanes: gone,
                    release,
                }) => {
                    lanes.retain(|lane| !gone.contains(lane));
                    release.done();
                    continue;
                }
                Ok(Event::Lost(gone)) => {
                    lanes.retain(|lane| !gone.contains(lane));
                    continue;
                }
                Ok(Event::Ended { .. }) => unreachable!("partitions do not end"),
                Err(SourceError::Passing(fault)) => {
                    eprintln!("passing: {fault}");
                    continue;
                }
                Err(fault) => panic!("{fault}"),
                Ok(Event::Records(records)) => records,
            };
            assert!(
                lanes.contains(&records[0].lane),
                "a record of a lane that is not ours"
            );
            let count = records.len();
            let commit = passed_on(records, &self.to);
            loop {
                match committer.commit(&commit).await {
                    Ok(()) => {
                        self.copied.fetch_add(count, Ordering::AcqRel);
                        break;
                    }
                    Err(CommitError::Passing(fault)) => eprintln!("again: {fault}"),
                    Err(CommitError::Fenced(fault)) => {
                        eprintln!("fenced: {fault}");
                        break;
                    }
                    Err(CommitError::Unknown(fault)) => {
                        eprintln!("unknown: {fault}");
                        return;
                    }
                    Err(fault) => panic!("{fault}"),
                }
            }
        }
    }
}

/// The commit of a batch whose records go on as they are.
pub(crate) fn passed_on(records: Vec<Record>, to: &Arc<str>) -> Commit<KafkaOutput> {
    let last = records.last().expect("a record");
    let progress = Progress {
        last: Some((last.ordinal, last.position.clone())),
        beyond: Vec::new(),
    };
    let lane = last.lane.clone();
    let outputs = records
        .into_iter()
        .map(|record| output(record, to))
        .collect();
    Commit {
        lanes: vec![LaneCommit {
            lane,
            term: Term::default(),
            outputs,
            progress,
        }],
    }
}

pub(crate) fn output(record: Record, to: &Arc<str>) -> Output<KafkaOutput> {
    let message = KafkaMessage {
        topic: to.clone(),
        key: None,
        value: record.value.clone(),
        headers: Vec::new(),
    };
    Output {
        record: Arc::new(record),
        outcome: Ok(KafkaOutput {
            messages: vec![message],
        }),
        attempts: 1,
        taken: jiff::Timestamp::now(),
    }
}

/// The next records of a source, whatever comes before them.
pub(crate) async fn records(source: &mut KafkaSource) -> Vec<Record> {
    tokio::time::timeout(PATIENCE, async {
        loop {
            match source.next(true).await {
                Ok(Event::Records(records)) => return records,
                Ok(Event::Revoked { release, .. }) => release.done(),
                Ok(_) | Err(SourceError::Passing(_)) => {}
                Err(fault) => panic!("{fault}"),
            }
        }
    })
    .await
    .expect("records come")
}

pub(crate) fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

/// Waits until that many records lie in a topic, of open and aborted transactions too.
pub(crate) async fn lies_in(kafka: &'static KafkaCluster, topic: &str, count: i64) {
    let topic = topic.to_owned();
    let waited = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(kafka)
            .set("isolation.level", "read_uncommitted")
            .create()
            .expect("a consumer");
        let end = Instant::now() + PATIENCE;
        loop {
            let (low, high) = consumer
                .fetch_watermarks(&topic, 0, PATIENCE)
                .expect("watermarks");
            if high - low >= count {
                return;
            }
            assert!(
                Instant::now() < end,
                "{topic} has {} of {count} records",
                high - low
            );
        }
    });
    waited.await.expect("the records arrive");
}

/// Deletes the records before an offset, as retention does.
pub(crate) async fn delete_records(kafka: &KafkaCluster, topic: &str, partition: i32, before: i64) {
    let admin: AdminClient<DefaultClientContext> = client(kafka).create().expect("an admin client");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before))
        .expect("a partition");
    admin
        .delete_records(
            &list,
            &AdminOptions::new().operation_timeout(Some(PATIENCE)),
        )
        .await
        .expect("the records are deleted");
}

/// Waits until the group has settled with that many members.
pub(crate) async fn is_stable(kafka: &'static KafkaCluster, group: &str, members: usize) {
    let group = group.to_owned();
    let waited = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(kafka).create().expect("a consumer");
        let end = Instant::now() + PATIENCE;
        loop {
            let list = consumer
                .fetch_group_list(Some(&group), PATIENCE)
                .expect("the group");
            let settled =
                |found: &GroupInfo| found.state() == "Stable" && found.members().len() == members;
            if list.groups().iter().any(settled) {
                return;
            }
            assert!(Instant::now() < end, "{group} does not settle");
        }
    });
    waited.await.expect("the group settles");
}
