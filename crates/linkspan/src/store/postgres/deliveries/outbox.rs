//! What becomes of a job's deliveries in the transactions that change the job: its end, its retry, its expiry.

use jiff::Timestamp;
use linkspan_model::delivery::DeliveryEvent;
use linkspan_model::{DeliveryState, InvocationId};
use tokio_postgres::Row as Columns;
use uuid::Uuid;

use super::super::fault::Fault;
use super::super::partitions::{least_id, millisecond};
use super::super::pool::Scope;
use super::super::rows::uuid;
use super::pauses;
use super::rows::{self, COLUMNS, DeliveryRow, state};
use crate::store::deliveries::{Delivery, Endpoint, NewDelivery};
use crate::store::jobs::Job;

/// How far the clocks of gateways may be apart, in milliseconds: a delivery's id is later than its job's, by no more than this less.
const SKEW: i64 = 3_600_000;

/// Stores the deliveries of jobs' results: each job, its deliveries, and when it ended.
pub(in crate::store::postgres) async fn send_out(
    scope: &mut Scope<'_>,
    ended: &[(Job, &[NewDelivery], Timestamp)],
) -> Result<(), Fault> {
    let mut rows: Vec<DeliveryRow> = ended
        .iter()
        .flat_map(|(job, deliveries, now)| deliveries.iter().map(|new| row(job, new, *now)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let endpoints = rows.iter().map(|row| &row.delivery.endpoint);
    let paused = pauses::paused(scope, endpoints).await?;
    for row in &mut rows {
        let delivery = &mut row.delivery;
        if delivery.state == DeliveryState::Pending && paused.contains(&delivery.endpoint) {
            delivery.state = DeliveryState::Paused;
        }
    }
    rows::insert(scope, &rows).await
}

/// A job runs again: what was not delivered of its old result goes with it, what was stays as a record.
pub(in crate::store::postgres) async fn supersede(
    scope: &mut Scope<'_>,
    job: InvocationId,
    now: Timestamp,
) -> Result<(), Fault> {
    let gone = scope
        .query(
            "DELETE FROM deliveries WHERE job = $1 AND id >= $2 AND state <> 2 RETURNING integration, channel, state",
            &[&uuid(job), &earliest([uuid(job)])],
        )
        .await?;
    uncount(scope, &gone)?;
    let mut rows = of_jobs(scope, &[uuid(job)]).await?;
    rows.retain(|row| !row.delivery.superseded);
    for row in &mut rows {
        row.delivery.superseded = true;
    }
    rows::save(scope, &mut rows, now).await
}

/// The results of jobs are erased: their open deliveries cannot arrive any more. Gives the jobs that had some.
pub(in crate::store::postgres) async fn give_up(
    scope: &mut Scope<'_>,
    jobs: &[Uuid],
    now: Timestamp,
) -> Result<Vec<InvocationId>, Fault> {
    let mut rows = of_jobs(scope, jobs).await?;
    rows.retain_mut(|row| row.advance(DeliveryEvent::GiveUp, now));
    for row in &mut rows {
        row.delivery.reason = Some(
            "it did not arrive before its result was erased: the result's retention and that of the job's row are over".to_owned(),
        );
    }
    rows::save(scope, &mut rows, now).await?;
    Ok(rows.iter().map(|row| row.delivery.job).collect())
}

/// Jobs are gone, and their deliveries with them.
pub(in crate::store::postgres) async fn remove(
    scope: &mut Scope<'_>,
    jobs: &[Uuid],
) -> Result<(), Fault> {
    let gone = scope
        .query(
            "DELETE FROM deliveries WHERE job = ANY($1) AND id >= $2 RETURNING integration, channel, state",
            &[&jobs, &earliest(jobs.iter().copied())],
        )
        .await?;
    uncount(scope, &gone)
}

/// The least id that a delivery of these jobs can have.
pub(in crate::store::postgres) fn earliest(jobs: impl IntoIterator<Item = Uuid>) -> Uuid {
    let least = jobs.into_iter().min().unwrap_or_default();
    least_id((millisecond(least.as_bytes()) - SKEW).max(0))
}

fn row(job: &Job, new: &NewDelivery, now: Timestamp) -> DeliveryRow {
    DeliveryRow::new(Delivery {
        id: new.id,
        job: job.id,
        caller: job.caller.clone(),
        endpoint: Endpoint::new(&job.integration, &new.channel),
        kind: new.kind.clone(),
        receiver: new.receiver.clone(),
        state: if new.dead.is_some() {
            DeliveryState::Dead
        } else {
            DeliveryState::Pending
        },
        version: 1,
        attempts: 0,
        cut_off: 0,
        created: now,
        updated: now,
        due: new.due,
        finished: new.dead.is_some().then_some(now),
        tries: new.tries(now),
        reason: new.dead.clone(),
        superseded: false,
    })
}

async fn of_jobs(scope: &Scope<'_>, jobs: &[Uuid]) -> Result<Vec<DeliveryRow>, Fault> {
    let rows = scope
        .query(
            &format!(
                "SELECT {COLUMNS} FROM deliveries WHERE job = ANY($1) AND id >= $2 ORDER BY id FOR UPDATE"
            ),
            &[&jobs, &earliest(jobs.iter().copied())],
        )
        .await?;
    rows.iter().map(DeliveryRow::read).collect()
}

/// Takes deleted deliveries from the counts.
fn uncount(scope: &mut Scope<'_>, gone: &[Columns]) -> Result<(), Fault> {
    for row in gone {
        let endpoint = Endpoint {
            integration: row.try_get(0)?,
            channel: row.try_get(1)?,
        };
        let state = state(row.try_get(2)?).ok_or_else(|| Fault::damaged("no such state"))?;
        scope.effects.tallies.deliveries(&endpoint, state, -1);
    }
    Ok(())
}
