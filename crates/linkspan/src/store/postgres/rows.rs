//! A job's row, read and written whole. Every change of a job goes through [`save`], which raises its version, counts it and tells it.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use linkspan_model::job::JobEvent;
use linkspan_model::{Code, InvocationId, JobState};
use tokio_postgres::Row as Columns;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use super::fault::Fault;
use super::pool::Scope;
use crate::store::jobs::{AttemptOutcome, AttemptRecord, Job, REMEMBERED_ATTEMPTS};
use crate::store::watch::Event;

/// The columns that [`Row::read`] reads, in its order.
pub(super) const COLUMNS: &str = "id, integration, caller, state, version, token, attempts, max_attempts, created, updated, due, \
                                  started, finished, keep, expires, held, request_id, traceparent, problem, owner, lease, history";

/// A job with what only the store knows of it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) token: u64,
    pub(super) keep: SignedDuration,
    /// Who runs it, until when by the server's clock; set for a running job only.
    pub(super) lease: Option<(String, Timestamp)>,
    pub(super) job: Job,
    /// The state that is stored.
    stored: JobState,
}

impl Row {
    pub(super) fn new(job: Job, keep: SignedDuration) -> Self {
        Self {
            token: 0,
            keep,
            lease: None,
            stored: job.state,
            job,
        }
    }

    pub(super) fn read(row: &Columns) -> Result<Self, Fault> {
        let state = state(row.try_get(3)?).ok_or_else(|| Fault::damaged("no such state"))?;
        Ok(Self {
            token: unsigned(row, 5)?,
            keep: SignedDuration::from_micros(row.try_get(13)?),
            lease: row
                .try_get::<_, Option<String>>(19)?
                .zip(optional_time(row, 20)?),
            stored: state,
            job: Job {
                id: invocation(row.try_get(0)?),
                integration: row.try_get(1)?,
                caller: row.try_get(2)?,
                state,
                version: unsigned(row, 4)?,
                attempts: small(row, 6)?,
                max_attempts: small(row, 7)?,
                created: time(row, 8)?,
                updated: time(row, 9)?,
                due: time(row, 10)?,
                started: optional_time(row, 11)?,
                finished: optional_time(row, 12)?,
                expires: optional_time(row, 14)?,
                problem: row
                    .try_get::<_, Option<&str>>(18)?
                    .map(serde_json::from_str)
                    .transpose()
                    .map_err(Fault::damaged)?,
                request_id: row.try_get(16)?,
                traceparent: row.try_get(17)?,
                held: row.try_get(15)?,
                history: list(row, 21)?,
            },
        })
    }

    /// Moves the job by an event. False, and nothing is changed, where the event does not fit its state.
    pub(super) fn advance(&mut self, event: JobEvent, now: Timestamp) -> bool {
        let Some(next) = self.job.state.after(event) else {
            return false;
        };
        self.job.state = next;
        self.lease = None;
        match next {
            JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
                self.job.finished = Some(now);
                self.job.expires = Some(now.checked_add(self.keep).unwrap_or(Timestamp::MAX));
            }
            JobState::Queued if event == JobEvent::Retry => {
                self.job.attempts = 0;
                self.job.due = now;
                self.job.problem = None;
                self.job.finished = None;
                self.job.expires = None;
            }
            _ => {}
        }
        true
    }

    /// Starts the next attempt.
    pub(super) fn start(&mut self, owner: &str, lease: SignedDuration, now: Timestamp) {
        self.job.state = JobState::Running;
        self.job.attempts += 1;
        self.job.started = Some(now);
        self.token += 1;
        self.lease = Some((
            owner.to_owned(),
            now.checked_add(lease).unwrap_or(Timestamp::MAX),
        ));
    }

    /// Remembers how the attempt that is under way ends. Call it before the job moves on.
    pub(super) fn remember(&mut self, outcome: AttemptOutcome, code: Option<Code>, now: Timestamp) {
        let history = &mut self.job.history;
        history.push(AttemptRecord {
            started: self.job.started.unwrap_or(now),
            ended: now,
            outcome,
            code,
        });
        let over = history.len().saturating_sub(REMEMBERED_ATTEMPTS);
        history.drain(..over);
    }

    /// What is told when it is gone.
    pub(super) fn farewell(&self) -> Event {
        self.event(None, self.job.version + 1)
    }

    pub(super) fn uuid(&self) -> Uuid {
        uuid(self.job.id)
    }

    fn event(&self, state: Option<JobState>, version: u64) -> Event {
        Event::Job {
            id: self.job.id,
            integration: self.job.integration.clone(),
            caller: self.job.caller.clone(),
            state,
            version,
        }
    }

    fn tell(&self, scope: &mut Scope<'_>) {
        scope.effects.work |= matches!(self.job.state, JobState::Queued | JobState::Waiting);
        scope.tell(self.event(Some(self.job.state), self.job.version));
    }
}

