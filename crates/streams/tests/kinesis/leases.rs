//! Leases and committed outputs of several gateways, in memory: as strict as a store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use linkspan_streams::flow::{Commit, CommitError, Committer, Progress};
use linkspan_streams::kinesis::consumer::{Holder, Known, Leases, Note, Takeable, Taken};
use linkspan_streams::{Lane, Term};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// What all gateways share.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Mutex<Inner>>,
    /// How many outputs there are.
    pub(crate) count: watch::Sender<usize>,
    lease: Duration,
}

#[derive(Default)]
struct Inner {
    lanes: BTreeMap<Lane, Kept>,
    outputs: Vec<Committed>,
    fenced: usize,
}

/// An output that was committed.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) lane: Lane,
    pub(crate) by: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Default)]
struct Kept {
    token: u64,
    owner: Option<(String, Instant)>,
    progress: Option<Progress>,
    ended: bool,
}

/// One gateway's side.
pub(crate) struct Gateway {
    store: Store,
    name: String,
    held: Mutex<HashMap<Lane, u64>>,
    refused: Notify,
}

/// Commits a gateway's outputs.
pub(crate) struct Outputs(pub(crate) Arc<Gateway>);

impl Store {
    pub(crate) fn new(lease: Duration) -> Self {
        Self {
            inner: Arc::default(),
            count: watch::Sender::new(0),
            lease,
        }
    }

    pub(crate) fn gateway(&self, name: &str) -> Arc<Gateway> {
        Arc::new(Gateway {
            store: self.clone(),
            name: name.to_owned(),
            held: Mutex::default(),
            refused: Notify::new(),
        })
    }

    pub(crate) fn outputs(&self) -> Vec<Committed> {
        self.inner.lock().unwrap().outputs.clone()
    }

    pub(crate) fn fenced(&self) -> usize {
        self.inner.lock().unwrap().fenced
    }

    /// How many lanes that are not ended each gateway holds.
    pub(crate) fn holders(&self) -> BTreeMap<String, usize> {
        let mut holders = BTreeMap::new();
        for kept in self.inner.lock().unwrap().lanes.values() {
            if let Some((name, until)) = &kept.owner
                && !kept.ended
                && *until > Instant::now()
            {
                *holders.entry(name.clone()).or_default() += 1;
            }
        }
        holders
    }

    pub(crate) fn ended(&self) -> usize {
        let inner = self.inner.lock().unwrap();
        inner.lanes.values().filter(|kept| kept.ended).count()
    }

    pub(crate) fn progress(&self, lane: &Lane) -> Option<Progress> {
        self.inner.lock().unwrap().lanes.get(lane)?.progress.clone()
    }
}

impl Inner {
    fn holds(&self, lane: &Lane, token: u64) -> bool {
        self.lanes.get(lane).is_some_and(|kept| kept.token == token)
    }
}

impl Kept {
    fn note(&mut self, note: Note) {
        match note {
            Note::Progress(progress) => self.progress = Some(progress),
            Note::Ended => self.ended = true,
        }
    }
}

impl Gateway {
    /// The term in which a lane is held.
    pub(crate) fn held(&self, lane: &Lane) -> Term {
        Term(self.held.lock().unwrap()[lane])
    }
}

#[async_trait]
impl Leases for Gateway {
    async fn take(&self, lanes: &[Lane], which: Takeable) -> Result<Vec<Taken>, String> {
        let now = Instant::now();
        let mut inner = self.store.inner.lock().unwrap();
        let mut taken = Vec::new();
        for lane in lanes {
            let kept = inner.lanes.entry(lane.clone()).or_default();
            let owner = kept.owner.as_ref().filter(|(_, until)| *until > now);
            if which == Takeable::Free && owner.is_some_and(|(name, _)| *name != self.name) {
                continue;
            }
            kept.token += 1;
            kept.owner = Some((self.name.clone(), now + self.store.lease));
            self.held.lock().unwrap().insert(lane.clone(), kept.token);
            taken.push(Taken {
                lane: lane.clone(),
                term: Term(kept.token),
                progress: kept.progress.clone(),
                ended: kept.ended,
            });
        }
        Ok(taken)
    }

