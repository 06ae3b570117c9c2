//! An outside program dies with its host.
//!
//! Our own worker asks for this itself (see [`crate::sandbox`]); a function's program does not know of it, so it is asked for before
//! the program starts.

#![expect(
    unsafe_code,
    reason = "what runs between fork and exec is unsafe to say; it is two system calls"
)]

use tokio::process::Command;

/// Has the kernel kill the program when the thread that started it ends.
#[cfg(target_os = "linux")]
pub(super) fn with_host(command: &mut Command) {
    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let host = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The host may have died before it was asked.
        if getppid() == Some(host) {
            Ok(())
        } else {
            Err(rustix::io::Errno::SRCH.into())
        }
    };
    // SAFETY: between fork and exec `ask` makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(ask);
    }
}

/// Other systems have no such signal: the worker ends when its connection does.
#[cfg(not(target_os = "linux"))]
pub(super) fn with_host(_: &mut Command) {}
