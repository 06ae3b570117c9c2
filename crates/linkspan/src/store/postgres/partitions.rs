//! The tables that grow are cut by time, so that what is old is dropped as a file, not deleted row by row: no dead rows, no vacuum, and
//! the bytes are really gone.
//!
//! | family | tables | cut by | a partition |
//! | --- | --- | --- | --- |
//! | jobs | `jobs` | the time in the id | a day |
//! | content | `documents`, `results` | the time in the job's id | a day |
//! | deliveries | `deliveries` | the time in the id | a day |
//! | audit | `audit` | the line's time | 32 days |
//!
//! Ids are UUIDv7: their first 48 bits are milliseconds since 1970, so a range of ids is a range of time, and whoever asks by id is led
//! to one partition by the server itself. A partition is made ahead by upkeep, and at the latest by the first change that needs it.
//! It is dropped by the sweep, when everything in it is over; see [`super::sweep`]. A change that comes at that moment finds no
//! partition, and makes it anew.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use deadpool_postgres::Client;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::fault::Fault;
use super::pool::{Db, lock_key, query};

/// A day in milliseconds.
const DAY: i64 = 86_400_000;

/// Tables that are cut the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    Jobs,
    Content,
    Deliveries,
    Audit,
}

/// One piece of a family's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bucket {
    pub(super) family: Family,
    /// Its number since 1970.
    pub(super) number: i64,
}

/// The partitions that are known to be there, and from where on there is something to do.
///
/// A claim asks only the partitions from the oldest with a live row on: else each claim would ask every day of the history. Upkeep
/// looks for it every few seconds; a change here that brings an older row to life says so.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    there: Mutex<HashSet<Bucket>>,
    /// The oldest day, in milliseconds, with a job that has not ended.
    live_jobs: AtomicI64,
    /// The oldest day with a delivery that is open.
    open_deliveries: AtomicI64,
}

impl Family {
    /// The family's tables.
    pub(super) const fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Jobs => &["jobs"],
            Self::Content => &["documents", "results"],
            Self::Deliveries => &["deliveries"],
            Self::Audit => &["audit"],
        }
    }

    /// How many days a partition has.
    const fn days(self) -> i64 {
        match self {
            Self::Audit => 32,
            _ => 1,
        }
    }

    /// The bucket of an id.
    pub(super) fn of_id(self, id: &[u8; 16]) -> Bucket {
        Bucket {
            family: self,
            number: millisecond(id).div_euclid(DAY * self.days()),
        }
    }

    /// The bucket of a moment.
    pub(super) fn of_time(self, time: Timestamp) -> Bucket {
        Bucket {
            family: self,
            number: time.as_millisecond().div_euclid(DAY * self.days()),
        }
    }

    /// The partitions that are there, oldest first.
    pub(super) async fn list(self, client: &impl GenericClient) -> Result<Vec<Bucket>, Fault> {
        let prefix = format!("{}_", self.tables()[0]);
        let rows = client
            .query(
                "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = to_regclass($1) ORDER BY 1",
                &[&self.tables()[0]],
            )
            .await?;
        let mut found = Vec::new();
        for row in rows {
            let name: String = row.try_get(0)?;
            let date = name
                .strip_prefix(&prefix)
                .and_then(|date| Date::strptime("%Y%m%d", date).ok());
            if let Some(date) = date {
                let days = i64::from((date - Date::constant(1970, 1, 1)).get_days());
                found.push(Bucket {
                    family: self,
                    number: days.div_euclid(self.days()),
                });
            }
        }
        Ok(found)
    }
}

impl Bucket {
    /// The next one.
    pub(super) const fn next(self) -> Self {
        Self {
            family: self.family,
            number: self.number + 1,
        }
    }

    /// When it begins, in milliseconds.
    pub(super) const fn begins(self) -> i64 {
        self.number * DAY * self.family.days()
    }

    /// When it ends.
    pub(super) fn ends(self) -> Timestamp {
        Timestamp::from_millisecond(self.next().begins()).unwrap_or(Timestamp::MAX)
    }

    /// The least id in it, and the least after it.
    pub(super) fn ids(self) -> (Uuid, Uuid) {
        (least_id(self.begins()), least_id(self.next().begins()))
    }

    /// The name of its partition of a table.
    pub(super) fn name(self, table: &str) -> Result<String, Fault> {
        let days = self.number * self.family.days();
        let date = Date::constant(1970, 1, 1)
            .checked_add(i32::try_from(days).map_err(Fault::damaged)?.days())
            .map_err(Fault::damaged)?;
        Ok(format!("{table}_{}", date.strftime("%Y%m%d")))
    }

    /// The bounds, as the partition's declaration has them.
    fn bounds(self) -> String {
        if self.family == Family::Audit {
            let (from, to) = (self.begins(), self.next().begins());
            return format!("FROM ({}) TO ({})", from * 1000, to * 1000);
        }
        let (from, to) = self.ids();
        format!("FROM ('{from}') TO ('{to}')")
    }
}

