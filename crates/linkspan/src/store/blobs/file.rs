//! Blobs as files: `ab/cdef…` by the SHA-256 of their content, in a folder with a lock.
//!
//! A blob appears by a hard link from a temporary file that was synced, then its folder is synced; so a file under a digest always has
//! that content, and the temporary file stays usable. All folders are made and synced on opening, so that no later sync of a parent
//! is needed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{BlobRef, Blobs, Condemned, Digest, LocalBlob, Pins, Spooled};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::gauge::Gauge;
use crate::store::lock;
use crate::store::upkeep::Health;

/// How much a probe writes to find out whether there is space again.
pub(super) const PROBE: usize = 256 * 1024;

/// Blobs in a folder of the local file system.
#[derive(Clone, Debug)]
pub struct FileBlobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    spool: PathBuf,
    pins: Pins,
    gauge: Gauge,
    _lock: Option<File>,
}

impl FileBlobs {
    /// Opens a folder of blobs, made where it is not there, and removes what an earlier run left in its temporary folder.
    ///
    /// # Errors
    ///
    /// `Locked`: another process has it open. `Unusable`: it cannot be made or written, or has no hard links. `Full`.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, StoreError> {
        const DOING: &str = "open the folder of blobs";
        let folder = folder.into();
        let lock = prepare(&folder).map_err(|error| match error {
            Opening::Locked => StoreError::new(ErrorKind::Locked, DOING),
            Opening::Failed(path, error) => {
                let kind = match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
                    _ => ErrorKind::Unusable,
                };
                StoreError::new(kind, DOING).because(format!("{}: {error}", path.display()))
            }
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                spool: folder.join("tmp"),
                folder,
                pins: Pins::default(),
                gauge: Gauge::default(),
                _lock: Some(lock),
            }),
        })
    }

    /// Opens a folder to read from it, beside a gateway that may run.
    #[must_use]
    pub fn open_beside(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            shared: Arc::new(Shared {
                spool: folder.join("tmp"),
                folder,
                pins: Pins::default(),
                gauge: Gauge::default(),
                _lock: None,
            }),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .map_err(|join| StoreError::new(ErrorKind::Internal, doing).because(join))?
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    fn spool(&self) -> &Path {
        &self.shared.spool
    }

    async fn keep(
        &self,
        spooled: &Spooled,
        digest: Digest,
        size: u64,
    ) -> Result<BlobRef, StoreError> {
        let spooled = spooled.clone();
        self.blocking("keep a document", move |shared| {
            shared.keep(&spooled, digest, size)
        })
        .await
    }

    async fn open(&self, blob: &BlobRef) -> Result<File, StoreError> {
        const DOING: &str = "open a document";
        let (path, size) = (self.shared.path(blob.digest), blob.size);
        self.blocking(DOING, move |_| {
            let file = File::open(path).map_err(|error| {
                let kind = match error.kind() {
                    io::ErrorKind::NotFound => ErrorKind::Corrupt,
                    _ => kind_of(&error),
                };
                StoreError::new(kind, DOING).because(error)
            })?;
            let length = file
                .metadata()
                .map_err(|error| StoreError::new(kind_of(&error), DOING).because(error))?
                .len();
            if length != size {
                return Err(StoreError::new(ErrorKind::Corrupt, DOING)
                    .because(format!("the blob has {length} bytes, its row says {size}")));
            }
            Ok(file)
        })
        .await
    }

    async fn local(&self, blob: &BlobRef) -> Result<LocalBlob, StoreError> {
        // What cannot be opened is said now, not by the worker.
        self.open(blob).await?;
        Ok(LocalBlob {
            path: self.shared.path(blob.digest),
            _copy: None,
        })
    }

    async fn is_there(&self, blob: &BlobRef) -> Result<bool, StoreError> {
        match self.open(blob).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::Corrupt => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn condemn(&self, digest: Digest) -> Option<Condemned> {
        self.shared.pins.condemn(digest)
    }

    async fn erase(&self, condemned: Condemned) -> Result<bool, StoreError> {
        const DOING: &str = "remove a document";
        self.blocking(DOING, move |shared| {
            match fs::remove_file(shared.path(condemned.digest())) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(StoreError::new(kind_of(&error), DOING).because(error)),
            }
        })
        .await
    }

    async fn list(
        &self,
        after: Option<Digest>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        const DOING: &str = "list the blobs";
        self.blocking(DOING, move |shared| {
            shared
                .list(after, age, limit)
                .map_err(|error| StoreError::new(kind_of(&error), DOING).because(error))
        })
        .await
    }

    fn fault(&self, error: io::Error, doing: &'static str) -> StoreError {
        self.shared.fault(error, doing)
    }

    fn health(&self) -> Health {
        if self.shared.gauge.probe_is_due()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let shared = Arc::clone(&self.shared);
            runtime.spawn_blocking(move || shared.probe());
        }
        self.shared.gauge.health()
    }
}

