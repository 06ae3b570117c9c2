//! `stream-in` (pattern 3): records come in; what came of them is stored with the progress in one step, delivered, and can be searched.
//!
//! A record is worked on at least once. What came of it is in the store once: results, deliveries, labels and how far its lane is done
//! are one transaction, under a token that a reader loses with its lane. A record that cannot be worked on is a dead letter: a failed job
//! that keeps the record, whose retry is the replay.

use std::sync::Arc;

use linkspan_streams::flow::Flow;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::gateway::Gateway;
use crate::logging;
use crate::streaming::{
    Lanes, Opened, Reader, ReaderError, StoreCommitter, Work, counting, open_source,
};

/// Reads an integration's stream until it is stopped.
///
/// # Errors
///
/// Source or committer cannot be opened, or ended by themselves.
pub async fn read(
    gateway: &Arc<Gateway>,
    reader: &Reader,
    stop: CancellationToken,
) -> Result<(), ReaderError> {
    let integration = &reader.integration;
    let reading = reader.reading().map_err(ReaderError::Open)?;
    let counting = counting(&reader.source);
    let lanes = Arc::new(Lanes::new(gateway, &reader.stream, counting));
    let opened = open_source(gateway, reader, &lanes)?;
    let leases = tokio::spawn(keep_leases(gateway.clone(), lanes.clone()));
    let _leases = AbortOnDropHandle::new(leases);
    reader.is_reading(opened.lag.clone());
    let committer = StoreCommitter::new(
        gateway.clone(),
        integration.clone(),
        lanes.clone(),
        opened.lanes_by,
    );
    let work = Work::new(integration.clone(), reading, gateway.metrics.clone());
    let (source, left) = opened.split();
    let flow = Flow {
        source,
        process: Arc::new(work),
        committer,
        settings: reader.settings(gateway),
        meter: reader.meter.clone(),
        stop,
    };
    let ended = flow.run().await;
    // The source is dropped by now; nobody else waits for the leases' end.
    Opened::leave(left).await;
    if let Err(error) = lanes.release_all().await {
        tracing::debug!(error = logging::chain(&error), "lanes cannot be released");
    }
    Ok(ended?)
}

/// Renews the leases of what is read, for as long as it is read.
async fn keep_leases(gateway: Arc<Gateway>, lanes: Arc<Lanes>) {
    let pause = gateway.config.store.lease / 3;
    loop {
        tokio::time::sleep(pause).await;
        match lanes.renew().await {
            Ok(lost) if lost.is_empty() => {}
            Ok(lost) => {
                tracing::info!(stream = lanes.stream(), ?lost, "lanes are another's by now");
            }
            Err(error) => {
                tracing::warn!(
                    stream = lanes.stream(),
                    error = logging::chain(&error),
                    "the leases of lanes cannot be renewed"
                );
            }
        }
    }
}
