//! Group commit: callers who wait at the same time share a transaction.
//!
//! A batch is formed by what waits: a task takes one change, and whatever else is there by then, makes them in one transaction, and
//! only then answers. While it commits, the next batch gathers, and a second task may take it. No timer is involved. Where a batch
//! fails by itself, its changes are made one by one: the one that is at fault fails alone.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::pool::{Change, Db};
use crate::store::error::{ErrorKind, StoreError};

/// So many changes wait at most; more callers wait to hand theirs in.
const WAITING: usize = 4096;

/// So many changes go into one transaction at most.
const BATCH: usize = 512;

/// So many transactions of one kind are under way at once: while one waits for the disk, the next is built.
const FLIGHTS: usize = 2;

/// Several changes of one kind, as one change. Gives an answer for each, in order.
pub(super) trait Batch: Change<Out = Vec<Self::Answer>> {
    /// One change.
    type Item: Clone + Send + Sync + 'static;
    /// Its answer.
    type Answer: Send + 'static;

    /// All of them as one.
    fn of(items: Vec<Self::Item>) -> Self;
}

/// A change with whom its answer goes to.
type Call<B> = (<B as Batch>::Item, Reply<B>);

type Reply<B> = oneshot::Sender<Result<<B as Batch>::Answer, StoreError>>;

/// The changes that wait, shared by the tasks that take them.
type Waiting<B> = Arc<tokio::sync::Mutex<mpsc::Receiver<Call<B>>>>;

/// Hands changes of one kind to the tasks that make them.
pub(super) struct Batcher<B: Batch> {
    queue: Mutex<Option<mpsc::Sender<Call<B>>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl<B: Batch> Batcher<B> {
    pub(super) fn start(db: &Arc<Db>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let tasks = (0..FLIGHTS)
            .map(|_| db.spawn(run::<B>(Arc::clone(db), Arc::clone(&waiting))))
            .collect();
        Self {
            queue: Mutex::new(Some(queue)),
            tasks: Mutex::new(tasks),
        }
    }

    /// Makes a change; durable on return. It is made even when its caller goes away.
    pub(super) async fn make(&self, item: B::Item) -> Result<B::Answer, StoreError> {
        let closed = || StoreError::new(ErrorKind::Closed, B::DOING);
        let queue = self
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        queue.send((item, reply)).await.map_err(|_| closed())?;
        drop(queue);
        answer.await.map_err(|_| closed())?
    }

    /// Makes what waits, and ends.
    pub(super) async fn close(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            let _ = task.await;
        }
    }
}

impl<B: Batch> std::fmt::Debug for Batcher<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Batcher")
    }
}

async fn run<B: Batch>(db: Arc<Db>, waiting: Waiting<B>) {
    loop {
        let mut items = Vec::new();
        let mut replies = Vec::new();
        {
            let mut waiting = waiting.lock().await;
            let mut batch = Vec::new();
            if waiting.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            for (item, reply) in batch {
                items.push(item);
                replies.push(reply);
            }
        }
        let alone = items.len() == 1;
        let batch = B::of(items.clone());
        let outcome = db.make(&batch).await;
        // Before the answers: they hold the pins of the documents' blobs.
        drop(batch);
        match outcome {
            Ok(answers) => {
                drop(items);
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // The caller may have gone away; the change stands.
                    let _ = reply.send(Ok(answer));
                }
            }
            Err(fault)
                if alone
                    || fault.kind() != ErrorKind::Internal && fault.kind() != ErrorKind::Busy =>
            {
                let kind = fault.kind();
                let text = crate::logging::chain(&fault);
                for reply in replies {
                    let _ = reply.send(Err(StoreError::new(kind, B::DOING).because(text.clone())));
                }
            }
            Err(_) => {
                for (item, reply) in items.into_iter().zip(replies) {
                    let single = B::of(vec![item]);
                    let outcome = db.make(&single).await;
                    drop(single);
                    let answer = match outcome {
                        Ok(mut answers) => answers
                            .pop()
                            .ok_or_else(|| StoreError::new(ErrorKind::Internal, B::DOING)),
                        Err(fault) => Err(fault.at(B::DOING)),
                    };
                    let _ = reply.send(answer);
                }
            }
        }
    }
}
