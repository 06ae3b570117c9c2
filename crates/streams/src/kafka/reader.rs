//! The thread that reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as Native;
use rdkafka::message::Message as _;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{self, Cluster};
use super::error::{ErrorKind, KafkaError};
use super::group::{Committed, Group, Membership};
use super::queue::{Item, Queue};
use super::ranges;
use super::record::{self, Maker};
use super::source::{SourceSettings, Start};
use crate::flow::Progress;
use crate::record::{Lane, Position, Record};
use crate::source::{Gained, Release, SourceError, Term};

/// How long one question to the cluster may take. It is asked again.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the thread sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_millis(200);

/// How many of librdkafka's events are served between two looks at the partitions.
const SERVED: usize = 16;

/// How long after a question failed it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The most records, and about the most bytes, of one batch.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 1024 * 1024;

/// How often the same trouble is told at the most.
const TELL: Duration = Duration::from_secs(5);

/// What the thread owns.
pub(super) struct Reader {
    /// Each holds the consumer: the last one that does ends it.
    lanes: Vec<Reading>,
    consumer: Arc<BaseConsumer<Context>>,
    settings: SourceSettings,
    queue: Arc<Queue>,
    group: Group,
    maker: Maker,
    told: Option<(String, Instant)>,
}

/// Says that the thread has ended, however it did.
struct Ending {
    queue: Arc<Queue>,
    group: Group,
}

/// A partition that is read.
struct Reading {
    lane: Lane,
    term: Term,
    topic: String,
    partition: i32,
    queue: PartitionQueue<Context>,
    next: u64,
    beyond: Vec<ranges::Range>,
    broken: bool,
}

/// What librdkafka calls.
struct Context {
    /// What the group has decided. The thread acts on it after the poll that brought it: librdkafka waits for that.
    change: Mutex<Option<Change>>,
    closing: AtomicBool,
    /// Where the partitions end, as the last statistics say.
    ends: Mutex<Option<Ends>>,
}

/// The ends of partitions of topics.
type Ends = HashMap<(String, i32), u64>;

/// Where the reading of a lane begins.
struct Begin {
    term: Term,
    at: Committed,
}

enum Change {
    Assign(TopicPartitionList),
    Revoke { lost: bool },
}

