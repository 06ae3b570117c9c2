//! The thread with the only connection that writes, and its group commit.
//!
//! A commit is formed by what waits: the thread takes one change, and whatever else is there by then, applies each in a savepoint of
//! its own, commits once, and only then answers. While it commits, the next batch gathers. No timer is involved.
//!
//! What a failure does:
//! - a change that fails by itself is undone alone; the others are committed;
//! - no space: the batch is undone. Growing changes are refused until a probe (at most one a second, on demand) finds space; changes
//!   that end, erase or move jobs are still tried. The limit on the file's size holds for growing changes only: were there no room for
//!   the results of what was accepted, those jobs could never end;
//! - a failed read, write or fsync: the batch is undone, and nothing is written any more until the restart. An fsync is never tried
//!   again, and no later checkpoint is made: the log keeps what was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use tokio::sync::{mpsc, oneshot};

use super::open::{PATIENCE, failure, kind_of};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::gauge::Gauge;
use crate::store::upkeep::Health;
use crate::store::watch::{Event, Watchers};

/// So many changes wait at most; more callers wait to hand theirs in.
const WAITING: usize = 4096;

/// So many changes go into one commit at most.
const BATCH: usize = 1024;

/// The log is brought into the file when it has so many pages (of 4 KiB).
const LOG_PAGES: u32 = 4000;

/// The log is emptied after an erasure, but not more often than this.
const EMPTY_EVERY: Duration = Duration::from_secs(1);

/// How much a probe writes.
const PROBE: i64 = 64 * 1024;

/// The writing thread's handle.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    gauge: Arc<Gauge>,
    commits: Arc<AtomicU64>,
}

/// Whether a change needs more space than it frees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It does: refused while the store is full.
    Space,
    /// It ends, moves or erases: tried even then.
    Little,
}

/// What a change works on.
pub(super) struct Scope<'c> {
    pub(super) connection: &'c Connection,
    pub(super) effects: Effects,
}

/// What is told and done after the commit.
#[derive(Default)]
pub(super) struct Effects {
    /// What changed.
    pub(super) events: Vec<Event>,
    /// Whether a job was queued.
    pub(super) work: bool,
    /// Whether a delivery became pending.
    pub(super) delivery_work: bool,
    /// Whether content was erased, so that the log must be emptied.
    pub(super) erased: bool,
}

