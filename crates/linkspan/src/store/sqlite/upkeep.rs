//! [`Upkeep`] on SQLite: counts, health, and the sweep, each of whose pieces is a transaction of its own.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::job::JobEvent;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::deliveries::outbox::give_up;
use super::jobs::{digest, erase_content};
use super::rows::{COLUMNS, Row, damaged, state, time};
use super::writer::{Need, Scope};
use crate::logging;
use crate::store::blobs::{Condemned, Digest};
use crate::store::error::StoreError;
use crate::store::upkeep::{Counts, Health, Retention, Swept, Tally, Upkeep};
use crate::store::watch::Watchers;

/// How much of each kind a sweep removes at once, so that it holds up nobody for long.
const PIECE: usize = 500;

/// A blob without a row is left alone for so long.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

const SWEEPING: &str = "sweep";

#[async_trait]
impl Upkeep for SqliteStore {
    async fn counts(&self) -> Result<Counts, StoreError> {
        self.readers.read("count the jobs", count).await
    }

    async fn sweep(&self, retention: Retention, now: Timestamp) -> Result<Swept, StoreError> {
        let before = moment(now, retention.rows);
        let over = self
            .readers
            .read(SWEEPING, move |connection| over(connection, now, before))
            .await?;
        let mut swept = Swept {
            expired: self
                .write(move |scope| expire(scope, &over, now, before))
                .await?,
            ..Swept::default()
        };
        swept.rows = self.write(move |scope| remove_rows(scope, before)).await?;
        let labels = self
            .write(move |scope| {
                remove(
                    scope,
                    "DELETE FROM labels WHERE (integration, minute, service, label) IN \
                     (SELECT integration, minute, service, label FROM labels WHERE minute <= ?1 LIMIT ?2)",
                    before,
                )
            })
            .await?;
        swept.keys = self
            .write(move |scope| {
                remove(
                    scope,
                    "DELETE FROM idempotency WHERE (caller, integration, key) IN (SELECT i.caller, i.integration, i.key \
                     FROM idempotency i JOIN jobs j USING (seq) WHERE i.expires <= ?1 AND j.state >= 3 LIMIT ?2)",
                    now.as_microsecond(),
                )
            })
            .await?;
        let before = moment(now, retention.audit);
        swept.audit = self
            .write(move |scope| {
                remove(
                    scope,
                    "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE at <= ?1 LIMIT ?2)",
                    before,
                )
            })
            .await?;
        let sessions = self
            .write(move |scope| {
                remove(
                    scope,
                    "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires <= ?1 LIMIT ?2)",
                    now.as_microsecond(),
                )
            })
            .await?;
        self.follow_up(now).await?;
        swept.blobs = self.find_orphans().await? + self.bury().await?;
        let full = PIECE as u64;
        swept.more = [
            swept.expired,
            swept.rows,
            swept.keys,
            swept.audit,
            swept.blobs,
            sessions,
            labels,
        ]
        .into_iter()
        .any(|removed| removed >= full);
        self.writer.empty_log().await;
        Ok(swept)
    }

