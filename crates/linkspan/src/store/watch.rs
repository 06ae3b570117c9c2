//! Telling those who wait in this process: for one job's next change, for work, or for whatever changes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linkspan_model::{DeliveryId, DeliveryState, InvocationId, JobState};
use tokio::sync::{Notify, broadcast, watch};

use super::deliveries::Endpoint;

/// How many events a slow listener may lag behind; older ones are lost to it.
const LAG: usize = 1024;

/// The changes of a store's jobs, told after they are durable. Cheap to clone; every clone tells the same.
///
/// Only this process's changes are told. Whoever must not miss one makes a [`Watch`] first, then reads the job, then waits.
#[derive(Clone, Default)]
pub struct Watchers {
    shared: Arc<Shared>,
}

/// One job, watched until this is dropped.
pub struct Watch {
    id: InvocationId,
    seen: watch::Receiver<Option<Change>>,
    shared: Arc<Shared>,
}

/// A job's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The job's version since then.
    pub version: u64,
    /// Its state; none where it was deleted.
    pub state: Option<JobState>,
}

/// What changed, for those who look at the whole store: the console's event stream. It tells that something is to be read again; it
/// is not the thing itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A job.
    Job {
        /// The invocation.
        id: InvocationId,
        /// The integration that was invoked.
        integration: String,
        /// Who invoked it: what a listener may be told depends on it.
        caller: String,
        /// Its state; none where it was deleted, and its deliveries with it.
        state: Option<JobState>,
        /// Its version since then.
        version: u64,
    },
    /// A delivery.
    Delivery {
        /// The delivery.
        id: DeliveryId,
        /// The job whose result it carries.
        job: InvocationId,
        /// Where it goes.
        endpoint: Endpoint,
        /// Who invoked the job.
        caller: String,
        /// Its state.
        state: DeliveryState,
        /// Its version since then.
        version: u64,
    },
    /// An endpoint was paused or goes on, with all its deliveries: they are not told one by one.
    Endpoint(Endpoint),
}

struct Shared {
    jobs: Mutex<HashMap<InvocationId, watch::Sender<Option<Change>>>>,
    work: Notify,
    delivery_work: Notify,
    events: broadcast::Sender<Event>,
}

impl Watchers {
    /// Watches a job, whether it exists or not.
    #[must_use]
    pub fn watch(&self, id: InvocationId) -> Watch {
        let seen = self
            .shared
            .jobs()
            .entry(id)
            .or_insert_with(|| watch::Sender::new(None))
            .subscribe();
        Watch {
            id,
            seen,
            shared: Arc::clone(&self.shared),
        }
    }

    /// How many watch a job now.
    #[must_use]
    pub fn count(&self, id: InvocationId) -> usize {
        let jobs = self.shared.jobs();
        jobs.get(&id).map_or(0, watch::Sender::receiver_count)
    }

    /// The jobs that are watched now. For stores whose jobs others change too.
    #[must_use]
    pub fn watched(&self) -> Vec<InvocationId> {
        self.shared.jobs().keys().copied().collect()
    }

    /// Waits until a job was queued since the last call. For one runner: of several, one is woken.
    pub async fn work(&self) {
        self.shared.work.notified().await;
    }

    /// Waits until a delivery became pending since the last call. For one sender: of several, one is woken.
    pub async fn delivery_work(&self) {
        self.shared.delivery_work.notified().await;
    }

    /// Every change from now on. Who falls behind by more than a thousand is told so, and goes on with what is left.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Tells a change to all who listen, and a job's also to those who watch it. For stores, after the change is durable.
    pub fn publish(&self, event: Event) {
        if let Event::Job {
            id, state, version, ..
        } = event
        {
            self.tell(id, Change { version, state });
        }
        // An error means that nobody listens.
        let _ = self.shared.events.send(event);
    }

    /// Tells a job's change to those who watch it.
    pub fn tell(&self, id: InvocationId, change: Change) {
        if let Some(sender) = self.shared.jobs().get(&id) {
            sender.send_modify(|last| {
                // Two transactions' changes may be told out of order by a store with several connections.
                if last.is_none_or(|last| last.version <= change.version) {
                    *last = Some(change);
                }
            });
        }
    }

    /// Tells that a job was queued. For stores.
    pub fn tell_work(&self) {
        self.shared.work.notify_one();
    }

    /// Tells that a delivery became pending. For stores.
    pub fn tell_delivery_work(&self) {
        self.shared.delivery_work.notify_one();
    }
}

impl Watch {
    /// The job's next change since the watch was made or this was last called; of several, the last one. Cancel safe.
    pub async fn changed(&mut self) -> Change {
        loop {
            if self.seen.changed().await.is_err() {
                // The sender lives as long as its watches.
                std::future::pending::<()>().await;
            }
            if let Some(change) = *self.seen.borrow_and_update() {
                return change;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut jobs = self.shared.jobs();
        // This receiver is still counted.
        if jobs
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            jobs.remove(&self.id);
        }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            jobs: Mutex::default(),
            work: Notify::new(),
            delivery_work: Notify::new(),
            events: broadcast::Sender::new(LAG),
        }
    }
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, HashMap<InvocationId, watch::Sender<Option<Change>>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("watched", &self.shared.jobs().len())
            .finish()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: Change = Change {
        version: 2,
        state: Some(JobState::Running),
    };

    #[tokio::test]
    async fn a_watch_sees_the_last_change_since_it_was_made_and_leaves_nothing_behind() {
        let watchers = Watchers::default();
        let id = InvocationId::new();
        watchers.tell(id, RUNNING);
        let (mut first, mut second) = (watchers.watch(id), watchers.watch(id));
        watchers.tell(id, RUNNING);
        let done = Change {
            version: 3,
            state: Some(JobState::Succeeded),
        };
        watchers.tell(id, done);
        watchers.tell(id, RUNNING);
        assert_eq!(first.changed().await, done);
        drop(first);
        assert_eq!(second.changed().await, done);
        drop(second);
        assert!(watchers.shared.jobs().is_empty());
    }

    #[tokio::test]
    async fn work_that_came_before_the_wait_is_not_missed() {
        let watchers = Watchers::default();
        watchers.tell_work();
        watchers.work().await;
        watchers.tell_delivery_work();
        watchers.delivery_work().await;
    }

    #[tokio::test]
    async fn an_event_reaches_all_who_listen_and_a_jobs_also_those_who_watch_it() {
        let watchers = Watchers::default();
        let id = InvocationId::new();
        let event = Event::Job {
            id,
            integration: "bills".to_owned(),
            caller: "finance".to_owned(),
            state: RUNNING.state,
            version: RUNNING.version,
        };
        watchers.publish(event.clone());
        let (mut first, mut second) = (watchers.subscribe(), watchers.subscribe());
        let mut watch = watchers.watch(id);
        watchers.publish(event.clone());
        assert_eq!(watch.changed().await, RUNNING);
        for listener in [&mut first, &mut second] {
            assert_eq!(listener.recv().await, Ok(event.clone()));
            assert!(listener.is_empty(), "what was before is not told");
        }
    }
}
