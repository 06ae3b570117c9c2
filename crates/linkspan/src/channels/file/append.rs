//! Adding whole lines to a file, durably, beside other writers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
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
    /// The last line lacks only its ending.
    Unended,
    /// What follows this many bytes is half a line.
    Torn(u64),
}

impl Appender {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, left: None }
    }

    /// Opens the file, makes it and its folder where they are not there, waits for its lock and mends its end. `judge` looks at the
    /// file from an offset at which a line starts.
    pub(super) fn open(
        &mut self,
        judge: impl FnOnce(&mut File, u64) -> io::Result<End>,
    ) -> io::Result<Opened<'_>> {
        let mut file = locked(&self.path)?;
        let mut length = file.metadata()?.len();
        let known = self.left.take();
        let from = match known {
            Some(left) if left == Left::of(&file, left.length)? && left.length <= length => {
                left.length
            }
            _ => 0,
        };
        if length > from {
            match judge(&mut file, from)? {
                End::Whole => {}
                End::Unended => {
                    file.write_all(b"\n")?;
                    length += 1;
                }
                End::Torn(whole) => {
                    file.set_len(whole)?;
                    length = whole;
                }
            }
        }
        Ok(Opened {
            file,
            length,
            left: &mut self.left,
        })
    }
}

/// The file, locked, with every line whole.
pub(super) struct Opened<'a> {
    pub(super) file: File,
    /// Its length in bytes.
    pub(super) length: u64,
    left: &'a mut Option<Left>,
}

impl Opened<'_> {
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

/// Makes a folder with those above it, durably.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
    }
    match std::fs::create_dir(folder) {
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
    let file = options.create(true).open(path)?;
    sync_folder(path.parent())?;
    Ok(file)
}
