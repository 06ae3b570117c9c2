//! What the reader's thread has ready for the flow.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use tokio::sync::Notify;

use super::group::Membership;
use crate::record::{Lane, Record};
use crate::source::{Gained, Release, SourceError};

/// The hand-over between the reader's thread and the flow. Records are bounded, and what is revoked leaves it at once.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Something is there.
    ready: Notify,
    /// Nobody takes anything any more.
    closed: AtomicBool,
    /// The reader's thread, that waits for room or for librdkafka.
    reader: OnceLock<Thread>,
    limit: usize,
}

/// What is handed over.
pub(super) enum Item {
    Gained(Vec<Gained>, Arc<Membership>),
    Records(Vec<Record>, usize),
    Revoked(Vec<Lane>, Release),
    Lost(Vec<Lane>),
    Fault(SourceError),
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::default(),
            ready: Notify::new(),
            closed: AtomicBool::new(false),
            reader: OnceLock::new(),
            limit,
        }
    }

    pub(super) fn push(&self, item: Item) {
        let mut inner = self.lock();
        if let Item::Records(_, bytes) = &item {
            inner.bytes += bytes;
        }
        inner.items.push_back(item);
        drop(inner);
        self.ready.notify_one();
    }

    /// Records of lanes that are gone: nobody is to start them.
    pub(super) fn forget_records(&self) {
        let mut inner = self.lock();
        inner.bytes = 0;
        inner
            .items
            .retain(|item| !matches!(item, Item::Records(..)));
    }

    /// The next item, as soon as there is one; without `room` no records. Nothing is taken where the future is dropped before.
    pub(super) async fn next(&self, room: bool) -> Item {
        loop {
            if let Some(item) = self.pop(room) {
                return item;
            }
            self.ready.notified().await;
        }
    }

    fn pop(&self, room: bool) -> Option<Item> {
        let mut inner = self.lock();
        let was_full = inner.bytes >= self.limit;
        let is_wanted = |item: &Item| room || !matches!(item, Item::Records(..));
        let wanted = inner.items.iter().position(is_wanted);
        let item = wanted.and_then(|at| inner.items.remove(at));
        if let Some(Item::Records(_, bytes)) = &item {
            inner.bytes = inner.bytes.saturating_sub(*bytes);
        }
        let has_room = inner.bytes < self.limit;
        drop(inner);
        if was_full && has_room {
            self.wake();
        }
        item
    }

    pub(super) fn has_room(&self) -> bool {
        self.lock().bytes < self.limit
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Tells which thread is to be woken: the one that calls this.
    pub(super) fn read_here(&self) {
        let _ = self.reader.set(std::thread::current());
    }

    pub(super) fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
