//! The workers' private folders.
//!
//! A pool has one folder, which it locks while it lives; each worker has a folder in it, mode 0700, in which it finds the document of
//! its invocation. A host that was killed leaves its folder behind, unlocked: the next pool removes it, so that no document stays.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

const PREFIX: &str = "linkspan-workers-";

/// The name of the document in a worker's folder.
pub(super) const DOCUMENT: &str = "document";

/// A pool's folder.
pub(super) struct PoolFolder {
    folder: TempDir,
    _lock: File,
}

impl PoolFolder {
    /// Makes and locks a folder below `base`, and removes what dead hosts left there.
    pub(super) fn new(base: Option<&Path>) -> io::Result<Arc<Self>> {
        let base = base.map_or_else(std::env::temp_dir, Path::to_owned);
        remove_left_over(&base);
        // Another pool may remove the folder between its making and its locking: then make another.
        loop {
            let folder = private_folder(&base, PREFIX)?;
            let lock = match File::open(folder.path()) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound && base.is_dir() => continue,
                Err(error) => return Err(error),
            };
            lock.lock()?;
            if fs::metadata(folder.path())
                .is_ok_and(|there| lock.metadata().is_ok_and(|ours| ours.ino() == there.ino()))
            {
                return Ok(Arc::new(Self {
                    folder,
                    _lock: lock,
                }));
            }
        }
    }

    /// Makes a worker's folder.
    pub(super) fn worker(self: &Arc<Self>) -> io::Result<Arc<WorkerFolder>> {
        // On macOS the temporary folder is behind a symbolic link; the worker sees the real path.
        let folder = private_folder(self.folder.path(), "worker-")?;
        let path = folder.path().canonicalize()?;
        Ok(Arc::new(WorkerFolder {
            path,
            _folder: folder,
            _pool: self.clone(),
        }))
    }
}

/// A worker's folder; removed with all that is in it when its last user has gone.
pub(super) struct WorkerFolder {
    path: PathBuf,
    _folder: TempDir,
    _pool: Arc<PoolFolder>,
}

impl WorkerFolder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn document(&self) -> PathBuf {
        self.path.join(DOCUMENT)
    }
}

/// What a document's file is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, which stays as it is.
    File(PathBuf),
    /// The bytes themselves.
    Bytes(bytes::Bytes),
}

impl Source {
    /// Puts the document into a worker's folder. A link gives the worker the very file: only for workers that cannot write.
    pub(super) fn place(&self, folder: &WorkerFolder, may_link: bool) -> io::Result<()> {
        let target = folder.document();
        match self {
            Self::File(file) => {
                let there = fs::symlink_metadata(file)?;
                if may_link && readable_by_worker(&there) && fs::hard_link(file, &target).is_ok() {
                    return Ok(());
                }
                // Another's file, a file behind a symbolic link, or a file on another file system.
                let mut from = File::open(file)?;
                if !from.metadata()?.is_file() {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "not a regular file",
                    ));
                }
                io::copy(&mut from, &mut private_file(&target)?).map(drop)
            }
            Self::Bytes(bytes) => private_file(&target)?.write_all(bytes),
        }
    }
}

/// A worker has the host's user and none of its privileges.
fn readable_by_worker(file: &fs::Metadata) -> bool {
    file.is_file() && file.uid() == rustix::process::geteuid().as_raw() && file.mode() & 0o400 != 0
}

fn private_file(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn private_folder(base: &Path, prefix: &str) -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(base)
}

fn remove_left_over(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    let ours = rustix::process::geteuid().as_raw();
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
    {
        let path = entry.path();
        let is_ours =
            fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir() && found.uid() == ours);
        if is_ours
            && let Ok(folder) = File::open(&path)
            && folder.try_lock().is_ok()
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(folder = %path.display(), %error, "a dead host's worker folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_removes_a_dead_hosts_folder_and_leaves_a_living_ones() {
        let base = tempfile::tempdir().unwrap();
        let left = base.path().join(format!("{PREFIX}left"));
        fs::create_dir_all(left.join("worker-1")).unwrap();
        fs::write(left.join("worker-1").join(DOCUMENT), "a document").unwrap();
        let other = base.path().join("somebody-elses");
        fs::create_dir(&other).unwrap();

        let first = PoolFolder::new(Some(base.path())).unwrap();
        let worker = first.worker().unwrap();
        assert!(!left.exists() && other.exists());

        let second = PoolFolder::new(Some(base.path())).unwrap();
        assert!(worker.path().exists() && first.folder.path().exists());
        drop((first, second));
        assert!(worker.path().exists(), "a worker keeps its pool's folder");
        drop(worker);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn pools_that_begin_at_the_same_time_are_not_in_each_others_way() {
        let base = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let pool = PoolFolder::new(Some(base.path())).unwrap();
                        assert!(pool.worker().unwrap().path().exists());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_document_is_linked_only_for_a_worker_that_cannot_write() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("bill.pdf");
        fs::write(&file, "a bill").unwrap();
        let pool = PoolFolder::new(Some(base.path())).unwrap();
        for (may_link, links) in [(true, 2), (false, 1)] {
            let folder = pool.worker().unwrap();
            Source::File(file.clone()).place(&folder, may_link).unwrap();
            assert_eq!(fs::read(folder.document()).unwrap(), b"a bill");
            assert_eq!(fs::metadata(&file).unwrap().nlink(), links);
            drop(folder);
            assert_eq!(
                fs::metadata(&file).unwrap().nlink(),
                1,
                "the folder goes, the document stays"
            );
        }
    }
}
