//! Flows over scripted sources, processes and committers.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::lane::LaneState;
use super::{
    Commit, CommitError, Committer, Failure, Flow, FlowError, Meter, Order, Process, Progress,
    Settings,
};
use crate::record::{Lane, Position, Record};
use crate::source::{Event, Gained, Release, Source, SourceError, Term};

fn lane(name: &str) -> Lane {
    Lane::new(name)
}

fn record(lane: &str, ordinal: u64, key: Option<&str>) -> Record {
    Record {
        lane: Lane::new(lane),
        ordinal,
        position: Position::number(ordinal),
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(
            format!("{lane}:{ordinal}").as_bytes(),
        )),
        headers: Vec::new(),
        timestamp: None,
        defect: None,
    }
}

fn records(lane: &str, ordinals: impl IntoIterator<Item = u64>) -> Event {
    let records = ordinals.into_iter().map(|at| record(lane, at, None));
    Event::Records(records.collect())
}

fn gained(lanes: &[&str]) -> Event {
    gained_in(Term::default(), lanes)
}

fn gained_in(term: Term, lanes: &[&str]) -> Event {
    let gained = lanes.iter().map(|name| Gained {
        lane: lane(name),
        term,
        progress: Progress::default(),
    });
    Event::Gained(gained.collect())
}

/// A source that a test feeds.
struct Fed {
    events: mpsc::UnboundedReceiver<Result<Event, SourceError>>,
    kept: VecDeque<Event>,
}

#[async_trait]
impl Source for Fed {
    async fn next(&mut self, room: bool) -> Result<Event, SourceError> {
        loop {
            if room && let Some(event) = self.kept.pop_front() {
                return Ok(event);
            }
            match self.events.recv().await {
                None => std::future::pending().await,
                Some(Ok(event @ Event::Records(_))) if !room => self.kept.push_back(event),
                Some(event) => return event,
            }
        }
    }
}

type Work = dyn Fn(&Record) -> Result<u64, Failure> + Send + Sync;

/// A process that does what a test says, and waits for permits where it should.
struct Scripted {
    batch: usize,
    work: Box<Work>,
    permits: Option<Arc<Semaphore>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    hangs: Mutex<HashSet<u64>>,
}

#[async_trait]
impl Process for Scripted {
    type Output = u64;

    fn batch(&self) -> usize {
        self.batch
    }

    async fn process(&self, records: &[Arc<Record>]) -> Vec<Result<u64, Failure>> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let hangs = {
            let hanging = self.hangs.lock().unwrap();
            records
                .iter()
                .any(|record| hanging.contains(&record.ordinal))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if let Some(permits) = &self.permits {
            permits.acquire().await.unwrap().forget();
        }
        tokio::task::yield_now().await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        records.iter().map(|record| (self.work)(record)).collect()
    }
}

/// What a committer was given.
#[derive(Default)]
struct Book {
    /// Each lane's ordinals, in the order in which they were given, dead ones as their negative.
    given: Mutex<BTreeMap<String, Vec<i64>>>,
    progress: Mutex<BTreeMap<String, Progress>>,
    refuse: Mutex<VecDeque<CommitError>>,
    /// Given: the term under which lanes are held; parts of another one are refused, and counted.
    term: Mutex<Option<Term>>,
    of_another_term: AtomicUsize,
    told: Notify,
}

struct Clerk(Arc<Book>);

#[async_trait]
impl Committer<u64> for Clerk {
    async fn commit(&mut self, commit: &Commit<u64>) -> Result<(), CommitError> {
        tokio::task::yield_now().await;
        if let Some(refusal) = self.0.refuse.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        let term = *self.0.term.lock().unwrap();
        let mut parts = commit.lanes.iter();
        if term.is_some_and(|term| parts.any(|part| part.term != term)) {
            self.0.of_another_term.fetch_add(1, Ordering::SeqCst);
            return Err(CommitError::Passing("of another term".to_owned()));
        }
        for part in &commit.lanes {
            let name = part.lane.to_string();
            let mut given = self.0.given.lock().unwrap();
            let given = given.entry(name.clone()).or_default();
            for output in &part.outputs {
                let ordinal = i64::try_from(output.record.ordinal).unwrap();
                given.push(match output.outcome {
                    Ok(_) => ordinal,
                    Err(_) => -ordinal,
                });
            }
            self.0
                .progress
                .lock()
                .unwrap()
                .insert(name, part.progress.clone());
        }
        self.0.told.notify_waiters();
        Ok(())
    }
}

