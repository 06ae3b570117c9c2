//! Gateways and a broker that are killed under load: every record becomes one result or one dead letter, exactly once, in order.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use linkspan_testkit::{KafkaCluster, Setup};
use rdkafka::client::ClientContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};

use super::kafka::{self, Seen, client, shows, topic};
use super::{PROGRAM, toml};

const PARTITIONS: i32 = 4;

/// Each so many records, one cannot be worked on.
const SPOILT: u64 = 25;

/// How long a run with kills takes, in seconds, where nothing else is said.
const SECONDS: u64 = 20;

/// How many kills there are at least, however slow the machine is.
const LEAST: u32 = 6;

/// Records that are written without a pause, each with its number as its key.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

/// A record that does not arrive fails the test.
struct Arrives;

impl ClientContext for Arrives {}

impl ProducerContext for Arrives {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((fault, _)) = result {
            eprintln!("a record did not arrive: {fault}");
            std::process::abort();
        }
    }
}

impl Load {
    fn begin(kafka: &'static KafkaCluster, topic: &str) -> Self {
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (topic, stopped, count) = (topic.to_owned(), stop.clone(), written.clone());
        let thread = std::thread::spawn(move || {
            let producer: BaseProducer<Arrives> = client(kafka)
                .set("linger.ms", "5")
                .create_with_context(Arrives)
                .expect("a producer");
            while !stopped.load(Ordering::Acquire) {
                let number = count.load(Ordering::Acquire);
                kafka::give(&producer, &topic, &record(number));
                count.store(number + 1, Ordering::Release);
                // About 500 a second.
                producer.poll(Duration::from_millis(2));
            }
            producer.flush(kafka::PATIENCE).expect("all arrive");
        });
        Self {
            stop,
            written,
            thread,
        }
    }

    /// Stops it; gives how many records were written.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the load ends");
        self.written.load(Ordering::Acquire)
    }
}

fn record(number: u64) -> Seen {
    let value = if is_spoilt(number) {
        b"\xff\xfe\x00".to_vec()
    } else {
        format!("This is review number {number}, and I like the kettle.").into_bytes()
    };
    Seen {
        partition: i32::try_from(number % PARTITIONS.unsigned_abs() as u64).expect("a partition"),
        key: Some(number.to_string().into_bytes()),
        value: Some(value),
        ..Seen::default()
    }
}

const fn is_spoilt(number: u64) -> bool {
    number % SPOILT == SPOILT - 1
}

fn seconds() -> u64 {
    let given = std::env::var("LINKSPAN_KILL_SECONDS").ok();
    given.map_or(SECONDS, |text| text.parse().expect("seconds"))
}

fn random() -> Rng {
    let seed = std::env::var("LINKSPAN_SEED")
        .ok()
        .map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("LINKSPAN_SEED={seed}");
    Rng::with_seed(seed)
}

