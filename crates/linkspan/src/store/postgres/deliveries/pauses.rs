//! Endpoints that are paused. Invariant: no delivery of a paused endpoint is pending, and none of another is paused, so that a claim
//! need not ask.
//!
//! So that this holds between gateways, who makes a delivery pending or paused holds a shared lock on its endpoint to the end of the
//! transaction, and who pauses or resumes it holds the lock alone.

use std::collections::BTreeSet;

use jiff::Timestamp;
use linkspan_model::DeliveryState;

use super::super::fault::Fault;
use super::super::pool::{Scope, lock_key};
use super::super::rows::{micro, text};
use crate::store::deliveries::Endpoint;
use crate::store::watch::Event;

/// Locks endpoints, and gives those that are paused. `alone`: to pause or resume them.
pub(super) async fn lock<'e>(
    scope: &Scope<'_>,
    endpoints: impl Iterator<Item = &'e Endpoint>,
    alone: bool,
) -> Result<BTreeSet<Endpoint>, Fault> {
    let endpoints: BTreeSet<&Endpoint> = endpoints.collect();
    if endpoints.is_empty() {
        return Ok(BTreeSet::new());
    }
    let schema = &scope.db.address.schema;
    let mut keys: Vec<i64> = endpoints
        .iter()
        .map(|endpoint| lock_key(schema, &format!("endpoint {endpoint}")))
        .collect();
    keys.sort_unstable();
    let lock = if alone {
        "SELECT pg_advisory_xact_lock(key) FROM unnest($1::int8[]) AS t (key)"
    } else {
        "SELECT pg_advisory_xact_lock_shared(key) FROM unnest($1::int8[]) AS t (key)"
    };
    scope.query(lock, &[&keys]).await?;
    let integrations: Vec<_> = endpoints.iter().map(|one| text(&one.integration)).collect();
    let channels: Vec<_> = endpoints.iter().map(|one| text(&one.channel)).collect();
    let rows = scope
        .query(
            "SELECT integration, channel FROM pauses JOIN unnest($1::text[], $2::text[]) AS n (integration, channel) \
             USING (integration, channel)",
            &[&integrations, &channels],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Endpoint {
                integration: row.try_get(0)?,
                channel: row.try_get(1)?,
            })
        })
        .collect()
}

/// Pauses an endpoint that is locked alone, with what is pending for it. Where it is paused already, the reason is the new one. Gives
/// how many deliveries changed.
pub(super) async fn pause(
    scope: &mut Scope<'_>,
    endpoint: &Endpoint,
    reason: &str,
    now: Timestamp,
) -> Result<u64, Fault> {
    scope
        .execute(
            "INSERT INTO pauses (integration, channel, since, reason) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (integration, channel) DO UPDATE SET reason = excluded.reason",
            &[
                &text(&endpoint.integration),
                &text(&endpoint.channel),
                &micro(now),
                &text(reason),
            ],
        )
        .await?;
    // In one statement: there may be very many.
    let changed = scope
        .execute(
            "UPDATE deliveries SET state = 4, version = version + 1, updated = $3 \
             WHERE integration = $1 AND channel = $2 AND state = 0",
            &[
                &text(&endpoint.integration),
                &text(&endpoint.channel),
                &micro(now),
            ],
        )
        .await?;
    count(
        scope,
        endpoint,
        DeliveryState::Pending,
        DeliveryState::Paused,
        changed,
    );
    scope.tell(Event::Endpoint(endpoint.clone()));
    Ok(changed)
}

/// Lets an endpoint go on that is locked alone. Gives whether it was paused, and how many deliveries changed.
pub(super) async fn resume(
    scope: &mut Scope<'_>,
    endpoint: &Endpoint,
    now: Timestamp,
) -> Result<(bool, u64), Fault> {
    let was_paused = scope
        .execute(
            "DELETE FROM pauses WHERE integration = $1 AND channel = $2",
            &[&text(&endpoint.integration), &text(&endpoint.channel)],
        )
        .await?;
    let changed = scope
        .execute(
            "UPDATE deliveries SET state = 0, version = version + 1, updated = $3, due = $3 \
             WHERE integration = $1 AND channel = $2 AND state = 4",
            &[
                &text(&endpoint.integration),
                &text(&endpoint.channel),
                &micro(now),
            ],
        )
        .await?;
    count(
        scope,
        endpoint,
        DeliveryState::Paused,
        DeliveryState::Pending,
        changed,
    );
    scope.effects.delivery_work |= changed > 0;
    scope.tell(Event::Endpoint(endpoint.clone()));
    Ok((was_paused > 0, changed))
}

fn count(
    scope: &mut Scope<'_>,
    endpoint: &Endpoint,
    from: DeliveryState,
    to: DeliveryState,
    changed: u64,
) {
    let changed = super::super::rows::big(changed);
    let tallies = &mut scope.effects.tallies;
    tallies.deliveries(endpoint, from, -changed);
    tallies.deliveries(endpoint, to, changed);
}