struct Rig {
    feed: mpsc::UnboundedSender<Result<Event, SourceError>>,
    book: Arc<Book>,
    process: Arc<Scripted>,
    meter: Arc<Meter>,
    stop: CancellationToken,
    flow: tokio::task::JoinHandle<Result<(), FlowError>>,
}

fn settings() -> Settings {
    Settings {
        linger: Duration::from_millis(1),
        backoff_first: Duration::from_millis(1),
        backoff_max: Duration::from_millis(4),
        drain: Duration::from_millis(200),
        ..Settings::default()
    }
}

fn scripted(work: impl Fn(&Record) -> Result<u64, Failure> + Send + Sync + 'static) -> Scripted {
    Scripted {
        batch: 1,
        work: Box::new(work),
        permits: None,
        under_way: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        hangs: Mutex::default(),
    }
}

fn fine(record: &Record) -> Result<u64, Failure> {
    Ok(record.ordinal)
}

fn failure(retryable: bool) -> Failure {
    Failure {
        code: "engine-failed".to_owned(),
        reason: "it failed".to_owned(),
        retryable,
        after: None,
        overloaded: false,
    }
}

impl Rig {
    fn start(settings: Settings, process: Scripted) -> Self {
        let (feed, events) = mpsc::unbounded_channel();
        let book = Arc::new(Book::default());
        let process = Arc::new(process);
        let meter = Arc::new(Meter::default());
        let stop = CancellationToken::new();
        let flow = Flow {
            source: Fed {
                events,
                kept: VecDeque::new(),
            },
            process: Arc::clone(&process),
            committer: Clerk(Arc::clone(&book)),
            settings,
            meter: Arc::clone(&meter),
            stop: stop.clone(),
        };
        Self {
            feed,
            book,
            process,
            meter,
            stop,
            flow: tokio::spawn(flow.run()),
        }
    }

    fn say(&self, event: Event) {
        self.feed.send(Ok(event)).unwrap();
    }

    fn given(&self, lane: &str) -> Vec<i64> {
        let given = self.book.given.lock().unwrap();
        given.get(lane).cloned().unwrap_or_default()
    }

