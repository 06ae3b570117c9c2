//! The gateway's own Kinesis streams: the service and the logs behind it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_model::config::{Config, Size};
use linkspan_streams::kinesis::{Options, Service};
use linkspan_streams::log::{LogError, Logs, LogsError, Settings};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::keys::HashKey;
use crate::logging;

/// How often what is past its retention is let go of.
const SWEEP: Duration = Duration::from_secs(60);

/// How much memory the bodies of all requests take at most, in KiB: 256 MiB.
const BODIES_KIB: usize = 256 << 10;

/// The gateway's own streams, open.
pub struct OwnStreams {
    service: Arc<Service>,
    bodies: Arc<Semaphore>,
    _sweeper: AbortOnDropHandle<()>,
}

/// Why they do not open.
#[derive(Debug, thiserror::Error)]
pub enum OwnStreamsError {
    /// Their folder.
    #[error("cannot open the streams' folder (streams.path)")]
    Folder(#[source] LogsError),
    /// One of them.
    #[error("cannot open the streams (streams.path)")]
    Streams(#[source] LogError),
}

impl OwnStreams {
    /// Opens them, where the configuration has some.
    ///
    /// # Errors
    ///
    /// The folder is another process's, or cannot be used; a log is damaged.
    pub async fn open(
        config: &Config,
        folder: &Path,
        hash_key: &HashKey,
    ) -> Result<Option<Self>, OwnStreamsError> {
        if !config.has_own_streams() {
            return Ok(None);
        }
        let given = &config.streams;
        let path = folder.join(&given.path);
        let logs = Logs::open(&path.join("logs"), Settings::default())
            .await
            .map_err(OwnStreamsError::Folder)?;
        let options = Options {
            throttle: given.throttle,
            shard_size: given.shard_size.map(Size::bytes),
            shards: given.max_shards,
        };
        let secret = hash_key.derive_bytes("kinesis iterators");
        let catalogue = path.join("streams.json");
        let service = Service::open(catalogue, Arc::new(logs), &secret, options)
            .await
            .map_err(OwnStreamsError::Streams)?;
        let service = Arc::new(service);
        let sweeper = tokio::spawn(sweep(service.clone()));
        Ok(Some(Self {
            service,
            bodies: Arc::new(Semaphore::new(BODIES_KIB)),
            _sweeper: AbortOnDropHandle::new(sweeper),
        }))
    }

    /// The memory that requests' bodies may take, a permit a KiB.
    #[must_use]
    pub const fn bodies(&self) -> &Arc<Semaphore> {
        &self.bodies
    }

    /// The service.
    #[must_use]
    pub const fn service(&self) -> &Arc<Service> {
        &self.service
    }
}

async fn sweep(service: Arc<Service>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        if let Err(error) = service.sweep(Timestamp::now()).await {
            tracing::warn!(
                error = logging::chain(&error),
                "the streams cannot be swept"
            );
        }
    }
}
