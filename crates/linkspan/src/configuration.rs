//! Reading `linkspan.toml` from disk: secrets resolved, and what it points to checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use linkspan_engines::registry;
use linkspan_model::config::{BlobStore, Config, JobStore, Reference, Resolve, format_duration};

use crate::deliveries::Deliveries;
use crate::streaming::{self, Reading};
use crate::tls::{Tls, TlsFiles};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}{hint}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The file has faults.
    #[error("{0}")]
    Faults(#[from] linkspan_model::config::Faults),
}

/// Reads and checks a configuration file.
///
/// # Errors
///
/// When it cannot be read, or has faults: all of them, with their lines.
pub fn load(path: &Path) -> Result<Config, ConfigurationError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigurationError::Read {
        path: path.to_owned(),
        hint: match source.kind() {
            std::io::ErrorKind::NotFound => "; linkspan init writes one, -c names another",
            _ => "",
        },
        source,
    })?;
    let resolver = Resolver {
        folder: folder(path),
    };
    Ok(Config::parse(
        &text,
        &path.display().to_string(),
        &resolver,
    )?)
}

/// The folder that a configuration's paths are relative to.
#[must_use]
pub fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Checks what a configuration points to: the engines' options, TLS files, folders, channels. All faults at once, in sentences.
#[must_use]
pub fn check_targets(config: &Config, folder: &Path) -> Vec<String> {
    let mut faults = check_options(config);
    if let Some(tls) = &config.server.tls {
        let files = TlsFiles::of(tls, folder);
        if let Err(error) = Tls::load(files) {
            faults.push(
                config
                    .fault("server.tls", crate::logging::chain(&error))
                    .to_string(),
            );
        }
    }
    let store = &config.store;
    let mut folders = Vec::new();
    if let JobStore::Sqlite(path) = &store.jobs {
        folders.extend(path.parent().map(|path| ("store.jobs", path)));
    }
    match &store.blobs {
        BlobStore::File(path) => folders.push(("store.blobs", path)),
        BlobStore::S3 { .. } => folders.push(("store.s3.cache", &store.s3.cache)),
    }
    if let Some(path) = &store.hash_key {
        folders.extend(path.parent().map(|path| ("store.hash_key", path)));
    }
    for (key, path) in folders {
        if let Err(error) = writable(&folder.join(path)) {
            faults.push(config.fault(key, error).to_string());
        }
    }
    faults.extend(check_streams(config, folder));
    let channels = Deliveries::check(config, folder);
    faults.extend(channels.iter().map(ToString::to_string));
    faults
}

/// Checks the filters of sources and the settings of Kafka clusters. Calls nobody.
#[must_use]
pub fn check_streams(config: &Config, folder: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, integration) in &config.integrations {
        if let Some(source) = &integration.source
            && let Err(sentence) = Reading::of(source)
        {
            let (key, message) = sentence.split_once(": ").unwrap_or(("text", &sentence));
            let key = format!("integration.{name}.source.{key}");
            let message = format!("is no jq filter that can be used: {message}");
            faults.push(config.fault(&key, message).to_string());
        }
    }
    let clusters = streaming::check_clusters(config, folder);
    faults.extend(clusters.iter().map(ToString::to_string));
    faults
}

/// Checks the options of every service by its engine.
#[must_use]
pub fn check_options(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, service) in &config.services {
        if let Some(engine) = registry::builtin(service.task)
            && let Err(sentence) = engine.check_options(service.options.as_map())
        {
            faults.push(
                config
                    .fault(&format!("service.{name}.options"), sentence)
                    .to_string(),
            );
        }
    }
    faults
}

/// What the engines of a configuration need and this machine lacks: the gateway starts without it, and answers 503 where it is needed.
#[must_use]
pub fn lacking(config: &Config) -> Vec<String> {
    let mut lacking = Vec::new();
    for (name, service) in &config.services {
        if let Some(engine) = registry::builtin(service.task) {
            let options = engine.lacking(service.options.as_map());
            let key = format!("service.{name}.options");
            lacking.extend(
                options
                    .into_iter()
                    .map(|sentence| config.fault(&key, sentence).to_string()),
            );
        }
    }
    lacking
}

/// The channels whose waits between attempts are longer than a result is ever kept, a line each: what they could not deliver by then is
/// given up early.
#[must_use]
pub fn short_lived(config: &Config) -> Vec<String> {
    let mut short = Vec::new();
    for (name, integration) in &config.integrations {
        let retention = integration.retention.unwrap_or(config.store.retention);
        let kept = retention.saturating_add(config.store.row_retention);
        for (nth, deliver) in integration.deliver.iter().enumerate() {
            let waits = deliver.common.retry.iter().sum::<Duration>();
            if waits.mul_f64(1.2) > kept {
                let sentence = format!(
                    "the waits add up to {}, up to a fifth longer by chance, and a result is kept for {} at most (retention and \
                     store.row_retention): shorten the waits or raise those",
                    format_duration(waits),
                    format_duration(kept)
                );
                let key = format!("integration.{name}.deliver[{nth}].retry");
                short.push(config.fault(&key, sentence).to_string());
            }
        }
    }
    short
}

/// Whether a folder, or the nearest one above it that is there, can be written.
fn writable(folder: &Path) -> Result<(), String> {
    let there = folder
        .ancestors()
        .find(|folder| folder.as_os_str().is_empty() || folder.exists());
    let there = match there {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !there.is_dir() {
        return Err(format!("{} is not a folder", there.display()));
    }
    rustix::fs::access(there, rustix::fs::Access::WRITE_OK)
        .map_err(|error| format!("{} cannot be written: {error}", there.display()))
}

/// Fetches `${env:NAME}` and `${file:PATH}`.
pub(crate) struct Resolver {
    /// What the paths of references are relative to.
    pub(crate) folder: PathBuf,
}

impl Resolve for Resolver {
    fn resolve(&self, reference: Reference<'_>) -> Result<String, String> {
        match reference {
            Reference::Env(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name} is not set")),
            Reference::File(path) => {
                let path = self.folder.join(path);
                std::fs::read_to_string(&path)
                    .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))
            }
        }
    }
}
