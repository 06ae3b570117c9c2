//! The copying itself: one thread reads, writes and commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;

use super::clients::ANSWER;
use super::error::kind;
use super::map::{self, Run};
use super::progress;
use super::replicator::End;
use super::reports::Origin;
use super::session::{PATIENCE, SLICE, Session};
use super::status::{gone, made_anew};
use super::{ReplicateError, State, describe};
use crate::kafka::ErrorKind;

/// A transaction that is open.
pub(super) struct Open {
    since: Instant,
    records: u64,
    bytes: u64,
    /// The slots with records.
    touched: Vec<usize>,
}

/// What goes on between two looks at the clock.
struct Pace {
    /// Records since the last look.
    count: u32,
    /// When positions and status were seen to last.
    seen: Instant,
    /// How long the last commit took.
    commit: Duration,
    /// The topic and partition of the last record, as librdkafka has them, and their slot.
    last: Option<(usize, i32, usize)>,
}

/// Records between two looks at the clock, and between two looks at what was acknowledged.
const STRETCH: u32 = 256;

/// How often positions and status are seen to.
const SEEN: Duration = Duration::from_millis(250);

/// How long the loop waits for a record when nothing is open.
const IDLE: Duration = Duration::from_millis(100);

/// How long the source may say nothing before that means something.
const MOMENT: Duration = Duration::from_millis(1);

/// A chunk of the map never has more runs than this, however many a transaction made.
const SPLIT: usize = 16_384;

/// A transaction lasts at most this long, however long its commit takes.
const LONGEST: Duration = Duration::from_secs(5);

