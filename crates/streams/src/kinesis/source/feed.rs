//! The one task that follows a stream's shards: begins them when their parents are done, and sees when the stream is another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::catalogue::{ShardEntry, StreamEntry};
use super::super::service::Service;
use super::queue::{Item, Queue};
use super::shard::{self, Reading};
use super::{Keeper, KeptLane, OwnLags, OwnSettings, OwnStart, lane_of, shard_of};
use crate::flow::Progress;
use crate::record::Lane;
use crate::source::{Event, Gained, SourceError};

/// How long after a question failed it is asked again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What the task owns.
pub(super) struct Feed {
    service: Arc<Service>,
    settings: OwnSettings,
    keeper: Arc<dyn Keeper>,
    queue: Arc<Queue>,
    lags: OwnLags,
    /// The stream that is read.
    stream: Option<Uuid>,
    /// Whether there was one since the task began.
    had_one: bool,
    /// Where shards ended when they were first looked at, until it is kept where they begin.
    ends: BTreeMap<(Uuid, u32), u64>,
    /// Shards of which it is kept where they begin.
    kept: BTreeSet<u32>,
    /// Shards that are being read.
    begun: BTreeMap<u32, Lane>,
    /// Shards of which all is done.
    ended: BTreeSet<u32>,
    /// Shards that retention has removed before they were read to their end.
    gone: BTreeSet<u32>,
    /// Each gives the shard that is done.
    tasks: JoinSet<u32>,
}

