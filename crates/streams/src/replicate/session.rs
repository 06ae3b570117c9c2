//! A session: from reaching both clusters to the first thing that goes wrong.
//!
//! Whatever goes wrong ends the session, and the next one begins from what stands in the target: there is no state to repair.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer as _};

use super::allowance::Allowance;
use super::clients::{self, Watched};
use super::map::Chunk;
use super::owner::{self, Place};
use super::plan::{Plan, Planned, Planner};
use super::positions::{self, Position};
use super::progress::{self, Chunks, Progress};
use super::replicator::{End, Shared};
use super::reports::Reports;
use super::status::made_anew;
use super::telling::Meter;
use super::transaction::Open;
use super::watch::Watch;

use super::{ReplicateError, Settings, State};

/// How long the target may take over a step of a transaction.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);

/// How long one call about a transaction may take: between them it is seen whether to stop.
pub(super) const SLICE: Duration = Duration::from_secs(1);

/// What goes on through all sessions of a process.
pub(super) struct Kept {
    /// The topics that were stopped, and why.
    pub(super) stopped: BTreeMap<String, String>,
    /// Whose turn it is, as far as this process knows.
    pub(super) place: Place,
    /// How much a transaction may take.
    pub(super) allowance: Allowance,
}

pub(super) struct Session<'a> {
    pub(super) settings: &'a Settings,
    pub(super) shared: &'a Shared,
    pub(super) kept: &'a mut Kept,
    /// When this process gave its last sign of life.
    pub(super) signed: Instant,
    pub(super) planner: Arc<Planner>,
    pub(super) watch: Watch,
    pub(super) consumer: Arc<BaseConsumer<Watched>>,
    pub(super) producer: Arc<BaseProducer<Reports>>,
    pub(super) topics: Vec<Topic>,
    pub(super) by_name: HashMap<String, usize>,
    pub(super) slots: Vec<Slot>,
    /// The transaction that is open.
    pub(super) open: Option<Open>,
    pub(super) progress: Progress,
    /// Topics that are not copied for a reason that a later plan can remove.
    pub(super) refused: Vec<(Planned, String)>,
    batch: usize,
    pub(super) meter: Meter,
}

/// A topic that is copied.
pub(super) struct Topic {
    pub(super) planned: Planned,
    /// By partition: the number of its slot.
    pub(super) slots: Vec<usize>,
}

/// A partition that is copied.
pub(super) struct Slot {
    pub(super) topic: usize,
    pub(super) partition: i32,
    /// The source offset to copy next.
    pub(super) next: i64,
    /// The epoch of the source's leader that wrote what lies before it, where it is known.
    pub(super) epoch: Option<i32>,
    /// As committed.
    pub(super) done: i64,
    /// The first source offset of the open transaction, and how many records are in it.
    pub(super) base: i64,
    pub(super) sent: i64,
    /// Bytes of their keys and values.
    pub(super) size: u64,
    /// The chunk that grows.
    pub(super) chunk: Chunk,
    pub(super) number: u64,
    /// Chunks that are full, and the source offset at which each ends.
    pub(super) sealed: VecDeque<(u64, i64)>,
    /// The source's end when it was last told.
    pub(super) end: i64,
    /// The timestamp of the last record, in milliseconds.
    pub(super) last: Option<i64>,
}

impl Kept {
    pub(super) fn new() -> Self {
        Self {
            stopped: BTreeMap::new(),
            place: Place::new(),
            allowance: Allowance::new(),
        }
    }
}

