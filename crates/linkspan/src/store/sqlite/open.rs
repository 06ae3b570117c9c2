//! Opening the file: folder, permissions, lock, connections, and what SQLite's errors mean.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use super::schema::{Unfit, migrate};
use crate::store::error::{ErrorKind, StoreError};
use crate::store::lock;

const DOING: &str = "open the job store";

/// How long a connection waits for the command line's, or the gateway's, change.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Takes the lock that one gateway holds.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = private_file(&PathBuf::from(name))?;
    match lock::take(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::new(ErrorKind::Locked, DOING)),
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

/// The connection that writes.
pub(super) fn for_writing(path: &Path) -> Result<Connection, StoreError> {
    // SQLite gives its log the permissions of the file.
    drop(private_file(path)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|error| failure(error, DOING))?;
    prepare(&mut connection).map_err(|unfit| match unfit {
        Unfit::Newer => StoreError::new(ErrorKind::Newer, DOING),
        Unfit::Foreign => StoreError::new(ErrorKind::Unusable, DOING)
            .because(format!("{} is another program's database", path.display())),
        Unfit::Failed(error) => failure(error, DOING),
    })?;
    Ok(connection)
}

/// Brings the tables to this program's form. Gives their version before and since.
pub(super) fn migrate_file(path: &Path) -> Result<(u32, u32), StoreError> {
    let version = |connection: &Connection| {
        connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|error| failure(error, DOING))
    };
    let before = if path.exists() {
        version(&for_reading(path)?)?
    } else {
        0
    };
    Ok((before, version(&for_writing(path)?)?))
}

/// A connection that reads.
pub(super) fn for_reading(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
        .and_then(|connection| {
            connection.busy_timeout(PATIENCE)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.set_prepared_statement_cache_capacity(32);
            Ok(connection)
        })
        .map_err(|error| failure(error, DOING))
}

/// SQLite's error as the store's. The kind alone decides what is done.
pub(super) fn failure(error: rusqlite::Error, doing: &'static str) -> StoreError {
    StoreError::new(kind_of(&error), doing).because(error)
}

/// What SQLite's error means.
pub(super) fn kind_of(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) => match (failure.extended_code & 0xff, failure.extended_code)
        {
            (ffi::SQLITE_FULL, _) => ErrorKind::Full,
            // The log's shared index could not grow: the disk is full.
            (_, ffi::SQLITE_IOERR_SHMSIZE) => ErrorKind::Full,
            (_, ffi::SQLITE_IOERR_NOMEM) => ErrorKind::Busy,
            (ffi::SQLITE_IOERR | ffi::SQLITE_READONLY, _) => ErrorKind::Io,
            (ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB, _) => ErrorKind::Corrupt,
            (
                ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_NOMEM | ffi::SQLITE_CANTOPEN,
                _,
            ) => ErrorKind::Busy,
            _ => ErrorKind::Internal,
        },
        E::FromSqlConversionFailure(..)
        | E::InvalidColumnType(..)
        | E::IntegralValueOutOfRange(..) => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    }
}

fn prepare(connection: &mut Connection) -> Result<(), Unfit> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Unfit::Foreign);
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 0;",
    )?;
    migrate(connection)?;
    Ok(())
}

/// Opens a file that only its owner can read, made where it is not there; then its name is on the disk too.
fn private_file(path: &Path) -> Result<File, StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| unusable(folder, &error))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| unusable(path, &error))?;
    for folder in [folder, &folder.join("..")] {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| unusable(folder, &error))?;
    }
    Ok(file)
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::new(ErrorKind::Unusable, DOING).because(format!("{}: {error}", path.display()))
}
