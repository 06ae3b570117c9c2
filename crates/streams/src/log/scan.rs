//! Reading a segment from front to back.

use std::io;

use super::disk::DiskFile;
use super::frame::{HEADER, Head};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// Reads frame after frame, up to an end that is known.
pub(super) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    salt: u32,
    at: u64,
    end: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
}

/// Why a scan stopped.
#[derive(Debug)]
pub(super) enum Fault {
    /// The disk gave nothing.
    Io(io::Error),
    /// What is there is not a frame.
    Damaged {
        /// Where.
        at: u64,
    },
}

/// A frame.
pub(super) struct Found<'a> {
    /// Where it begins.
    pub(super) at: u64,
    /// Its header.
    pub(super) head: Head,
    /// Its payload; empty where it was not asked for.
    pub(super) payload: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// Begins at `at`, where a frame begins; stops at `end`.
    pub(super) fn new(file: &'a dyn DiskFile, salt: u32, at: u64, end: u64) -> Self {
        Self {
            file,
            salt,
            at,
            end,
            chunk: Vec::new(),
            chunk_at: at,
        }
    }

    /// The next header, without its payload.
    pub(super) fn skim(&mut self) -> Result<Option<Found<'_>>, Fault> {
        let Some((at, head)) = self.header()? else {
            return Ok(None);
        };
        self.at = at + head.size();
        let payload = &[];
        Ok(Some(Found { at, head, payload }))
    }

    /// The header of the next frame, which stays the next one.
    pub(super) fn peek(&mut self) -> Result<Option<Head>, Fault> {
        Ok(self.header()?.map(|(_, head)| head))
    }

    /// The next frame, checked.
    pub(super) fn read(&mut self) -> Result<Option<Found<'_>>, Fault> {
        let Some((at, head)) = self.header()? else {
            return Ok(None);
        };
        let size = usize::try_from(head.size()).map_err(|_| Fault::Damaged { at })?;
        let payload = &self.bytes(at, size)?[HEADER..];
        if crc32fast::hash(payload) != head.payload_crc {
            return Err(Fault::Damaged { at });
        }
        // Asked for again, for the borrow of the chunk must not outlive the change of `at`.
        self.at = at + head.size();
        let payload = &self.bytes(at, size)?[HEADER..];
        Ok(Some(Found { at, head, payload }))
    }

    fn header(&mut self) -> Result<Option<(u64, Head)>, Fault> {
        let (at, left) = (self.at, self.end.saturating_sub(self.at));
        if left == 0 {
            return Ok(None);
        }
        if left < HEADER as u64 {
            return Err(Fault::Damaged { at });
        }
        let salt = self.salt;
        match Head::read(salt, self.bytes(at, HEADER)?) {
            Some(head) if head.size() <= left => Ok(Some((at, head))),
            _ => Err(Fault::Damaged { at }),
        }
    }

    /// Bytes of the file, out of the chunk or with a chunk that begins there.
    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8], Fault> {
        let within = usize::try_from(at - self.chunk_at).unwrap_or(usize::MAX);
        if within.saturating_add(length) <= self.chunk.len() {
            return Ok(&self.chunk[within..within + length]);
        }
        let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
        self.chunk.resize(CHUNK.max(length).min(left), 0);
        self.chunk_at = at;
        let read = self.file.read_at(&mut self.chunk, at);
        let read = read
            .inspect_err(|_| self.chunk.clear())
            .map_err(Fault::Io)?;
        self.chunk.truncate(read);
        // The file is shorter than it was when it was acknowledged.
        self.chunk.get(..length).ok_or(Fault::Damaged { at })
    }
}
