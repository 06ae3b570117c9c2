//! How much work an integration takes at once, and how much may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The door of one integration, shared by its synchronous calls and its jobs.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
    freed: Arc<Notify>,
}

/// A place in the queue before the gate.
#[derive(Debug)]
pub struct Ticket {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    freed: Arc<Notify>,
}

/// A place inside; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _freed: Freed,
}

/// Rings when a place is free again: after the permit beside it was dropped, because fields drop in their order.
#[derive(Debug)]
struct Freed(Arc<Notify>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Gate {
    /// A gate for `concurrency` calls at once, with at most `queue` waiting. `freed` is told of each place that gets free.
    #[must_use]
    pub fn new(concurrency: usize, queue: usize, freed: Arc<Notify>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(concurrency)),
            waiting: Arc::new(AtomicUsize::new(0)),
            queue,
            freed,
        }
    }

    /// Joins the queue, or says at once that it is full.
    #[must_use]
    pub fn join(&self) -> Option<Ticket> {
        let ticket = Ticket {
            places: self.places.clone(),
            waiting: self.waiting.clone(),
            freed: self.freed.clone(),
        };
        // Whoever finds a free place does not wait; with none free, `queue` may.
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        (before < self.queue + self.places.available_permits()).then_some(ticket)
    }

    /// Up to `limit` places that are free now, for jobs.
    #[must_use]
    pub fn take(&self, limit: usize) -> Vec<Place> {
        std::iter::from_fn(|| self.places.clone().try_acquire_owned().ok())
            .take(limit)
            .map(|permit| Place::new(permit, self.freed.clone()))
            .collect()
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

impl Ticket {
    /// Waits for a place, first come, first served. Dropping the future leaves the queue.
    pub async fn enter(self) -> Place {
        loop {
            // The semaphore is never closed; were it, waiting for ever would be cut off by the deadline.
            if let Ok(permit) = self.places.clone().acquire_owned().await {
                return Place::new(permit, self.freed.clone());
            }
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, freed: Arc<Notify>) -> Self {
        Self {
            _permit: permit,
            _freed: Freed(freed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beyond_the_bound_the_queue_is_full_at_once() {
        let gate = Gate::new(1, 1, Arc::default());
        let inside = gate.join().unwrap().enter().await;
        let waiting = gate.join().unwrap();
        assert!(gate.join().is_none());
        assert_eq!(gate.waiting(), 1);
        drop(inside);
        let second = waiting.enter().await;
        let third = gate.join().unwrap();
        assert!(gate.join().is_none());
        drop((second, third));
        assert!(gate.join().is_some());
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn a_freed_place_is_told() {
        let freed = Arc::new(Notify::new());
        let gate = Gate::new(2, 0, freed.clone());
        let places = gate.take(5);
        assert_eq!(places.len(), 2);
        assert!(gate.join().is_none());
        drop(places);
        freed.notified().await;
        assert_eq!(gate.take(1).len(), 1);
    }
}
