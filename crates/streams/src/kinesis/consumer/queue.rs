//! What the shards' readers have ready for the flow: bounded bytes, and nothing of a lane that is gone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::kinesis::room::{Room, Taken};
use crate::record::{Lane, Record};
use crate::source::{Event, Gained, Release, SourceError};

/// A reader's right to put something of its lane into the queue: over when the lane is closed, whatever the reader is at.
pub(super) type Ticket = u64;

/// The hand-over between the readers and the flow.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
    /// For what is fetched and not unwrapped: a permit a byte.
    room: Arc<Semaphore>,
    limit: usize,
    /// For what is unwrapped and not taken.
    unwrapped: Room,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    open: HashMap<Lane, Ticket>,
    next: Ticket,
}

enum Item {
    Gained(Gained),
    Records(
        Vec<Record>,
        Lane,
        #[expect(dead_code, reason = "given back when it is dropped")] Taken,
    ),
    Revoked(Lane, Release),
    Lost(Lane),
    Ended(Lane, Release),
    Fault(SourceError),
}

impl Queue {
    /// `most` is how many bytes one record can become.
    pub(super) fn new(limit: usize, most: usize) -> Self {
        let limit = limit.clamp(1, u32::MAX as usize >> 1);
        Self {
            inner: Mutex::default(),
            ready: Notify::new(),
            room: Arc::new(Semaphore::new(limit)),
            limit,
            unwrapped: Room::new(most, limit),
        }
    }

