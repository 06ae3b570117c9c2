//! A log's folder as it is found at the start: what is whole is taken, a torn end is cut off, damage is an error.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::LogError;
use super::disk::{Disk, DiskFile};
use super::index::{Index, Mark, Sealed};
use super::scan::Fault;
use super::segment::{PROLOGUE, Segment, Walked, base, failed, index_name, name};
use super::writer::MARK;

const DOING: &str = "open a log";

/// What was found.
pub(super) struct Found {
    /// The segments that get no more entries, oldest first.
    pub(super) sealed: VecDeque<Sealed>,
    /// The one that does.
    pub(super) segment: Segment,
    /// What is in it.
    pub(super) walked: Walked,
    /// The file of the mark.
    pub(super) mark: Arc<dyn DiskFile>,
}

/// Makes the first segment of a log in a folder that is there and empty. All of it is on the disk afterwards but the folder's own name.
pub(super) fn create(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    Segment::create(disk, folder, 0, i64::MIN)?;
    let mark = disk.create(&folder.join(MARK))?;
    let (base, bytes) = (0, PROLOGUE);
    mark.write_at(&Mark { base, bytes }.written(), 0)?;
    mark.sync()?;
    disk.sync_folder(folder)
}

/// Opens a log's folder.
pub(super) fn open(disk: &dyn Disk, folder: &Path) -> Result<Found, LogError> {
    let mut names = disk.names(folder).map_err(|error| failed(DOING, error))?;
    names.sort_unstable();
    let mut bases: Vec<_> = names.iter().filter_map(|name| base(name, "log")).collect();
    let mark = mark(disk, folder).map_err(|error| failed(DOING, error))?;
    let marked = read_mark(&*mark).map_err(|error| failed(DOING, error))?;
    let (segment, walked) = loop {
        let Some(newest) = bases.pop() else {
            return Err(damaged(0, 0));
        };
        if marked.is_some_and(|mark| mark.base > newest) {
            // The mark names a segment that is gone.
            return Err(damaged(marked.map_or(0, |mark| mark.base), 0));
        }
        if let Some(found) = newest_segment(disk, folder, newest, marked, bases.is_empty())? {
            break found;
        }
    };
    let sealed = older(disk, folder, &bases, walked.whole.base)?;
    for name in &names {
        let orphan = base(name, "index").is_some_and(|base| bases.binary_search(&base).is_err());
        if orphan {
            let removed = disk.remove(&folder.join(name));
            removed.map_err(|error| failed(DOING, error))?;
        }
    }
    Ok(Found {
        sealed,
        segment,
        walked,
        mark,
    })
}

/// Opens the newest segment and cuts off what was never acknowledged. None, and it is removed, where it was not even begun.
fn newest_segment(
    disk: &dyn Disk,
    folder: &Path,
    base: u64,
    mark: Option<Mark>,
    only: bool,
) -> Result<Option<(Segment, Walked)>, LogError> {
    let acknowledged = mark.filter(|mark| mark.base == base).map(|mark| mark.bytes);
    let segment = match Segment::open(disk, folder, base) {
        Ok(segment) => segment,
        // The header is on the disk before the first frame is written: a file of more than a header was a segment.
        Err(Fault::Damaged { at }) => {
            let path = folder.join(name(base));
            let length = disk.open(&path).and_then(|file| file.length());
            let begun = length.map_err(|error| failed(DOING, error))? > PROLOGUE;
            if only || begun || acknowledged.is_some() {
                return Err(damaged(base, at));
            }
            let removed = disk.remove(&path).and_then(|()| disk.sync_folder(folder));
            removed.map_err(|error| failed(DOING, error))?;
            return Ok(None);
        }
        Err(fault) => return Err(told(base, fault)),
    };
    let walked = segment.walk().map_err(|fault| told(base, fault))?;
    if let Some(at) = walked.broken {
        let lost = acknowledged.is_some_and(|bytes| bytes > walked.whole.bytes);
        let whole_once = segment.was_whole(at);
        if lost || whole_once.map_err(|error| failed(DOING, error))? {
            return Err(damaged(base, at));
        }
        tracing::warn!(
            segment = name(base),
            at = walked.whole.bytes,
            "the end of a log was torn and never acknowledged; it is cut off"
        );
    } else if acknowledged.is_some_and(|bytes| bytes > walked.whole.bytes) {
        return Err(damaged(base, walked.whole.bytes));
    }
    // What was read may be in the kernel's memory only. Nobody sees it before it is on the disk.
    if walked.broken.is_some() || acknowledged != Some(walked.whole.bytes) {
        let file = &segment.file;
        let synced = file.cut(walked.whole.bytes).and_then(|()| file.sync());
        synced.map_err(|error| failed(DOING, error))?;
    }
    Ok(Some((segment, walked)))
}

