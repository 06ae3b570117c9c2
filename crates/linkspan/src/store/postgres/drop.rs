//! What the sweep drops: whole partitions. While their rows are counted, only who would change these rows waits; the lock that holds up
//! everybody is taken last, and held for no longer than the drop.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::PostgresStore;
use super::blobs::SWEEPING;
use super::fault::Fault;
use super::partitions::{Bucket, Family};
use super::pool::{Change, Scope, query};
use super::rows::{self, micro};
use super::sweep::{limit, past};
use crate::store::deliveries::Endpoint;
use crate::store::error::StoreError;

/// What waits for its day for longer than this, waits in vain.
const LATE: SignedDuration = SignedDuration::from_hours(48);

impl PostgresStore {
    /// Drops the content of days whose jobs have all expired, and deletes what waits for that in vain.
    pub(super) async fn drop_content(&self, now: Timestamp) -> Result<(), StoreError> {
        for bucket in self.list(Family::Content).await? {
            if bucket.ends() > now {
                continue;
            }
            let dropped = self
                .drop_bucket(bucket, "EXISTS (SELECT FROM jobs WHERE id >= $1 AND id < $2 AND state = ANY ('{0,1,2,3,4,5}'::int2[]) AND $3::int8 IS NOT NULL)", now)
                .await?;
            if dropped.is_some() {
                continue;
            }
            // It is held by a job whose time has not come. What has waited for it for days (a job was retried, say) waits in vain.
            let (from, to) = bucket.ids();
            self.db
                .change(EraseLate {
                    from,
                    to,
                    before: past(now, LATE),
                })
                .await?;
        }
        Ok(())
    }

    /// Drops the rows of days in which every job has expired before that moment, and the deliveries of jobs that are gone.
    pub(super) async fn drop_rows(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut removed = 0;
        for bucket in self.list(Family::Jobs).await? {
            if bucket.ends() > before {
                continue;
            }
            let held = "EXISTS (SELECT FROM jobs WHERE id >= $1 AND id < $2 AND state = ANY ('{0,1,2,3,4,5}'::int2[])) \
                        OR EXISTS (SELECT FROM jobs WHERE id >= $1 AND id < $2 AND state = 6 AND expires > $3)";
            removed += self.drop_bucket(bucket, held, before).await?.unwrap_or(0);
        }
        for bucket in self.list(Family::Deliveries).await? {
            if bucket.ends() > before {
                continue;
            }
            let held = "EXISTS (SELECT FROM deliveries d WHERE d.id >= $1 AND d.id < $2 AND $3::int8 IS NOT NULL \
                        AND EXISTS (SELECT FROM jobs j WHERE j.id = d.job))";
            self.drop_bucket(bucket, held, before).await?;
        }
        Ok(removed)
    }

    /// Drops the audit lines of pieces that ended before that moment.
    pub(super) async fn drop_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut removed = 0;
        for bucket in self.list(Family::Audit).await? {
            if bucket.ends() <= before {
                removed += self
                    .drop_bucket(bucket, "$1::uuid > $2::uuid OR $3::int8 IS NULL", before)
                    .await?
                    .unwrap_or(0);
            }
        }
        Ok(removed)
    }

    async fn list(&self, family: Family) -> Result<Vec<Bucket>, StoreError> {
        self.db
            .read(SWEEPING, move |client| async move {
                family.list(&**client).await
            })
            .await
    }

    /// Drops a bucket's partitions, unless something `held` it: asked before and, as the answer may change, again under a lock. Gives
    /// how many rows its first table had; none where it is held, or the lock is not to be had soon.
    async fn drop_bucket(
        &self,
        bucket: Bucket,
        held: &'static str,
        before: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let (from, to) = bucket.ids();
        let is_held = self
            .db
            .read(SWEEPING, move |client| async move {
                let rows = query(
                    &client,
                    &format!("SELECT {held}"),
                    &[&from, &to, &micro(before)],
                )
                .await?;
                Ok(rows
                    .first()
                    .map(|row| row.try_get::<_, bool>(0))
                    .transpose()?)
            })
            .await?;
        if is_held != Some(false) {
            return Ok(None);
        }
        match self
            .db
            .make(&Drop {
                bucket,
                held,
                before,
            })
            .await
        {
            Ok(removed) => {
                // Whoever believes that it is there is told by the server that it is not.
                self.db.partitions.forget();
                Ok(removed)
            }
            // Somebody holds the table for long: at the next turn.
            Err(Fault::Server { code, .. }) if code == "55P03" => Ok(None),
            Err(fault) => Err(fault.at(SWEEPING)),
        }
    }
}

