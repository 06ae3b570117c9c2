//! `full-stream` (pattern 4): records of a Kafka topic come in; results, dead letters and progress are one Kafka transaction.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::streaming::{Reader, ReaderError};

/// Reads an integration's stream until it is stopped.
///
/// # Errors
///
/// Source or committer cannot be opened, or ended by themselves.
pub async fn read(
    _gateway: &Arc<Gateway>,
    _reader: &Reader,
    _stop: CancellationToken,
) -> Result<(), ReaderError> {
    Err(ReaderError::Open("not built yet".to_owned()))
}
