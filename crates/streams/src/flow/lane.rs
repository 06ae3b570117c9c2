//! One lane of a flow: which records are open, done, given on; a pure state, without time and without I/O.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{Failure, Order, Output, Progress};
use crate::record::{Lane, Position, Record};

/// The most ranges beyond the prefix: their text must fit where Kafka keeps an offset's metadata (4 KiB).
const MAX_RANGES: usize = 128;

/// A lane's records that are not committed as part of the prefix yet. Each has a sequence number, by one from record to record.
#[derive(Debug)]
pub(super) struct LaneState<O> {
    lane: Lane,
    order: Order,
    /// The sequence number of the first slot. That one is never given.
    first: u64,
    slots: VecDeque<Slot<O>>,
    /// The sequence numbers of each key that are not given, ascending ([`Order::Key`]).
    keys: HashMap<Bytes, VecDeque<u64>>,
    /// What may be given now, beyond the order of the lane ([`Order::Key`], [`Order::None`]).
    ready: BTreeSet<u64>,
    /// How many runs of given slots there are.
    runs: usize,
    /// The ordinals that an earlier run gave beyond the prefix.
    given_before: Vec<(u64, u64)>,
    last: Option<(u64, Position)>,
}

#[derive(Debug)]
struct Slot<O> {
    record: Arc<Record>,
    taken: Timestamp,
    state: State<O>,
}

#[derive(Debug)]
enum State<O> {
    Open { attempts: u32 },
    Done(Result<O, Failure>, u32),
    Given,
}

impl<O> LaneState<O> {
    /// A lane that is committed so far.
    pub(super) fn new(lane: Lane, order: Order, progress: Progress) -> Self {
        Self {
            lane,
            order,
            first: 0,
            slots: VecDeque::new(),
            keys: HashMap::new(),
            ready: BTreeSet::new(),
            runs: 0,
            given_before: progress.beyond,
            last: progress.last,
        }
    }

