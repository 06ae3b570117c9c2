//! Endpoints that are paused. A pause is one row, and holds as soon as that is there: a claim leaves out the endpoints that have one.
//! The deliveries follow in pieces, each a write of its own, so that nobody else's write waits for all of them. Where the gateway ends
//! between two pieces, the sweep lets the rest follow.

use std::time::Instant;

use jiff::Timestamp;
use linkspan_model::DeliveryState;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::SqliteStore;
use super::super::writer::{Need, Scope};
use super::rows::code;
use crate::store::deliveries::{Endpoint, FOLLOW_AT_ONCE, FOLLOW_FOR};
use crate::store::error::StoreError;
use crate::store::watch::Event;

pub(super) fn is_paused(connection: &Connection, endpoint: &Endpoint) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM pauses WHERE integration = ?1 AND channel = ?2")?
        .exists([&endpoint.integration, &endpoint.channel])
}

/// Pauses an endpoint. Where it is paused already, the reason is the new one. Gives how many deliveries are to follow.
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
    scope.tell(Event::Endpoint(endpoint.clone()));
    tally(scope.connection, endpoint, DeliveryState::Pending)
}

/// Lets an endpoint go on. Gives whether it was paused, and how many deliveries are to follow.
pub(super) fn resume(scope: &mut Scope<'_>, endpoint: &Endpoint) -> rusqlite::Result<(bool, u64)> {
    let was_paused = scope
        .connection
        .prepare_cached("DELETE FROM pauses WHERE integration = ?1 AND channel = ?2")?
        .execute([&endpoint.integration, &endpoint.channel])?;
    scope.tell(Event::Endpoint(endpoint.clone()));
    let count = tally(scope.connection, endpoint, DeliveryState::Paused)?;
    Ok((was_paused > 0, count))
}

/// Lets an endpoint's deliveries follow, for a while: where there are very many, the sweep goes on with it.
pub(super) async fn follow(
    store: &SqliteStore,
    endpoint: Endpoint,
    now: Timestamp,
) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        let endpoint = endpoint.clone();
        let moved = store
            .writer
            .write("pause an endpoint", Need::Little, move |scope| {
                piece(scope, &endpoint, now)
            })
            .await?;
        if moved < FOLLOW_AT_ONCE || began.elapsed() > FOLLOW_FOR {
            return Ok(());
        }
    }
}

/// The endpoints whose deliveries have not followed yet.
pub(super) fn behind(connection: &Connection) -> rusqlite::Result<Vec<Endpoint>> {
    connection
        .prepare_cached(
            "SELECT t.integration, t.channel FROM delivery_tallies t LEFT JOIN pauses p USING (integration, channel) \
             WHERE t.deliveries > 0 AND (t.state = 0 AND p.since IS NOT NULL OR t.state = 4 AND p.since IS NULL)",
        )?
        .query_map([], |row| {
            Ok(Endpoint {
                integration: row.get(0)?,
                channel: row.get(1)?,
            })
        })?
        .collect()
}

/// Lets the next deliveries of an endpoint follow, one way or the other. Gives how many did.
fn piece(scope: &mut Scope<'_>, endpoint: &Endpoint, now: Timestamp) -> rusqlite::Result<u64> {
    // The states stand in the statement: only then is the index used that holds just those.
    let statement = if is_paused(scope.connection, endpoint)? {
        "UPDATE deliveries SET state = 4, version = version + 1, updated = ?3 WHERE seq IN (SELECT seq FROM deliveries \
         WHERE integration = ?1 AND channel = ?2 AND state = 0 ORDER BY due, seq LIMIT ?4)"
    } else {
        "UPDATE deliveries SET state = 0, version = version + 1, updated = ?3, due = ?3 WHERE seq IN (SELECT seq FROM deliveries \
         WHERE integration = ?1 AND channel = ?2 AND state = 4 ORDER BY seq LIMIT ?4)"
    };
    let moved = scope
        .connection
        .prepare_cached(statement)?
        .execute(params![
            endpoint.integration,
            endpoint.channel,
            now.as_microsecond(),
            FOLLOW_AT_ONCE
        ])?;
    if moved > 0 {
        scope.effects.delivery_work = true;
        scope.tell(Event::Endpoint(endpoint.clone()));
    }
    Ok(moved as u64)
}

fn tally(
    connection: &Connection,
    endpoint: &Endpoint,
    state: DeliveryState,
) -> rusqlite::Result<u64> {
    let found = connection
        .prepare_cached(
            "SELECT deliveries FROM delivery_tallies WHERE integration = ?1 AND channel = ?2 AND state = ?3",
        )?
        .query_row(
            params![endpoint.integration, endpoint.channel, code(state)],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.unwrap_or(0))
}
