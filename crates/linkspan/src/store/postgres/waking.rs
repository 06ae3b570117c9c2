//! Waking other gateways, and being woken: work that another gateway queued, and jobs that it changed and somebody here watches.
//!
//! No change notifies in its own transaction: NOTIFY takes a lock on the whole server at the commit. After a commit the bell is rung;
//! a task of its own then sends one NOTIFY, at most [`RINGS`] a second, on a connection of its own. Another task listens. As a
//! notification can be lost (a connection breaks, a pooler stands between), runner and sender are woken each [`POLL`] in any case.
//!
//! What is watched here and changed elsewhere is asked for each [`LOOK`], all of it in one query: by versions, so that nothing is told
//! twice.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use linkspan_model::{InvocationId, JobState};
use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;
use uuid::Uuid;

use super::fault::Fault;
use super::pool::{Db, query};
use super::rows::{invocation, state, unsigned, uuid};
use crate::store::watch::{Change, Watchers};

/// How many notifications a gateway sends a second at most.
const RINGS: u32 = 10;

/// How often runner and sender are woken without a notification.
const POLL: Duration = Duration::from_secs(1);

/// How often the watched jobs are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long after a lost connection the next one is tried.
const RECONNECT: Duration = Duration::from_secs(1);

/// How long a notification or a look may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What the tasks are told by this process.
pub(super) struct Bell {
    rung: Notify,
    /// This process's name in its notifications: its own are not heard.
    name: Uuid,
    /// The version up to which whoever watches a job here knows it.
    known: Mutex<HashMap<InvocationId, u64>>,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            rung: Notify::new(),
            name: Uuid::new_v4(),
            known: Mutex::default(),
        }
    }
}

impl Bell {
    /// There is work that another gateway may do.
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// A job's change was made here, and is told: it need not be told again.
    pub(super) fn made(
        &self,
        watchers: &Watchers,
        id: InvocationId,
        version: u64,
        state: Option<JobState>,
    ) {
        if state.is_none() {
            self.known().remove(&id);
        } else if watchers.count(id) > 0 {
            let mut known = self.known();
            let known = known.entry(id).or_insert(version);
            *known = version.max(*known);
        }
    }

    /// A job's version was read here. Where it is newer than what its watchers were told, they are told.
    pub(super) fn know(
        &self,
        watchers: &Watchers,
        id: InvocationId,
        version: u64,
        state: Option<JobState>,
    ) {
        if watchers.count(id) == 0 {
            return;
        }
        let before = {
            let mut known = self.known();
            let known = known.entry(id).or_insert(version);
            std::mem::replace(known, version.max(*known))
        };
        if before < version {
            watchers.tell(id, Change { version, state });
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<InvocationId, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a notification after each ring, at most so many a second.
pub(super) async fn send(db: Arc<Db>) {
    loop {
        db.bell.rung.notified().await;
        let sent = async {
            let client = db.pool.get().await?;
            query(
                &client,
                "SELECT pg_notify($1, $2)",
                &[&channel(&db), &db.bell.name.to_string()],
            )
            .await
        };
        if let Err(fault) = db.within(LIMIT, sent).await {
            tracing::debug!(
                error = crate::logging::chain(&fault),
                "other gateways were not notified; they look by themselves"
            );
        }
        tokio::time::sleep(Duration::from_secs(1) / RINGS).await;
    }
}

/// Listens, on a connection of its own, which is made anew when it is lost.
pub(super) async fn listen(db: Arc<Db>) {
    loop {
        if let Err(error) = hear(&db).await {
            tracing::debug!(
                error = crate::logging::chain(&error),
                "the connection that listens was lost; it is made anew"
            );
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Wakes runner and sender now and then.
pub(super) async fn poll(db: Arc<Db>) {
    loop {
        tokio::time::sleep(POLL).await;
        db.watchers.tell_work();
        db.watchers.tell_delivery_work();
    }
}

/// Looks at the jobs that are watched here.
pub(super) async fn look(db: Arc<Db>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(fault) = db.within(LIMIT, look_once(&db)).await {
            tracing::debug!(
                error = crate::logging::chain(&fault),
                "the watched jobs cannot be looked at"
            );
        }
    }
}

async fn look_once(db: &Arc<Db>) -> Result<(), Fault> {
    let watched: HashSet<InvocationId> = db.watchers.watched().into_iter().collect();
    db.bell.known().retain(|id, _| watched.contains(id));
    if watched.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = watched.iter().copied().map(uuid).collect();
    let client = db.pool.get().await?;
    let rows = query(
        &client,
        "SELECT id, version, state FROM jobs WHERE id = ANY($1)",
        &[&ids],
    )
    .await?;
    drop(client);
    let mut gone: HashMap<InvocationId, u64> = db.bell.known().clone();
    for row in &rows {
        let id = invocation(row.try_get(0)?);
        let (version, state) = (unsigned(row, 1)?, state(row.try_get(2)?));
        gone.remove(&id);
        let first = !db.bell.known().contains_key(&id);
        db.bell.know(&db.watchers, id, version, state);
        if first {
            // Whether its watcher has read this version is not known: an attempt reads nothing after its claim.
            db.watchers.tell(id, Change { version, state });
        }
    }
    for (id, version) in gone {
        // It was there, and is no more.
        db.bell.know(&db.watchers, id, version + 1, None);
        db.bell.known().remove(&id);
    }
    Ok(())
}

async fn hear(db: &Arc<Db>) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = db.address.config.connect(db.address.tls.clone()).await?;
    let watchers = db.watchers.clone();
    let own = db.bell.name.to_string();
    // The connection does its work while it is polled: the statement goes along with it.
    let listening = async {
        client
            .batch_execute(&format!("LISTEN {}", channel(db)))
            .await?;
        std::future::pending::<Result<(), tokio_postgres::Error>>().await
    };
    let messages = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message?
                && notification.payload() != own
            {
                watchers.tell_work();
                watchers.tell_delivery_work();
            }
        }
        Ok(())
    };
    tokio::select! {
        failed = listening => failed,
        ended = messages => ended,
    }
}

fn channel(db: &Db) -> String {
    format!("{}_work", db.address.schema)
}
