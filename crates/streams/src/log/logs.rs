//! A folder of logs.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::task::spawn_blocking;

use super::LogError;
use super::disk::{Disk, FileSystem};
use super::opening;
use super::pool::{Pool, held};
use super::segment::failed;
use super::shard::{LONGEST, SegmentLog};

/// How long a lock is waited for: a program that another thread just started has a copy of every open file for an instant, and a
/// process that is replaced may still be ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// A name is no longer than this.
const LONGEST_NAME: usize = 200;

/// Begins the name of a folder that is not a log yet.
const BEGUN: &str = ".begun-";

/// Begins the name of a folder that is no log any more.
const ENDED: &str = ".ended-";

/// The name of the file that is locked.
const LOCK: &str = ".lock";

/// How logs are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A segment ends before it is longer than this, at most 1 GiB. Whole segments are let go of.
    pub segment_bytes: u64,
    /// A segment ends when its first entry is older than this.
    pub segment_age: Duration,
    /// Threads that write, for all logs together: as many syncs are under way at once.
    pub writers: usize,
    /// Bytes of one log that one sync is for, unless one append is longer.
    pub group_bytes: usize,
}

/// Logs by their names, in one folder that one process has open. Dropping it lets what was taken be written; its logs take no more.
pub struct Logs {
    shared: Arc<Shared>,
    pool: Pool,
}

/// Why there is no such log, or none can be made.
#[derive(Debug, Error)]
pub enum LogsError {
    /// Another process has the folder open, or this one a second time.
    #[error("{}: another process has these logs open", .0.display())]
    Locked(PathBuf),
    /// A name is 1 to 200 letters, digits, `.`, `_`, `-`, `~`, `@` of ASCII, and does not begin with `.`.
    #[error("a log cannot be named {0:?}")]
    Name(String),
    /// There is one of that name.
    #[error("there is a log named {0}")]
    Exists(String),
    /// The log or its folder cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
}

struct Shared {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    settings: Settings,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// A log's place: locked while it is opened, made or removed, so that others are not in the way.
type Slot = Mutex<Option<Arc<SegmentLog>>>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            segment_age: Duration::from_secs(3600),
            writers: 8,
            group_bytes: 8 * 1024 * 1024,
        }
    }
}

impl Logs {
    /// Opens the folder, which is made where it is missing, and takes its lock.
    ///
    /// # Errors
    ///
    /// [`LogsError::Locked`]; [`LogsError::Log`] where the folder cannot be used.
    pub async fn open(folder: &Path, settings: Settings) -> Result<Self, LogsError> {
        let folder = folder.to_owned();
        blocking(move || {
            let lock = lock(&folder)?;
            Self::start(Arc::new(FileSystem), folder, settings, Some(lock))
        })
        .await
    }

    /// Makes a log. It is on the disk, whole and empty, or not there.
    ///
    /// # Errors
    ///
    /// [`LogsError::Name`], [`LogsError::Exists`], [`LogsError::Log`].
    pub async fn create(&self, name: &str) -> Result<Arc<SegmentLog>, LogsError> {
        let (name, shared, line) = (checked(name)?, self.shared.clone(), self.pool.line());
        blocking(move || {
            let slot = shared.slot(&name);
            let mut slot = held(&slot);
            if slot.is_some() || shared.has(&name)? {
                return Err(LogsError::Exists(name));
            }
            let created = shared.make(&name);
            created.map_err(|error| failed("make a log", error))?;
            let folder = shared.folder.join(&name);
            let log = SegmentLog::open(shared.disk.clone(), &folder, &shared.settings, line)?;
            Ok(slot.insert(Arc::new(log)).clone())
        })
        .await
    }

    /// The log of that name, if there is one. One that refuses more, because a sync failed, is opened anew.
    ///
    /// # Errors
    ///
    /// [`LogsError::Name`]; [`LogsError::Log`] with [`LogError::Corrupt`] where its newest segment is damaged, or an older one that has
    /// lost its index.
    pub async fn get(&self, name: &str) -> Result<Option<Arc<SegmentLog>>, LogsError> {
        let (name, shared, line) = (checked(name)?, self.shared.clone(), self.pool.line());
        blocking(move || {
            let Some(slot) = shared.known_slot(&name)? else {
                return Ok(None);
            };
            let mut slot = held(&slot);
            if let Some(log) = slot.as_ref() {
                if !log.refuses() {
                    return Ok(Some(log.clone()));
                }
                log.close();
            }
            if !shared.has(&name)? {
                return Ok(None);
            }
            let folder = shared.folder.join(&name);
            let log = SegmentLog::open(shared.disk.clone(), &folder, &shared.settings, line)?;
            Ok(Some(slot.insert(Arc::new(log)).clone()))
        })
        .await
    }

