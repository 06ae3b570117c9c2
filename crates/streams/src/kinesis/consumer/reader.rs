//! One shard, read: a task of its own, ended by dropping it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
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
use super::shards::{ANEW, Begin, OVERTAKEN};
use crate::flow::Progress;
use crate::kinesis::amazon::{AmazonError, AmazonErrorKind};
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
const TOLD_AT: u32 = 4;

/// Reads one shard.
pub(super) struct Reader {
    pub(super) common: Arc<Common>,
    pub(super) lane: Lane,
    pub(super) term: Term,
    pub(super) range: Option<Range>,
    pub(super) ticket: Ticket,
    pub(super) start: From,
}

/// Where it begins.
pub(super) enum From {
    /// After what is committed.
    Progress(Progress),
    /// Nothing was ever noted.
    Anew(Begin),
}

/// Why it ends before its shard does.
enum Stop {
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
        let mut next = match self.start {
            From::Anew(Begin::Newest) => Some(self.begin_newest(&mut cursor).await?),
            _ => None,
        };
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
            let attempted = self.attempted("GetRecords");
            let call = self.common.client.get_records();
            let call = call.shard_iterator(&iterator).limit(MOST_RECORDS);
            match call.send().await {
                Ok(page) => {
                    let more = self.took(&mut cursor, page, begun, time, room).await?;
                    if more.is_none() {
                        return self.end(cursor).await;
                    }
                    next = more;
                }
                Err(error) => {
                    let error = AmazonError::of(attempted, &error);
                    if !matches!(
                        error.kind,
                        AmazonErrorKind::Expired | AmazonErrorKind::Argument
                    ) {
                        next = Some(iterator);
                    }
                    self.failed(&mut cursor, &error, false)?;
                }
            }
        }
    }

    fn cursor(&self) -> Result<Cursor, Stop> {
        let note = Timestamp::now() + self.common.retention() / 8;
        let mut cursor = Cursor::new(Instant::now(), note);
        if let From::Progress(progress) = &self.start {
            if let Some((ordinal, position)) = &progress.last {
                let place = Place::of(position).ok_or_else(|| self.broken(ANEW))?;
                cursor.is_proven = place.sequence().is_none();
                if place.at == At::Time {
                    cursor.until = place.settled;
                }
                cursor.ordinal = ordinal + 1;
                cursor.from = Some(place);
            }
            cursor.given = progress.last.clone();
            self.gained(&mut cursor, progress.clone());
        }
        Ok(cursor)
    }

    /// Begins behind the newest record, and writes that down: what comes from here on is not missed by a restart.
    async fn begin_newest(&self, cursor: &mut Cursor) -> Result<String, Stop> {
        loop {
            sleep_until(cursor.pace.next()).await;
            let now = Timestamp::now();
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
            self.note(Note::Progress(begun.clone())).await?;
            cursor.from = Some(place);
            cursor.until = Some(now);
            cursor.ordinal = 1;
            cursor.given = begun.last.clone();
            self.gained(cursor, begun);
            return Ok(iterator);
        }
    }

    /// An iterator behind the last record that was fetched, or where reading began.
    async fn iterator(&self, cursor: &Cursor) -> Result<String, AmazonError> {
        if let Some(fetched) = &cursor.fetched {
            let after = ShardIteratorType::AfterSequenceNumber;
            return self.of_type(after, Some(fetched), None).await;
        }
        let Some(place) = &cursor.from else {
            return self
                .of_type(ShardIteratorType::TrimHorizon, None, None)
                .await;
        };
        match place.sequence() {
            // With the record, not after it: so it shows whether retention has removed it, and others after it.
            Some(sequence) => {
                let at = ShardIteratorType::AtSequenceNumber;
                self.of_type(at, Some(sequence), None).await
            }
            None => {
                let at = ShardIteratorType::AtTimestamp;
                self.of_type(at, None, place.settled).await
            }
        }
    }

    async fn of_type(
        &self,
        kind: ShardIteratorType,
        sequence: Option<&Sequence>,
        time: Option<Timestamp>,
    ) -> Result<String, AmazonError> {
        let attempted = self.attempted("GetShardIterator");
        let call = self.common.client.get_shard_iterator();
        let answer = call
            .stream_name(&self.common.settings.stream)
            .shard_id(self.lane.as_str())
            .shard_iterator_type(kind)
            .set_starting_sequence_number(sequence.map(|it| it.as_str().to_owned()))
            .set_timestamp(time.map(|time| DateTime::from_millis(time.as_millisecond())))
            .send()
            .await
            .map_err(|error| AmazonError::of(&attempted, &error))?;
        answer.shard_iterator.ok_or(AmazonError {
            kind: AmazonErrorKind::Unreachable,
            attempted,
            code: None,
        })
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
        if cursor.until.is_some_and(|until| self.is_over(until, time)) {
            return Err(self.broken(OVERTAKEN));
        }
        let behind = page.millis_behind_latest.map(|it| it.max(0).unsigned_abs());
        let behind = behind.map(Duration::from_millis);
        let at_tip = behind == Some(Duration::ZERO);
        let first = page.records.first();
        if !cursor.is_proven && (first.is_some() || at_tip || page.next_shard_iterator.is_none()) {
            self.prove(cursor, first.map(Fetched::sequence_number), time)?;
        }
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
        let Some(place) = &cursor.from else {
            return Ok(());
        };
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

    /// Gives the records of an answer on that are not committed already: as they are unwrapped one by one, and there is room for them.
    async fn unwrap(
        &self,
        cursor: &mut Cursor,
        fetched: Vec<Fetched>,
        bytes: usize,
    ) -> Result<(), Stop> {
        if let Some(first) = fetched.first().filter(|_| cursor.given.is_none()) {
            // From the oldest record on: which one that was is known from here on, and committed with whatever is first.
            let first = Sequence::new(first.sequence_number()).ok_or_else(|| self.odd())?;
            cursor.given = Some((0, Place::with(first).position()));
            cursor.ordinal = 1;
        }
        let last = fetched.last().map(Fetched::sequence_number);
        let last = last.map(|last| Sequence::new(last).ok_or_else(|| self.odd()));
        let last = last.transpose()?;
        let range = self.range;
        let from = cursor.from.clone().filter(|_| cursor.fetched.is_none());
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
        if !cursor.is_gained {
            let begun = Progress {
                last: cursor.given.clone(),
                beyond: Vec::new(),
            };
            self.gained(cursor, begun);
        }
        for record in &mut records {
            record.ordinal = cursor.ordinal;
            cursor.ordinal += 1;
        }
        if let Some(last) = records.last() {
            cursor.given = Some((last.ordinal, last.position.clone()));
            let queue = &self.common.queue;
            queue.records(self.ticket, &self.lane, records, room);
        }
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
        let (Some(until), Some((ordinal, position))) = (cursor.until, &cursor.given) else {
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
            settled: Some(until),
            ..place
        };
        let progress = Progress {
            last: Some((*ordinal, place.position())),
            beyond: Vec::new(),
        };
        self.note(Note::Progress(progress)).await?;
        cursor.note = now + self.common.retention() / 8;
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

    /// What follows from a failed call: another try after a wait, or the end.
    fn failed(
        &self,
        cursor: &mut Cursor,
        error: &AmazonError,
        is_iterator: bool,
    ) -> Result<(), Stop> {
        let failures = cursor.pace.failed(Instant::now(), fastrand::f64());
        match error.kind {
            AmazonErrorKind::Refused | AmazonErrorKind::Key => {
                return Err(Stop::Fault(SourceError::Lasting(error.to_string())));
            }
            // A number that is none of this shard's.
            AmazonErrorKind::Argument
                if is_iterator
                    && (cursor.fetched.is_some()
                        || cursor
                            .from
                            .as_ref()
                            .is_some_and(|it| it.sequence().is_some())) =>
            {
                return Err(self.broken(ANEW));
            }
            // The list of shards will tell what is gone: the shard, or the stream.
            AmazonErrorKind::Absent => self.hint(Hint::Absent),
            _ => {}
        }
        if failures.is_multiple_of(TOLD_AT) {
            let fault = SourceError::Passing(error.to_string());
            self.common.queue.fault(fault);
        }
        Ok(())
    }

    /// Whether what arrived at a time may have been removed by now.
    fn is_over(&self, arrived: Timestamp, now: Timestamp) -> bool {
        now.duration_since(arrived) > self.common.retention() - MARGIN
    }

    fn attempted(&self, operation: &str) -> String {
        let stream = &self.common.settings.stream;
        format!("{operation} on {} of the stream {stream}", self.lane)
    }

    fn broken(&self, detail: &str) -> Stop {
        Stop::Fault(SourceError::Broken {
            lane: self.lane.clone(),
            detail: detail.to_owned(),
        })
    }

    fn odd(&self) -> Stop {
        self.broken("a record's sequence number is no number: what answers is no Kinesis")
    }

    fn hint(&self, hint: Hint) {
        let _ = self.common.hints.send(hint);
    }
}
