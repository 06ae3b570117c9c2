//! The ends of attempts on their way into the store: what waits while one transaction commits goes into the next.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::{DeliveryEnd, Sender};
use crate::logging;

/// How many ends one transaction takes at most.
const BATCH: usize = 500;

/// The ends that wait to be stored.
#[derive(Debug, Default)]
pub(super) struct Ends {
    waiting: Mutex<Vec<Waiting>>,
    come: Notify,
}

#[derive(Debug)]
struct Waiting {
    end: DeliveryEnd,
    stored: oneshot::Sender<bool>,
}

impl Ends {
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }
}

impl Sender {
    /// Ends attempts durably; returns when they are stored, or cannot be. One that cannot be is made again when its lease is over.
    pub(super) async fn end(&self, ends: Vec<DeliveryEnd>) {
        let mut told = Vec::new();
        {
            let mut waiting = self
                .ends
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for end in ends {
                let (stored, answer) = oneshot::channel();
                told.push((end.attempt.id, answer));
                waiting.push(Waiting { end, stored });
            }
        }
        self.ends.come.notify_one();
        for (id, answer) in told {
            if answer.await == Ok(false) {
                tracing::info!(delivery = %id, "an attempt ended after its delivery had been taken from it; its outcome was dropped");
            }
        }
    }

    /// Stores ends until the gateway is closed.
    pub(super) async fn store_ends(self: Arc<Self>) {
        let closed = self.lifetime.closed.clone();
        while closed
            .run_until_cancelled(self.ends.come.notified())
            .await
            .is_some()
        {
            loop {
                let batch = self.ends.take();
                if batch.is_empty() {
                    break;
                }
                self.store_batch(batch).await;
            }
        }
    }

    async fn store_batch(&self, batch: Vec<Waiting>) {
        let ends: Vec<_> = batch.iter().map(|waiting| waiting.end.clone()).collect();
        loop {
            match self
                .store
                .finish_deliveries(ends.clone(), self.clock.now())
                .await
            {
                Ok(stored) => {
                    for (waiting, stored) in batch.into_iter().zip(stored) {
                        let _ = waiting.stored.send(stored);
                    }
                    return;
                }
                Err(error) => {
                    tracing::warn!(
                        deliveries = batch.len(),
                        error = logging::chain(&error),
                        "the ends of deliveries cannot be stored"
                    );
                    let Some(wait) = error.kind.retry_after() else {
                        return; // recovery after the restart sends them again
                    };
                    let waited = self
                        .lifetime
                        .abandon
                        .run_until_cancelled(tokio::time::sleep(wait));
                    if waited.await.is_none() {
                        return;
                    }
                }
            }
        }
    }
}
