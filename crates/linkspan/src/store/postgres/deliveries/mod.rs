//! Deliveries on PostgreSQL: the sender's side, [`DeliveryQueue`]. What people see of them is in [`people`], what a job's end, retry and
//! expiry do to them in [`outbox`].

pub(super) mod outbox;
pub(super) mod pauses;
mod people;
pub(super) mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::delivery::DeliveryEvent;
use linkspan_model::{DeliveryId, DeliveryState, InvocationId};
use uuid::Uuid;

use super::PostgresStore;
use super::fault::Fault;
use super::pool::{Change, Scope};
use super::rows::{big, invocation, micro, optional_time, text, unsigned, uuid};
use crate::logging::in_ms;
use crate::store::deliveries::{
    ClaimedDelivery, DeliveryAttempt, DeliveryClaim, DeliveryClaims, DeliveryEnd, DeliveryOutcome,
    DeliveryQueue, Endpoint, Try, TryOutcome,
};
use crate::store::error::StoreError;
use pauses::follow;
use rows::{COLUMNS, DeliveryRow, delivery_uuid};

/// For how long an attempt that pauses its endpoint waits for the others to follow.
const SOON: Duration = Duration::from_millis(500);

/// How many deliveries are recovered in one transaction.
const PIECE: i64 = 500;

#[async_trait]
impl DeliveryQueue for PostgresStore {
    async fn claim_deliveries(&self, claim: DeliveryClaim) -> Result<DeliveryClaims, StoreError> {
        self.db.change(claim).await
    }

