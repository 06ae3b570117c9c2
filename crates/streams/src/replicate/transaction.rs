//! A transaction on the target: records and progress together.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::State;
use super::clients::ANSWER;
use super::map::{self, Run};
use super::replicator::End;
use super::reports::{Origin, Reported};
use super::session::{PATIENCE, SLICE, Session, Slot};
use super::status::{gone, made_anew};
use super::{owner, progress};

/// A transaction that is open.
pub(super) struct Open {
    pub(super) since: Instant,
    /// The slots with records.
    pub(super) touched: Vec<usize>,
    /// Bytes of the records' keys and values.
    pub(super) bytes: u64,
}

/// A chunk of the map never has more runs than this, however many a transaction made.
const SPLIT: usize = 16_384;

impl Session<'_> {
    /// Begins a transaction where none is open.
    pub(super) fn begin(&mut self) -> Result<(), End> {
        if self.open.is_none() {
            self.producer
                .begin_transaction()
                .map_err(|fault| self.lost("begin a transaction on the target", &fault))?;
            self.open = Some(Open {
                since: Instant::now(),
                touched: Vec::new(),
                bytes: 0,
            });
        }
        Ok(())
    }

    /// Commits the records and the progress together.
    pub(super) fn commit(&mut self) -> Result<(), End> {
        self.positions();
        let ahead = |slot: &Slot| slot.next > slot.done;
        let moved: Vec<usize> = (0..self.slots.len())
            .filter(|index| self.slots.get(*index).is_some_and(ahead))
            .collect();
        if moved.is_empty() && self.open.is_none() && !self.must_sign() {
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
        let (begun, end) = (Instant::now(), Instant::now() + PATIENCE);
        let mut runs = self.arrived(end)?.runs;
        if let Some(open) = &self.open {
            self.kept.allowance.arrived(open.bytes, begun.elapsed());
        }
        for index in moved {
            let runs = runs.get_mut(index).map(std::mem::take).unwrap_or_default();
            self.write_progress(index, runs)?;
        }
        if self.must_sign() {
            self.sign()?;
        }
        self.arrived(end)?;
        if !names.is_empty() {
            self.same_topics(&names)?;
        }
        self.commit_transaction(end)?;
        if let Some(open) = self.open.take() {
            for index in open.touched {
                if let Some(slot) = self.slots.get_mut(index)
                    && let Some(topic) = self.topics.get(slot.topic)
                {
                    let records = u64::try_from(std::mem::take(&mut slot.sent)).unwrap_or_default();
                    let bytes = std::mem::take(&mut slot.size);
                    self.shared.count(&topic.planned.source, records, bytes);
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

    /// Whether it is time for a sign of life.
    pub(super) fn must_sign(&self) -> bool {
        self.signed.elapsed() >= self.settings.sign_every
    }

    /// Writes a sign of life into the open transaction. Those that stand by hear it before it is committed.
    pub(super) fn sign(&mut self) -> Result<(), End> {
        let claim = serde_json::to_vec(&self.kept.place.sign())
            .map_err(|_| End::Lasting("write the progress: it failed".to_owned()))?;
        self.signed = Instant::now();
        self.write(progress::TOPICS, owner::KEY, Some(&claim))
    }

    /// Writes into the other partition of the progress that there is a new writer.
    pub(super) fn claim(&mut self) -> Result<(), End> {
        self.write(progress::CHUNKS, owner::KEY, Some(b"{}"))
    }

    /// Whether it is to go on with what takes long before anything can be copied. Gives a sign of life where it is time.
    pub(super) fn is_alive(&mut self) -> bool {
        !self.shared.stopping() && (!self.must_sign() || self.commit().is_ok())
    }

    /// Commits what was read, and leaves the place to others.
    pub(super) fn leave(&mut self) -> Result<(), End> {
        self.begin()?;
        self.signed = Instant::now();
        self.write(progress::TOPICS, owner::KEY, None)?;
        self.commit()
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
        (slot.chunk.done, slot.chunk.epoch) = (slot.next, slot.epoch);
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
    pub(super) fn write(
        &mut self,
        partition: i32,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), End> {
        let topic = self.settings.progress_topic();
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&topic, Origin::progress().number())
                .partition(partition)
                .key(key.as_bytes());
        if let Some(value) = value {
            record = record.payload(value);
        }
        self.send(record).map_err(|fault| self.unsent(None, &fault))
    }

    /// Gives a record to the producer. Waits while its queue is full, or while it does not know the partition yet.
    pub(super) fn send(&self, mut record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), Native> {
        let mut fault = match self.producer.send(record) {
            Ok(()) => return Ok(()),
            Err((fault, back)) => {
                record = back;
                fault
            }
        };
        let mut empty = false;
        let end = Instant::now() + PATIENCE;
        loop {
            match fault.rdkafka_error_code() {
                // The queue is empty: the record will never fit.
                Some(Code::QueueFull) if empty => return Err(fault),
                Some(Code::QueueFull) => {
                    self.producer.poll(Duration::from_millis(1));
                    empty = self.producer.in_flight_count() == 0;
                }
                Some(Code::UnknownPartition | Code::UnknownTopic) => {
                    let client = self.producer.client();
                    let _ = client.fetch_metadata(Some(record.topic), ANSWER);
                    self.producer.poll(Duration::from_millis(50));
                }
                _ => return Err(fault),
            }
            if self.producer.context().failed() || self.is_late(end) {
                return Err(fault);
            }
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((again, back)) => (fault, record) = (again, back),
            }
        }
    }

    /// The producer has not taken a record, of this slot if it is not of the progress. Where the transaction has failed, what became of
    /// the records before says why.
    pub(super) fn unsent(&mut self, slot: Option<usize>, fault: &Native) -> End {
        let full = fault.rdkafka_error_code() == Some(Code::QueueFull);
        if full
            && self.producer.in_flight_count() == 0
            && let Some(slot) = slot.and_then(|slot| self.slots.get(slot))
        {
            return self.too_large(slot.topic, slot.partition, slot.next - 1);
        }
        match self.arrived(Instant::now() + SLICE) {
            Err(End::Passing(_)) | Ok(_) => self.lost("write to the target", fault),
            Err(end) => end,
        }
    }

    /// Waits until the target has all that was sent, and gives what it has told of it.
    fn arrived(&mut self, end: Instant) -> Result<Reported, End> {
        while self.producer.in_flight_count() > 0 && !self.producer.context().failed() {
            self.producer.poll(Duration::from_millis(1));
            if self.is_late(end) {
                self.kept.allowance.failed();
                return Err(self.too_late("write to the target"));
            }
            if self.open.is_some() && self.must_sign() {
                self.sign()?;
            }
        }
        let reported = self.producer.context().take();
        match reported.failed {
            Some((slot, code)) => Err(self.refused(slot, code)),
            None => Ok(reported),
        }
    }

    fn commit_transaction(&mut self, end: Instant) -> Result<(), End> {
        loop {
            match self.producer.commit_transaction(SLICE) {
                Ok(()) => return Ok(()),
                Err(Native::Transaction(fault)) if fault.is_retriable() => {
                    if self.is_late(end) {
                        return Err(self.too_late("commit on the target"));
                    }
                }
                Err(fault) => return Err(self.lost("commit on the target", &fault)),
            }
        }
    }

    /// Whether the target is not waited for any longer.
    fn is_late(&self, end: Instant) -> bool {
        Instant::now() >= end || self.shared.overdue()
    }

    fn too_late(&self, attempted: &str) -> End {
        if self.shared.overdue() {
            return End::Stopped;
        }
        End::Passing(format!("{attempted}: it does not answer, or not in time"))
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
                // For now: it may be that this broker has not heard of it yet.
                None => return Err(End::Passing(gone(name))),
                Some(known) if known.id != topic.planned.source_id => {
                    made_anew(self.settings, name, "source")
                }
                Some(_) => continue,
            };
            return Err(self.stop_topic(*index, why));
        }
        Ok(())
    }
}
