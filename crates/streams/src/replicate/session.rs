//! A session: from reaching both clusters to the first thing that goes wrong.
//!
//! Whatever goes wrong ends the session, and the next one begins from what stands in the target: there is no state to repair.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as Native;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::topic_partition_list::Offset;

use super::clients::{self, Watched};
use super::map::Chunk;
use super::owner::{self, Place};
use super::plan::{Plan, Planned, Planner};
use super::progress::{self, Chunks, Entry, Progress};
use super::replicator::{End, Shared};
use super::reports::Reports;
use super::status;
use super::telling::Meter;
use super::transaction::Open;
use super::watch::Watch;
use super::{Naming, ReplicateError, Settings, State, cycle};

/// How long a call about a transaction may take in all.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long one such call may take: between them it is seen whether to stop.
pub(super) const SLICE: Duration = Duration::from_secs(5);

pub(super) struct Session<'a> {
    pub(super) settings: &'a Settings,
    pub(super) shared: &'a Shared,
    /// The topics that were stopped, and why: by this session and those before.
    pub(super) stopped: &'a mut BTreeMap<String, String>,
    /// Whose turn it is, as far as this process knows.
    pub(super) place: &'a mut Place,
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
    progress: Progress,
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
    /// The source offset to copy next. None: the first that is there.
    pub(super) next: Option<i64>,
    /// As committed.
    pub(super) done: Option<i64>,
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

impl<'a> Session<'a> {
    /// Reaches both clusters, takes the place of whoever was there before, reads the progress, and assigns all partitions.
    pub(super) fn open(
        settings: &'a Settings,
        shared: &'a Shared,
        stopped: &'a mut BTreeMap<String, String>,
        place: &'a mut Place,
    ) -> Result<Self, End> {
        let planner = Arc::new(Planner::new(settings).map_err(lasting_settings)?);
        progress::ensure(settings)?;
        let plan = planner.plan()?;
        let batch = smallest(&plan);
        let reader = clients::reader(&settings.target, &settings.transactional_id(), "target")?;
        if !place.admits(owner::read(settings, &reader)?.as_ref()) {
            return Err(End::Replaced);
        }
        let producer = Arc::new(clients::producing(settings, batch)?);
        init(&producer, shared)?;
        // Who came in between was fenced by this, but stays.
        if !place.admits(owner::read(settings, &reader)?.as_ref()) {
            return Err(End::Replaced);
        }
        let consumer = Arc::new(clients::copying(settings)?);
        let watch = Watch::start(&planner, settings.sync_every, plan.pending)?;
        let mut session = Self {
            settings,
            shared,
            stopped,
            place,
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
        session.commit()?;
        session.place.took();
        session.progress = progress::read(settings)?;
        // What was reset begins anew.
        let known = &session.progress.topics;
        session.stopped.retain(|topic, _| known.contains_key(topic));
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
            if !plan.topics.iter().any(|planned| planned.source == *name) {
                self.stopped.insert(name.clone(), status::gone(name));
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
            let why = self
                .stopped
                .get(&planned.source)
                .cloned()
                .or_else(|| self.broken(&planned));
            if let Some(why) = why {
                self.stopped.insert(planned.source.clone(), why.clone());
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
            self.announce(&taken, &fresh, &withdrawn)?;
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
            return Some(status::made_anew(self.settings, name, "source"));
        }
        if entry.target_id != planned.target_id {
            return Some(status::made_anew(self.settings, name, "target"));
        }
        None
    }

    /// Whether a topic was only announced: nothing of it was copied.
    fn is_empty_entry(&self, topic: &str) -> bool {
        self.progress.topics.contains_key(topic)
            && !self
                .progress
                .partitions
                .keys()
                .any(|(known, _)| known == topic)
            && self.settings.naming == Naming::Identity
    }

    /// Writes what will be copied to where, before anything of it is: who would copy it back sees it.
    fn announce(
        &mut self,
        taken: &[Planned],
        fresh: &[String],
        withdrawn: &[String],
    ) -> Result<(), End> {
        self.begin()?;
        for topic in fresh {
            let Some(planned) = taken.iter().find(|planned| planned.source == *topic) else {
                continue;
            };
            let entry = Entry {
                source_cluster: self.planner.source_cluster.clone(),
                target_cluster: self.planner.target_cluster.clone(),
                target: planned.target.clone(),
                source_id: planned.source_id.clone(),
                target_id: planned.target_id.clone(),
                chain: planned.chain.clone(),
            };
            let value = serde_json::to_vec(&entry)
                .map_err(|_| End::Lasting("write the progress: it failed".to_owned()))?;
            self.write(progress::TOPICS, &progress::topic_key(topic), Some(&value))?;
            self.progress.topics.insert(topic.clone(), entry);
        }
        for topic in withdrawn {
            self.write(progress::TOPICS, &progress::topic_key(topic), None)?;
            self.progress.topics.remove(topic);
        }
        self.commit()
    }

    /// Two replications that begin at the same time do not see each other in their plans. Each announces first and looks then, so at
    /// least one of them sees the other.
    fn look_back(&mut self, taken: &mut Vec<Planned>, fresh: &[String]) -> Result<(), End> {
        let chains = self.planner.chains()?;
        let mut withdrawn = Vec::new();
        let mut refused = Vec::new();
        taken.retain(|planned| {
            let why = fresh.contains(&planned.source).then(|| {
                let target = &self.planner.target_cluster;
                cycle::refusal(&chains, &planned.source, target, &self.settings.name)
            });
            match why.flatten() {
                None => true,
                Some(why) => {
                    withdrawn.push(planned.source.clone());
                    refused.push((planned.clone(), why));
                    false
                }
            }
        });
        self.refused.append(&mut refused);
        if withdrawn.is_empty() {
            return Ok(());
        }
        self.announce(&[], &[], &withdrawn)
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
            let chunks = self.progress.partitions.remove(&key).unwrap_or_default();
            let slot = Slot::new(index, partition, chunks);
            let begin = slot.next.map_or(Offset::Beginning, Offset::Offset);
            list.add_partition_offset(&planned.source, partition, begin)
                .map_err(|fault| {
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
            self.stopped.insert(topic.planned.source.clone(), why);
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
        let (number, chunk) = last.clone().unwrap_or_default();
        let done = last.map(|(_, chunk)| chunk.done);
        let mut slot = Self {
            topic,
            partition,
            next: done,
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
        let done = self.chunk.done;
        self.sealed.push_back((self.number, done));
        self.number += 1;
        self.chunk = Chunk {
            done,
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