    async fn finish_deliveries(
        &self,
        ends: Vec<DeliveryEnd>,
        now: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        let (stored, paused) = self.db.change(Finish { ends, now }).await?;
        for endpoint in paused {
            // In a task of its own: the pause holds already, and there may be very many.
            let db = Arc::clone(&self.db);
            let following = self
                .db
                .spawn(async move { follow(&db, &endpoint, now).await });
            let soon = tokio::time::timeout(SOON, following).await;
            if let Ok(Ok(Err(fault))) = soon {
                tracing::warn!(
                    error = crate::logging::chain(&fault),
                    "the deliveries of a paused endpoint follow with the next upkeep"
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
        self.db
            .change(Renew {
                attempts,
                until: self
                    .db
                    .by_server(now)
                    .checked_add(lease)
                    .unwrap_or(Timestamp::MAX),
            })
            .await
    }

    async fn recover_deliveries(&self, all: bool, now: Timestamp) -> Result<u64, StoreError> {
        let mut recovered = 0;
        loop {
            let count = self.db.change(Recover { all, now }).await?;
            recovered += count;
            if big(count) < PIECE {
                return Ok(recovered);
            }
        }
    }
}

struct Finish {
    ends: Vec<DeliveryEnd>,
    now: Timestamp,
}

struct Renew {
    attempts: Vec<DeliveryAttempt>,
    until: Timestamp,
}

/// What a delivery has of its job.
#[derive(Clone, Default)]
struct Carried {
    result: Option<String>,
    traceparent: Option<String>,
    kept_until: Option<Timestamp>,
}

struct Recover {
    all: bool,
    now: Timestamp,
}

impl Change for DeliveryClaim {
    type Out = DeliveryClaims;
    const DOING: &'static str = "claim deliveries";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<DeliveryClaims, Fault> {
        let first = scope.db.partitions.first_open();
        let shared = &*scope;
        // All at once on one connection: the answers come in one round trip.
        let due = try_join_all(
            self.places
                .iter()
                .map(|(endpoint, limit)| due(shared, endpoint, *limit, first, self.now)),
        )
        .await?;
        let mut rows: Vec<DeliveryRow> = due.into_iter().flatten().collect();
        let lease = self.lease.saturating_add(scope.db.ahead());
        for row in &mut rows {
            row.start(&self.owner, lease, self.now);
        }
        rows::save(scope, &mut rows, self.now).await?;
        let mut claimed = Vec::with_capacity(rows.len());
        if !rows.is_empty() {
            let carried = carried(scope, &rows).await?;
            for row in rows {
                let Carried {
                    result,
                    traceparent,
                    kept_until,
                } = carried.get(&row.delivery.job).cloned().unwrap_or_default();
                claimed.push(ClaimedDelivery {
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
        }
        let shared = &*scope;
        let next = try_join_all(
            self.places
                .iter()
                .map(|(endpoint, _)| next(shared, endpoint, first)),
        )
        .await?;
        Ok(DeliveryClaims {
            claimed,
            next: next.into_iter().flatten().min(),
        })
    }
}

/// The due deliveries of an endpoint, locked. Those that another gateway is just claiming are left out.
async fn due(
    scope: &Scope<'_>,
    endpoint: &Endpoint,
    limit: u32,
    first: Uuid,
    now: Timestamp,
) -> Result<Vec<DeliveryRow>, Fault> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let rows = scope
        .query(
            &format!(
                "SELECT {COLUMNS} FROM deliveries WHERE integration = $1 AND channel = $2 AND state = 0 AND due <= $3 AND id >= $4 \
                 AND NOT EXISTS (SELECT FROM pauses WHERE integration = $1 AND channel = $2) ORDER BY due, id LIMIT $5 FOR UPDATE SKIP LOCKED"
            ),
            &[
                &text(&endpoint.integration),
                &text(&endpoint.channel),
                &micro(now),
                &first,
                &i64::from(limit),
            ],
        )
        .await?;
    rows.iter().map(DeliveryRow::read).collect()
}

/// When the next delivery of an endpoint is due.
async fn next(
    scope: &Scope<'_>,
    endpoint: &Endpoint,
    first: Uuid,
) -> Result<Option<Timestamp>, Fault> {
    let rows = scope
        .query(
            "SELECT due FROM deliveries WHERE integration = $1 AND channel = $2 AND state = 0 AND id >= $3 \
             AND NOT EXISTS (SELECT FROM pauses WHERE integration = $1 AND channel = $2) ORDER BY due LIMIT 1",
            &[&text(&endpoint.integration), &text(&endpoint.channel), &first],
        )
        .await?;
    rows.first().map_or(Ok(None), |row| optional_time(row, 0))
}

/// The results and trace contexts that deliveries carry, by job.
async fn carried(
    scope: &Scope<'_>,
    rows: &[DeliveryRow],
) -> Result<HashMap<InvocationId, Carried>, Fault> {
    let jobs: HashSet<Uuid> = rows.iter().map(|row| uuid(row.delivery.job)).collect();
    let jobs: Vec<Uuid> = jobs.into_iter().collect();
    let found = scope
        .query(
            "SELECT j.id, j.traceparent, r.result, j.expires FROM jobs j LEFT JOIN results r ON r.id = j.id AND r.id = ANY($1) AND j.state <> 6 \
             WHERE j.id = ANY($1)",
            &[&jobs],
        )
        .await?;
    found
        .iter()
        .map(|row| {
            let job = invocation(row.try_get(0)?);
            let carried = Carried {
                result: row.try_get(2)?,
                traceparent: row.try_get(1)?,
                kept_until: optional_time(row, 3)?,
            };
            Ok((job, carried))
        })
        .collect()
}

impl Change for Finish {
    type Out = (Vec<bool>, Vec<Endpoint>);
    const DOING: &'static str = "end deliveries";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Self::Out, Fault> {
        let ids: Vec<Uuid> = self
            .ends
            .iter()
            .map(|end| delivery_uuid(end.attempt.id))
            .collect();
        let mut locked = rows::lock(scope, &ids).await?;
        let endpoints = locked.values().map(|row| &row.delivery.endpoint);
        let mut paused = pauses::paused(scope, endpoints).await?;
        // In order: two who pause the same ones wait for each other one way.
        let mut reasons: BTreeMap<Endpoint, String> = BTreeMap::new();
        let mut ended: HashSet<DeliveryId> = HashSet::new();
        let mut stored = Vec::with_capacity(self.ends.len());
        for end in &self.ends {
            let row = locked.get_mut(&end.attempt.id).filter(|row| {
                row.delivery.state == DeliveryState::Sending && row.token == end.attempt.token
            });
            let Some(row) = row else {
                stored.push(false);
                continue;
            };
            if let Some((endpoint, reason)) = finish(row, end, &paused, self.now) {
                paused.insert(endpoint.clone());
                reasons.insert(endpoint, reason);
            }
            ended.insert(end.attempt.id);
            stored.push(true);
        }
        let changed = locked
            .values_mut()
            .filter(|row| ended.contains(&row.delivery.id));
        rows::save(scope, changed, self.now).await?;
        for (endpoint, reason) in &reasons {
            pauses::pause(scope, endpoint, reason, self.now).await?;
        }
        Ok((stored, reasons.into_keys().collect()))
    }
}

/// Ends one attempt. Gives the endpoint that is to be paused, and why.
fn finish(
    row: &mut DeliveryRow,
    end: &DeliveryEnd,
    paused: &BTreeSet<Endpoint>,
    now: Timestamp,
) -> Option<(Endpoint, String)> {
    if let Some(tried) = &end.tried {
        row.delivery.reason = Some(tried.detail.clone());
        row.remember(tried.clone());
    }
    match &end.outcome {
        DeliveryOutcome::Delivered => {
            row.advance(DeliveryEvent::Deliver, now);
            row.delivery.reason = None;
        }
        DeliveryOutcome::Retry { due } => postpone(row, paused, *due, now),
        DeliveryOutcome::Dead { reason } => {
            row.advance(DeliveryEvent::GiveUp, now);
            row.delivery.reason = Some(reason.clone());
        }
        DeliveryOutcome::Pause { reason } => {
            row.advance(DeliveryEvent::Pause, now);
            row.delivery.reason = Some(reason.clone());
            return Some((row.delivery.endpoint.clone(), reason.clone()));
        }
        DeliveryOutcome::Released => {
            row.delivery.attempts = row.delivery.attempts.saturating_sub(1);
            postpone(row, paused, now, now);
        }
    }
    None
}

/// Another attempt follows: when it is due, or when the endpoint goes on.
fn postpone(row: &mut DeliveryRow, paused: &BTreeSet<Endpoint>, due: Timestamp, now: Timestamp) {
    let event = if paused.contains(&row.delivery.endpoint) {
        DeliveryEvent::Pause
    } else {
        DeliveryEvent::Postpone
    };
    row.advance(event, now);
    row.delivery.due = due;
}

impl Change for Renew {
    type Out = Vec<DeliveryAttempt>;
    const DOING: &'static str = "renew the leases of deliveries";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<DeliveryAttempt>, Fault> {
        let ids: Vec<Uuid> = self
            .attempts
            .iter()
            .map(|attempt| delivery_uuid(attempt.id))
            .collect();
        let tokens: Vec<i64> = self
            .attempts
            .iter()
            .map(|attempt| big(attempt.token))
            .collect();
        let rows = scope
            .query(
                "WITH held AS MATERIALIZED (SELECT d.id FROM deliveries d JOIN unnest($2::uuid[], $3::int8[]) AS n (id, token) \
                     ON d.id = n.id AND d.token = n.token WHERE d.id = ANY($2) AND d.state = 1 ORDER BY d.id FOR UPDATE OF d) \
                 UPDATE deliveries d SET lease = $1 FROM held WHERE d.id = held.id AND d.id = ANY($2) RETURNING d.id, d.token",
                &[&micro(self.until), &ids, &tokens],
            )
            .await?;
        let mut held = HashSet::new();
        for row in &rows {
            held.insert(DeliveryAttempt {
                id: DeliveryId::from_bytes(*row.try_get::<_, Uuid>(0)?.as_bytes()),
                token: unsigned(row, 1)?,
            });
        }
        Ok(self
            .attempts
            .iter()
            .filter(|attempt| !held.contains(attempt))
            .copied()
            .collect())
    }
}

impl Change for Recover {
    type Out = u64;
    const DOING: &'static str = "recover deliveries";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<u64, Fault> {
        let which = if self.all {
            "$1::int8 >= 0"
        } else {
            "lease <= $1"
        };
        let found = scope
            .query(
                &format!(
                    "SELECT {COLUMNS} FROM deliveries WHERE state = 1 AND {which} ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED"
                ),
                &[&micro(scope.db.by_server(self.now)), &PIECE],
            )
            .await?;
        let mut rows = found
            .iter()
            .map(DeliveryRow::read)
            .collect::<Result<Vec<_>, _>>()?;
        let endpoints = rows.iter().map(|row| &row.delivery.endpoint);
        let paused = pauses::paused(scope, endpoints).await?;
        for row in &mut rows {
            let detail = "the gateway ended during the attempt; whether it arrived is unknown";
            // Nothing but its start has changed a delivery that is sending.
            let started = row.delivery.updated;
            row.remember(Try {
                at: started,
                took_ms: in_ms(self.now.duration_since(started).unsigned_abs()),
                outcome: TryOutcome::Lost,
                status: None,
                detail: detail.to_owned(),
            });
            row.delivery.reason = Some(detail.to_owned());
            row.delivery.cut_off += 1;
            postpone(row, &paused, self.now, self.now);
        }
        rows::save(scope, &mut rows, self.now).await?;
        Ok(rows.len() as u64)
    }
}