    /// Removes the log of that name; `false` where there is none. It is gone, also after a loss of power.
    ///
    /// # Errors
    ///
    /// [`LogsError::Name`], [`LogsError::Log`].
    pub async fn delete(&self, name: &str) -> Result<bool, LogsError> {
        let (name, shared) = (checked(name)?, self.shared.clone());
        blocking(move || {
            let Some(slot) = shared.known_slot(&name)? else {
                return Ok(false);
            };
            let mut slot = held(&slot);
            if !shared.has(&name)? {
                return Ok(false);
            }
            if let Some(log) = slot.take() {
                log.close();
            }
            let removed = shared.remove(&name);
            removed.map_err(|error| failed("remove a log", error))?;
            Ok(true)
        })
        .await
    }

    /// The names of all logs, sorted.
    ///
    /// # Errors
    ///
    /// [`LogsError::Log`] where the folder cannot be read.
    pub async fn names(&self) -> Result<Vec<String>, LogsError> {
        let shared = self.shared.clone();
        blocking(move || shared.names()).await
    }

    /// Takes no more, and returns when what was taken is on the disk and the folder can be opened by another.
    pub async fn close(self) {
        let pool = self.pool;
        // The threads end by themselves where this is not waited for.
        let _ = spawn_blocking(move || pool.finish()).await;
    }

    /// Starts over any disk.
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        mut settings: Settings,
        lock: Option<File>,
    ) -> Result<Self, LogsError> {
        settings.segment_bytes = settings.segment_bytes.min(LONGEST);
        let doing = "open the folder of the logs";
        let shared = Shared {
            disk,
            folder,
            settings,
            slots: Mutex::default(),
        };
        shared.clean().map_err(|error| failed(doing, error))?;
        let pool = Pool::start(shared.settings.writers, lock);
        let pool = pool.map_err(|error| failed("start the threads of the logs", error))?;
        let shared = Arc::new(shared);
        Ok(Self { shared, pool })
    }
}

impl Shared {
    fn slot(&self, name: &str) -> Arc<Slot> {
        let mut slots = held(&self.slots);
        slots.entry(name.to_owned()).or_default().clone()
    }

    /// The slot of a log that is or was there: names that somebody just tries are not kept.
    fn known_slot(&self, name: &str) -> Result<Option<Arc<Slot>>, LogsError> {
        let slot = held(&self.slots).get(name).cloned();
        if slot.is_some() {
            return Ok(slot);
        }
        Ok(self.has(name)?.then(|| self.slot(name)))
    }

    fn names(&self) -> Result<Vec<String>, LogsError> {
        let names = self.disk.names(&self.folder);
        let mut names = names.map_err(|error| failed("list the logs", error))?;
        names.retain(|name| is_name(name));
        names.sort_unstable();
        Ok(names)
    }

    fn has(&self, name: &str) -> Result<bool, LogsError> {
        Ok(self.names()?.iter().any(|one| one == name))
    }

    fn make(&self, name: &str) -> io::Result<()> {
        let begun = self.folder.join(format!("{BEGUN}{name}"));
        self.gone(&begun)?;
        self.disk.make_folder(&begun)?;
        opening::create(&*self.disk, &begun)?;
        self.disk.rename(&begun, &self.folder.join(name))?;
        self.disk.sync_folder(&self.folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let ended = self.folder.join(format!("{ENDED}{name}"));
        self.gone(&ended)?;
        self.disk.rename(&self.folder.join(name), &ended)?;
        self.disk.sync_folder(&self.folder)?;
        self.gone(&ended)
    }

    /// Removes what was begun or ended when the power went.
    fn clean(&self) -> io::Result<()> {
        for name in self.disk.names(&self.folder)? {
            if name.starts_with(BEGUN) || name.starts_with(ENDED) {
                self.gone(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    fn gone(&self, folder: &Path) -> io::Result<()> {
        match self.disk.remove_folder(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-~@".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

fn checked(name: &str) -> Result<String, LogsError> {
    if is_name(name) {
        return Ok(name.to_owned());
    }
    Err(LogsError::Name(name.to_owned()))
}

/// Makes the folder and takes its lock.
fn lock(folder: &Path) -> Result<File, LogsError> {
    let doing = "lock the folder of the logs";
    let open = || {
        fs::create_dir_all(folder)?;
        if let Some(parent) = folder.parent().filter(|parent| parent.is_dir()) {
            FileSystem.sync_folder(parent)?;
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(folder.join(LOCK))
    };
    let file = open().map_err(|error| failed(doing, error))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(doing, error).into()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(LogsError::Locked(folder.to_owned())),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogsError> + Send + 'static,
) -> Result<T, LogsError> {
    let done = spawn_blocking(work).await;
    done.unwrap_or(Err(LogsError::Log(LogError::Closed)))
}