    /// Room for fetching so many bytes, as soon as what was fetched before is unwrapped; all of the room where that is less. In turn.
    pub(super) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(self.limit)).unwrap_or(u32::MAX);
        self.room.clone().acquire_many_owned(bytes).await.ok()
    }

    /// Room for a batch of records that are to be unwrapped, as soon as what was unwrapped before is taken. In turn.
    pub(super) async fn room_to_unwrap(&self) -> Taken {
        self.unwrapped.take().await
    }

    /// Opens a lane for a reader.
    pub(super) fn open(&self, lane: &Lane) -> Ticket {
        let mut inner = self.lock();
        inner.next += 1;
        let ticket = inner.next;
        inner.open.insert(lane.clone(), ticket);
        ticket
    }

    /// Nothing more of a lane comes, and what is there is dropped.
    pub(super) fn close(&self, lane: &Lane) {
        let mut inner = self.lock();
        inner.open.remove(lane);
        inner.items.retain(|item| item.lane() != Some(lane));
    }

    /// The lane is read from here on.
    pub(super) fn gained(&self, ticket: Ticket, gained: Gained) {
        let lane = gained.lane.clone();
        self.push(Some((&lane, ticket)), Item::Gained(gained));
    }

    /// Records of the lane, in order, and the room for them: what they do not need is given back at once, and the rest as they are taken.
    pub(super) fn records(
        &self,
        ticket: Ticket,
        lane: &Lane,
        records: Vec<Record>,
        mut room: Taken,
    ) {
        const MOST: (usize, usize) = (500, 1 << 20);
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut push = |batch: &mut Vec<Record>, bytes: usize| {
            let part = room.split(bytes);
            let item = Item::Records(std::mem::take(batch), lane.clone(), part);
            self.push(Some((lane, ticket)), item);
        };
        let mut records = records.into_iter().peekable();
        while let Some(record) = records.next() {
            bytes += record.size();
            batch.push(record);
            let last = records.peek().is_none();
            if last || batch.len() >= MOST.0 || bytes >= MOST.1 {
                push(&mut batch, bytes);
                bytes = 0;
            }
        }
    }

    /// The lane has no more records than those that were put in before.
    pub(super) fn ended(&self, ticket: Ticket, lane: &Lane, release: Release) {
        self.push(Some((lane, ticket)), Item::Ended(lane.clone(), release));
    }

    /// The lane is given up; it is closed already.
    pub(super) fn revoked(&self, lane: Lane, release: Release) {
        self.push(None, Item::Revoked(lane, release));
    }

    /// The lane is another's; it is closed already.
    pub(super) fn lost(&self, lane: Lane) {
        self.push(None, Item::Lost(lane));
    }

    /// Something went wrong.
    pub(super) fn fault(&self, fault: SourceError) {
        self.push(None, Item::Fault(fault));
    }

    /// The next event, as soon as there is one; without `room` no records. Nothing is taken where the future is dropped before.
    pub(super) async fn next(&self, room: bool) -> Result<Event, SourceError> {
        loop {
            if let Some(item) = self.pop(room) {
                return match item {
                    Item::Gained(gained) => Ok(Event::Gained(vec![gained])),
                    Item::Records(records, ..) => Ok(Event::Records(records)),
                    Item::Revoked(lane, release) => Ok(Event::Revoked {
                        lanes: vec![lane],
                        release,
                    }),
                    Item::Lost(lane) => Ok(Event::Lost(vec![lane])),
                    Item::Ended(lane, release) => Ok(Event::Ended { lane, release }),
                    Item::Fault(fault) => Err(fault),
                };
            }
            self.ready.notified().await;
        }
    }

    fn push(&self, of: Option<(&Lane, Ticket)>, item: Item) {
        let mut inner = self.lock();
        if of.is_none_or(|(lane, ticket)| inner.open.get(lane) == Some(&ticket)) {
            inner.items.push_back(item);
            drop(inner);
            self.ready.notify_one();
        }
    }

    fn pop(&self, room: bool) -> Option<Item> {
        let mut inner = self.lock();
        let at = if room {
            0
        } else {
            // The end of a lane comes after its records.
            inner
                .items
                .iter()
                .enumerate()
                .position(|(at, item)| match item {
                    Item::Records(..) => false,
                    Item::Ended(lane, _) => {
                        let mut before = inner.items.iter().take(at);
                        !before.any(|item| item.lane() == Some(lane))
                    }
                    _ => true,
                })?
        };
        inner.items.remove(at)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    /// The lane of what only its reader says.
    fn lane(&self) -> Option<&Lane> {
        match self {
            Self::Gained(gained) => Some(&gained.lane),
            Self::Records(_, lane, _) | Self::Ended(lane, _) => Some(lane),
            Self::Revoked(..) | Self::Lost(_) | Self::Fault(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::flow::Progress;
    use crate::record::Position;
    use crate::source::Term;

    fn records(lane: &Lane, count: u64) -> Vec<Record> {
        let record = |ordinal| Record {
            lane: lane.clone(),
            ordinal,
            position: Position::number(ordinal),
            key: None,
            value: Some(Bytes::from_static(&[7; 1000])),
            headers: Vec::new(),
            timestamp: None,
            defect: None,
        };
        (0..count).map(record).collect()
    }

    fn taken(queue: &Queue, room: bool) -> Option<Event> {
        queue.next(room).now_or_never().map(Result::unwrap)
    }

    #[tokio::test]
    async fn without_room_no_records_come_and_the_end_of_a_lane_waits_for_them() {
        let queue = Queue::new(1 << 20, 1 << 20);
        let (one, other) = (Lane::new("one"), Lane::new("other"));
        let (at_one, at_other) = (queue.open(&one), queue.open(&other));
        queue.records(at_one, &one, records(&one, 3), Taken::default());
        queue.ended(at_one, &one, Release::new().0);
        queue.ended(at_other, &other, Release::new().0);
        assert!(matches!(taken(&queue, false), Some(Event::Ended { lane, .. }) if lane == other));
        assert!(taken(&queue, false).is_none());
        assert!(matches!(taken(&queue, true), Some(Event::Records(records)) if records.len() == 3));
        assert!(matches!(taken(&queue, false), Some(Event::Ended { lane, .. }) if lane == one));
    }

    #[tokio::test]
    async fn of_a_closed_lane_nothing_comes_also_when_it_is_opened_again() {
        let queue = Queue::new(1 << 20, 1 << 20);
        let lane = Lane::new("lane");
        let before = queue.open(&lane);
        queue.records(before, &lane, records(&lane, 3), Taken::default());
        queue.close(&lane);
        queue.lost(lane.clone());
        let after = queue.open(&lane);
        queue.records(before, &lane, records(&lane, 3), Taken::default());
        let gained = Gained {
            lane: lane.clone(),
            term: Term::default(),
            progress: Progress::default(),
        };
        queue.gained(before, gained.clone());
        queue.gained(after, gained);
        assert!(matches!(taken(&queue, true), Some(Event::Lost(_))));
        assert!(matches!(taken(&queue, true), Some(Event::Gained(_))));
        assert!(taken(&queue, true).is_none());
    }

    #[tokio::test]
    async fn room_comes_back_as_records_are_taken_and_in_small_parts() {
        let queue = Queue::new(1 << 20, 1 << 20);
        let lane = Lane::new("lane");
        let ticket = queue.open(&lane);
        let room = queue.room_to_unwrap().await;
        assert!(queue.room_to_unwrap().now_or_never().is_none());
        queue.records(ticket, &lane, records(&lane, 1200), room);
        let mut sizes = Vec::new();
        while let Some(Event::Records(records)) = taken(&queue, true) {
            sizes.push(records.len());
            // What waits is less than what may wait beside a batch that is being unwrapped.
            assert!(queue.room_to_unwrap().now_or_never().is_some());
        }
        assert_eq!(sizes, [500, 500, 200]);
        let room = queue.room(usize::MAX).await;
        assert!(queue.room(1).now_or_never().is_none());
        drop(room);
        assert!(queue.room(1).now_or_never().is_some());
    }
}
