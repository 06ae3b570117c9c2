//! The lanes of one reading, as the store keeps them: who holds them, and how far they are done.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use linkspan_streams::flow::Progress;
use linkspan_streams::{Lane, Position, Term};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::gateway::Gateway;
use crate::store::{
    ErrorKind, Hold, LaneProgress, LaneStatus, RecordOutcome, Store, StoreError, StreamCommit,
    StreamCommitted, TakeLanes, Takeable, signed,
};

/// The lanes of a reading that this gateway holds.
pub struct Lanes {
    store: Arc<dyn Store>,
    stream: String,
    owner: String,
    lease: SignedDuration,
    counting: Counting,
    held: Mutex<HashMap<Lane, Term>>,
    refused: Notify,
}

/// How the records of a source are counted. Ordinals, and positions within a record, depend on what is taken off the records: they mean
/// others where that is changed.
#[derive(Clone, Debug)]
pub struct Counting {
    /// What is taken off, in a word.
    pub unwrap: String,
    /// What holds of progress that was counted in another way: whole records.
    pub whole: fn(Progress) -> Progress,
}

/// How far a lane is done from here on, for one who had it in that term.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The lane.
    pub lane: Lane,
    /// The term. Where it is over, whoever took the lane since, nothing is kept.
    pub term: Term,
    /// How far it is done; none leaves it as it is.
    pub progress: Option<Progress>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// A lane that is this gateway's from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The lane.
    pub lane: Lane,
    /// The term that begins: the store's fencing token.
    pub term: Term,
    /// How far it is done; none where nothing was ever committed.
    pub progress: Option<Progress>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// Progress, as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<(u64, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    beyond: Vec<(u64, u64)>,
    /// How it was counted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    unwrap: String,
}

impl Lanes {
    /// The lanes of a reading; `stream` is its name.
    #[must_use]
    pub fn new(gateway: &Gateway, stream: &str, counting: Counting) -> Self {
        Self {
            store: gateway.store.clone(),
            stream: stream.to_owned(),
            owner: gateway.owner.clone(),
            lease: signed(gateway.config.store.lease),
            counting,
            held: Mutex::default(),
            refused: Notify::new(),
        }
    }

    /// Takes lanes: whoever had them commits nothing more of them. Gives those that it got, in the order asked for.
    ///
    /// # Errors
    ///
    /// As [`StreamStore::take_lanes`](crate::store::StreamStore::take_lanes).
    pub async fn take(&self, lanes: &[Lane], which: Takeable) -> Result<Vec<Taken>, StoreError> {
        let taken = self
            .store
            .take_lanes(TakeLanes {
                stream: self.stream.clone(),
                lanes: lanes.iter().map(ToString::to_string).collect(),
                owner: self.owner.clone(),
                which,
                lease: self.lease,
                now: Timestamp::now(),
            })
            .await?;
        let taken = taken.into_iter().map(|one| {
            let progress = one.progress.as_deref();
            Ok(Taken {
                lane: Lane::new(one.hold.lane),
                term: Term(one.hold.token),
                progress: progress.map(|text| self.counting.read(text)).transpose()?,
                ended: one.ended,
            })
        });
        let taken = taken.collect::<Result<Vec<_>, StoreError>>()?;
        let mut held = self.held();
        for taken in &taken {
            held.insert(taken.lane.clone(), taken.term);
        }
        drop(held);
        Ok(taken)
    }

    /// Whether a lane is held in that term.
    #[must_use]
    pub fn holds(&self, lane: &Lane, term: Term) -> bool {
        self.held().get(lane) == Some(&term)
    }

    /// Prolongs the leases of what is held; gives the lanes that are somebody else's by now.
    ///
    /// # Errors
    ///
    /// No lease was prolonged.
    pub async fn renew(&self) -> Result<Vec<Lane>, StoreError> {
        let holds = self.all_held(|_| true);
        if holds.is_empty() {
            return Ok(Vec::new());
        }
        let lost = self
            .store
            .renew_lanes(&self.stream, holds, self.lease, Timestamp::now())
            .await?;
        Ok(self.forget(lost))
    }