impl Feed {
    pub(super) fn new(
        service: Arc<Service>,
        settings: OwnSettings,
        keeper: Arc<dyn Keeper>,
        queue: Arc<Queue>,
        lags: OwnLags,
    ) -> Self {
        Self {
            service,
            settings,
            keeper,
            queue,
            lags,
            stream: None,
            had_one: false,
            ends: BTreeMap::new(),
            kept: BTreeSet::new(),
            begun: BTreeMap::new(),
            ended: BTreeSet::new(),
            gone: BTreeSet::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut changes = self.service.follow();
        loop {
            changes.borrow_and_update();
            if let Err(why) = self.look().await {
                self.queue.push(Item::Fault(SourceError::Passing(why)));
                tokio::time::sleep(ASK_AGAIN).await;
                continue;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                Some(joined) = self.tasks.join_next() => match joined {
                    Ok(number) => {
                        if let Some(lane) = self.begun.remove(&number) {
                            self.lags.forget(&lane);
                        }
                        self.ended.insert(number);
                    }
                    Err(error) if error.is_cancelled() => {}
                    Err(_) => {
                        let fault = "the reading of a shard broke off: a fault in linkspan, see the log";
                        self.queue.push(Item::Fault(SourceError::Lasting(fault.to_owned())));
                        return;
                    }
                },
            }
        }
    }

    /// Looks at the stream as it is now, and begins what can be begun.
    async fn look(&mut self) -> Result<(), String> {
        let state = self.service.state();
        let name = self.settings.stream.clone();
        let stream = state.catalogue.streams.get(&name);
        if let Some(id) = self.stream
            && stream.is_none_or(|stream| stream.id != id)
        {
            self.lose(id).await;
        }
        let Some(stream) = stream else {
            if self.had_one {
                return Ok(()); // whoever deleted it knows why; it is followed
            }
            let stream = StreamEntry::new(self.settings.shards, false, Timestamp::now());
            let made = self.service.create(&name, stream).await;
            made.map_err(|fault| format!("the stream {name} cannot be made: {fault}"))?;
            return Box::pin(self.look()).await;
        };
        if self.stream.is_none() {
            self.meet(stream).await?;
        }
        self.keep_begins(stream, false).await?;
        self.begin(stream).await
    }

    /// The stream is there no more.
    async fn lose(&mut self, id: Uuid) {
        self.tasks.shutdown().await;
        self.stream = None;
        self.kept.clear();
        self.ended.clear();
        self.gone.clear();
        let lanes: Vec<_> = std::mem::take(&mut self.begun).into_values().collect();
        for lane in &lanes {
            self.lags.forget(lane);
        }
        tracing::warn!(stream = self.settings.stream, %id, "the stream was deleted; what of it was not read is gone, and a new one of its name is read when it is there");
        self.queue.forget(&lanes);
        self.queue.push(Item::Event(Event::Lost(lanes)));
    }

    /// Finds out what is known of a stream.
    async fn meet(&mut self, stream: &StreamEntry) -> Result<(), String> {
        let known = self.keeper.known().await?;
        // A lane that was taken says nothing yet: it may have failed to keep where it begins.
        let is_first = !self.had_one && !known.iter().any(|known| known.begun || known.ended);
        let mut over = Vec::new();
        self.kept.clear();
        self.ended.clear();
        self.gone.clear();
        for known in known {
            match shard_of(&known.lane) {
                Some((id, number)) if id == stream.id => {
                    let is_there = stream.shard(number).is_some();
                    if is_there && (known.begun || known.ended) {
                        self.kept.insert(number);
                    }
                    match (known.ended, is_there) {
                        (true, true) => {
                            self.ended.insert(number);
                        }
                        (false, false) if !is_first => {
                            self.gone.insert(number);
                        }
                        (false, true) => {}
                        (_, false) => over.push(known.lane),
                    }
                }
                Some(_) if self.settings.sole => over.push(known.lane),
                _ => {}
            }
        }
        if !over.is_empty() {
            self.keeper.forget(over).await?;
        }
        if is_first {
            self.keep_begins(stream, true).await?;
        }
        self.stream = Some(stream.id);
        self.had_one = true;
        Ok(())
    }

    /// Keeps where shards begin as soon as they are there, also where their parents are not done: so each of them is missed when
    /// retention removes it unread. Unless the stream is read for the first time of all, all of a shard is read.
    async fn keep_begins(&mut self, stream: &StreamEntry, is_first: bool) -> Result<(), String> {
        let state = self.service.state();
        let (mut numbers, mut lanes) = (Vec::new(), Vec::new());
        let (mut begins, mut ended) = (Vec::new(), Vec::new());
        for entry in &stream.shards {
            let shard = state.shards.get(&(stream.id, entry.number));
            let Some(shard) = shard.filter(|_| !self.kept.contains(&entry.number)) else {
                continue;
            };
            let bounds = shard.log().bounds();
            let is_latest = is_first && self.settings.start == OwnStart::Latest;
            let next = match (is_first, is_latest) {
                (false, _) => 0,
                (true, false) => bounds.start,
                // What comes until it is kept is new.
                (true, true) => {
                    let first_seen = self.ends.entry((stream.id, entry.number));
                    *first_seen.or_insert(bounds.end)
                }
            };
            let is_passed_over = is_latest && entry.closed.is_some();
            if is_passed_over {
                ended.push(entry.number);
            }
            let progress = Progress {
                last: shard::all_before(entry.born, next),
                beyond: Vec::new(),
            };
            numbers.push(entry.number);
            lanes.push(lane_of(stream.id, entry.number));
            begins.push((progress, is_passed_over));
        }
        if lanes.is_empty() {
            return Ok(());
        }
        let taken = self.keeper.take(&lanes).await?;
        let kept = lanes.into_iter().zip(taken).zip(begins);
        let kept = kept.map(|((lane, taken), (progress, ended))| KeptLane {
            lane,
            term: taken.term,
            progress: Some(progress),
            ended,
        });
        self.keeper.keep(kept.collect()).await?;
        self.ends.clear();
        self.kept.extend(numbers);
        self.ended.extend(ended);
        Ok(())
    }

    /// Begins the shards whose parents are done.
    async fn begin(&mut self, stream: &StreamEntry) -> Result<(), String> {
        let gone = self.gone.iter().map(|number| (*number, None));
        let there = stream
            .shards
            .iter()
            .filter(|entry| self.may_begin(stream, entry));
        let there = there.map(|entry| (entry.number, Some(entry.clone())));
        let shards: Vec<(u32, Option<ShardEntry>)> = gone.chain(there).collect();
        if shards.is_empty() {
            return Ok(());
        }
        let lanes: Vec<_> = shards
            .iter()
            .map(|(number, _)| lane_of(stream.id, *number))
            .collect();
        let taken = self.keeper.take(&lanes).await?;
        let gained = lanes.iter().zip(&taken).map(|(lane, taken)| Gained {
            lane: lane.clone(),
            term: taken.term,
            progress: taken.progress.clone().unwrap_or_default(),
        });
        self.queue
            .push(Item::Event(Event::Gained(gained.collect())));
        for (((number, entry), lane), taken) in shards.into_iter().zip(lanes).zip(taken) {
            self.gone.remove(&number);
            self.begun.insert(number, lane.clone());
            let reading = Reading {
                service: self.service.clone(),
                keeper: self.keeper.clone(),
                queue: self.queue.clone(),
                lags: self.lags.clone(),
                decoder: self.settings.decoder.clone(),
                stream: self.settings.stream.clone(),
                id: stream.id,
                number,
                lane,
                term: taken.term,
            };
            let last = taken.progress.and_then(|progress| progress.last);
            self.tasks.spawn(reading.run(entry, last));
        }
        Ok(())
    }

    fn may_begin(&self, stream: &StreamEntry, entry: &ShardEntry) -> bool {
        let is_under_way =
            |number: &u32| self.begun.contains_key(number) || self.gone.contains(number);
        let parents = &mut entry.parents.iter();
        !self.begun.contains_key(&entry.number)
            && !self.ended.contains(&entry.number)
            && parents.all(|parent| {
                self.ended.contains(parent)
                    || stream.shard(*parent).is_none() && !is_under_way(parent)
            })
    }
}