    fn progress(&self, lane: &str) -> Progress {
        self.book.progress.lock().unwrap()[lane].clone()
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let patience = tokio::time::timeout(Duration::from_secs(20), async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        patience.await.expect("it never comes so far");
    }

    async fn stopped(self) -> Result<(), FlowError> {
        self.stop.cancel();
        self.flow.await.unwrap()
    }
}

fn upto(last: i64) -> Vec<i64> {
    (0..=last).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_given_in_the_order_of_their_lane_whatever_the_order_of_the_work() {
    let rig = Rig::start(
        settings(),
        scripted(|record| {
            std::thread::sleep(Duration::from_micros(record.ordinal * 37 % 500));
            fine(record)
        }),
    );
    rig.say(gained(&["a", "b"]));
    for from in (0..300).step_by(100) {
        rig.say(records("a", from..from + 100));
        rig.say(records("b", from..from + 100));
    }
    rig.until(|rig| rig.given("a").len() == 300 && rig.given("b").len() == 300)
        .await;
    assert_eq!((rig.given("a"), rig.given("b")), (upto(299), upto(299)));
    assert_eq!(rig.progress("a").last, Some((299, Position::number(299))));
    rig.until(|rig| rig.meter.read().in_flight == 0).await;
    let reading = rig.meter.read();
    assert_eq!(
        (reading.committed, reading.in_flight_bytes, reading.dead),
        (600, 0, 0)
    );
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_pass_is_tried_again_and_what_cannot_is_a_dead_letter_in_its_place() {
    let tries = Arc::new(Mutex::new(HashMap::<u64, u32>::new()));
    let counted = Arc::clone(&tries);
    let rig = Rig::start(
        settings(),
        scripted(move |record| {
            let mut tries = counted.lock().unwrap();
            let tried = tries.entry(record.ordinal).or_default();
            *tried += 1;
            match record.ordinal {
                3 if *tried < 4 => Err(failure(true)),
                5 => Err(failure(false)),
                7 => Err(failure(true)),
                _ => fine(record),
            }
        }),
    );
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..10));
    rig.until(|rig| rig.given("a").len() == 10).await;
    assert_eq!(rig.given("a"), [0, 1, 2, 3, 4, -5, 6, -7, 8, 9]);
    let tried = |ordinal| tries.lock().unwrap()[&ordinal];
    assert_eq!((tried(3), tried(5), tried(7)), (4, 1, 5));
    rig.until(|rig| rig.meter.read().dead == 2).await;
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_hangs_frees_its_lane_at_the_deadline_and_its_batch_goes_on() {
    let process = Scripted {
        batch: 4,
        hangs: Mutex::new(HashSet::from([5])),
        ..scripted(fine)
    };
    let rig = Rig::start(
        Settings {
            deadline: Duration::from_millis(100),
            ..settings()
        },
        process,
    );
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..12));
    rig.until(|rig| rig.given("a").len() == 12).await;
    // Of the batch 4 to 7 the head is 4: it is given up for the call that hangs, and the others are tried one by one.
    assert_eq!(rig.given("a"), [0, 1, 2, 3, -4, -5, 6, 7, 8, 9, 10, 11]);
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_a_defect_is_a_dead_letter_in_its_place_and_nothing_works_on_it() {
    let rig = Rig::start(
        settings(),
        scripted(|record| {
            assert!(record.defect.is_none());
            fine(record)
        }),
    );
    rig.say(gained(&["a"]));
    let mut records: Vec<_> = (0..5).map(|at| record("a", at, None)).collect();
    records[3].defect = Some("it is no gzip".into());
    rig.say(Event::Records(records));
    rig.until(|rig| rig.given("a").len() == 5).await;
    assert_eq!(rig.given("a"), [0, 1, 2, -3, 4]);
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_panics_costs_its_own_records() {
    let rig = Rig::start(
        settings(),
        scripted(|record| {
            assert!(record.ordinal != 2, "on purpose");
            fine(record)
        }),
    );
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..5));
    rig.until(|rig| rig.given("a").len() == 5).await;
    assert_eq!(rig.given("a"), [0, 1, -2, 3, 4]);
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_than_there_is_room_for() {
    let permits = Arc::new(Semaphore::new(0));
    let process = Scripted {
        permits: Some(Arc::clone(&permits)),
        ..scripted(fine)
    };
    let rig = Rig::start(
        Settings {
            in_flight: 25,
            concurrency: 8,
            ..settings()
        },
        process,
    );
    rig.say(gained(&["a"]));
    for from in (0..1000).step_by(10) {
        rig.say(records("a", from..from + 10));
    }
    rig.until(|rig| rig.process.under_way.load(Ordering::SeqCst) == 8)
        .await;
    // Also without room it hears what else the source says.
    rig.say(Event::Lost(vec![lane("elsewhere")]));
    rig.until(|rig| rig.meter.read().in_flight == 30).await;
    permits.add_permits(1000);
    rig.until(|rig| rig.given("a").len() == 1000).await;
    assert_eq!(rig.given("a"), upto(999));
    rig.until(|rig| rig.meter.read().in_flight == 0).await;
    assert!(rig.process.most.load(Ordering::SeqCst) <= 8);
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_lanes_are_released_when_what_runs_is_committed_and_the_rest_is_forgotten() {
    let permits = Arc::new(Semaphore::new(0));
    let process = Scripted {
        permits: Some(Arc::clone(&permits)),
        ..scripted(fine)
    };
    let rig = Rig::start(
        Settings {
            concurrency: 2,
            drain: Duration::from_secs(20),
            ..settings()
        },
        process,
    );
    rig.say(gained(&["a", "b"]));
    rig.say(records("a", 0..10));
    rig.until(|rig| rig.process.under_way.load(Ordering::SeqCst) == 2)
        .await;
    let (release, mut released) = Release::new();
    rig.say(Event::Revoked {
        lanes: vec![lane("a")],
        release,
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(released.try_recv().is_err(), "two are still under way");
    permits.add_permits(2);
    released.await.unwrap();
    assert_eq!(rig.given("a"), [0, 1]);
    assert_eq!(rig.meter.read().committed, 2);
    permits.add_permits(100);
    rig.say(records("a", 10..12));
    rig.say(records("b", 0..3));
    rig.until(|rig| rig.given("b").len() == 3).await;
    assert_eq!(rig.given("a"), [0, 1], "another has the lane");
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_with_work_that_does_not_end_is_released_when_the_drain_is_over() {
    let process = Scripted {
        hangs: Mutex::new(HashSet::from([1])),
        ..scripted(fine)
    };
    let rig = Rig::start(settings(), process);
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..3));
    rig.until(|rig| rig.given("a") == [0]).await;
    let (release, released) = Release::new();
    rig.say(Event::Revoked {
        lanes: vec![lane("a")],
        release,
    });
    released.await.unwrap();
    assert_eq!(rig.given("a"), [0]);
    rig.until(|rig| rig.meter.read().in_flight == 0).await;
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_at_its_end_is_released_after_its_last_record_is_committed() {
    let permits = Arc::new(Semaphore::new(2));
    let process = Scripted {
        permits: Some(Arc::clone(&permits)),
        ..scripted(fine)
    };
    let one_by_one = Settings {
        concurrency: 1,
        ..settings()
    };
    let rig = Rig::start(one_by_one, process);
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..3));
    let (release, mut released) = Release::new();
    rig.say(Event::Ended {
        lane: lane("a"),
        release,
    });
    rig.until(|rig| rig.given("a").len() == 2).await;
    assert!(released.try_recv().is_err());
    permits.add_permits(1);
    released.await.unwrap();
    assert_eq!(rig.given("a"), upto(2));
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_in_one_term_is_offered_in_that_one_also_when_the_lane_was_taken_anew() {
    let rig = Rig::start(settings(), scripted(fine));
    // The lane was lost and taken again, and the flow does not know it yet.
    *rig.book.term.lock().unwrap() = Some(Term(2));
    rig.say(gained_in(Term(1), &["a"]));
    rig.say(records("a", 0..3));
    rig.until(|rig| rig.book.of_another_term.load(Ordering::SeqCst) > 1)
        .await;
    assert!(rig.given("a").is_empty());
    rig.say(Event::Lost(vec![lane("a")]));
    rig.say(gained_in(Term(2), &["a"]));
    rig.say(records("a", 0..4));
    rig.until(|rig| rig.given("a").len() == 4).await;
    assert_eq!(rig.given("a"), upto(3));
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_is_offered_again_as_it_was_and_a_fenced_one_is_forgotten() {
    let rig = Rig::start(settings(), scripted(fine));
    rig.book
        .refuse
        .lock()
        .unwrap()
        .extend((0..3).map(|_| CommitError::Passing("not now".to_owned())));
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..50));
    rig.until(|rig| rig.given("a").len() == 50).await;
    assert_eq!(rig.given("a"), upto(49));
    rig.book
        .refuse
        .lock()
        .unwrap()
        .push_back(CommitError::Fenced("taken".to_owned()));
    rig.say(records("a", 50..60));
    rig.until(|rig| rig.book.refuse.lock().unwrap().is_empty())
        .await;
    rig.until(|rig| rig.meter.read().in_flight == 0).await;
    rig.say(gained(&["a"]));
    rig.say(records("a", 50..60));
    rig.until(|rig| rig.given("a").len() == 60).await;
    assert_eq!(rig.given("a"), upto(59));
    rig.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_by_itself_ends_the_flow_with_its_reason() {
    let rig = Rig::start(settings(), scripted(fine));
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..5));
    rig.feed
        .send(Err(SourceError::Broken {
            lane: lane("a"),
            detail: "records 5 to 9 are gone".to_owned(),
        }))
        .unwrap();
    let error = rig.flow.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "a: records 5 to 9 are gone");
    assert_eq!(
        rig.book.given.lock().unwrap()["a"],
        upto(4),
        "what was done is committed first"
    );

