//! Who reads which shard of an Amazon Kinesis stream, kept in the store: several gateways of one store share the shards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use linkspan_streams::kinesis::consumer::{Holder, Known, Leases, Note, Takeable, Taken};
use linkspan_streams::{Lane, Term};

use super::lanes::{Kept, Lanes};
use crate::gateway::Gateway;
use crate::logging;
use crate::store::{self, LaneStatus, StoreError, StreamCommitted};

/// The lanes of a reading as leases.
pub(super) struct StoreLeases {
    lanes: Arc<Lanes>,
    owner: String,
    /// What was taken and not released. Others renew `lanes` too: what is lost is what is here and not held there.
    taken: Mutex<HashMap<Lane, Term>>,
}

impl StoreLeases {
    /// The leases of a reading's lanes. Whoever commits does so under the same `lanes`.
    #[must_use]
    pub(super) fn new(gateway: &Gateway, lanes: Arc<Lanes>) -> Self {
        Self {
            lanes,
            owner: gateway.owner.clone(),
            taken: Mutex::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Lane, Term>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, notes: Vec<Kept>) -> Result<bool, String> {
        let committed = self.lanes.commit(notes, Vec::new()).await;
        Ok(committed.map_err(|error| said(&error))? == StreamCommitted::Done)
    }

    fn known(&self, status: LaneStatus, now: Timestamp) -> Result<Known, StoreError> {
        let progress = status.progress.as_deref();
        let progress = progress.map(|text| self.lanes.counting().read(text));
        let progress = progress.transpose()?;
        let is_held = status.until.is_some_and(|until| until > now);
        Ok(Known {
            lane: Lane::new(status.lane),
            holder: match status.owner.filter(|_| is_held) {
                None => Holder::Nobody,
                Some(owner) if owner == self.owner => Holder::Me,
                Some(owner) => Holder::Other(owner.into()),
            },
            progress,
            ended: status.ended,
        })
    }
}

#[async_trait]
impl Leases for StoreLeases {
    async fn take(&self, lanes: &[Lane], which: Takeable) -> Result<Vec<Taken>, String> {
        let which = match which {
            Takeable::Free => store::Takeable::Free,
            Takeable::Any => store::Takeable::Any,
        };
        let taken = self
            .lanes
            .take(lanes, which)
            .await
            .map_err(|error| said(&error))?;
        let taken = taken.into_iter().map(|taken| Taken {
            lane: taken.lane,
            term: taken.term,
            progress: taken.progress,
            ended: taken.ended,
        });
        let taken: Vec<_> = taken.collect();
        let terms = taken.iter().map(|taken| (taken.lane.clone(), taken.term));
        self.taken().extend(terms);
        Ok(taken)
    }

    async fn renew(&self) -> Result<Vec<Lane>, String> {
        self.lanes.renew().await.map_err(|error| said(&error))?;
        let mut taken = self.taken();
        let lost = taken.extract_if(|lane, term| !self.lanes.holds(lane, *term));
        Ok(lost.map(|(lane, _)| lane).collect())
    }

    async fn refused(&self) {
        self.lanes.refused().await;
    }

    async fn release(&self, lanes: &[Lane]) -> Result<(), String> {
        self.taken().retain(|lane, _| !lanes.contains(lane));
        self.lanes
            .release(lanes)
            .await
            .map_err(|error| said(&error))
    }

    async fn list(&self) -> Result<Vec<Known>, String> {
        let now = Timestamp::now();
        let all = self.lanes.all().await.map_err(|error| said(&error))?;
        let known = all.into_iter().map(|status| self.known(status, now));
        known
            .collect::<Result<_, _>>()
            .map_err(|error| said(&error))
    }

    async fn note(&self, lane: &Lane, term: Term, note: Note) -> Result<bool, String> {
        self.write(vec![kept(lane.clone(), term, note)]).await
    }

    async fn begin(&self, begins: Vec<(Taken, Note)>) -> Result<bool, String> {
        let begins = begins.into_iter();
        let begins = begins.map(|(taken, note)| kept(taken.lane, taken.term, note));
        self.write(begins.collect()).await
    }

    async fn forget(&self, lanes: &[Lane]) -> Result<(), String> {
        self.lanes
            .drop_lanes(lanes.to_vec())
            .await
            .map_err(|error| said(&error))
    }
}

/// A note, as lanes are committed.
fn kept(lane: Lane, term: Term, note: Note) -> Kept {
    let (progress, ended) = match note {
        Note::Progress(progress) => (Some(progress), false),
        Note::Ended => (None, true),
    };
    Kept {
        lane,
        term,
        progress,
        ended,
    }
}

/// An error of the store, for the log and the reader's state.
fn said(error: &StoreError) -> String {
    format!("the lanes of the stream: {}", logging::chain(error))
}
