//! Deliveries on SQLite: the sender's side, [`DeliveryQueue`]. What people see of them is in [`people`], what a job's end, retry and
//! expiry do to them in [`outbox`].

pub(super) mod outbox;
mod pauses;
mod people;
mod rows;

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::DeliveryState;
use linkspan_model::delivery::DeliveryEvent;
use rusqlite::{OptionalExtension, params};

use super::SqliteStore;
use super::rows::optional_time;
use super::writer::{Need, Scope};
use crate::logging::in_ms;
use crate::store::deliveries::{
    ClaimedDelivery, DeliveryAttempt, DeliveryClaim, DeliveryClaims, DeliveryEnd, DeliveryOutcome,
    DeliveryQueue, Endpoint, Try, TryOutcome,
};
use crate::store::error::StoreError;
use pauses::{follow, is_paused, pause};
use rows::{COLUMNS, DeliveryRow, TABLES};

impl SqliteStore {
    /// Lets deliveries follow their endpoints' pauses, where a gateway ended, or had no time, before all had.
    pub(super) async fn follow_up(&self, now: Timestamp) -> Result<(), StoreError> {
        let behind = self.readers.read("sweep", pauses::behind).await?;
        for endpoint in behind {
            follow(self, endpoint, now).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl DeliveryQueue for SqliteStore {
    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<DeliveryClaims, StoreError> {
        self.writer
            .write("claim deliveries", Need::Little, move |scope| {
                claim_due(scope, &claim)
            })
            .await
    }

    async fn finish_deliveries(
        &self,
        ends: Vec<DeliveryEnd>,
        now: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        let (stored, paused) = self
            .writer
            .write("end deliveries", Need::Little, move |scope| {
                let mut paused = BTreeSet::new();
                let stored = ends
                    .iter()
                    .map(|end| finish(scope, end, now, &mut paused))
                    .collect::<rusqlite::Result<Vec<_>>>()?;
                Ok((stored, paused))
            })
            .await?;
        for endpoint in paused {
            if let Err(error) = follow(self, endpoint, now).await {
                // The pause holds already.
                tracing::warn!(
                    error = crate::logging::chain(&error),
                    "the deliveries of a paused endpoint follow with the next sweep"
                );
            }
        }
        Ok(stored)
    }

    async fn renew_deliveries(
        &self,
        attempts: Vec<DeliveryAttempt>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<DeliveryAttempt>, StoreError> {
        let until = now
            .checked_add(lease)
            .unwrap_or(Timestamp::MAX)
            .as_microsecond();
        self.writer
            .write(
                "renew the leases of deliveries",
                Need::Little,
                move |scope| {
                    let mut renew = scope.connection.prepare_cached(
                    "UPDATE deliveries SET lease = ?1 WHERE id = ?2 AND token = ?3 AND state = 1",
                )?;
                    let mut lost = Vec::new();
                    for attempt in &attempts {
                        if renew.execute(params![until, attempt.id.as_bytes(), attempt.token])? == 0
                        {
                            lost.push(*attempt);
                        }
                    }
                    Ok(lost)
                },
            )
            .await
    }

    async fn recover_deliveries(&self, all: bool, now: Timestamp) -> Result<u64, StoreError> {
        self.writer
            .write("recover deliveries", Need::Little, move |scope| {
                recover(scope, all, now)
            })
            .await
    }
}

fn claim_due(scope: &mut Scope<'_>, claim: &DeliveryClaim) -> rusqlite::Result<DeliveryClaims> {
    let connection = scope.connection;
    let now = claim.now.as_microsecond();
    let mut claims = DeliveryClaims::default();
    for (endpoint, places) in &claim.places {
        if is_paused(connection, endpoint)? {
            continue;
        }
        let due = connection
            .prepare_cached(&format!(
                "SELECT {COLUMNS}, j.traceparent, j.expires FROM {TABLES} WHERE d.integration = ?1 AND d.channel = ?2 AND d.state = 0 \
                 AND d.due <= ?3 ORDER BY d.due, d.seq LIMIT ?4"
            ))?
            .query_map(
                params![endpoint.integration, endpoint.channel, now, places],
                |row| {
                    let traceparent = row.get::<_, Option<String>>(23)?;
                    Ok((DeliveryRow::read(row)?, traceparent, optional_time(row, 24)?))
                },
            )?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for (mut row, traceparent, kept_until) in due {
            row.start(&claim.owner, claim.lease, claim.now);
            row.save(scope, claim.now)?;
            let result = connection
                .prepare_cached("SELECT result FROM results WHERE seq = ?1")?
                .query_row([row.job], |row| row.get(0))
                .optional()?;
            claims.claimed.push(ClaimedDelivery {
                attempt: DeliveryAttempt {
                    id: row.delivery.id,
                    token: row.token,
                },
                delivery: row.delivery,
                result,
                traceparent,
                kept_until,
            });
        }
        let next = connection
            .prepare_cached(
                "SELECT min(due) FROM deliveries WHERE integration = ?1 AND channel = ?2 AND state = 0",
            )?
            .query_row([&endpoint.integration, &endpoint.channel], |row| {
                optional_time(row, 0)
            })?;
        claims.next = match (claims.next, next) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    Ok(claims)
}

/// Ends one attempt. False where it is no longer the delivery's. An endpoint that it pauses joins `paused`.
fn finish(
    scope: &mut Scope<'_>,
    end: &DeliveryEnd,
    now: Timestamp,
    paused: &mut BTreeSet<Endpoint>,
) -> rusqlite::Result<bool> {
    let Some(mut row) = DeliveryRow::find(scope.connection, end.attempt.id)? else {
        return Ok(false);
    };
    if row.delivery.state != DeliveryState::Sending || row.token != end.attempt.token {
        return Ok(false);
    }
    if let Some(tried) = &end.tried {
        row.delivery.reason = Some(tried.detail.clone());
        row.remember(tried.clone());
    }
    match &end.outcome {
        DeliveryOutcome::Delivered => {
            row.advance(DeliveryEvent::Deliver, now);
            row.delivery.reason = None;
        }
        DeliveryOutcome::Retry { due } => postpone(scope, &mut row, *due, now)?,
        DeliveryOutcome::Dead { reason } => {
            row.advance(DeliveryEvent::GiveUp, now);
            row.delivery.reason = Some(reason.clone());
        }
        DeliveryOutcome::Pause { reason } => {
            row.advance(DeliveryEvent::Pause, now);
            row.delivery.reason = Some(reason.clone());
            pause(scope, &row.delivery.endpoint, reason, now)?;
            paused.insert(row.delivery.endpoint.clone());
        }
        DeliveryOutcome::Released => {
            row.delivery.attempts = row.delivery.attempts.saturating_sub(1);
            postpone(scope, &mut row, now, now)?;
        }
    }
    row.save(scope, now)?;
    Ok(true)
}

/// Another attempt follows: when it is due, or when the endpoint goes on.
fn postpone(
    scope: &Scope<'_>,
    row: &mut DeliveryRow,
    due: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let event = if is_paused(scope.connection, &row.delivery.endpoint)? {
        DeliveryEvent::Pause
    } else {
        DeliveryEvent::Postpone
    };
    row.advance(event, now);
    row.delivery.due = due;
    Ok(())
}

fn recover(scope: &mut Scope<'_>, all: bool, now: Timestamp) -> rusqlite::Result<u64> {
    let which = if all {
        "?1 IS NOT NULL"
    } else {
        "d.lease <= ?1"
    };
    let dead = scope
        .connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {TABLES} WHERE d.state = 1 AND {which}"
        ))?
        .query_map([now.as_microsecond()], DeliveryRow::read)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let count = dead.len() as u64;
    for mut row in dead {
        let detail = "the gateway ended during the attempt; whether it arrived is unknown";
        // Nothing but its start has changed a delivery that is sending.
        let started = row.delivery.updated;
        row.remember(Try {
            at: started,
            took_ms: in_ms(now.duration_since(started).unsigned_abs()),
            outcome: TryOutcome::Lost,
            status: None,
            detail: detail.to_owned(),
        });
        row.delivery.reason = Some(detail.to_owned());
        row.delivery.cut_off += 1;
        postpone(scope, &mut row, now, now)?;
        row.save(scope, now)?;
    }
    Ok(count)
}
