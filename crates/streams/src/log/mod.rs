//! The embedded log: append-only, durable, a folder of segment files a log.
//!
//! What holds:
//! - [`Log::append`] returns after its entries are on the disk (fsync). Appends that wait share one fsync.
//! - Offsets of a log grow by one, from 0, and are never given twice, also after a restart or a torn write.
//! - What was acknowledged is there after a loss of power; what was not may be there, whole, or not at all.
//! - An entry that does not read back as it was written is an error, never skipped.
//!
//! [`Logs`] is a folder of logs with one lock and a few threads that write for all of them; [`SegmentLog`] is one of them. Inside:
//!
//! - `disk` is the only module that touches files; tests put a disk behind it that loses its power.
//! - `frame` is an entry on the disk, `scan` reads frames, `segment` is a file of them, `index` is what is known of it without reading it.
//! - `opening` recovers, `writer` writes, `reading` reads, `pool` has the threads, `shard` brings it together.
//!
//! What recovery can tell: damage in front of anything that was written after it was synced is found and reported. The last write
//! before a loss of power, if nothing followed it and the mark of it did not reach the disk, looks like a torn one when it is damaged.

pub(crate) mod disk;
mod frame;
mod index;
mod logs;
mod opening;
mod pool;
mod reading;
mod scan;
mod segment;
mod shard;
mod writer;

#[cfg(test)]
mod crashes;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::watch;

pub use logs::{Logs, LogsError, Settings};
pub use shard::SegmentLog;

/// One log: one shard of a stream.
#[async_trait]
pub trait Log: Send + Sync {
    /// Appends entries, in order, all or none, and returns the offset of the first after they are on disk. Dropping the future
    /// undoes nothing. `now` is kept with the entries; it is never less than that of the entry before (a clock that steps back is
    /// held).
    ///
    /// # Errors
    ///
    /// [`LogError::Full`], [`LogError::Io`], [`LogError::Closed`]: nothing is acknowledged.
    async fn append(&self, entries: Vec<Bytes>, now: Timestamp) -> Result<u64, LogError>;

    /// Entries from `from` on, as many as there are up to both bounds, and at least one where there is one.
    ///
    /// # Errors
    ///
    /// [`LogError::Trimmed`] below the first kept offset; [`LogError::Corrupt`], [`LogError::Io`].
    async fn read(&self, from: u64, entries: usize, bytes: usize) -> Result<Vec<Entry>, LogError>;

    /// The first kept offset and the next one to be given.
    fn bounds(&self) -> Range<u64>;

    /// Tells the next offset, after each append.
    fn follow(&self) -> watch::Receiver<u64>;

    /// The offset of the first kept entry that came at that time or later; the next one to be given where there is none.
    ///
    /// # Errors
    ///
    /// As [`Log::read`].
    async fn since(&self, time: Timestamp) -> Result<u64, LogError>;

    /// Lets go of whole segments that ended before `now - age`, or that are more than `size` bytes back. Returns the bytes freed.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`].
    async fn trim(&self, age: Duration, size: Option<u64>, now: Timestamp)
    -> Result<u64, LogError>;
}

/// An entry as it is read.
#[derive(Clone)]
pub struct Entry {
    /// Its offset.
    pub offset: u64,
    /// When it came.
    pub arrived: Timestamp,
    /// Its content.
    pub payload: Bytes,
}

/// Why a log gave or took nothing.
#[derive(Debug, Error)]
pub enum LogError {
    /// The offset is below the first kept one.
    #[error("the log begins at {first}")]
    Trimmed {
        /// The first kept offset.
        first: u64,
    },
    /// The disk is full. Tried again, it can pass.
    #[error("the disk is full")]
    Full,
    /// What was written does not read back.
    #[error("{file}: damaged at byte {at}")]
    Corrupt {
        /// The segment's file name.
        file: String,
        /// Where in it.
        at: u64,
    },
    /// The disk failed.
    #[error("cannot {doing}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// Why not.
        #[source]
        error: std::io::Error,
    },
    /// The log is closed, or a failed write made it refuse more until it is opened anew.
    #[error("the log is closed")]
    Closed,
}
