//! The connections, and how a change is made on one: in a transaction of its own, in a task of its own, told after the commit.
//!
//! What a failure does:
//! - a deadlock, a connection that turns out to be dead, a partition that is not there (yet, or any more): the change is made again, a
//!   few times, on the state as it is then;
//! - a connection that is lost while the commit is under way: it is unknown whether the change was made. The caller is told
//!   `Unreachable`, so nothing is acknowledged that may not be durable;
//! - no answer at all: the caller is told `Unreachable` after a while, longer than the server itself gives a statement;
//! - no connection: `Unreachable`; health is red until the server is found again ([`beat`](super::beat)). Nothing needs a restart.
//!
//! A server that hangs, ends, or takes no changes any more leaves connections that are open and of no use. After such a fault all that
//! are there by then are replaced when they are wanted next: they lead to the same server.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Transaction,
};
use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;

use super::PostgresOptions;
use super::address::Address;
use super::fault::{Again, Fault};
use super::partitions::{Bucket, Partitions};
use super::tallies::Tallies;
use super::waking::Bell;
use crate::store::blobs::Blobs;
use crate::store::error::{ErrorKind, StoreError};
use crate::store::upkeep::Health;
use crate::store::watch::{Event, Watchers};

/// How often a change is made anew before its fault is told.
const TRIES: u32 = 5;

/// How long a caller waits for a connection, and for how long a change or a read is made anew.
const WAIT: Duration = Duration::from_secs(10);

/// What every connection is set to. Every search path begins with the schema. Durability is never the server's default's business.
/// Plans are made for each call: only then are partitions left out that the ids rule out.
const SESSION: &str = "SET synchronous_commit = on; SET plan_cache_mode = force_custom_plan; SET lock_timeout = '10s'; \
                       SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '60s'; \
                       SET timezone = 'UTC'; SET jit = off; SET search_path = ";

const ACCEPTING: u8 = 0;
const UNREACHABLE: u8 = 1;
const FULL: u8 = 2;
const UNUSABLE: u8 = 3;
const CLOSED: u8 = 4;

/// What all parts of one store share.
pub(super) struct Db {
    pub(super) pool: Pool,
    pub(super) address: Address,
    pub(super) watchers: Watchers,
    pub(super) partitions: Partitions,
    pub(super) bell: Bell,
    /// The store has them: what goes on here does not keep them open.
    pub(super) blobs: Weak<dyn Blobs>,
    home: Handle,
    condition: AtomicU8,
    commits: AtomicU64,
    /// How long a change or a read may take.
    patience: Duration,
    /// Connections that were made before are not used any more.
    retired: Arc<Mutex<Instant>>,
    /// How far the server's clock is ahead of this machine's, in seconds.
    ahead: AtomicI64,
}

/// A change. Made again after some failures: each time on the state as it is then.
pub(super) trait Change: Send + Sync + 'static {
    /// What it gives.
    type Out: Send + 'static;
    /// What is attempted, as it follows "could not".
    const DOING: &'static str;

    /// The partitions that it puts rows into.
    fn buckets(&self) -> Vec<Bucket> {
        Vec::new()
    }

    /// Makes it, within the transaction.
    fn apply(&self, scope: &mut Scope<'_>)
    -> impl Future<Output = Result<Self::Out, Fault>> + Send;
}

/// What a change works on.
pub(super) struct Scope<'t> {
    pub(super) tx: &'t Transaction<'t>,
    pub(super) db: &'t Db,
    pub(super) effects: Effects,
}

/// What is told after the commit, and counted in it.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) events: Vec<Event>,
    /// Whether a job was queued.
    pub(super) work: bool,
    /// Whether a delivery became pending.
    pub(super) delivery_work: bool,
    pub(super) tallies: Tallies,
}

/// Whether the transaction may have been committed.
enum Failed {
    /// It was not.
    Undone(Fault),
    /// Unknown.
    Unknown(Fault),
}

