//! The sweep: what has outlived its time is dropped by the day, or deleted by pieces where it cannot wait for its day's end. One gateway
//! at a time does it; each piece is a transaction of its own.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::JobState;
use linkspan_model::job::JobEvent;
use uuid::Uuid;

use super::PostgresStore;
use super::blobs::{PIECE, SWEEPING};
use super::deliveries::outbox;
use super::deliveries::pauses::follow_up;
use super::fault::Fault;
use super::partitions::{Bucket, Family};
use super::pool::{Change, Scope, lock_key, query};
use super::requests::{erase, release_blobs, release_keys};
use super::rows::{self, COLUMNS, Row, column, invocation, micro, uuid};
use crate::store::error::StoreError;
use crate::store::upkeep::{Retention, Swept};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// How long it is believed when the content of a day will be over.
const BELIEVED: Duration = Duration::from_secs(3600);

/// Whether a delivery `d` needs the result of its job `j`: it is open, or died within a retention and may be replayed.
macro_rules! needs {
    ($now:literal) => {
        concat!(
            "(d.state IN (0, 1, 4) OR (d.state = 3 AND d.finished > ",
            $now,
            " - j.keep))"
        )
    };
}

/// When the content of which day will be over: the latest time of its jobs. None where nobody knows: one of them has not ended, or is
/// kept by a delivery.
#[derive(Debug, Default)]
pub(super) struct Closing(Mutex<HashMap<Bucket, (Option<Timestamp>, Instant)>>);

/// Jobs whose time is over.
struct Expire {
    ids: Vec<Uuid>,
    now: Timestamp,
    /// What expired before, is kept for no delivery any more.
    before: Timestamp,
    /// The jobs whose content goes with its day.
    left: HashSet<Uuid>,
}

/// Rows of jobs that have expired long ago.
struct RemoveRows {
    before: Timestamp,
}

/// Deletes by a statement with a moment and a limit.
struct Remove {
    statement: &'static str,
    before: Timestamp,
}

impl PostgresStore {
    pub(super) async fn sweep_once(
        &self,
        retention: Retention,
        now: Timestamp,
    ) -> Result<Swept, StoreError> {
        let at = |fault: Fault| fault.at(SWEEPING);
        // Held by a transaction that does nothing else: it ends with this future, however that ends. It keeps no snapshot.
        let mut guard = self.db.pool.get().await.map_err(|error| at(error.into()))?;
        let guard = guard
            .transaction()
            .await
            .map_err(|error| at(error.into()))?;
        if !alone(&guard, lock_key(&self.db.address.schema, "sweep"))
            .await
            .map_err(at)?
        {
            return Ok(Swept::default());
        }
        let swept = self.sweep_alone(retention, now).await;
        // Waited for: the next sweep finds the lock free.
        guard.commit().await.map_err(|error| at(error.into()))?;
        swept
    }

