//! One worker process: started, listened to, ended and reaped.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc as blocking};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::outcome::{Exit, LastWords};
use super::spec::Handshake;

/// How long a worker that is asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(1);

/// How long what a worker said last may take to be read after its end, on a machine that has much to do.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A worker process. When it is dropped, the process is killed; it is reaped in any case.
pub(super) struct Process {
    pid: Pid,
    /// A word on it asks for the end; when it is gone, the process is killed.
    end: mpsc::Sender<()>,
    /// Whether the host wanted the end.
    wanted: Arc<AtomicBool>,
    at_fault: bool,
    exit: watch::Receiver<Option<Exit>>,
    words: Arc<Mutex<LastWords>>,
}

impl Process {
    /// Starts a process in a process group of its own. `at_exit` is called once, after it has been reaped.
    pub(super) async fn start(
        mut command: Command,
        name: String,
        handshake: Handshake,
        at_exit: impl FnOnce(&Exit) + Send + 'static,
    ) -> io::Result<Self> {
        command.process_group(0).kill_on_drop(true);
        let mut child = Group::new(spawn(command).await?)?;
        let words = Arc::new(Mutex::new(LastWords::default()));
        let (end, end_here) = mpsc::channel(1);
        let wanted = Arc::new(AtomicBool::new(false));
        let (exit_here, exit) = watch::channel(None);
        let pid = child.pid;
        let stderr = child
            .child
            .stderr
            .take()
            .map(|stderr| tokio::spawn(listen(stderr, words.clone(), name, handshake)));
        let (last_words, was_wanted) = (words.clone(), wanted.clone());
        tokio::spawn(async move {
            let status = supervise(&mut child, end_here).await;
            let by_itself = !was_wanted.load(Relaxed);
            // A process that the worker left behind may hold the pipe open: it was killed with its group, so this is short.
            if let Some(stderr) = stderr {
                let abort = stderr.abort_handle();
                if timeout(LAST_WORDS, stderr).await.is_err() {
                    abort.abort();
                }
            }
            let words = last_words
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let exit = Exit {
                status,
                words,
                by_itself,
            };
            at_exit(&exit);
            exit_here.send_replace(Some(exit));
        });
        Ok(Self {
            pid,
            end,
            wanted,
            at_fault: false,
            exit,
            words,
        })
    }

    /// Whether the process has not ended, asked of the system itself.
    pub(super) fn is_alive(&self) -> bool {
        // NOWAIT leaves the child to its supervisor; an error says that it has been reaped.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.exit.borrow().is_none() && matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// Waits for the end.
    pub(super) async fn exited(&self) -> Exit {
        let unknown = Exit {
            status: None,
            words: LastWords::default(),
            by_itself: false,
        };
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(unknown),
            Err(_) => unknown,
        }
    }

    /// What was heard before now says nothing about the invocation that comes now.
    pub(super) fn forget_words(&self) {
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = LastWords::default();
    }

    /// Asks the process to end; it is killed if it does not.
    pub(super) fn end(self) {
        self.wanted.store(true, Relaxed);
        let _ = self.end.try_send(());
        tokio::spawn(async move { self.exited().await });
    }

    /// Kills the process, which said itself that it cannot go on.
    pub(super) fn end_crashed(mut self) {
        self.at_fault = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.at_fault {
            self.wanted.store(true, Relaxed);
        }
    }
}

async fn supervise(group: &mut Group, mut end: mpsc::Receiver<()>) -> Option<ExitStatus> {
    let asked = tokio::select! {
        biased;
        status = group.wait() => return status.ok(),
        asked = end.recv() => asked,
    };
    if asked.is_some() {
        group.signal(Signal::TERM);
        if let Ok(status) = timeout(GRACE, group.wait()).await {
            return status.ok();
        }
    }
    group.signal(Signal::KILL);
    group.wait().await.ok()
}

/// A child and its process group; both are killed when it is dropped before its end.
struct Group {
    child: Child,
    pid: Pid,
}

impl Group {
    fn new(child: Child) -> io::Result<Self> {
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the process has no id"))?;
        Ok(Self { child, pid })
    }

    fn signal(&self, signal: Signal) {
        // Not reaped yet, so the id is still this group's.
        if self.child.id().is_some() {
            let _ = kill_process_group(self.pid, signal);
        }
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // What the worker started dies with it. The id was freed just now and the system hands ids out in turn.
        let _ = kill_process_group(self.pid, Signal::KILL);
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Spawns from a thread that lives as long as this process: a child's parent-death signal is sent when the *thread* that made it ends,
/// and the threads of an async runtime come and go.
async fn spawn(mut command: Command) -> io::Result<Child> {
    type Job = Box<dyn FnOnce() + Send>;
    static SPAWNER: LazyLock<Option<blocking::Sender<Job>>> = LazyLock::new(|| {
        let (jobs, here) = blocking::channel::<Job>();
        let work = move || {
            for job in here {
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        };
        thread::Builder::new()
            .name("worker-spawner".to_owned())
            .spawn(work)
            .ok()
            .map(|_| jobs)
    });
    let gone = || io::Error::other("the thread that starts workers is not there");
    let runtime = Handle::current();
    let (answer, child) = oneshot::channel();
    let job: Job = Box::new(move || {
        let _inside = runtime.enter();
        let _ = answer.send(command.spawn());
    });
    SPAWNER
        .as_ref()
        .ok_or_else(gone)?
        .send(job)
        .map_err(|_| gone())?;
    child.await.map_err(|_| gone())?
}

/// Reads all that a worker writes on standard error, however much, and keeps and logs next to nothing of it.
async fn listen(
    mut stderr: ChildStderr,
    words: Arc<Mutex<LastWords>>,
    name: String,
    handshake: Handshake,
) {
    const LONGEST: usize = 512;
    const MOST_LOGGED: u32 = 200;
    let mut logged = 0;
    let mut line = Vec::with_capacity(LONGEST);
    let mut chunk = vec![0; 16 * 1024];
    let mut end_line = |line: &mut Vec<u8>| {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(message) = words.hear(line, handshake)
            && logged < MOST_LOGGED
        {
            logged += 1;
            tracing::debug!(worker = %name, "{message}");
        }
        line.clear();
    };
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for part in chunk[..read].split_inclusive(|&byte| byte == b'\n') {
            let room = LONGEST - line.len();
            line.extend_from_slice(part.get(..room).unwrap_or(part));
            if part.ends_with(b"\n") {
                end_line(&mut line);
            }
        }
    }
    end_line(&mut line);
}