enum Message {
    Apply(Box<dyn Operation>),
    Probe,
    Empty(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// One change with its caller.
trait Operation: Send {
    fn need(&self) -> Need;
    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<Effects>;
    fn settle(self: Box<Self>, outcome: Result<(), Refusal>);
}

/// Why a change was not made.
enum Refusal {
    Kind(ErrorKind),
    Failed(rusqlite::Error),
    /// The batch failed with this; the error itself went to one caller.
    Batch(ErrorKind, String),
}

struct Pending<T, F> {
    doing: &'static str,
    need: Need,
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

struct Thread {
    connection: Connection,
    gauge: Arc<Gauge>,
    watchers: Watchers,
    /// Whether this process brings the log into the file: the gateway does, the command line leaves it to the gateway.
    checkpoints: bool,
    log_pages: Arc<AtomicU32>,
    checkpoint_at: u32,
    /// The most pages in use, beyond which a change that needs space is refused.
    most_pages: Option<u64>,
    erased: bool,
    emptied: Option<Instant>,
}

impl Writer {
    pub(super) fn start(
        mut connection: Connection,
        gauge: Arc<Gauge>,
        watchers: Watchers,
        max_size: Option<u64>,
        checkpoints: bool,
    ) -> Result<Self, StoreError> {
        const DOING: &str = "start the job store's thread";
        let (queue, messages) = mpsc::channel(WAITING);
        let commits = Arc::new(AtomicU64::new(0));
        let log_pages = Arc::new(AtomicU32::new(0));
        let (count, pages) = (Arc::clone(&commits), Arc::clone(&log_pages));
        connection
            .wal_hook(Some(move |_: &mut Wal, length: i32| {
                count.fetch_add(1, Ordering::Relaxed);
                pages.store(u32::try_from(length).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(|error| failure(error, DOING))?;
        let most_pages = match max_size {
            Some(bytes) => {
                let page =
                    page_count(&connection, "page_size").map_err(|error| failure(error, DOING))?;
                Some(bytes / page.max(1))
            }
            None => None,
        };
        let mut thread = Thread {
            connection,
            gauge: Arc::clone(&gauge),
            watchers,
            checkpoints,
            log_pages,
            checkpoint_at: LOG_PAGES,
            most_pages,
            erased: false,
            emptied: None,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || thread.run(messages))
            .map_err(|error| StoreError::new(ErrorKind::Busy, DOING).because(error))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            gauge,
            commits,
        })
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Makes a change; durable on return. `work` may be called twice, each time on the state as it is then.
    pub(super) async fn write<T, F>(
        &self,
        doing: &'static str,
        need: Need,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Scope<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let closed = || StoreError::new(ErrorKind::Closed, doing);
        if let Health::Refusing(kind) = self.gauge.health()
            && kind != ErrorKind::Full
        {
            return Err(StoreError::new(kind, doing));
        }
        let (reply, answer) = oneshot::channel();
        let operation = Box::new(Pending {
            doing,
            need,
            work,
            value: None,
            reply,
        });
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue
            .send(Message::Apply(operation))
            .await
            .map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Has a probe made, if the queue has a place.
    pub(super) fn probe(&self) {
        if let Some(queue) = &self.queue {
            // A full queue has changes in it: they find out as well.
            let _ = queue.try_send(Message::Probe);
        }
    }

    /// Empties the log where something was erased since it was emptied last.
    pub(super) async fn empty_log(&self) {
        let (reply, answer) = oneshot::channel();
        if let Some(queue) = &self.queue
            && queue.send(Message::Empty(reply)).await.is_ok()
        {
            let _ = answer.await;
        }
    }

    /// Makes the changes that wait, and ends the thread.
    pub(super) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if let Some(queue) = &self.queue
            && queue.send(Message::Close(reply)).await.is_ok()
        {
            let _ = answer.await;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // With the last sender gone the thread makes what waits and ends; the lock may only be released after that.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Scope<'_> {
    /// Tells a change after the commit.
    pub(super) fn tell(&mut self, event: Event) {
        self.effects.events.push(event);
    }
}

impl Thread {
    fn run(&mut self, mut messages: mpsc::Receiver<Message>) {
        let gauge = Arc::clone(&self.gauge);
        let _closed = Closing(&gauge);
        let mut closing = Vec::new();
        while let Some(first) = messages.blocking_recv() {
            let mut batch = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Apply(operation) => batch.push(operation),
                    Message::Probe => self.probe(),
                    Message::Empty(reply) => {
                        self.empty_log(true);
                        let _ = reply.send(());
                    }
                    Message::Close(reply) => {
                        self.gauge.close();
                        messages.close();
                        closing.push(reply);
                    }
                }
                next = if batch.len() < BATCH {
                    messages.try_recv().ok()
                } else {
                    None
                };
            }
            self.commit(batch);
            self.checkpoint();
            if messages.is_empty() {
                self.empty_log(false);
            }
        }
        if self.healthy() && self.checkpoints {
            self.run_checkpoint("TRUNCATE");
        }
        for reply in closing {
            let _ = reply.send(());
        }
    }

    fn commit(&mut self, batch: Vec<Box<dyn Operation>>) {
        let mut batch = batch;
        if self.gauge.health() == Health::Refusing(ErrorKind::Full)
            && batch
                .iter()
                .any(|operation| operation.need() == Need::Space)
        {
            if self.gauge.probe_is_due() {
                self.probe();
            }
            if self.gauge.health() == Health::Refusing(ErrorKind::Full) {
                let (refused, rest) = batch
                    .into_iter()
                    .partition(|operation| operation.need() == Need::Space);
                batch = rest;
                refuse(refused, ErrorKind::Full);
            }
        }
        let Some((batch, kind)) = self.try_commit(batch) else {
            return;
        };
        // No space for all of it. What needs little may still fit.
        let (growing, rest): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|operation| operation.need() == Need::Space);
        let retry = !growing.is_empty() && !rest.is_empty();
        refuse(growing, kind);
        // What is in the file already need not be in the log: its space is used again.
        if self.checkpoints && self.healthy() {
            self.run_checkpoint("PASSIVE");
        }
        if !retry {
            refuse(rest, kind);
        } else if let Some((rest, kind)) = self.try_commit(rest) {
            refuse(rest, kind);
        }
    }

    /// Commits a batch and answers it. Gives it back unanswered where it was undone for want of space.
    fn try_commit(
        &mut self,
        mut batch: Vec<Box<dyn Operation>>,
    ) -> Option<(Vec<Box<dyn Operation>>, ErrorKind)> {
        if batch.is_empty() {
            return None;
        }
        if !self.healthy() {
            let kind = match self.gauge.health() {
                Health::Refusing(kind) => kind,
                Health::Accepting => ErrorKind::Closed,
            };
            refuse(batch, kind);
            return None;
        }
        match self.apply(&mut batch) {
            Ok(outcomes) => {
                for (operation, outcome) in batch.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(effects) => {
                            self.after(effects);
                            operation.settle(Ok(()));
                        }
                        Err(error) => operation.settle(Err(Refusal::Failed(error))),
                    }
                }
                None
            }
            Err(error) => {
                let kind = kind_of(&error);
                if matches!(kind, ErrorKind::Io | ErrorKind::Corrupt) {
                    self.gauge.poison(kind);
                }
                if !self.connection.is_autocommit() {
                    // Where this fails too, SQLite undoes the transaction when the connection is closed.
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                if kind == ErrorKind::Full {
                    self.gauge.full();
                    return Some((batch, kind));
                }
                let text = error.to_string();
                for operation in batch {
                    operation.settle(Err(Refusal::Batch(kind, text.clone())));
                }
                None
            }
        }
    }

    /// Applies each change in its savepoint and commits. An error means that nothing of it is there.
    fn apply(
        &self,
        batch: &mut [Box<dyn Operation>],
    ) -> rusqlite::Result<Vec<rusqlite::Result<Effects>>> {
        let run = |statement| self.connection.prepare_cached(statement)?.execute([]);
        run("BEGIN IMMEDIATE")?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for operation in batch {
            run("SAVEPOINT change")?;
            let outcome = operation.apply(&self.connection);
            if let Err(error) = outcome {
                let fatal = matches!(error, rusqlite::Error::SqliteFailure(..))
                    && matches!(
                        kind_of(&error),
                        ErrorKind::Full | ErrorKind::Io | ErrorKind::Corrupt
                    );
                if fatal || self.connection.is_autocommit() {
                    return Err(error);
                }
                run("ROLLBACK TO change")?;
                outcomes.push(Err(error));
            } else {
                if operation.need() == Need::Space {
                    self.check_size()?;
                }
                outcomes.push(outcome);
            }
            run("RELEASE change")?;
        }
        run("COMMIT")?;
        Ok(outcomes)
    }

    fn after(&mut self, effects: Effects) {
        self.erased |= effects.erased;
        for event in effects.events {
            self.watchers.publish(event);
        }
        if effects.work {
            self.watchers.tell_work();
        }
        if effects.delivery_work {
            self.watchers.tell_delivery_work();
        }
    }

    /// Finds out whether there is space again, by a real commit of some size.
    fn probe(&self) {
        let filled = self
            .connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE; INSERT INTO probe VALUES (zeroblob({PROBE}));"
            ))
            .and_then(|()| self.check_size())
            .and_then(|()| self.connection.execute_batch("COMMIT; DELETE FROM probe;"));
        match filled {
            Ok(()) => self.gauge.has_space(),
            Err(error) => {
                if matches!(kind_of(&error), ErrorKind::Io | ErrorKind::Corrupt) {
                    self.gauge.poison(kind_of(&error));
                }
                if !self.connection.is_autocommit() {
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
            }
        }
    }

    /// Refuses, as SQLite does on a full disk, when more pages are in use than may be.
    fn check_size(&self) -> rusqlite::Result<()> {
        let Some(most) = self.most_pages else {
            return Ok(());
        };
        let all = page_count(&self.connection, "page_count")?;
        let free = page_count(&self.connection, "freelist_count")?;
        if all.saturating_sub(free) > most {
            let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
            return Err(rusqlite::Error::SqliteFailure(full, None));
        }
        Ok(())
    }

    /// Brings the log into the file when it is long.
    fn checkpoint(&mut self) {
        let pages = self.log_pages.load(Ordering::Relaxed);
        if !self.checkpoints || pages < self.checkpoint_at || !self.healthy() {
            return;
        }
        // A reader may keep part of the log: then again some pages later, not at each commit.
        let whole = self.run_checkpoint("PASSIVE");
        self.checkpoint_at = if whole {
            LOG_PAGES
        } else {
            pages + LOG_PAGES / 4
        };
    }

    /// Empties the log, so that what was erased from the file is not left in it.
    fn empty_log(&mut self, now: bool) {
        let early = self
            .emptied
            .is_some_and(|last| last.elapsed() < EMPTY_EVERY);
        if !self.erased || (early && !now) || !self.checkpoints || !self.healthy() {
            return;
        }
        self.emptied = Some(Instant::now());
        let _ = self.connection.busy_timeout(Duration::from_millis(100));
        if self.run_checkpoint("TRUNCATE") {
            self.erased = false;
            self.checkpoint_at = LOG_PAGES;
        }
        let _ = self.connection.busy_timeout(PATIENCE);
    }

    /// True where the whole log is in the file.
    fn run_checkpoint(&self, mode: &str) -> bool {
        let outcome =
            self.connection
                .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get::<_, i64>(1)?,
                        row.get::<_, i64>(2)?,
                    ))
                });
        match outcome {
            Ok((busy, length, moved)) => busy == 0 && length == moved,
            Err(error) => {
                match kind_of(&error) {
                    ErrorKind::Full => self.gauge.full(),
                    kind @ (ErrorKind::Io | ErrorKind::Corrupt) => {
                        tracing::error!(error = %error, "the job store failed; it refuses changes until the restart");
                        self.gauge.poison(kind);
                    }
                    _ => {}
                }
                false
            }
        }
    }

    /// Whether the file may be written. A store that is closing still makes what waits.
    fn healthy(&self) -> bool {
        !matches!(
            self.gauge.health(),
            Health::Refusing(ErrorKind::Io | ErrorKind::Corrupt)
        )
    }
}