impl Partitions {
    /// Makes the partitions that are not known to be there.
    pub(super) async fn ensure(&self, db: &Db, buckets: &[Bucket]) -> Result<(), Fault> {
        let mut missing: Vec<Bucket> = {
            let there = self.there();
            let missing = buckets.iter().filter(|bucket| !there.contains(bucket));
            missing.copied().collect()
        };
        missing.sort_by_key(|bucket| (bucket.family as u8, bucket.number));
        missing.dedup();
        for bucket in missing {
            make(db, bucket).await?;
            self.there().insert(bucket);
        }
        Ok(())
    }

    /// Looks at all of them anew.
    pub(super) fn forget(&self) {
        self.there().clear();
    }

    /// A job is alive.
    pub(super) fn has_live(&self, id: &[u8; 16]) {
        self.live_jobs.fetch_min(day(id), Ordering::AcqRel);
    }

    /// A delivery is open.
    pub(super) fn has_open(&self, id: &[u8; 16]) {
        self.open_deliveries.fetch_min(day(id), Ordering::AcqRel);
    }

    /// The least id of a live job.
    pub(super) fn first_live(&self) -> Uuid {
        least_id(self.live_jobs.load(Ordering::Acquire))
    }

    /// The least id of an open delivery.
    pub(super) fn first_open(&self) -> Uuid {
        least_id(self.open_deliveries.load(Ordering::Acquire))
    }

    /// Looks where the live rows begin.
    pub(super) async fn look(&self, db: &Db) -> Result<(), Fault> {
        let client = db.pool.get().await?;
        let jobs = oldest(&client, "jobs", &[0, 1, 2]).await?;
        let deliveries = oldest(&client, "deliveries", &[0, 1, 4]).await?;
        // What is made from now on is at most a day old, whatever clock its gateway has.
        let recent = (Timestamp::now().as_millisecond() - DAY).div_euclid(DAY) * DAY;
        let from =
            |oldest: Option<Uuid>| oldest.map_or(recent, |id| day(id.as_bytes()).min(recent));
        self.live_jobs.store(from(jobs), Ordering::Release);
        self.open_deliveries
            .store(from(deliveries), Ordering::Release);
        Ok(())
    }

    fn there(&self) -> MutexGuard<'_, HashSet<Bucket>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The least id of a moment, in milliseconds.
pub(super) fn least_id(millisecond: i64) -> Uuid {
    let time = u128::from(millisecond.unsigned_abs()) & ((1 << 48) - 1);
    Uuid::from_u128(time << 80)
}

/// The time in an id, in milliseconds.
pub(super) fn millisecond(id: &[u8; 16]) -> i64 {
    id[..6]
        .iter()
        .fold(0, |time, byte| time << 8 | i64::from(*byte))
}

/// The day of an id, in milliseconds.
fn day(id: &[u8; 16]) -> i64 {
    millisecond(id).div_euclid(DAY) * DAY
}

/// The least id of a table's rows in some states.
async fn oldest(client: &Client, table: &str, states: &[i16]) -> Result<Option<Uuid>, Fault> {
    let each: Vec<String> = states
        .iter()
        .map(|state| format!("(SELECT id FROM {table} WHERE state = {state} ORDER BY id LIMIT 1)"))
        .collect();
    // The least of some that are there, and null where none is.
    let rows = query(client, &format!("SELECT LEAST({})", each.join(", ")), &[]).await?;
    Ok(rows
        .first()
        .map(|row| row.try_get(0))
        .transpose()?
        .flatten())
}

async fn make(db: &Db, bucket: Bucket) -> Result<(), Fault> {
    let mut client = db.pool.get().await?;
    let tx = client.transaction().await?;
    let key = lock_key(&db.address.schema, "partitions");
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&key])
        .await?;
    for table in bucket.family.tables() {
        let name = bucket.name(table)?;
        let there: bool = tx
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&name])
            .await?
            .try_get(0)?;
        if there {
            continue;
        }
        // Made aside and attached: unlike `PARTITION OF`, that holds up nobody.
        let room = if *table == "jobs" || *table == "deliveries" {
            "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05"
        } else {
            "autovacuum_vacuum_scale_factor = 0.05"
        };
        tx.batch_execute(&format!(
            "CREATE TABLE {name} (LIKE {table} INCLUDING ALL) WITH ({room}); \
             ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {}",
            bucket.bounds()
        ))
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use linkspan_model::InvocationId;

    use super::*;

    #[test]
    fn an_id_lies_within_its_days_bounds() {
        let id = InvocationId::new();
        let bucket = Family::Jobs.of_id(id.as_bytes());
        let (from, to) = bucket.ids();
        let id = Uuid::from_bytes(*id.as_bytes());
        assert!(from <= id && id < to);
        assert_eq!(bucket, Family::Jobs.of_time(Timestamp::now()));
        assert_eq!(bucket.next().ids().0, to);
    }

    #[test]
    fn a_partition_is_named_by_the_day_on_which_it_begins() {
        let bucket = Family::Jobs.of_time("2026-11-23T23:59:59Z".parse().unwrap());
        assert_eq!(bucket.name("jobs").unwrap(), "jobs_20261123");
        assert_eq!(bucket.ends(), "2026-11-24T00:00:00Z".parse().unwrap());
        let audit = Family::Audit.of_time("2026-11-23T23:59:59Z".parse().unwrap());
        assert_eq!(
            audit
                .ends()
                .duration_since("2026-11-23T00:00:00Z".parse().unwrap())
                .as_hours()
                / 24
                / 32,
            0
        );
    }
}
