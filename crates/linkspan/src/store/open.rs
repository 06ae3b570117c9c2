//! The stores that a configuration names, opened: the one place that knows which there are.

use std::path::Path;
use std::sync::Arc;

use linkspan_model::config::{BlobStore, Config, JobStore};

use super::error::{ErrorKind, StoreError};
use super::{Blobs, FileBlobs, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, Store};

/// Opens the stores for a gateway. `folder` is what the configuration's paths are relative to.
///
/// # Errors
///
/// As [`SqliteStore::open`], [`PostgresStore::open`] and [`FileBlobs::open`]: the gateway does not start. A far store that cannot be reached just now is no error
/// where it holds the documents: the gateway starts, and takes large documents when it is there.
pub async fn open(
    config: &Config,
    folder: &Path,
) -> Result<(Arc<dyn Store>, Arc<dyn Blobs>), StoreError> {
    let blobs = open_blobs(config, folder).await?;
    let store: Arc<dyn Store> = match &config.store.jobs {
        JobStore::Sqlite(path) => {
            let options = SqliteOptions {
                max_size: Some(config.store.max_size.bytes()),
            };
            Arc::new(SqliteStore::open(
                folder.join(path),
                options,
                blobs.clone(),
            )?)
        }
        JobStore::Postgres(url) => {
            let options = PostgresOptions::default();
            Arc::new(PostgresStore::open(url.reveal(), options, blobs.clone()).await?)
        }
    };
    Ok((store, blobs))
}

/// Opens the jobs' store beside a gateway that may run: for the command line's `keys`, and for looking.
///
/// # Errors
///
/// As [`SqliteStore::open_beside`] and [`PostgresStore::open_beside`].
pub async fn open_beside(config: &Config, folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
    match &config.store.jobs {
        JobStore::Sqlite(path) => Ok(Arc::new(SqliteStore::open_beside(folder.join(path))?)),
        JobStore::Postgres(url) => Ok(Arc::new(PostgresStore::open_beside(url.reveal()).await?)),
    }
}

async fn open_blobs(config: &Config, folder: &Path) -> Result<Arc<dyn Blobs>, StoreError> {
    match &config.store.blobs {
        BlobStore::File(path) => Ok(Arc::new(FileBlobs::open(folder.join(path))?)),
        BlobStore::S3 { .. } => Err(StoreError::new(
            ErrorKind::Unusable,
            "open the bucket of documents",
        )),
    }
}
