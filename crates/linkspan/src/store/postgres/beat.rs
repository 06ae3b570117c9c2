//! Watching over the server, on a connection of its own: nobody who waits for a place in the pool keeps it from being seen that the
//! server hangs, was made a standby, or is there again.
//!
//! Each [`BEAT`] the server is asked for the time, and whether it can be written to; where it says nothing for [`PATIENCE`], health is
//! red. While it is red, a real commit of some size is tried each [`RED`].
//!
//! The time is asked for because leases are the only moments that gateways compare with each other: they are stored by the server's
//! clock. A gateway whose own clock is wrong neither takes the others' running work nor loses its own by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::Client;

use super::fault::Fault;
use super::pool::{Db, session};
use crate::store::error::ErrorKind;
use crate::store::upkeep::Health;

/// How often the server is looked at while all is well.
const BEAT: Duration = Duration::from_secs(3);

/// How often it is tried while it is not.
const RED: Duration = Duration::from_secs(1);

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// From then on a clock is wrong enough to be reported.
const WRONG: SignedDuration = SignedDuration::from_secs(5);

/// Looks after the server for as long as the store is open.
pub(super) async fn watch(db: Arc<Db>) {
    let mut own = None;
    loop {
        let is_red = db.health() != Health::Accepting;
        tokio::time::sleep(if is_red { RED } else { BEAT }).await;
        let looking = look(&db, &mut own, is_red);
        let seen = tokio::time::timeout(PATIENCE, looking).await;
        match seen.unwrap_or(Err(Fault::Late)) {
            Ok(()) if is_red => db.accept(),
            Ok(()) => {}
            Err(fault) => {
                own = None;
                if fault.kind() == ErrorKind::Unreachable {
                    // It is the same server that the pool's connections lead to.
                    db.retire();
                }
                db.note(Some(&fault));
            }
        }
    }
}

/// How far the server's clock is ahead of this machine's.
pub(super) async fn clock(client: &Client) -> Result<SignedDuration, Fault> {
    let asked = (Timestamp::now(), Instant::now());
    let row = client
        .query_one(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8",
            &[],
        )
        .await?;
    let there = super::rows::time(&row, 0)?;
    // It was read about halfway.
    let way = crate::store::signed(asked.1.elapsed() / 2);
    Ok(there.duration_since(asked.0) - way)
}

async fn look(db: &Db, own: &mut Option<Client>, is_red: bool) -> Result<(), Fault> {
    let mut client = match own.take().filter(|client| !client.is_closed()) {
        Some(client) => client,
        None => {
            let client = super::connect(&db.address).await?;
            client.batch_execute(&session(&db.address.schema)).await?;
            client
        }
    };
    let row = client
        .query_one("SELECT current_setting('transaction_read_only')::bool", &[])
        .await?;
    if row.try_get(0)? {
        return Err(Fault::Kind(
            ErrorKind::Unreachable,
            "the server takes no changes: it is a standby, or set to read only",
        ));
    }
    let ahead = clock(&client).await?;
    if db.set_ahead(ahead).abs() < WRONG && ahead.abs() >= WRONG {
        report(ahead);
    }
    if is_red {
        let tx = client.transaction().await?;
        tx.batch_execute("INSERT INTO probe VALUES (decode(repeat('00', 65536), 'hex'))")
            .await?;
        tx.commit().await?;
        client.batch_execute("DELETE FROM probe").await?;
    }
    *own = Some(client);
    Ok(())
}

/// Says that the clocks are apart.
pub(super) fn report(ahead: SignedDuration) {
    tracing::warn!(
        seconds = ahead.as_secs(),
        "the clock of the job store's server is ahead of this machine's by so much, or behind it if negative; leases are kept by the \
         server's clock, but retries, retention and what people see go by this one: set it right"
    );
}
