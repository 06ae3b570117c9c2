//! The stores that a configuration names, opened: the one place that knows which there are.

use std::path::Path;
use std::sync::Arc;

use linkspan_model::config::{BlobStore, Config, JobStore};

use super::blobs::{ObjectBlobs, ObjectOptions, connect};
use super::error::StoreError;
use super::{Blobs, FileBlobs, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, Store};

/// Opens the stores for a gateway. `folder` is what the configuration's paths are relative to.
///
/// # Errors
///
/// As [`SqliteStore::open`] and [`FileBlobs::open`]: the gateway does not start. A far store that cannot be reached just now is no error
/// where it holds the documents: the gateway starts, and takes large documents when it is there.
pub async fn open(
    config: &Config,
    folder: &Path,
) -> Result<(Arc<dyn Store>, Arc<dyn Blobs>), StoreError> {
    let blobs = blobs_of(config, &config.store.blobs, folder).await?;
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
/// As [`SqliteStore::open_beside`].
pub async fn open_beside(config: &Config, folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
    match &config.store.jobs {
        JobStore::Sqlite(path) => Ok(Arc::new(SqliteStore::open_beside(folder.join(path))?)),
        JobStore::Postgres(url) => Ok(Arc::new(PostgresStore::open_beside(url.reveal()).await?)),
    }
}

/// Brings the tables of the jobs' store to this program's form. Gives their version before and since.
///
/// # Errors
///
/// As [`open`].
pub async fn migrate(config: &Config, folder: &Path) -> Result<(u32, u32), StoreError> {
    match &config.store.jobs {
        JobStore::Sqlite(path) => SqliteStore::migrate(folder.join(path)),
        JobStore::Postgres(url) => {
            let migrated = PostgresStore::migrate(url.reveal()).await?;
            Ok((migrated.from, migrated.to))
        }
    }
}

/// Opens documents to read them only, beside a gateway that may run.
///
/// # Errors
///
/// As [`open`].
pub async fn blobs_beside(
    config: &Config,
    blobs: &BlobStore,
    folder: &Path,
) -> Result<Arc<dyn Blobs>, StoreError> {
    match blobs {
        BlobStore::File(path) => Ok(Arc::new(FileBlobs::open_beside(folder.join(path)))),
        BlobStore::S3 { .. } => blobs_of(config, blobs, folder).await,
    }
}

/// Opens documents; a bucket is reached as the configuration says.
///
/// # Errors
///
/// As [`open`].
pub async fn blobs_of(
    config: &Config,
    blobs: &BlobStore,
    folder: &Path,
) -> Result<Arc<dyn Blobs>, StoreError> {
    match blobs {
        BlobStore::File(path) => Ok(Arc::new(FileBlobs::open(folder.join(path))?)),
        BlobStore::S3 { bucket, prefix } => {
            let s3 = &config.store.s3;
            let authorities = config.outbound.ca.as_ref().map(|path| folder.join(path));
            let options = ObjectOptions {
                prefix: prefix.clone(),
                cache: folder.join(&s3.cache),
                cache_size: s3.cache_size.bytes(),
            };
            let bucket = connect(bucket, s3, authorities.as_deref())?;
            Ok(Arc::new(ObjectBlobs::open(bucket, options).await?))
        }
    }
}
