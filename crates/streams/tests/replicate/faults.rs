//! Kills, cuts and restarts: nothing is lost, nothing comes twice.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use linkspan_streams::replicate::{Replicator, State, look, verify};
use linkspan_testkit::KafkaCluster;
use rdkafka::producer::Producer as _;

use crate::clusters::*;

/// Writes without end, until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
}

impl Writer {
    fn start(of: &KafkaCluster, topic: &'static str, partitions: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, producer) = (Arc::clone(&stop), producer(of));
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::Acquire) {
                for partition in 0..partitions {
                    send(
                        &producer,
                        topic,
                        partition,
                        &format!("{partition}:{number}"),
                    );
                }
                number += 1;
                if number % 10 == 0 {
                    producer.poll(Duration::from_millis(10));
                }
            }
            producer.flush(PATIENCE).expect("all is written");
            number
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// How many records each partition got.
    fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("it has written")
    }
}

/// The numbers of a partition on the target are those that were written, each once, in order.
fn assert_complete(target: &KafkaCluster, topic: &str, partitions: i32, count: usize) {
    for partition in 0..partitions {
        let kept = read(target, topic, partition);
        for (number, kept) in kept.iter().enumerate() {
            assert_eq!(kept.text(), format!("{partition}:{number}"));
        }
        assert_eq!(kept.len(), count, "records of {topic}/{partition}");
    }
}

/// How often a process is killed: `LINKSPAN_KILLS` for long runs.
fn kills() -> u64 {
    let set = std::env::var("LINKSPAN_KILLS").ok();
    set.map_or(4, |text| text.parse().expect("a number"))
}

/// Not a test by itself: the process that another test kills. It replicates until then.
#[test]
#[ignore = "the process that another test starts and kills"]
fn the_process_that_is_killed() {
    let of = |name: &str| std::env::var(name).expect("set by who starts it");
    let cluster = |brokers: &str| {
        linkspan_streams::kafka::Cluster::new(brokers, None, None, Vec::new()).expect("a cluster")
    };
    let mut settings = linkspan_streams::replicate::Settings::new(
        &of("REPLICATION"),
        cluster(&of("SOURCE")),
        cluster(&of("TARGET")),
        vec![of("TOPIC")],
    );
    settings.commit_every = Duration::from_millis(50);
    settings.sign_every = Duration::from_millis(500);
    let replicator = Replicator::start(settings).expect("it starts");
    // Ends with whoever started it.
    let mut line = String::new();
    let _ = io::stdin().read_line(&mut line);
    drop(replicator);
}

fn start_process(source: &KafkaCluster, target: &KafkaCluster, name: &str) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "faults::the_process_that_is_killed"])
        .env("SOURCE", source.brokers())
        .env("TARGET", target.brokers())
        .env("REPLICATION", name)
        .env("TOPIC", name)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

#[test]
fn a_killed_process_loses_and_repeats_nothing() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "killed", 3, &[]);
    let writer = Writer::start(source, "killed", 3);
    let settings = settings("killed", source, target, &["killed"]);
    let mut before = 0;
    for round in 0..kills() {
        let mut process = start_process(source, target, "killed");
        // Killed at another moment each time, once it has copied something.
        until("the process copies", || {
            let seen = look(&settings);
            let done = seen.map_or(0, |seen| {
                let partitions = seen.topics.iter().flat_map(|topic| &topic.partitions);
                partitions.filter_map(|partition| partition.done).sum()
            });
            let more = done > before;
            before = before.max(done);
            more
        });
        std::thread::sleep(Duration::from_millis(37 * (round % 5)));
        process.kill().expect("it is killed");
        process.wait().expect("it has ended");
    }
    let count = writer.stop();
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "killed");
    assert_complete(target, "killed", 3, count);
    for partition in verify(&settings, &[], 1_000, |_| {}).expect("both sides are read") {
        assert_eq!(partition.first_difference(), None);
        assert_eq!(partition.records() as usize, count);
    }
}

#[test]
fn the_latest_process_copies_and_the_others_stand_by() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "zombie", 1, &[]);
    let writer = Writer::start(source, "zombie", 1);
    let settings = settings("zombie", source, target, &["zombie"]);
    let start = || Replicator::start(settings.clone()).expect("it starts");
    let first = start();
    until("the first copies", || first.status().records > 0);
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(start());
        let (newest, before) = others.split_last().expect("it was just started");
        // Whoever is fenced must not take its place back, whatever the brokers' answer to it looks like.
        until("the newest copies, and all others stand by", || {
            newest.status().records > 0
                && before
                    .iter()
                    .chain([&first])
                    .all(|other| other.status().state == State::Standby)
        });
        let records = newest.status().records;
        until("the newest goes on", || newest.status().records > records);
        assert_eq!(first.status().state, State::Standby);
    }

    // A process that ends leaves its place.
    let before = first.status().records;
    drop(others);
    until("the first copies again", || first.status().records > before);
    let count = writer.stop();
    until_copied(&first, source, "zombie");
    assert_complete(target, "zombie", 1, count);
}

#[test]
fn a_dead_process_is_replaced_by_the_one_that_stands_by() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "heir", 1, &[]);
    let writer = Writer::start(source, "heir", 1);
    let settings = settings("heir", source, target, &["heir"]);
    let first = Replicator::start(settings).expect("it starts");
    until("the first copies", || first.status().records > 0);
    let mut process = start_process(source, target, "heir");
    until("the first stands by", || {
        first.status().state == State::Standby
    });
    process.kill().expect("it is killed");
    process.wait().expect("it has ended");
    let before = first.status().records;
    until("the first copies again", || first.status().records > before);
    let count = writer.stop();
    until_copied(&first, source, "heir");
    assert_complete(target, "heir", 1, count);
}

