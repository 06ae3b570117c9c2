//! A stream of Amazon Kinesis, or of a service that speaks its protocol, as a source.
//!
//! ```text
//! coordinator (shards, leases, who reads what) ─▶ reader, one a shard ─▶ queue (bounded) ─▶ KinesisSource::next
//! ```
//!
//! What holds:
//! - A shard is read when all of its parents are read and committed: a key's records keep their order across splits and merges.
//! - Several gateways share the shards by [`Leases`]. Who has too many gives one up, and who has none steals one: what the other then
//!   commits of it is refused.
//! - Reading goes on after the committed progress, also in the middle of an aggregate. Where the record at which it is to go on has
//!   been removed by the stream's retention, and others may have been with it, that is said ([`SourceError::Broken`]), never passed over.
//!   How old records are proves nothing: whoever reads a stream from its oldest record on is always about to be overtaken.
//! - Where a shard begins is written down when it is first listed. A shard that goes before it was read to its end is known by that.
//! - Of what was fetched and is not taken there is a bounded number of bytes. Then nothing more is fetched.

mod asking;
mod balance;
mod coordinator;
mod cursor;
mod leases;
mod pace;
mod place;
mod queue;
mod reader;
mod shards;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use self::coordinator::Coordinator;
use self::queue::Queue;
use super::amazon::Amazon;
use super::decode::Decoder;
use super::put::MOST_RECORD;
use crate::record::Lane;
use crate::source::{Event, Source, SourceError};

pub use leases::{Holder, Known, Leases, Note, Takeable, Taken};
pub use place::whole;

/// A stream as a source: at least once from what is committed, in order within a shard and for a key across its shards.
///
/// It reads from the first call of [`Source::next`] on. Dropping it lets all lanes go, after what was under way; [`Reading::left`] waits
/// for that.
pub struct KinesisSource {
    start: Option<(Amazon, Arc<dyn Leases>, Settings)>,
    queue: Arc<Queue>,
    closed: CancellationToken,
    reading: Reading,
}

/// What is read, and how.
#[derive(Clone)]
pub struct Settings {
    /// The stream's name.
    pub stream: String,
    /// Where reading begins when nothing was ever read.
    pub start: Start,
    /// What producers wrap their records in. Aggregates of the Kinesis Producer Library are taken apart in any case.
    pub decoder: Decoder,
    /// The most bytes that are fetched and wait to be unwrapped: at least 10 MiB, the most that one answer brings; and again so many that
    /// are unwrapped and wait to be taken, beside what one record can become. Beyond it may go what a shard gives that takes more than
    /// Amazon's 1 MiB a second.
    pub buffered: usize,
    /// How long a shard rests that has nothing new.
    pub idle: Duration,
    /// How often leases are prolonged and lanes shared: a third of a lease or less.
    pub renew: Duration,
    /// How often the stream's shards are listed, if nothing asks for it before.
    pub refresh: Duration,
}

/// Where reading begins when nothing was ever read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is there.
    Earliest,
    /// Behind the newest one.
    Latest,
}

/// A source, seen from outside.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    behind: Arc<Mutex<BTreeMap<Lane, Duration>>>,
    left: CancellationToken,
}

impl KinesisSource {
    /// A source. Calls nobody yet.
    #[must_use]
    pub fn open(amazon: Amazon, leases: Arc<dyn Leases>, settings: Settings) -> (Self, Reading) {
        let reading = Reading::default();
        let source = Self {
            queue: Arc::new(Queue::new(
                settings.buffered,
                settings.decoder.most(MOST_RECORD),
            )),
            start: Some((amazon, leases, settings)),
            closed: CancellationToken::new(),
            reading: reading.clone(),
        };
        (source, reading)
    }
}

#[async_trait]
impl Source for KinesisSource {
    async fn next(&mut self, room: bool) -> Result<Event, SourceError> {
        if let Some((amazon, leases, settings)) = self.start.take() {
            let (queue, reading) = (self.queue.clone(), self.reading.clone());
            let closed = self.closed.clone();
            tokio::spawn(async move {
                let client = amazon.client(None).await;
                let coordinator = Coordinator::new(client, leases, settings, queue, reading);
                coordinator.run(closed).await;
            });
        }
        self.queue.next(room).await
    }
}

impl Drop for KinesisSource {
    fn drop(&mut self) {
        self.closed.cancel();
        if self.start.is_some() {
            self.reading.left.cancel();
        }
    }
}

impl Reading {
    /// The lanes that are read here, each with how long ago the newest record arrived that was not fetched yet.
    #[must_use]
    pub fn behind(&self) -> Vec<(Lane, Duration)> {
        let behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind
            .iter()
            .map(|(lane, it)| (lane.clone(), *it))
            .collect()
    }

    /// Waits until the source, which was dropped, has let its lanes go.
    pub async fn left(&self) {
        self.left.cancelled().await;
    }

    fn is_behind(&self, lane: &Lane, by: Option<Duration>) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        match by {
            Some(by) => behind.insert(lane.clone(), by),
            None => behind.remove(lane),
        };
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream: String::new(),
            start: Start::Earliest,
            decoder: Decoder::new(Vec::new(), 64 << 20),
            buffered: 32 << 20,
            idle: Duration::from_millis(500),
            renew: Duration::from_secs(5),
            refresh: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("stream", &self.stream)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