impl Shared {
    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let (folder, file) = name.split_at(2);
        self.folder.join(folder).join(file)
    }

    fn keep(&self, spooled: &Spooled, digest: Digest, size: u64) -> Result<BlobRef, StoreError> {
        const DOING: &str = "keep a document";
        if let Health::Refusing(kind @ (ErrorKind::Io | ErrorKind::Corrupt)) = self.gauge.health() {
            return Err(StoreError::new(kind, DOING));
        }
        let pin = self.pins.pin(digest);
        let path = self.path(digest);
        let there = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == size);
        if !there {
            // A file that could not be synced is thrown away, so a full disk is no more than that here.
            spooled
                .file()
                .sync_all()
                .map_err(|error| self.fault(error, DOING))?;
            let linked = match fs::hard_link(spooled.path(), &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.replace(spooled.path(), &path, size)
                }
                linked => linked,
            };
            linked.map_err(|error| self.fault(error, DOING))?;
        }
        // Also for a blob that was there: whoever put it may not have come as far as this.
        let folder = path.parent().unwrap_or(&self.folder);
        sync_folder(folder).map_err(|error| {
            self.gauge.poison(ErrorKind::Io);
            StoreError::new(ErrorKind::Io, DOING).because(error)
        })?;
        Ok(BlobRef {
            digest,
            size,
            pin: Some(pin),
        })
    }

    /// Puts a file in the place of one that is damaged. One of the right size came from another caller just now, and stays.
    fn replace(&self, file: &Path, path: &Path, size: u64) -> io::Result<()> {
        if fs::metadata(path)?.len() == size {
            return Ok(());
        }
        let link =
            tempfile::Builder::new().make_in(&self.spool, |link| fs::hard_link(file, link))?;
        link.into_temp_path().persist(path)?;
        Ok(())
    }

    fn list(&self, after: Option<Digest>, age: Duration, limit: usize) -> io::Result<Vec<Digest>> {
        let first = after.map_or(0, |digest| digest.0[0]);
        let mut found = Vec::new();
        for folder in first..=u8::MAX {
            let prefix = format!("{folder:02x}");
            let mut here = Vec::new();
            for entry in fs::read_dir(self.folder.join(&prefix))? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(digest) = name
                    .to_str()
                    .and_then(|name| Digest::from_hex(&format!("{prefix}{name}")))
                else {
                    continue;
                };
                if after.is_some_and(|after| digest <= after) {
                    continue;
                }
                // A file that is gone meanwhile, or has a time to come, is not old.
                let old = entry
                    .metadata()
                    .and_then(|metadata| metadata.modified())
                    .ok()
                    .and_then(|modified| modified.elapsed().ok())
                    .is_some_and(|elapsed| elapsed >= age);
                if old {
                    here.push(digest);
                }
            }
            here.sort_unstable();
            found.append(&mut here);
            if found.len() >= limit {
                found.truncate(limit);
                break;
            }
        }
        Ok(found)
    }

    fn fault(&self, error: io::Error, doing: &'static str) -> StoreError {
        let kind = kind_of(&error);
        match kind {
            ErrorKind::Full => self.gauge.full(),
            ErrorKind::Io => self.gauge.poison(kind),
            _ => {}
        }
        StoreError::new(kind, doing).because(error)
    }

    fn probe(&self) {
        let outcome = tempfile::tempfile_in(&self.spool).and_then(|mut file| {
            file.write_all(&vec![0; PROBE])?;
            file.sync_all()
        });
        match outcome {
            Ok(()) => self.gauge.has_space(),
            Err(error) => {
                self.fault(error, "probe for space");
            }
        }
    }
}

enum Opening {
    Locked,
    Failed(PathBuf, io::Error),
}

fn prepare(folder: &Path) -> Result<File, Opening> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Opening::Failed(path, error)
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(failed(folder))?;
    let lock_path = folder.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(failed(&lock_path))?;
    match lock::take(&lock) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Opening::Locked),
        Err(TryLockError::Error(error)) => return Err(Opening::Failed(lock_path, error)),
    }
    let spool = folder.join("tmp");
    match fs::remove_dir_all(&spool) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Opening::Failed(spool, error));
        }
        _ => {}
    }
    builder.create(&spool).map_err(failed(&spool))?;
    for prefix in 0..=u8::MAX {
        let path = folder.join(format!("{prefix:02x}"));
        builder.create(&path).map_err(failed(&path))?;
    }
    sync_folder(folder).map_err(failed(folder))?;
    if let Some(parent) = folder.parent().filter(|parent| parent.is_dir()) {
        sync_folder(parent).map_err(failed(parent))?;
    }
    check_links(&spool).map_err(failed(&spool))?;
    Ok(lock)
}

/// Finds out on opening, not at the first document, whether the file system has hard links.
pub(super) fn check_links(spool: &Path) -> io::Result<()> {
    let file = tempfile::NamedTempFile::new_in(spool)?;
    let link = spool.join("link");
    fs::hard_link(file.path(), &link)
        .and_then(|()| fs::remove_file(&link))
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("its file system must have hard links: {error}"),
            )
        })
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ErrorKind::Full
        }
        io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted => ErrorKind::Busy,
        // EMFILE, ENFILE: too many files are open in this process, in the system.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => ErrorKind::Busy,
        _ => ErrorKind::Io,
    }
}
