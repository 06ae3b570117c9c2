//! Programs of others that are measured beside ours: installed beside the build, and run to their end.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Files of a program, by name.
pub(crate) type Files = [(&'static str, &'static str)];

/// Where a program is installed.
pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("../bench")
        .join(name)
}

/// Whether what was installed in the folder was made from `lock`.
pub(crate) fn is_installed(folder: &Path, lock: &str) -> bool {
    std::fs::read_to_string(folder.join("installed")).is_ok_and(|made_from| made_from == lock)
}

/// Notes that what is in the folder was made from `lock`.
pub(crate) fn installed(folder: &Path, lock: &str) -> Result<(), String> {
    std::fs::write(folder.join("installed"), lock).map_err(|error| error.to_string())
}

/// Writes files into the folder, which is made where it is not there.
pub(crate) fn write(folder: &Path, files: &Files) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    for (name, text) in files {
        std::fs::write(folder.join(name), text).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Runs a program, and gives what it says.
pub(crate) async fn said(command: &mut Command, patience: Duration) -> Result<String, String> {
    let name = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(patience, running)
        .await
        .map_err(|_| format!("{name} took too long"))?
        .map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}", said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
