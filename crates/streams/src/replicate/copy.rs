//! The copying itself: one thread reads, writes and commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::BaseRecord;

use super::State;
use super::positions;
use super::replicator::End;
use super::reports::Origin;
use super::session::{Session, Slot};
use super::settings::LONGEST;

/// What goes on between two looks at the clock.
struct Pace {
    /// Records since the last look, and the bytes of their keys and values.
    count: u32,
    bytes: usize,
    /// When positions and status were seen to last.
    seen: Instant,
    /// When it was last looked whether the reading stands behind the last record.
    stood: Instant,
    /// How long the last commit took.
    commit: Duration,
    /// The topic and partition of the last record, as librdkafka has them, and their slot.
    last: Option<(usize, i32, usize)>,
}

/// Records between two looks at the clock, and between two looks at what was acknowledged.
const STRETCH: u32 = 256;

/// Bytes between the same.
const STRETCH_BYTES: usize = 1 << 20;

/// How often positions and status are seen to.
const SEEN: Duration = Duration::from_millis(250);

/// How long the loop waits for a record when nothing is open.
const IDLE: Duration = Duration::from_millis(100);

/// How long the source may say nothing before that means something.
const MOMENT: Duration = Duration::from_millis(1);

impl Session<'_> {
    /// Copies until something ends it.
    pub(super) fn copy(&mut self) -> Result<(), End> {
        let consumer = Arc::clone(&self.consumer);
        let mut pace = Pace {
            count: 0,
            bytes: 0,
            seen: Instant::now(),
            stood: Instant::now(),
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
                    pace.bytes += message.key_len() + message.payload_len();
                    if pace.count < STRETCH && pace.bytes < STRETCH_BYTES {
                        continue;
                    }
                }
                Some(Err(fault)) => self.source_fault(&fault)?,
                None if self.is_over(&mut pace) => self.commit_timed(&mut pace)?,
                None => {}
            }
            (pace.count, pace.bytes) = (0, 0);
            self.between(&mut pace)?;
        }
    }

    /// Whether nothing waits to be copied, and has not for long enough. Where the source is known to hold more, its answer is only late.
    fn is_over(&mut self, pace: &mut Pace) -> bool {
        let linger = self.settings.linger;
        let open = self.open.as_ref();
        if open.is_none_or(|open| open.since.elapsed() < linger) {
            return false;
        }
        let behind = |slots: &[Slot]| slots.iter().any(|slot| slot.next < slot.end);
        if behind(&self.slots) && pace.stood.elapsed() >= linger {
            // What is there may be no record: behind the last one of a transaction stands its marker.
            pace.stood = Instant::now();
            self.positions();
        }
        !behind(&self.slots)
    }

    /// What is done every few records.
    fn between(&mut self, pace: &mut Pace) -> Result<(), End> {
        self.producer.poll(Duration::ZERO);
        let longest = (pace.commit * 8).clamp(self.settings.commit_every, LONGEST);
        let allowance = &self.kept.allowance;
        if let Some(open) = &self.open
            && (open.since.elapsed() >= longest || allowance.is_spent(open.bytes))
        {
            self.commit_timed(pace)?;
        }
        if self.open.is_some() && self.must_sign() {
            self.sign()?;
        }
        if self.shared.stopping() {
            self.leave()?;
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
            if self.open.is_none() && (self.advanced() || self.must_sign()) {
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
        if offset < slot.next {
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
        slot.next = offset + 1;
        let timestamp = message.timestamp().to_millis().unwrap_or(-1);
        slot.last = Some(timestamp);
        let size = (message.key_len() + message.payload_len()) as u64;
        slot.size += size;
        open.bytes += size;
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
        self.send(record)
            .map_err(|fault| self.unsent(Some(index), &fault))
    }

    pub(super) fn slot_of(&self, topic: &str, partition: i32) -> Option<usize> {
        let topic = self.topics.get(*self.by_name.get(topic)?)?;
        topic.slots.get(usize::try_from(partition).ok()?).copied()
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
    pub(super) fn positions(&mut self) {
        let Ok(list) = self.consumer.position() else {
            return;
        };
        positions::of(&list, |topic, partition, at| {
            if let Some(index) = self.slot_of(topic, partition)
                && let Some(slot) = self.slots.get_mut(index)
                && at.offset >= slot.next
            {
                slot.next = at.offset;
                slot.epoch = at.epoch.or(slot.epoch);
            }
        });
    }
}
