//! What the shards' tasks have ready for the flow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::record::{Lane, Record};
use crate::source::{Event, SourceError};

/// The most batches that wait to be taken.
const BATCHES: usize = 16;

/// The hand-over between the shards' tasks and the flow. Batches of records are bounded.
pub(super) struct Queue {
    items: Mutex<VecDeque<Item>>,
    ready: Notify,
    places: Arc<Semaphore>,
}

/// What is handed over.
pub(super) enum Item {
    /// Anything but records.
    Event(Event),
    /// Records.
    Records {
        /// In the order of their lane, never empty.
        records: Vec<Record>,
        /// Their place, that another batch can take when this is dropped.
        _place: Option<OwnedSemaphorePermit>,
    },
    /// Why there is nothing.
    Fault(SourceError),
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            items: Mutex::default(),
            ready: Notify::new(),
            places: Arc::new(Semaphore::new(BATCHES)),
        }
    }

    /// A place for a batch, as soon as there is one.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok()
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
