//! Moving a running installation's history from one store to another.
//!
//! What goes over is rows, as JSON objects by column, so that neither store knows the other's types: times and durations are
//! microseconds, states their numbers (the same in all stores), ids 32 hexadecimal digits, bytes `\x` and hexadecimal digits.
//!
//! - The source may be in use. Jobs go first in the order in which they were accepted, each with everything that belongs to it, read
//!   in one transaction; then those that changed since; then those that are gone are removed from the target as well.
//! - How far it has come is kept in the target, in the transaction that stores the rows ([`Progress`]). A copy that was cut off goes on
//!   there; a row that is there already is replaced by a later one and by no earlier one.
//! - The target is empty before, or was begun by a copy from the same source, which has an id of its own; and no gateway has worked on it
//!   since ([`IN_USE`]): a copy would undo what that did. Else nothing is written.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blobs::{BlobRef, Blobs, Content, Digest, Intake};
use super::error::{ErrorKind, StoreError};

/// How many jobs go over at once.
const PAGE: u32 = 200;

/// So much older than the last change that was seen may a change be that was not: clocks are set back, transactions take a while.
const MARGIN: i64 = 60_000_000;

/// The name of what a gateway leaves in a shared store before it changes anything there.
pub const IN_USE: &str = "in use";

/// The name under which a store keeps its own id.
pub(super) const IDENTITY: &str = "store-id";

/// A row: the values by column.
pub type Row = Map<String, Value>;

/// How many there are of each kind: `jobs succeeded`, `keys`.
pub type Counts = BTreeMap<String, u64>;

/// A job, with everything that belongs to it.
#[derive(Clone, Default)]
pub struct JobRows {
    /// Where it stands in the source's order of acceptance.
    pub position: i64,
    /// The job.
    pub job: Row,
    /// Its request and document; none where they are erased.
    pub document: Option<Row>,
    /// Its result.
    pub result: Option<Row>,
    /// Its idempotency keys.
    pub keys: Vec<Row>,
    /// Its deliveries.
    pub deliveries: Vec<Row>,
    /// The blob that its document is.
    pub blob: Option<BlobRef>,
}

/// What is small and belongs to no job.
#[derive(Clone, Default)]
pub struct Rest {
    /// API keys.
    pub keys: Vec<Row>,
    /// Paused endpoints.
    pub pauses: Vec<Row>,
    /// What all gateways on a store agree on.
    pub settings: Vec<Row>,
    /// The lanes of streams.
    pub lanes: Vec<Row>,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The position of the last job that went over for the first time.
    pub position: i64,
    /// Every change until then (microseconds since 1970) has gone over.
    pub changed: i64,
    /// The position of the last audit line that went over.
    pub audit: i64,
    /// Whether the documents of all those jobs went over with them.
    #[serde(default)]
    pub blobs: bool,
}

/// What a source holds at a moment, for counting the same in both stores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// The last position of a job.
    pub position: i64,
    /// The time of the last change, in microseconds since 1970.
    pub changed: i64,
    /// The times of the first and the last audit line.
    pub audit: (i64, i64),
    /// The time of asking: a key that has expired by then is not counted, for each store forgets it in its own time.
    pub now: i64,
}

/// A store from which rows come. It may be in use.
#[async_trait]
pub trait Export: Send + Sync {
    /// The store's own id: of the file, wherever it lies. Made when it is first asked for.
    ///
    /// # Errors
    ///
    /// As [`JobStore::enqueue`](super::JobStore::enqueue).
    async fn identity(&self) -> Result<String, StoreError>;

    /// How many there are of each kind.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get); so do the others.
    async fn count(&self, extent: Extent) -> Result<Counts, StoreError>;

    /// What there is now.
    async fn extent(&self, now: Timestamp) -> Result<Extent, StoreError>;

    /// The next jobs after a position, by position.
    async fn jobs(&self, after: i64, limit: u32) -> Result<Vec<JobRows>, StoreError>;

    /// The positions of the jobs that changed at a time or later, or a delivery of theirs, of those up to a position.
    async fn changed(&self, since: i64, until: i64) -> Result<Vec<i64>, StoreError>;

    /// Jobs by their positions; those that are gone are left out.
    async fn jobs_at(&self, positions: Vec<i64>) -> Result<Vec<JobRows>, StoreError>;

    /// Which of these jobs are not there.
    async fn missing(&self, ids: Vec<String>) -> Result<Vec<String>, StoreError>;

    /// Everything that belongs to no job.
    async fn rest(&self) -> Result<Rest, StoreError>;