    async fn renew(&self) -> Result<Vec<Lane>, String> {
        let mut inner = self.store.inner.lock().unwrap();
        let mut lost = Vec::new();
        self.held.lock().unwrap().retain(|lane, token| {
            let holds = inner.holds(lane, *token);
            match inner.lanes.get_mut(lane).filter(|_| holds) {
                Some(kept) => {
                    kept.owner = Some((self.name.clone(), Instant::now() + self.store.lease));
                }
                None => lost.push(lane.clone()),
            }
            holds
        });
        Ok(lost)
    }

    async fn refused(&self) {
        self.refused.notified().await;
    }

    async fn release(&self, lanes: &[Lane]) -> Result<(), String> {
        let mut inner = self.store.inner.lock().unwrap();
        for lane in lanes {
            let token = self.held.lock().unwrap().remove(lane);
            if token.is_some_and(|token| inner.holds(lane, token))
                && let Some(kept) = inner.lanes.get_mut(lane)
            {
                kept.owner = None;
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Known>, String> {
        let now = Instant::now();
        let inner = self.store.inner.lock().unwrap();
        let known = inner.lanes.iter().map(|(lane, kept)| Known {
            lane: lane.clone(),
            holder: match &kept.owner {
                Some((name, _)) if *name == self.name => Holder::Me,
                Some((name, until)) if *until > now => Holder::Other(name.as_str().into()),
                _ => Holder::Nobody,
            },
            progress: kept.progress.clone(),
            ended: kept.ended,
        });
        Ok(known.collect())
    }

    async fn note(&self, lane: &Lane, term: Term, note: Note) -> Result<bool, String> {
        let mut inner = self.store.inner.lock().unwrap();
        if !inner.holds(lane, term.0) {
            return Ok(false);
        }
        if let Some(kept) = inner.lanes.get_mut(lane) {
            kept.note(note);
        }
        Ok(true)
    }

    async fn begin(&self, begins: Vec<(Taken, Note)>) -> Result<bool, String> {
        let mut inner = self.store.inner.lock().unwrap();
        let mut all = begins.iter();
        if !all.all(|(taken, _)| inner.holds(&taken.lane, taken.term.0)) {
            return Ok(false);
        }
        for (taken, note) in begins {
            if let Some(kept) = inner.lanes.get_mut(&taken.lane) {
                kept.note(note);
            }
        }
        Ok(true)
    }

    async fn forget(&self, lanes: &[Lane]) -> Result<(), String> {
        let mut inner = self.store.inner.lock().unwrap();
        inner.lanes.retain(|lane, _| !lanes.contains(lane));
        Ok(())
    }
}

#[async_trait]
impl Committer<()> for Outputs {
    async fn commit(&mut self, commit: &Commit<()>) -> Result<(), CommitError> {
        let mut inner = self.0.store.inner.lock().unwrap();
        let mut parts = commit.lanes.iter();
        if !parts.all(|part| inner.holds(&part.lane, part.term.0)) {
            inner.fenced += 1;
            self.0.refused.notify_one();
            return Err(CommitError::Passing("somebody else's".to_owned()));
        }
        let text = |bytes: &Option<bytes::Bytes>| {
            String::from_utf8(bytes.clone().unwrap_or_default().into()).unwrap()
        };
        for part in &commit.lanes {
            inner
                .outputs
                .extend(part.outputs.iter().map(|output| Committed {
                    lane: part.lane.clone(),
                    by: self.0.name.clone(),
                    key: text(&output.record.key),
                    value: text(&output.record.value),
                }));
            if let Some(kept) = inner.lanes.get_mut(&part.lane) {
                kept.progress = Some(part.progress.clone());
            }
        }
        let count = inner.outputs.len();
        drop(inner);
        self.0.store.count.send_replace(count);
        Ok(())
    }
}