    async fn sweep_alone(&self, retention: Retention, now: Timestamp) -> Result<Swept, StoreError> {
        let before = past(now, retention.rows);
        let mut swept = Swept {
            expired: self.expire(now, before).await?,
            ..Swept::default()
        };
        self.drop_content(now).await?;
        // Rows that are kept for days go with their day; two days are what its last ones may come late.
        let grace = if retention.rows < DAY {
            SignedDuration::ZERO
        } else {
            DAY * 2
        };
        swept.rows = self
            .db
            .change(RemoveRows {
                before: past(before, grace),
            })
            .await?;
        let mut labels = 0;
        for statement in [
            "DELETE FROM labels WHERE (integration, minute, service, label) IN \
             (SELECT integration, minute, service, label FROM labels WHERE minute <= $1 LIMIT $2)",
            "DELETE FROM label_changes WHERE ctid IN (SELECT ctid FROM label_changes WHERE minute <= $1 LIMIT $2)",
        ] {
            labels += self.db.change(Remove { statement, before }).await?;
        }
        let singly = swept.rows;
        swept.rows += self.drop_rows(before).await?;
        swept.keys = self
            .db
            .change(Remove {
                statement: "DELETE FROM idempotency WHERE (caller, integration, key, id) IN (SELECT i.caller, i.integration, i.key, i.id \
                            FROM idempotency i LEFT JOIN jobs j ON j.id = i.id WHERE i.expires <= $1 AND coalesce(j.state, 6) >= 3 \
                            LIMIT $2)",
                before: now,
            })
            .await?;
        let before = past(now, retention.audit);
        let mut lines = 0;
        if retention.audit < DAY * 64 {
            lines = self
                .db
                .change(Remove {
                    statement: "DELETE FROM audit WHERE (seq, at) IN (SELECT seq, at FROM audit WHERE at <= $1 LIMIT $2)",
                    before,
                })
                .await?;
        }
        swept.audit = lines + self.drop_audit(before).await?;
        let sessions = self
            .db
            .change(Remove {
                statement: "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires <= $1 LIMIT $2)",
                before: now,
            })
            .await?;
        follow_up(&self.db, now)
            .await
            .map_err(|fault| fault.at(SWEEPING))?;
        swept.blobs = self.find_orphans(now).await? + self.bury(now).await?;
        let full = PIECE as u64;
        swept.more = [
            swept.expired,
            singly,
            swept.keys,
            lines,
            swept.blobs,
            sessions,
            labels,
        ]
        .into_iter()
        .any(|removed| removed >= full);
        Ok(swept)
    }

    /// Expires the next jobs.
    async fn expire(&self, now: Timestamp, before: Timestamp) -> Result<u64, StoreError> {
        let over: Vec<(Uuid, SignedDuration)> = self
            .db
            .read(SWEEPING, move |client| async move {
                let rows = query(
                    &client,
                    concat!(
                        "SELECT id, keep FROM jobs j WHERE state IN (3, 4, 5) AND expires <= $1 AND (expires <= $2 \
                         OR NOT EXISTS (SELECT FROM deliveries d WHERE d.job = j.id AND ",
                        needs!("$1"),
                        ")) LIMIT $3"
                    ),
                    &[&micro(now), &micro(before), &limit()],
                )
                .await?;
                rows.iter()
                    .map(|row| Ok((row.try_get(0)?, SignedDuration::from_micros(row.try_get(1)?))))
                    .collect()
            })
            .await?;
        if over.is_empty() {
            return Ok(0);
        }
        let mut left = HashSet::new();
        for (id, keep) in &over {
            let bucket = Family::Content.of_id(id.as_bytes());
            let closes = self.closes(bucket, now).await?;
            if closes.is_some_and(|at| at.duration_since(now) <= *keep / 4 && bucket.ends() <= now)
            {
                left.insert(*id);
            }
        }
        self.db
            .change(Expire {
                ids: over.into_iter().map(|(id, _)| id).collect(),
                now,
                before,
                left,
            })
            .await
    }

    /// When the content of a day will be over.
    async fn closes(
        &self,
        bucket: Bucket,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let known = self.closing.days().get(&bucket).copied();
        if let Some((at, asked)) = known
            && asked.elapsed() < BELIEVED
        {
            return Ok(at);
        }
        let (from, to) = bucket.ids();
        let at = self
            .db
            .read(SWEEPING, move |client| async move {
                let rows = query(
                    &client,
                    concat!(
                        "SELECT CASE WHEN bool_and(state >= 3) AND NOT EXISTS (SELECT FROM jobs j JOIN deliveries d ON d.job = j.id \
                             WHERE j.id >= $1 AND j.id < $2 AND j.state IN (3, 4, 5) AND j.expires <= $3 AND ",
                        needs!("$3"),
                        ") THEN max(expires) END FROM jobs WHERE id >= $1 AND id < $2 AND state < 6"
                    ),
                    &[&from, &to, &micro(now)],
                )
                .await?;
                rows.first().map_or(Ok(None), |row| rows::optional_time(row, 0))
            })
            .await?;
        let mut days = self.closing.days();
        days.retain(|_, (_, asked)| asked.elapsed() < BELIEVED);
        days.insert(bucket, (at, Instant::now()));
        Ok(at)
    }
}