#[test]
fn a_transaction_that_is_long_open_is_a_sign_of_life() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "patient", 1, &[]);
    let writer = Writer::start(source, "patient", 1);
    let mut settings = settings("patient", source, target, &["patient"]);
    // Each is open for longer than nothing may be heard of a process.
    settings.sign_every = Duration::from_millis(700);
    settings.sync_every = Duration::from_secs(600);
    settings.commit_every = Duration::from_secs(5);
    settings.linger = Duration::from_secs(5);
    let first = Replicator::start(settings.clone()).expect("it starts");
    until("the first copies", || first.status().records > 0);
    let second = Replicator::start(settings).expect("it starts");
    until("the second copies", || second.status().records > 0);
    until("the first stands by", || {
        first.status().state == State::Standby
    });
    for _ in 0..3 {
        let records = second.status().records;
        until("the second commits", || {
            assert_eq!(first.status().state, State::Standby);
            second.status().records > records
        });
    }
    drop(second);
    let count = writer.stop();
    until_copied(&first, source, "patient");
    assert_complete(target, "patient", 1, count);
}

#[test]
fn it_stops_soon_though_the_target_hangs() {
    let (source, _) = KafkaCluster::shared_pair();
    let target = KafkaCluster::start(&[]);
    make_topic(source, "hangs", 1, &[]);
    let writer = Writer::start(source, "hangs", 1);
    let settings = settings("hangs", source, &target, &["hangs"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until("it copies", || replicator.status().records > 0);
    let signal = |name: &str| {
        let mut kill = Command::new("kill");
        let done = kill.args([name, &target.process().to_string()]).status();
        assert!(done.expect("it runs").success());
    };
    signal("-STOP");
    let begun = Instant::now();
    assert_eq!(replicator.stop().state, State::Stopped);
    let took = begun.elapsed();
    signal("-CONT");
    assert!(took < Duration::from_secs(30), "{took:?}");

    // What was not committed is left to the next one.
    let count = writer.stop();
    let replicator = Replicator::start(settings).expect("it starts");
    until_copied(&replicator, source, "hangs");
    assert_complete(&target, "hangs", 1, count);
}

#[test]
fn a_cut_link_and_restarted_brokers_lose_and_repeat_nothing() {
    let source = KafkaCluster::start(&[]);
    let link = Link::new();
    let advertised = format!("advertised.listeners=PLAINTEXT://{}", link.address);
    let target = KafkaCluster::start(&[&advertised]);
    link.to(target.brokers().parse().expect("an address"));
    make_topic(&source, "severed", 2, &[]);
    let writer = Writer::start(&source, "severed", 2);
    let mut settings = settings("severed", &source, &target, &["severed"]);
    settings.commit_every = Duration::from_millis(50);
    let replicator = Replicator::start(settings).expect("it starts");
    let goes_on = |what: &str| {
        let before = replicator.status().records;
        until(what, || replicator.status().records > before);
    };
    goes_on("it copies");
    for round in 0..4 {
        link.cut();
        if round % 2 == 0 {
            // Long enough for the clients to see that nobody is there.
            std::thread::sleep(Duration::from_millis(1_500));
        }
        link.mend();
        goes_on("it copies after the link was cut");
    }
    target.kill();
    target.run();
    goes_on("it copies after the target was killed");
    source.kill();
    source.run();
    goes_on("it copies after the source was killed");
    target.stop();
    target.run();
    goes_on("it copies after the target was stopped");
    let count = writer.stop();
    until_copied(&replicator, &source, "severed");
    assert_complete(&target, "severed", 2, count);
    assert_eq!(replicator.stop().state, State::Stopped);
}

/// A link that can be cut: connections through it are torn, and none comes through until it is mended.
struct Link {
    address: SocketAddr,
    state: Arc<LinkState>,
}

#[derive(Default)]
struct LinkState {
    to: Mutex<Option<SocketAddr>>,
    cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(LinkState::default());
        let of = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                of.pass(stream);
            }
        });
        Self { address, state }
    }

    fn to(&self, address: SocketAddr) {
        *self.state.to.lock().expect("the lock") = Some(address);
    }

    fn cut(&self) {
        self.state.cut.store(true, Ordering::Release);
        for stream in self.state.open.lock().expect("the lock").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.state.cut.store(false, Ordering::Release);
    }
}

impl LinkState {
    fn pass(&self, stream: TcpStream) {
        let to = *self.to.lock().expect("the lock");
        let Some(to) = to.filter(|_| !self.cut.load(Ordering::Acquire)) else {
            return;
        };
        let end = Instant::now() + Duration::from_secs(5);
        let other = loop {
            match TcpStream::connect(to) {
                Ok(other) => break other,
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                Err(_) => return,
            }
        };
        let mut open = self.open.lock().expect("the lock");
        for (from, to) in [(&stream, &other), (&other, &stream)] {
            let (mut from, mut to) = (
                from.try_clone().expect("a handle"),
                to.try_clone().expect("a handle"),
            );
            std::thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
                let _ = from.shutdown(Shutdown::Both);
            });
        }
        open.push(stream);
        open.push(other);
    }
}
