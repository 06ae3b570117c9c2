//! Documents, as the store keeps them: small ones in the job's row, bigger ones as content-addressed blobs.
//!
//! A body comes in through an [`Intake`], which keeps up to [`INLINE_LIMIT`] bytes in memory and the rest in a temporary file, and
//! ends as a [`Body`]: usable at once (`sync`), and made durable when it must be ([`Body::keep`]: `async`, or `sync` that overflows).
//!
//! A blob is removed only when no row refers to it *and* no [`Pin`] holds it. Each reference that was not read from the store carries
//! a pin, so a sweep never races an intake of the same content.

mod file;
mod intake;
mod object;
mod pins;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempPath;

pub use file::FileBlobs;
pub use intake::{Body, Intake, IntakeError, Spooled};
pub use object::{ObjectBlobs, ObjectOptions, connect};
pub use pins::{Condemned, Pin, Pins};

use super::error::StoreError;
use super::upkeep::Health;

/// Bodies up to this size are kept in the job's row, bigger ones as blobs.
pub const INLINE_LIMIT: usize = 64 * 1024;

/// A store of blobs.
#[async_trait]
pub trait Blobs: fmt::Debug + Send + Sync {
    /// The local folder for temporary files.
    fn spool(&self) -> &Path;

    /// Keeps a spooled body under its digest. Durable on return; the reference carries a pin. The same content is kept once. The
    /// temporary file stays readable.
    ///
    /// # Errors
    ///
    /// Not kept. `Full`: try later. `Io`: an fsync failed, poisoned until the restart.
    async fn keep(
        &self,
        spooled: &Spooled,
        digest: Digest,
        size: u64,
    ) -> Result<BlobRef, StoreError>;

    /// Opens a blob for reading. What was opened stays readable when the blob is removed.
    ///
    /// # Errors
    ///
    /// `Corrupt`: the blob is not there, or not of its size, though a row refers to it. This poisons nothing.
    async fn open(&self, blob: &BlobRef) -> Result<File, StoreError>;

    /// The blob as a file of this machine, for a worker that is given a path. It is there for as long as the answer.
    ///
    /// # Errors
    ///
    /// As [`Blobs::open`]. `Unreachable`, `Full`, `Busy`: the blob may be fetched later.
    async fn local(&self, blob: &BlobRef) -> Result<LocalBlob, StoreError>;

    /// Whether the store itself has the blob, whatever copies of it there are: asked where another gateway may have removed it.
    ///
    /// # Errors
    ///
    /// Unknown whether it is there.
    async fn is_there(&self, blob: &BlobRef) -> Result<bool, StoreError>;

    /// Begins the removal of a blob: while the answer lives, no pin of this content can be made. None where it is pinned. Called by
    /// the sweeper, which then asks the rows, and erases or drops the answer soon.
    fn condemn(&self, digest: Digest) -> Option<Condemned>;

    /// Removes a condemned blob. False where there was none.
    ///
    /// # Errors
    ///
    /// The blob may be there still; the sweeper tries again.
    async fn erase(&self, condemned: Condemned) -> Result<bool, StoreError>;

    /// The digests of up to `limit` blobs after `after` that are older than `age`, in order: for finding blobs without a row.
    ///
    /// # Errors
    ///
    /// Nothing was listed.
    async fn list(
        &self,
        after: Option<Digest>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Digest>, StoreError>;

    /// Takes note of a failure to write a temporary file, and says what it means: `Full` or `Io`, which change [`Blobs::health`], or
    /// `Busy`.
    fn fault(&self, error: io::Error, doing: &'static str) -> StoreError;

    /// Whether blobs are accepted, from memory. Starts a probe as [`Upkeep::health`](super::Upkeep::health) does.
    fn health(&self) -> Health;
}

/// A blob as a file of this machine. Dropping it gives the file up.
#[derive(Debug)]
pub struct LocalBlob {
    path: PathBuf,
    /// Removes the file where it is there for this use only.
    _copy: Option<TempPath>,
}

/// A document: its content, and what its sender said of it.
#[derive(Clone, PartialEq, Eq)]
pub struct DocumentRef {
    /// The content.
    pub content: Content,
    /// The media type that the caller gave.
    pub media_type: Option<String>,
    /// The file name that the caller gave.
    pub file_name: Option<String>,
}

/// A document's content.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// In the row: at most [`INLINE_LIMIT`] bytes.
    Inline(Bytes),
    /// A blob.
    Blob(BlobRef),
}

/// A reference to a blob.
#[derive(Clone)]
pub struct BlobRef {
    /// The blob's content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What keeps the blob from being removed until its row is there. None in references that were read from a store.
    pub pin: Option<Pin>,
}

/// The SHA-256 of a content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl LocalBlob {
    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl DocumentRef {
    /// The content's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.content {
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Blob(blob) => blob.size,
        }
    }
}

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_ring(&ring::digest::digest(&ring::digest::SHA256, bytes))
    }

    /// The digest that `ring` made with SHA-256.
    fn from_ring(digest: &ring::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// The digest from its 64 lower-case hexadecimal digits.
    fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

impl PartialEq for BlobRef {
    fn eq(&self, other: &Self) -> bool {
        (self.digest, self.size) == (other.digest, other.size)
    }
}

impl Eq for BlobRef {}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for DocumentRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The name may hold personal data.
        f.debug_struct("DocumentRef")
            .field("content", &self.content)
            .field("media_type", &self.media_type)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes.
        match self {
            Self::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Self::Blob(blob) => blob.fmt(f),
        }
    }
}

impl fmt::Debug for BlobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.size)
    }
}
