//! Topics as a source.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::cluster::Cluster;
use super::error::KafkaError;
use super::group::Group;
use super::queue::{Item, Queue};
use super::reader::Reader;
use crate::flow::Progress;
use crate::record::Lane;
use crate::source::{Claimed, Event, Source, SourceError, Term};

/// Topics read as a member of a group: at least once from what is committed, in order within a partition, committed transactions only.
///
/// - Reading begins at the group's committed offset, or at what [`Checkpoints`] say. [`Start`] holds only where there is none: never
///   when an offset is out of range. That is [`SourceError::Broken`], for records are missing.
/// - Rebalances are eager: all partitions are given back before new ones come. With [`SourceSettings::instance`] the membership is
///   static: a gateway that restarts within the session's time-out gets its partitions back and nobody else notices.
/// - Each partition has a queue of its own in librdkafka. When what was fetched is not taken, the queues are not polled and librdkafka
///   stops fetching: nothing is paused, thrown away and fetched again.
/// - One thread reads. It copies what the queues hold and hands it over in batches of a partition.
///
/// Dropping it leaves the group (a static member stays in it for the session's time-out); [`Group::left`] waits for that.
pub struct KafkaSource {
    reader: Option<Reader>,
    queue: Arc<Queue>,
    group: Group,
}

/// What is read, and how.
#[derive(Clone)]
pub struct SourceSettings {
    /// The topics.
    pub topics: Vec<String>,
    /// The group's id.
    pub group: String,
    /// The name of this member that is the same after a restart and nobody else's (`group.instance.id`); none: a dynamic member.
    pub instance: Option<String>,
    /// Where reading begins when nothing was ever committed. The cluster forgets the offsets of a group that is gone for
    /// `offsets.retention.minutes` (a week), and that looks the same.
    pub start: Start,
    /// The most bytes that wait to be taken, beside librdkafka's own buffers.
    pub buffered: usize,
    /// How long a revoked lane is waited for.
    pub release_wait: Duration,
    /// How long the group waits for a member that says nothing.
    pub session_timeout: Duration,
    /// Who knows how far the lanes are done; none: the group's committed offsets.
    pub checkpoints: Option<Arc<dyn Checkpoints>>,
}

/// Where reading begins when nothing was ever committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is there.
    Earliest,
    /// Behind the newest record. Where it is, is committed at once: what comes after is not missed by a restart.
    Latest,
}

/// Progress that is kept elsewhere than in Kafka's group: in the store whose transaction takes the results too.
pub trait Checkpoints: Send + Sync {
    /// The lanes are this reader's from now on: whoever had them can commit nothing more of them. Gives each one's term
    /// and how far it is done, in their order. Called on the source's own thread and may block.
    ///
    /// # Errors
    ///
    /// A sentence for the log. The source says so ([`SourceError::Passing`]) and asks again.
    fn claim(&self, lanes: &[Lane]) -> Result<Vec<Claimed>, String>;

    /// Keeps where the reading of lanes begins of which nothing was ever done ([`Start::Latest`]), so that what comes after is not
    /// missed by a restart. Called as [`Checkpoints::claim`] is, after it.
    ///
    /// # Errors
    ///
    /// As of [`Checkpoints::claim`].
    fn begin(&self, lanes: &[(Lane, Term, Progress)]) -> Result<(), String>;
}

impl KafkaSource {
    /// A source. It joins the group with the first call of [`Source::next`], so that a committer can end what an earlier run left
    /// open before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](super::ErrorKind::Settings).
    pub fn open(cluster: &Cluster, settings: SourceSettings) -> Result<(Self, Group), KafkaError> {
        let group = Group::new(&settings.group);
        let queue = Arc::new(Queue::new(settings.buffered));
        let reader = Reader::new(cluster, settings, queue.clone(), group.clone())?;
        let source = Self {
            reader: Some(reader),
            queue,
            group: group.clone(),
        };
        Ok((source, group))
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn next(&mut self, room: bool) -> Result<Event, SourceError> {
        if let Some(reader) = self.reader.take() {
            reader.start()?;
        }
        loop {
            return match self.queue.next(room).await {
                Item::Gained(gained, membership) => {
                    self.group.enter(Some(membership));
                    if gained.is_empty() {
                        continue;
                    }
                    Ok(Event::Gained(gained))
                }
                Item::Records(records, _) => Ok(Event::Records(records)),
                Item::Revoked(lanes, release) => Ok(Event::Revoked { lanes, release }),
                Item::Lost(lanes) => {
                    self.group.enter(None);
                    Ok(Event::Lost(lanes))
                }
                Item::Fault(fault) => Err(fault),
            };
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.queue.close();
        if self.reader.is_some() {
            self.group.end();
        }
    }
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            group: String::new(),
            instance: None,
            start: Start::Earliest,
            buffered: 16 * 1024 * 1024,
            release_wait: Duration::from_secs(10),
            session_timeout: Duration::from_secs(45),
            checkpoints: None,
        }
    }
}

impl fmt::Debug for SourceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceSettings")
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("instance", &self.instance)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
