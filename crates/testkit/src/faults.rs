//! Faults to put upon a gateway: a disk that fails, and signals to its workers.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Gateway;

/// A library that stands before the C library's calls to the disk (`LD_PRELOAD`), and fails them while a trigger file is there.
///
/// A trigger's content chooses the files: those whose path holds it, or, where it ends in `$`, whose path ends so.
pub struct Disk {
    folder: TempDir,
    library: PathBuf,
}

/// What fails.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// `fsync` and `fdatasync` give EIO.
    Sync,
    /// `write` and `pwrite` give ENOSPC.
    Write,
}

/// An fsync that a gateway called for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The file.
    pub path: String,
    /// Whether it was made to fail.
    pub failed: bool,
}

impl Fault {
    fn trigger(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Write => "write",
        }
    }
}

impl Disk {
    /// Compiles the library with `cc`.
    ///
    /// # Panics
    ///
    /// When there is no `cc`, or it refuses the source.
    #[must_use]
    pub fn new(source: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = folder.path().join("shim.so");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output()
            .expect("cc is there");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Self { folder, library }
    }

    /// The variables with which a program is started that the faults shall reach.
    #[must_use]
    pub fn env(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", text(&self.library)),
            ("LINKSPAN_TEST_FAULTS", text(self.folder.path())),
        ]
    }

    /// From now on calls on these files fail.
    ///
    /// # Panics
    ///
    /// When the trigger cannot be written.
    pub fn fail(&self, fault: Fault, files: &str) {
        // By a rename, so that no call sees half a trigger.
        let new = self.folder.path().join("new");
        std::fs::write(&new, files).expect("the trigger is written");
        std::fs::rename(new, self.folder.path().join(fault.trigger()))
            .expect("the trigger is there");
    }

    /// From now on they work.
    ///
    /// # Panics
    ///
    /// When the trigger cannot be removed.
    pub fn heal(&self, fault: Fault) {
        std::fs::remove_file(self.folder.path().join(fault.trigger()))
            .expect("the trigger is removed");
    }

    /// Every fsync so far, in order.
    #[must_use]
    pub fn synced(&self) -> Vec<Synced> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines()
            .filter_map(|line| {
                let (failed, path) = match line.split_once(' ')? {
                    ("failed", path) => (true, path),
                    (_, path) => (false, path),
                };
                Some(Synced {
                    path: path.to_owned(),
                    failed,
                })
            })
            .collect()
    }
}

impl Gateway {
    /// The gateway's living child processes: its workers.
    ///
    /// # Panics
    ///
    /// When `/proc` cannot be read.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        let parent = self.pid().to_string();
        let all = std::fs::read_dir("/proc").expect("/proc is there");
        all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| stat(*pid).is_some_and(|fields| fields[1] == parent && fields[0] != "Z"))
            .collect()
    }

    /// The most memory that the gateway itself has had so far, in KiB.
    ///
    /// # Panics
    ///
    /// When `/proc` cannot be read.
    #[must_use]
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the gateway runs");
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|value| value.trim().split(' ').next()?.parse().ok())
            .expect("the peak is told")
    }
}

/// The processor time that a process has used, in ticks of 10 ms; none where it has ended.
#[must_use]
pub fn processor_ticks(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
}

/// Sends a signal, by its name: `KILL`, `STOP`.
///
/// # Panics
///
/// When there is no such process.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(sent.success(), "SIG{name} to {pid}");
}

/// The fields of `/proc/PID/stat` from the state on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of characters").to_owned()
}
