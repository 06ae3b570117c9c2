//! How much work an integration takes at once, and how much may wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The door of one integration, shared by its synchronous calls and its jobs.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    looked_at: Arc<AtomicUsize>,
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
    freed: Freed,
    looked_at: Option<LookedAt>,
}

/// Counts a place that is taken and not yet occupied.
#[derive(Debug)]
struct LookedAt(Arc<AtomicUsize>);

impl LookedAt {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }
}

impl Drop for LookedAt {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Rings when a place is free again: after the permit beside it was dropped, because fields drop in their order.
#[derive(Debug)]
struct Freed(Option<Arc<Notify>>);

impl Drop for Freed {
    fn drop(&mut self) {
        if let Some(freed) = &self.0 {
            freed.notify_one();
        }
    }
}

impl Gate {
    /// A gate for `concurrency` calls at once, with at most `queue` waiting. `freed` is told of each place that gets free.
    #[must_use]
    pub fn new(concurrency: usize, queue: usize, freed: Arc<Notify>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(concurrency)),
            waiting: Arc::default(),
            looked_at: Arc::default(),
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
        (before < self.room()).then_some(ticket)
    }

    /// Up to `limit` places that are free now, for jobs. Each is to be occupied or given back soon.
    #[must_use]
    pub fn take(&self, limit: usize) -> Vec<Place> {
        std::iter::from_fn(|| self.places.clone().try_acquire_owned().ok())
            .take(limit)
            .map(|permit| Place {
                looked_at: Some(LookedAt::new(&self.looked_at)),
                ..Place::new(permit, self.freed.clone())
            })
            .collect()
    }

    /// Whether nobody may join now: said before a body is read, [`Gate::join`] decides.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting() >= self.room()
    }

    /// How many may wait now. Places that the runner took and has no job for yet count as free: most are given back at once.
    fn room(&self) -> usize {
        self.queue + self.places.available_permits() + self.looked_at.load(Ordering::Acquire)
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
            freed: Freed(Some(freed)),
            looked_at: None,
        }
    }

    /// Says that the place is used.
    pub fn occupy(&mut self) {
        self.looked_at = None;
    }

    /// Gives the place back without a word, where it was taken and not needed.
    pub fn give_back(mut self) {
        self.freed.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

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
        let mut places = gate.take(5);
        assert_eq!(places.len(), 2);
        places.iter_mut().for_each(Place::occupy);
        assert!(gate.join().is_none());
        drop(places);
        freed.notified().await;
        assert_eq!(gate.take(1).len(), 1);
    }

    #[tokio::test]
    async fn a_place_that_was_not_needed_is_given_back_without_a_word() {
        let freed = Arc::new(Notify::new());
        let gate = Gate::new(2, 0, freed.clone());
        gate.take(2).into_iter().for_each(Place::give_back);
        assert!(freed.notified().now_or_never().is_none());
        assert!(!gate.is_full());
        let mut needed = gate.take(2);
        assert!(!gate.is_full(), "they may be given back at once");
        needed.iter_mut().for_each(Place::occupy);
        assert!(gate.is_full());
        drop(needed);
        assert!(freed.notified().now_or_never().is_some());
    }
}
