//! What a worker takes from itself before it reads any document.
//!
//! A worker parses hostile input with native code. Should that code be taken over, it finds a process that can compute, read the
//! libraries and language data that it needs and the one document in its folder, and answer over the connection that it already has:
//! no other file, no network, no other program, no other process.
//!
//! Five layers, each of which holds without the others:
//! - **no new privileges** and no capabilities, so that no set-user-id program and no root user gives power back;
//! - **resource limits**: memory, processor time, open files, no core file, no byte written to any file;
//! - **Landlock**: which files can be opened, no TCP, no signals to others ([`landlock`]);
//! - **seccomp**: which system calls are refused ([`seccomp`]);
//! - the **death** of the host ends the worker.
//!
//! A kernel that lacks a layer does not stop the worker. What is in force is an [`Enforcement`], which the host logs as a warning where
//! something is lacking and `linkspan doctor` shows.

#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(target_os = "linux")]
mod seccomp;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use other as system;

/// What a worker needs, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The worker's own folder, which it may read.
    pub folder: PathBuf,
    /// Further files and folders that it may read: language data outside the usual places.
    pub readable: Vec<PathBuf>,
    /// Most memory that it may write to, its stacks included, in bytes.
    pub memory: u64,
    /// The process that must be its parent.
    pub host: Option<u32>,
}

/// What every worker may read: libraries, fonts, language data, time zones, and a few facts of the machine.
pub const READABLE: &[&str] = &[
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/usr/share/tesseract-ocr",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/urandom",
    "/sys/devices/system/cpu/online",
];

/// What is in force in a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// The layers.
    pub protections: Vec<Protection>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// Its name: `no-new-privileges`, `capabilities`, `limits`, `parent-death`, `landlock`, `seccomp`.
    pub name: String,
    /// How much of it.
    pub level: Level,
    /// What exactly, or what is lacking and why.
    pub detail: String,
}

/// How much of a layer is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing of it.
    Missing,
    /// What the kernel has of it.
    Partial,
    /// All of it.
    Full,
}

impl Enforcement {
    /// The layers of which something is lacking.
    pub fn lacking(&self) -> impl Iterator<Item = &Protection> {
        self.protections
            .iter()
            .filter(|protection| protection.level < Level::Full)
    }

    /// One layer by its name.
    #[must_use]
    pub fn protection(&self, name: &str) -> Option<&Protection> {
        self.protections
            .iter()
            .find(|protection| protection.name == name)
    }

    /// Whether the worker cannot change a file that it can read, so that it may be given the very file.
    #[must_use]
    pub fn keeps_files(&self) -> bool {
        // Truncation came under Landlock's control after writing; `Partial` says at least ABI 3.
        self.protection("landlock")
            .is_some_and(|landlock| landlock.level >= Level::Partial)
    }

    fn note(&mut self, name: &str, level: Level, detail: impl Into<String>) {
        self.protections.push(Protection {
            name: name.to_owned(),
            level,
            detail: detail.into(),
        });
    }
}

/// Shuts this process in. Call it while the process has one thread: later threads inherit everything, earlier ones do not get all of it.
///
/// # Errors
///
/// Only when the host has died: then there is nothing left to work for.
pub fn enter(policy: &Policy) -> Result<Enforcement, HostGone> {
    system::enter(policy)
}

/// Tries on a thread that ends at once which layers this system has, for `linkspan doctor`.
#[must_use]
pub fn probe() -> Enforcement {
    system::probe()
}

/// Gives this process so many seconds of processor time from now; beyond it the kernel ends it with SIGXCPU.
pub fn allow_processor_time(seconds: u64) {
    system::allow_processor_time(seconds);
}

/// The worker's host is not its parent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host has gone")]
pub struct HostGone;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_probe_names_each_layer_and_leaves_this_process_free() {
        let found = probe();
        for name in ["no-new-privileges", "capabilities", "landlock", "seccomp"] {
            assert!(found.protection(name).is_some(), "{name} in {found:?}");
        }
        assert!(
            std::fs::read("/etc/passwd").is_ok()
                && std::net::TcpListener::bind("127.0.0.1:0").is_ok()
        );
        let sent = serde_json::to_string(&found).unwrap();
        assert!(sent.is_ascii(), "it travels in a header: {sent}");
        assert_eq!(serde_json::from_str::<Enforcement>(&sent).unwrap(), found);
    }
}
