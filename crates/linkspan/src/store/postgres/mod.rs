//! The store on PostgreSQL: one database, any number of gateways.
//!
//! - Every change is one transaction with `synchronous_commit = on`; callers who wait together share one ([`batch`]). Claims take rows
//!   with `FOR UPDATE SKIP LOCKED`; ends of attempts are fenced by their tokens. What is made of a row is decided here, on the locked
//!   row, by the rules of the model: the statements only read and write.
//! - No transaction waits for another's count, notification or vacuum: counts are added as rows ([`tallies`]), other gateways are woken
//!   aside ([`waking`]), and old rows go with their partitions ([`partitions`]).
//! - Locks are taken in one order, by id: lanes, then jobs, then deliveries, then pauses. Where two transactions meet crosswise all the same
//!   (a key changes hands), the server ends one, and it is made again.
//!
//! **What expires.** A job's content is hidden from everybody at its time, and its blob is removed then. Its document and result in the
//! database are erased by dropping the partition of their day: that frees the bytes at once, while deleted rows stay on the disk until
//! a vacuum. So they wait for the rest of their day, at most a quarter of the time that they were kept; where it takes longer (another
//! integration's retention is longer, a job of that day is still alive) they are deleted by themselves, and so is what a `DELETE`
//! command erases. The rows of jobs and deliveries go with their day as well, at most two days late; an audit line with its 32 days,
//! unless audit lines are kept for less than two such pieces. Backups and the write-ahead log are the database's administrator's.
//!
//! **Several gateways.** [`Watchers`] tell this process's changes at once, others' within a second ([`waking`]). The sweep runs on one
//! gateway at a time, by an advisory lock. Blobs are guarded by locks on their digests, as pins are a process's own ([`blobs`]).
//!
//! [`Watchers`]: crate::store::Watchers

mod address;
mod batch;
mod beat;
mod blobs;
mod copy;
mod deliveries;
mod drop;
mod enqueue;
mod fault;
mod finish;
mod jobs;
mod keys;
mod lanes;
mod partitions;
mod pool;
mod queue;
mod requests;
mod results;
mod rows;
mod schema;
mod sessions;
mod streams;
mod sweep;
mod tallies;
#[cfg(test)]
mod tests;
mod upkeep;
mod waking;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::blobs::{Blobs, Digest, FileBlobs};
use super::error::{ErrorKind, StoreError};
use address::Address;
use batch::Batcher;
use enqueue::Enqueue;
use fault::Fault;
use finish::Finish;
use pool::Db;
pub use schema::Migrated;
use schema::Which;
use sweep::Closing;

/// The least version of the server: 13.
const LEAST: i32 = 130_000;

/// How long the server may take to be found fit.
const OPEN: Duration = Duration::from_secs(30);

/// How long it is waited whether a pooler answers while another transaction is open.
const POOLED: Duration = Duration::from_secs(5);

const OPENING: &str = "open the job store";

/// A store in one schema of a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    db: Arc<Db>,
    blobs: Option<Arc<dyn Blobs>>,
    enqueue: Batcher<Enqueue>,
    finish: Batcher<Finish>,
    /// How far the search for blobs without a row has come.
    searched: Mutex<Option<Digest>>,
    closing: Closing,
    /// How long the oldest transaction of the server has kept vacuum from its work, in milliseconds.
    oldest: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

/// How the database is used.
#[derive(Clone, Copy, Debug)]
pub struct PostgresOptions {
    /// The most connections of this gateway, without the one that listens.
    pub connections: usize,
    /// How long a change or a read may take before the server counts as unreachable: more than the minute that the server itself gives
    /// a statement.
    pub patience: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections: 16,
            patience: Duration::from_secs(75),
        }
    }
}

impl PostgresStore {
    /// Opens a gateway's store, and brings its tables to this program's form. Other gateways may have it open. Call it within the
    /// runtime that runs the gateway.
    ///
    /// # Errors
    ///
    /// `Newer`; `Unreachable`, `Busy`: try again; `Unusable`: the address, the password, the database, the rights, the server's version
    /// or its settings. The source says which, without the password.
    pub async fn open(
        url: &str,
        options: PostgresOptions,
        blobs: Arc<dyn Blobs>,
    ) -> Result<Self, StoreError> {
        Self::assemble(url, options, Some(blobs)).await
    }

    /// Opens the same store for the command line's `keys`, and for looking. What is deleted through it leaves its blobs to a gateway's
    /// next sweep. Tables that are there are left as they are.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`]; `Unusable` where the tables are an earlier version's.
    pub async fn open_beside(url: &str) -> Result<Self, StoreError> {
        let options = PostgresOptions {
            connections: 2,
            ..PostgresOptions::default()
        };
        Self::assemble(url, options, None).await
    }

    /// Brings the tables to this program's form, where they are not; called by [`PostgresStore::open`] too.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`].
    pub async fn migrate(url: &str) -> Result<Migrated, StoreError> {
        const DOING: &str = "migrate the job store";
        let address = read(url, DOING)?;
        let mut client = connect(&address).await.map_err(|fault| fault.at(DOING))?;
        schema::migrate(&mut client, &address.schema, Which::All)
            .await
            .map_err(|fault| fault.at(DOING))
    }