/// Says that the store is closed, however its thread ended.
struct Closing<'a>(&'a Gauge);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T, F> Operation for Pending<T, F>
where
    T: Send,
    F: FnMut(&mut Scope<'_>) -> rusqlite::Result<T> + Send,
{
    fn need(&self) -> Need {
        self.need
    }

    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<Effects> {
        let mut scope = Scope {
            connection,
            effects: Effects::default(),
        };
        self.value = Some((self.work)(&mut scope)?);
        Ok(scope.effects)
    }

    fn settle(self: Box<Self>, outcome: Result<(), Refusal>) {
        let Self {
            doing,
            value,
            reply,
            work,
            ..
        } = *self;
        // After the commit and before the answer: it holds the pin of the document's blob.
        drop(work);
        let answer = match (outcome, value) {
            (Ok(()), Some(value)) => Ok(value),
            (Ok(()), None) => Err(StoreError::new(ErrorKind::Internal, doing)),
            (Err(Refusal::Kind(kind)), _) => Err(StoreError::new(kind, doing)),
            (Err(Refusal::Failed(error)), _) => Err(failure(error, doing)),
            (Err(Refusal::Batch(kind, text)), _) => Err(StoreError::new(kind, doing).because(text)),
        };
        // The caller may have gone away; the change stands.
        let _ = reply.send(answer);
    }
}

/// A number that SQLite tells of its pages.
fn page_count(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(&format!("PRAGMA {pragma}"))?
        .query_row([], |row| row.get(0))
}

fn refuse(batch: Vec<Box<dyn Operation>>, kind: ErrorKind) {
    for operation in batch {
        operation.settle(Err(Refusal::Kind(kind)));
    }
}