    /// Lets lanes go.
    ///
    /// # Errors
    ///
    /// Unknown; the leases end by themselves.
    pub async fn release(&self, lanes: &[Lane]) -> Result<(), StoreError> {
        let holds = self.all_held(|lane| lanes.contains(lane));
        self.forget(holds.clone());
        self.store.release_lanes(&self.stream, holds).await
    }

    /// Lets go of all that is held.
    ///
    /// # Errors
    ///
    /// Unknown; the leases end by themselves.
    pub async fn release_all(&self) -> Result<(), StoreError> {
        let holds = self.all_held(|_| true);
        self.forget(holds.clone());
        self.store.release_lanes(&self.stream, holds).await
    }

    /// How its records are counted.
    #[must_use]
    pub const fn counting(&self) -> &Counting {
        &self.counting
    }

    /// Every known lane of the reading, whoever holds it.
    ///
    /// # Errors
    ///
    /// As [`StreamStore::lanes`](crate::store::StreamStore::lanes).
    pub async fn all(&self) -> Result<Vec<LaneStatus>, StoreError> {
        self.store.lanes(&self.stream).await
    }

    /// Stores what came of records together with how far lanes are done, each under its own term: in one step.
    ///
    /// # Errors
    ///
    /// As [`StreamStore::commit_stream`](crate::store::StreamStore::commit_stream).
    pub async fn commit(
        &self,
        lanes: Vec<Kept>,
        outcomes: Vec<RecordOutcome>,
    ) -> Result<StreamCommitted, StoreError> {
        let over = lanes
            .iter()
            .filter(|kept| !self.holds(&kept.lane, kept.term));
        let over: Vec<_> = over.map(|kept| kept.lane.to_string()).collect();
        if !over.is_empty() {
            return Ok(StreamCommitted::Fenced(over));
        }
        let progress = lanes.into_iter().map(|kept| LaneProgress {
            hold: hold(&kept.lane, kept.term),
            progress: kept.progress.map(|done| self.counting.write(done)),
            ended: kept.ended,
        });
        self.store
            .commit_stream(StreamCommit {
                stream: self.stream.clone(),
                lanes: progress.collect(),
                outcomes,
                now: Timestamp::now(),
            })
            .await
    }

