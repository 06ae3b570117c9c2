//! What people see of deliveries, and do to them: [`DeliveryStore`] on PostgreSQL.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;
use linkspan_model::delivery::DeliveryEvent;
use linkspan_model::{Code, DeliveryId, DeliveryState, InvocationId};
use tokio_postgres::Row as Columns;
use uuid::Uuid;

use super::super::PostgresStore;
use super::super::fault::Fault;
use super::super::jobs::Conditions;
use super::super::keys::{audit_bucket, write_audit};
use super::super::partitions::Bucket;
use super::super::pool::{Change, Scope, query};
use super::super::rows::{column, invocation, micro, optional_time, text, time, unsigned, uuid};
use super::outbox::earliest;
use super::pauses::{self, follow, pause, resume};
use super::rows::{self, COLUMNS, DeliveryRow, code, delivery_uuid, state};
use crate::store::audit::{Actor, AuditLine};
use crate::store::deliveries::{
    COMMANDED_AT_ONCE, DeliveriesCommanded, Delivery, DeliveryCommand, DeliveryPage, DeliveryQuery,
    DeliveryStore, Endpoint, EndpointStatus, Pause,
};
use crate::store::error::StoreError;

#[async_trait]
impl DeliveryStore for PostgresStore {
    async fn get_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.db
            .read("read a delivery", move |client| async move {
                let rows = query(
                    &client,
                    &format!("SELECT {COLUMNS} FROM deliveries WHERE id = $1"),
                    &[&delivery_uuid(id)],
                )
                .await?;
                let row = rows.first().map(DeliveryRow::read).transpose()?;
                Ok(row.map(|row| row.delivery))
            })
            .await
    }

    async fn list_deliveries(&self, wanted: DeliveryQuery) -> Result<DeliveryPage, StoreError> {
        self.db
            .read("list deliveries", move |client| {
                let (statement, conditions, limit) = select(&wanted);
                async move {
                    let found = client.query(&statement, &conditions.values()).await?;
                    let (rows, next) = page(&found, limit)?;
                    Ok(DeliveryPage {
                        deliveries: rows.into_iter().map(|row| row.delivery).collect(),
                        next,
                    })
                }
            })
            .await
    }

    async fn command_deliveries(
        &self,
        query: DeliveryQuery,
        command: DeliveryCommand,
        actor: Actor,
        now: Timestamp,
    ) -> Result<DeliveriesCommanded, StoreError> {
        self.db
            .change(Perform {
                query,
                command,
                actor,
                now,
            })
            .await
    }

    async fn endpoints(&self) -> Result<Vec<EndpointStatus>, StoreError> {
        self.db
            .read("list the endpoints", |mut client| async move {
                // On one snapshot: the parts of the answer agree.
                let tx = client
                    .build_transaction()
                    .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
                    .read_only(true)
                    .start()
                    .await?;
                endpoints(&tx).await
            })
            .await
    }

    async fn set_pause(
        &self,
        endpoint: Endpoint,
        reason: Option<String>,
        actor: Actor,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let setting = SetPause {
            endpoint: endpoint.clone(),
            reason,
            actor,
            now,
        };
        let changed = self.db.change(setting).await?;
        if let Err(fault) = follow(&self.db, &endpoint, now).await {
            // It is paused, or not, all the same.
            tracing::warn!(
                error = crate::logging::chain(&fault),
                "the deliveries of an endpoint follow with the next upkeep"
            );
        }
        Ok(changed)
    }
}

/// A command on deliveries.
struct Perform {
    query: DeliveryQuery,
    command: DeliveryCommand,
    actor: Actor,
    now: Timestamp,
}

struct SetPause {
    endpoint: Endpoint,
    reason: Option<String>,
    actor: Actor,
    now: Timestamp,
}

impl Change for Perform {
    type Out = DeliveriesCommanded;
    const DOING: &'static str = "change deliveries";