impl Closing {
    fn days(&self) -> MutexGuard<'_, HashMap<Bucket, (Option<Timestamp>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this is the only one that sweeps, to the end of the transaction.
async fn alone(guard: &Transaction<'_>, key: i64) -> Result<bool, Fault> {
    guard
        .batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        .await?;
    Ok(guard
        .query_one("SELECT pg_try_advisory_xact_lock($1)", &[&key])
        .await?
        .try_get(0)?)
}

impl Change for Expire {
    type Out = u64;
    const DOING: &'static str = SWEEPING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<u64, Fault> {
        let mut locked = rows::lock(scope, &self.ids).await?;
        locked.retain(|_, row| {
            row.job.state.after(JobEvent::Expire).is_some()
                && row.job.expires.is_some_and(|expires| expires <= self.now)
        });
        let ids: Vec<Uuid> = locked.values().map(Row::uuid).collect();
        let needed = scope
            .query(
                concat!(
                    "SELECT DISTINCT d.job FROM deliveries d JOIN jobs j ON j.id = d.job WHERE d.job = ANY($1) AND j.id = ANY($1) \
                     AND d.id >= $2 AND ",
                    needs!("$3")
                ),
                &[&ids, &outbox::earliest(ids.iter().copied()), &micro(self.now)],
            )
            .await?;
        // A delivery may have been sent again, or have died, since the job was found.
        for job in column::<Uuid>(&needed)?.into_iter().map(invocation) {
            if locked
                .get(&job)
                .is_some_and(|row| row.job.expires.is_some_and(|at| at > self.before))
            {
                locked.remove(&job);
            }
        }
        let ids: Vec<Uuid> = locked.values().map(Row::uuid).collect();
        for job in outbox::give_up(scope, &ids, self.now).await? {
            if let Some(row) = locked.get_mut(&job) {
                // Kept for its deliveries until now. Its row, with the reason why they are dead, stays its time from here.
                row.job.expires = Some(self.now);
            }
        }
        let (left, now): (Vec<Uuid>, Vec<Uuid>) =
            ids.iter().copied().partition(|id| self.left.contains(id));
        release_blobs(scope, &left).await?;
        erase(scope, &now).await?;
        for row in locked.values_mut() {
            row.advance(JobEvent::Expire, self.now);
        }
        rows::save(scope, locked.values_mut(), self.now).await?;
        Ok(ids.len() as u64)
    }
}

impl Change for RemoveRows {
    type Out = u64;
    const DOING: &'static str = SWEEPING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<u64, Fault> {
        let found = scope
            .query(
                &format!("SELECT {COLUMNS} FROM jobs WHERE state = 6 AND expires <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED"),
                &[&micro(self.before), &limit()],
            )
            .await?;
        let rows = found.iter().map(Row::read).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<Uuid> = rows.iter().map(|row| uuid(row.job.id)).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        erase(scope, &ids).await?;
        release_keys(scope, &ids).await?;
        outbox::remove(scope, &ids).await?;
        scope
            .execute("DELETE FROM jobs WHERE id = ANY($1)", &[&ids])
            .await?;
        for row in &rows {
            scope
                .effects
                .tallies
                .jobs(&row.job.integration, JobState::Expired, -1);
            scope.tell(row.farewell());
        }
        Ok(ids.len() as u64)
    }
}

impl Change for Remove {
    type Out = u64;
    const DOING: &'static str = SWEEPING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<u64, Fault> {
        scope
            .execute(self.statement, &[&micro(self.before), &limit()])
            .await
    }
}

/// So much is removed of each kind at once.
pub(super) fn limit() -> i64 {
    i64::try_from(PIECE).unwrap_or(i64::MAX)
}

pub(super) fn past(now: Timestamp, ago: SignedDuration) -> Timestamp {
    now.checked_sub(ago).unwrap_or(Timestamp::MIN)
}