impl<'a> Session<'a> {
    /// Reaches both clusters, takes the place of whoever was there before, reads the progress, and assigns all partitions.
    pub(super) fn open(
        settings: &'a Settings,
        shared: &'a Shared,
        kept: &'a mut Kept,
    ) -> Result<Self, End> {
        let go_on = &mut || !shared.stopping();
        let planner = Arc::new(Planner::new(settings).map_err(lasting_settings)?);
        progress::ensure(settings)?;
        let plan = planner.plan()?;
        let batch = smallest(&plan);
        let reader = clients::reader(&settings.target, &settings.transactional_id(), "target")?;
        if !kept
            .place
            .admits(owner::read(settings, &reader, go_on)?.as_ref())
        {
            return Err(End::Replaced);
        }
        let producer = Arc::new(clients::producing(settings, batch)?);
        init(&producer, shared)?;
        // Who came in between was fenced by this, but stays.
        if !kept
            .place
            .admits(owner::read(settings, &reader, go_on)?.as_ref())
        {
            return Err(End::Replaced);
        }
        let consumer = Arc::new(clients::copying(settings)?);
        let watch = Watch::start(&planner, settings.sync_every, plan.pending)?;
        let mut session = Self {
            settings,
            shared,
            kept,
            signed: Instant::now(),
            planner,
            watch,
            consumer,
            producer,
            topics: Vec::new(),
            by_name: HashMap::new(),
            slots: Vec::new(),
            open: None,
            progress: Progress::default(),
            refused: Vec::new(),
            batch,
            meter: Meter::new(),
        };
        session.begin()?;
        session.sign()?;
        // With this in both partitions, nothing that whoever was fenced has sent can still come into them.
        session.claim()?;
        session.commit()?;
        session.kept.place.took();
        session.progress = progress::read_while(settings, &mut || session.is_alive())?;
        // What was reset begins anew.
        let known = &session.progress.topics;
        let stopped = &mut session.kept.stopped;
        stopped.retain(|topic, _| known.contains_key(topic));
        session.adopt(plan)?;
        session.tell(State::Running);
        Ok(session)
    }

    /// Takes a plan over: new topics and partitions are assigned, topics that must not go on are stopped.
    pub(super) fn adopt(&mut self, plan: Plan) -> Result<(), End> {
        if smallest(&plan) < self.batch {
            return Err(End::Again);
        }
        for topic in &self.topics {
            let name = &topic.planned.source;
            // It may come back: nothing is kept of its going.
            if !plan.topics.iter().any(|planned| planned.source == *name) {
                return Err(End::Again);
            }
        }
        self.refused.clear();
        let mut fresh = Vec::new();
        let mut taken = Vec::new();
        let mut withdrawn = Vec::new();
        for planned in plan.topics {
            let running = self.by_name.contains_key(&planned.source);
            if let Some(why) = planned.refused.clone() {
                if running {
                    return Err(End::Again);
                }
                if self.is_empty_entry(&planned.source) {
                    withdrawn.push(planned.source.clone());
                }
                self.refused.push((planned, why));
                continue;
            }
            let stopped = &self.kept.stopped;
            let why = stopped
                .get(&planned.source)
                .cloned()
                .or_else(|| self.broken(&planned));
            if let Some(why) = why {
                let stopped = &mut self.kept.stopped;
                stopped.insert(planned.source.clone(), why.clone());
                if running {
                    return Err(End::Again);
                }
                self.refused.push((planned, why));
                continue;
            }
            if !self.progress.topics.contains_key(&planned.source) {
                fresh.push(planned.source.clone());
            }
            taken.push(planned);
        }
        if !fresh.is_empty() || !withdrawn.is_empty() {
            let begin = self.beginnings(&mut taken, &mut fresh)?;
            self.announce(&taken, &fresh, &withdrawn, begin)?;
            self.look_back(&mut taken, &fresh)?;
        }
        let mut list = TopicPartitionList::new();
        for planned in taken {
            self.take(planned, &mut list)?;
        }
        if list.count() > 0 {
            self.consumer.incremental_assign(&list).map_err(|fault| {
                ReplicateError::new("begin to read the source's topics", &fault)
            })?;
        }
        Ok(())
    }

    /// Why a topic cannot go on from its progress.
    fn broken(&self, planned: &Planned) -> Option<String> {
        let entry = self.progress.topics.get(&planned.source)?;
        let name = &planned.source;
        if entry.source_cluster != self.planner.source_cluster {
            return Some(format!(
                "the topic {name} was copied from another cluster ({}) under this name; give the replication another name, or forget the progress with `linkspan replicate reset {} --topic {name}`",
                entry.source_cluster, self.settings.name
            ));
        }
        if entry.target != planned.target {
            return Some(format!(
                "the topic {name} was copied to {} before, and would be to {} now; give the replication another name, or forget the progress with `linkspan replicate reset {} --topic {name}`",
                entry.target, planned.target, self.settings.name
            ));
        }
        if entry.source_id != planned.source_id {
            return Some(made_anew(self.settings, name, "source"));
        }
        if entry.target_id != planned.target_id {
            return Some(made_anew(self.settings, name, "target"));
        }
        None
    }

