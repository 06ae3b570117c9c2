//! A segment: a file of 32 bytes of header and frames behind it, named by its first offset.

use std::io;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::LogError;
use super::disk::{Disk, DiskFile};
use super::frame::{HEADER, Head, u32_at, u64_at};
use super::index::{Index, Point, Sealed, checked, verified};
use super::scan::{Fault, Scanner};

/// Bytes before the first frame.
pub(super) const PROLOGUE: u64 = 32;

const MAGIC: [u8; 8] = *b"LSPL\x01\0\0\0";

/// A segment that is open.
#[derive(Clone)]
pub(super) struct Segment {
    /// Its first offset.
    pub(super) base: u64,
    /// What its checksums begin with.
    pub(super) salt: u32,
    /// When the last entry before it came, in microseconds: time goes on from there.
    pub(super) floor: i64,
    /// Its file.
    pub(super) file: Arc<dyn DiskFile>,
}

/// What a walk through a segment found.
#[derive(Debug)]
pub(super) struct Walked {
    /// What is whole.
    pub(super) whole: Sealed,
    /// When its first entry came.
    pub(super) first: Option<i64>,
    /// Its index.
    pub(super) index: Index,
    /// Where something is that is not a whole append.
    pub(super) broken: Option<u64>,
}

/// The name of the file of the segment that begins at an offset.
pub(super) fn name(base: u64) -> String {
    format!("{base:020}.log")
}

/// The name of its side file.
pub(super) fn index_name(base: u64) -> String {
    format!("{base:020}.index")
}

/// The offset in a file's name.
pub(super) fn base(name: &str, kind: &str) -> Option<u64> {
    let digits = name.strip_suffix(kind)?.strip_suffix('.')?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The error of a call of the disk.
pub(super) fn failed(doing: &'static str, error: io::Error) -> LogError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Full,
        _ => LogError::Io { doing, error },
    }
}

impl Segment {
    /// Makes a segment. It is on the disk afterwards, its name in the folder is not.
    pub(super) fn create(
        disk: &dyn Disk,
        folder: &Path,
        base: u64,
        floor: i64,
    ) -> io::Result<Self> {
        let file = disk.create(&folder.join(name(base)))?;
        let (salt, ..) = Uuid::new_v4().as_fields();
        let fields = [base.to_le_bytes(), floor.to_le_bytes()].concat();
        let header = [&MAGIC[..], &fields, &salt.to_le_bytes()].concat();
        file.write_at(&checked(header), 0)?;
        file.sync()?;
        Ok(Self {
            base,
            salt,
            floor,
            file,
        })
    }

    /// Opens a segment; damage at 0 where the header is not that of this segment.
    pub(super) fn open(disk: &dyn Disk, folder: &Path, base: u64) -> Result<Self, Fault> {
        let file = disk.open(&folder.join(name(base))).map_err(Fault::Io)?;
        let mut header = [0; PROLOGUE as usize];
        let read = file.read_at(&mut header, 0).map_err(Fault::Io)?;
        let fields = verified(&header[..read]).filter(|fields| fields.starts_with(&MAGIC));
        match fields {
            Some(fields) if fields.len() == 28 && u64_at(fields, 8) == base => Ok(Self {
                base,
                salt: u32_at(fields, 24),
                floor: u64_at(fields, 16).cast_signed(),
                file,
            }),
            _ => Err(Fault::Damaged { at: 0 }),
        }
    }

    /// Reads all frames, to the first that is not as it was written.
    pub(super) fn walk(&self) -> Result<Walked, Fault> {
        let end = self.file.length().map_err(Fault::Io)?;
        let mut scanner = Scanner::new(&*self.file, self.salt, PROLOGUE, end);
        let mut index = Index::default();
        let (mut whole, mut seen) = (self.empty(), self.empty());
        let (mut first, mut left) = (None, 0);
        let broken = loop {
            let (at, head) = match scanner.read() {
                Ok(Some(found)) => (found.at, found.head),
                Ok(None) => break (whole.bytes < end).then_some(end),
                Err(Fault::Damaged { at }) => break Some(at),
                Err(error) => return Err(error),
            };
            let follows = left == 0 || head.left == left - 1;
            let back = head.arrived < seen.last || u64::from(head.group) > at;
            if head.offset != seen.end || !follows || back {
                break Some(at);
            }
            first = first.or(Some(head.arrived));
            left = head.left;
            seen.end += 1;
            seen.bytes = at + head.size();
            seen.last = head.arrived;
            index.note(Point {
                offset: head.offset,
                arrived: head.arrived,
                at: u32::try_from(at).unwrap_or(u32::MAX),
            });
            if left == 0 {
                whole = seen;
            }
        };
        index.end_at(whole.end);
        let first = first.filter(|_| whole.end > self.base);
        Ok(Walked {
            whole,
            first,
            index,
            broken,
        })
    }

    /// Whether a frame behind `broken` shows that what is broken was on the disk once.
    pub(super) fn was_whole(&self, broken: u64) -> io::Result<bool> {
        const WINDOW: usize = 1024 * 1024;
        let mut window = vec![0; WINDOW + HEADER];
        let mut from = broken;
        loop {
            let read = self.file.read_at(&mut window, from)?;
            for (place, header) in (from..).zip(window[..read].windows(HEADER)) {
                // Cheap first: the checksum is only looked at where the field can be right.
                let group = u64::from(u32_at(header, 32));
                let proves = group > broken && group <= place;
                if proves && Head::read(self.salt, header).is_some() {
                    return Ok(true);
                }
            }
            if read < window.len() {
                return Ok(false);
            }
            from += WINDOW as u64;
        }
    }

    fn empty(&self) -> Sealed {
        Sealed {
            base: self.base,
            end: self.base,
            bytes: PROLOGUE,
            last: self.floor,
        }
    }
}
