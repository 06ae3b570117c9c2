//! The task that reads one shard, from where it is done to its end.

use std::future::pending;
use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;
use uuid::Uuid;

use super::super::catalogue::ShardEntry;
use super::super::decode::{Decoder, Range};
use super::super::room::{self, Taken};
use super::super::sequence::Sequence;
use super::super::service::Service;
use super::super::shard::Stored;
use super::feed::ASK_AGAIN;
use super::queue::{Item, Queue};
use super::{Keeper, KeptLane, OwnLags};
use crate::flow::Progress;
use crate::log::{Entry, LogError};
use crate::record::{Lane, Position, Record};
use crate::source::{Event, Release, SourceError, Term};

/// The most entries, and about the most bytes, of one batch.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 256 * 1024;

/// The bits of an ordinal that count the records within an entry. The rest is the entry's offset.
const PARTS: u32 = 24;
const LAST_PART: u64 = (1 << PARTS) - 1;

/// What the task owns.
pub(super) struct Reading {
    pub(super) service: Arc<Service>,
    pub(super) keeper: Arc<dyn Keeper>,
    pub(super) queue: Arc<Queue>,
    pub(super) lags: OwnLags,
    pub(super) decoder: Option<Decoder>,
    pub(super) stream: String,
    pub(super) id: Uuid,
    pub(super) number: u32,
    pub(super) lane: Lane,
    pub(super) term: Term,
}

/// Where the task is.
struct Place {
    /// The next offset.
    next: u64,
    /// The last ordinal that was done before.
    done: Option<u64>,
    born: u64,
    range: Option<Range>,
}

/// How far a shard is done that is done up to, not with, an offset; none for its very beginning.
pub(super) fn all_before(born: u64, offset: u64) -> Option<(u64, Position)> {
    let last = offset.checked_sub(1)?;
    Some((ordinal(last, LAST_PART), position(born, last)))
}

/// What of progress holds whatever the entries were unwrapped to: whole entries. One that is done in part comes again, and so does what
/// was done beyond the prefix.
#[must_use]
pub fn own_whole(progress: Progress) -> Progress {
    let last = progress.last.and_then(|(ordinal, position)| {
        let text = position.to_string();
        let sequence = text.split_once('/').map(|(sequence, _)| sequence);
        match sequence.and_then(|sequence| sequence.parse::<Sequence>().ok()) {
            Some(entry) => all_before(entry.born(), entry.offset()),
            None => Some((ordinal | LAST_PART, position)),
        }
    });
    Progress {
        last,
        beyond: Vec::new(),
    }
}

impl Reading {
    /// Reads to the shard's end, waits until all of it is committed, keeps that, and gives the shard. `entry` is none where retention
    /// has removed the whole shard.
    pub(super) async fn run(self, entry: Option<ShardEntry>, last: Option<(u64, Position)>) -> u32 {
        let done = last.as_ref().map(|(ordinal, _)| *ordinal);
        match entry {
            Some(entry) => {
                let first_key = entry.first_key.to_string();
                let place = Place {
                    next: last.map_or(0, begin_after),
                    done,
                    born: entry.born,
                    range: Range::new(&first_key, &entry.last_key.to_string()),
                };
                self.read(place).await;
            }
            None => self.say_all_is_gone(done).await,
        }
        self.end().await;
        self.number
    }

    async fn read(&self, mut place: Place) {
        let mut changes = self.service.follow();
        loop {
            changes.borrow_and_update();
            let state = self.service.state();
            let stream = state.catalogue.streams.get(&self.stream);
            let Some(stream) = stream.filter(|stream| stream.id == self.id) else {
                return pending().await; // another stream by now: the feed ends this task
            };
            let shard = state.shards.get(&(self.id, self.number));
            let (Some(entry), Some(shard)) = (stream.shard(self.number), shard) else {
                // Retention has removed the closed shard.
                return self
                    .say_all_is_gone(
                        place
                            .next
                            .checked_sub(1)
                            .map(|last| ordinal(last, LAST_PART)),
                    )
                    .await;
            };
            let log = shard.log();
            let mut grown = log.follow();
            let bounds = log.bounds();
            self.lags.set(&self.lane, place.next);
            if place.next < bounds.start {
                self.say_gone(&mut place, bounds.start).await;
                continue;
            }
            if entry.closed.is_some_and(|(end, _)| place.next >= end) {
                return;
            }
            if place.next < bounds.end {
                // Before it is read: what waits for room waits in the log.
                let room = self.queue.room().await;
                match log.read(place.next, BATCH, BATCH_BYTES).await {
                    Ok(entries) => self.give(entries, &mut place, room).await,
                    Err(LogError::Trimmed { .. }) => {} // seen with the next look
                    Err(error @ LogError::Corrupt { .. }) => {
                        let fault = SourceError::Broken {
                            lane: self.lane.clone(),
                            detail: format!(
                                "its log is damaged ({error}): repair the disk; the damaged records go with the stream's retention"
                            ),
                        };
                        self.queue.push(Item::Fault(fault));
                        return pending().await;
                    }
                    Err(error) => {
                        self.say(format!("{} cannot be read: {error}", self.lane))
                            .await;
                    }
                }
                continue;
            }
            // Held by nobody here while it waits: a log that failed is opened anew in its place, and that ends this receiver.
            drop((log, state));
            tokio::select! {
                grew = grown.changed() => if grew.is_err() {
                    tokio::time::sleep(ASK_AGAIN / 10).await;
                },
                _ = changes.changed() => {}
            }
        }
    }

