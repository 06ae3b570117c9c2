//! The store on SQLite: one file, one gateway.
//!
//! Architecture invariant: one thread holds the only connection that writes ([`writer`]); reads go through a few read-only
//! connections ([`readers`]). Write-ahead log, `synchronous=FULL`. Nothing checkpoints but the writer: SQLite's own checkpoint would
//! hide a failed fsync and try it again, which is how acknowledged data gets lost.

mod copy;
mod deliveries;
mod jobs;
mod keys;
mod open;
mod queue;
mod readers;
mod results;
mod rows;
mod schema;
mod sessions;
mod streams;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::blobs::{Blobs, Digest};
use super::error::StoreError;
use super::gauge::Gauge;
use super::watch::Watchers;
use readers::Readers;
use writer::Writer;

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    blobs: Option<Arc<dyn Blobs>>,
    watchers: Watchers,
    gauge: Arc<Gauge>,
    /// How far the search for blobs without a row has come.
    searched: Mutex<Option<Digest>>,
    path: PathBuf,
    /// Released last.
    _lock: Option<File>,
}

/// How the file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteOptions {
    /// The most bytes of the file that may be in use; beyond it nothing more is accepted. The results of what was accepted, and the
    /// write-ahead log, come on top.
    pub max_size: Option<u64>,
}

impl SqliteStore {
    /// Opens the gateway's store, made where it is not there, with the exclusive lock `<path>.lock`. Blocks.
    ///
    /// # Errors
    ///
    /// `Locked`, `Newer`, `Unusable`, `Corrupt`, `Full`, `Io`, `Busy`: the gateway does not start.
    pub fn open(
        path: impl AsRef<Path>,
        options: SqliteOptions,
        blobs: Arc<dyn Blobs>,
    ) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let lock = open::lock(path)?;
        Self::assemble(path, options, Some(blobs), Some(lock))
    }

    /// Opens the same file beside a gateway that may run: for the command line's `keys`, and for looking. Blocks. What is deleted
    /// through it leaves its blobs to the gateway's next sweep, and the gateway's watchers are not told.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`], without `Locked`.
    pub fn open_beside(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::assemble(path.as_ref(), SqliteOptions::default(), None, None)
    }

    /// Brings a file's tables to this program's form; [`SqliteStore::open`] does it too. Gives their version before and since; 0 where
    /// there were none. Blocks.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open_beside`].
    pub fn migrate(path: impl AsRef<Path>) -> Result<(u32, u32), StoreError> {
        open::migrate_file(path.as_ref())
    }

    /// How many commits have gone to the disk: fewer than there were changes, under load.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn assemble(
        path: &Path,
        options: SqliteOptions,
        blobs: Option<Arc<dyn Blobs>>,
        lock: Option<File>,
    ) -> Result<Self, StoreError> {
        let connection = open::for_writing(path)?;
        let gauge = Arc::new(Gauge::default());
        let watchers = Watchers::default();
        let readers = Readers::open(path, Arc::clone(&gauge))?;
        let writer = Writer::start(
            connection,
            Arc::clone(&gauge),
            watchers.clone(),
            options.max_size,
            lock.is_some(),
        )?;
        Ok(Self {
            writer,
            readers,
            blobs,
            watchers,
            gauge,
            searched: Mutex::new(None),
            path: path.to_owned(),
            _lock: lock,
        })
    }
}
