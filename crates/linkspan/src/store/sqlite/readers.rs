//! A few read-only connections. Reads see every change that was acknowledged before they began.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::open::{failure, for_reading};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::gauge::Gauge;

/// How many reads can go on at once; more wait.
const CONNECTIONS: usize = 4;

/// The read-only connections, opened at the start so that no read fails for want of a file handle.
#[derive(Debug)]
pub(super) struct Readers {
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
    gauge: Arc<Gauge>,
}

impl Readers {
    pub(super) fn open(path: &Path, gauge: Arc<Gauge>) -> Result<Self, StoreError> {
        let idle = (0..CONNECTIONS)
            .map(|_| for_reading(path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            places: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::new(Mutex::new(idle)),
            gauge,
        })
    }

    /// Runs a query on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let internal = || StoreError::new(ErrorKind::Internal, doing);
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|closed| internal().because(closed))?;
        let idle = Arc::clone(&self.idle);
        let outcome = tokio::task::spawn_blocking(move || {
            let connection = lock(&idle).pop()?;
            let outcome = query(&connection);
            lock(&idle).push(connection);
            // Only now: the caller may have gone away meanwhile.
            drop(place);
            Some(outcome)
        })
        .await
        .map_err(|join| internal().because(join))?;
        match outcome {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let fatal = matches!(error, rusqlite::Error::SqliteFailure(..));
                let error = failure(error, doing);
                if fatal && matches!(error.kind, ErrorKind::Io | ErrorKind::Corrupt) {
                    self.gauge.poison(error.kind);
                }
                Err(error)
            }
            None => Err(internal()),
        }
    }
}

fn lock(idle: &Mutex<Vec<Connection>>) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
