//! A stream of the service's own as a source: read in the same process, without HTTP.

mod feed;
mod queue;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::catalogue::shard_number;
use super::decode::Decoder;
use super::put::MOST_RECORD;
use super::service::Service;
use crate::flow::Progress;
use crate::record::Lane;
use crate::source::{Claimed, Event, Source, SourceError, Term};
use feed::Feed;
use queue::{Item, Queue};

pub use shard::own_whole;

/// A stream of the service's own, read at least once from what was kept, in order within a shard.
///
/// - Lanes are shards: `STREAM-ID/shardId-000000000000`. A stream that was deleted and made anew has another id, so it is another
///   stream, and all of it is read, whatever [`OwnSettings::start`] says.
/// - The stream is made where it is not there when reading begins. While it is read, it may be deleted: then its lanes are lost, and
///   reading goes on when somebody makes it again.
/// - A shard that came of others is begun when all of those are committed, and that is kept.
/// - Nothing is polled: each shard waits for its log to grow.
/// - Where retention has overtaken the reader, records are gone and nothing brings them back: reading goes on at the oldest record that
///   is there, and what is gone becomes a record of its own, without a value and with a defect that says how many. So it is a dead
///   letter, and never a silent gap.
///
/// A record's ordinal is its offset in the shard's log and its place within what the entry was unwrapped to. So it holds for ever.
pub struct OwnSource {
    queue: Arc<Queue>,
    lags: OwnLags,
    _feed: AbortOnDropHandle<()>,
}

/// What is read, and how.
#[derive(Clone, Debug)]
pub struct OwnSettings {
    /// The stream's name.
    pub stream: String,
    /// How many shards it is made with where it is not there.
    pub shards: u32,
    /// Where reading begins when nothing was ever read.
    pub start: OwnStart,
    /// What takes off what producers wrapped records in.
    pub decoder: Option<Decoder>,
    /// Whether nobody else keeps lanes of a stream of this name: then those of streams that are gone are forgotten.
    pub sole: bool,
}

/// Where reading begins when nothing was ever read. It is kept at once, so that what comes after is not missed by a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnStart {
    /// At the oldest record of each shard.
    Earliest,
    /// Behind the newest record of each open shard.
    Latest,
}

/// Keeps how far shards are done, for the source: where the committer's transactions keep it too.
///
/// Errors are sentences for the log. The source says them ([`SourceError::Passing`]) and asks again.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Every lane that is known.
    ///
    /// # Errors
    ///
    /// Unknown.
    async fn known(&self) -> Result<Vec<KnownLane>, String>;

    /// The lanes are this reader's from now on. Gives each one's term and how far it is done, in their order.
    ///
    /// # Errors
    ///
    /// Unknown; it is asked again.
    async fn take(&self, lanes: &[Lane]) -> Result<Vec<Claimed>, String>;

    /// Keeps something of lanes that were taken, each under its term, durably and all at once.
    ///
    /// # Errors
    ///
    /// Unknown; it is asked again.
    async fn keep(&self, kept: Vec<KeptLane>) -> Result<(), String>;

    /// Forgets lanes that are no more.
    ///
    /// # Errors
    ///
    /// Nothing was forgotten.
    async fn forget(&self, lanes: Vec<Lane>) -> Result<(), String>;
}

/// A lane that was taken at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLane {
    /// The lane.
    pub lane: Lane,
    /// Whether anything was kept of it since it was first taken.
    pub begun: bool,
    /// Whether all of it is done.
    pub ended: bool,
}

/// What is to be kept of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLane {
    /// The lane.
    pub lane: Lane,
    /// The term in which it was taken.
    pub term: Term,
    /// How far it is done; none leaves that as it is.
    pub progress: Option<Progress>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// How much of each lane that is read was not read yet.
#[derive(Clone)]
pub struct OwnLags {
    service: Arc<Service>,
    next: Arc<Mutex<HashMap<Lane, u64>>>,
}

impl OwnSource {
    /// Begins to read. Needs a Tokio runtime.
    #[must_use]
    pub fn open(service: Arc<Service>, settings: OwnSettings, keeper: Arc<dyn Keeper>) -> Self {
        let decoder = settings.decoder.as_ref();
        let most = decoder.map_or(MOST_RECORD, |decoder| decoder.most(MOST_RECORD));
        let queue = Arc::new(Queue::new(most));
        let lags = OwnLags {
            service: service.clone(),
            next: Arc::default(),
        };
        let feed = Feed::new(service, settings, keeper, queue.clone(), lags.clone());
        Self {
            queue,
            lags,
            _feed: AbortOnDropHandle::new(tokio::spawn(feed.run())),
        }
    }

    /// Says how far behind the reading is, for as long as it is asked.
    #[must_use]
    pub fn lags(&self) -> OwnLags {
        self.lags.clone()
    }
}

#[async_trait]
impl Source for OwnSource {
    async fn next(&mut self, room: bool) -> Result<Event, SourceError> {
        match self.queue.next(room).await {
            Item::Event(event) => Ok(event),
            Item::Records { records, .. } => Ok(Event::Records(records)),
            Item::Fault(fault) => Err(fault),
        }
    }
}

impl OwnLags {
    /// How many entries of each shard were not handed to the flow yet.
    #[must_use]
    pub fn lags(&self) -> HashMap<Lane, u64> {
        let state = self.service.state();
        let next = self.locked();
        let lag = |(lane, next): (&Lane, &u64)| {
            let shard = state.shards.get(&shard_of(lane)?)?;
            let end = shard.log().bounds().end;
            Some((lane.clone(), end.saturating_sub(*next)))
        };
        next.iter().filter_map(lag).collect()
    }

    fn set(&self, lane: &Lane, next: u64) {
        self.locked().insert(lane.clone(), next);
    }

    fn forget(&self, lane: &Lane) {
        self.locked().remove(lane);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Lane, u64>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lane of a shard.
fn lane_of(stream: Uuid, number: u32) -> Lane {
    Lane::new(format!("{stream}/{}", super::catalogue::shard_id(number)))
}

/// The shard of a lane; none where it is not one of ours.
fn shard_of(lane: &Lane) -> Option<(Uuid, u32)> {
    let (stream, shard) = lane.as_str().split_once('/')?;
    Some((stream.parse().ok()?, shard_number(shard)?))
}

impl fmt::Debug for OwnSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnSource")
    }
}

impl fmt::Debug for OwnLags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnLags")
    }
}