    /// Gives entries on, as they are unwrapped one by one and there is room for them.
    async fn give(&self, entries: Vec<Entry>, place: &mut Place, mut room: Taken) {
        let mut entries = entries.into_iter();
        loop {
            let (records, bytes) = self.records(&mut entries, place);
            if !records.is_empty() {
                let _room = room.split(bytes);
                self.queue.push(Item::Records { records, _room });
            }
            drop(room);
            if entries.as_slice().is_empty() {
                return;
            }
            room = self.queue.room().await;
        }
    }

    /// The records of the next entries, and their bytes.
    fn records(&self, entries: &mut IntoIter<Entry>, place: &mut Place) -> (Vec<Record>, usize) {
        let mut records = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        while bytes < room::BATCH_BYTES
            && let Some(entry) = entries.next()
        {
            let offset = entry.offset;
            place.next = offset + 1;
            let whole = self.record(entry, place.born);
            let parts = match &self.decoder {
                Some(decoder) if whole.defect.is_none() => decoder.decode(whole, place.range),
                _ => vec![whole],
            };
            let parts = parts
                .into_iter()
                .zip(0..=LAST_PART)
                .map(|(part, nth)| Record {
                    ordinal: ordinal(offset, nth),
                    ..part
                });
            let parts = parts.filter(|part| place.done.is_none_or(|done| part.ordinal > done));
            let before = records.len();
            records.extend(parts);
            bytes += records[before..].iter().map(Record::size).sum::<usize>();
        }
        (records, bytes)
    }

    fn record(&self, entry: Entry, born: u64) -> Record {
        let (key, value, defect) = match Stored::decode(entry.payload.clone()) {
            Some(stored) => (Some(Bytes::from(stored.partition_key)), stored.data, None),
            None => (
                None,
                entry.payload,
                Some(Arc::from("the log's entry cannot be read")),
            ),
        };
        Record {
            lane: self.lane.clone(),
            ordinal: ordinal(entry.offset, 0),
            position: position(born, entry.offset),
            key,
            value: Some(value),
            headers: Vec::new(),
            timestamp: Some(entry.arrived),
            defect,
        }
    }

    /// Retention has overtaken the reading: what is gone becomes a dead letter, and reading goes on.
    async fn say_gone(&self, place: &mut Place, first: u64) {
        let count = first - place.next;
        let detail = format!(
            "{count} records of the stream {}, {}, are gone: retention removed them before they were read (sequence numbers {} to {}); reading goes on with the oldest that is there",
            self.stream,
            self.lane,
            position(place.born, place.next),
            position(place.born, first - 1)
        );
        self.gap(
            ordinal(first - 1, LAST_PART),
            position(place.born, first - 1),
            detail,
        )
        .await;
        place.next = first;
    }

    /// Retention has removed the shard.
    async fn say_all_is_gone(&self, done: Option<u64>) {
        let detail = format!(
            "the shard {} of the stream {} is gone: retention removed it before it was read to its end; reading goes on with the shards that came of it",
            self.lane, self.stream
        );
        let at = done.map_or(0, |done| done + 1);
        self.gap(at, Position::new("end"), detail).await;
    }

    async fn gap(&self, ordinal: u64, position: Position, detail: String) {
        tracing::error!(lane = %self.lane, "{detail}");
        let record = Record {
            lane: self.lane.clone(),
            ordinal,
            position,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
            defect: Some(detail.into()),
        };
        let _room = self.queue.room().await.split(record.size());
        let records = vec![record];
        self.queue.push(Item::Records { records, _room });
    }

    /// Waits until all of the lane is committed, and keeps that.
    async fn end(&self) {
        let (release, released) = Release::new();
        let lane = self.lane.clone();
        self.queue.push(Item::Event(Event::Ended { lane, release }));
        if released.await.is_err() {
            return pending().await; // the flow has let go of the lane before: it is not done
        }
        let ended = KeptLane {
            lane: self.lane.clone(),
            term: self.term,
            progress: None,
            ended: true,
        };
        while let Err(why) = self.keeper.keep(vec![ended.clone()]).await {
            self.say(why).await;
        }
    }

    /// Says what is wrong, and waits.
    async fn say(&self, why: String) {
        self.queue.push(Item::Fault(SourceError::Passing(why)));
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn ordinal(offset: u64, part: u64) -> u64 {
    offset << PARTS | part
}

fn position(born: u64, offset: u64) -> Position {
    Position::new(&Sequence::new(born, offset).to_string())
}

/// The offset at which to go on behind what is done: that of the same entry, where it was a part of it.
fn begin_after((ordinal, position): (u64, Position)) -> u64 {
    let is_part = position.to_string().contains('/');
    (ordinal >> PARTS) + u64::from(!is_part)
}
