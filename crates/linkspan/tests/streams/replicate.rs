//! Replication by a gateway that is killed, and looked at from the command line.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use linkspan_testkit::{Gateway, KafkaCluster, Setup};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};
use serde_json::Value;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);

const PARTITIONS: i32 = 2;

fn toml(source: &KafkaCluster, target: &KafkaCluster) -> String {
    format!(
        r#"
[kafka.estate]
brokers = "{}"
[kafka.cloud]
brokers = "{}"
[replicate.sales]
from = "estate"
to = "cloud"
topics = ["sales.*"]
prefix = "estate."
commit_interval = "50ms"
sync_interval = "1s"
[replicate.idle]
from = "cloud"
to = "estate"
topics = ["no-such-topic"]
[service.mood]
task = "sentiment"
[integration.feedback]
pattern = "sync"
steps = ["mood"]
"#,
        source.brokers(),
        target.brokers()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_copies_everything_once_and_groups_move_exactly() {
    let (source, target) = KafkaCluster::shared_pair();
    make(source, "sales.orders", PARTITIONS).await;
    let writer = Writer::start(source);
    let setup = Setup::new(crate::PROGRAM, &toml(source, target));
    let key = setup.key("operator", &["read"]);

    let kills = std::env::var("LINKSPAN_KILLS").map_or(3, |text| text.parse().expect("a number"));
    for round in 0..kills {
        let gateway = setup.serve();
        let client = gateway.client(&key);
        until("the gateway copies", async || {
            let page = client.get("/v1/replications").await.json();
            page["replications"][1]["records"].as_u64() > Some(0)
        })
        .await;
        // At another moment of a transaction each time.
        tokio::time::sleep(Duration::from_millis(17 * (round % 5))).await;
        gateway.kill();
    }
    let written = writer.stop();
    let gateway = setup.serve();
    copied(&gateway, &key).await;

    // A topic that is made anew stops, loudly, and keeps nobody from work.
    let client = gateway.client(&key);
    make(source, "sales.anew", 1).await;
    put(source, "sales.anew", 0, 0..5);
    until("the new topic is copied", async || {
        let page = client.get("/v1/replications").await.json();
        topic(&page, "sales.anew").is_some_and(|topic| topic["records"] == 5)
    })
    .await;
    delete(source, "sales.anew").await;
    make(source, "sales.anew", 1).await;
    put(source, "sales.anew", 0, 0..9);
    until("the topic is stopped", async || {
        let page = client.get("/v1/replications").await.json();
        topic(&page, "sales.anew").is_some_and(|topic| topic["state"] == "stopped")
    })
    .await;
    let page = client.get("/v1/replications").await.json();
    let sales = &page["replications"][1];
    assert_eq!(
        (&sales["from"], &sales["to"]),
        (&"estate".into(), &"cloud".into())
    );
    assert_eq!(sales["state"], "running");
    let why = topic(&page, "sales.anew").expect("it is there")["reason"].to_string();
    assert!(why.contains("sales.anew"), "{why}");
    assert_eq!(
        topic(&page, "sales.orders").expect("it is there")["state"],
        "running"
    );
    assert_eq!(client.get("/readyz").await.status, 200);
    let metrics = client.get("/metrics").await.body;
    for line in [
        r#"linkspan_replication_state{replication="sales",state="running"} 1"#,
        r#"linkspan_replication_topic_stopped{replication="sales",topic="sales.anew"} 1"#,
        r#"linkspan_replication_topic_stopped{replication="sales",topic="sales.orders"} 0"#,
        r#"linkspan_replication_lag{replication="sales",topic="sales.orders"} 0"#,
        r#"linkspan_replicated_records_total{replication="sales",topic="sales.anew"} 5"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let loud = gateway.log().matches("the topic is not copied").count();
    assert_eq!(loud, 1, "{}", gateway.log());
    let nobody = setup.key("nobody", &["invoke"]);
    let refused = gateway.client(&nobody).get("/v1/replications").await;
    assert_eq!(refused.status, 403);

    // While it runs.
    let said = run(
        &setup,
        &["replicate", "reset", "sales", "--topic", "sales.anew"],
    );
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    let said = run(&setup, &["replicate", "status", "sales"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(out(&said).contains("made anew on the source"), "{said:?}");
    let said = run(
        &setup,
        &[
            "replicate",
            "reset",
            "sales",
            "--topic",
            "sales.anew",
            "--yes",
        ],
    );
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    until("the topic is copied again", async || {
        let page = client.get("/v1/replications").await.json();
        topic(&page, "sales.anew")
            .is_some_and(|topic| topic["state"] == "running" && topic["records"] == 14)
    })
    .await;
    assert_eq!(gateway.stop(), Some(0));

    // Without a gateway.
    let said = run(&setup, &["replicate", "status", "--output", "json"]);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let rows = lines(&said);
    let row = rows.iter().find(|row| row["source"] == "sales.orders");
    let row = row.expect("a line for the topic");
    assert_eq!(
        (&row["replication"], &row["lag"]),
        (&"sales".into(), &0.into())
    );
    assert_eq!(row["target"], "estate.sales.orders");

    let said = run(
        &setup,
        &[
            "replicate",
            "verify",
            "sales",
            "--topic",
            "sales.orders",
            "--output",
            "json",
        ],
    );
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    let verified = lines(&said);
    assert_eq!(verified.len(), PARTITIONS as usize);
    for partition in &verified {
        let ranges = partition["ranges"].as_array().expect("ranges");
        let count = |side: &str| {
            ranges
                .iter()
                .map(|range| range[side].as_u64().expect("a count"))
                .sum::<u64>()
        };
        assert_eq!(count("source_records"), written);
        assert_eq!(count("target_records"), written);
    }
    for partition in 0..PARTITIONS {
        let texts: Vec<_> = read(target, "estate.sales.orders", partition);
        let expected: Vec<_> = (0..written)
            .map(|number| format!("{partition}:{number}"))
            .collect();
        let texts: Vec<_> = texts.into_iter().map(|(_, text)| text).collect();
        assert!(
            texts == expected,
            "partition {partition}: {} records, and {written} were written",
            texts.len()
        );
    }

    moves_exactly(&setup, source, target, written);

    // A difference, and wrong names.
    delete(target, "estate.sales.anew").await;
    make(target, "estate.sales.anew", 1).await;
    put(target, "estate.sales.anew", 0, 100..140);
    let said = run(&setup, &["replicate", "verify", "sales", "--output", "csv"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(
        out(&said).starts_with("source,target,partition,ranges,"),
        "{said:?}"
    );
    assert!(
        out(&said).contains("differ") || out(&said).contains("lacks"),
        "{said:?}"
    );
    let said = run(&setup, &["replicate", "verify", "sale"]);
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("there is idle, sales"),
        "{said:?}"
    );
    let said = run(
        &setup,
        &["replicate", "verify", "sales", "--topic", "other"],
    );
    assert_eq!(said.status.code(), Some(2), "{said:?}");
}

/// Offsets of a group, translated there and back on the command line, lead to the very next record.
fn moves_exactly(setup: &Setup, source: &KafkaCluster, target: &KafkaCluster, written: u64) {
    let of_source = read(source, "sales.orders", 0);
    let of_target = read(target, "estate.sales.orders", 0);
    for at in [0, 1, written / 3, written - 1] {
        let (there, here) = (&of_source[at as usize], &of_target[at as usize]);
        assert_eq!(there.1, here.1);
        let group = format!("billing.{at}");
        commit(source, &group, "sales.orders", there.0);
        let name = ["replicate", "translate", "sales", "--group", &group];
        let said = run(setup, &[&name[..], &["--output", "json"]].concat());
        assert_eq!(said.status.code(), Some(0), "{said:?}");
        let rows = lines(&said);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(
            (&rows[0]["committed"], &rows[0]["outcome"]["offset"]),
            (&there.0.into(), &here.0.into())
        );
        assert_eq!(committed(target, &group, "estate.sales.orders"), None);
        let said = run(setup, &[&name[..], &["--apply"]].concat());
        assert_eq!(said.status.code(), Some(0), "{said:?}");
        assert!(out(&said).contains("translated"), "{said:?}");
        assert_eq!(
            committed(target, &group, "estate.sales.orders"),
            Some(here.0)
        );
        // It goes on there, and moves back.
        let last = of_target.len() - 1;
        commit(target, &group, "estate.sales.orders", of_target[last].0);
        let said = run(setup, &[&name[..], &["--to-source", "--apply"]].concat());
        assert_eq!(said.status.code(), Some(0), "{said:?}");
        assert_eq!(
            committed(source, &group, "sales.orders"),
            Some(of_source[last].0)
        );
    }
    // What is not copied is not translated.
    put(source, "sales.orders", 0, 0..1);
    let reader: BaseConsumer = client(source).create().expect("a consumer");
    let marks = reader.fetch_watermarks("sales.orders", 0, PATIENCE);
    commit(source, "ahead", "sales.orders", marks.expect("the end").1);
    let ahead = [
        "replicate",
        "translate",
        "sales",
        "--group",
        "ahead",
        "--apply",
    ];
    let said = run(setup, &ahead);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("wait until the replication"),
        "{said:?}"
    );
}

/// Waits until all that was written is copied.
async fn copied(gateway: &Gateway, key: &str) {
    let client = gateway.client(key);
    until("all is copied", async || {
        let page = client.get("/v1/replications").await.json();
        topic(&page, "sales.orders").is_some_and(|topic| {
            let partitions = topic["partitions"].as_array().map_or(0, Vec::len);
            partitions == PARTITIONS as usize && topic["lag"] == 0 && topic["state"] == "running"
        })
    })
    .await;
}

fn topic<'a>(page: &'a Value, name: &str) -> Option<&'a Value> {
    let sales = page["replications"].as_array()?;
    let sales = sales
        .iter()
        .find(|replication| replication["name"] == "sales")?;
    let topics = sales["topics"].as_array()?;
    topics.iter().find(|topic| topic["source"] == name)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn run(setup: &Setup, arguments: &[&str]) -> Output {
    setup.command(arguments).output().expect("the program runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = out(output);
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

/// Writes numbered values to all partitions until it is stopped, some of them in transactions that are aborted.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Writer {
    fn start(of: &'static KafkaCluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let producer: BaseProducer = client(of)
                .set("transactional.id", "sales")
                .create()
                .expect("a producer");
            producer.init_transactions(PATIENCE).expect("they begin");
            let (mut number, mut round) = (0, 0_u64);
            while !stopped.load(Ordering::Acquire) || number == 0 {
                round += 1;
                let aborted = round.is_multiple_of(5);
                let end = number + 1 + round % 13;
                producer.begin_transaction().expect("it begins");
                for number in number..end {
                    for partition in 0..PARTITIONS {
                        send(
                            &producer,
                            "sales.orders",
                            partition,
                            &format!("{partition}:{number}"),
                        );
                    }
                }
                producer.flush(PATIENCE).expect("all is written");
                if aborted {
                    producer.abort_transaction(PATIENCE).expect("it is aborted");
                } else {
                    producer
                        .commit_transaction(PATIENCE)
                        .expect("it is committed");
                    number = end;
                }
            }
            number
        });
        Self { stop, thread }
    }

    /// How many records each partition has.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("it has written")
    }
}

fn client(of: &KafkaCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", of.brokers());
    config
}

fn admin(of: &KafkaCluster) -> AdminClient<DefaultClientContext> {
    client(of).create().expect("an admin client")
}

async fn make(of: &KafkaCluster, topic: &str, partitions: i32) {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    until("the topic is made", async || {
        let made = admin(of).create_topics([&new], &AdminOptions::new()).await;
        // One of that name is perhaps not quite gone.
        made.is_ok_and(|made| made.iter().all(Result::is_ok))
    })
    .await;
}

async fn delete(of: &KafkaCluster, topic: &str) {
    let deleted = admin(of)
        .delete_topics(&[topic], &AdminOptions::new())
        .await;
    deleted
        .expect("an answer")
        .pop()
        .expect("a result")
        .expect("the topic is deleted");
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
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

fn put(of: &KafkaCluster, topic: &str, partition: i32, numbers: std::ops::Range<u64>) {
    let producer: BaseProducer = client(of).create().expect("a producer");
    for number in numbers {
        send(&producer, topic, partition, &number.to_string());
    }
    producer.flush(PATIENCE).expect("all is written");
}

/// The committed records of a partition: offset and value.
fn read(of: &KafkaCluster, topic: &str, partition: i32) -> Vec<(i64, String)> {
    let consumer: BaseConsumer = client(of)
        .set("group.id", "reads")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)
        .expect("an assignment");
    consumer.assign(&list).expect("it is assigned");
    let mut kept = Vec::new();
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "{topic}/{partition} has an end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = message.payload().unwrap_or_default();
                kept.push((
                    message.offset(),
                    String::from_utf8_lossy(value).into_owned(),
                ));
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return kept,
            Some(Err(_)) | None => {}
        }
    }
}

fn commit(of: &KafkaCluster, group: &str, topic: &str, offset: i64) {
    let consumer: BaseConsumer = client(of)
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset))
        .expect("an offset");
    consumer
        .commit(&list, CommitMode::Sync)
        .expect("it is committed");
}

fn committed(of: &KafkaCluster, group: &str, topic: &str) -> Option<i64> {
    let consumer: BaseConsumer = client(of)
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let list = consumer.committed_offsets(list, PATIENCE).expect("offsets");
    match list.find_partition(topic, 0)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}
