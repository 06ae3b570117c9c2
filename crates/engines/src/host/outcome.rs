//! What a worker's end means for the invocation that it had.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use linkspan_model::Code;
use rustix::process::Signal;

use super::event::{Fault, LOG_PREFIX};
use super::spec::Handshake;
use crate::engine::EngineError;

/// How a worker process ended.
#[derive(Clone, Debug)]
pub(super) struct Exit {
    /// What the system says; none where it could not be learned.
    pub(super) status: Option<ExitStatus>,
    /// What its last words tell.
    pub(super) words: LastWords,
    /// Nobody asked it to end.
    pub(super) by_itself: bool,
}

/// What can be told from a worker's standard error without repeating it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LastWords {
    /// An allocation failed.
    pub(super) out_of_memory: bool,
    /// A thread ran out of stack.
    pub(super) out_of_stack: bool,
    /// The last line that our own worker wrote for the log.
    pub(super) message: Option<String>,
}

/// The longest part of a line that is looked at.
const LONGEST_LINE: usize = 400;

impl LastWords {
    /// Looks at one line; gives what may be logged of it.
    pub(super) fn hear(&mut self, line: &[u8], handshake: Handshake) -> Option<&str> {
        let line = String::from_utf8_lossy(line.get(..LONGEST_LINE).unwrap_or(line));
        self.out_of_memory |= [
            "memory allocation of ",
            "std::bad_alloc",
            "Cannot allocate memory",
            "MemoryError",
        ]
        .iter()
        .any(|words| line.contains(words));
        self.out_of_stack |= line.contains("has overflowed its stack");
        if handshake == Handshake::Open {
            return None;
        }
        let message = line.strip_prefix(LOG_PREFIX)?;
        self.message = Some(message.chars().filter(|c| !c.is_control()).collect());
        self.message.as_deref()
    }
}

/// The error of an invocation whose worker ended before it answered.
pub(super) fn ended(exit: &Exit) -> EngineError {
    let status = exit.status;
    let signal = status.and_then(|status| status.signal());
    if signal == Some(Signal::XCPU.as_raw()) {
        return EngineError::new(
            Code::EngineTimeout,
            "The engine used up its processor time on this document and was ended.",
        );
    }
    let failed = status.is_none_or(|status| !status.success());
    if failed && exit.words.out_of_memory {
        return EngineError::new(
            Code::MemoryLimit,
            "The engine ran out of the memory that it may use on this document. Send a smaller one, or raise the engine's memory limit.",
        );
    }
    let how = match (signal, status.and_then(|status| status.code())) {
        (Some(_), _) if exit.words.out_of_stack => "it ran out of stack".to_owned(),
        (Some(9), _) => "it was killed from outside (SIGKILL), as the kernel does when the machine runs out of memory".to_owned(),
        (Some(signal), _) => format!("signal {}", signal_name(signal)),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "for an unknown reason".to_owned(),
    };
    EngineError::new(
        Code::EngineCrashed,
        format!(
            "The engine's worker ended while it worked on this document: {how}. Other documents are not affected."
        ),
    )
}

/// The error of an invocation that the worker itself reported.
pub(super) fn reported(fault: &Fault, handshake: Handshake) -> EngineError {
    match (handshake, fault.code()) {
        (Handshake::Token, Some(code)) => EngineError::new(code, fault.message.clone()),
        // The message of an outside program may quote the document: only the name of its error goes on.
        _ => EngineError::new(
            Code::EngineCrashed,
            format!("The function failed with {}.", plain_name(&fault.kind)),
        ),
    }
}

/// The error when a worker never asked for work.
pub(super) fn not_started(exit: Option<&Exit>, handshake: Handshake) -> EngineError {
    let why = match exit {
        None => "did not ask for work in its start time".to_owned(),
        Some(Exit { status, words, .. }) => {
            let how = match (
                status.and_then(|s| s.signal()),
                status.and_then(|s| s.code()),
            ) {
                (Some(signal), _) => signal_name(signal),
                (None, Some(code)) => format!("exit code {code}"),
                (None, None) => "an unknown status".to_owned(),
            };
            match &words.message {
                Some(message) if handshake == Handshake::Token => {
                    format!("ended at its start with {how}: {message}")
                }
                _ => format!("ended at its start with {how}"),
            }
        }
    };
    EngineError::new(
        Code::EngineUnavailable,
        format!("The engine's worker {why}."),
    )
}

