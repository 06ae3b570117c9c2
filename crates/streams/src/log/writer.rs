//! The writing end of a log: one write and one sync for all that waits.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::LogError;
use super::disk::{Disk, DiskFile};
use super::frame::{self, Stamp};
use super::index::{Index, Mark, Point, Sealed};
use super::logs::Settings;
use super::segment::{PROLOGUE, Segment, Walked, failed, index_name, name};

/// The name of the file that holds the [`Mark`].
pub(super) const MARK: &str = "mark";

/// Space is set aside in pieces of so many bytes.
const RESERVE: u64 = 1024 * 1024;

/// The writing end.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    settings: Settings,
    segment: Segment,
    mark: Arc<dyn DiskFile>,
    /// What of the segment is on the disk.
    durable: Sealed,
    first: Option<i64>,
    reserved: u64,
}

/// Entries of one append.
pub(super) struct Batch {
    /// Pushed frames.
    pub(super) frames: Vec<u8>,
    /// How many.
    pub(super) entries: u64,
    /// When they came, as the caller's clock says.
    pub(super) now: i64,
}

/// What a write brought.
pub(super) struct Written {
    /// The first offset of each batch.
    pub(super) offsets: Vec<u64>,
    /// Frames that the index may take.
    pub(super) points: Vec<Point>,
}

/// Why nothing was written.
pub(super) enum Failed {
    /// Nothing has changed, and the next one may succeed.
    Passing(LogError),
    /// What is on the disk is not known: nothing may be written until the log is opened anew.
    Lasting(LogError),
}

impl Writer {
    /// Goes on where a walk ended.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        settings: Settings,
        segment: Segment,
        mark: Arc<dyn DiskFile>,
        walked: &Walked,
    ) -> Self {
        Self {
            disk,
            folder,
            settings,
            segment,
            mark,
            durable: walked.whole,
            first: walked.first,
            reserved: walked.whole.bytes,
        }
    }

    /// The segment that is written to.
    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// What of it is on the disk.
    pub(super) fn durable(&self) -> Sealed {
        self.durable
    }

    /// Writes batches; they are on the disk afterwards.
    pub(super) fn write(&mut self, batches: &mut [Batch]) -> Result<Written, Failed> {
        let bytes: usize = batches.iter().map(|batch| batch.frames.len()).sum();
        let start = self.durable;
        let group = u32::try_from(start.bytes).unwrap_or(u32::MAX);
        let (mut offsets, mut points) = (Vec::with_capacity(batches.len()), Vec::new());
        let mut next = start;
        for batch in &mut *batches {
            next.last = next.last.max(batch.now);
            offsets.push(next.end);
            let stamp = Stamp {
                salt: self.segment.salt,
                offset: next.end,
                arrived: next.last,
                group,
            };
            frame::stamp(&mut batch.frames, &stamp, |offset, at| {
                points.push(Point {
                    offset,
                    arrived: stamp.arrived,
                    at: u32::try_from(next.bytes + at as u64).unwrap_or(u32::MAX),
                });
            });
            next.end += batch.entries;
            next.bytes += batch.frames.len() as u64;
        }
        match &*batches {
            [only] => self.bring(&only.frames, start.bytes)?,
            all => {
                let mut frames = Vec::with_capacity(bytes);
                for batch in all {
                    frames.extend_from_slice(&batch.frames);
                }
                self.bring(&frames, start.bytes)?;
            }
        }
        self.durable = next;
        self.first = self.first.or(points.first().map(|point| point.arrived));
        self.leave_mark();
        Ok(Written { offsets, points })
    }

    /// Ends the segment, whose index is given, and begins another.
    pub(super) fn roll(&mut self, index: &Index) -> Result<Sealed, Failed> {
        let doing = "begin a segment of a log";
        let sealed = self.durable;
        let next = Segment::create(&*self.disk, &self.folder, sealed.end, sealed.last);
        let next = next.map_err(|error| {
            // A header that the disk may not have must not be taken for a segment at the next start.
            let path = self.folder.join(name(sealed.end));
            match self.disk.remove(&path) {
                Err(left) if left.kind() != io::ErrorKind::NotFound => {
                    Failed::Lasting(failed(doing, error))
                }
                _ => Failed::Passing(failed(doing, error)),
            }
        })?;
        self.disk
            .sync_folder(&self.folder)
            .map_err(|error| Failed::Lasting(LogError::Io { doing, error }))?;
        // Without its side file a segment is read once more at the next start, no worse; so is what was reserved.
        let left = self.segment.file.cut(sealed.bytes);
        let left = left.and_then(|()| self.leave_index(index));
        if let Err(error) = left {
            tracing::warn!(%error, "a log's segment has no index file");
        }
        self.durable = Sealed {
            base: sealed.end,
            bytes: PROLOGUE,
            ..sealed
        };
        self.segment = next;
        self.first = None;
        self.reserved = PROLOGUE;
        self.leave_mark();
        Ok(sealed)
    }

    /// Whether the segment should end before so many bytes more.
    pub(super) fn is_over(&self, bytes: u64, now: i64) -> bool {
        let Some(first) = self.first else {
            return false;
        };
        let age = i64::try_from(self.settings.segment_age.as_micros()).unwrap_or(i64::MAX);
        let old = now.saturating_sub(first) >= age;
        old || self.durable.bytes + bytes > self.settings.segment_bytes
    }

    fn bring(&mut self, frames: &[u8], at: u64) -> Result<(), Failed> {
        let doing = "write to a log";
        let end = at + frames.len() as u64;
        if end > self.reserved {
            let to = end.next_multiple_of(RESERVE);
            let file = &self.segment.file;
            match file.reserve(self.reserved, to) {
                Ok(()) => self.reserved = to,
                // The last piece of a disk may be smaller than what is set aside.
                Err(_) => file
                    .reserve(self.reserved, end)
                    .map_err(|error| Failed::Passing(failed(doing, error)))?,
            }
        }
        if let Err(error) = self.segment.file.write_at(frames, at) {
            // What of it is there must not come back after a loss of power, behind something else.
            let file = &self.segment.file;
            return match file.cut(at).and_then(|()| file.sync()) {
                Ok(()) => {
                    self.reserved = at;
                    Err(Failed::Passing(failed(doing, error)))
                }
                Err(_) => Err(Failed::Lasting(failed(doing, error))),
            };
        }
        self.segment.file.sync().map_err(|error| {
            // The kernel holds now for clean what is not on the disk: nobody may read it from there later.
            if let Err(error) = self.segment.file.cut(at) {
                tracing::error!(%error, "cannot cut off what a failed sync left in a log");
            }
            let doing = "bring a log to the disk";
            Failed::Lasting(LogError::Io { doing, error })
        })
    }

    fn leave_index(&self, index: &Index) -> io::Result<()> {
        let path = self.folder.join(index_name(self.segment.base));
        let file = self.disk.create(&path)?;
        file.write_at(&index.written(&self.durable), 0)?;
        file.sync()
    }

    /// Writes the mark down. It helps to find damage and nothing depends on it.
    pub(super) fn leave_mark(&self) {
        let mark = Mark {
            base: self.segment.base,
            bytes: self.durable.bytes,
        };
        if let Err(error) = self.mark.write_at(&mark.written(), 0) {
            tracing::debug!(%error, "cannot write a log's mark");
        }
    }
}
