//! How a worker is started, and what it may use.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A program that serves as a worker: it takes its work from the AWS Lambda Runtime API.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// What it is called in logs and in `AWS_LAMBDA_FUNCTION_NAME`.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables for it, above those that every worker gets. The host's own environment is not passed on, but for [`INHERITED`].
    pub env: Vec<(OsString, OsString)>,
    /// How it proves that it is the program that was started.
    pub handshake: Handshake,
    /// `_HANDLER`, for runtime clients that load a handler by name.
    pub handler: Option<String>,
    /// The program's own folder (`LAMBDA_TASK_ROOT` and working folder). Without one, the worker's private folder serves.
    pub task_root: Option<PathBuf>,
    /// Where the workers' private folders are made; documents on the same file system are linked there, not copied. Without one,
    /// the system's temporary folder serves.
    pub folders: Option<PathBuf>,
}

/// The host's own variables that a worker gets too.
pub const INHERITED: &[&str] = &[
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TESSDATA_PREFIX",
];

impl WorkerSpec {
    /// linkspan's own worker: this program with `args` (the hidden verb and its task).
    pub fn own(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            handshake: Handshake::Token,
            handler: None,
            task_root: None,
            folders: None,
        }
    }

    /// Anyone's program that speaks the Runtime API.
    pub fn function(
        name: impl Into<String>,
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            handshake: Handshake::Open,
            ..Self::own(name, program, args)
        }
    }
}

/// How a worker proves that it is the program that was started, so that no other user of the machine can take its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// linkspan's own worker: it sends the secret from its environment, over the one connection that it ever opens.
    Token,
    /// A program that knows only the Runtime API: any connection of the same user is taken.
    Open,
}

/// What workers may use, all together and each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most workers at once.
    pub max_workers: usize,
    /// Longest work on one invocation.
    pub time_limit: Duration,
    /// Longest way from the start of the program to its first request for work.
    pub start_timeout: Duration,
    /// How long a worker may wait for work before it is ended.
    pub idle_timeout: Duration,
    /// After how many invocations a worker is replaced.
    pub recycle_after: u32,
    /// Most memory that one worker may write to, in bytes.
    pub memory: u64,
    /// Largest answer, in bytes.
    pub max_answer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_workers: std::thread::available_parallelism().map_or(1, usize::from),
            time_limit: Duration::from_secs(120),
            start_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            recycle_after: 200,
            memory: 2 << 30,
            max_answer: 64 << 20,
        }
    }
}