    /// The next counts of labels after one, in the order of their keys.
    async fn labels(&self, after: Option<Row>, limit: u32) -> Result<Vec<Row>, StoreError>;

    /// The next audit lines after a position, each with its own.
    async fn audit(&self, after: i64, limit: u32) -> Result<Vec<(i64, Row)>, StoreError>;
}

/// A store into which rows go. Every call is one transaction, and safe to make again.
#[async_trait]
pub trait Import: Send + Sync {
    /// Begins a copy from a source, or goes on with one.
    ///
    /// # Errors
    ///
    /// `Foreign`, here and in every later call: there is something that this source did not bring, or a gateway has worked on it.
    async fn begin(&self, source: &str) -> Result<(), StoreError>;

    /// How many there are of each kind.
    ///
    /// # Errors
    ///
    /// As [`JobStore::enqueue`](super::JobStore::enqueue): nothing was stored; so do the others.
    async fn count(&self, extent: Extent) -> Result<Counts, StoreError>;

    /// How far the copy from a source has come.
    async fn progress(&self, source: &str) -> Result<Progress, StoreError>;

    /// Stores jobs, in the place of earlier versions of them, and how far the copy has come.
    async fn take_jobs(
        &self,
        jobs: Vec<JobRows>,
        source: &str,
        progress: Progress,
    ) -> Result<(), StoreError>;

    /// Stores audit lines, and how far the copy has come.
    async fn take_audit(
        &self,
        lines: Vec<Row>,
        source: &str,
        progress: Progress,
    ) -> Result<(), StoreError>;

    /// Stores what belongs to no job, in the place of what is there. A key that was revoked here stays so. Counts of labels are removed:
    /// they follow.
    async fn take_rest(&self, rest: Rest) -> Result<(), StoreError>;

    /// Stores counts of labels.
    async fn take_labels(&self, labels: Vec<Row>) -> Result<(), StoreError>;

    /// The ids of jobs after an id that did not change after a time.
    async fn ids(
        &self,
        after: Option<String>,
        until: i64,
        limit: u32,
    ) -> Result<Vec<String>, StoreError>;

    /// Removes jobs with everything that belongs to them.
    async fn remove(&self, ids: Vec<String>) -> Result<(), StoreError>;
}

/// What is told while a copy goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many jobs lie ahead.
    Ahead(u64),
    /// So many jobs went over.
    Jobs(u64),
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Jobs that went over for the first time.
    pub jobs: u64,
    /// Jobs that went over once more, because they changed lately.
    pub renewed: u64,
    /// Documents that went over.
    pub blobs: u64,
    /// Documents that a row names and that the source does not have.
    pub lost: u64,
    /// Documents that a row names, where this copy was told of no place for them.
    pub left: u64,
    /// Jobs that were removed, because the source has them no more.
    pub removed: u64,
    /// What the two stores do not have the same number of: kind, source, target.
    pub differences: Vec<(String, u64, u64)>,
}

/// Copies everything, from where the last copy of the same source ended.
///
/// # Errors
///
/// `Foreign`: see [`Import::begin`]. Others: what went over is kept, copy again.
pub async fn copy(
    from: &dyn Export,
    to: &dyn Import,
    blobs: Option<(&dyn Blobs, &Arc<dyn Blobs>)>,
    mut tell: impl FnMut(Step) + Send,
) -> Result<Copied, StoreError> {
    let mut copied = Copied::default();
    let source = &from.identity().await?;
    to.begin(source).await?;
    let mut progress = to.progress(source).await?;
    if blobs.is_some() && !progress.blobs {
        progress.position = 0; // the documents of jobs that went over without them
    }
    progress.blobs = blobs.is_some();
    let resumed = progress;
    let begun = from.extent(Timestamp::now()).await?;
    let ahead = from.count(begun).await?;
    tell(Step::Ahead(ahead.get("jobs").copied().unwrap_or(0)));
    // Before the jobs: what a stream commits meanwhile is done again in the target rather than left out.
    to.take_rest(from.rest().await?).await?;
    copy_labels(from, to).await?;
    loop {
        let page = from.jobs(progress.position, PAGE).await?;
        let Some(end) = page.last() else { break };
        progress.position = end.position;
        move_blobs(&page, blobs, &mut copied).await?;
        let count = page.len() as u64;
        to.take_jobs(page, source, progress).await?;
        copied.jobs += count;
        tell(Step::Jobs(count));
    }
    // What changed since the last copy, and since this one began. Nothing did before the first one began.
    let since = match resumed.changed {
        0 => begun.changed,
        seen => seen,
    };
    let positions = from
        .changed(since.saturating_sub(MARGIN), progress.position)
        .await?;
    for positions in positions.chunks(PAGE as usize) {
        let page = from.jobs_at(positions.to_vec()).await?;
        move_blobs(&page, blobs, &mut copied).await?;
        copied.renewed += page.len() as u64;
        to.take_jobs(page, source, progress).await?;
    }
    progress.changed = begun.changed;
    to.take_jobs(Vec::new(), source, progress).await?;
    copied.removed = remove_missing(from, to, begun.changed).await?;
    loop {
        let page = from.audit(progress.audit, 10 * PAGE).await?;
        let Some((end, _)) = page.last() else { break };
        progress.audit = *end;
        let lines = page.into_iter().map(|(_, line)| line).collect();
        to.take_audit(lines, source, progress).await?;
    }
    let end = from.extent(Timestamp::now()).await?;
    let counted = from.count(end).await?;
    if blobs.is_none() {
        copied.left = counted.get("large documents").copied().unwrap_or(0);
    }
    copied.differences = differences(&counted, &to.count(end).await?);
    Ok(copied)
}

