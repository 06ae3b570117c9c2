//! Copies until it is stopped, through sessions: a session ends with whatever goes wrong, and the next one reads the progress anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::owner::{Lookout, Place, Silence};
use super::session::{Kept, Session};
use super::{ReplicateError, Settings, State, Status};

/// A replication that runs, on threads of its own. Dropped, it stops as by [`Self::stop`].
pub struct Replicator {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the copying thread and others look at.
pub(super) struct Shared {
    /// Since when it is to stop.
    stop: OnceLock<Instant>,
    status: Mutex<Status>,
    told: Mutex<Told>,
}

/// What goes on through all sessions.
#[derive(Default)]
pub(super) struct Told {
    /// Records that were copied and committed, and bytes of their keys and values, by topic.
    pub(super) counts: BTreeMap<String, (u64, u64)>,
    /// The topics whose stopping was logged, and with which sentence.
    pub(super) stops: BTreeMap<String, String>,
}

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// Because it was told to.
    Stopped,
    /// Another process has taken the place.
    Replaced,
    /// To begin again at once: a topic was stopped, or a setting of the producer has to change.
    Again,
    /// It can pass.
    Passing(String),
    /// It cannot.
    Lasting(String),
}

/// How long the clusters may take over what is still to be committed when it is to stop.
const GRACE: Duration = Duration::from_secs(5);

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
            stop: OnceLock::new(),
            status: Mutex::new(Status {
                name: settings.name.clone(),
                state: State::Starting,
                topics: Vec::new(),
                records: 0,
                bytes: 0,
                records_per_second: 0.0,
                bytes_per_second: 0.0,
            }),
            told: Mutex::default(),
        });
        let of = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("replicate".to_owned())
            .spawn(move || run(&settings, &of))
            .map_err(|_| ReplicateError::other("start a thread for the replication: it failed"))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
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
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Commits what was read, and ends. Where the target does not answer it is given five seconds, and then what is not committed is
    /// left to the next start; a question that is under way may take another ten. Blocks.
    pub fn stop(&self) -> Status {
        self.end();
        self.status()
    }

    fn end(&self) {
        let _ = self.shared.stop.set(Instant::now());
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
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
        self.stop.get().is_some()
    }

    /// Whether it was to stop so long ago that no cluster is waited for any more.
    pub(super) fn overdue(&self) -> bool {
        self.stop
            .get()
            .is_some_and(|since| since.elapsed() >= GRACE)
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of a topic was copied and committed.
    pub(super) fn count(&self, topic: &str, records: u64, bytes: u64) {
        let mut told = self.told();
        match told.counts.get_mut(topic) {
            Some(count) => *count = (count.0 + records, count.1 + bytes),
            None => {
                told.counts.insert(topic.to_owned(), (records, bytes));
            }
        }
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<ReplicateError> for End {
    fn from(fault: ReplicateError) -> Self {
        Self::Passing(fault.to_string())
    }
}

fn run(settings: &Settings, shared: &Shared) {
    let mut kept = Kept::new();
    let mut wait = WAITS.0;
    let end = loop {
        if shared.stopping() {
            break State::Stopped;
        }
        let before = shared.status().records;
        let ended =
            Session::open(settings, shared, &mut kept).and_then(|mut session| session.copy());
        let why = match ended {
            Ok(()) | Err(End::Stopped) => break State::Stopped,
            Err(End::Again) => continue,
            Err(End::Replaced) => {
                stand_by(settings, shared, &mut kept.place);
                continue;
            }
            Err(End::Lasting(why)) => break State::Failed(why),
            Err(End::Passing(_)) if shared.stopping() => break State::Stopped,
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
        // Never in step with another process that tries the same.
        pause(shared, wait.mul_f64(0.75 + fastrand::f64() / 2.0));
        wait = (wait * 2).min(WAITS.1);
    };
    if let State::Failed(why) = &end {
        tracing::error!(replication = settings.name, "{why}");
    }
    let mut status = shared.status();
    (status.records_per_second, status.bytes_per_second) = (0.0, 0.0);
    status.state = end;
}

/// Waits until the process that copies has gone, or is not heard of any more.
fn stand_by(settings: &Settings, shared: &Shared, place: &mut Place) {
    tracing::warn!(
        replication = settings.name,
        "another process replicates under this name and came later: this one stands by"
    );
    {
        let mut status = shared.status();
        (status.records_per_second, status.bytes_per_second) = (0.0, 0.0);
        status.state = State::Standby;
        status.topics.clear();
    }
    let mut silence = Silence::new(Instant::now());
    let mut lookout = None;
    while !shared.stopping() {
        let go_on = &mut || !shared.stopping();
        let found = match &mut lookout {
            Some(lookout) => Lookout::look(lookout, settings, go_on),
            None => {
                Lookout::new(settings).and_then(|made| lookout.insert(made).look(settings, go_on))
            }
        };
        let now = Instant::now();
        match found {
            Ok((owner, last)) => {
                let sign = settings.sign_every;
                if silence.is_over(owner.as_ref(), last.as_ref(), now, sign) {
                    tracing::warn!(
                        replication = settings.name,
                        "the other process has gone: this one takes its place"
                    );
                    place.follows(owner);
                    return;
                }
            }
            Err(_) => {
                silence.unknown(now);
                lookout = None;
            }
        }
        pause(shared, settings.sign_every);
    }
}

fn pause(shared: &Shared, wait: Duration) {
    let until = Instant::now() + wait;
    while !shared.stopping() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
