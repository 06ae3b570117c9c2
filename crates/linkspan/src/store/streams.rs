//! Streams as the store sees them: who reads which lane, how far it is, and what came out, in one step.
//!
//! A *stream* is one integration's reading of one source; its name is the reader's choice and holds for ever. A *lane* is a part of it
//! whose records have an order: a partition, a shard. Progress is text that the reader wrote and reads; the store does not look into it.
//!
//! What came of a record is a job that has ended already: found, listed, delivered, expired and erased like any other. A record that
//! could not be worked on is a failed job that keeps the record's bytes, so that the job's retry is the replay of the dead letter.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::{InvocationId, JobState, Problem};

use super::blobs::DocumentRef;
use super::deliveries::NewDelivery;
use super::error::StoreError;
use super::jobs::{AttemptOutcome, AttemptRecord, Job, Sight};

/// So many of a commit's outcomes, the latest, are told as events: a list shows no more, and a stream has thousands in a second.
pub(in crate::store) const TOLD: usize = 64;

/// In microseconds.
const MINUTE: i64 = 60_000_000;

/// In milliseconds. A job is made within so long of its id, whatever became of the clock in between.
const HOUR: i64 = 3_600_000;

/// So many rows are looked at by one listing of results, whatever is asked for: no caller keeps the others from reading.
const MOST_LOOKED_AT: u32 = 10_000;

/// The streams' side of the store.
#[async_trait]
pub trait StreamStore: Send + Sync {
    /// Takes lanes for a reader: from the return on whoever had them commits nothing more of them. Gives those that it got, in the
    /// order asked for; the others are somebody else's. Called when a reader gains lanes, and now and then for lanes that are free.
    ///
    /// # Errors
    ///
    /// Nothing was taken.
    async fn take_lanes(&self, take: TakeLanes) -> Result<Vec<TakenLane>, StoreError>;

    /// Prolongs the leases of lanes to `now + lease`, and gives back those that are no longer held.
    ///
    /// # Errors
    ///
    /// No lease was prolonged; try again before the lease ends.
    async fn renew_lanes(
        &self,
        stream: &str,
        held: Vec<Hold>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<Hold>, StoreError>;

    /// Lets lanes go, so that others need not wait for the leases' end. Those that are no longer held stay as they are.
    ///
    /// # Errors
    ///
    /// Unknown; the leases end by themselves.
    async fn release_lanes(&self, stream: &str, held: Vec<Hold>) -> Result<(), StoreError>;

    /// Stores what came out of records together with the lanes' progress: all of it, in one transaction, or nothing. Durable on return.
    /// A lane may be committed under its latest token, whether its lease is over or it was released, until somebody else takes it.
    ///
    /// # Errors
    ///
    /// `Full`, `Busy`: nothing was stored, and the same can be tried again. `Internal`: nothing was stored; so it is where an outcome's
    /// id is there already. Others (`Unreachable`, `Io`): unknown, and perhaps still under way. Take the lanes anew, which waits for it or
    /// fences it, and go on from the progress that they then have.
    async fn commit_stream(&self, commit: StreamCommit) -> Result<StreamCommitted, StoreError>;

    /// Every known lane of a stream, by name.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn lanes(&self, stream: &str) -> Result<Vec<LaneStatus>, StoreError>;

    /// Forgets lanes that are no more: ended ones whose shard is gone. Lanes that somebody holds, or held to his end, stay: they are
    /// to be released first.
    ///
    /// # Errors
    ///
    /// Nothing was forgotten.
    async fn forget_lanes(&self, stream: &str, lanes: Vec<String>) -> Result<(), StoreError>;

    /// A page of jobs that have ended with a result that is still there, newest first, with the results. It looks through so many rows
    /// at most ([`ResultQuery::look`]) in the order of an index: a page with a `next` may be short, even empty.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn list_results(&self, query: ResultQuery) -> Result<ResultPage, StoreError>;

    /// How often which label came out, by minute of the commit, oldest first.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn label_counts(&self, query: LabelQuery) -> Result<Vec<LabelCount>, StoreError>;
}

/// Which lanes are taken, and by whom.
#[derive(Clone, Debug)]
pub struct TakeLanes {
    /// The stream.
    pub stream: String,
    /// The lanes.
    pub lanes: Vec<String>,
    /// Who takes them: the gateway's name.
    pub owner: String,
    /// Which of them.
    pub which: Takeable,
    /// How long they may go without a sign of life.
    pub lease: SignedDuration,
    /// The time.
    pub now: Timestamp,
}

/// Which lanes can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeable {
    /// Those that nobody holds, or whose lease is over.
    Free,
    /// All: somebody else (Kafka's group) has decided who reads them, or they are taken from a reader that has too many.
    Any,
}

