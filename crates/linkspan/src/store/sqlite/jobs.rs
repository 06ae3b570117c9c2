//! The door's side: [`JobStore`] on SQLite.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use linkspan_model::job::JobEvent;
use linkspan_model::{InvocationId, JobState};
use rusqlite::types::{ToSql, Type};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::SqliteStore;
use super::deliveries::outbox::supersede;
use super::keys::write_audit;
use super::rows::{COLUMNS, Row, code, damaged, time};
use super::writer::{Need, Scope};
use crate::store::audit::{Actor, AuditLine};
use crate::store::blobs::{BlobRef, Content, Digest, DocumentRef};
use crate::store::error::StoreError;
use crate::store::jobs::{
    AttemptOutcome, Command, Commanded, Enqueued, Filter, Idempotency, Job, JobStore, NewJob, Page,
    Sight,
};
use crate::store::queue::Attempt;

#[async_trait]
impl JobStore for SqliteStore {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        self.writer
            .write("enqueue a job", Need::Space, move |scope| {
                enqueue(scope, &job)
            })
            .await
    }

    async fn get(&self, id: InvocationId) -> Result<Option<Job>, StoreError> {
        self.readers
            .read("read a job", move |connection| {
                Ok(Row::find(connection, id)?.map(|row| row.job))
            })
            .await
    }

    async fn list(&self, filter: Filter) -> Result<Page, StoreError> {
        self.readers
            .read("list jobs", move |connection| list(connection, &filter))
            .await
    }

    async fn result(&self, id: InvocationId) -> Result<Option<String>, StoreError> {
        self.readers
            .read("read a result", move |connection| {
                connection
                    .prepare_cached("SELECT result FROM results WHERE seq = (SELECT seq FROM jobs WHERE id = ?1)")?
                    .query_row([id.as_bytes()], |row| row.get(0))
                    .optional()
            })
            .await
    }

    async fn document(&self, id: InvocationId) -> Result<Option<DocumentRef>, StoreError> {
        self.readers
            .read("read a document", move |connection| {
                let seq: Option<i64> = connection
                    .prepare_cached("SELECT seq FROM jobs WHERE id = ?1")?
                    .query_row([id.as_bytes()], |row| row.get(0))
                    .optional()?;
                let Some(seq) = seq else { return Ok(None) };
                Ok(stored_request(connection, seq)?.and_then(|(_, document)| document))
            })
            .await
    }

    async fn command(
        &self,
        id: InvocationId,
        command: Command,
        actor: Actor,
        now: Timestamp,
    ) -> Result<Commanded, StoreError> {
        let done = self
            .writer
            .write("change a job", Need::Little, move |scope| {
                let done = perform(scope, id, command, now)?;
                write_audit(scope, &audit_line(id, command, &done, &actor, now))?;
                Ok(done)
            })
            .await?;
        if matches!(done, Commanded::Deleted) {
            // The job is gone whatever becomes of this; what is left is for the sweep.
            if let Err(error) = self.bury().await {
                tracing::warn!(error = %error, "a deleted job's document is left for the next sweep");
            }
        }
        Ok(done)
    }
}

/// Stores the request's part that is erased with the job's content.
pub(super) fn store_request(
    scope: &Scope<'_>,
    seq: i64,
    request: &str,
    document: Option<&DocumentRef>,
) -> rusqlite::Result<()> {
    let (mut inline, mut digest, mut size) = (None, None, None);
    match document.map(|document| &document.content) {
        Some(Content::Inline(bytes)) => inline = Some(&bytes[..]),
        Some(Content::Blob(blob)) => (digest, size) = (Some(&blob.digest.0[..]), Some(blob.size)),
        None => {}
    }
    scope
        .connection
        .prepare_cached(
            "INSERT INTO documents (seq, request, inline, digest, size, media_type, file_name) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            seq,
            request,
            inline,
            digest,
            size,
            document.and_then(|document| document.media_type.as_deref()),
            document.and_then(|document| document.file_name.as_deref()),
        ])?;
    Ok(())
}

/// The request and its document, where they are there.
pub(super) fn stored_request(
    connection: &Connection,
    seq: i64,
) -> rusqlite::Result<Option<(String, Option<DocumentRef>)>> {
    connection
        .prepare_cached("SELECT request, inline, digest, size, media_type, file_name FROM documents WHERE seq = ?1")?
        .query_row([seq], |row| {
            let inline: Option<Vec<u8>> = row.get(1)?;
            let content = match (inline, row.get::<_, Option<Vec<u8>>>(2)?) {
                (Some(bytes), _) => Some(Content::Inline(Bytes::from(bytes))),
                (None, Some(bytes)) => Some(Content::Blob(BlobRef {
                    digest: digest(2, &bytes)?,
                    size: row.get(3)?,
                    pin: None,
                })),
                (None, None) => None,
            };
            let (media_type, file_name) = (row.get(4)?, row.get(5)?);
            let document = content.map(|content| DocumentRef {
                content,
                media_type,
                file_name,
            });
            Ok((row.get(0)?, document))
        })
        .optional()
}

