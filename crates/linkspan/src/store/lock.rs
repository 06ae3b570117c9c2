//! The lock of a folder or file that one gateway has open.

use std::fs::{File, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a lock is waited for: a program that another thread just started has a copy of every open file for an
/// instant, and a gateway that is replaced may still be ending.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes the lock. It is released with the file.
///
/// # Errors
///
/// `WouldBlock`: another one has held it for some seconds.
pub(super) fn take(file: &File) -> Result<(), TryLockError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            taken => return taken,
        }
    }
}
