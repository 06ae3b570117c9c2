//! The group that a source reads in, as its committer sees it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::consumer::ConsumerGroupMetadata;
use tokio::sync::watch;

use super::ranges::Range;
use crate::record::Lane;

/// The group that a [`KafkaSource`](super::KafkaSource) reads in. The committer needs it to commit as that member of that generation:
/// brokers refuse the offsets of a member that the group has gone on without.
///
/// It follows what the *flow has seen*, not what the group has come to meanwhile: records that were taken under one generation can
/// never be committed under the next one, when another member may have had their lanes in between.
#[derive(Clone)]
pub struct Group(Arc<Shared>);

struct Shared {
    name: String,
    membership: Mutex<Option<Arc<Membership>>>,
    lags: Mutex<HashMap<Lane, u64>>,
    ended: watch::Sender<bool>,
}

/// One generation of the group, and what this member has of it.
pub(super) struct Membership {
    pub(super) metadata: ConsumerGroupMetadata,
    lanes: Mutex<HashMap<Lane, Committed>>,
}

/// How far a lane is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Committed {
    /// The next offset to be done.
    pub(super) next: u64,
    /// What is done beyond it.
    pub(super) beyond: Vec<Range>,
}

impl Group {
    pub(super) fn new(name: &str) -> Self {
        Self(Arc::new(Shared {
            name: name.to_owned(),
            membership: Mutex::default(),
            lags: Mutex::default(),
            ended: watch::channel(false).0,
        }))
    }

    /// The group's id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many records of each lane were not handed to the flow yet, as the cluster last told, every few seconds.
    #[must_use]
    pub fn lags(&self) -> HashMap<Lane, u64> {
        lock(&self.0.lags).clone()
    }

    /// Waits until the source, which was dropped before, has left the group and its thread has ended.
    pub async fn left(&self) {
        // The sender lives as long as this.
        let _ = self.0.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub(super) fn end(&self) {
        self.0.ended.send_replace(true);
    }

    pub(super) fn set_lags(&self, lags: HashMap<Lane, u64>) {
        *lock(&self.0.lags) = lags;
    }

    /// The flow sees a new generation, or that it has none.
    pub(super) fn enter(&self, membership: Option<Arc<Membership>>) {
        *lock(&self.0.membership) = membership;
    }

    pub(super) fn membership(&self) -> Option<Arc<Membership>> {
        lock(&self.0.membership).clone()
    }
}

impl Membership {
    pub(super) fn new(metadata: ConsumerGroupMetadata, lanes: HashMap<Lane, Committed>) -> Self {
        Self {
            metadata,
            lanes: Mutex::new(lanes),
        }
    }

    pub(super) fn committed(&self, lane: &Lane) -> Option<Committed> {
        lock(&self.lanes).get(lane).cloned()
    }

    pub(super) fn set_committed(&self, lane: &Lane, committed: Committed) {
        lock(&self.lanes).insert(lane.clone(), committed);
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.0.name).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