/// Every record that was written is in its topic once, in its partition, in order.
async fn assert_each_once(
    kafka: &'static KafkaCluster,
    from: &str,
    [out, dead]: [&str; 2],
    written: u64,
) {
    let numbers = |seen: &[Seen]| -> Vec<(i32, u64)> {
        let number = |record: &Seen| record.key().parse().expect("a number");
        seen.iter()
            .map(|record| (record.partition, number(record)))
            .collect()
    };
    let written = usize::try_from(written).expect("a count");
    let given = numbers(&shows(kafka, from, written).await);
    // librdkafka's idempotent producer sends a batch again in a new epoch when it cannot know what a killed broker took of it: the load
    // itself may stand twice in the topic, and then it is to come out twice.
    let again = given.len() - written;
    let distinct: HashSet<_> = given.iter().collect();
    assert_eq!(distinct.len(), written, "all records were written");
    eprintln!("{again} records stand twice in the topic that is read");
    for (topic, wanted) in [(out, false), (dead, true)] {
        let expected: Vec<_> = given
            .iter()
            .copied()
            .filter(|(_, number)| is_spoilt(*number) == wanted)
            .collect();
        let seen = shows(kafka, topic, expected.len()).await;
        let found = numbers(&seen);
        if found != expected {
            let first = found
                .iter()
                .zip(&expected)
                .position(|(one, other)| one != other);
            let first = first.map_or(found.len().min(expected.len()), |at| at.saturating_sub(4));
            let about = |record: &Seen| {
                (
                    record.partition,
                    record.offset,
                    record.key().to_owned(),
                    record.all("linkspan-id").join(" "),
                )
            };
            let shown: Vec<_> = seen.iter().skip(first).take(12).map(about).collect();
            let anew = numbers(&shows(kafka, topic, expected.len()).await);
            panic!(
                "{topic} has {} records instead of {}, {again} of all stand twice in {from}; read once more they are {}; about the first that differs stand {shown:#?}",
                found.len(),
                expected.len(),
                anew.len(),
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_the_gateway_and_of_the_broker_lose_no_record_and_repeat_none() {
    let kafka: &'static KafkaCluster = Box::leak(Box::new(KafkaCluster::start(&[])));
    let _end = End(kafka);
    let mut random = random();
    let from = topic(kafka, "killed", PARTITIONS).await;
    let (to, dead) = (
        topic(kafka, "killed-out", PARTITIONS).await,
        format!("{from}.dead"),
    );
    let deliver = format!("source = {{ kafka = \"{from}\" }}\ndeliver = [{{ kafka = \"{to}\" }}]");
    let setup = Setup::new(PROGRAM, &toml(&kafka.brokers(), &deliver));

    let load = Load::begin(kafka, &from);
    let time = Duration::from_secs(seconds());
    let broker_every = (time / 2).min(Duration::from_secs(30));
    let start = Instant::now();
    let (mut kills, mut broker_kills) = (0, 0);
    while start.elapsed() < time || kills < LEAST {
        let gateway = setup.serve();
        works(kafka, &to).await;
        tokio::time::sleep(Duration::from_millis(random.u64(200..1500))).await;
        if start.elapsed() > broker_every * (broker_kills + 1) {
            broker_kills += 1;
            tokio::task::spawn_blocking(|| {
                kafka.kill();
                kafka.run();
            })
            .await
            .expect("the broker is back");
            // In every second case by the same gateway: it must find its way by itself.
            if broker_kills % 2 == 1 {
                works(kafka, &to).await;
            }
        }
        gateway.kill();
        kills += 1;
    }
    let written = load.end();
    let ended = Instant::now();
    let gateway = setup.serve();
    assert_each_once(kafka, &from, [&to, &dead], written).await;
    eprintln!(
        "{written} records, {kills} kills of the gateway and {broker_kills} of the broker in {:?}; all was there {:?} after the last",
        ended - start,
        ended.elapsed()
    );
    assert_eq!(gateway.stop(), Some(0));
    assert!(broker_kills > 0, "no kill hit the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_a_group_and_the_kill_of_one_repeats_nothing() {
    let kafka = KafkaCluster::shared();
    let from = topic(kafka, "shared", PARTITIONS).await;
    let (to, dead) = (
        topic(kafka, "shared-out", PARTITIONS).await,
        format!("{from}.dead"),
    );
    let deliver = format!("source = {{ kafka = \"{from}\" }}\ndeliver = [{{ kafka = \"{to}\" }}]");
    let toml = toml(&kafka.brokers(), &deliver);
    let setups = [(); 2].map(|()| Setup::new(PROGRAM, &toml));
    let names = || setups.each_ref().map(instance);

    let load = Load::begin(kafka, &from);
    let [one, mut other] = setups.each_ref().map(Setup::serve);
    let first = names();
    assert_ne!(first[0], first[1]);
    for _ in 0..3 {
        let before = load.written.load(Ordering::Acquire);
        while load.written.load(Ordering::Acquire) < before + 500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        other.kill();
        other = setups[1].serve();
    }
    let written = load.end();
    assert_each_once(kafka, &from, [&to, &dead], written).await;
    assert_eq!(
        names(),
        first,
        "a gateway is known by the same name after a restart"
    );
    assert_eq!(one.stop(), Some(0));
    assert_eq!(other.stop(), Some(0));
}

/// Waits until the gateway writes results.
async fn works(kafka: &'static KafkaCluster, to: &str) {
    let before = kafka::length(kafka, to).await;
    let end = Instant::now() + kafka::PATIENCE;
    while kafka::length(kafka, to).await == before {
        assert!(Instant::now() < end, "the gateway writes nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn instance(setup: &Setup) -> String {
    let path = setup.folder().join("data/streams/instance");
    std::fs::read_to_string(path).expect("the gateway has a name")
}

/// Ends a cluster that nobody owns.
struct End(&'static KafkaCluster);

impl Drop for End {
    fn drop(&mut self) {
        self.0.remove();
    }
}