    pub(super) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Takes a record that is to be worked on and gives its sequence number; none where it was given on before.
    pub(super) fn take(&mut self, record: Arc<Record>, now: Timestamp) -> Option<u64> {
        let ordinal = record.ordinal;
        let before = self
            .given_before
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&ordinal));
        let sequence = self.first + self.slots.len() as u64;
        if before {
            let joined = self.is_given(sequence.wrapping_sub(1));
            self.slots.push_back(Slot {
                record,
                taken: now,
                state: State::Given,
            });
            self.runs += usize::from(!joined);
            self.pass();
            return None;
        }
        if self.order == Order::Key
            && let Some(key) = &record.key
        {
            self.keys
                .entry(key.clone())
                .or_default()
                .push_back(sequence);
        }
        self.slots.push_back(Slot {
            record,
            taken: now,
            state: State::Open { attempts: 0 },
        });
        Some(sequence)
    }

    /// Counts a try of an open record and gives the record.
    pub(super) fn begin(&mut self, sequence: u64) -> Option<Arc<Record>> {
        let slot = self.slot_mut(sequence)?;
        match &mut slot.state {
            State::Open { attempts } => *attempts += 1,
            _ => return None,
        }
        Some(Arc::clone(&slot.record))
    }

    /// How often an open record was tried.
    pub(super) fn attempts(&self, sequence: u64) -> Option<u32> {
        match self.slot(sequence)?.state {
            State::Open { attempts } => Some(attempts),
            _ => None,
        }
    }

    /// The first record that is neither done nor given.
    pub(super) fn head(&self) -> Option<u64> {
        // In the order of the lane all done slots before it wait to be gathered; they are few.
        let at = self
            .slots
            .iter()
            .position(|slot| matches!(slot.state, State::Open { .. }))?;
        Some(self.first + at as u64)
    }

    /// Settles an open record. Changes nothing where it is not open any more.
    pub(super) fn settle(&mut self, sequence: u64, outcome: Result<O, Failure>) -> bool {
        let Some(slot) = self.slot_mut(sequence) else {
            return false;
        };
        let State::Open { attempts } = slot.state else {
            return false;
        };
        slot.state = State::Done(outcome, attempts);
        let key = slot.record.key.clone();
        match self.order {
            Order::Lane => {}
            Order::None => {
                self.ready.insert(sequence);
            }
            Order::Key => {
                let first_of_key = key.is_none_or(|key| {
                    self.keys.get(&key).and_then(VecDeque::front) == Some(&sequence)
                });
                if first_of_key {
                    self.ready.insert(sequence);
                }
            }
        }
        true
    }

    /// How many are done and not given.
    pub(super) fn done(&self) -> usize {
        let done = |slot: &&Slot<O>| matches!(slot.state, State::Done(..));
        self.slots.iter().filter(done).count()
    }

    /// Whether anything may be given now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
            || self
                .slots
                .front()
                .is_some_and(|slot| matches!(slot.state, State::Done(..)))
    }

    /// What may be given now, at most so much, in the order in which it is to be given.
    pub(super) fn gather(&mut self, most: usize) -> Vec<Output<O>> {
        let mut outputs = Vec::new();
        while outputs.len() < most {
            let Some(sequence) = self.next_ready() else {
                break;
            };
            let left = sequence > self.first && self.is_given(sequence - 1);
            let right = self.is_given(sequence + 1);
            let runs = self.runs + 1 - usize::from(left) - usize::from(right);
            // The first slot closes the gap: it never adds a run for long.
            if sequence != self.first && runs > MAX_RANGES {
                break;
            }
            self.runs = runs;
            self.ready.remove(&sequence);
            outputs.extend(self.give(sequence));
            self.pass();
        }
        outputs
    }

    /// How far the lane is done, with everything that was gathered.
    pub(super) fn progress(&self) -> Progress {
        let mut beyond: Vec<(u64, u64)> = Vec::new();
        let mut joined = false;
        for slot in &self.slots {
            let ordinal = slot.record.ordinal;
            match slot.state {
                State::Given if joined => {
                    if let Some(range) = beyond.last_mut() {
                        range.1 = ordinal;
                    }
                }
                State::Given => beyond.push((ordinal, ordinal)),
                _ => {}
            }
            joined = matches!(slot.state, State::Given);
        }
        // What was given before and has not come again yet.
        let seen = self
            .slots
            .back()
            .map(|slot| slot.record.ordinal)
            .or(self.last.as_ref().map(|(ordinal, _)| *ordinal));
        let from = seen.map_or(0, |seen| seen + 1);
        let ahead = self
            .given_before
            .iter()
            .filter(|(_, last)| *last >= from)
            .map(|(first, last)| ((*first).max(from), *last));
        beyond.extend(ahead);
        Progress {
            last: self.last.clone(),
            beyond,
        }
    }

    /// Whether every record that was taken is given.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn next_ready(&self) -> Option<u64> {
        if self.order == Order::Lane {
            let front = self.slots.front()?;
            return matches!(front.state, State::Done(..)).then_some(self.first);
        }
        self.ready.first().copied()
    }

    fn give(&mut self, sequence: u64) -> Option<Output<O>> {
        let slot = self.slot_mut(sequence)?;
        let State::Done(outcome, attempts) = std::mem::replace(&mut slot.state, State::Given)
        else {
            return None;
        };
        let output = Output {
            record: Arc::clone(&slot.record),
            outcome,
            attempts,
            taken: slot.taken,
        };
        if self.order == Order::Key
            && let Some(key) = &output.record.key
            && let Some(waiting) = self.keys.get_mut(key)
        {
            waiting.pop_front();
            match waiting.front().copied() {
                None => {
                    self.keys.remove(key);
                }
                Some(next) if self.is_done(next) => {
                    self.ready.insert(next);
                }
                Some(_) => {}
            }
        }
        Some(output)
    }

    /// Lets go of the given slots at the front: the prefix grows.
    fn pass(&mut self) {
        let mut passed = false;
        while let Some(front) = self.slots.front()
            && matches!(front.state, State::Given)
        {
            self.last = Some((front.record.ordinal, front.record.position.clone()));
            self.slots.pop_front();
            self.first += 1;
            passed = true;
        }
        self.runs -= usize::from(passed);
    }

    fn is_given(&self, sequence: u64) -> bool {
        self.slot(sequence)
            .is_some_and(|slot| matches!(slot.state, State::Given))
    }

    fn is_done(&self, sequence: u64) -> bool {
        self.slot(sequence)
            .is_some_and(|slot| matches!(slot.state, State::Done(..)))
    }

    fn slot(&self, sequence: u64) -> Option<&Slot<O>> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.slots.get(at)
    }

    fn slot_mut(&mut self, sequence: u64) -> Option<&mut Slot<O>> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(at)
    }
}