/// The rows of jobs, locked for the transaction, by id.
pub(super) async fn lock(
    scope: &Scope<'_>,
    ids: &[Uuid],
) -> Result<HashMap<InvocationId, Row>, Fault> {
    // In the order of the ids, so that two transactions do not wait for each other crosswise.
    let found = scope
        .query(
            &format!("SELECT {COLUMNS} FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE"),
            &[&ids],
        )
        .await?;
    found
        .iter()
        .map(|columns| Row::read(columns).map(|row| (row.job.id, row)))
        .collect()
}

/// Stores new jobs.
pub(super) async fn insert(scope: &mut Scope<'_>, rows: &[Row]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let all = Values::of(rows)?;
    let integrations: Vec<_> = rows
        .iter()
        .map(|row| row.job.integration.as_str())
        .collect();
    let callers: Vec<_> = rows.iter().map(|row| row.job.caller.as_str()).collect();
    let most: Vec<_> = rows
        .iter()
        .map(|row| signed(row.job.max_attempts))
        .collect();
    let created: Vec<_> = rows.iter().map(|row| micro(row.job.created)).collect();
    let keep: Vec<_> = rows.iter().map(|row| micros(row.keep)).collect();
    let requests: Vec<_> = rows.iter().map(|row| row.job.request_id.as_str()).collect();
    let traces: Vec<_> = rows
        .iter()
        .map(|row| row.job.traceparent.as_deref())
        .collect();
    scope
        .execute(
            "INSERT INTO jobs (id, state, version, token, attempts, updated, due, started, finished, expires, owner, lease, held, \
             problem, history, integration, caller, max_attempts, created, keep, request_id, traceparent) \
             SELECT * FROM unnest($1::uuid[], $2::int2[], $3::int8[], $4::int8[], $5::int4[], $6::int8[], $7::int8[], $8::int8[], \
             $9::int8[], $10::int8[], $11::text[], $12::int8[], $13::bool[], $14::text[], $15::text[], $16::text[], $17::text[], \
             $18::int4[], $19::int8[], $20::int8[], $21::text[], $22::text[])",
            &[
                &all.ids, &all.states, &all.versions, &all.tokens, &all.attempts, &all.updated, &all.due, &all.started,
                &all.finished, &all.expires, &all.owners, &all.leases, &all.held, &all.problems, &all.histories,
                &integrations, &callers, &most, &created, &keep, &requests, &traces,
            ],
        )
        .await?;
    for row in rows {
        scope
            .effects
            .tallies
            .jobs(&row.job.integration, row.job.state, 1);
        row.tell(scope);
    }
    Ok(())
}

/// Stores what changed of locked rows, in one statement.
pub(super) async fn save<'r>(
    scope: &mut Scope<'_>,
    rows: impl IntoIterator<Item = &'r mut Row>,
    now: Timestamp,
) -> Result<(), Fault> {
    save_each(scope, rows.into_iter().map(|row| (row, now))).await
}

/// The same, where each row has a time of its own.
pub(super) async fn save_each<'r>(
    scope: &mut Scope<'_>,
    rows: impl IntoIterator<Item = (&'r mut Row, Timestamp)>,
) -> Result<(), Fault> {
    let rows: Vec<&mut Row> = rows
        .into_iter()
        .map(|(row, now)| {
            row.job.version += 1;
            row.job.updated = now;
            row
        })
        .collect();
    let all = Values::of(rows.iter().map(|row| &**row))?;
    let (Some(least), Some(most)) = (all.ids.iter().min(), all.ids.iter().max()) else {
        return Ok(());
    };
    // The bounds leave out the partitions that are not concerned.
    scope
        .execute(
            "UPDATE jobs j SET state = n.state, version = n.version, token = n.token, attempts = n.attempts, updated = n.updated, \
             due = n.due, started = n.started, finished = n.finished, expires = n.expires, owner = n.owner, lease = n.lease, \
             held = n.held, problem = n.problem, history = n.history \
             FROM unnest($1::uuid[], $2::int2[], $3::int8[], $4::int8[], $5::int4[], $6::int8[], $7::int8[], $8::int8[], \
             $9::int8[], $10::int8[], $11::text[], $12::int8[], $13::bool[], $14::text[], $15::text[]) \
             AS n (id, state, version, token, attempts, updated, due, started, finished, expires, owner, lease, held, problem, history) \
             WHERE j.id = n.id AND j.id >= $16 AND j.id <= $17",
            &[
                &all.ids, &all.states, &all.versions, &all.tokens, &all.attempts, &all.updated, &all.due, &all.started,
                &all.finished, &all.expires, &all.owners, &all.leases, &all.held, &all.problems, &all.histories, least, most,
            ],
        )
        .await?;
    for row in rows {
        if row.stored != row.job.state {
            let tallies = &mut scope.effects.tallies;
            tallies.jobs(&row.job.integration, row.stored, -1);
            tallies.jobs(&row.job.integration, row.job.state, 1);
            row.stored = row.job.state;
        }
        row.tell(scope);
    }
    Ok(())
}

