//! A process that is measured from outside.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

/// A process that replicates. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) begun: Instant,
    folder: TempDir,
}

impl Process {
    pub(crate) fn start(command: Command) -> Self {
        Self::start_in(command, tempfile::tempdir().expect("a folder"))
    }

    /// What it says goes to a file of the folder.
    pub(crate) fn start_in(mut command: Command, folder: TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).expect("a log file");
        let child = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        Self {
            child,
            begun: Instant::now(),
            folder,
        }
    }

    /// Ends the bench where the process has ended, with what it said.
    pub(crate) fn must_run(&self) {
        let state = self
            .proc("stat")
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .chars()
            .next();
        if matches!(state, None | Some('Z')) {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("the process has ended:\n{log}");
            std::process::exit(1);
        }
    }

    /// What it has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let text = self.proc("stat");
        let fields = text.rsplit(") ").next().unwrap_or_default();
        let ticks = |index: usize| {
            let field = fields.split(' ').nth(index);
            field.and_then(|text| text.parse().ok()).unwrap_or(0.0)
        };
        (ticks(11) + ticks(12)) / 100.0
    }

    /// The most memory that it ever had.
    pub(crate) fn peak_mib(&self) -> u64 {
        let text = self.proc("status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() / 1_024
    }

    fn proc(&self, file: &str) -> String {
        let path = PathBuf::from("/proc")
            .join(self.child.id().to_string())
            .join(file);
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