    let rig = Rig::start(settings(), scripted(fine));
    rig.book
        .refuse
        .lock()
        .unwrap()
        .push_back(CommitError::Unknown("the answer was lost".to_owned()));
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..5));
    let error = rig.flow.await.unwrap().unwrap_err();
    assert!(matches!(error, FlowError::Commit(CommitError::Unknown(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_is_stopped_lets_what_runs_end_and_commits_it() {
    let permits = Arc::new(Semaphore::new(0));
    let process = Scripted {
        permits: Some(Arc::clone(&permits)),
        ..scripted(fine)
    };
    let rig = Rig::start(
        Settings {
            concurrency: 3,
            drain: Duration::from_secs(20),
            ..settings()
        },
        process,
    );
    rig.say(gained(&["a"]));
    rig.say(records("a", 0..10));
    rig.until(|rig| rig.process.under_way.load(Ordering::SeqCst) == 3)
        .await;
    rig.stop.cancel();
    permits.add_permits(100);
    rig.flow.await.unwrap().unwrap();
    assert_eq!(rig.book.given.lock().unwrap()["a"], [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_key_a_slow_record_holds_up_its_key_alone_and_nothing_is_given_twice_after_a_restart() {
    let process = Scripted {
        hangs: Mutex::new(HashSet::from([0])),
        ..scripted(fine)
    };
    let by_key = Settings {
        order: Order::Key,
        ..settings()
    };
    let rig = Rig::start(by_key.clone(), process);
    rig.say(gained(&["a"]));
    let keyed = (0..10).map(|at| record("a", at, Some(if at % 2 == 0 { "even" } else { "odd" })));
    let keyed: Vec<_> = keyed.collect();
    rig.say(Event::Records(keyed.clone()));
    rig.until(|rig| rig.given("a").len() == 5).await;
    assert_eq!(rig.given("a"), [1, 3, 5, 7, 9]);
    let progress = rig.progress("a");
    assert_eq!(progress.last, None);
    assert_eq!(progress.beyond, [(1, 1), (3, 3), (5, 5), (7, 7), (9, 9)]);
    rig.stopped().await.unwrap();

    let rig = Rig::start(by_key, scripted(fine));
    rig.say(Event::Gained(vec![Gained {
        lane: lane("a"),
        term: Term::default(),
        progress,
    }]));
    rig.say(Event::Records(keyed));
    rig.until(|rig| rig.given("a").len() == 5).await;
    assert_eq!(rig.given("a"), [0, 2, 4, 6, 8]);
    assert_eq!(
        rig.progress("a"),
        Progress {
            last: Some((9, Position::number(9))),
            beyond: Vec::new()
        }
    );
    rig.stopped().await.unwrap();
}

proptest! {
    /// Whatever is done in whatever order, and wherever the reader begins anew: each record is given once, in the order that was asked
    /// for, and the progress covers exactly what was given.
    #[test]
    fn every_record_is_given_once_in_its_order_and_progress_says_what_was_given(
        order in prop_oneof![Just(Order::Lane), Just(Order::Key), Just(Order::None)],
        keys in prop::collection::vec(prop::option::of(0_u8..3), 1..40),
        gaps in prop::collection::vec(1_u64..3, 40),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..4, any::<bool>()), 1..120),
    ) {
        let mut ordinal = 0;
        let all: Vec<_> = keys.iter().zip(gaps).map(|(key, gap)| {
            ordinal += gap;
            record("a", ordinal, key.map(|key| ["x", "y", "z"][usize::from(key)]))
        }).collect();
        let mut committed = Progress::default();
        let mut given: Vec<u64> = Vec::new();
        let mut state = None;
        let mut open: Vec<u64> = Vec::new();
        for (pick, most, crash) in picks {
            let lane_state = state.get_or_insert_with(|| {
                let mut fresh = LaneState::new(lane("a"), order, committed.clone());
                let last = committed.last.as_ref().map(|(last, _)| *last);
                let rest = all.iter().filter(|record| last.is_none_or(|last| record.ordinal > last));
                open = rest.filter_map(|record| fresh.take(Arc::new(record.clone()), Timestamp::UNIX_EPOCH)).collect();
                fresh
            });
            if !open.is_empty() {
                let sequence = open.swap_remove(pick.index(open.len()));
                prop_assert!(lane_state.begin(sequence).is_some());
                prop_assert!(lane_state.settle(sequence, Ok(())));
                prop_assert!(!lane_state.settle(sequence, Ok(())), "only once");
            }
            let outputs = lane_state.gather(most);
            if !outputs.is_empty() {
                given.extend(outputs.iter().map(|output| output.record.ordinal));
                committed = lane_state.progress();
                let last = committed.last.as_ref().map_or(0, |(last, _)| *last);
                for record in &all {
                    let covered = record.ordinal <= last
                        || committed.beyond.iter().any(|(first, last)| (*first..=*last).contains(&record.ordinal));
                    prop_assert_eq!(covered, given.contains(&record.ordinal));
                }
            }
            if crash && most == 0 {
                state = None;
            }
        }
        let distinct: HashSet<_> = given.iter().collect();
        prop_assert_eq!(distinct.len(), given.len());
        let in_order = |given: &[u64]| given.is_sorted();
        match order {
            Order::Lane => prop_assert!(in_order(&given)),
            Order::Key => for key in ["x", "y", "z"] {
                let of_key: Vec<_> = given.iter().copied().filter(|at| {
                    all.iter().any(|record| record.ordinal == *at && record.key.as_deref() == Some(key.as_bytes()))
                }).collect();
                prop_assert!(in_order(&of_key));
            },
            Order::None => {}
        }
    }
}