/// Content of jobs of one day that expired before a moment, and whose day has not gone.
struct EraseLate {
    from: Uuid,
    to: Uuid,
    before: Timestamp,
}

impl Change for EraseLate {
    type Out = ();
    const DOING: &'static str = SWEEPING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        for table in ["documents", "results"] {
            scope
                .execute(
                    &format!(
                        "DELETE FROM {table} WHERE id IN (SELECT j.id FROM jobs j JOIN {table} c ON c.id = j.id \
                         WHERE j.id >= $1 AND j.id < $2 AND c.id >= $1 AND c.id < $2 AND j.state = 6 AND j.expires <= $3 LIMIT $4) \
                         AND id >= $1 AND id < $2"
                    ),
                    &[&self.from, &self.to, &micro(self.before), &limit()],
                )
                .await?;
        }
        Ok(())
    }
}

/// A bucket's partitions to drop.
struct Drop {
    bucket: Bucket,
    held: &'static str,
    before: Timestamp,
}

impl Change for Drop {
    type Out = Option<u64>;
    const DOING: &'static str = SWEEPING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Option<u64>, Fault> {
        let (from, to) = self.bucket.ids();
        let tables = self.bucket.family.tables();
        let names = tables
            .iter()
            .map(|table| self.bucket.name(table))
            .collect::<Result<Vec<_>, _>>()?;
        // Nothing of it changes from here on. Who waits for a lock holds up who comes after: not for long.
        scope
            .tx
            .batch_execute(&format!(
                "SET LOCAL lock_timeout = '1s'; LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE",
                names.join(", ONLY ")
            ))
            .await?;
        let rows = scope
            .query(
                &format!("SELECT {}", self.held),
                &[&from, &to, &micro(self.before)],
            )
            .await?;
        if rows
            .first()
            .map(|row| row.try_get::<_, bool>(0))
            .transpose()?
            != Some(false)
        {
            return Ok(None);
        }
        let first = names[0].clone();
        let removed = match self.bucket.family {
            Family::Jobs => {
                scope
                    .execute(
                        "DELETE FROM idempotency WHERE id >= $1 AND id < $2",
                        &[&from, &to],
                    )
                    .await?;
                uncount_jobs(scope, &first).await?
            }
            Family::Deliveries => uncount_deliveries(scope, &first).await?,
            Family::Audit => count(scope, &first).await?,
            Family::Content => 0,
        };
        // All that is asked is asked: now everybody waits, for an instant.
        scope
            .tx
            .batch_execute(&format!(
                "LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE; DROP TABLE {}",
                tables.join(", ONLY "),
                names.join(", ")
            ))
            .await?;
        Ok(Some(removed))
    }
}

async fn count(scope: &Scope<'_>, partition: &str) -> Result<u64, Fault> {
    let row = scope
        .tx
        .query_one(&format!("SELECT count(*) FROM {partition}"), &[])
        .await?;
    rows::unsigned(&row, 0)
}

/// Takes the jobs of a partition from the counts. Gives how many there were.
async fn uncount_jobs(scope: &mut Scope<'_>, partition: &str) -> Result<u64, Fault> {
    let rows = scope
        .tx
        .query(
            &format!("SELECT integration, state, count(*) FROM {partition} GROUP BY 1, 2"),
            &[],
        )
        .await?;
    let mut removed = 0;
    for row in &rows {
        let state = rows::state(row.try_get(1)?).ok_or_else(|| Fault::damaged("no such state"))?;
        let count: i64 = row.try_get(2)?;
        let tallies = &mut scope.effects.tallies;
        tallies.jobs(row.try_get(0)?, state, -count);
        removed += count.unsigned_abs();
    }
    Ok(removed)
}

/// Takes the deliveries of a partition from the counts. Gives how many there were.
async fn uncount_deliveries(scope: &mut Scope<'_>, partition: &str) -> Result<u64, Fault> {
    let rows = scope
        .tx
        .query(
            &format!(
                "SELECT integration, channel, state, count(*) FROM {partition} GROUP BY 1, 2, 3"
            ),
            &[],
        )
        .await?;
    let mut removed = 0;
    for row in &rows {
        let endpoint = Endpoint::new(row.try_get(0)?, row.try_get(1)?);
        let state = super::deliveries::rows::state(row.try_get(2)?)
            .ok_or_else(|| Fault::damaged("no such state"))?;
        let count: i64 = row.try_get(3)?;
        scope.effects.tallies.deliveries(&endpoint, state, -count);
        removed += count.unsigned_abs();
    }
    Ok(removed)
}
