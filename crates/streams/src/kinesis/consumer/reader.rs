//! One shard, read: a task of its own, ended by dropping it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::{Record as Fetched, ShardIteratorType};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::coordinator::{Common, Hint};
use super::cursor::{Cursor, unwrapped};
use super::leases::Note;
use super::pace::Pace;
use super::place::{At, Place, Sequence};
use super::queue::Ticket;
use super::shards::{ANEW, OVERTAKEN};
use crate::flow::Progress;
use crate::kinesis::decode::Range;
use crate::kinesis::room::Taken;
use crate::record::{Lane, Position, Record};
use crate::source::{Gained, Release, SourceError, Term};

/// The most records that one answer brings.
const MOST_RECORDS: i32 = 10_000;

/// Decoding more than this is not done between other tasks.
const LARGE: usize = 256 << 10;

/// How much earlier than at its end a retention period is taken for over: clocks differ.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// Trouble is told when it has come so often in a row, and so often again.
pub(super) const TOLD_AT: u32 = 4;

/// Reads one shard.
pub(super) struct Reader {
    pub(super) common: Arc<Common>,
    pub(super) lane: Lane,
    pub(super) term: Term,
    pub(super) range: Option<Range>,
    pub(super) ticket: Ticket,
    /// How far it is done, or where it begins.
    pub(super) start: Progress,
}

/// Why it ends before its shard does.
pub(super) enum Stop {
    Fault(SourceError),
    Lost,
}

impl Reader {
    /// Reads to the shard's end.
    pub(super) async fn run(self) {
        match self.read().await {
            Ok(()) => {}
            Err(Stop::Fault(fault)) => self.common.queue.fault(fault),
            Err(Stop::Lost) => self.hint(Hint::Lost(self.lane.clone())),
        }
    }

    async fn read(&self) -> Result<(), Stop> {
        let mut cursor = self.cursor()?;
        let mut next = None;
        if cursor.from.at == At::Newest {
            next = Some(self.begin_newest(&mut cursor).await?);
        }
        loop {
            sleep_until(cursor.pace.next()).await;
            let iterator = match next.take() {
                Some(iterator) => iterator,
                None => match self.iterator(&cursor).await {
                    Ok(iterator) => iterator,
                    Err(error) => {
                        self.failed(&mut cursor, &error, true)?;
                        continue;
                    }
                },
            };
            let room = self.common.queue.room(cursor.expected()).await;
            let (begun, time) = (Instant::now(), Timestamp::now());
            match self.page(&iterator, MOST_RECORDS).await {
                Ok(page) => {
                    let more = self.took(&mut cursor, page, begun, time, room).await?;
                    if more.is_none() {
                        return self.end(cursor).await;
                    }
                    next = more;
                }
                Err(error) => {
                    if !error.is_of_iterator() {
                        next = Some(iterator);
                    }
                    self.failed(&mut cursor, &error, false)?;
                }
            }
        }
    }

    fn cursor(&self) -> Result<Cursor, Stop> {
        let (ordinal, place) = match &self.start.last {
            Some((ordinal, position)) => (*ordinal, Place::of(position)),
            None => (0, Some(Place::oldest(None))),
        };
        let place = place.ok_or_else(|| self.broken(ANEW))?;
        let now = Timestamp::now();
        // Of a shard that is empty when it is first read it is noted at once until when it was.
        let note = match (&place.at, place.settled) {
            (At::Oldest, None) => now,
            _ => now + self.common.retention() / 8,
        };
        let mut cursor = Cursor::new(place, ordinal, Instant::now(), note);
        if cursor.from.sequence().is_some() {
            self.gained(&mut cursor, self.start.clone());
        }
        Ok(cursor)
    }

    /// Begins behind the newest record, and writes that down: what comes from here on is not missed by a restart.
    async fn begin_newest(&self, cursor: &mut Cursor) -> Result<String, Stop> {
        loop {
            sleep_until(cursor.pace.next()).await;
            let now = Timestamp::now().max(self.common.created());
            let iterator = match self.of_type(ShardIteratorType::Latest, None, None).await {
                Ok(iterator) => iterator,
                Err(error) => {
                    self.failed(cursor, &error, false)?;
                    continue;
                }
            };
            let place = Place::time(now);
            let begun = Progress {
                last: Some((0, place.position())),
                beyond: Vec::new(),
            };
            self.note(Note::Progress(begun)).await?;
            *cursor = Cursor::new(place, 0, Instant::now(), cursor.note);
            return Ok(iterator);
        }
    }