    /// A commit was refused, for these terms are over: their lanes are held no more, but where they were taken since, and
    /// [`Lanes::refused`] returns.
    pub fn lose<'l>(&self, over: impl IntoIterator<Item = (&'l Lane, Term)>) {
        let mut held = self.held();
        for (lane, term) in over {
            if held.get(lane) == Some(&term) {
                held.remove(lane);
            }
        }
        drop(held);
        self.refused.notify_one();
    }

    /// Waits for [`Lanes::lose`]. Dropping the future loses nothing.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }

    /// Forgets lanes that are no more.
    ///
    /// # Errors
    ///
    /// As [`StreamStore::forget_lanes`](crate::store::StreamStore::forget_lanes).
    pub async fn drop_lanes(&self, lanes: Vec<Lane>) -> Result<(), StoreError> {
        self.release(&lanes).await?;
        let lanes = lanes.iter().map(ToString::to_string).collect();
        self.store.forget_lanes(&self.stream, lanes).await
    }

    /// The reading's name.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    fn all_held(&self, which: impl Fn(&Lane) -> bool) -> Vec<Hold> {
        let held = self.held();
        let holds = held.iter().filter(|(lane, _)| which(lane));
        holds.map(|(lane, term)| hold(lane, *term)).collect()
    }

    /// Forgets holds, unless the lane was taken anew since.
    fn forget(&self, holds: Vec<Hold>) -> Vec<Lane> {
        let mut held = self.held();
        let mut lost = Vec::new();
        for hold in holds {
            let lane = Lane::new(hold.lane);
            if held.get(&lane) == Some(&Term(hold.token)) {
                held.remove(&lane);
                lost.push(lane);
            }
        }
        lost
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Lane, Term>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hold(lane: &Lane, term: Term) -> Hold {
    Hold {
        lane: lane.to_string(),
        token: term.0,
    }
}

impl Counting {
    /// Progress as text for the store.
    fn write(&self, progress: Progress) -> String {
        let last = progress.last;
        let written = Written {
            last: last.map(|(ordinal, position)| (ordinal, position.to_string())),
            beyond: progress.beyond,
            unwrap: self.unwrap.clone(),
        };
        // Numbers and texts are always JSON.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Progress that the store kept, as far as it holds by this counting.
    ///
    /// # Errors
    ///
    /// `Corrupt`.
    pub(super) fn read(&self, text: &str) -> Result<Progress, StoreError> {
        let written: Written = serde_json::from_str(text).map_err(|error| {
            StoreError::new(ErrorKind::Corrupt, "read how far a stream is").because(error)
        })?;
        let last = written.last;
        let progress = Progress {
            last: last.map(|(ordinal, position)| (ordinal, Position::new(&position))),
            beyond: written.beyond,
        };
        Ok(if written.unwrap == self.unwrap {
            progress
        } else {
            (self.whole)(progress)
        })
    }
}

/// The position of the last record up to which all is done, of progress that the store kept; none where nothing is done yet.
#[must_use]
pub(crate) fn position(progress: &str) -> Option<String> {
    let written: Written = serde_json::from_str(progress).ok()?;
    written.last.map(|(_, position)| position)
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SqliteStore;

    fn kept(taken: &Taken, last: u64) -> Kept {
        Kept {
            lane: taken.lane.clone(),
            term: taken.term,
            progress: Some(Progress {
                last: Some((last, Position::number(last))),
                beyond: Vec::new(),
            }),
            ended: false,
        }
    }

    #[tokio::test]
    async fn what_was_read_in_a_term_that_is_over_is_refused_also_when_the_lane_was_taken_again_here()
     {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open_beside(folder.path().join("linkspan.db")).unwrap();
        let lanes = Lanes {
            store: Arc::new(store),
            stream: "reviews".to_owned(),
            owner: "one".to_owned(),
            lease: SignedDuration::from_secs(30),
            counting: by(""),
            held: Mutex::default(),
            refused: Notify::new(),
        };
        let names = [Lane::new("shard")];
        let take = async || {
            let taken = lanes.take(&names, Takeable::Any).await.unwrap();
            taken.into_iter().next().unwrap()
        };
        let commit = async |kept| lanes.commit(vec![kept], Vec::new()).await.unwrap();
        let before = take().await;
        assert_eq!(commit(kept(&before, 5)).await, StreamCommitted::Done);
        let now = take().await;
        assert!(now.term > before.term);
        assert_eq!(commit(kept(&now, 9)).await, StreamCommitted::Done);

        let fenced = StreamCommitted::Fenced(vec!["shard".to_owned()]);
        assert_eq!(commit(kept(&before, 7)).await, fenced);
        // Losing the term that is over leaves the one that is not.
        lanes.lose([(&before.lane, before.term)]);
        assert!(lanes.holds(&now.lane, now.term));
        assert_eq!(take().await.progress, kept(&now, 9).progress);
    }

    fn by(unwrap: &str) -> Counting {
        Counting {
            unwrap: unwrap.to_owned(),
            whole: linkspan_streams::kinesis::consumer::whole,
        }
    }

    #[test]
    fn progress_reads_back_as_it_was_written() {
        let gzip = by("gzip");
        let position = Position::new("49590338271490256608559692538361571095921575989136588898/3");
        for progress in [
            Progress::default(),
            Progress {
                last: Some((7, Position::number(7))),
                beyond: vec![(9, 9), (11, 20)],
            },
            Progress {
                last: Some((0, position)),
                beyond: Vec::new(),
            },
        ] {
            let written = gzip.write(progress.clone());
            assert_eq!(gzip.read(&written).unwrap(), progress);
        }
        assert_eq!(gzip.read("[1").unwrap_err().kind, ErrorKind::Corrupt);
    }

    #[test]
    fn of_progress_that_was_counted_otherwise_only_what_is_whole_holds() {
        let (gzip, plain) = (by("gzip"), by(""));
        let part = Progress {
            last: Some((7, Position::new("495903/3"))),
            beyond: vec![(9, 9)],
        };
        for (before, after) in [(&gzip, &plain), (&plain, &gzip)] {
            let written = before.write(part.clone());
            let last = Some((7, Position::new("=495903")));
            let beyond = Vec::new();
            assert_eq!(after.read(&written).unwrap(), Progress { last, beyond });
        }
    }
}