    fn health(&self) -> Health {
        if self.gauge.probe_is_due() {
            self.writer.probe();
        }
        match (self.gauge.health(), &self.blobs) {
            (Health::Accepting, Some(blobs)) => blobs.health(),
            (health, _) => health,
        }
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    async fn close(&self) {
        self.writer.close().await;
    }
}

impl SqliteStore {
    /// Removes the blobs in the trash that no row names and no pin holds.
    pub(super) async fn bury(&self) -> Result<u64, StoreError> {
        let trash = self
            .readers
            .read(SWEEPING, |connection| {
                connection
                    .prepare_cached("SELECT digest FROM trash LIMIT ?1")?
                    .query_map([PIECE], |row| digest(0, &row.get::<_, Vec<u8>>(0)?))?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        if trash.is_empty() {
            return Ok(0);
        }
        let (removed, settled) = self.remove_unnamed(trash).await?;
        self.write(move |scope| {
            let mut forget = scope
                .connection
                .prepare_cached("DELETE FROM trash WHERE digest = ?1")?;
            for digest in &settled {
                forget.execute([digest.0])?;
            }
            Ok(())
        })
        .await?;
        Ok(removed)
    }

    /// Looks at the next blobs and removes those without a row: a gateway that ended between the two left them.
    async fn find_orphans(&self) -> Result<u64, StoreError> {
        let Some(blobs) = &self.blobs else {
            return Ok(0);
        };
        let after = *self.searched.lock().unwrap_or_else(PoisonError::into_inner);
        let found = blobs.list(after, ORPHAN_AGE, PIECE).await?;
        let next = found.last().copied().filter(|_| found.len() == PIECE);
        let (removed, _) = self.remove_unnamed(found).await?;
        *self.searched.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(removed)
    }

    /// Removes those of the blobs that no row names and no pin holds. Gives how many were removed, and which are settled: removed, or
    /// named by a row.
    async fn remove_unnamed(&self, digests: Vec<Digest>) -> Result<(u64, Vec<Digest>), StoreError> {
        let Some(blobs) = &self.blobs else {
            return Ok((0, Vec::new()));
        };
        // Condemned first: from then on no row can come to name them, since who stores a row holds a pin.
        let condemned: Vec<_> = digests
            .into_iter()
            .filter_map(|digest| blobs.condemn(digest))
            .collect();
        let mut settled: Vec<Digest> = condemned.iter().map(Condemned::digest).collect();
        let asked = settled.clone();
        let named: HashSet<Digest> = self
            .readers
            .read(SWEEPING, move |connection| {
                named_by_rows(connection, &asked)
            })
            .await?;
        let mut removed = 0;
        for condemned in condemned {
            let digest = condemned.digest();
            if named.contains(&digest) {
                continue;
            }
            match blobs.erase(condemned).await {
                Ok(there) => removed += u64::from(there),
                Err(error) => {
                    tracing::warn!(
                        error = logging::chain(&error),
                        "a blob without a row could not be removed"
                    );
                    settled.retain(|other| *other != digest);
                }
            }
        }
        Ok((removed, settled))
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Scope<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(SWEEPING, Need::Little, work).await
    }
}

fn count(connection: &Connection) -> rusqlite::Result<Counts> {
    let tallies = connection
        .prepare_cached("SELECT integration, state, jobs FROM tallies WHERE jobs > 0")?
        .query_map([], |row| {
            Ok(Tally {
                integration: row.get(0)?,
                state: state(row.get(1)?)
                    .ok_or_else(|| damaged(1, Type::Integer, "no such state"))?,
                jobs: row.get(2)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let oldest: Vec<(String, Timestamp)> = connection
        .prepare_cached(
            "SELECT integration, min(due) FROM jobs WHERE state IN (0, 2) GROUP BY integration",
        )?
        .query_map([], |row| Ok((row.get(0)?, time(row, 1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Counts {
        tallies,
        oldest_due: oldest.iter().map(|(_, due)| *due).min(),
        oldest,
    })
}

/// What is to expire: jobs whose time is over and whose result is needed by no delivery that is open, or that died within a retention
/// and may be replayed; or that such ones have kept for as long as a row is kept.
const OVER: &str = "state IN (3, 4, 5) AND expires <= ?1 AND (expires <= ?2 \
                    OR NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.job = jobs.seq \
                                   AND (d.state IN (0, 1, 4) OR (d.state = 3 AND d.finished > ?1 - jobs.keep))))";

/// The next jobs that are to expire. Found outside the writing thread: many jobs may be kept by a receiver that is down.
fn over(connection: &Connection, now: Timestamp, before: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(&format!("SELECT seq FROM jobs WHERE {OVER} LIMIT ?3"))?
        .query_map(params![now.as_microsecond(), before, PIECE], |row| {
            row.get(0)
        })?
        .collect()
}

fn expire(
    scope: &mut Scope<'_>,
    over: &[i64],
    now: Timestamp,
    before: i64,
) -> rusqlite::Result<u64> {
    let mut count = 0;
    for seq in over {
        let row = scope
            .connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM jobs WHERE {OVER} AND seq = ?3"
            ))?
            .query_row(params![now.as_microsecond(), before, seq], Row::read)
            .optional()?;
        let Some(mut row) = row else { continue };
        if row.advance(JobEvent::Expire, now) {
            if give_up(scope, row.seq, now)? > 0 {
                // Kept for its deliveries until now. Its row, with the reason why they are dead, stays its time from here.
                row.job.expires = Some(now);
            }
            erase_content(scope, row.seq)?;
            row.save(scope, now)?;
            count += 1;
        }
    }
    Ok(count)
}

fn remove_rows(scope: &mut Scope<'_>, before: i64) -> rusqlite::Result<u64> {
    let over = scope
        .connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE state = 6 AND expires <= ?1 LIMIT ?2"
        ))?
        .query_map(params![before, PIECE], Row::read)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    for row in &over {
        scope
            .connection
            .prepare_cached("DELETE FROM jobs WHERE seq = ?1")?
            .execute([row.seq])?;
        scope.tell(row.farewell());
    }
    Ok(over.len() as u64)
}

fn remove(scope: &Scope<'_>, statement: &str, before: i64) -> rusqlite::Result<u64> {
    let removed = scope
        .connection
        .prepare_cached(statement)?
        .execute(params![before, PIECE])?;
    Ok(removed as u64)
}

fn named_by_rows(connection: &Connection, digests: &[Digest]) -> rusqlite::Result<HashSet<Digest>> {
    let mut find =
        connection.prepare_cached("SELECT 1 FROM documents WHERE digest = ?1 LIMIT 1")?;
    let mut named = HashSet::new();
    for digest in digests {
        if find.exists([digest.0])? {
            named.insert(*digest);
        }
    }
    Ok(named)
}

fn moment(now: Timestamp, ago: SignedDuration) -> i64 {
    now.checked_sub(ago)
        .unwrap_or(Timestamp::MIN)
        .as_microsecond()
}