    /// Gives an answer's records on. Gives the next iterator; none at the shard's end.
    async fn took(
        &self,
        cursor: &mut Cursor,
        page: GetRecordsOutput,
        begun: Instant,
        time: Timestamp,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Option<String>, Stop> {
        let behind = page.millis_behind_latest.map(|it| it.max(0).unsigned_abs());
        let behind = behind.map(Duration::from_millis);
        let at_tip = behind == Some(Duration::ZERO);
        let bytes = page.records.iter().map(|record| record.data.as_ref().len());
        let bytes: usize = bytes.sum();
        let rests = page.records.is_empty() && at_tip;
        let rest = if rests {
            self.common.settings.idle
        } else {
            Duration::ZERO
        };
        cursor.pace.gave(begun, bytes, rest);
        cursor.asked = begun;
        cursor.behind = behind;
        let first = page.records.first();
        if cursor.is_proven {
            let now = Timestamp::now();
            let is_old = cursor.until.is_some_and(|until| self.is_over(until, now));
            if is_old && !self.is_whole(cursor).await? {
                return Err(self.broken(OVERTAKEN));
            }
        } else if first.is_some() || at_tip || page.next_shard_iterator.is_none() {
            self.prove(cursor, first.map(Fetched::sequence_number), time)?;
        }
        if let Some(by) = behind {
            cursor.until = Some(time - SignedDuration::try_from(by).unwrap_or_default());
            self.common.reading.is_behind(&self.lane, Some(by));
        }
        if !page.records.is_empty() {
            self.unwrap(cursor, page.records, bytes).await?;
            drop(room);
        } else if rests {
            drop(room);
            self.settle(cursor, time).await?;
        }
        if page
            .child_shards
            .is_some_and(|children| !children.is_empty())
        {
            self.hint(Hint::Resharded);
        }
        Ok(page.next_shard_iterator)
    }

    /// The first answer shows whether the record is there at which reading goes on. Where it is gone, so may others be, unless it was
    /// noted that there were none.
    fn prove(&self, cursor: &mut Cursor, first: Option<&str>, time: Timestamp) -> Result<(), Stop> {
        let place = &cursor.from;
        let is_there = first.and_then(Sequence::new).as_ref() == place.sequence();
        let was_settled = place
            .settled
            .is_some_and(|until| !self.is_over(until, time));
        if !is_there && !was_settled {
            return Err(self.broken(OVERTAKEN));
        }
        cursor.is_proven = true;
        Ok(())
    }

    /// Whether an answer misses nothing behind what was fetched before, which was about to be removed: how old it is tells nothing. Where
    /// the last record of before is still there, so was all that came after it.
    async fn is_whole(&self, cursor: &mut Cursor) -> Result<bool, Stop> {
        match cursor.fetched.clone() {
            Some(last) => self.is_there(cursor, &last).await,
            // Nothing was read yet. Unless it was noted from when on everything is to be, reading begins with what is there.
            None => Ok(cursor.from.settled.is_none()),
        }
    }

    /// Gives the records of an answer on that are not committed already: as they are unwrapped one by one, and there is room for them.
    async fn unwrap(
        &self,
        cursor: &mut Cursor,
        fetched: Vec<Fetched>,
        bytes: usize,
    ) -> Result<(), Stop> {
        let last = fetched.last().map(Fetched::sequence_number);
        let last = last.map(|last| Sequence::new(last).ok_or_else(|| self.odd()));
        let last = last.transpose()?;
        let range = self.range;
        let is_first = cursor.fetched.is_none();
        let from = is_first.then(|| cursor.from.at.clone());
        let mut fetched = fetched.into_iter();
        while !fetched.as_slice().is_empty() {
            let room = self.common.queue.room_to_unwrap().await;
            let (lane, decoder) = (self.lane.clone(), self.common.decoder.clone());
            let from = from.clone();
            let unwrap = move || {
                let records = unwrapped(&mut fetched, &lane, &decoder, range, from.as_ref());
                (records, fetched)
            };
            let records;
            (records, fetched) = if bytes > LARGE {
                let unwrapped = tokio::task::spawn_blocking(unwrap).await;
                unwrapped.map_err(|_| self.odd())?
            } else {
                unwrap()
            };
            self.give(cursor, records, room);
        }
        cursor.fetched = last;
        Ok(())
    }

    fn give(&self, cursor: &mut Cursor, mut records: Vec<Record>, room: Taken) {
        let Some(first) = records.first() else {
            return;
        };
        if !cursor.is_gained {
            // Which record is the first is known from here on, and committed with whatever is done first: ordinals count from it.
            if let Some(first) = Place::of(&first.position).and_then(Place::into_sequence) {
                cursor.given.1 = Place::with(first).position();
            }
            let begun = Progress {
                last: Some(cursor.given.clone()),
                beyond: Vec::new(),
            };
            self.gained(cursor, begun);
        }
        for record in &mut records {
            record.ordinal = cursor.ordinal;
            cursor.ordinal += 1;
        }
        if let Some(last) = records.last() {
            cursor.given = (last.ordinal, last.position.clone());
        }
        let queue = &self.common.queue;
        queue.records(self.ticket, &self.lane, records, room);
    }

    fn gained(&self, cursor: &mut Cursor, progress: Progress) {
        cursor.is_gained = true;
        let lane = self.lane.clone();
        let gained = Gained {
            lane,
            term: self.term,
            progress,
        };
        self.common.queue.gained(self.ticket, gained);
    }

    /// Notes now and then that there is nothing that is not committed: when retention then removes the last record that was read, it is
    /// known that nothing was missed. Nothing is given meanwhile, so no commit comes in between.
    async fn settle(&self, cursor: &mut Cursor, now: Timestamp) -> Result<(), Stop> {
        let (ordinal, position) = &cursor.given;
        let Some(until) = cursor.until else {
            return Ok(());
        };
        if now < cursor.note {
            return Ok(());
        }
        cursor.note = now + self.common.retention() / 64;
        let Ok(known) = self.common.leases.list().await else {
            return Ok(());
        };
        let known = known.into_iter().find(|known| known.lane == self.lane);
        let Some(kept) = known.and_then(|known| known.progress) else {
            return Ok(());
        };
        let place = |position: &Position| Place::of(position).map(|place| place.at);
        let is_settled = kept.beyond.is_empty()
            && kept.last.as_ref().is_some_and(|(last, at)| {
                last == ordinal && place(at).is_some() && place(at) == place(position)
            });
        let Some(place) = Place::of(position).filter(|_| is_settled) else {
            return Ok(());
        };
        let place = Place {
            // Clocks differ: whatever this one says, there was nothing before the stream.
            settled: Some(until.max(self.common.created())),
            ..place
        };
        let progress = Progress {
            last: Some((*ordinal, place.position())),
            beyond: Vec::new(),
        };
        self.note(Note::Progress(progress)).await?;
        cursor.note = now + self.common.retention() / 8;
        if cursor.fetched.is_none() {
            cursor.from.settled = place.settled;
        }
        Ok(())
    }

    /// The shard has no more records. When the last one is committed, its children may be read.
    async fn end(&self, mut cursor: Cursor) -> Result<(), Stop> {
        if !cursor.is_gained {
            self.gained(&mut cursor, Progress::default());
        }
        self.common.reading.is_behind(&self.lane, None);
        let (release, released) = Release::new();
        self.common.queue.ended(self.ticket, &self.lane, release);
        if released.await.is_ok() {
            self.note(Note::Ended).await?;
            self.hint(Hint::Ended(self.lane.clone()));
        }
        Ok(())
    }

    /// Writes something down, however long that takes.
    async fn note(&self, note: Note) -> Result<(), Stop> {
        let mut pace = Pace::new(Instant::now());
        loop {
            let noted = self.common.leases.note(&self.lane, self.term, note.clone());
            match noted.await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Stop::Lost),
                Err(why) => {
                    if pace
                        .failed(Instant::now(), fastrand::f64())
                        .is_multiple_of(TOLD_AT)
                    {
                        self.common.queue.fault(SourceError::Passing(why));
                    }
                    sleep_until(pace.next()).await;
                }
            }
        }
    }

    /// Whether what arrived at a time may have been removed by now.
    fn is_over(&self, arrived: Timestamp, now: Timestamp) -> bool {
        now.duration_since(arrived) > self.common.retention() - MARGIN
    }

    pub(super) fn broken(&self, detail: &str) -> Stop {
        Stop::Fault(SourceError::Broken {
            lane: self.lane.clone(),
            detail: detail.to_owned(),
        })
    }

    fn odd(&self) -> Stop {
        self.broken("a record's sequence number is no number: what answers is no Kinesis")
    }

    pub(super) fn hint(&self, hint: Hint) {
        let _ = self.common.hints.send(hint);
    }
}
