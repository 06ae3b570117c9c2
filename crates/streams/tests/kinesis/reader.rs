//! A gateway that reads a stream and commits what it read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use linkspan_streams::Record;
use linkspan_streams::flow::{Failure, Flow, FlowError, Order, Process, Settings as FlowSettings};
use linkspan_streams::kinesis::consumer::{KinesisSource, Reading, Settings};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::leases::{Committed, Outputs, Store};
use crate::server::{Kinesis, PATIENCE, STREAM};

/// The quick settings of tests.
pub(crate) fn settings() -> Settings {
    Settings {
        stream: STREAM.to_owned(),
        idle: Duration::from_millis(210),
        renew: Duration::from_millis(300),
        refresh: Duration::from_secs(5),
        ..Settings::default()
    }
}

/// A gateway, which ends with its life or without a word.
pub(crate) struct Reader {
    stop: CancellationToken,
    pub(crate) flow: JoinHandle<Result<(), FlowError>>,
    pub(crate) reading: Reading,
    runtime: Option<Runtime>,
}

struct Nothing;

#[async_trait]
impl Process for Nothing {
    type Output = ();

    async fn process(&self, records: &[Arc<Record>]) -> Vec<Result<(), Failure>> {
        // Some take longer than others.
        for _ in 0..fastrand::u8(0..4) {
            tokio::task::yield_now().await;
        }
        records.iter().map(|_| Ok(())).collect()
    }
}

impl Reader {
    /// A gateway of that name, on a runtime of its own.
    pub(crate) fn start(kinesis: &Kinesis, store: &Store, name: &str, order: Order) -> Self {
        Self::with(kinesis, store, name, order, settings())
    }

    pub(crate) fn with(
        kinesis: &Kinesis,
        store: &Store,
        name: &str,
        order: Order,
        settings: Settings,
    ) -> Self {
        let gateway = store.gateway(name);
        let (source, reading) = KinesisSource::open(kinesis.amazon(), gateway.clone(), settings);
        let stop = CancellationToken::new();
        let flow = Flow {
            source,
            process: Arc::new(Nothing),
            committer: Outputs(gateway),
            settings: FlowSettings {
                order,
                in_flight: 500,
                drain: Duration::from_secs(2),
                ..FlowSettings::default()
            },
            meter: Arc::default(),
            stop: stop.clone(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let flow = runtime.spawn(flow.run());
        Self {
            stop,
            flow,
            reading,
            runtime: Some(runtime),
        }
    }

    /// Ends it as a gateway ends: what is done is committed, and its lanes are free.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.flow).await.unwrap().unwrap();
        self.reading.left().await;
    }

    /// Kills it: nothing more is committed, and nothing is let go.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // A runtime may not wait for its end within another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store {
    /// Waits until so many outputs are committed.
    pub(crate) async fn shows(&self, count: usize) {
        let mut seen = self.count.subscribe();
        let waited = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| *seen >= count)).await;
        let there = *self.count.borrow();
        assert!(waited.is_ok(), "{there} of {count} are committed");
    }

    /// Waits until something holds of the store; it is looked at whenever something is committed, and now and then.
    pub(crate) async fn becomes(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        let mut seen = self.count.subscribe();
        while !holds(self) {
            assert!(
                tokio::time::Instant::now() < end,
                "never: {what}: {:?}",
                self.holders()
            );
            let _ = tokio::time::timeout(Duration::from_millis(50), seen.changed()).await;
        }
    }
}

/// Every key has its values from 0 on, each once, in order.
pub(crate) fn assert_each_once_in_order(outputs: &[Committed], keys: usize, each: usize) {
    let mut next = BTreeMap::new();
    for output in outputs {
        let next: &mut usize = next.entry(output.key.clone()).or_default();
        assert_eq!(
            output.value,
            next.to_string(),
            "of {} in {}",
            output.key,
            output.lane
        );
        *next += 1;
    }
    assert_eq!(next.len(), keys);
    assert!(next.values().all(|count| *count == each), "{next:?}");
}