    fn buckets(&self) -> Vec<Bucket> {
        vec![audit_bucket(self.now)]
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<DeliveriesCommanded, Fault> {
        let done = self.perform(scope).await?;
        let action = match self.command {
            DeliveryCommand::Replay => "delivery.replay",
            DeliveryCommand::GiveUp => "delivery.give-up",
        };
        let outcome = match (done.changed, done.left) {
            (0, 0) if self.query.id.is_some() => Code::NotFound.name(),
            (0, 1..) => Code::WrongState.name(),
            _ => "done",
        };
        let line = audit_line(action, &self.query.target(), outcome, &self.actor, self.now);
        write_audit(scope, &line).await?;
        Ok(done)
    }
}

impl Perform {
    async fn perform(&self, scope: &mut Scope<'_>) -> Result<DeliveriesCommanded, Fault> {
        let (statement, conditions, limit) = select(&self.query);
        let found = scope.tx.query(&statement, &conditions.values()).await?;
        let (rows, next) = page(&found, limit)?;
        let order: Vec<DeliveryId> = rows.iter().map(|row| row.delivery.id).collect();
        // Jobs before deliveries, as all who lock both: an expiry waits, or has erased the result already.
        let jobs: Vec<Uuid> = rows.iter().map(|row| uuid(row.delivery.job)).collect();
        let kept = match self.command {
            DeliveryCommand::Replay => with_result(scope, &jobs).await?,
            DeliveryCommand::GiveUp => HashSet::new(),
        };
        let ids: Vec<Uuid> = rows.iter().map(DeliveryRow::uuid).collect();
        let mut locked = rows::lock(scope, &ids).await?;
        let endpoints = locked.values().map(|row| &row.delivery.endpoint);
        let paused = pauses::paused(scope, endpoints).await?;
        let mut done = DeliveriesCommanded {
            next,
            ..DeliveriesCommanded::default()
        };
        let mut changed = Vec::new();
        for id in order {
            let Some(mut row) = locked.remove(&id) else {
                continue; // gone meanwhile
            };
            // Its state may have changed since it was found; then it is not one of those that were meant.
            if self
                .query
                .state
                .is_some_and(|state| row.delivery.state != state)
            {
                continue;
            }
            let fits = match self.command {
                DeliveryCommand::Replay => {
                    kept.contains(&row.delivery.job) && replay(&mut row, &paused, self.now)
                }
                DeliveryCommand::GiveUp => {
                    let fits = row.advance(DeliveryEvent::GiveUp, self.now);
                    row.delivery.reason = Some("it was given up by hand".to_owned());
                    fits
                }
            };
            if fits {
                done.changed += 1;
                changed.push(row);
            } else {
                done.left += 1;
            }
        }
        rows::save(scope, &mut changed, self.now).await?;
        Ok(done)
    }
}

impl Change for SetPause {
    type Out = u64;
    const DOING: &'static str = "pause an endpoint";

