//! Copies until it is stopped, through sessions: a session ends with whatever goes wrong, and the next one reads the progress anew.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::session::Session;
use super::{ReplicateError, Settings, State, Status};
use crate::kafka::ErrorKind;

/// A replication that runs, on threads of its own. Dropped, it stops as by [`Self::stop`].
pub struct Replicator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the copying thread and others look at.
pub(super) struct Shared {
    stop: AtomicBool,
    status: Mutex<Status>,
}

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// Because it was told to.
    Stopped,
    /// To begin again at once: a topic was stopped, or a setting of the producer has to change.
    Again,
    /// It can pass.
    Passing(String),
    /// It cannot.
    Lasting(String),
}

/// The first and the longest wait before the next session.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

impl Replicator {
    /// Starts to copy, and returns at once: [`Self::status`] tells how it goes.
    ///
    /// # Errors
    ///
    /// The settings cannot work, whatever the clusters say.
    pub fn start(settings: Settings) -> Result<Self, ReplicateError> {
        settings.check()?;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            status: Mutex::new(Status {
                name: settings.name.clone(),
                state: State::Starting,
                topics: Vec::new(),
                records: 0,
                bytes: 0,
                records_per_second: 0.0,
                bytes_per_second: 0.0,
            }),
        });
        let of = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("replicate".to_owned())
            .spawn(move || run(&settings, &of))
            .map_err(|_| ReplicateError::other("start a thread for the replication: it failed"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How it goes.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status().clone()
    }

    /// Whether it still copies, or tries to. False after [`State::Failed`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Commits what was read, and ends. While a cluster does not answer this takes as long as the question that is under way: at most
    /// ten seconds or so. Blocks.
    #[must_use]
    pub fn stop(mut self) -> Status {
        self.end();
        self.status()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<ReplicateError> for End {
    fn from(fault: ReplicateError) -> Self {
        match fault.kind {
            ErrorKind::Fenced => Self::Lasting(fault.to_string()),
            _ => Self::Passing(fault.to_string()),
        }
    }
}

fn run(settings: &Settings, shared: &Shared) {
    let mut stopped = BTreeMap::new();
    let mut wait = WAITS.0;
    let end = loop {
        if shared.stopping() {
            break State::Stopped;
        }
        let before = shared.status().records;
        let ended =
            Session::open(settings, shared, &mut stopped).and_then(|mut session| session.copy());
        let why = match ended {
            Ok(()) | Err(End::Stopped) => break State::Stopped,
            Err(End::Again) => continue,
            Err(End::Lasting(why)) => break State::Failed(why),
            Err(End::Passing(why)) => why,
        };
        tracing::warn!(replication = settings.name, "{why}");
        let mut status = shared.status();
        status.state = State::Waiting(why);
        (status.records_per_second, status.bytes_per_second) = (0.0, 0.0);
        if status.records > before {
            wait = WAITS.0;
        }
        drop(status);
        let until = Instant::now() + wait;
        while !shared.stopping() && Instant::now() < until {
            thread::park_timeout(until - Instant::now());
        }
        wait = (wait * 2).min(WAITS.1);
    };
    if let State::Failed(why) = &end {
        tracing::error!(replication = settings.name, "{why}");
    }
    let mut status = shared.status();
    (status.records_per_second, status.bytes_per_second) = (0.0, 0.0);
    status.state = end;
}
