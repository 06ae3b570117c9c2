//! The runner's side: [`JobQueue`] on SQLite.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::job::JobEvent;
use linkspan_model::{Code, JobState, Problem, ResultDocument};
use rusqlite::params;

use super::SqliteStore;
use super::deliveries::outbox::send_out;
use super::jobs::{release_key, store_request, stored_request};
use super::rows::{COLUMNS, Row, code, optional_time};
use super::writer::{Need, Scope};
use crate::store::error::StoreError;
use crate::store::jobs::AttemptOutcome;
use crate::store::queue::{
    Attempt, AttemptEnd, Claim, Claimed, Claims, Detach, Finished, JobQueue, Outcome, Recover,
    Recovered,
};

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
        self.writer
            .write("recover jobs", Need::Little, move |scope| {
                recover_dead(scope, &recover)
            })
            .await
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

fn recover_dead(scope: &mut Scope<'_>, recover: &Recover) -> rusqlite::Result<Recovered> {
    let which = if recover.all {
        "?1 IS NOT NULL"
    } else {
        "lease <= ?1"
    };
    let dead = scope
        .connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE state = 1 AND {which}"
        ))?
        .query_map([recover.now.as_microsecond()], Row::read)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut recovered = Recovered::default();
    for mut row in dead {
        let verdict = if row.job.held {
            Some(Problem::new(
                Code::ShuttingDown,
                "the gateway ended while it worked on the request; send it again",
            ))
        } else if row.job.attempts >= row.job.max_attempts {
            Some(Problem::new(
                Code::EngineCrashed,
                format!(
                    "the gateway ended during each of the {} attempts at this document; it is not tried again by itself",
                    row.job.attempts
                ),
            ))
        } else {
            None
        };
        row.remember(AttemptOutcome::Lost, None, recover.now);
        match verdict {
            Some(problem) => {
                row.advance(JobEvent::Fail, recover.now);
                row.job.problem = Some(problem.clone());
                let result = ResultDocument::failed(row.job.id, &row.job.integration, problem);
                store_result(scope, &row, &json(&result)?)?;
                if row.job.held {
                    release_key(scope, row.seq)?;
                } else {
                    let deliveries = (recover.outbox)(&row.job, &result);
                    send_out(scope, &row, &deliveries, recover.now)?;
                }
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

fn store_result(scope: &Scope<'_>, row: &Row, result: &str) -> rusqlite::Result<()> {
    scope
        .connection
        .prepare_cached("INSERT INTO results (seq, result) VALUES (?1, ?2)")?
        .execute(params![row.seq, result])
        .map(|_| ())
}

fn json(result: &ResultDocument) -> rusqlite::Result<String> {
    serde_json::to_string(result)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