/// A lane that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenLane {
    /// The lane under its token.
    pub hold: Hold,
    /// How far it is done; none where nothing was ever committed.
    pub progress: Option<String>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// A lane that is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    /// The lane.
    pub lane: String,
    /// The fencing token: higher each time the lane is taken.
    pub token: u64,
}

/// A lane as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// The lane.
    pub lane: String,
    /// Its latest token.
    pub token: u64,
    /// Who holds it; none where it was released.
    pub owner: Option<String>,
    /// When its lease ends.
    pub until: Option<Timestamp>,
    /// How far it is done.
    pub progress: Option<String>,
    /// Whether all of it is done.
    pub ended: bool,
    /// When something was committed of it.
    pub updated: Option<Timestamp>,
}

/// What is committed together.
#[derive(Clone, Debug)]
pub struct StreamCommit {
    /// The stream.
    pub stream: String,
    /// The lanes' progress, each under its token.
    pub lanes: Vec<LaneProgress>,
    /// What came of the records.
    pub outcomes: Vec<RecordOutcome>,
    /// The time.
    pub now: Timestamp,
}

/// How far a lane is done from here on.
#[derive(Clone, Debug)]
pub struct LaneProgress {
    /// The lane, held.
    pub hold: Hold,
    /// How far it is done; none leaves it as it is.
    pub progress: Option<String>,
    /// Whether all of it is done.
    pub ended: bool,
}

/// What came of a record: a job that has ended.
#[derive(Clone)]
pub struct RecordOutcome {
    /// The invocation. The row's time is the id's.
    pub id: InvocationId,
    /// The integration.
    pub integration: String,
    /// Why it failed; none where it succeeded.
    pub problem: Option<Problem>,
    /// The result document as JSON text.
    pub result: String,
    /// A failed record's bytes; its blob, where it has one, is durable already.
    pub document: Option<DocumentRef>,
    /// A failed record's request, as a retry of the job needs it; none where it succeeded: it could not be retried anyway.
    pub request: Option<String>,
    /// Where the record stands in its source, in place of a request's id.
    pub record: String,
    /// The W3C trace context that came with the record.
    pub traceparent: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// As of a job: for its retry.
    pub max_attempts: u32,
    /// When work on it began.
    pub started: Timestamp,
    /// How long its result is kept.
    pub keep: SignedDuration,
    /// The deliveries of its result.
    pub deliveries: Vec<NewDelivery>,
    /// What it is counted under.
    pub labels: Vec<Label>,
}

/// A label that a service gave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The service.
    pub service: String,
    /// The label.
    pub label: String,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamCommitted {
    /// All of it is stored.
    Done,
    /// These lanes are somebody else's: nothing was stored.
    Fenced(Vec<String>),
}

/// Which results to list.
#[derive(Clone, Debug, Default)]
pub struct ResultQuery {
    /// Only what whoever asks may see; none: everything.
    pub sight: Option<Sight>,
    /// Only this integration's.
    pub integration: Option<String>,
    /// Only those that failed, or only those that succeeded.
    pub failed: Option<bool>,
    /// Only those of a record that stands there: see [`RecordOutcome::record`].
    pub record: Option<String>,
    /// Only those made at this time or later.
    pub from: Option<Timestamp>,
    /// Only those made before this time.
    pub until: Option<Timestamp>,
    /// Only those older than this one.
    pub after: Option<InvocationId>,
    /// At most so many; 0 counts as 1, and more than 1,000 as 1,000.
    pub limit: u32,
    /// At most so many rows are looked at, whether they fit or not; 0 counts as 10,000, and so does more.
    pub look: u32,
}

/// A page of results.
#[derive(Clone, Debug, Default)]
pub struct ResultPage {
    /// The jobs with their results as JSON text, newest first.
    pub results: Vec<(Job, String)>,
    /// The cursor of the next page, from where on nothing was looked at; none where everything was.
    pub next: Option<InvocationId>,
    /// So many rows were looked at. It may be less on the last page.
    pub looked: u32,
}

