//! The runner's side: [`JobQueue`] on SQLite.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::JobState;
use linkspan_model::job::JobEvent;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::deliveries::outbox::send_out;
use super::jobs::{release_key, store_request, stored_request};
use super::rows::{COLUMNS, Row, code, optional_time};
use super::writer::{Need, Scope};
use crate::store::error::StoreError;
use crate::store::jobs::AttemptOutcome;
use crate::store::queue::{
    Attempt, AttemptEnd, Claim, Claimed, Claims, Detach, Ending, Finished, JobQueue, Outcome,
    Recover, Recovered,
};

/// How many jobs are recovered in one transaction.
const RECOVERED_AT_ONCE: u32 = 100;

#[async_trait]
impl JobQueue for SqliteStore {
    async fn claim(&self, claim: Claim) -> Result<Claims, StoreError> {
        self.writer
            .write("claim jobs", Need::Little, move |scope| {
                claim_due(scope, &claim)
            })
            .await
    }

    async fn finish(&self, end: AttemptEnd) -> Result<Finished, StoreError> {
        self.writer
            .write("end an attempt", Need::Little, move |scope| {
                finish(scope, &end)
            })
            .await
    }

    async fn detach(&self, detach: Detach) -> Result<Finished, StoreError> {
        self.writer
            .write("detach an attempt", Need::Space, move |scope| {
                let Some(mut row) = running(scope, detach.attempt)? else {
                    return Ok(Finished::Fenced);
                };
                if row.job.held {
                    store_request(scope, row.seq, &detach.request, detach.document.as_ref())?;
                    row.job.held = false;
                    row.save(scope, detach.now)?;
                }
                Ok(Finished::Done(row.job))
            })
            .await
    }

    async fn renew(
        &self,
        attempts: Vec<Attempt>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<Attempt>, StoreError> {
        let until = now
            .checked_add(lease)
            .unwrap_or(Timestamp::MAX)
            .as_microsecond();
        self.writer
            .write("renew leases", Need::Little, move |scope| {
                let mut renew = scope.connection.prepare_cached(
                    "UPDATE jobs SET lease = ?1 WHERE id = ?2 AND token = ?3 AND state = ?4",
                )?;
                let mut lost = Vec::new();
                for attempt in &attempts {
                    let held = renew.execute(params![
                        until,
                        attempt.id.as_bytes(),
                        attempt.token,
                        code(JobState::Running)
                    ])?;
                    if held == 0 {
                        lost.push(*attempt);
                    }
                }
                Ok(lost)
            })
            .await
    }

    async fn recover(&self, recover: Recover) -> Result<Recovered, StoreError> {
        const DOING: &str = "recover jobs";
        let mut all = Recovered::default();
        let mut after = Vec::new();
        loop {
            let (asked, from) = (recover.clone(), std::mem::take(&mut after));
            let found = self
                .readers
                .read(DOING, move |connection| {
                    dead_after(connection, &from, &asked)
                })
                .await?;
            let Some(last) = found.last() else {
                return Ok(all);
            };
            after = last.job.id.as_bytes().to_vec();
            let jobs = found.into_iter().map(|row| {
                let (id, token) = (row.job.id, row.token);
                (Attempt { id, token }, row.job)
            });
            // The deliveries are made here: filters are slow, and the writer is everybody's.
            let endings = recover.endings(jobs.collect()).await?;
            let asked = recover.clone();
            let recovered = self
                .writer
                .write(DOING, Need::Little, move |scope| {
                    recover_dead(scope, &asked, &endings)
                })
                .await?;
            all.waiting += recovered.waiting;
            all.failed += recovered.failed;
        }
    }
}

fn claim_due(scope: &mut Scope<'_>, claim: &Claim) -> rusqlite::Result<Claims> {
    let connection = scope.connection;
    let now = claim.now.as_microsecond();
    let mut claims = Claims::default();
    for places in &claim.places {
        let due = connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM jobs WHERE integration = ?1 AND state IN (0, 2) AND due <= ?2 ORDER BY due, seq LIMIT ?3"
            ))?
            .query_map(params![places.integration, now, places.limit], Row::read)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for mut row in due {
            if row.job.state == JobState::Waiting {
                row.advance(JobEvent::Requeue, claim.now);
            }
            row.start(&claim.owner, claim.lease, claim.now);
            row.save(scope, claim.now)?;
            let (request, document) =
                stored_request(connection, row.seq)?.unwrap_or_else(|| ("{}".to_owned(), None));
            claims.claimed.push(Claimed {
                attempt: Attempt {
                    id: row.job.id,
                    token: row.token,
                },
                document,
                request,
                job: row.job,
            });
        }
        let next = connection
            .prepare_cached("SELECT min(due) FROM jobs WHERE integration = ?1 AND state IN (0, 2)")?
            .query_row([&places.integration], |row| optional_time(row, 0))?;
        claims.next = match (claims.next, next) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    Ok(claims)
}

