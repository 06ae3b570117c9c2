//! A delivery's row, read and written whole. Every change of one delivery goes through [`DeliveryRow::save`], which raises its
//! version and tells it; only an endpoint's pause changes many at once.

use jiff::{SignedDuration, Timestamp};
use linkspan_model::delivery::DeliveryEvent;
use linkspan_model::{DeliveryId, DeliveryState, InvocationId};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::super::rows::{damaged, list, optional_time, some_json, time};
use super::super::writer::Scope;
use crate::store::deliveries::{Delivery, Endpoint, REMEMBERED_TRIES, Try};
use crate::store::watch::Event;

/// The columns that [`DeliveryRow::read`] reads, in its order.
pub(super) const COLUMNS: &str = "d.seq, d.id, j.id, d.caller, d.integration, d.channel, d.kind, d.receiver, d.state, d.version, \
                                  d.token, d.attempts, d.created, d.updated, d.due, d.finished, d.tries, d.reason, d.superseded, \
                                  d.owner, d.lease, d.job, d.cut_off";

/// Where they are. The join is in this order: for each delivery its job.
pub(super) const TABLES: &str = "deliveries d CROSS JOIN jobs j ON j.seq = d.job";

/// A delivery with what only the store knows of it.
#[derive(Debug)]
pub(super) struct DeliveryRow {
    pub(super) seq: i64,
    /// The job's `seq`.
    pub(super) job: i64,
    pub(super) token: u64,
    /// Who sends it, until when; set for a sending one only.
    lease: Option<(String, Timestamp)>,
    pub(super) delivery: Delivery,
}

impl DeliveryRow {
    pub(super) fn new(job: i64, delivery: Delivery) -> Self {
        Self {
            seq: 0,
            job,
            token: 0,
            lease: None,
            delivery,
        }
    }

    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            job: row.get(21)?,
            token: row.get(10)?,
            lease: row
                .get::<_, Option<String>>(19)?
                .zip(optional_time(row, 20)?),
            delivery: Delivery {
                id: DeliveryId::from_bytes(row.get(1)?),
                job: InvocationId::from_bytes(row.get(2)?),
                caller: row.get(3)?,
                endpoint: Endpoint {
                    integration: row.get(4)?,
                    channel: row.get(5)?,
                },
                kind: row.get(6)?,
                receiver: row.get(7)?,
                state: state(row.get(8)?)
                    .ok_or_else(|| damaged(8, Type::Integer, "no such state"))?,
                version: row.get(9)?,
                attempts: row.get(11)?,
                cut_off: row.get(22)?,
                created: time(row, 12)?,
                updated: time(row, 13)?,
                due: time(row, 14)?,
                finished: optional_time(row, 15)?,
                tries: list(row, 16)?,
                reason: row.get(17)?,
                superseded: row.get(18)?,
            },
        })
    }

    /// The row of a delivery.
    pub(super) fn find(connection: &Connection, id: DeliveryId) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM {TABLES} WHERE d.id = ?1"))?
            .query_row([id.as_bytes()], Self::read)
            .optional()
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

    /// Stores a new delivery.
    pub(super) fn insert(&self, scope: &mut Scope<'_>) -> rusqlite::Result<()> {
        let delivery = &self.delivery;
        scope
            .connection
            .prepare_cached(
                "INSERT INTO deliveries (id, job, integration, channel, caller, kind, receiver, state, version, token, attempts, \
                 created, updated, due, finished, tries, reason, superseded) VALUES (:id, :job, :integration, :channel, :caller, :kind, \
                 :receiver, :state, :version, :token, :attempts, :created, :updated, :due, :finished, :tries, :reason, :superseded)",
            )?
            .execute(named_params! {
                ":id": delivery.id.as_bytes(),
                ":job": self.job,
                ":integration": delivery.endpoint.integration,
                ":channel": delivery.endpoint.channel,
                ":caller": delivery.caller,
                ":kind": delivery.kind,
                ":receiver": delivery.receiver,
                ":state": code(delivery.state),
                ":version": delivery.version,
                ":token": self.token,
                ":attempts": delivery.attempts,
                ":created": delivery.created.as_microsecond(),
                ":updated": delivery.updated.as_microsecond(),
                ":due": delivery.due.as_microsecond(),
                ":finished": delivery.finished.map(Timestamp::as_microsecond),
                ":tries": some_json(&delivery.tries)?,
                ":reason": delivery.reason,
                ":superseded": delivery.superseded,
            })?;
        self.tell(scope);
        Ok(())
    }

    /// Stores what changed.
    pub(super) fn save(&mut self, scope: &mut Scope<'_>, now: Timestamp) -> rusqlite::Result<()> {
        self.delivery.version += 1;
        self.delivery.updated = now;
        let delivery = &self.delivery;
        scope
            .connection
            .prepare_cached(
                "UPDATE deliveries SET state = :state, version = :version, token = :token, attempts = :attempts, \
                 cut_off = :cut_off, updated = :updated, due = :due, finished = :finished, owner = :owner, lease = :lease, tries = :tries, \
                 reason = :reason, superseded = :superseded WHERE seq = :seq",
            )?
            .execute(named_params! {
                ":seq": self.seq,
                ":state": code(delivery.state),
                ":version": delivery.version,
                ":token": self.token,
                ":attempts": delivery.attempts,
                ":cut_off": delivery.cut_off,
                ":updated": delivery.updated.as_microsecond(),
                ":due": delivery.due.as_microsecond(),
                ":finished": delivery.finished.map(Timestamp::as_microsecond),
                ":owner": self.lease.as_ref().map(|(owner, _)| owner),
                ":lease": self.lease.as_ref().map(|(_, until)| until.as_microsecond()),
                ":tries": some_json(&delivery.tries)?,
                ":reason": delivery.reason,
                ":superseded": delivery.superseded,
            })?;
        self.tell(scope);
        Ok(())
    }

    fn tell(&self, scope: &mut Scope<'_>) {
        let delivery = &self.delivery;
        scope.effects.delivery_work |= delivery.state == DeliveryState::Pending;
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

/// A state's number in the tables.
pub(super) const fn code(state: DeliveryState) -> i64 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Sending => 1,
        DeliveryState::Delivered => 2,
        DeliveryState::Dead => 3,
        DeliveryState::Paused => 4,
    }
}

/// The state with a number.
pub(super) fn state(number: i64) -> Option<DeliveryState> {
    DeliveryState::ALL
        .into_iter()
        .find(|state| code(*state) == number)
}