/// In the order of which index results are looked through. What the index does not know is asked of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Walk<'q> {
    /// Of records that stand at one place.
    Record(&'q str),
    /// Of an integration, those that failed.
    Failed(&'q str),
    /// Of a caller.
    Caller(&'q str),
    /// Of an integration.
    Integration(&'q str),
    /// All that failed.
    AllFailed,
    /// All.
    All,
}

/// Which labels are counted.
#[derive(Clone, Debug)]
pub struct LabelQuery {
    /// The integration.
    pub integration: String,
    /// From this time on.
    pub from: Timestamp,
    /// Before this time.
    pub until: Timestamp,
}

/// How often a label came out within a minute that begins within the query's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCount {
    /// The minute's begin.
    pub minute: Timestamp,
    /// The label.
    pub label: Label,
    /// How often.
    pub count: u64,
}

impl RecordOutcome {
    /// The job that it is: it has had its attempts and ended, and belongs to its stream. (No key's owner has such a name.)
    pub(in crate::store) fn job(&self, stream: &str, now: Timestamp) -> Job {
        let (state, outcome) = match self.problem {
            None => (JobState::Succeeded, AttemptOutcome::Succeeded),
            Some(_) => (JobState::Failed, AttemptOutcome::Failed),
        };
        let created = id_made(self.id);
        Job {
            id: self.id,
            integration: self.integration.clone(),
            caller: format!("stream:{stream}"),
            state,
            version: 1,
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            created,
            updated: now,
            due: created,
            started: Some(self.started),
            finished: Some(now),
            expires: Some(now.checked_add(self.keep).unwrap_or(Timestamp::MAX)),
            problem: self.problem.clone(),
            request_id: self.record.clone(),
            traceparent: self.traceparent.clone(),
            held: false,
            history: vec![AttemptRecord {
                started: self.started,
                ended: now,
                outcome,
                code: self.problem.as_ref().map(|problem| problem.code),
            }],
        }
    }

    /// The request that a retry needs, where there can be one.
    pub(in crate::store) fn stored_request(&self) -> Option<&str> {
        match (&self.request, &self.document) {
            (Some(request), _) => Some(request),
            (None, Some(_)) => Some("{}"),
            (None, None) => None,
        }
    }
}

impl TakeLanes {
    /// The lanes, each once.
    pub(in crate::store) fn distinct(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let lanes = self.lanes.iter().map(String::as_str);
        lanes.filter(|lane| seen.insert(*lane)).collect()
    }
}

impl StreamCommit {
    /// How often which label of which integration comes out.
    pub(in crate::store) fn labels(&self) -> BTreeMap<(&str, &Label), u64> {
        let mut counts = BTreeMap::new();
        for outcome in &self.outcomes {
            for label in &outcome.labels {
                *counts
                    .entry((outcome.integration.as_str(), label))
                    .or_default() += 1;
            }
        }
        counts
    }

    /// The minute in which it is, as the tables keep it.
    pub(in crate::store) fn minute(&self) -> i64 {
        let now = self.now.as_microsecond();
        now - now.rem_euclid(MINUTE)
    }
}

impl ResultQuery {
    /// The index that leads past the fewest rows.
    pub(in crate::store) fn walk(&self) -> Walk<'_> {
        let failed = self.failed == Some(true);
        let own = self.sight.as_ref().filter(|sight| sight.whole.is_empty());
        match (&self.record, &self.integration, own) {
            (Some(record), _, _) => Walk::Record(record),
            (_, Some(integration), _) if failed => Walk::Failed(integration),
            (_, _, Some(sight)) => Walk::Caller(&sight.caller),
            (_, Some(integration), None) => Walk::Integration(integration),
            (_, None, None) if failed => Walk::AllFailed,
            (_, None, None) => Walk::All,
        }
    }

    /// How many rows are looked at.
    pub(in crate::store) fn most_looked_at(&self) -> u32 {
        match self.look {
            0 => MOST_LOOKED_AT,
            look => look.min(MOST_LOOKED_AT),
        }
    }

    /// The ids between which jobs of the query's time are, the second one excluded.
    pub(in crate::store) fn ids(&self) -> (Option<[u8; 16]>, Option<[u8; 16]>) {
        let least = |time: Timestamp, later: i64| {
            let millisecond = time.as_millisecond().saturating_add(later).max(0);
            let mut id = [0; 16];
            id[..6].copy_from_slice(&millisecond.to_be_bytes()[2..]);
            id
        };
        (
            self.from.map(|from| least(from, -HOUR)),
            self.until.map(|until| least(until, HOUR)),
        )
    }
}

/// When an id was made (RFC 9562, 5.7).
pub(crate) fn id_made(id: InvocationId) -> Timestamp {
    let mut millisecond = [0; 8];
    millisecond[2..].copy_from_slice(&id.as_bytes()[..6]);
    Timestamp::from_millisecond(i64::from_be_bytes(millisecond)).unwrap_or(Timestamp::MAX)
}

impl std::fmt::Debug for RecordOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the result or the request.
        f.debug_struct("RecordOutcome")
            .field("id", &self.id)
            .field("integration", &self.integration)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}
