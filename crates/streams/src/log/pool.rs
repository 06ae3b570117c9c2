//! The threads that write. There are a few for all logs: a log has work or it has not, and no thread of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// What a thread does. It stands in line once at most.
pub(super) trait Work: Send + Sync {
    /// Does a part of it; whether there is more.
    fn work(&self) -> bool;
    /// It panicked: nothing more may be written.
    fn give_up(&self);
}

/// The threads. Dropping it lets them finish what is in line; nothing is taken any more.
pub(super) struct Pool {
    line: Arc<Line>,
    threads: Vec<JoinHandle<()>>,
}

/// Where work stands in line.
pub(super) struct Line {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

struct Waiting {
    works: VecDeque<Arc<dyn Work>>,
    closed: bool,
}

/// A mutex's content. None of ours is left half changed by a panic.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Starts the threads. `lock` is held until the last of them ends.
    pub(super) fn start(threads: usize, lock: Option<File>) -> std::io::Result<Self> {
        let line = Arc::new(Line {
            waiting: Mutex::new(Waiting {
                works: VecDeque::new(),
                closed: false,
            }),
            bell: Condvar::new(),
        });
        let lock = Arc::new(lock);
        let mut pool = Self {
            line,
            threads: Vec::new(),
        };
        for number in 0..threads.max(1) {
            let (line, lock) = (pool.line.clone(), lock.clone());
            let run = move || {
                line.run();
                drop(lock);
            };
            let named = thread::Builder::new().name(format!("log-writer-{number}"));
            pool.threads.push(named.spawn(run)?);
        }
        Ok(pool)
    }

    /// Where work stands in line.
    pub(super) fn line(&self) -> Arc<Line> {
        self.line.clone()
    }

    /// Takes no more work, and returns when what was in line is done.
    pub(super) fn finish(mut self) {
        self.line.close();
        for thread in self.threads.drain(..) {
            // A thread that panicked outside of its work has nothing to say that was not logged.
            let _ = thread.join();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.line.close();
    }
}

impl Line {
    /// Puts work at the end of the line; `false`: none is taken any more.
    pub(super) fn join(&self, work: Arc<dyn Work>) -> bool {
        let mut waiting = held(&self.waiting);
        if waiting.closed {
            return false;
        }
        waiting.works.push_back(work);
        drop(waiting);
        self.bell.notify_one();
        true
    }

    fn close(&self) {
        held(&self.waiting).closed = true;
        self.bell.notify_all();
    }

    fn run(&self) {
        while let Some(work) = self.next() {
            match catch_unwind(AssertUnwindSafe(|| work.work())) {
                // Behind the others, also when the line is closed: what is in line is done.
                Ok(true) => held(&self.waiting).works.push_back(work),
                Ok(false) => {}
                Err(_) => {
                    tracing::error!(
                        "a log's writer panicked; the log takes no more until it is opened anew"
                    );
                    work.give_up();
                }
            }
        }
    }

    fn next(&self) -> Option<Arc<dyn Work>> {
        let mut waiting = held(&self.waiting);
        loop {
            if let Some(work) = waiting.works.pop_front() {
                return Some(work);
            }
            if waiting.closed {
                return None;
            }
            let woken = self.bell.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