fn finish(scope: &mut Scope<'_>, end: &AttemptEnd) -> rusqlite::Result<Finished> {
    let Some(mut row) = running(scope, end.attempt)? else {
        return Ok(Finished::Fenced);
    };
    let now = end.now;
    match &end.outcome {
        Outcome::Succeeded { result } => {
            row.remember(AttemptOutcome::Succeeded, None, now);
            row.advance(JobEvent::Succeed, now);
            row.job.problem = None;
            store_result(scope, &row, result)?;
            send_out(scope, &row, &end.deliveries, now)?;
        }
        Outcome::Failed {
            problem,
            result,
            release_key: release,
        } => {
            row.remember(AttemptOutcome::Failed, Some(problem.code), now);
            row.advance(JobEvent::Fail, now);
            row.job.problem = Some(problem.clone());
            store_result(scope, &row, result)?;
            send_out(scope, &row, &end.deliveries, now)?;
            if *release {
                release_key(scope, row.seq)?;
            }
        }
        Outcome::Retry { due, problem } => {
            row.remember(AttemptOutcome::Retried, Some(problem.code), now);
            row.advance(JobEvent::Postpone, now);
            row.job.due = *due;
            row.job.problem = Some(problem.clone());
        }
        Outcome::Cancelled => {
            row.remember(AttemptOutcome::Cancelled, None, now);
            row.advance(JobEvent::Cancel, now);
            release_key(scope, row.seq)?;
        }
        Outcome::Released => {
            row.remember(AttemptOutcome::Released, None, now);
            row.advance(JobEvent::Postpone, now);
            row.advance(JobEvent::Requeue, now);
            row.job.attempts = row.job.attempts.saturating_sub(1);
        }
    }
    row.save(scope, now)?;
    Ok(Finished::Done(row.job))
}

/// The next jobs whose attempts are dead, by id.
fn dead_after(
    connection: &Connection,
    after: &[u8],
    recover: &Recover,
) -> rusqlite::Result<Vec<Row>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE state = 1 AND {} AND id > ?2 ORDER BY id LIMIT ?3",
            dead(recover)
        ))?
        .query_map(
            params![recover.now.as_microsecond(), after, RECOVERED_AT_ONCE],
            Row::read,
        )?
        .collect()
}

/// Which attempts are dead, at a time.
fn dead(recover: &Recover) -> &'static str {
    if recover.all {
        "?1 IS NOT NULL"
    } else {
        "lease <= ?1"
    }
}

/// Recovers those of the jobs whose attempt is still theirs, and dead.
fn recover_dead(
    scope: &mut Scope<'_>,
    recover: &Recover,
    endings: &[(Attempt, Option<Ending>)],
) -> rusqlite::Result<Recovered> {
    let mut recovered = Recovered::default();
    for (attempt, ending) in endings {
        let row = scope
            .connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM jobs WHERE state = 1 AND {} AND id = ?2 AND token = ?3",
                dead(recover)
            ))?
            .query_row(
                params![
                    recover.now.as_microsecond(),
                    attempt.id.as_bytes(),
                    attempt.token
                ],
                Row::read,
            )
            .optional()?;
        let Some(mut row) = row else { continue };
        row.remember(AttemptOutcome::Lost, None, recover.now);
        match ending {
            Some(ending) => {
                row.advance(JobEvent::Fail, recover.now);
                row.job.problem = Some(ending.problem.clone());
                store_result(scope, &row, &ending.result)?;
                if row.job.held {
                    release_key(scope, row.seq)?;
                }
                send_out(scope, &row, &ending.deliveries, recover.now)?;
                recovered.failed += 1;
            }
            None => {
                row.advance(JobEvent::Postpone, recover.now);
                let wait = (recover.backoff)(&row.job);
                row.job.due = recover.now.checked_add(wait).unwrap_or(Timestamp::MAX);
                recovered.waiting += 1;
            }
        }
        row.save(scope, recover.now)?;
    }
    Ok(recovered)
}

/// The job's row, if this attempt is still its running one.
fn running(scope: &Scope<'_>, attempt: Attempt) -> rusqlite::Result<Option<Row>> {
    let row = Row::find(scope.connection, attempt.id)?;
    Ok(row.filter(|row| row.job.state == JobState::Running && row.token == attempt.token))
}

/// Stores the result of a job.
pub(super) fn store_result(scope: &Scope<'_>, row: &Row, result: &str) -> rusqlite::Result<()> {
    scope
        .connection
        .prepare_cached("INSERT INTO results (seq, result) VALUES (?1, ?2)")?
        .execute(params![row.seq, result])
        .map(|_| ())
}
