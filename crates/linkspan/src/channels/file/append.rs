//! Adding whole lines to a file, durably, beside other writers.
//!
//! A file may hold anything of anybody's: what is there is cut only where it is half a line that is known to be ours. All else is kept,
//! and ended where its ending is missing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// How long to wait for another program's lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of a file's end is looked through for what an earlier attempt may have added, besides the length of what is added now.
const LOOK_BACK: u64 = 1024 * 1024;

/// Adds to one file. Whoever holds it is the only one in this process that does.
#[derive(Debug)]
pub(super) struct Appender {
    path: PathBuf,
    /// The file as it was left, every line of it whole.
    left: Option<Left>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    device: u64,
    inode: u64,
    length: u64,
}

/// What is wrong with a file's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Every line is whole.
    Whole,
    /// The last line lacks this ending.
    Unended(&'static [u8]),
    /// What follows this many bytes is half a line, and can be nobody's whole one.
    Torn(u64),
}

impl Appender {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, left: None }
    }

    /// Opens the file, makes it and its folder where they are not there, and waits for its lock.
    pub(super) fn open(&mut self) -> io::Result<Opened<'_>> {
        let file = locked(&self.path)?;
        let length = file.metadata()?.len();
        let known = match self.left.take() {
            Some(left) if left == Left::of(&file, left.length)? && left.length <= length => {
                left.length
            }
            _ => 0,
        };
        Ok(Opened {
            file,
            length,
            known,
            left: &mut self.left,
        })
    }
}

/// The file, locked.
pub(super) struct Opened<'a> {
    pub(super) file: File,
    /// Its length in bytes.
    pub(super) length: u64,
    /// How much of it this appender left there, every line whole.
    known: u64,
    left: &'a mut Option<Left>,
}

impl Opened<'_> {
    /// Makes every line whole. `again` are lines that an earlier attempt may have begun: the start of one at the file's end is cut off.
    /// `judge` looks at what else is there, from an offset at which a line starts.
    pub(super) fn mend<'l>(
        &mut self,
        again: impl Iterator<Item = &'l str>,
        judge: impl FnOnce(&mut File, u64) -> io::Result<End>,
    ) -> io::Result<()> {
        if self.length <= self.known {
            return Ok(());
        }
        let lines: Vec<_> = again.map(str::as_bytes).collect();
        let half = self.half_of(&lines)?;
        if half > 0 {
            self.cut(self.length - half)?;
        }
        match judge(&mut self.file, self.known)? {
            End::Whole => Ok(()),
            End::Unended(ending) => {
                self.file.write_all(ending)?;
                self.length += ending.len() as u64;
                Ok(())
            }
            End::Torn(whole) => self.cut(whole),
        }
    }

    /// How many bytes at the end are the start of one of these lines, and not the whole of it.
    fn half_of(&mut self, lines: &[&[u8]]) -> io::Result<u64> {
        let most = lines.iter().map(|line| line.len()).max().unwrap_or(0) as u64;
        let start = self.length.saturating_sub(most).max(self.known);
        self.file.seek(SeekFrom::Start(start))?;
        let mut end = Vec::new();
        (&self.file)
            .take(self.length - start)
            .read_to_end(&mut end)?;
        let starts = (0..end.len()).filter(|at| match at.checked_sub(1) {
            Some(before) => end[before] == b'\n',
            None => start == self.known,
        });
        let half = starts.map(|at| &end[at..]).find(|half| {
            let begins = |line: &&[u8]| line.len() > half.len() && line.starts_with(half);
            lines.iter().any(begins)
        });
        Ok(half.map_or(0, |half| half.len() as u64))
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.length = length;
        Ok(())
    }

    /// The end of the file, in which a line that starts there is looked for: after a line ending.
    pub(super) fn tail(&mut self, adding: usize) -> io::Result<String> {
        let start = self.length.saturating_sub(LOOK_BACK + adding as u64);
        self.file.seek(SeekFrom::Start(start))?;
        let mut bytes = vec![b'\n'];
        (&self.file)
            .take(self.length - start)
            .read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Adds whole lines and returns when they are on disk, with all that was there before. On an error the file is as it was, as far
    /// as the disk allows.
    pub(super) fn add(mut self, lines: &[u8]) -> io::Result<()> {
        let added = self
            .file
            .write_all(lines)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = added {
            // Also after a failed fsync: what the kernel then holds is unknown, so nothing may be taken for written.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        *self.left = Some(Left::of(&self.file, self.length + lines.len() as u64)?);
        Ok(())
    }
}

impl Left {
    fn of(file: &File, length: u64) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self {
            device: data.dev(),
            inode: data.ino(),
            length,
        })
    }
}

/// Makes a folder with those above it, durably. Results are nobody else's: only the gateway's user may enter what is made here.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => {
            return Err(error);
        }
        _ => {}
    }
    sync_folder(folder.parent())
}

/// Makes what happened to a folder's entries durable.
pub(super) fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    let folder = match folder {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// The file of a path, with its lock. Where it was moved away meanwhile (a rotation), the new one.
fn locked(path: &Path) -> io::Result<File> {
    let end = Instant::now() + PATIENCE;
    loop {
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let (mine, there) = (file.metadata()?, std::fs::metadata(path));
                if there.is_ok_and(|there| (there.dev(), there.ino()) == (mine.dev(), mine.ino())) {
                    return Ok(file);
                }
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) => {}
        }
        if Instant::now() > end {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let file = options.create(true).mode(0o600).open(path)?;
    sync_folder(path.parent())?;
    Ok(file)
}