/// What changes of rows, by column.
#[derive(Default)]
struct Values<'r> {
    ids: Vec<Uuid>,
    states: Vec<i16>,
    versions: Vec<i64>,
    tokens: Vec<i64>,
    attempts: Vec<i32>,
    updated: Vec<i64>,
    due: Vec<i64>,
    started: Vec<Option<i64>>,
    finished: Vec<Option<i64>>,
    expires: Vec<Option<i64>>,
    owners: Vec<Option<&'r str>>,
    leases: Vec<Option<i64>>,
    held: Vec<bool>,
    problems: Vec<Option<String>>,
    histories: Vec<Option<String>>,
}

impl<'r> Values<'r> {
    fn of(rows: impl IntoIterator<Item = &'r Row>) -> Result<Self, Fault> {
        let mut all = Self::default();
        for row in rows {
            let job = &row.job;
            all.ids.push(row.uuid());
            all.states.push(code(job.state));
            all.versions.push(big(job.version));
            all.tokens.push(big(row.token));
            all.attempts.push(signed(job.attempts));
            all.updated.push(micro(job.updated));
            all.due.push(micro(job.due));
            all.started.push(job.started.map(micro));
            all.finished.push(job.finished.map(micro));
            all.expires.push(job.expires.map(micro));
            all.owners
                .push(row.lease.as_ref().map(|(owner, _)| owner.as_str()));
            all.leases
                .push(row.lease.as_ref().map(|(_, until)| micro(*until)));
            all.held.push(job.held);
            all.problems.push(
                job.problem
                    .as_ref()
                    .map(serde_json::to_string)
                    .transpose()?,
            );
            all.histories.push(some_json(&job.history)?);
        }
        Ok(all)
    }
}

/// A state's number in the tables.
pub(super) const fn code(state: JobState) -> i16 {
    match state {
        JobState::Queued => 0,
        JobState::Running => 1,
        JobState::Waiting => 2,
        JobState::Succeeded => 3,
        JobState::Failed => 4,
        JobState::Cancelled => 5,
        JobState::Expired => 6,
    }
}

/// The state with a number.
pub(super) fn state(number: i16) -> Option<JobState> {
    JobState::ALL
        .into_iter()
        .find(|state| code(*state) == number)
}

pub(super) fn uuid(id: InvocationId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn invocation(id: Uuid) -> InvocationId {
    InvocationId::from_bytes(*id.as_bytes())
}

/// A moment as the tables keep it.
pub(super) fn micro(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// A number as the tables keep it.
pub(super) fn big(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A number from its column.
pub(super) fn unsigned(row: &Columns, column: usize) -> Result<u64, Fault> {
    u64::try_from(row.try_get::<_, i64>(column)?).map_err(Fault::damaged)
}

/// A small number from its column.
pub(super) fn small(row: &Columns, column: usize) -> Result<u32, Fault> {
    u32::try_from(row.try_get::<_, i32>(column)?).map_err(Fault::damaged)
}

/// A time from its column.
pub(super) fn time(row: &Columns, column: usize) -> Result<Timestamp, Fault> {
    Timestamp::from_microsecond(row.try_get(column)?).map_err(Fault::damaged)
}

/// A time, or none, from its column.
pub(super) fn optional_time(row: &Columns, column: usize) -> Result<Option<Timestamp>, Fault> {
    row.try_get::<_, Option<i64>>(column)?
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(Fault::damaged)
}

/// A list as JSON text; none where it is empty.
pub(super) fn some_json<T: serde::Serialize>(list: &[T]) -> Result<Option<String>, Fault> {
    (!list.is_empty())
        .then(|| serde_json::to_string(list))
        .transpose()
        .map_err(Fault::from)
}

/// A list from its column of JSON text.
pub(super) fn list<T: serde::de::DeserializeOwned>(
    row: &Columns,
    column: usize,
) -> Result<Vec<T>, Fault> {
    row.try_get::<_, Option<&str>>(column)?
        .map(serde_json::from_str)
        .transpose()
        .map(Option::unwrap_or_default)
        .map_err(Fault::damaged)
}

/// The only column of each row.
pub(super) fn column<'r, T: FromSql<'r>>(rows: &'r [Columns]) -> Result<Vec<T>, Fault> {
    rows.iter()
        .map(|row| row.try_get(0).map_err(Fault::from))
        .collect()
}

/// A text as PostgreSQL can keep it: its texts hold no NUL.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