impl Db {
    pub(super) fn new(
        address: Address,
        options: PostgresOptions,
        blobs: Weak<dyn Blobs>,
    ) -> Result<Self, StoreError> {
        let unusable = |error: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::new(ErrorKind::Unusable, super::OPENING).because(error)
        };
        let manager = Manager::from_config(
            address.config.clone(),
            address.tls.clone(),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let session: Arc<str> = session(&address.schema).into();
        let retired = Arc::new(Mutex::new(Instant::now()));
        let since = Arc::clone(&retired);
        let pool = Pool::builder(manager)
            .max_size(options.connections)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(move |client, _| {
                let session = Arc::clone(&session);
                Box::pin(async move {
                    client
                        .batch_execute(&session)
                        .await
                        .map_err(HookError::Backend)
                })
            }))
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                if metrics.created < *since.lock().unwrap_or_else(PoisonError::into_inner) {
                    return Err(HookError::message("it was retired"));
                }
                Ok(())
            }))
            .build()
            .map_err(|error| unusable(error.into()))?;
        Ok(Self {
            pool,
            watchers: Watchers::default(),
            partitions: Partitions::default(),
            bell: Bell::default(),
            blobs,
            home: Handle::try_current().map_err(|error| unusable(error.into()))?,
            condition: AtomicU8::new(ACCEPTING),
            commits: AtomicU64::new(0),
            patience: options.patience,
            retired,
            ahead: AtomicI64::new(0),
            address,
        })
    }

    /// Makes a change; durable on return. It goes on when its caller goes away.
    pub(super) async fn change<C: Change>(
        self: &Arc<Self>,
        change: C,
    ) -> Result<C::Out, StoreError> {
        let db = Arc::clone(self);
        self.home
            .spawn(async move { db.make(&change).await.map_err(|fault| fault.at(C::DOING)) })
            .await
            .map_err(|join| StoreError::new(ErrorKind::Internal, C::DOING).because(join))?
    }

    /// Makes a change in the caller's task.
    pub(super) async fn make<C: Change>(&self, change: &C) -> Result<C::Out, Fault> {
        let began = Instant::now();
        let mut left = TRIES;
        loop {
            left -= 1;
            let attempt = async { Ok(self.attempt(change).await) };
            let outcome = self.within(self.patience, attempt).await;
            let fault = match outcome.unwrap_or_else(|late| Err(Failed::Unknown(late))) {
                Ok(out) => {
                    self.note(None);
                    return Ok(out);
                }
                Err(Failed::Unknown(fault)) => {
                    self.note(Some(&fault));
                    return Err(fault);
                }
                Err(Failed::Undone(fault)) => fault,
            };
            self.retire_after(&fault);
            let again = fault.again();
            let over = left == 0 || began.elapsed() > WAIT;
            if again == Again::No || over || self.is_closed() {
                self.note(Some(&fault));
                return Err(fault);
            }
            if again == Again::Partitions {
                self.partitions.forget();
            }
            // The others that were in the way have gone on by then, and not all come back at once.
            let wait = fastrand::u64(1..20) * u64::from(TRIES - left);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// Reads, on a connection of its own. Sees every change that was acknowledged before.
    pub(super) async fn read<T, F, W>(
        self: &Arc<Self>,
        doing: &'static str,
        query: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(Client) -> W + Send + Sync + 'static,
        W: Future<Output = Result<T, Fault>> + Send,
    {
        let db = Arc::clone(self);
        let reading = async move {
            let began = Instant::now();
            let mut left = TRIES;
            loop {
                left -= 1;
                let fault = match db.within(db.patience, db.read_once(&query)).await {
                    Ok(found) => return Ok(found),
                    Err(fault) => fault,
                };
                if left == 0 || began.elapsed() > WAIT || fault.again() != Again::Yes {
                    return Err(fault);
                }
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
            }
        };
        let outcome = self
            .home
            .spawn(reading)
            .await
            .map_err(|join| StoreError::new(ErrorKind::Internal, doing).because(join))?;
        match outcome {
            Ok(found) => {
                self.note(None);
                Ok(found)
            }
            Err(fault) => {
                self.note(Some(&fault));
                Err(fault.at(doing))
            }
        }
    }

    /// Starts a task that belongs to the store.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.home.spawn(task)
    }

    pub(super) fn health(&self) -> Health {
        match self.condition.load(Ordering::Acquire) {
            ACCEPTING => Health::Accepting,
            FULL => Health::Refusing(ErrorKind::Full),
            UNUSABLE => Health::Refusing(ErrorKind::Unusable),
            CLOSED => Health::Refusing(ErrorKind::Closed),
            _ => Health::Refusing(ErrorKind::Unreachable),
        }
    }

    /// How many transactions that changed something were committed.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.condition.load(Ordering::Acquire) == CLOSED
    }

    pub(super) fn close(&self) {
        self.condition.store(CLOSED, Ordering::Release);
    }

    /// Waits for work on connections for so long. What is left of it then is given up, and so are the connections that are there.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let mut work = std::pin::pin!(work);
        let outcome = tokio::time::timeout(limit, &mut work).await;
        let outcome = outcome.unwrap_or(Err(Fault::Late));
        if let Err(fault) = &outcome {
            // Before the work gives its connection back.
            self.retire_after(fault);
        }
        outcome
    }

    /// Replaces every connection that is there by now, when it is wanted next.
    pub(super) fn retire(&self) {
        *self.retired.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn retire_after(&self, fault: &Fault) {
        if fault.spoils() {
            self.retire();
        }
    }

    /// How far the server's clock is ahead of this machine's, to the second: what leases are stored by.
    pub(super) fn ahead(&self) -> SignedDuration {
        SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed))
    }

    /// A moment of this machine's clock by the server's.
    pub(super) fn by_server(&self, time: Timestamp) -> Timestamp {
        time.checked_add(self.ahead()).unwrap_or(Timestamp::MAX)
    }

    /// Sets how far the server's clock is ahead. Gives what it was before.
    pub(super) fn set_ahead(&self, ahead: SignedDuration) -> SignedDuration {
        let before = self.ahead.swap(ahead.as_secs(), Ordering::Relaxed);
        SignedDuration::from_secs(before)
    }

    /// The server was written to.
    pub(super) fn accept(&self) {
        for state in [UNREACHABLE, FULL, UNUSABLE] {
            self.become_if(state, ACCEPTING);
        }
    }

    /// Learns from an outcome how the server is.
    pub(super) fn note(&self, fault: Option<&Fault>) {
        let Some(fault) = fault else {
            self.become_if(UNREACHABLE, ACCEPTING);
            return;
        };
        let state = match fault.kind() {
            ErrorKind::Unreachable => UNREACHABLE,
            ErrorKind::Full => FULL,
            ErrorKind::Unusable => UNUSABLE,
            _ => return,
        };
        if self.become_if(ACCEPTING, state) {
            tracing::error!(
                error = crate::logging::chain(fault),
                "the job store refuses until its server can be written to again"
            );
        }
    }

    fn become_if(&self, from: u8, to: u8) -> bool {
        let changed = self
            .condition
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if changed && to == ACCEPTING {
            tracing::info!("the job store accepts again");
        }
        changed
    }

    async fn read_once<T, F, W>(&self, query: &F) -> Result<T, Fault>
    where
        F: Fn(Client) -> W,
        W: Future<Output = Result<T, Fault>>,
    {
        query(self.pool.get().await?).await
    }

    async fn attempt<C: Change>(&self, change: &C) -> Result<C::Out, Failed> {
        let undone = |error: tokio_postgres::Error| Failed::Undone(error.into());
        if self.is_closed() {
            return Err(Failed::Undone(Fault::Kind(
                ErrorKind::Closed,
                "the store is closed",
            )));
        }
        self.partitions
            .ensure(self, &change.buckets())
            .await
            .map_err(Failed::Undone)?;
        let mut client = self
            .pool
            .get()
            .await
            .map_err(|error| Failed::Undone(error.into()))?;
        let tx = client.transaction().await.map_err(undone)?;
        let mut scope = Scope {
            tx: &tx,
            db: self,
            effects: Effects::default(),
        };
        let out = change.apply(&mut scope).await.map_err(Failed::Undone)?;
        let mut effects = scope.effects;
        let tallies = std::mem::take(&mut effects.tallies);
        tallies.write(&tx).await.map_err(Failed::Undone)?;
        if let Err(error) = tx.commit().await {
            let fault = Fault::from(error);
            // The server itself says that it undid it; else who knows.
            let told = matches!(&fault, Fault::Server { code, .. } if !code.starts_with("57P"));
            return Err(if told {
                Failed::Undone(fault)
            } else {
                Failed::Unknown(fault)
            });
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.tell(effects);
        Ok(out)
    }

    fn tell(&self, effects: Effects) {
        for event in effects.events {
            if let Event::Job {
                id, version, state, ..
            } = &event
            {
                self.bell.made(&self.watchers, *id, *version, *state);
            }
            self.watchers.publish(event);
        }
        if effects.work {
            self.watchers.tell_work();
        }
        if effects.delivery_work {
            self.watchers.tell_delivery_work();
        }
        if effects.work || effects.delivery_work {
            self.bell.ring();
        }
    }
}

