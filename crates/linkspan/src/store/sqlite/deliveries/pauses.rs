//! Endpoints that are paused. Invariant: no delivery of a paused endpoint is pending, and none of another is paused, so that a claim
//! need not ask.

use jiff::Timestamp;
use linkspan_model::DeliveryState;
use rusqlite::{Connection, params};

use super::super::writer::Scope;
use super::rows::code;
use crate::store::deliveries::Endpoint;
use crate::store::watch::Event;

pub(super) fn is_paused(connection: &Connection, endpoint: &Endpoint) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM pauses WHERE integration = ?1 AND channel = ?2")?
        .exists([&endpoint.integration, &endpoint.channel])
}

/// Pauses an endpoint with what is pending for it. Where it is paused already, the reason is the new one. Gives how many deliveries
/// changed.
pub(super) fn pause(
    scope: &mut Scope<'_>,
    endpoint: &Endpoint,
    reason: &str,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    scope
        .connection
        .prepare_cached(
            "INSERT INTO pauses (integration, channel, since, reason) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET reason = excluded.reason",
        )?
        .execute(params![
            endpoint.integration,
            endpoint.channel,
            now.as_microsecond(),
            reason
        ])?;
    // In one statement: there may be very many.
    let changed = scope
        .connection
        .prepare_cached(
            "UPDATE deliveries SET state = ?3, version = version + 1, updated = ?4 \
             WHERE integration = ?1 AND channel = ?2 AND state = 0",
        )?
        .execute(params![
            endpoint.integration,
            endpoint.channel,
            code(DeliveryState::Paused),
            now.as_microsecond()
        ])?;
    scope.tell(Event::Endpoint(endpoint.clone()));
    Ok(changed as u64)
}

/// Lets an endpoint go on. Gives whether it was paused, and how many deliveries changed.
pub(super) fn resume(
    scope: &mut Scope<'_>,
    endpoint: &Endpoint,
    now: Timestamp,
) -> rusqlite::Result<(bool, u64)> {
    let was_paused = scope
        .connection
        .prepare_cached("DELETE FROM pauses WHERE integration = ?1 AND channel = ?2")?
        .execute([&endpoint.integration, &endpoint.channel])?;
    let changed = scope
        .connection
        .prepare_cached(
            "UPDATE deliveries SET state = ?3, version = version + 1, updated = ?4, due = ?4 \
             WHERE integration = ?1 AND channel = ?2 AND state = 4",
        )?
        .execute(params![
            endpoint.integration,
            endpoint.channel,
            code(DeliveryState::Pending),
            now.as_microsecond()
        ])?;
    scope.effects.delivery_work |= changed > 0;
    scope.tell(Event::Endpoint(endpoint.clone()));
    Ok((was_paused > 0, changed as u64))
}
