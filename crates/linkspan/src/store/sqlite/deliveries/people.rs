//! What people see of deliveries, and do to them: [`DeliveryStore`] on SQLite.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use linkspan_model::delivery::DeliveryEvent;
use linkspan_model::{Code, DeliveryId, DeliveryState};
use rusqlite::types::{ToSql, Type};
use rusqlite::{Connection, params_from_iter};

use super::super::SqliteStore;
use super::super::jobs::within;
use super::super::keys::write_audit;
use super::super::rows::{damaged, optional_time, time};
use super::super::writer::{Need, Scope};
use super::pauses::{follow, is_paused, pause, resume};
use super::rows::{COLUMNS, DeliveryRow, TABLES, code, state};
use crate::store::audit::{Actor, AuditLine};
use crate::store::deliveries::{
    COMMANDED_AT_ONCE, DeliveriesCommanded, Delivery, DeliveryCommand, DeliveryPage, DeliveryQuery,
    DeliveryStore, Endpoint, EndpointStatus, Pause,
};
use crate::store::error::StoreError;

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn get_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.readers
            .read("read a delivery", move |connection| {
                Ok(DeliveryRow::find(connection, id)?.map(|row| row.delivery))
            })
            .await
    }

    async fn list_deliveries(&self, query: DeliveryQuery) -> Result<DeliveryPage, StoreError> {
        self.readers
            .read("list deliveries", move |connection| {
                let (rows, next) = find(connection, &query)?;
                Ok(DeliveryPage {
                    deliveries: rows.into_iter().map(|row| row.delivery).collect(),
                    next,
                })
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
        self.writer
            .write("change deliveries", Need::Little, move |scope| {
                let done = perform(scope, &query, command, now)?;
                let action = match command {
                    DeliveryCommand::Replay => "delivery.replay",
                    DeliveryCommand::GiveUp => "delivery.give-up",
                };
                let outcome = match (done.changed, done.left) {
                    (0, 0) if query.id.is_some() => Code::NotFound.name(),
                    (0, 1..) => Code::WrongState.name(),
                    _ => "done",
                };
                write_audit(
                    scope,
                    &audit_line(action, &query.target(), outcome, &actor, now),
                )?;
                Ok(done)
            })
            .await
    }

    async fn endpoints(&self) -> Result<Vec<EndpointStatus>, StoreError> {
        self.readers.read("list the endpoints", endpoints).await
    }

    async fn set_pause(
        &self,
        endpoint: Endpoint,
        reason: Option<String>,
        actor: Actor,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let set = endpoint.clone();
        let changed = self
            .writer
            .write("pause an endpoint", Need::Little, move |scope| {
                let (action, outcome, changed) = match &reason {
                    Some(reason) => {
                        let changed = pause(scope, &set, reason, now)?;
                        ("endpoint.pause", "done", changed)
                    }
                    None => match resume(scope, &set)? {
                        (true, changed) => ("endpoint.resume", "done", changed),
                        (false, changed) => ("endpoint.resume", Code::WrongState.name(), changed),
                    },
                };
                let line = audit_line(action, &set.to_string(), outcome, &actor, now);
                write_audit(scope, &line)?;
                Ok(changed)
            })
            .await?;
        if let Err(error) = follow(self, endpoint, now).await {
            // It is paused, or not, all the same.
            tracing::warn!(
                error = crate::logging::chain(&error),
                "the deliveries of an endpoint follow with the next sweep"
            );
        }
        Ok(changed)
    }
}

/// The rows that a query finds, and the next page's cursor.
fn find(
    connection: &Connection,
    query: &DeliveryQuery,
) -> rusqlite::Result<(Vec<DeliveryRow>, Option<DeliveryId>)> {
    let limit = (query.limit as usize).clamp(1, COMMANDED_AT_ONCE);
    let mut conditions = vec!["1".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    // A job has few deliveries, a caller many: the plus keeps SQLite from looking through the caller's.
    let plus = if query.job.is_some() { "+" } else { "" };
    if let Some(sight) = &query.sight {
        conditions.push(within(sight, &format!("{plus}d."), &mut values));
    }
    let mut narrow = |condition: &str, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            conditions.push(condition.to_owned());
            values.push(value);
        }
    };
    narrow("d.id = ?", query.id.map(|id| blob(id.as_bytes())));
    narrow(
        "d.job = (SELECT seq FROM jobs WHERE id = ?)",
        query.job.map(|id| blob(id.as_bytes())),
    );
    narrow(
        &format!("{plus}d.caller = ?"),
        query.caller.as_deref().map(text),
    );
    narrow("d.integration = ?", query.integration.as_deref().map(text));
    narrow("d.channel = ?", query.channel.as_deref().map(text));
    narrow("d.created >= ?", query.from.map(moment));
    narrow("d.created < ?", query.until.map(moment));
    narrow("d.id < ?", query.after.map(|id| blob(id.as_bytes())));
    // Written out, so that the indexes for one state can be used.
    let state = query
        .state
        .map(|state| format!(" AND d.state = {}", code(state)))
        .unwrap_or_default();
    // One more than asked for says whether there is a next page.
    let statement = format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE {}{state} ORDER BY d.id DESC LIMIT {}",
        conditions.join(" AND "),
        limit + 1
    );
    let mut rows = connection
        .prepare_cached(&statement)?
        .query_map(params_from_iter(values), DeliveryRow::read)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.delivery.id);
    Ok((rows, next))
}

