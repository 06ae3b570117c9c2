//! The store on PostgreSQL: one database, any number of gateways.
//!
//! - Every change is one transaction with `synchronous_commit = on`; callers who wait together share one ([`batch`]). Claims take rows
//!   with `FOR UPDATE SKIP LOCKED`; ends of attempts are fenced by their tokens. What is made of a row is decided here, on the locked
//!   row, by the rules of the model: the statements only read and write.
//! - No transaction waits for another's count, notification or vacuum: counts are added as rows ([`tallies`]), other gateways are woken
//!   aside ([`waking`]), and old rows go with their partitions ([`partitions`]).
//! - Locks are taken in one order, by id: jobs, then deliveries, then endpoints. Where two transactions meet crosswise all the same
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
mod blobs;
mod copy;
mod deliveries;
mod drop;
mod enqueue;
mod fault;
mod finish;
mod jobs;
mod keys;
mod partitions;
mod pool;
mod queue;
mod requests;
mod rows;
mod schema;
mod sessions;
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
use tokio_postgres::Client;

use super::blobs::{Blobs, Digest, FileBlobs};
use super::error::{ErrorKind, StoreError};
use address::Address;
use batch::Batcher;
use enqueue::Enqueue;
use fault::Fault;
use finish::Finish;
use pool::Db;
pub use schema::Migrated;
use sweep::Closing;

/// The least version of the server: 13.
const LEAST: i32 = 130_000;

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
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { connections: 16 }
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
        Self::assemble(url, options.connections.max(2), Some(blobs)).await
    }

    /// Opens the same store for the command line's `keys`, and for looking. What is deleted through it leaves its blobs to a gateway's
    /// next sweep.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::open`].
    pub async fn open_beside(url: &str) -> Result<Self, StoreError> {
        Self::assemble(url, 2, None).await
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
        schema::migrate(&mut client, &address.schema)
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
        connections: usize,
        blobs: Option<Arc<dyn Blobs>>,
    ) -> Result<Self, StoreError> {
        let address = read(url, OPENING)?;
        let at = |fault: Fault| fault.at(OPENING);
        let mut client = connect(&address).await.map_err(at)?;
        check(&client).await.map_err(at)?;
        schema::migrate(&mut client, &address.schema)
            .await
            .map_err(at)?;
        drop(client);
        let is_gateway = blobs.is_some();
        let weak: Weak<dyn Blobs> = match &blobs {
            Some(blobs) => Arc::downgrade(blobs),
            None => Weak::<FileBlobs>::new(),
        };
        let db = Arc::new(Db::new(address, connections, weak)?);
        let oldest = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        if is_gateway {
            upkeep::look_ahead(&db).await.map_err(at)?;
            tasks = vec![
                db.spawn(waking::send(Arc::clone(&db))),
                db.spawn(waking::listen(Arc::clone(&db))),
                db.spawn(waking::poll(Arc::clone(&db))),
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
