//! Replications between Kafka clusters: `[replicate.NAME]` as the crate of streams takes it, and the replicators of a gateway.
//!
//! A replication has nothing to do with integrations and jobs. One that cannot copy, or of which a topic has stopped, keeps nobody from
//! invoking anything: it is said in the log, by the metrics and by `GET /v1/replications`, and the gateway stays ready.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linkspan_model::config::stream::Compression as Given;
use linkspan_model::config::{Config, Replication};
use linkspan_streams::replicate::{Compression, Naming, Replicator, Settings, Status};

use crate::gateway::Gateway;
use crate::streaming;

/// The replications of a gateway, by name.
#[derive(Default)]
pub struct Replications {
    all: BTreeMap<String, Settings>,
    running: Mutex<BTreeMap<String, Arc<Replicator>>>,
}

/// A replication cannot be set up as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("replicate.{name}: {why}")]
pub struct ReplicationError {
    /// The replication.
    pub name: String,
    /// What is wrong, in a sentence without secrets.
    pub why: String,
}

/// A configured replication, as the crate of streams takes it. `folder` is what the configuration's paths are relative to. Calls nobody.
///
/// # Errors
///
/// One of its clusters cannot be set up as it is configured.
pub fn settings(
    name: &str,
    given: &Replication,
    config: &Config,
    folder: &Path,
) -> Result<Settings, ReplicationError> {
    let failed = |why: String| ReplicationError {
        name: name.to_owned(),
        why,
    };
    let cluster = |named: &linkspan_model::config::ClusterName| {
        let given = config.kafka.get(named);
        let given = given.ok_or_else(|| failed(format!("there is no [kafka.{named}]")))?;
        streaming::cluster(given, folder)
            .map_err(|error| failed(format!("kafka.{named}: {}", crate::logging::chain(&error))))
    };
    let (source, target) = (cluster(&given.from)?, cluster(&given.to)?);
    let mut settings = Settings::new(name, source, target, given.topics.clone());
    if let Some(prefix) = &given.prefix {
        settings.naming = Naming::Prefix(prefix.clone());
    }
    settings.compression = match given.compression {
        Given::None => Compression::None,
        Given::Lz4 => Compression::Lz4,
        Given::Zstd => Compression::Zstd,
    };
    settings.replication_factor = given
        .replication_factor
        .and_then(|copies| i32::try_from(copies).ok());
    settings.commit_every = given.commit_interval;
    settings.sync_every = given.sync_interval;
    settings.buffer_kib = u32::try_from(given.buffer.bytes() / 1024).unwrap_or(u32::MAX);
    Ok(settings)
}

impl Replications {
    /// The replications of a configuration; none of them copies yet.
    ///
    /// # Errors
    ///
    /// As [`settings`].
    pub fn of(config: &Config, folder: &Path) -> Result<Self, ReplicationError> {
        let all = config.replications.iter().map(|(name, given)| {
            let settings = settings(name.as_str(), given, config, folder)?;
            Ok((name.to_string(), settings))
        });
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            running: Mutex::default(),
        })
    }

    /// Starts all of them. They end with [`Gateway::stop`], and [`Gateway::drain`] waits for them.
    ///
    /// # Errors
    ///
    /// The settings of one cannot work.
    pub fn start(&self, gateway: &Arc<Gateway>) -> Result<(), ReplicationError> {
        for (name, settings) in &self.all {
            let started = Replicator::start(settings.clone());
            let replicator = started.map_err(|error| ReplicationError {
                name: name.clone(),
                why: error.to_string(),
            })?;
            self.lock().insert(name.clone(), Arc::new(replicator));
            let (stop, name) = (gateway.stop.clone(), name.clone());
            let gateway = Arc::clone(gateway);
            gateway.tasks.clone().spawn(async move {
                stop.cancelled().await;
                let replicator = gateway.replications.lock().get(&name).cloned();
                // It commits what it has read. Its calls wait for the clusters.
                if let Some(replicator) = replicator {
                    let _ = tokio::task::spawn_blocking(move || replicator.stop()).await;
                }
            });
        }
        Ok(())
    }

    /// How they do, by name.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let running = self.lock();
        running.values().map(|running| running.status()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Replicator>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Replications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.keys()).finish()
    }
}