/// The older segments, each from its side file or, where that is missing, from reading it. They follow each other without a gap.
fn older(
    disk: &dyn Disk,
    folder: &Path,
    bases: &[u64],
    newest: u64,
) -> Result<VecDeque<Sealed>, LogError> {
    let mut sealed: VecDeque<Sealed> = VecDeque::with_capacity(bases.len());
    for base in bases {
        let one = older_segment(disk, folder, *base)?;
        if let Some(before) = sealed.back().filter(|before| before.end != *base) {
            return Err(damaged(before.end, 0));
        }
        sealed.push_back(one);
    }
    match sealed.back() {
        Some(last) if last.end != newest => Err(damaged(last.end, 0)),
        _ => Ok(sealed),
    }
}

fn older_segment(disk: &dyn Disk, folder: &Path, base: u64) -> Result<Sealed, LogError> {
    let length = disk
        .open(&folder.join(name(base)))
        .and_then(|file| file.length());
    let length = length.map_err(|error| failed(DOING, error))?;
    if let Some((_, sealed)) = index(disk, folder, base) {
        return match length.cmp(&sealed.bytes) {
            std::cmp::Ordering::Less => Err(damaged(base, length)),
            // The side file is that of an earlier end of this segment.
            std::cmp::Ordering::Greater => read_older(disk, folder, base),
            std::cmp::Ordering::Equal => Ok(sealed),
        };
    }
    read_older(disk, folder, base)
}

fn read_older(disk: &dyn Disk, folder: &Path, base: u64) -> Result<Sealed, LogError> {
    let segment = Segment::open(disk, folder, base).map_err(|fault| told(base, fault))?;
    let walked = segment.walk().map_err(|fault| told(base, fault))?;
    if let Some(at) = walked.broken {
        return Err(damaged(base, at));
    }
    let file = disk.create(&folder.join(index_name(base)));
    let written = file.and_then(|file| {
        file.write_at(&walked.index.written(&walked.whole), 0)?;
        file.sync()
    });
    if let Err(error) = written {
        tracing::warn!(%error, "a log's segment has no index file");
    }
    Ok(walked.whole)
}

/// Reads a side file; none where it is missing or not whole.
pub(super) fn index(disk: &dyn Disk, folder: &Path, base: u64) -> Option<(Index, Sealed)> {
    let file = disk.open(&folder.join(index_name(base))).ok()?;
    let mut bytes = vec![0; usize::try_from(file.length().ok()?).ok()?];
    let read = file.read_at(&mut bytes, 0).ok()?;
    Index::read(&bytes[..read]).filter(|(_, sealed)| sealed.base == base)
}

/// The error of a scan of a segment.
pub(super) fn told(base: u64, fault: Fault) -> LogError {
    match fault {
        Fault::Io(error) => failed("read a log", error),
        Fault::Damaged { at } => damaged(base, at),
    }
}

fn damaged(base: u64, at: u64) -> LogError {
    let file = name(base);
    LogError::Corrupt { file, at }
}

fn mark(disk: &dyn Disk, folder: &Path) -> io::Result<Arc<dyn DiskFile>> {
    match disk.open(&folder.join(MARK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&folder.join(MARK)),
        opened => opened,
    }
}

fn read_mark(file: &dyn DiskFile) -> io::Result<Option<Mark>> {
    let mut bytes = [0; 20];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(Mark::read(&bytes[..read]))
}
