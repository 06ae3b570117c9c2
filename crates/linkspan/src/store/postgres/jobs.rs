//! The door's side: [`JobStore`] on PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;
use linkspan_model::job::JobEvent;
use linkspan_model::{Code, InvocationId, JobState};
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::deliveries::outbox;
use super::fault::Fault;
use super::keys::{audit_bucket, write_audit};
use super::partitions::Bucket;
use super::pool::{Change, Scope, query};
use super::requests::{self, erase, release_keys};
use super::rows::{self, COLUMNS, Row, code, text, uuid};
use crate::store::audit::{Actor, AuditLine};
use crate::store::blobs::DocumentRef;
use crate::store::error::StoreError;
use crate::store::jobs::{
    AttemptOutcome, Command, Commanded, Enqueued, Filter, Job, JobStore, NewJob, Page, Sight,
};

#[async_trait]
impl JobStore for PostgresStore {
    async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        self.enqueue.make(job).await
    }

    async fn get(&self, id: InvocationId) -> Result<Option<Job>, StoreError> {
        let found = self
            .db
            .read("read a job", move |client| async move {
                let rows = query(
                    &client,
                    &format!("SELECT {COLUMNS} FROM jobs WHERE id = $1"),
                    &[&uuid(id)],
                )
                .await?;
                let row = rows.first().map(Row::read).transpose()?;
                Ok(row.map(|row| row.job))
            })
            .await?;
        if let Some(job) = &found {
            let (watchers, state) = (&self.db.watchers, Some(job.state));
            self.db.bell.know(watchers, id, job.version, state);
        }
        Ok(found)
    }

    async fn list(&self, filter: Filter) -> Result<Page, StoreError> {
        self.db
            .read("list jobs", move |client| {
                let filter = filter.clone();
                async move { list(&client, &filter).await }
            })
            .await
    }

    async fn result(&self, id: InvocationId) -> Result<Option<String>, StoreError> {
        self.db
            .read("read a result", move |client| async move {
                // What is left of an expired job waits for its partition to be dropped: nobody sees it.
                let rows = query(
                    &client,
                    "SELECT r.result FROM results r JOIN jobs j USING (id) WHERE r.id = $1 AND j.id = $1 AND j.state <> 6",
                    &[&uuid(id)],
                )
                .await?;
                Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
            })
            .await
    }

    async fn document(&self, id: InvocationId) -> Result<Option<DocumentRef>, StoreError> {
        self.db
            .read("read a document", move |client| async move {
                let rows = query(
                    &client,
                    &format!(
                        "SELECT {} FROM documents WHERE id = $1 AND EXISTS (SELECT FROM jobs j WHERE j.id = $1 AND j.state <> 6)",
                        requests::COLUMNS
                    ),
                    &[&uuid(id)],
                )
                .await?;
                let found = rows.first().map(requests::read).transpose()?;
                Ok(found.and_then(|(_, document)| document))
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
            .db
            .change(Perform {
                id,
                command,
                actor,
                now,
            })
            .await?;
        if matches!(done, Commanded::Deleted) {
            // The job is gone whatever becomes of this; what is left is for the sweep.
            if let Err(error) = self.bury(now).await {
                tracing::warn!(error = %error, "a deleted job's document is left for the next sweep");
            }
        }
        Ok(done)
    }
}

/// A command on a job.
struct Perform {
    id: InvocationId,
    command: Command,
    actor: Actor,
    now: Timestamp,
}

impl Change for Perform {
    type Out = Commanded;
    const DOING: &'static str = "change a job";

    fn buckets(&self) -> Vec<Bucket> {
        vec![audit_bucket(self.now)]
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Commanded, Fault> {
        let done = self.perform(scope).await?;
        write_audit(scope, &self.audit_line(&done)).await?;
        Ok(done)
    }
}

impl Perform {
    async fn perform(&self, scope: &mut Scope<'_>) -> Result<Commanded, Fault> {
        let (id, now) = ([uuid(self.id)], self.now);
        let Some(mut row) = rows::lock(scope, &id).await?.remove(&self.id) else {
            return Ok(Commanded::NotFound);
        };
        match self.command {
            Command::Cancel => {
                if row.job.state.after(JobEvent::Cancel).is_none() {
                    return Ok(Commanded::WrongState(row.job));
                }
                if row.job.state == JobState::Running {
                    row.remember(AttemptOutcome::Cancelled, None, now);
                }
                row.advance(JobEvent::Cancel, now);
            }
            Command::Retry => {
                let kept = requests::find(scope, &id).await?.contains_key(&self.id);
                if !kept || !row.advance(JobEvent::Retry, now) {
                    return Ok(Commanded::WrongState(row.job));
                }
                scope
                    .execute("DELETE FROM results WHERE id = ANY($1)", &[&&id[..]])
                    .await?;
                outbox::supersede(scope, self.id, now).await?;
                scope.db.partitions.has_live(self.id.as_bytes());
            }
            Command::Delete => {
                erase(scope, &id).await?;
                release_keys(scope, &id).await?;
                outbox::remove(scope, &id).await?;
                scope
                    .execute("DELETE FROM jobs WHERE id = ANY($1)", &[&&id[..]])
                    .await?;
                let tallies = &mut scope.effects.tallies;
                tallies.jobs(&row.job.integration, row.job.state, -1);
                scope.tell(row.farewell());
                return Ok(Commanded::Deleted);
            }
        }
        rows::save(scope, [&mut row], now).await?;
        Ok(Commanded::Done(row.job))
    }

    fn audit_line(&self, done: &Commanded) -> AuditLine {
        let action = match self.command {
            Command::Cancel => "job.cancel",
            Command::Retry => "job.retry",
            Command::Delete => "job.delete",
        };
        let outcome = match done {
            Commanded::Done(_) | Commanded::Deleted => "done",
            Commanded::WrongState(_) => Code::WrongState.name(),
            Commanded::NotFound => Code::NotFound.name(),
        };
        AuditLine {
            at: self.now,
            actor: self.actor.clone(),
            action: action.to_owned(),
            target: self.id.to_string(),
            outcome: outcome.to_owned(),
        }
    }
}

/// Conditions with their values.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) texts: Vec<String>,
    pub(super) values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    /// Adds `column OPERATOR value`, where there is a value.
    pub(super) fn add(
        &mut self,
        condition: &str,
        value: Option<impl ToSql + Sync + Send + 'static>,
    ) {
        if let Some(value) = value {
            self.values.push(Box::new(value));
            self.texts
                .push(format!("{condition} ${}", self.values.len()));
        }
    }

    /// Keeps rows within sight.
    pub(super) fn within(&mut self, sight: Option<&Sight>) {
        let Some(sight) = sight else { return };
        let mut any = Self {
            texts: Vec::new(),
            values: std::mem::take(&mut self.values),
        };
        any.add("caller =", Some(text(&sight.caller)));
        if let Some(own) = &sight.own {
            any.one_of("integration", own);
        }
        let own = any.text();
        if sight.whole.is_empty() {
            self.texts.push(own);
        } else {
            any.texts.clear();
            any.one_of("integration", &sight.whole);
            self.texts.push(format!("({own} OR {})", any.text()));
        }
        self.values = any.values;
    }

    fn one_of(&mut self, column: &str, texts: &[String]) {
        let texts: Vec<String> = texts.iter().map(|one| text(one)).collect();
        self.values.push(Box::new(texts));
        let number = self.values.len();
        self.texts.push(format!("{column} = ANY(${number})"));
    }

    /// As they stand after WHERE.
    pub(super) fn text(&self) -> String {
        if self.texts.is_empty() {
            "true".to_owned()
        } else {
            self.texts.join(" AND ")
        }
    }

    pub(super) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values
            .iter()
            .map(|value| &**value as &(dyn ToSql + Sync))
            .collect()
    }
}

async fn list(client: &deadpool_postgres::Client, filter: &Filter) -> Result<Page, Fault> {
    let limit = filter.limit.clamp(1, 1000) as usize;
    let mut conditions = Conditions::default();
    conditions.within(filter.sight.as_ref());
    conditions.add("caller =", filter.caller.as_deref().map(text));
    conditions.add("integration =", filter.integration.as_deref().map(text));
    conditions.add("state =", filter.state.map(code));
    conditions.add("request_id =", filter.request_id.as_deref().map(text));
    conditions.add("created >=", filter.from.map(rows::micro));
    conditions.add("created <", filter.until.map(rows::micro));
    conditions.add("id <", filter.after.map(uuid));
    // One more than asked for says whether there is a next page.
    let statement = format!(
        "SELECT {COLUMNS} FROM jobs WHERE {} ORDER BY id DESC LIMIT {}",
        conditions.text(),
        limit + 1
    );
    let found = client.query(&statement, &conditions.values()).await?;
    let mut jobs = found
        .iter()
        .map(|columns| Row::read(columns).map(|row| row.job))
        .collect::<Result<Vec<_>, _>>()?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|job| job.id);
    Ok(Page { jobs, next })
}