/// The name of an outside program's error, if it looks like one.
pub(super) fn plain_name(kind: &str) -> &str {
    let is_name = !kind.is_empty()
        && kind.len() <= 64
        && kind
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':'));
    if is_name {
        kind
    } else {
        "an error without a plain name"
    }
}

fn signal_name(signal: i32) -> String {
    let known = [
        (Signal::ABORT, "SIGABRT"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::HUP, "SIGHUP"),
        (Signal::ILL, "SIGILL"),
        (Signal::INT, "SIGINT"),
        (Signal::KILL, "SIGKILL"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::SYS, "SIGSYS"),
        (Signal::TERM, "SIGTERM"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
    ];
    known
        .iter()
        .find(|(known, _)| known.as_raw() == signal)
        .map_or_else(
            || format!("number {signal}"),
            |(_, name)| (*name).to_owned(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: i32, stderr: &str) -> Exit {
        let mut words = LastWords::default();
        for line in stderr.lines() {
            words.hear(line.as_bytes(), Handshake::Token);
        }
        Exit {
            status: Some(ExitStatus::from_raw(status)),
            words,
            by_itself: true,
        }
    }

    #[test]
    fn a_workers_end_names_its_cause() {
        let cases = [
            (6, "", Code::EngineCrashed, "SIGABRT"),
            (11, "", Code::EngineCrashed, "SIGSEGV"),
            (
                6,
                "memory allocation of 4096 bytes failed",
                Code::MemoryLimit,
                "memory",
            ),
            (
                6,
                "terminate called after throwing an instance of 'std::bad_alloc'",
                Code::MemoryLimit,
                "memory",
            ),
            (
                6,
                "thread 'engine' (7) has overflowed its stack",
                Code::EngineCrashed,
                "out of stack",
            ),
            (9, "", Code::EngineCrashed, "SIGKILL"),
            (24, "", Code::EngineTimeout, "processor time"),
            (0, "", Code::EngineCrashed, "exit code 0"),
            (3 << 8, "", Code::EngineCrashed, "exit code 3"),
        ];
        for (status, stderr, code, words) in cases {
            let error = ended(&exit(status, stderr));
            assert_eq!(error.code, code, "{status} {stderr}");
            assert!(error.detail.contains(words), "{}", error.detail);
        }
    }

    #[test]
    fn only_our_own_lines_are_repeated() {
        let mut words = LastWords::default();
        assert_eq!(words.hear(b"the document's secret", Handshake::Token), None);
        assert_eq!(
            words.hear(b"linkspan-worker: no \x1b[31mlibrary", Handshake::Token),
            Some("no [31mlibrary")
        );
        let exit = Exit {
            status: Some(ExitStatus::from_raw(256)),
            words,
            by_itself: true,
        };
        let error = not_started(Some(&exit), Handshake::Token);
        assert_eq!(error.code, Code::EngineUnavailable);
        assert!(
            error.detail.contains("exit code 1: no [31mlibrary"),
            "{}",
            error.detail
        );
        assert_eq!(
            LastWords::default().hear(b"linkspan-worker: forged", Handshake::Open),
            None
        );
    }

    #[test]
    fn an_outside_programs_message_does_not_go_on() {
        let fault = |kind: &str| Fault {
            message: "Jane Roe's bill".to_owned(),
            kind: kind.to_owned(),
        };
        for (kind, detail) in [
            ("ValueError", "The function failed with ValueError."),
            (
                "Jane Roe's bill",
                "The function failed with an error without a plain name.",
            ),
            // A name of ours proves nothing when it comes from outside.
            (
                "password-required",
                "The function failed with password-required.",
            ),
        ] {
            let error = reported(&fault(kind), Handshake::Open);
            assert_eq!(
                (error.code, error.detail.as_str()),
                (Code::EngineCrashed, detail)
            );
        }
        assert_eq!(
            reported(&fault("password-required"), Handshake::Token).code,
            Code::PasswordRequired
        );
    }
}
