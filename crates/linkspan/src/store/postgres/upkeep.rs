//! [`Upkeep`] on PostgreSQL: counts and health, and what is done now and then: partitions made ahead, counts summed up, old
//! transactions reported. The sweep is in [`super::sweep`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PostgresStore;
use super::fault::Fault;
use super::partitions::Family;
use super::pool::{Db, lock_key, query};
use super::rows::{state, time, unsigned};
use super::tallies::FOLD;
use crate::store::error::StoreError;
use crate::store::upkeep::{Counts, Health, Retention, Swept, Tally, Upkeep};
use crate::store::watch::Watchers;

/// How often the live rows' beginning is looked for and the counts are summed up.
const OFTEN: Duration = Duration::from_secs(10);

/// How many of those between looking ahead and at old transactions.
const TURNS: u32 = 6;

/// How long each of these may take: longer than the server gives a statement.
const LIMIT: Duration = Duration::from_secs(75);

/// From then on a transaction is too old, in milliseconds.
const OLD: u64 = 600_000;

#[async_trait]
impl Upkeep for PostgresStore {
    async fn counts(&self) -> Result<Counts, StoreError> {
        let first = self.db.partitions.first_live();
        self.db
            .read("count the jobs", move |client| async move {
                let rows = query(
                    &client,
                    "SELECT integration, state, sum(jobs)::int8 FROM tallies GROUP BY 1, 2 HAVING sum(jobs) > 0 ORDER BY 1, 2",
                    &[],
                )
                .await?;
                let tallies = rows
                    .iter()
                    .map(|row| {
                        Ok(Tally {
                            integration: row.try_get(0)?,
                            state: state(row.try_get(1)?)
                                .ok_or_else(|| Fault::damaged("no such state"))?,
                            jobs: unsigned(row, 2)?,
                        })
                    })
                    .collect::<Result<_, Fault>>()?;
                let rows = query(
                    &client,
                    "SELECT integration, min(due) FROM jobs WHERE state IN (0, 2) AND id >= $1 GROUP BY 1 ORDER BY 1",
                    &[&first],
                )
                .await?;
                let oldest = rows
                    .iter()
                    .map(|row| Ok((row.try_get(0)?, time(row, 1)?)))
                    .collect::<Result<Vec<(String, Timestamp)>, Fault>>()?;
                Ok(Counts {
                    tallies,
                    oldest_due: oldest.iter().map(|(_, due)| *due).min(),
                    oldest,
                })
            })
            .await
    }

    async fn sweep(&self, retention: Retention, now: Timestamp) -> Result<Swept, StoreError> {
        self.sweep_once(retention, now).await
    }

    fn health(&self) -> Health {
        match (self.db.health(), &self.blobs) {
            (Health::Accepting, Some(blobs)) => blobs.health(),
            (health, _) => health,
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn watchers(&self) -> &Watchers {
        &self.db.watchers
    }

    async fn close(&self) {
        self.enqueue.close().await;
        self.finish.close().await;
        self.db.close();
        for task in &self.tasks {
            task.abort();
        }
        self.db.pool.close();
    }
}

/// Makes the partitions of today and of the next days, and looks where the live rows begin.
pub(super) async fn look_ahead(db: &Db) -> Result<(), Fault> {
    let now = Timestamp::now();
    let mut buckets = Vec::new();
    for family in [Family::Jobs, Family::Content, Family::Deliveries] {
        let today = family.of_time(now);
        buckets.extend([today, today.next(), today.next().next()]);
    }
    buckets.push(Family::Audit.of_time(now));
    db.partitions.ensure(db, &buckets).await?;
    db.partitions.look(db).await
}

/// Does what is to be done now and then, for as long as the store is open.
pub(super) async fn keep(db: Arc<Db>, oldest: Arc<AtomicU64>) {
    let mut turn: u32 = 0;
    loop {
        if turn.is_multiple_of(TURNS) {
            report(
                "the next days' partitions cannot be made",
                db.within(LIMIT, look_ahead(&db)).await,
            );
            match db.within(LIMIT, old_transaction(&db)).await {
                Ok(age) => note(&oldest, age),
                fault => report(
                    "the server's transactions cannot be looked at",
                    fault.map(drop),
                ),
            }
        } else {
            report(
                "the live jobs cannot be looked for",
                db.within(LIMIT, db.partitions.look(&db)).await,
            );
        }
        report(
            "the counts cannot be summed up",
            db.within(LIMIT, fold(&db)).await,
        );
        turn = turn.wrapping_add(1);
        tokio::time::sleep(OFTEN).await;
    }
}

/// Sums the counts up, unless another gateway is at it.
async fn fold(db: &Db) -> Result<(), Fault> {
    let mut client = db.pool.get().await?;
    let tx = client.transaction().await?;
    let key = lock_key(&db.address.schema, "fold");
    let free: bool = tx
        .query_one("SELECT pg_try_advisory_xact_lock($1)", &[&key])
        .await?
        .try_get(0)?;
    if free {
        tx.batch_execute(FOLD).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// How old the oldest transaction is that keeps vacuum from removing what died since it began, in milliseconds.
pub(super) async fn old_transaction(db: &Db) -> Result<u64, Fault> {
    let client = db.pool.get().await?;
    let rows = query(
        &client,
        "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(since)) * 1000, 0)::int8 FROM ( \
             SELECT xact_start AS since FROM pg_stat_activity \
                 WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid() \
                 AND backend_type = 'client backend' \
             UNION ALL SELECT prepared FROM pg_prepared_xacts) AS open",
        &[],
    )
    .await?;
    Ok(rows
        .first()
        .map(|row| row.try_get::<_, i64>(0))
        .transpose()?
        .map_or(0, |age| age.max(0).unsigned_abs()))
}

fn note(oldest: &AtomicU64, age: u64) {
    if age > OLD {
        tracing::warn!(
            seconds = age / 1000,
            "a transaction on the job store's server is old: until it ends, no vacuum removes what died since, and the queue gets slow; \
             look for it in pg_stat_activity and pg_prepared_xacts"
        );
    }
    oldest.store(age, Ordering::Relaxed);
}

fn report(what: &str, outcome: Result<(), Fault>) {
    if let Err(fault) = outcome {
        tracing::warn!(error = crate::logging::chain(&fault), "{what}");
    }
}
