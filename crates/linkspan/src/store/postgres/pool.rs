//! The connections, and how a change is made on one: in a transaction of its own, in a task of its own, told after the commit.
//!
//! What a failure does:
//! - a deadlock, a connection that turns out to be dead, a partition that is not there (yet, or any more): the change is made again, a
//!   few times, on the state as it is then;
//! - a connection that is lost while the commit is under way: it is unknown whether the change was made. The caller is told
//!   `Unreachable`, so nothing is acknowledged that may not be durable;
//! - no connection: `Unreachable`; health is red until a probe, one a second, finds the server again. Nothing needs a restart.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Transaction,
};
use tokio::runtime::Handle;

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

/// How long a caller waits for a connection.
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
        connections: usize,
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
        let session: Arc<str> = format!("{SESSION}{}", address.schema).into();
        let pool = Pool::builder(manager)
            .max_size(connections)
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
        let mut left = TRIES;
        loop {
            left -= 1;
            let fault = match self.attempt(change).await {
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
            let again = fault.again();
            if again == Again::No || left == 0 || self.is_closed() {
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
    pub(super) async fn read<T, F, W>(&self, doing: &'static str, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(Client) -> W + Send + 'static,
        W: Future<Output = Result<T, Fault>> + Send,
    {
        let pool = self.pool.clone();
        let outcome = self
            .home
            .spawn(async move {
                let mut left = TRIES;
                loop {
                    left -= 1;
                    let outcome = match pool.get().await {
                        Ok(client) => query(client).await,
                        Err(error) => Err(error.into()),
                    };
                    match outcome {
                        Err(fault) if left > 0 && fault.again() == Again::Yes => {
                            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
                        }
                        outcome => return outcome,
                    }
                }
            })
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

    /// Finds out whether the server can be written to, by a real commit of some size.
    pub(super) async fn probe(&self) {
        let outcome = async {
            let client = self.pool.get().await?;
            client
                .batch_execute(
                    "BEGIN; INSERT INTO probe VALUES (decode(repeat('00', 65536), 'hex')); COMMIT; DELETE FROM probe",
                )
                .await?;
            Ok(())
        };
        match outcome.await {
            Ok(()) => {
                for state in [UNREACHABLE, FULL, UNUSABLE] {
                    self.become_if(state, ACCEPTING);
                }
            }
            Err(fault) => self.note(Some(&fault)),
        }
    }

    /// Learns from an outcome how the server is.
    fn note(&self, fault: Option<&Fault>) {
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