impl Reader {
    pub(super) fn new(
        cluster: &Cluster,
        settings: SourceSettings,
        queue: Arc<Queue>,
        group: Group,
    ) -> Result<Self, KafkaError> {
        let mut config = cluster.client();
        let own = |name: &str, value: &str, config: &mut rdkafka::ClientConfig| {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        };
        // For each partition: what librdkafka holds ready while nobody takes it.
        own("queued.max.messages.kbytes", "8192", &mut config);
        // How long it then waits before it looks again: a second, if nothing is said.
        own("fetch.queue.backoff.ms", "5", &mut config);
        own("fetch.wait.max.ms", "100", &mut config);
        own("statistics.interval.ms", "5000", &mut config);
        // By its heartbeat a member learns that the group shares out anew: the others wait for it.
        let heartbeat = (settings.session_timeout / 10).min(Duration::from_secs(3));
        own(
            "heartbeat.interval.ms",
            &heartbeat.as_millis().max(1).to_string(),
            &mut config,
        );
        config
            .set("group.id", &settings.group)
            .set(
                "session.timeout.ms",
                settings.session_timeout.as_millis().to_string(),
            )
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "range,roundrobin")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error");
        if let Some(instance) = &settings.instance {
            config.set("group.instance.id", instance);
        }
        let context = Context {
            change: Mutex::default(),
            closing: AtomicBool::new(false),
            ends: Mutex::default(),
        };
        let mut consumer: BaseConsumer<Context> =
            config.create_with_context(context).map_err(|fault| {
                KafkaError::new(format!("make a consumer of {}", cluster.brokers()), fault)
            })?;
        let woken = queue.clone();
        consumer.set_nonempty_callback(move || woken.wake());
        Ok(Self {
            consumer: Arc::new(consumer),
            lanes: Vec::new(),
            settings,
            queue,
            group,
            maker: Maker::new(),
            told: None,
        })
    }

    /// Joins the group and reads, on a thread of its own, until the queue is closed.
    pub(super) fn start(self) -> Result<(), SourceError> {
        let ending = Ending {
            queue: self.queue.clone(),
            group: self.group.clone(),
        };
        let topics: Vec<_> = self.settings.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|_| {
            SourceError::Lasting(format!("the topics {topics:?} cannot be subscribed to"))
        })?;
        thread::Builder::new()
            .name("kafka-source".to_owned())
            .spawn(move || {
                let _ending = ending;
                self.run();
            })
            .map(|_| ())
            .map_err(|fault| SourceError::Lasting(format!("no thread to read in: {fault}")))
    }

    fn run(mut self) {
        self.queue.read_here();
        while !self.queue.is_closed() {
            let mut busy = self.serve();
            if let Some(change) = self.consumer.context().take() {
                self.change(change);
                busy = true;
            }
            if self.queue.has_room() {
                for index in 0..self.lanes.len() {
                    busy |= self.drain(index);
                }
            }
            if !busy {
                thread::park_timeout(IDLE);
            }
        }
        // The consumer's end waits for the group, which asks for what was revoked: that is given at once now.
        self.consumer
            .context()
            .closing
            .store(true, Ordering::Release);
    }

    /// Lets librdkafka say what it has to say. Messages never come this way.
    fn serve(&mut self) -> bool {
        let consumer = self.consumer.clone();
        let mut busy = false;
        // None can mean that something was served that has no answer, so it is asked on.
        for _ in 0..SERVED {
            match consumer.poll(Duration::ZERO) {
                Some(Err(fault)) => self.fault(&fault),
                Some(Ok(_)) => tracing::error!("a message came outside of its partition's queue"),
                None => continue,
            }
            busy = true;
        }
        if let Some(ends) = lock(&consumer.context().ends).take() {
            let lags = self.lanes.iter().filter_map(|reading| {
                let end = ends.get(&(reading.topic.clone(), reading.partition))?;
                Some((reading.lane.clone(), end.saturating_sub(reading.next)))
            });
            self.group.set_lags(lags.collect());
        }
        busy
    }

    /// Hands over what a partition has ready, one batch at the most.
    fn drain(&mut self, index: usize) -> bool {
        let Self { lanes, maker, .. } = self;
        let Some(reading) = lanes.get_mut(index).filter(|reading| !reading.broken) else {
            return false;
        };
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut fault = None;
        while records.len() < BATCH && bytes < BATCH_BYTES {
            match reading.queue.poll(Duration::ZERO) {
                None => break,
                Some(Err(native)) => {
                    fault = Some(native);
                    break;
                }
                Some(Ok(message)) => {
                    let offset = u64::try_from(message.offset()).unwrap_or_default();
                    // A fetch that was under way when the partition was assigned anew.
                    if offset < reading.next {
                        continue;
                    }
                    reading.next = offset + 1;
                    if is_done(&mut reading.beyond, offset) {
                        continue;
                    }
                    let record = maker.record(&reading.lane, offset, &message);
                    bytes += record.size();
                    records.push(record);
                }
            }
        }
        let busy = !records.is_empty() || fault.is_some();
        self.hand_over(records, bytes);
        if let Some(fault) = fault {
            self.partition_fault(index, &fault);
        }
        busy
    }

    fn hand_over(&self, records: Vec<Record>, bytes: usize) {
        if !records.is_empty() {
            self.queue.push(Item::Records(records, bytes));
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Assign(partitions) => self.assigned(&partitions),
            Change::Revoke { lost } => self.revoked(lost),
        }
    }

    fn assigned(&mut self, partitions: &TopicPartitionList) {
        let Some((lanes, begins)) = self.begins(partitions) else {
            return;
        };
        let mut assignment = TopicPartitionList::with_capacity(lanes.len());
        self.lanes.clear();
        for ((topic, partition, lane), begin) in lanes.iter().zip(&begins) {
            // Before the assignment, so that not one message goes to the common queue.
            let Some(mut queue) = self.consumer.split_partition_queue(topic, *partition) else {
                self.tell(SourceError::Lasting(format!("{lane} has no queue")));
                continue;
            };
            let woken = self.queue.clone();
            queue.set_nonempty_callback(move || woken.wake());
            let offset = Offset::Offset(i64::try_from(begin.at.next).unwrap_or(i64::MAX));
            let added = assignment.add_partition_offset(topic, *partition, offset);
            debug_assert!(added.is_ok());
            self.lanes.push(Reading {
                lane: lane.clone(),
                term: begin.term,
                topic: topic.clone(),
                partition: *partition,
                queue,
                next: begin.at.next,
                beyond: begin.at.beyond.clone(),
                broken: false,
            });
        }
        let Some(metadata) = self.consumer.group_metadata() else {
            return;
        };
        let known = self.lanes.iter().map(|reading| {
            let committed = Committed {
                next: reading.next,
                beyond: reading.beyond.clone(),
            };
            (reading.lane.clone(), committed)
        });
        let membership = Arc::new(Membership::new(metadata, known.collect()));
        let gained = self.lanes.iter().map(|reading| Gained {
            lane: reading.lane.clone(),
            term: reading.term,
            progress: Progress {
                last: reading
                    .next
                    .checked_sub(1)
                    .map(|last| (last, Position::number(last))),
                beyond: reading.beyond.clone(),
            },
        });
        self.queue.push(Item::Gained(gained.collect(), membership));
        if let Err(fault) = self.consumer.assign(&assignment) {
            tracing::error!(%fault, "the partitions cannot be read");
            self.tell(SourceError::Lasting(
                "the partitions that the group gave cannot be read".to_owned(),
            ));
        }
    }

    /// Where each partition begins. None when the group has changed again meanwhile, or the source is closed.
    #[expect(
        clippy::type_complexity,
        reason = "two lists that belong together, used once"
    )]
    fn begins(
        &mut self,
        partitions: &TopicPartitionList,
    ) -> Option<(Vec<(String, i32, Lane)>, Vec<Begin>)> {
        let elements = partitions.elements();
        let lanes: Vec<_> = elements
            .iter()
            .map(|element| {
                let (topic, partition) = (element.topic().to_owned(), element.partition());
                let lane = record::lane(&topic, partition);
                (topic, partition, lane)
            })
            .collect();
        loop {
            match self.ask(&lanes) {
                Ok(begins) => return Some((lanes, begins)),
                Err(fault) => self.tell(fault),
            }
            self.serve();
            if self.queue.is_closed() || self.consumer.context().changed() {
                return None;
            }
            thread::park_timeout(ASK_AGAIN);
        }
    }

    fn ask(&self, lanes: &[(String, i32, Lane)]) -> Result<Vec<Begin>, SourceError> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let known = match &self.settings.checkpoints {
            None => {
                let known = self.committed(lanes)?.into_iter();
                known.map(|known| (Term::default(), known)).collect()
            }
            Some(checkpoints) => {
                let names: Vec<_> = lanes.iter().map(|(.., lane)| lane.clone()).collect();
                let claimed = checkpoints.claim(&names).map_err(SourceError::Passing)?;
                let known = claimed.into_iter().map(|claimed| {
                    let known = claimed.progress.map(|progress| Committed {
                        next: progress.last.map_or(0, |(ordinal, _)| ordinal + 1),
                        beyond: progress.beyond,
                    });
                    (claimed.term, known)
                });
                known.collect::<Vec<_>>()
            }
        };
        let mut begins = Vec::with_capacity(lanes.len());
        let mut fresh = TopicPartitionList::new();
        let mut begun = Vec::new();
        for ((topic, partition, lane), (term, known)) in lanes.iter().zip(known) {
            if let Some(at) = known {
                begins.push(Begin { term, at });
                continue;
            }
            let (low, high) = self
                .consumer
                .fetch_watermarks(topic, *partition, ANSWER)
                .map_err(|fault| passing(format!("ask {lane} where it begins"), fault))?;
            let next = match self.settings.start {
                Start::Earliest => low,
                Start::Latest => {
                    let _ = fresh.add_partition_offset(topic, *partition, Offset::Offset(high));
                    let last = u64::try_from(high).unwrap_or_default().checked_sub(1);
                    let last = last.map(|last| (last, Position::number(last)));
                    let beyond = Vec::new();
                    begun.push((lane.clone(), term, Progress { last, beyond }));
                    high
                }
            };
            let at = Committed {
                next: u64::try_from(next).unwrap_or_default(),
                beyond: Vec::new(),
            };
            begins.push(Begin { term, at });
        }
        match &self.settings.checkpoints {
            _ if begun.is_empty() => {}
            Some(checkpoints) => checkpoints.begin(&begun).map_err(SourceError::Passing)?,
            None => {
                let kept = self.consumer.commit(&fresh, CommitMode::Sync);
                kept.map_err(|fault| passing("keep where reading begins", fault))?;
            }
        }
        Ok(begins)
    }

    fn committed(
        &self,
        lanes: &[(String, i32, Lane)],
    ) -> Result<Vec<Option<Committed>>, SourceError> {
        let mut list = TopicPartitionList::with_capacity(lanes.len());
        for (topic, partition, _) in lanes {
            list.add_partition(topic, *partition);
        }
        let attempted = || format!("ask for the offsets of the group {}", self.settings.group);
        let list = self
            .consumer
            .committed_offsets(list, ANSWER)
            .map_err(|fault| passing(attempted(), fault))?;
        let mut known = Vec::with_capacity(lanes.len());
        for (topic, partition, lane) in lanes {
            let Some(element) = list.find_partition(topic, *partition) else {
                known.push(None);
                continue;
            };
            element
                .error()
                .map_err(|fault| passing(attempted(), fault))?;
            let Offset::Offset(offset) = element.offset() else {
                known.push(None);
                continue;
            };
            let next = u64::try_from(offset).unwrap_or_default();
            let beyond = ranges::read(next, element.metadata()).ok_or_else(|| SourceError::Broken {
                lane: lane.clone(),
                detail: format!(
                    "the metadata of the offset that the group {} has committed cannot be read: what is done beyond it is unknown; set the group's offset to where to go on",
                    self.settings.group
                ),
            })?;
            known.push(Some(Committed { next, beyond }));
        }
        Ok(known)
    }

    fn revoked(&mut self, lost: bool) {
        let lanes: Vec<_> = self.lanes.drain(..).map(|reading| reading.lane).collect();
        self.queue.forget_records();
        self.group.set_lags(HashMap::new());
        if !lanes.is_empty() {
            if lost {
                self.queue.push(Item::Lost(lanes));
            } else {
                let (release, mut released) = Release::new();
                self.queue.push(Item::Revoked(lanes, release));
                let end = Instant::now() + self.settings.release_wait;
                while matches!(
                    released.try_recv(),
                    Err(tokio::sync::oneshot::error::TryRecvError::Empty)
                ) {
                    if Instant::now() >= end || self.queue.is_closed() {
                        tracing::warn!(group = %self.settings.group, "partitions are given back before what ran of them was done");
                        break;
                    }
                    thread::park_timeout(Duration::from_millis(2));
                }
            }
        }
        if let Err(fault) = self.consumer.unassign() {
            tracing::error!(%fault, "the partitions could not be given back");
        }
    }

    /// Trouble with a partition.
    fn partition_fault(&mut self, index: usize, fault: &Native) {
        let code = fault.rdkafka_error_code();
        if code.map(ErrorKind::of) != Some(ErrorKind::OutOfRange) {
            return self.fault(fault);
        }
        let Some(reading) = self.lanes.get_mut(index) else {
            return;
        };
        reading.broken = true;
        let (topic, partition, next) = (&reading.topic, reading.partition, reading.next);
        let there = match self.consumer.fetch_watermarks(topic, partition, ANSWER) {
            Ok((low, high)) => format!("it holds {low} up to, not with, {high}"),
            Err(_) => "what it holds cannot be asked now".to_owned(),
        };
        let group = &self.settings.group;
        let act = match &self.settings.checkpoints {
            None => format!("set the offset of the group {group} to where to go on"),
            // The group's offsets are not what is read by.
            Some(_) => format!(
                "give the source another group than {group}: it begins where the source's start says"
            ),
        };
        let fault = SourceError::Broken {
            lane: reading.lane.clone(),
            detail: format!(
                "the next record is {next}, and the partition does not have it ({there}): retention has overtaken the reader, or the topic was made anew; {act}"
            ),
        };
        self.queue.push(Item::Fault(fault));
    }

    fn fault(&mut self, fault: &Native) {
        let Some(code) = fault.rdkafka_error_code() else {
            return;
        };
        let kind = ErrorKind::of(code);
        let fatal = matches!(fault, Native::MessageConsumptionFatal(_));
        let text = format!("read {:?}: {}", self.settings.topics, kind.text());
        tracing::debug!(%fault, "the source");
        self.tell(if fatal || !kind.passes() {
            SourceError::Lasting(text)
        } else {
            SourceError::Passing(text)
        });
    }

    /// Tells the flow. What repeats itself is told every few seconds.
    fn tell(&mut self, fault: SourceError) {
        let now = Instant::now();
        let text = fault.to_string();
        let again = self
            .told
            .as_ref()
            .is_some_and(|(before, at)| *before == text && now < *at + TELL);
        if !again {
            self.told = Some((text, now));
            self.queue.push(Item::Fault(fault));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.queue.is_closed() {
            let fault = "the thread that reads has ended".to_owned();
            self.queue.push(Item::Fault(SourceError::Lasting(fault)));
        }
        self.group.end();
    }
}

