//! What the shards' tasks have ready for the flow.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::room::{Room, Taken};
use crate::record::{Lane, Record};
use crate::source::{Event, SourceError};

/// How many bytes of records wait to be taken, beside a batch that is being unwrapped.
pub(super) const WAITING: usize = 16 << 20;

/// The hand-over between the shards' tasks and the flow. The records are bounded by their bytes.
pub(super) struct Queue {
    items: Mutex<VecDeque<Item>>,
    ready: Notify,
    room: Room,
}

/// What is handed over.
pub(super) enum Item {
    /// Anything but records.
    Event(Event),
    /// Records.
    Records {
        /// In the order of their lane, never empty.
        records: Vec<Record>,
        /// The room that they take.
        _room: Taken,
    },
    /// Why there is nothing.
    Fault(SourceError),
}

impl Queue {
    /// `most` is how many bytes one entry can become.
    pub(super) fn new(most: usize) -> Self {
        Self {
            items: Mutex::default(),
            ready: Notify::new(),
            room: Room::new(most, WAITING),
        }
    }

    /// Room for a batch, as soon as there is.
    pub(super) async fn room(&self) -> Taken {
        self.room.take().await
    }

    pub(super) fn push(&self, item: Item) {
        self.locked().push_back(item);
        self.ready.notify_one();
    }

    /// Records of a lane that is gone: nobody is to start them.
    pub(super) fn forget(&self, lanes: &[Lane]) {
        self.locked().retain(|item| match item {
            Item::Records { records, .. } => !records
                .first()
                .is_some_and(|record| lanes.contains(&record.lane)),
            Item::Event(Event::Ended { lane, .. }) => !lanes.contains(lane),
            _ => true,
        });
    }

    /// The next item, as soon as there is one; without `room` no records, and no end of a lane of which records wait. Nothing is taken
    /// where the future is dropped before.
    pub(super) async fn next(&self, room: bool) -> Item {
        loop {
            if let Some(item) = self.pop(room) {
                return item;
            }
            self.ready.notified().await;
        }
    }

    /// How many bytes of records wait.
    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        let items = self.locked();
        let records = items.iter().filter_map(|item| match item {
            Item::Records { records, .. } => Some(records),
            _ => None,
        });
        records.flatten().map(Record::size).sum()
    }

    fn pop(&self, room: bool) -> Option<Item> {
        let mut items = self.locked();
        if room {
            return items.pop_front();
        }
        let mut waiting: Vec<&Lane> = Vec::new();
        let at = items.iter().position(|item| match item {
            Item::Records { records, .. } => {
                waiting.extend(records.first().map(|record| &record.lane));
                false
            }
            Item::Event(Event::Ended { lane, .. }) => !waiting.contains(&lane),
            _ => true,
        })?;
        items.remove(at)
    }

    fn locked(&self) -> MutexGuard<'_, VecDeque<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
