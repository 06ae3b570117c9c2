//! What becomes of a job's deliveries in the transactions that change the job: its end, its retry, its expiry.

use jiff::Timestamp;
use linkspan_model::DeliveryState;
use linkspan_model::delivery::DeliveryEvent;
use rusqlite::params;

use super::super::rows::Row;
use super::super::writer::Scope;
use super::pauses::is_paused;
use super::rows::{COLUMNS, DeliveryRow, TABLES};
use crate::store::deliveries::{Delivery, Endpoint, NewDelivery};

/// Stores the deliveries of a job's result.
pub(in crate::store::sqlite) fn send_out(
    scope: &mut Scope<'_>,
    job: &Row,
    deliveries: &[NewDelivery],
    now: Timestamp,
) -> rusqlite::Result<()> {
    for new in deliveries {
        let endpoint = Endpoint::new(&job.job.integration, &new.channel);
        let state = if new.dead.is_some() {
            DeliveryState::Dead
        } else if is_paused(scope.connection, &endpoint)? {
            DeliveryState::Paused
        } else {
            DeliveryState::Pending
        };
        let delivery = Delivery {
            id: new.id,
            job: job.job.id,
            caller: job.job.caller.clone(),
            endpoint,
            kind: new.kind.clone(),
            receiver: new.receiver.clone(),
            state,
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
        };
        DeliveryRow::new(job.seq, delivery).insert(scope)?;
    }
    Ok(())
}

/// A job runs again: what was not delivered of its old result goes with it, what was stays as a record.
pub(in crate::store::sqlite) fn supersede(
    scope: &mut Scope<'_>,
    job: i64,
    now: Timestamp,
) -> rusqlite::Result<()> {
    scope
        .connection
        .prepare_cached("DELETE FROM deliveries WHERE job = ?1 AND state <> 2")?
        .execute([job])?;
    for mut row in of_job(scope, job)? {
        if !row.delivery.superseded {
            row.delivery.superseded = true;
            row.save(scope, now)?;
        }
    }
    Ok(())
}

/// A job's result is erased: its open deliveries cannot arrive any more. Gives how many there were.
pub(in crate::store::sqlite) fn give_up(
    scope: &mut Scope<'_>,
    job: i64,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let mut given_up = 0;
    for mut row in of_job(scope, job)? {
        if row.advance(DeliveryEvent::GiveUp, now) {
            row.delivery.reason = Some(
                "it did not arrive before its result was erased: the result's retention and that of the job's row are over".to_owned(),
            );
            row.save(scope, now)?;
            given_up += 1;
        }
    }
    Ok(given_up)
}

fn of_job(scope: &Scope<'_>, job: i64) -> rusqlite::Result<Vec<DeliveryRow>> {
    scope
        .connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {TABLES} WHERE d.job = ?1"))?
        .query_map(params![job], DeliveryRow::read)?
        .collect()
}