/// Whether a record beyond the committed offset is done already.
fn is_done(beyond: &mut Vec<ranges::Range>, offset: u64) -> bool {
    while let Some((first, last)) = beyond.first() {
        if offset > *last {
            beyond.remove(0);
            continue;
        }
        return offset >= *first;
    }
    false
}

impl Context {
    fn take(&self) -> Option<Change> {
        lock(&self.change).take()
    }

    fn changed(&self) -> bool {
        lock(&self.change).is_some()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        cluster::log(level, facility, message);
    }

    fn error(&self, error: Native, _: &str) {
        tracing::debug!(%error, "librdkafka");
    }

    fn stats(&self, statistics: Statistics) {
        let mut ends = HashMap::new();
        for (topic, statistics) in &statistics.topics {
            for (partition, statistics) in &statistics.partitions {
                // Where committed transactions end. Negative: not known yet.
                if let Ok(end) = u64::try_from(statistics.ls_offset) {
                    ends.insert((topic.clone(), *partition), end);
                }
            }
        }
        *lock(&self.ends) = Some(ends);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            let _ = consumer.unassign();
            return;
        }
        let change = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Change::Assign(partitions.clone())
            }
            _ => Change::Revoke {
                lost: consumer.assignment_lost(),
            },
        };
        *lock(&self.change) = Some(change);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn passing(attempted: impl Into<String>, fault: Native) -> SourceError {
    let fault = KafkaError::new(attempted, fault);
    tracing::debug!(source = ?fault.source, "{fault}");
    if fault.kind.passes() || fault.kind == ErrorKind::Fenced {
        SourceError::Passing(fault.to_string())
    } else {
        SourceError::Lasting(fault.to_string())
    }
}
