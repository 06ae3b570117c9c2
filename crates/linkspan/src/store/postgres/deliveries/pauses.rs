//! Endpoints that are paused. A pause is one row, and holds as soon as that is there: a claim leaves out the endpoints that have one.
//!
//! The deliveries follow: what is pending becomes paused, and pending again when the endpoint goes on, in pieces that are each a short
//! transaction of its own. Nobody who ends a job or a delivery waits for that, however many there are. Whoever makes a delivery pending
//! or paused looks whether its endpoint is paused, and takes no lock for it: where that changes just then, or a gateway ends between two
//! pieces, the sweep lets the rest follow.

use std::collections::BTreeSet;
use std::time::Instant;

use jiff::Timestamp;
use linkspan_model::DeliveryState;
use uuid::Uuid;

use super::super::fault::Fault;
use super::super::pool::{Change, Db, Scope, query};
use super::super::rows::{big, column, micro, text, unsigned};
use super::rows::code;
use crate::store::deliveries::{Endpoint, FOLLOW_AT_ONCE, FOLLOW_FOR};
use crate::store::watch::Event;

/// Those of the endpoints that are paused.
pub(super) async fn paused<'e>(
    scope: &Scope<'_>,
    endpoints: impl Iterator<Item = &'e Endpoint>,
) -> Result<BTreeSet<Endpoint>, Fault> {
    let endpoints: BTreeSet<&Endpoint> = endpoints.collect();
    if endpoints.is_empty() {
        return Ok(BTreeSet::new());
    }
    let integrations: Vec<_> = endpoints.iter().map(|one| text(&one.integration)).collect();
    let channels: Vec<_> = endpoints.iter().map(|one| text(&one.channel)).collect();
    let rows = scope
        .query(
            "SELECT integration, channel FROM pauses JOIN unnest($1::text[], $2::text[]) AS n (integration, channel) \
             USING (integration, channel)",
            &[&integrations, &channels],
        )
        .await?;
    rows.iter().map(endpoint).collect()
}

/// Pauses an endpoint. Where it is paused already, the reason is the new one. Gives how many deliveries are to follow.
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
    scope.tell(Event::Endpoint(endpoint.clone()));
    tally(scope, endpoint, DeliveryState::Pending).await
}

/// Lets an endpoint go on. Gives whether it was paused, and how many deliveries are to follow.
pub(super) async fn resume(
    scope: &mut Scope<'_>,
    endpoint: &Endpoint,
) -> Result<(bool, u64), Fault> {
    let was_paused = scope
        .execute(
            "DELETE FROM pauses WHERE integration = $1 AND channel = $2",
            &[&text(&endpoint.integration), &text(&endpoint.channel)],
        )
        .await?;
    scope.tell(Event::Endpoint(endpoint.clone()));
    let count = tally(scope, endpoint, DeliveryState::Paused).await?;
    Ok((was_paused > 0, count))
}

/// Lets an endpoint's deliveries follow, for a while: where there are very many, upkeep goes on with it.
pub(super) async fn follow(db: &Db, endpoint: &Endpoint, now: Timestamp) -> Result<(), Fault> {
    let began = Instant::now();
    let piece = Follow {
        endpoint: endpoint.clone(),
        now,
    };
    while db.make(&piece).await? >= FOLLOW_AT_ONCE && began.elapsed() < FOLLOW_FOR {}
    Ok(())
}

/// Lets the deliveries follow that have not yet.
pub(in crate::store::postgres) async fn follow_up(db: &Db, now: Timestamp) -> Result<(), Fault> {
    let client = db.pool.get().await?;
    let rows = query(
        &client,
        "SELECT integration, channel FROM (SELECT integration, channel, state FROM delivery_tallies WHERE state IN (0, 4) \
             GROUP BY 1, 2, 3 HAVING sum(deliveries) > 0) AS t LEFT JOIN pauses p USING (integration, channel) \
         WHERE (t.state = 0) = (p.since IS NOT NULL)",
        &[],
    )
    .await?;
    drop(client);
    for row in &rows {
        follow(db, &endpoint(row)?, now).await?;
    }
    Ok(())
}

/// The next deliveries that follow their endpoint, one way or the other.
struct Follow {
    endpoint: Endpoint,
    now: Timestamp,
}

impl Change for Follow {
    type Out = u64;
    const DOING: &'static str = "pause an endpoint";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<u64, Fault> {
        let names = (
            text(&self.endpoint.integration),
            text(&self.endpoint.channel),
        );
        // Kept as it is to the end of the piece: only who lets the endpoint go on waits for that.
        let pause = scope
            .query(
                "SELECT FROM pauses WHERE integration = $1 AND channel = $2 FOR KEY SHARE",
                &[&names.0, &names.1],
            )
            .await?;
        let (from, to) = if pause.is_empty() {
            (DeliveryState::Paused, DeliveryState::Pending)
        } else {
            (DeliveryState::Pending, DeliveryState::Paused)
        };
        // What somebody else is just changing is left to the next turn.
        let rows = scope
            .query(
                "SELECT id FROM deliveries WHERE integration = $1 AND channel = $2 AND state = $3 ORDER BY id LIMIT $4 \
                 FOR UPDATE SKIP LOCKED",
                &[&names.0, &names.1, &code(from), &big(FOLLOW_AT_ONCE)],
            )
            .await?;
        let ids: Vec<Uuid> = column(&rows)?;
        let (Some(least), Some(most)) = (ids.first(), ids.last()) else {
            return Ok(0);
        };
        let moved = scope
            .execute(
                "UPDATE deliveries SET state = $4, version = version + 1, updated = $5, \
                 due = CASE WHEN $4::int2 = 0 THEN $5 ELSE due END WHERE id = ANY($1) AND id >= $2 AND id <= $3",
                &[&ids, least, most, &code(to), &micro(self.now)],
            )
            .await?;
        let tallies = &mut scope.effects.tallies;
        tallies.deliveries(&self.endpoint, from, -big(moved));
        tallies.deliveries(&self.endpoint, to, big(moved));
        scope.effects.delivery_work |= to == DeliveryState::Pending;
        scope.tell(Event::Endpoint(self.endpoint.clone()));
        Ok(moved)
    }
}

async fn tally(scope: &Scope<'_>, endpoint: &Endpoint, state: DeliveryState) -> Result<u64, Fault> {
    let rows = scope
        .query(
            "SELECT greatest(coalesce(sum(deliveries), 0), 0)::int8 FROM delivery_tallies \
             WHERE integration = $1 AND channel = $2 AND state = $3",
            &[
                &text(&endpoint.integration),
                &text(&endpoint.channel),
                &code(state),
            ],
        )
        .await?;
    rows.first().map_or(Ok(0), |row| unsigned(row, 0))
}

fn endpoint(row: &tokio_postgres::Row) -> Result<Endpoint, Fault> {
    Ok(Endpoint {
        integration: row.try_get(0)?,
        channel: row.try_get(1)?,
    })
}
