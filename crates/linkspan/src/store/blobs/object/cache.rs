//! The local side of a far store of blobs: a folder for what is on its way in, and copies of what is worked on.
//!
//! Several processes of one machine may share the folder. A copy is given out as a hard link of its own, so that whoever makes room
//! takes nothing from under a worker. Copies are not synced: what a crash of the machine left is never trusted, because the first
//! process that opens the folder empties it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::super::{Digest, LocalBlob};

/// The folder. Everything here blocks.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// This process's own folder of temporary files.
    spool: PathBuf,
    limit: u64,
    /// How much was added since the folder was measured.
    added: AtomicU64,
    /// Held by every process that uses the folder.
    _shared: File,
    /// Held by this process for its own folder.
    _own: File,
}

impl Cache {
    /// Opens the folder, made where it is not there. `limit` is the most bytes of copies.
    pub(super) fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder)?;
        let shared = lock_file(&folder.join("lock"))?;
        match shared.try_lock() {
            Ok(()) => {
                empty(folder)?;
                shared.unlock()?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        shared.lock_shared()?;
        let all = folder.join("tmp");
        builder.create(&all)?;
        remove_abandoned(&all)?;
        for prefix in 0..=u8::MAX {
            builder.create(folder.join(format!("{prefix:02x}")))?;
        }
        let spool = all.join(uuid::Uuid::now_v7().to_string());
        let own = lock_file(&spool.with_extension("lock"))?;
        own.try_lock().map_err(io::Error::from)?;
        builder.create(&spool)?;
        super::super::file::check_links(&spool)?;
        Ok(Self {
            folder: folder.to_owned(),
            spool,
            limit,
            added: AtomicU64::new(0),
            _shared: shared,
            _own: own,
        })
    }

    /// The folder for temporary files.
    pub(super) fn spool(&self) -> &Path {
        &self.spool
    }

    /// The copy of a blob, where there is one.
    pub(super) fn get(&self, digest: Digest, size: u64) -> io::Result<Option<LocalBlob>> {
        let copy = self.path(digest);
        let link = tempfile::Builder::new().make_in(&self.spool, |path| fs::hard_link(&copy, path));
        let link = match link {
            Ok(link) => link.into_temp_path(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let file = OpenOptions::new().write(true).open(&link)?;
        if file.metadata()?.len() != size {
            return Ok(None);
        }
        // What was used last goes last.
        file.set_modified(SystemTime::now())?;
        Ok(Some(LocalBlob {
            path: link.to_path_buf(),
            _copy: Some(link),
        }))
    }

    /// Keeps a file of the spool as the copy of a blob. The file stays where it is; its content must be known to be the blob's.
    pub(super) fn adopt(&self, file: &Path, digest: Digest, size: u64) -> io::Result<()> {
        if size > self.limit / 2 {
            return Ok(());
        }
        match fs::hard_link(file, self.path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            linked => linked?,
        }
        // The others on the folder add too, each up to so much before it looks.
        if self.added.fetch_add(size, Ordering::Relaxed) + size > self.limit / 16 {
            self.added.store(0, Ordering::Relaxed);
            self.shrink(self.limit - self.limit / 8)?;
        }
        Ok(())
    }

    /// Forgets a copy.
    pub(super) fn forget(&self, digest: Digest) {
        let _ = fs::remove_file(self.path(digest));
    }

    /// Removes the copies that were not used for longest, until so much is left.
    pub(super) fn shrink(&self, limit: u64) -> io::Result<()> {
        let mut copies = Vec::new();
        for prefix in 0..=u8::MAX {
            for entry in fs::read_dir(self.folder.join(format!("{prefix:02x}")))? {
                let path = entry?.path();
                // Another process may have removed it.
                if let Ok(metadata) = fs::metadata(&path) {
                    copies.push((metadata.modified()?, metadata.len(), path));
                }
            }
        }
        let mut total: u64 = copies.iter().map(|(_, size, _)| size).sum();
        copies.sort_unstable();
        for (_, size, path) in copies {
            if total <= limit {
                break;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= size,
            }
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(&name[2..])
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.spool);
        let _ = fs::remove_file(self.spool.with_extension("lock"));
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// Removes everything but the lock: only names that this module makes, whatever else lies in the folder.
fn empty(folder: &Path) -> io::Result<()> {
    let mut names = vec!["tmp".to_owned()];
    names.extend((0..=u8::MAX).map(|prefix| format!("{prefix:02x}")));
    for name in names {
        match fs::remove_dir_all(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes the temporary files of processes that were killed: their locks are free.
fn remove_abandoned(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = OpenOptions::new().write(true).open(&path) else {
            continue; // its process has just ended in order
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(path.with_extension(""));
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn put(cache: &Cache, content: &str) -> (Digest, u64) {
        let (digest, size) = (Digest::of(content.as_bytes()), content.len() as u64);
        let file = cache.spool().join(digest.to_string());
        fs::write(&file, content).unwrap();
        cache.adopt(&file, digest, size).unwrap();
        fs::remove_file(file).unwrap();
        (digest, size)
    }

    fn read(cache: &Cache, (digest, size): (Digest, u64)) -> Option<String> {
        let copy = cache.get(digest, size).unwrap()?;
        Some(fs::read_to_string(copy.path()).unwrap())
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room_and_what_is_in_use_stays_readable() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 1000).unwrap();
        let all: Vec<_> = ["first", "second", "third"]
            .map(|one| put(&cache, one))
            .into();
        for (nth, (digest, _)) in all.iter().enumerate() {
            let long_ago = SystemTime::now() - Duration::from_secs(100 - nth as u64);
            let copy = OpenOptions::new().write(true).open(cache.path(*digest));
            copy.unwrap().set_modified(long_ago).unwrap();
        }
        let in_use = cache.get(all[1].0, all[1].1).unwrap().unwrap();
        assert_eq!(read(&cache, all[0]).as_deref(), Some("first"), "used last");
        cache.shrink(6).unwrap();
        assert_eq!(read(&cache, all[0]).as_deref(), Some("first"));
        assert_eq!((read(&cache, all[1]), read(&cache, all[2])), (None, None));
        assert_eq!(fs::read_to_string(in_use.path()).unwrap(), "second");
        let path = in_use.path().to_owned();
        drop(in_use);
        assert!(!path.exists());
    }

    #[test]
    fn adding_keeps_the_folder_within_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 16_000).unwrap();
        for nth in 0..64 {
            put(&cache, &format!("{nth:01000}"));
        }
        put(&cache, &"x".repeat(9000));
        let mut total = 0;
        for prefix in 0..=u8::MAX {
            for entry in fs::read_dir(folder.path().join(format!("{prefix:02x}"))).unwrap() {
                total += entry.unwrap().metadata().unwrap().len();
            }
        }
        assert!((8_000..=16_000).contains(&total), "{total}");
    }

    #[test]
    fn two_share_a_folder_and_the_first_of_the_next_ones_empties_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("readme"), "not ours").unwrap();
        let one = Cache::open(folder.path(), 1000).unwrap();
        let kept = put(&one, "kept");
        let two = Cache::open(folder.path(), 1000).unwrap();
        assert_eq!(read(&two, kept).as_deref(), Some("kept"));
        assert!(one.spool().is_dir(), "it is in use");
        let spool = one.spool().to_owned();
        drop(one);
        assert!(!spool.exists());
        assert_eq!(read(&two, kept).as_deref(), Some("kept"));
        drop(two);
        let next = Cache::open(folder.path(), 1000).unwrap();
        assert_eq!(read(&next, kept), None);
        assert!(folder.path().join("readme").exists());
    }

    #[test]
    fn what_a_killed_process_left_is_removed_beside_one_that_lives() {
        let folder = tempfile::tempdir().unwrap();
        let living = Cache::open(folder.path(), 1000).unwrap();
        let left = folder.path().join("tmp/left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("half"), "a document").unwrap();
        fs::write(left.with_extension("lock"), "").unwrap();
        let _other = Cache::open(folder.path(), 1000).unwrap();
        assert!(!left.exists() && living.spool().exists());
    }

    #[test]
    fn a_copy_of_another_size_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 1000).unwrap();
        let (digest, size) = put(&cache, "whole");
        assert!(cache.get(digest, size + 1).unwrap().is_none());
    }
}