async fn copy_labels(from: &dyn Export, to: &dyn Import) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = from.labels(after, 10 * PAGE).await?;
        after = page.last().cloned();
        if after.is_none() {
            return Ok(());
        }
        to.take_labels(page).await?;
    }
}

async fn remove_missing(from: &dyn Export, to: &dyn Import, until: i64) -> Result<u64, StoreError> {
    let mut removed = 0;
    let mut after = None;
    loop {
        let ids = to.ids(after, until, 5 * PAGE).await?;
        after = ids.last().cloned();
        if after.is_none() {
            return Ok(removed);
        }
        let missing = from.missing(ids).await?;
        removed += missing.len() as u64;
        if !missing.is_empty() {
            to.remove(missing).await?;
        }
    }
}

fn differences(source: &Counts, target: &Counts) -> Vec<(String, u64, u64)> {
    let kinds: std::collections::BTreeSet<&String> = source.keys().chain(target.keys()).collect();
    let count = |counts: &Counts, kind: &String| counts.get(kind).copied().unwrap_or(0);
    kinds
        .into_iter()
        .map(|kind| (kind.clone(), count(source, kind), count(target, kind)))
        .filter(|(_, source, target)| source != target)
        .collect()
}

/// Copies the documents of jobs. They are durable in the target before their rows are.
async fn move_blobs(
    page: &[JobRows],
    blobs: Option<(&dyn Blobs, &Arc<dyn Blobs>)>,
    copied: &mut Copied,
) -> Result<(), StoreError> {
    let Some((from, to)) = blobs else {
        return Ok(());
    };
    for blob in page.iter().filter_map(|rows| rows.blob.as_ref()) {
        if to.is_there(blob).await? {
            continue;
        }
        match from.local(blob).await {
            Ok(local) => {
                take_in(local.path().to_owned(), to, blob.digest).await?;
                copied.blobs += 1;
            }
            Err(error) if error.kind == ErrorKind::Corrupt => copied.lost += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn take_in(
    path: std::path::PathBuf,
    to: &Arc<dyn Blobs>,
    digest: Digest,
) -> Result<(), StoreError> {
    const DOING: &str = "copy a document";
    let fail = |error: std::io::Error| StoreError::new(ErrorKind::Io, DOING).because(error);
    let internal = |error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::new(ErrorKind::Internal, DOING).because(error)
    };
    let mut file = std::fs::File::open(path).map_err(fail)?;
    let mut intake = Intake::new(Arc::clone(to), u64::MAX);
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; 1 << 20];
            let length = file.read(&mut piece)?;
            piece.truncate(length);
            Ok((file, piece))
        });
        let piece;
        (file, piece) = read
            .await
            .map_err(|join| internal(join.into()))?
            .map_err(fail)?;
        if piece.is_empty() {
            break;
        }
        intake
            .write(&piece)
            .await
            .map_err(|error| internal(error.into()))?;
    }
    let kept = intake
        .finish_durable(None, None)
        .await
        .map_err(|error| internal(error.into()))?;
    match kept.content {
        Content::Blob(blob) if blob.digest == digest => Ok(()),
        _ => Err(StoreError::new(ErrorKind::Corrupt, DOING)
            .because("a document has another content than its name says")),
    }
}

impl fmt::Debug for JobRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the values.
        f.debug_struct("JobRows")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