impl Scope<'_> {
    /// Tells a change after the commit.
    pub(super) fn tell(&mut self, event: Event) {
        self.effects.events.push(event);
    }

    /// Runs a statement that is prepared once for each connection.
    pub(super) async fn execute(
        &self,
        statement: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<u64, Fault> {
        let statement = self.tx.prepare_cached(statement).await?;
        Ok(self.tx.execute(&statement, values).await?)
    }

    /// Queries with a statement that is prepared once for each connection.
    pub(super) async fn query(
        &self,
        statement: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, Fault> {
        let statement = self.tx.prepare_cached(statement).await?;
        Ok(self.tx.query(&statement, values).await?)
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the address: it holds a password.
        f.debug_struct("Db")
            .field("schema", &self.address.schema)
            .field("pool", &self.pool.status())
            .finish_non_exhaustive()
    }
}

/// Queries on a connection, with a statement that is prepared once for it.
pub(super) async fn query(
    client: &Client,
    statement: &str,
    values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<tokio_postgres::Row>, Fault> {
    let statement = client.prepare_cached(statement).await?;
    Ok(client.query(&statement, values).await?)
}

/// What sets up a connection for a schema.
pub(super) fn session(schema: &str) -> String {
    format!("{SESSION}{schema}")
}

/// The advisory lock of a thing in a schema: of two schemas in one database, each has its own.
pub(super) fn lock_key(schema: &str, thing: &str) -> i64 {
    let digest = ring::digest::digest(
        &ring::digest::SHA256,
        format!("linkspan\0{schema}\0{thing}").as_bytes(),
    );
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.as_ref()[..8]);
    i64::from_be_bytes(bytes)
}
