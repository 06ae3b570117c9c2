//! A body on its way in: hashed and measured as it comes, in memory while it is small, else in a temporary file.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ring::digest::{Context, SHA256};
use tempfile::NamedTempFile;

use super::{Blobs, Content, Digest, DocumentRef, INLINE_LIMIT};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::upkeep::Health;

/// So much is collected before a thread is asked to write it.
const FLUSH: usize = 256 * 1024;

/// A body on its way in. Dropping it removes what was spooled.
pub struct Intake {
    blobs: Arc<dyn Blobs>,
    limit: u64,
    size: u64,
    buffer: BytesMut,
    /// Whether a temporary file was begun.
    spilled: bool,
    spool: Option<Spool>,
}

/// A body that came in, usable as it is. Cheap to clone; the temporary file is removed with the last clone.
#[derive(Clone)]
pub struct Body {
    blobs: Arc<dyn Blobs>,
    digest: Digest,
    size: u64,
    place: Place,
}

/// A temporary file that holds a body. Cheap to clone; the file is removed with the last clone.
#[derive(Clone)]
pub struct Spooled(Arc<NamedTempFile>);

/// Why a body was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It is longer than its limit. Answer 413.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone)]
enum Place {
    Memory(Bytes),
    File(Spooled),
}

struct Spool {
    file: NamedTempFile,
    hash: Context,
}

impl Intake {
    /// Begins to take in a body of at most `limit` bytes.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>, limit: u64) -> Self {
        Self {
            blobs,
            limit,
            size: 0,
            buffer: BytesMut::new(),
            spilled: false,
            spool: None,
        }
    }

    /// How many bytes came in so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes in the next piece. Not cancel safe: when its future is dropped, drop the intake too.
    ///
    /// # Errors
    ///
    /// `TooLarge`: stop reading, answer 413. `Store`: answer 503. The intake is of no more use.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), IntakeError> {
        self.size = self.size.saturating_add(chunk.len() as u64);
        if self.size > self.limit {
            return Err(IntakeError::TooLarge { limit: self.limit });
        }
        self.buffer.extend_from_slice(chunk);
        let spill = match self.spool {
            None => self.buffer.len() > INLINE_LIMIT,
            Some(_) => self.buffer.len() >= FLUSH,
        };
        if spill {
            self.flush().await?;
        }
        Ok(())
    }

    /// The whole body, for use without durability.
    ///
    /// # Errors
    ///
    /// As [`Intake::write`].
    pub async fn finish(mut self) -> Result<Body, IntakeError> {
        if self.spilled {
            self.flush().await?;
        }
        let (digest, place) = match self.spool {
            Some(Spool { file, hash }) => {
                let digest = Digest::from_ring(&hash.finish());
                (digest, Place::File(Spooled(Arc::new(file))))
            }
            None => (
                Digest::of(&self.buffer),
                Place::Memory(self.buffer.freeze()),
            ),
        };
        Ok(Body {
            blobs: self.blobs,
            digest,
            size: self.size,
            place,
        })
    }

    /// The whole body, durable: the shorthand of [`Intake::finish`] and [`Body::keep`].
    ///
    /// # Errors
    ///
    /// As [`Intake::write`].
    pub async fn finish_durable(
        self,
        media_type: Option<String>,
        file_name: Option<String>,
    ) -> Result<DocumentRef, IntakeError> {
        let body = self.finish().await?;
        Ok(body.keep(media_type, file_name).await?)
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        const DOING: &str = "take in a document";
        // A store that cannot be reached may be there again when the body must be kept, if it must.
        if let Health::Refusing(kind) = self.blobs.health()
            && kind != ErrorKind::Unreachable
        {
            return Err(StoreError::new(kind, DOING));
        }
        if self.spilled && self.spool.is_none() {
            // An earlier write failed, or its future was dropped with the file: what follows would not be the whole body.
            return Err(StoreError::new(ErrorKind::Internal, DOING));
        }
        self.spilled = true;
        let bytes = self.buffer.split().freeze();
        let spool = self.spool.take();
        let blobs = Arc::clone(&self.blobs);
        let written = tokio::task::spawn_blocking(move || {
            let mut spool = match spool {
                Some(spool) => spool,
                None => Spool {
                    file: NamedTempFile::new_in(blobs.spool())?,
                    hash: Context::new(&SHA256),
                },
            };
            spool.hash.update(&bytes);
            spool.file.write_all(&bytes)?;
            Ok(spool)
        })
        .await
        .map_err(|join| StoreError::new(ErrorKind::Internal, DOING).because(join))?;
        self.spool = Some(written.map_err(|error| self.blobs.fault(error, DOING))?);
        Ok(())
    }
}

impl Body {
    /// The content's SHA-256.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The content where it is in memory (at most [`INLINE_LIMIT`] bytes).
    #[must_use]
    pub const fn inline(&self) -> Option<&Bytes> {
        match &self.place {
            Place::Memory(bytes) => Some(bytes),
            Place::File(_) => None,
        }
    }

    /// The temporary file where it is in one. It is there for as long as a clone of this body.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Memory(_) => None,
            Place::File(spooled) => Some(spooled.path()),
        }
    }

    /// The whole content, read into memory.
    ///
    /// # Errors
    ///
    /// `Io`: the temporary file cannot be read.
    pub async fn bytes(&self) -> Result<Bytes, StoreError> {
        const DOING: &str = "read a document";
        let spooled = match &self.place {
            Place::Memory(bytes) => return Ok(bytes.clone()),
            Place::File(spooled) => spooled.clone(),
        };
        tokio::task::spawn_blocking(move || {
            // A handle of its own: clones of the body may read at the same time.
            let mut content = Vec::new();
            File::open(spooled.path())?.read_to_end(&mut content)?;
            Ok(content.into())
        })
        .await
        .map_err(|join| StoreError::new(ErrorKind::Internal, DOING).because(join))?
        .map_err(|error: std::io::Error| StoreError::new(ErrorKind::Io, DOING).because(error))
    }

    /// Makes the content durable: in memory it is durable with the row, a file becomes a blob. The body stays usable.
    ///
    /// # Errors
    ///
    /// As [`Blobs::keep`].
    pub async fn keep(
        &self,
        media_type: Option<String>,
        file_name: Option<String>,
    ) -> Result<DocumentRef, StoreError> {
        let content = match &self.place {
            Place::Memory(bytes) => Content::Inline(bytes.clone()),
            Place::File(spooled) => {
                Content::Blob(self.blobs.keep(spooled, self.digest, self.size).await?)
            }
        };
        Ok(DocumentRef {
            content,
            media_type,
            file_name,
        })
    }
}

impl Spooled {
    /// The temporary file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The temporary file, open for reading and writing.
    #[must_use]
    pub fn file(&self) -> &File {
        self.0.as_file()
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake")
            .field("size", &self.size)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Spooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spooled")
    }
}