    /// How many transactions that changed something were committed: fewer than there were changes, under load.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.db.commits()
    }

    /// For how long the oldest transaction that is open on the server has kept vacuum from removing dead rows. Beyond ten minutes a
    /// warning is logged: every queue gets slow by it.
    #[must_use]
    pub fn oldest_transaction(&self) -> Duration {
        Duration::from_millis(self.oldest.load(Ordering::Relaxed))
    }

    async fn assemble(
        url: &str,
        mut options: PostgresOptions,
        blobs: Option<Arc<dyn Blobs>>,
    ) -> Result<Self, StoreError> {
        let address = read(url, OPENING)?;
        let at = |fault: Fault| fault.at(OPENING);
        let opening = async {
            let client = connect(&address).await?;
            keeps_sessions(&address, &client).await?;
            check(&client).await?;
            let ahead = beat::clock(&client).await?;
            Ok((client, ahead))
        };
        let (mut client, ahead) = tokio::time::timeout(OPEN, opening)
            .await
            .unwrap_or(Err(Fault::Late))
            .map_err(at)?;
        let which = if blobs.is_some() {
            Which::All
        } else {
            Which::New
        };
        schema::migrate(&mut client, &address.schema, which)
            .await
            .map_err(at)?;
        drop(client);
        options.connections = options.connections.max(2);
        let is_gateway = blobs.is_some();
        let weak: Weak<dyn Blobs> = match &blobs {
            Some(blobs) => Arc::downgrade(blobs),
            None => Weak::<FileBlobs>::new(),
        };
        let db = Arc::new(Db::new(address, options, weak)?);
        db.set_ahead(ahead);
        let oldest = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        if is_gateway {
            upkeep::look_ahead(&db).await.map_err(at)?;
            tasks = vec![
                db.spawn(waking::send(Arc::clone(&db))),
                db.spawn(waking::listen(Arc::clone(&db))),
                db.spawn(waking::poll(Arc::clone(&db))),
                db.spawn(beat::watch(Arc::clone(&db))),
                db.spawn(waking::look(Arc::clone(&db))),
                db.spawn(upkeep::keep(Arc::clone(&db), Arc::clone(&oldest))),
            ];
        }
        Ok(Self {
            enqueue: Batcher::start(&db),
            finish: Batcher::start(&db),
            searched: Mutex::new(None),
            closing: Closing::default(),
            oldest,
            tasks,
            blobs,
            db,
        })
    }

    fn searched(&self) -> MutexGuard<'_, Option<Digest>> {
        self.searched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn read(url: &str, doing: &'static str) -> Result<Address, StoreError> {
    address::read(url).map_err(|reason| StoreError::new(ErrorKind::Unusable, doing).because(reason))
}

/// A connection of its own, for the opening.
async fn connect(address: &Address) -> Result<Client, Fault> {
    let (client, connection) =
        address
            .config
            .connect(address.tls.clone())
            .await
            .map_err(|error| match Fault::from(error) {
                Fault::Value(source) => Fault::Connection(source),
                fault => fault,
            })?;
    tokio::spawn(connection);
    Ok(client)
}

/// Refuses a pooler that gives a session another connection of the server for each transaction: what a session is set to would be lost,
/// that a commit is durable among it. While another session is in a transaction, this one's connection must still be its own.
async fn keeps_sessions(address: &Address, client: &Client) -> Result<(), Fault> {
    const PID: &str = "SELECT pg_backend_pid()";
    let other = connect(address).await?;
    let own = simple(client, PID).await?;
    for _ in 0..3 {
        simple(&other, "BEGIN").await?;
        simple(&other, PID).await?;
        // Where a pooler has no other connection left, it waits for the end of that transaction.
        let again = tokio::time::timeout(POOLED, simple(client, PID)).await;
        simple(&other, "ROLLBACK").await?;
        if again.ok().transpose()?.is_none_or(|again| again != own) {
            return Err(Fault::Kind(
                ErrorKind::Unusable,
                "a pooler stands before the server that changes connections between transactions; set it to pool sessions \
                 (pool_mode = session), or name the server itself",
            ));
        }
    }
    Ok(())
}

/// The first column of a statement's first row, without preparing it: that, too, a pooler can lose.
async fn simple(client: &Client, statement: &str) -> Result<Option<String>, Fault> {
    let messages = client.simple_query(statement).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Whether the server is one that keeps what it acknowledges.
async fn check(client: &Client) -> Result<(), Fault> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, current_setting('fsync')::bool, \
             current_setting('full_page_writes')::bool, pg_is_in_recovery()",
            &[],
        )
        .await?;
    if row.try_get::<_, i32>(0)? < LEAST {
        return Err(Fault::Kind(
            ErrorKind::Unusable,
            "the server is older than PostgreSQL 13",
        ));
    }
    if !row.try_get::<_, bool>(1)? {
        tracing::error!(
            "the PostgreSQL server runs with fsync = off: what it acknowledges, a crash can lose"
        );
        return Err(Fault::Kind(
            ErrorKind::Unusable,
            "the server runs with fsync = off, so it loses what it acknowledged in a crash; set fsync = on",
        ));
    }
    if !row.try_get::<_, bool>(2)? {
        tracing::warn!(
            "the PostgreSQL server runs with full_page_writes = off: a crash can damage its files"
        );
    }
    if row.try_get::<_, bool>(3)? {
        return Err(Fault::Kind(
            ErrorKind::Unusable,
            "the server is a standby, which cannot be written; name the primary in the store's address",
        ));
    }
    Ok(())
}