impl Session<'_> {
    /// Copies until something ends it.
    pub(super) fn copy(&mut self) -> Result<(), End> {
        let consumer = Arc::clone(&self.consumer);
        let mut pace = Pace {
            count: 0,
            seen: Instant::now(),
            commit: Duration::ZERO,
            last: None,
        };
        loop {
            let wait = match &self.open {
                None => IDLE,
                // At least a moment: between two answers of the source there is always one.
                Some(open) => {
                    (self.settings.linger.saturating_sub(open.since.elapsed())).max(MOMENT)
                }
            };
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    self.record(&message, &mut pace)?;
                    pace.count += 1;
                    if pace.count < STRETCH {
                        continue;
                    }
                }
                Some(Err(fault)) => self.source_fault(&fault)?,
                None if self.is_over() => self.commit_timed(&mut pace)?,
                None => {}
            }
            pace.count = 0;
            self.between(&mut pace)?;
        }
    }

    /// Whether nothing waits to be copied, and has not for long enough. Where the source is known to hold more, its answer is only late.
    fn is_over(&self) -> bool {
        let linger = self.settings.linger;
        let lingered = self
            .open
            .as_ref()
            .is_some_and(|open| open.since.elapsed() >= linger);
        lingered
            && !self
                .slots
                .iter()
                .any(|slot| slot.next.unwrap_or_default() < slot.end)
    }

    /// What is done every few records.
    fn between(&mut self, pace: &mut Pace) -> Result<(), End> {
        self.producer.poll(Duration::ZERO);
        let longest = (pace.commit * 8).clamp(
            self.settings.commit_every,
            LONGEST.max(self.settings.commit_every),
        );
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.since.elapsed() >= longest)
        {
            self.commit_timed(pace)?;
        }
        if self.shared.stopping() {
            self.commit()?;
            self.tell(State::Running);
            return Err(End::Stopped);
        }
        if let Some(plan) = self.watch.plan() {
            match plan {
                Ok(plan) => {
                    // A plan may write, and so is taken over outside of a transaction.
                    self.commit()?;
                    pace.last = None;
                    self.adopt(plan)?;
                }
                Err(fault) => self.trouble(fault.to_string()),
            }
        }
        if pace.seen.elapsed() >= SEEN {
            pace.seen = Instant::now();
            self.ends();
            if self.open.is_none() && self.advanced() {
                self.commit_timed(pace)?;
            }
            let state = self.shared.status().state.clone();
            self.tell(state);
        }
        Ok(())
    }

    fn record(&mut self, message: &BorrowedMessage<'_>, pace: &mut Pace) -> Result<(), End> {
        let (topic, partition) = (message.topic_ptr() as usize, message.partition());
        let index = match pace.last {
            Some((last, of, index)) if last == topic && of == partition => index,
            _ => {
                let Some(index) = self.slot_of(message.topic(), partition) else {
                    return Ok(());
                };
                pace.last = Some((topic, partition, index));
                index
            }
        };
        if self.open.is_none() {
            self.begin()?;
        }
        let (Some(slot), Some(open)) = (self.slots.get_mut(index), self.open.as_mut()) else {
            return Ok(());
        };
        let offset = message.offset();
        if slot.next.is_some_and(|next| offset < next) {
            return Err(End::Passing(format!(
                "the source gave offset {offset} of {}/{partition} again: begin anew",
                message.topic()
            )));
        }
        if slot.sent == 0 {
            slot.base = offset;
            open.touched.push(index);
        }
        slot.sent += 1;
        slot.next = Some(offset + 1);
        let timestamp = message.timestamp().to_millis().unwrap_or(-1);
        slot.last = Some(timestamp);
        open.records += 1;
        open.bytes += (message.key_len() + message.payload_len()) as u64;
        let origin = Origin::record(index, offset - slot.base);
        let Some(topic) = self.topics.get(slot.topic) else {
            return Ok(());
        };
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&topic.planned.target, origin.number())
                .partition(partition)
                // librdkafka takes 0 for "now".
                .timestamp(if timestamp == 0 { 1 } else { timestamp });
        if let Some(key) = message.key() {
            record = record.key(key);
        }
        if let Some(value) = message.payload() {
            record = record.payload(value);
        }
        if let Some(headers) = message.headers() {
            record = record.headers(headers.detach());
        }
        match self.producer.send(record) {
            Ok(()) => Ok(()),
            Err((fault, record)) => self.send_again(fault, record),
        }
    }

    /// The producer's queue is full, or it does not know the partition yet.
    fn send_again(
        &self,
        mut fault: Native,
        mut record: BaseRecord<'_, [u8], [u8], usize>,
    ) -> Result<(), End> {
        let end = Instant::now() + PATIENCE;
        loop {
            match fault.rdkafka_error_code() {
                Some(Code::QueueFull) => self.producer.poll(Duration::from_millis(1)),
                Some(Code::UnknownPartition | Code::UnknownTopic) => {
                    let client = self.producer.client();
                    let _ = client.fetch_metadata(Some(record.topic), ANSWER);
                    self.producer.poll(Duration::from_millis(50));
                }
                _ => {
                    // The transaction has failed: a report says more.
                    self.arrived()?;
                    return Err(self.lost("write to the target", &fault));
                }
            }
            if self.producer.context().failed() || Instant::now() >= end {
                return Err(self.lost("write to the target", &fault));
            }
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((again, back)) => (fault, record) = (again, back),
            }
        }
    }

    fn slot_of(&self, topic: &str, partition: i32) -> Option<usize> {
        let topic = self.topics.get(*self.by_name.get(topic)?)?;
        topic.slots.get(usize::try_from(partition).ok()?).copied()
    }

    /// Begins a transaction where none is open.
    pub(super) fn begin(&mut self) -> Result<(), End> {
        if self.open.is_none() {
            self.producer
                .begin_transaction()
                .map_err(|fault| self.lost("begin a transaction on the target", &fault))?;
            self.open = Some(Open {
                since: Instant::now(),
                records: 0,
                bytes: 0,
                touched: Vec::new(),
            });
        }
        Ok(())
    }

    fn commit_timed(&mut self, pace: &mut Pace) -> Result<(), End> {
        let begun = Instant::now();
        self.commit()?;
        pace.commit = begun.elapsed();
        Ok(())
    }

    /// Whether the reading has gone on where there was nothing to copy: over markers of transactions, and over aborted records.
    fn advanced(&mut self) -> bool {
        self.positions();
        self.slots.iter().any(|slot| slot.next > slot.done)
    }

    /// Where the source ends, as its answers have told.
    fn ends(&mut self) {
        for slot in &mut self.slots {
            if let Some(topic) = self.topics.get(slot.topic) {
                let (edges, name) = (self.consumer.context(), &topic.planned.source);
                slot.end = edges
                    .edges(name, slot.partition)
                    .map_or(0, |edges| edges.end);
            }
        }
    }

    /// Where the reading stands: behind the last record, and behind what follows it and is none.
    fn positions(&mut self) {
        let Ok(list) = self.consumer.position() else {
            return;
        };
        for element in list.elements() {
            let Offset::Offset(position) = element.offset() else {
                continue;
            };
            if let Some(index) = self.slot_of(element.topic(), element.partition())
                && let Some(slot) = self.slots.get_mut(index)
            {
                slot.next = slot.next.max(Some(position));
            }
        }
    }

    /// Commits the records and the progress together.
    pub(super) fn commit(&mut self) -> Result<(), End> {
        self.positions();
        let ahead = |slot: &super::session::Slot| slot.next > slot.done;
        let moved: Vec<usize> = (0..self.slots.len())
            .filter(|index| self.slots.get(*index).is_some_and(ahead))
            .collect();
        if moved.is_empty() && self.open.is_none() {
            return Ok(());
        }
        self.begin()?;
        let mut names: Vec<(usize, String)> = Vec::new();
        for slot in moved.iter().filter_map(|index| self.slots.get(*index)) {
            if let Some(topic) = self.topics.get(slot.topic)
                && names.last().is_none_or(|(last, _)| *last != slot.topic)
            {
                names.push((slot.topic, topic.planned.source.clone()));
            }
        }
        if !names.is_empty() {
            // Answered while the records are on their way.
            self.watch
                .ask(names.iter().map(|(_, name)| name.clone()).collect());
        }
        self.arrived()?;
        let reported = self.producer.context().take();
        if let Some((slot, code)) = reported.failed {
            return Err(self.refused(slot, code));
        }
        let mut runs = reported.runs;
        for index in moved {
            let runs = runs.get_mut(index).map(std::mem::take).unwrap_or_default();
            self.write_progress(index, runs)?;
        }
        self.arrived()?;
        if let Some((slot, code)) = self.producer.context().take().failed {
            return Err(self.refused(slot, code));
        }
        if !names.is_empty() {
            self.same_topics(&names)?;
        }
        self.commit_transaction()?;
        if let Some(open) = self.open.take() {
            self.meter.new_records += open.records;
            self.meter.new_bytes += open.bytes;
            for index in open.touched {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.sent = 0;
                }
            }
        }
        for slot in &mut self.slots {
            slot.done = slot.next;
        }
        let mut status = self.shared.status();
        if matches!(status.state, State::Waiting(_)) {
            status.state = State::Running;
        }
        Ok(())
    }

    /// Writes what became of a slot's records, and removes what no group can come from any more.
    fn write_progress(&mut self, index: usize, runs: Vec<Run>) -> Result<(), End> {
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(());
        };
        let Some(topic) = self.topics.get(slot.topic) else {
            return Ok(());
        };
        let (name, partition) = (topic.planned.source.clone(), slot.partition);
        if runs.iter().map(|run| run.count).sum::<i64>() != slot.sent {
            return Err(End::Passing(format!(
                "the target did not tell where each record of {name}/{partition} stands: begin anew from the last commit"
            )));
        }
        let mut written = Vec::new();
        for run in runs {
            if slot.chunk.runs.len() >= SPLIT {
                written.push((slot.number, slot.chunk.clone()));
                slot.seal();
            }
            let source = slot.base + run.source;
            map::append(&mut slot.chunk.runs, Run { source, ..run });
            slot.chunk.done = source + run.count;
        }
        slot.chunk.done = slot.next.unwrap_or(slot.chunk.done);
        written.push((slot.number, slot.chunk.clone()));
        if slot.chunk.is_full() {
            slot.seal();
        }
        let low = self
            .consumer
            .context()
            .edges(&name, partition)
            .map_or(0, |edges| edges.low);
        let mut removed = Vec::new();
        // The last one written stays, for it holds the position.
        while let Some((number, _)) = slot
            .sealed
            .front()
            .filter(|(number, end)| *end <= low && written.iter().all(|(new, _)| new != number))
        {
            removed.push(*number);
            slot.sealed.pop_front();
        }
        let mut bytes = Vec::new();
        for (number, chunk) in written {
            chunk.encode(&mut bytes);
            self.write(
                progress::CHUNKS,
                &progress::chunk_key(&name, partition, number),
                Some(&bytes),
            )?;
        }
        for number in removed {
            self.write(
                progress::CHUNKS,
                &progress::chunk_key(&name, partition, number),
                None,
            )?;
        }
        Ok(())
    }

    /// Writes a record of the progress.
    pub(super) fn write(&self, partition: i32, key: &str, value: Option<&[u8]>) -> Result<(), End> {
        let topic = self.settings.progress_topic();
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&topic, Origin::progress().number())
                .partition(partition)
                .key(key.as_bytes());
        if let Some(value) = value {
            record = record.payload(value);
        }
        match self.producer.send(record) {
            Ok(()) => Ok(()),
            Err((fault, record)) => self.send_again(fault, record),
        }
    }

    /// Waits until the target has all that was sent, or something has failed.
    fn arrived(&self) -> Result<(), End> {
        let end = Instant::now() + PATIENCE;
        while self.producer.in_flight_count() > 0 && !self.producer.context().failed() {
            self.producer.poll(Duration::from_millis(1));
            if Instant::now() >= end {
                return Err(End::Passing(
                    "write to the target: it does not answer, or not in time".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn commit_transaction(&self) -> Result<(), End> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.producer.commit_transaction(SLICE) {
                Ok(()) => return Ok(()),
                Err(Native::Transaction(fault)) if fault.is_retriable() && Instant::now() < end => {
                }
                Err(fault) => return Err(self.lost("commit on the target", &fault)),
            }
        }
    }

    /// Whether the topics that were read are still the ones that they were: a topic that was made anew in between begins at other
    /// records, and they would follow the old ones without a word.
    fn same_topics(&mut self, names: &[(usize, String)]) -> Result<(), End> {
        let ids = self.watch.ids().map_err(|code| {
            End::Passing(format!(
                "ask the source cluster for its topics: {}",
                super::plan::text(code)
            ))
        })?;
        for (index, name) in names {
            let Some(topic) = self.topics.get(*index) else {
                continue;
            };
            let why = match ids.get(name) {
                None => gone(name),
                Some(known) if known.id != topic.planned.source_id => {
                    made_anew(self.settings, name, "source")
                }
                Some(_) => continue,
            };
            return Err(self.stop_topic(*index, why));
        }
        Ok(())
    }

    /// The target has not taken a record.
    fn refused(&mut self, slot: Option<usize>, code: Code) -> End {
        let fault = Native::MessageProduction(code);
        let Some(slot) = slot.and_then(|slot| self.slots.get(slot)) else {
            return self.lost("write to the target", &fault);
        };
        let why = match code {
            Code::MessageSizeTooLarge => {
                "it is larger than max.message.bytes allows there (with a `compression` it is smaller)"
            }
            Code::InvalidRecord | Code::InvalidMessage => {
                "it does not fit the topic's settings there: a compacted topic takes no record without a key"
            }
            Code::InvalidTimestamp => "its timestamp is outside of what the topic takes there",
            Code::PolicyViolation => "a policy there refuses it",
            Code::TopicAuthorizationFailed => "we may not write to the topic there",
            _ => return self.lost("write to the target", &fault),
        };
        let index = slot.topic;
        let name = self
            .topics
            .get(index)
            .map(|topic| topic.planned.source.clone());
        let name = name.unwrap_or_default();
        let first = slot.base;
        let why = format!(
            "the target refuses a record of {name}/{} at or behind offset {first}: {why}; change the topic on the target, and start the replication again",
            slot.partition
        );
        self.stop_topic(index, why)
    }

    /// Something failed on the target. The session ends; the next one finds out what was committed.
    fn lost(&self, attempted: &str, fault: &Native) -> End {
        // A producer that was fenced says so once, and then only that it is of no use.
        let code = self.producer.client().fatal_error().map(|(code, _)| code);
        let kind = code.map_or_else(|| kind(fault), ErrorKind::of);
        tracing::debug!(%fault, ?kind, "{attempted}");
        ReplicateError::of_kind(attempted, kind).into()
    }

    fn source_fault(&mut self, fault: &Native) -> Result<(), End> {
        let Some(code) = fault.rdkafka_error_code() else {
            return Ok(());
        };
        tracing::debug!(%fault, "read from the source");
        if code == Code::LogTruncation {
            return Err(End::Lasting(format!(
                "the source has lost records that were read already (an unclean election of a leader): the target holds records that the source does not; compare them with `linkspan replicate verify {}`",
                self.settings.name
            )));
        }
        match ErrorKind::of(code) {
            ErrorKind::OutOfRange => Err(self.out_of_range()),
            ErrorKind::Absent => {
                self.watch.hurry();
                Ok(())
            }
            _ if matches!(fault, Native::MessageConsumptionFatal(_)) => {
                Err(ReplicateError::new("read from the source", fault).into())
            }
            kind => {
                let text = ReplicateError::of_kind("read from the source", kind).to_string();
                self.trouble(text);
                Ok(())
            }
        }
    }

    /// Tells what hinders, while it is tried on.
    fn trouble(&self, why: String) {
        let mut status = self.shared.status();
        if status.state == State::Running {
            tracing::warn!(replication = self.settings.name, "{why}");
            status.state = State::Waiting(why);
        }
    }

    /// A position is not in its partition. librdkafka does not say which.
    fn out_of_range(&mut self) -> End {
        let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        let Ok(ids) = describe::topics(self.consumer.client(), &names, ANSWER) else {
            return End::Passing("ask the source for its topics: it does not answer".to_owned());
        };
        let mut found = false;
        for index in 0..self.topics.len() {
            if let Some(why) = self.out_of_range_of(index, &ids) {
                found = true;
                self.stop_topic(index, why);
            }
        }
        if found {
            End::Again
        } else {
            End::Passing(
                "the source says that an offset is not there, but holds all that we need"
                    .to_owned(),
            )
        }
    }

    fn out_of_range_of(
        &self,
        index: usize,
        ids: &std::collections::HashMap<String, describe::Described>,
    ) -> Option<String> {
        let topic = self.topics.get(index)?;
        let (name, replication) = (&topic.planned.source, &self.settings.name);
        match ids.get(name) {
            None => return Some(gone(name)),
            Some(known) if known.id != topic.planned.source_id => {
                return Some(made_anew(self.settings, name, "source"));
            }
            Some(_) => {}
        }
        for slot in topic.slots.iter().filter_map(|slot| self.slots.get(*slot)) {
            let Some(next) = slot.next else { continue };
            let partition = slot.partition;
            let Ok((low, end)) = self.consumer.fetch_watermarks(name, partition, ANSWER) else {
                continue;
            };
            if low > next {
                return Some(format!(
                    "{name}/{partition} on the source begins at offset {low}, and the records from {next} on were not copied yet: retention or a deletion has overtaken the replication, and they are lost; go on without them with `linkspan replicate reset {replication} {name}`, which copies the topic anew"
                ));
            }
            if end < next {
                return Some(format!(
                    "{name}/{partition} on the source ends at offset {end}, and was copied up to {next}: it was truncated, and what comes there next has other offsets; copy it anew with `linkspan replicate reset {replication} {name}`"
                ));
            }
        }
        None
    }
}