fn perform(
    scope: &mut Scope<'_>,
    query: &DeliveryQuery,
    command: DeliveryCommand,
    now: Timestamp,
) -> rusqlite::Result<DeliveriesCommanded> {
    let (rows, next) = find(scope.connection, query)?;
    let mut done = DeliveriesCommanded {
        next,
        ..DeliveriesCommanded::default()
    };
    for mut row in rows {
        let changed = match command {
            DeliveryCommand::Replay => replay(scope, &mut row, now)?,
            DeliveryCommand::GiveUp => {
                let changed = row.advance(DeliveryEvent::GiveUp, now);
                row.delivery.reason = Some("it was given up by hand".to_owned());
                changed
            }
        };
        if changed {
            row.save(scope, now)?;
            done.changed += 1;
        } else {
            done.left += 1;
        }
    }
    Ok(done)
}

fn replay(scope: &Scope<'_>, row: &mut DeliveryRow, now: Timestamp) -> rusqlite::Result<bool> {
    if row.delivery.superseded || !has_result(scope, row.job)? {
        return Ok(false);
    }
    let waited = row.delivery.state == DeliveryState::Pending;
    if !row.advance(DeliveryEvent::Replay, now) {
        return Ok(false);
    }
    if waited {
        row.delivery.due = now;
        return Ok(true);
    }
    row.delivery.attempts = 0;
    row.delivery.cut_off = 0;
    row.delivery.due = now;
    row.delivery.reason = None;
    if is_paused(scope.connection, &row.delivery.endpoint)? {
        row.advance(DeliveryEvent::Pause, now);
    }
    Ok(true)
}

fn has_result(scope: &Scope<'_>, job: i64) -> rusqlite::Result<bool> {
    scope
        .connection
        .prepare_cached("SELECT 1 FROM results WHERE seq = ?1")?
        .exists([job])
}

fn endpoints(connection: &Connection) -> rusqlite::Result<Vec<EndpointStatus>> {
    // In one transaction: the parts of the answer agree.
    let connection = connection.unchecked_transaction()?;
    let mut found: BTreeMap<Endpoint, EndpointStatus> = BTreeMap::new();
    let mut tallies = connection.prepare_cached(
        "SELECT integration, channel, state, deliveries FROM delivery_tallies WHERE deliveries > 0",
    )?;
    let mut rows = tallies.query([])?;
    while let Some(row) = rows.next()? {
        let state: DeliveryState =
            state(row.get(2)?).ok_or_else(|| damaged(2, Type::Integer, "no such state"))?;
        let tally = (state, row.get(3)?);
        status(&mut found, row)?.tallies.push(tally);
    }
    let mut pauses =
        connection.prepare_cached("SELECT integration, channel, since, reason FROM pauses")?;
    let mut rows = pauses.query([])?;
    while let Some(row) = rows.next()? {
        let pause = Pause {
            since: time(row, 2)?,
            reason: row.get(3)?,
        };
        status(&mut found, row)?.pause = Some(pause);
    }
    let mut oldest = connection.prepare_cached(
        "SELECT min(due) FROM deliveries WHERE integration = ?1 AND channel = ?2 AND state = 0",
    )?;
    for status in found.values_mut() {
        let endpoint = &status.endpoint;
        status.oldest_due = oldest
            .query_row([&endpoint.integration, &endpoint.channel], |row| {
                optional_time(row, 0)
            })?;
    }
    Ok(found.into_values().collect())
}

/// The status of the endpoint that a row's first two columns name.
fn status<'f>(
    found: &'f mut BTreeMap<Endpoint, EndpointStatus>,
    row: &rusqlite::Row<'_>,
) -> rusqlite::Result<&'f mut EndpointStatus> {
    let endpoint = Endpoint {
        integration: row.get(0)?,
        channel: row.get(1)?,
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

fn blob(bytes: &[u8; 16]) -> Box<dyn ToSql> {
    Box::new(*bytes)
}

fn text(text: &str) -> Box<dyn ToSql> {
    Box::new(text.to_owned())
}

fn moment(time: Timestamp) -> Box<dyn ToSql> {
    Box::new(time.as_microsecond())
}