    /// Makes slots for what a topic has more than before.
    fn take(&mut self, planned: Planned, list: &mut TopicPartitionList) -> Result<(), End> {
        let index = match self.by_name.get(&planned.source) {
            Some(index) => *index,
            None => {
                self.by_name
                    .insert(planned.source.clone(), self.topics.len());
                self.topics.push(Topic {
                    planned: planned.clone(),
                    slots: Vec::new(),
                });
                self.topics.len() - 1
            }
        };
        let Some(topic) = self.topics.get_mut(index) else {
            return Ok(());
        };
        let first = i32::try_from(topic.slots.len()).unwrap_or(i32::MAX);
        for partition in first..planned.partitions {
            let key = (planned.source.clone(), partition);
            // None: the partition is younger than what was announced, and begins at 0.
            let chunks = self.progress.partitions.remove(&key).unwrap_or_default();
            let slot = Slot::new(index, partition, chunks);
            let at = Position {
                offset: slot.next,
                epoch: slot.epoch,
            };
            positions::add(list, &planned.source, partition, at).map_err(|fault| {
                ReplicateError::new("begin to read the source's topics", &fault)
            })?;
            topic.slots.push(self.slots.len());
            self.slots.push(slot);
        }
        topic.planned = planned;
        Ok(())
    }

    /// Ends the session, and this topic's copying.
    pub(super) fn stop_topic(&mut self, topic: usize, why: String) -> End {
        if let Some(topic) = self.topics.get(topic) {
            let stopped = &mut self.kept.stopped;
            stopped.insert(topic.planned.source.clone(), why);
        }
        End::Again
    }
}

impl Slot {
    fn new(topic: usize, partition: i32, mut chunks: Chunks) -> Self {
        let last = chunks.pop_last();
        let sealed: VecDeque<_> = chunks
            .into_iter()
            .map(|(number, chunk)| (number, chunk.done))
            .collect();
        let (number, chunk) = last.unwrap_or_default();
        let done = chunk.done;
        let mut slot = Self {
            topic,
            partition,
            next: done,
            epoch: chunk.epoch,
            done,
            base: 0,
            sent: 0,
            size: 0,
            chunk,
            number,
            sealed,
            end: 0,
            last: None,
        };
        if slot.chunk.is_full() {
            slot.seal();
        }
        slot
    }

    /// Begins the next chunk.
    pub(super) fn seal(&mut self) {
        let (done, epoch) = (self.chunk.done, self.chunk.epoch);
        self.sealed.push_back((self.number, done));
        self.number += 1;
        self.chunk = Chunk {
            done,
            epoch,
            runs: Vec::new(),
        };
    }
}

/// The smallest batch that one of the topics takes.
fn smallest(plan: &Plan) -> usize {
    let batches = plan.topics.iter().map(|planned| planned.batch);
    batches.min().unwrap_or(1_000_000).max(1_024)
}

fn init(producer: &BaseProducer<Reports>, shared: &Shared) -> Result<(), End> {
    let end = Instant::now() + PATIENCE;
    loop {
        match producer.init_transactions(SLICE) {
            Ok(()) => return Ok(()),
            Err(_) if shared.stopping() => return Err(End::Stopped),
            Err(Native::Transaction(fault)) if fault.is_retriable() && Instant::now() < end => {}
            Err(fault) if fault.rdkafka_error_code() == Some(Code::InvalidTransactionTimeout) => {
                return Err(End::Passing(format!(
                    "begin transactions on the target: its transaction.max.timeout.ms allows less than the {} s that a replication needs; raise it there",
                    clients::TRANSACTION.as_secs()
                )));
            }
            Err(fault) => {
                return Err(ReplicateError::new("begin transactions on the target", &fault).into());
            }
        }
    }
}

/// Of one cluster with itself no later try makes two.
fn lasting_settings(fault: ReplicateError) -> End {
    match fault.kind {
        crate::kafka::ErrorKind::Settings => End::Lasting(fault.to_string()),
        _ => fault.into(),
    }
}