/// Erases a job's request, document and result; the row stays.
pub(super) fn erase_content(scope: &mut Scope<'_>, seq: i64) -> rusqlite::Result<()> {
    bin_blob(scope, seq)?;
    for statement in [
        "DELETE FROM documents WHERE seq = ?1",
        "DELETE FROM results WHERE seq = ?1",
    ] {
        scope.connection.prepare_cached(statement)?.execute([seq])?;
    }
    scope.effects.erased = true;
    Ok(())
}

/// Frees the job's idempotency key.
pub(super) fn release_key(scope: &Scope<'_>, seq: i64) -> rusqlite::Result<()> {
    scope
        .connection
        .prepare_cached("DELETE FROM idempotency WHERE seq = ?1")?
        .execute([seq])?;
    Ok(())
}

/// A digest from its column.
pub(super) fn digest(column: usize, bytes: &[u8]) -> rusqlite::Result<Digest> {
    bytes
        .try_into()
        .map(Digest)
        .map_err(|error| damaged(column, Type::Blob, error))
}

/// The condition that keeps rows within sight; its values follow those that are there. `table` is what stands before the columns.
pub(super) fn within(sight: &Sight, table: &str, values: &mut Vec<Box<dyn ToSql>>) -> String {
    values.push(Box::new(sight.caller.clone()));
    let mut own = format!("{table}caller = ?");
    if let Some(integrations) = &sight.own {
        own = format!("{own} AND {}", one_of(integrations, table, values));
    }
    if sight.whole.is_empty() {
        return own;
    }
    format!("({own} OR {})", one_of(&sight.whole, table, values))
}

fn one_of(integrations: &[String], table: &str, values: &mut Vec<Box<dyn ToSql>>) -> String {
    for integration in integrations {
        values.push(Box::new(integration.clone()));
    }
    let marks = vec!["?"; integrations.len()].join(", ");
    format!("{table}integration IN ({marks})")
}

fn enqueue(scope: &mut Scope<'_>, new: &NewJob) -> rusqlite::Result<Enqueued> {
    if let Some(idempotency) = &new.idempotency
        && let Some(found) = look_up(scope, new, idempotency)?
    {
        return Ok(found);
    }
    let mut row = Row {
        seq: 0,
        token: 0,
        keep: new.keep,
        lease: None,
        job: Job {
            id: new.id,
            integration: new.integration.clone(),
            caller: new.caller.clone(),
            state: JobState::Queued,
            version: 1,
            attempts: 0,
            max_attempts: new.max_attempts,
            created: new.now,
            updated: new.now,
            due: new.due,
            started: None,
            finished: None,
            expires: None,
            problem: None,
            request_id: new.request_id.clone(),
            traceparent: new.traceparent.clone(),
            held: new.start.as_ref().is_some_and(|start| start.held),
            history: Vec::new(),
        },
    };
    if let Some(start) = &new.start {
        row.start(&start.owner, start.lease, new.now);
    }
    row.insert(scope)?;
    if !row.job.held {
        store_request(scope, row.seq, &new.request, new.document.as_ref())?;
    }
    if let Some(idempotency) = &new.idempotency {
        scope
            .connection
            .prepare_cached(
                "INSERT INTO idempotency (caller, integration, key, fingerprint, seq, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                new.caller,
                new.integration,
                idempotency.key,
                idempotency.fingerprint,
                row.seq,
                idempotency.expires.as_microsecond(),
            ])?;
    }
    let attempt = new.start.as_ref().map(|_| Attempt {
        id: row.job.id,
        token: row.token,
    });
    Ok(Enqueued::Created {
        job: row.job,
        attempt,
    })
}

/// What the idempotency key says. None where it is new or free again.
fn look_up(
    scope: &Scope<'_>,
    new: &NewJob,
    idempotency: &Idempotency,
) -> rusqlite::Result<Option<Enqueued>> {
    let found = scope
        .connection
        .prepare_cached("SELECT seq, fingerprint, expires FROM idempotency WHERE caller = ?1 AND integration = ?2 AND key = ?3")?
        .query_row(params![new.caller, new.integration, idempotency.key], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, time(row, 2)?))
        })
        .optional()?;
    let Some((seq, fingerprint, expires)) = found else {
        return Ok(None);
    };
    let job = scope
        .connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE seq = ?1"))?
        .query_row([seq], Row::read)?
        .job;
    if expires <= new.now && job.state.is_terminal() {
        release_key(scope, seq)?;
        return Ok(None);
    }
    Ok(Some(if fingerprint == idempotency.fingerprint {
        Enqueued::Existing(job)
    } else {
        Enqueued::KeyMismatch
    }))
}

fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Page> {
    let limit = filter.limit.clamp(1, 1000) as usize;
    let mut conditions = vec!["1".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(sight) = &filter.sight {
        conditions.push(within(sight, "", &mut values));
    }
    if let Some(caller) = &filter.caller {
        conditions.push("caller = ?".to_owned());
        values.push(Box::new(caller.clone()));
    }
    if let Some(integration) = &filter.integration {
        conditions.push("integration = ?".to_owned());
        values.push(Box::new(integration.clone()));
    }
    if let Some(state) = filter.state {
        conditions.push("state = ?".to_owned());
        values.push(Box::new(code(state)));
    }
    if let Some(request_id) = &filter.request_id {
        conditions.push("request_id = ?".to_owned());
        values.push(Box::new(request_id.clone()));
    }
    if let Some(from) = filter.from {
        conditions.push("created >= ?".to_owned());
        values.push(Box::new(from.as_microsecond()));
    }
    if let Some(until) = filter.until {
        conditions.push("created < ?".to_owned());
        values.push(Box::new(until.as_microsecond()));
    }
    if let Some(after) = filter.after {
        conditions.push("id < ?".to_owned());
        values.push(Box::new(*after.as_bytes()));
    }
    // One more than asked for says whether there is a next page.
    let text = format!(
        "SELECT {COLUMNS} FROM jobs WHERE {} ORDER BY id DESC LIMIT {}",
        conditions.join(" AND "),
        limit + 1
    );
    let mut jobs = connection
        .prepare_cached(&text)?
        .query_map(params_from_iter(values), Row::read)?
        .map(|row| Ok(row?.job))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|job| job.id);
    Ok(Page { jobs, next })
}

fn perform(
    scope: &mut Scope<'_>,
    id: InvocationId,
    command: Command,
    now: Timestamp,
) -> rusqlite::Result<Commanded> {
    let Some(mut row) = Row::find(scope.connection, id)? else {
        return Ok(Commanded::NotFound);
    };
    match command {
        Command::Cancel => {
            if row.job.state == JobState::Running {
                row.remember(AttemptOutcome::Cancelled, None, now);
            }
            if !row.advance(JobEvent::Cancel, now) {
                return Ok(Commanded::WrongState(row.job));
            }
        }
        Command::Retry => {
            let kept = stored_request(scope.connection, row.seq)?.is_some();
            if !kept || !row.advance(JobEvent::Retry, now) {
                return Ok(Commanded::WrongState(row.job));
            }
            scope
                .connection
                .prepare_cached("DELETE FROM results WHERE seq = ?1")?
                .execute([row.seq])?;
            supersede(scope, row.seq, now)?;
            scope.effects.erased = true;
        }
        Command::Delete => {
            bin_blob(scope, row.seq)?;
            // Document, result, key and deliveries go with the row.
            scope
                .connection
                .prepare_cached("DELETE FROM jobs WHERE seq = ?1")?
                .execute([row.seq])?;
            scope.effects.erased = true;
            scope.tell(row.farewell());
            return Ok(Commanded::Deleted);
        }
    }
    row.save(scope, now)?;
    Ok(Commanded::Done(row.job))
}

fn bin_blob(scope: &Scope<'_>, seq: i64) -> rusqlite::Result<()> {
    scope
        .connection
        .prepare_cached(
            "INSERT OR IGNORE INTO trash SELECT digest FROM documents WHERE seq = ?1 AND digest IS NOT NULL",
        )?
        .execute([seq])?;
    Ok(())
}

fn audit_line(
    id: InvocationId,
    command: Command,
    done: &Commanded,
    actor: &Actor,
    now: Timestamp,
) -> AuditLine {
    let action = match command {
        Command::Cancel => "job.cancel",
        Command::Retry => "job.retry",
        Command::Delete => "job.delete",
    };
    let outcome = match done {
        Commanded::Done(_) | Commanded::Deleted => "done",
        Commanded::WrongState(_) => linkspan_model::Code::WrongState.name(),
        Commanded::NotFound => linkspan_model::Code::NotFound.name(),
    };
    AuditLine {
        at: now,
        actor: actor.clone(),
        action: action.to_owned(),
        target: id.to_string(),
        outcome: outcome.to_owned(),
    }
}
