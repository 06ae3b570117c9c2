//! A job's row, read and written whole. Every change of a job goes through [`Row::save`], which raises its version and tells it.

use jiff::{SignedDuration, Timestamp};
use linkspan_model::job::JobEvent;
use linkspan_model::{Code, InvocationId, JobState};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::writer::Scope;
use crate::store::jobs::{AttemptOutcome, AttemptRecord, Job, REMEMBERED_ATTEMPTS};
use crate::store::watch::Event;

/// The columns that [`Row::read`] reads, in its order.
pub(super) const COLUMNS: &str = "seq, id, integration, caller, state, version, token, attempts, max_attempts, created, updated, \
                                  due, started, finished, keep, expires, held, request_id, traceparent, problem, owner, lease, history";

/// A job with what only the store knows of it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) token: u64,
    pub(super) keep: SignedDuration,
    /// Who runs it, until when; set for a running job only.
    pub(super) lease: Option<(String, Timestamp)>,
    pub(super) job: Job,
}

impl Row {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        let problem: Option<String> = row.get(19)?;
        Ok(Self {
            seq: row.get(0)?,
            token: row.get(6)?,
            keep: SignedDuration::from_micros(row.get(14)?),
            lease: row
                .get::<_, Option<String>>(20)?
                .zip(optional_time(row, 21)?),
            job: Job {
                id: InvocationId::from_bytes(row.get(1)?),
                integration: row.get(2)?,
                caller: row.get(3)?,
                state: state(row.get(4)?)
                    .ok_or_else(|| damaged(4, Type::Integer, "no such state"))?,
                version: row.get(5)?,
                attempts: row.get(7)?,
                max_attempts: row.get(8)?,
                created: time(row, 9)?,
                updated: time(row, 10)?,
                due: time(row, 11)?,
                started: optional_time(row, 12)?,
                finished: optional_time(row, 13)?,
                expires: optional_time(row, 15)?,
                problem: problem
                    .map(|text| serde_json::from_str(&text))
                    .transpose()
                    .map_err(|error| damaged(19, Type::Text, error))?,
                request_id: row.get(17)?,
                traceparent: row.get(18)?,
                held: row.get(16)?,
                history: list(row, 22)?,
            },
        })
    }

    /// The row of a job.
    pub(super) fn find(
        connection: &Connection,
        id: InvocationId,
    ) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?
            .query_row([id.as_bytes()], Self::read)
            .optional()
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

    /// What is told of it.
    pub(super) fn event(&self) -> Event {
        Event::Job {
            id: self.job.id,
            integration: self.job.integration.clone(),
            caller: self.job.caller.clone(),
            state: Some(self.job.state),
            version: self.job.version,
        }
    }

    /// What is told when it is gone.
    pub(super) fn farewell(&self) -> Event {
        Event::Job {
            id: self.job.id,
            integration: self.job.integration.clone(),
            caller: self.job.caller.clone(),
            state: None,
            version: self.job.version + 1,
        }
    }

    /// Stores a new job and sets its `seq`.
    pub(super) fn insert(&mut self, scope: &mut Scope<'_>) -> rusqlite::Result<()> {
        let job = &self.job;
        let problem = self.problem()?;
        let history = some_json(&job.history)?;
        scope
            .connection
            .prepare_cached(
                "INSERT INTO jobs (id, integration, caller, state, version, token, attempts, max_attempts, created, updated, due, \
                 started, finished, keep, expires, owner, lease, held, request_id, traceparent, problem, history) \
                 VALUES (:id, :integration, :caller, :state, :version, :token, :attempts, :max_attempts, :created, :updated, :due, \
                 :started, :finished, :keep, :expires, :owner, :lease, :held, :request_id, :traceparent, :problem, :history)",
            )?
            .execute(named_params! {
                ":id": job.id.as_bytes(),
                ":integration": job.integration,
                ":caller": job.caller,
                ":state": code(job.state),
                ":version": job.version,
                ":token": self.token,
                ":attempts": job.attempts,
                ":max_attempts": job.max_attempts,
                ":created": job.created.as_microsecond(),
                ":updated": job.updated.as_microsecond(),
                ":due": job.due.as_microsecond(),
                ":started": job.started.map(Timestamp::as_microsecond),
                ":finished": job.finished.map(Timestamp::as_microsecond),
                ":keep": micros(self.keep),
                ":expires": job.expires.map(Timestamp::as_microsecond),
                ":owner": self.lease.as_ref().map(|(owner, _)| owner),
                ":lease": self.lease.as_ref().map(|(_, until)| until.as_microsecond()),
                ":held": job.held,
                ":request_id": job.request_id,
                ":traceparent": job.traceparent,
                ":problem": problem,
                ":history": history,
            })?;
        self.seq = scope.connection.last_insert_rowid();
        self.tell(scope);
        Ok(())
    }

    /// Stores what changed.
    pub(super) fn save(&mut self, scope: &mut Scope<'_>, now: Timestamp) -> rusqlite::Result<()> {
        self.job.version += 1;
        self.job.updated = now;
        let job = &self.job;
        let problem = self.problem()?;
        let history = some_json(&job.history)?;
        scope
            .connection
            .prepare_cached(
                "UPDATE jobs SET state = :state, version = :version, token = :token, attempts = :attempts, updated = :updated, \
                 due = :due, started = :started, finished = :finished, expires = :expires, owner = :owner, lease = :lease, \
                 held = :held, problem = :problem, history = :history WHERE seq = :seq",
            )?
            .execute(named_params! {
                ":seq": self.seq,
                ":state": code(job.state),
                ":version": job.version,
                ":token": self.token,
                ":attempts": job.attempts,
                ":updated": job.updated.as_microsecond(),
                ":due": job.due.as_microsecond(),
                ":started": job.started.map(Timestamp::as_microsecond),
                ":finished": job.finished.map(Timestamp::as_microsecond),
                ":expires": job.expires.map(Timestamp::as_microsecond),
                ":owner": self.lease.as_ref().map(|(owner, _)| owner),
                ":lease": self.lease.as_ref().map(|(_, until)| until.as_microsecond()),
                ":held": job.held,
                ":problem": problem,
                ":history": history,
            })?;
        self.tell(scope);
        Ok(())
    }

    fn tell(&self, scope: &mut Scope<'_>) {
        scope.effects.work |= matches!(self.job.state, JobState::Queued | JobState::Waiting);
        scope.tell(self.event());
    }

    fn problem(&self) -> rusqlite::Result<Option<String>> {
        self.job
            .problem
            .as_ref()
            .map(serde_json::to_string)
            .transpose()
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
    }
}

/// A list as JSON text; none where it is empty.
pub(super) fn some_json<T: serde::Serialize>(list: &[T]) -> rusqlite::Result<Option<String>> {
    (!list.is_empty())
        .then(|| serde_json::to_string(list))
        .transpose()
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// A list from its column of JSON text.
pub(super) fn list<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Vec<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map(Option::unwrap_or_default)
        .map_err(|error| damaged(column, Type::Text, error))
}

/// A state's number in the tables.
pub(super) const fn code(state: JobState) -> i64 {
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
pub(super) fn state(number: i64) -> Option<JobState> {
    JobState::ALL
        .into_iter()
        .find(|state| code(*state) == number)
}

/// A time from its column.
pub(super) fn time(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(row.get(column)?)
        .map_err(|error| damaged(column, Type::Integer, error))
}

/// A time, or none, from its column.
pub(super) fn optional_time(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|error| damaged(column, Type::Integer, error))
}

/// A column that holds what this program never writes.
pub(super) fn damaged(
    column: usize,
    kind: Type,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, error.into())
}

fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
