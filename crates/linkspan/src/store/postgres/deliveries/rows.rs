//! A delivery's row, read and written whole. Every change of one delivery goes through [`save`], which raises its version, counts it
//! and tells it; only what follows an endpoint's pause changes many at once.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use linkspan_model::delivery::DeliveryEvent;
use linkspan_model::{DeliveryId, DeliveryState};
use tokio_postgres::Row as Columns;
use uuid::Uuid;

use super::super::fault::Fault;
use super::super::pool::Scope;
use super::super::rows::{
    big, invocation, list, micro, optional_time, signed, small, some_json, text, time, unsigned,
    uuid,
};
use crate::store::deliveries::{Delivery, Endpoint, REMEMBERED_TRIES, Try};
use crate::store::watch::Event;

/// The columns that [`DeliveryRow::read`] reads, in its order.
pub(super) const COLUMNS: &str = "id, job, caller, integration, channel, kind, receiver, state, version, token, attempts, created, \
                                  updated, due, finished, tries, reason, superseded, owner, lease, cut_off";

/// A delivery with what only the store knows of it.
#[derive(Clone, Debug)]
pub(super) struct DeliveryRow {
    pub(super) token: u64,
    /// Who sends it, until when by the server's clock; set for a sending one only.
    lease: Option<(String, Timestamp)>,
    pub(super) delivery: Delivery,
    /// The state that is stored.
    stored: DeliveryState,
}

impl DeliveryRow {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self {
            token: 0,
            lease: None,
            stored: delivery.state,
            delivery,
        }
    }

    pub(super) fn read(row: &Columns) -> Result<Self, Fault> {
        let state = state(row.try_get(7)?).ok_or_else(|| Fault::damaged("no such state"))?;
        Ok(Self {
            token: unsigned(row, 9)?,
            lease: row
                .try_get::<_, Option<String>>(18)?
                .zip(optional_time(row, 19)?),
            stored: state,
            delivery: Delivery {
                id: DeliveryId::from_bytes(*row.try_get::<_, Uuid>(0)?.as_bytes()),
                job: invocation(row.try_get(1)?),
                caller: row.try_get(2)?,
                endpoint: Endpoint {
                    integration: row.try_get(3)?,
                    channel: row.try_get(4)?,
                },
                kind: row.try_get(5)?,
                receiver: row.try_get(6)?,
                state,
                version: unsigned(row, 8)?,
                attempts: small(row, 10)?,
                cut_off: small(row, 20)?,
                created: time(row, 11)?,
                updated: time(row, 12)?,
                due: time(row, 13)?,
                finished: optional_time(row, 14)?,
                tries: list(row, 15)?,
                reason: row.try_get(16)?,
                superseded: row.try_get(17)?,
            },
        })
    }

    /// Moves the delivery by an event. False, and nothing is changed, where the event does not fit its state.
    pub(super) fn advance(&mut self, event: DeliveryEvent, now: Timestamp) -> bool {
        let Some(next) = self.delivery.state.after(event) else {
            return false;
        };
        self.delivery.state = next;
        self.delivery.finished = (!next.is_open()).then_some(now);
        self.lease = None;
        true
    }

    /// Starts the next attempt.
    pub(super) fn start(&mut self, owner: &str, lease: SignedDuration, now: Timestamp) {
        self.advance(DeliveryEvent::Start, now);
        self.delivery.attempts += 1;
        self.token += 1;
        self.lease = Some((
            owner.to_owned(),
            now.checked_add(lease).unwrap_or(Timestamp::MAX),
        ));
    }

    /// Remembers an attempt that ended.
    pub(super) fn remember(&mut self, tried: Try) {
        let tries = &mut self.delivery.tries;
        tries.push(tried);
        let over = tries.len().saturating_sub(REMEMBERED_TRIES);
        tries.drain(..over);
    }

    pub(super) fn uuid(&self) -> Uuid {
        delivery_uuid(self.delivery.id)
    }

    fn tell(&self, scope: &mut Scope<'_>) {
        let delivery = &self.delivery;
        scope.effects.delivery_work |= delivery.state == DeliveryState::Pending;
        if delivery.state.is_open() {
            scope.db.partitions.has_open(delivery.id.as_bytes());
        }
        scope.tell(Event::Delivery {
            id: delivery.id,
            job: delivery.job,
            endpoint: delivery.endpoint.clone(),
            caller: delivery.caller.clone(),
            state: delivery.state,
            version: delivery.version,
        });
    }
}

/// Deliveries, locked for the transaction, by id.
pub(super) async fn lock(
    scope: &Scope<'_>,
    ids: &[Uuid],
) -> Result<HashMap<DeliveryId, DeliveryRow>, Fault> {
    let found = scope
        .query(
            &format!("SELECT {COLUMNS} FROM deliveries WHERE id = ANY($1) ORDER BY id FOR UPDATE"),
            &[&ids],
        )
        .await?;
    found
        .iter()
        .map(|columns| DeliveryRow::read(columns).map(|row| (row.delivery.id, row)))
        .collect()
}