    fn buckets(&self) -> Vec<Bucket> {
        vec![audit_bucket(self.now)]
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<u64, Fault> {
        let (action, outcome, changed) = match &self.reason {
            Some(reason) => {
                let changed = pause(scope, &self.endpoint, reason, self.now).await?;
                ("endpoint.pause", "done", changed)
            }
            None => match resume(scope, &self.endpoint).await? {
                (true, changed) => ("endpoint.resume", "done", changed),
                (false, changed) => ("endpoint.resume", Code::WrongState.name(), changed),
            },
        };
        let target = self.endpoint.to_string();
        let line = audit_line(action, &target, outcome, &self.actor, self.now);
        write_audit(scope, &line).await?;
        Ok(changed)
    }
}

/// The statement that finds what a query asks for, and how many it gives. It asks for one more: that says whether there is a next page.
fn select(query: &DeliveryQuery) -> (String, Conditions, usize) {
    let limit = (query.limit as usize).clamp(1, COMMANDED_AT_ONCE);
    let mut conditions = Conditions::default();
    conditions.add("id =", query.id.map(delivery_uuid));
    conditions.add("job =", query.job.map(uuid));
    // What is older than the job cannot be its.
    conditions.add("id >=", query.job.map(|job| earliest([uuid(job)])));
    conditions.within(query.sight.as_ref());
    conditions.add("caller =", query.caller.as_deref().map(text));
    conditions.add("integration =", query.integration.as_deref().map(text));
    conditions.add("channel =", query.channel.as_deref().map(text));
    conditions.add("created >=", query.from.map(micro));
    conditions.add("created <", query.until.map(micro));
    conditions.add("state =", query.state.map(code));
    conditions.add("id <", query.after.map(delivery_uuid));
    let statement = format!(
        "SELECT {COLUMNS} FROM deliveries WHERE {} ORDER BY id DESC LIMIT {}",
        conditions.text(),
        limit + 1
    );
    (statement, conditions, limit)
}

fn page(found: &[Columns], limit: usize) -> Result<(Vec<DeliveryRow>, Option<DeliveryId>), Fault> {
    let mut rows = found
        .iter()
        .map(DeliveryRow::read)
        .collect::<Result<Vec<_>, _>>()?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.delivery.id);
    Ok((rows, next))
}

/// Those of the jobs whose result is there. They are locked: it stays there to the end of the transaction.
async fn with_result(scope: &Scope<'_>, jobs: &[Uuid]) -> Result<HashSet<InvocationId>, Fault> {
    if jobs.is_empty() {
        return Ok(HashSet::new());
    }
    let mut sorted = jobs.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let live = scope
        .query(
            "SELECT id FROM jobs WHERE id = ANY($1) AND state <> 6 ORDER BY id FOR SHARE",
            &[&sorted],
        )
        .await?;
    let live: Vec<Uuid> = column(&live)?;
    let rows = scope
        .query("SELECT id FROM results WHERE id = ANY($1)", &[&live])
        .await?;
    Ok(column(&rows)?.into_iter().map(invocation).collect())
}

fn replay(row: &mut DeliveryRow, paused: &BTreeSet<Endpoint>, now: Timestamp) -> bool {
    let waited = row.delivery.state == DeliveryState::Pending;
    if row.delivery.superseded || !row.advance(DeliveryEvent::Replay, now) {
        return false;
    }
    if waited {
        row.delivery.due = now;
        return true;
    }
    row.delivery.attempts = 0;
    row.delivery.cut_off = 0;
    row.delivery.due = now;
    row.delivery.reason = None;
    if paused.contains(&row.delivery.endpoint) {
        row.advance(DeliveryEvent::Pause, now);
    }
    true
}

async fn endpoints(tx: &deadpool_postgres::Transaction<'_>) -> Result<Vec<EndpointStatus>, Fault> {
    let mut found: BTreeMap<Endpoint, EndpointStatus> = BTreeMap::new();
    let tallies = tx
        .query(
            "SELECT integration, channel, state, sum(deliveries)::int8 FROM delivery_tallies GROUP BY 1, 2, 3 \
             HAVING sum(deliveries) > 0 ORDER BY 1, 2, 3",
            &[],
        )
        .await?;
    for row in &tallies {
        let state = state(row.try_get(2)?).ok_or_else(|| Fault::damaged("no such state"))?;
        let tally = (state, unsigned(row, 3)?);
        status(&mut found, row)?.tallies.push(tally);
    }
    let pauses = tx
        .query(
            "SELECT integration, channel, since, reason FROM pauses",
            &[],
        )
        .await?;
    for row in &pauses {
        let pause = Pause {
            since: time(row, 2)?,
            reason: row.try_get(3)?,
        };
        status(&mut found, row)?.pause = Some(pause);
    }
    let oldest = tx
        .query(
            "SELECT integration, channel, min(due) FROM deliveries WHERE state = 0 GROUP BY 1, 2",
            &[],
        )
        .await?;
    for row in &oldest {
        status(&mut found, row)?.oldest_due = optional_time(row, 2)?;
    }
    Ok(found.into_values().collect())
}

/// The status of the endpoint that a row's first two columns name.
fn status<'f>(
    found: &'f mut BTreeMap<Endpoint, EndpointStatus>,
    row: &Columns,
) -> Result<&'f mut EndpointStatus, Fault> {
    let endpoint = Endpoint {
        integration: row.try_get(0)?,
        channel: row.try_get(1)?,
    };
    Ok(found
        .entry(endpoint.clone())
        .or_insert_with(|| EndpointStatus {
            endpoint,
            pause: None,
            tallies: Vec::new(),
            oldest_due: None,
        }))
}

fn audit_line(
    action: &str,
    target: &str,
    outcome: &str,
    actor: &Actor,
    now: Timestamp,
) -> AuditLine {
    AuditLine {
        at: now,
        actor: actor.clone(),
        action: action.to_owned(),
        target: target.to_owned(),
        outcome: outcome.to_owned(),
    }
}
