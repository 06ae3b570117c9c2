//! `stream-in` (pattern 3): records come in; what came of them is stored with the progress in one step, delivered, and can be searched.

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