/// Stores new deliveries.
pub(super) async fn insert(scope: &mut Scope<'_>, rows: &[DeliveryRow]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let each = || rows.iter().map(|row| &row.delivery);
    let ids: Vec<_> = rows.iter().map(DeliveryRow::uuid).collect();
    let jobs: Vec<_> = each().map(|delivery| uuid(delivery.job)).collect();
    let callers: Vec<_> = each().map(|delivery| &delivery.caller).collect();
    let integrations: Vec<_> = each()
        .map(|delivery| &delivery.endpoint.integration)
        .collect();
    let channels: Vec<_> = each().map(|delivery| &delivery.endpoint.channel).collect();
    let kinds: Vec<_> = each().map(|delivery| &delivery.kind).collect();
    let receivers: Vec<_> = each().map(|delivery| text(&delivery.receiver)).collect();
    let states: Vec<_> = each().map(|delivery| code(delivery.state)).collect();
    let created: Vec<_> = each().map(|delivery| micro(delivery.created)).collect();
    let due: Vec<_> = each().map(|delivery| micro(delivery.due)).collect();
    let finished: Vec<_> = each()
        .map(|delivery| delivery.finished.map(micro))
        .collect();
    let reasons: Vec<_> = each()
        .map(|delivery| delivery.reason.as_deref().map(text))
        .collect();
    let tries = each()
        .map(|delivery| some_json(&delivery.tries))
        .collect::<Result<Vec<_>, _>>()?;
    scope
        .execute(
            "INSERT INTO deliveries (id, job, caller, integration, channel, kind, receiver, state, created, updated, due, finished, \
             reason, tries, version, token, attempts, superseded) \
             SELECT id, job, caller, i, c, k, r, s, created, created, due, finished, reason, tries, 1, 0, 0, false \
             FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int2[], \
             $9::int8[], $10::int8[], $11::int8[], $12::text[], $13::text[]) \
             AS n (id, job, caller, i, c, k, r, s, created, due, finished, reason, tries)",
            &[
                &ids, &jobs, &callers, &integrations, &channels, &kinds, &receivers, &states, &created, &due, &finished, &reasons, &tries,
            ],
        )
        .await?;
    for row in rows {
        let (endpoint, state) = (&row.delivery.endpoint, row.delivery.state);
        scope.effects.tallies.deliveries(endpoint, state, 1);
        row.tell(scope);
    }
    Ok(())
}

/// Stores what changed of locked rows, in one statement.
pub(super) async fn save<'r>(
    scope: &mut Scope<'_>,
    rows: impl IntoIterator<Item = &'r mut DeliveryRow>,
    now: Timestamp,
) -> Result<(), Fault> {
    let mut rows: Vec<&mut DeliveryRow> = rows.into_iter().collect();
    for row in &mut rows {
        row.delivery.version += 1;
        row.delivery.updated = now;
    }
    let each = || rows.iter().map(|row| &row.delivery);
    let ids: Vec<_> = rows.iter().map(|row| row.uuid()).collect();
    let (Some(least), Some(most)) = (ids.iter().min(), ids.iter().max()) else {
        return Ok(());
    };
    let states: Vec<_> = each().map(|delivery| code(delivery.state)).collect();
    let versions: Vec<_> = each().map(|delivery| big(delivery.version)).collect();
    let tokens: Vec<_> = rows.iter().map(|row| big(row.token)).collect();
    let attempts: Vec<_> = each().map(|delivery| signed(delivery.attempts)).collect();
    let due: Vec<_> = each().map(|delivery| micro(delivery.due)).collect();
    let finished: Vec<_> = each()
        .map(|delivery| delivery.finished.map(micro))
        .collect();
    let owners: Vec<_> = rows
        .iter()
        .map(|row| row.lease.as_ref().map(|(owner, _)| owner.as_str()))
        .collect();
    let leases: Vec<_> = rows
        .iter()
        .map(|row| row.lease.as_ref().map(|(_, until)| micro(*until)))
        .collect();
    let tries = each()
        .map(|delivery| some_json(&delivery.tries))
        .collect::<Result<Vec<_>, _>>()?;
    let reasons: Vec<_> = each()
        .map(|delivery| delivery.reason.as_deref().map(text))
        .collect();
    let superseded: Vec<_> = each().map(|delivery| delivery.superseded).collect();
    let cut_off: Vec<_> = each().map(|delivery| signed(delivery.cut_off)).collect();
    scope
        .execute(
            "UPDATE deliveries d SET state = n.state, version = n.version, token = n.token, attempts = n.attempts, updated = $12, \
             due = n.due, finished = n.finished, owner = n.owner, lease = n.lease, tries = n.tries, reason = n.reason, \
             superseded = n.superseded, cut_off = n.cut_off \
             FROM unnest($1::uuid[], $2::int2[], $3::int8[], $4::int8[], $5::int4[], $6::int8[], $7::int8[], $8::text[], \
             $9::int8[], $10::text[], $11::text[], $15::bool[], $16::int4[]) \
             AS n (id, state, version, token, attempts, due, finished, owner, lease, tries, reason, superseded, cut_off) \
             WHERE d.id = n.id AND d.id >= $13 AND d.id <= $14",
            &[
                &ids, &states, &versions, &tokens, &attempts, &due, &finished, &owners, &leases, &tries, &reasons, &micro(now),
                least, most, &superseded, &cut_off,
            ],
        )
        .await?;
    for row in rows {
        if row.stored != row.delivery.state {
            let (tallies, endpoint) = (&mut scope.effects.tallies, &row.delivery.endpoint);
            tallies.deliveries(endpoint, row.stored, -1);
            tallies.deliveries(endpoint, row.delivery.state, 1);
            row.stored = row.delivery.state;
        }
        row.tell(scope);
    }
    Ok(())
}

pub(super) fn delivery_uuid(id: DeliveryId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A state's number in the tables.
pub(in crate::store::postgres) const fn code(state: DeliveryState) -> i16 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Sending => 1,
        DeliveryState::Delivered => 2,
        DeliveryState::Dead => 3,
        DeliveryState::Paused => 4,
    }
}

/// The state with a number.
pub(in crate::store::postgres) fn state(number: i16) -> Option<DeliveryState> {
    DeliveryState::ALL
        .into_iter()
        .find(|state| code(*state) == number)
}
