//! A store, a clock that stands still until it is moved, and channels that follow a script.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::config::{Config, deliver};
use linkspan_model::{DeliveryId, DeliveryState, InvocationId, ResultDocument, Status};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};

use crate::channels::{Channel, Parcel, Verdict};
use crate::deliveries::{Clock, Deliveries, Lifetime, Opened, Sender};
use crate::metrics::Metrics;
use crate::store::{
    AttemptEnd, Delivery, DeliveryQuery, Endpoint, Enqueued, FileBlobs, NewDelivery, NewJob,
    Outcome, SqliteOptions, SqliteStore, Start, Store,
};

const INTEGRATION: &str = "calls";

/// A clock that a test moves.
#[derive(Debug)]
pub(super) struct TestClock(watch::Sender<Timestamp>, Mutex<usize>);

impl TestClock {
    pub(super) fn time(&self) -> Timestamp {
        *self.0.borrow()
    }

    pub(super) fn set(&self, time: Timestamp) {
        self.0.send_replace(time);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.time()
    }

    async fn sleep_until(&self, time: Timestamp) {
        let mut told = self.0.subscribe();
        let _asleep = Asleep::new(&self.1);
        let _ = told.wait_for(|now| *now >= time).await;
    }
}

/// Counts who sleeps.
struct Asleep<'a>(&'a Mutex<usize>);

impl<'a> Asleep<'a> {
    fn new(count: &'a Mutex<usize>) -> Self {
        *count.lock().unwrap() += 1;
        Self(count)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap() -= 1;
    }
}

pub(super) struct Rig {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<TestClock>,
    pub(super) start: Timestamp,
    pub(super) lifetime: Lifetime,
    channels: Vec<(String, deliver::Delivery, Arc<dyn Channel>)>,
    deliveries: Arc<Deliveries>,
    sender: Option<Arc<Sender>>,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Arc::new(FileBlobs::open(folder.path().join("blobs")).unwrap());
        let store = SqliteStore::open(
            folder.path().join("jobs.db"),
            SqliteOptions { max_size: None },
            blobs,
        )
        .unwrap();
        let start = Timestamp::from_second(1_790_000_000).unwrap();
        Self {
            store: Arc::new(store),
            clock: Arc::new(TestClock(watch::Sender::new(start), Mutex::new(0))),
            start,
            lifetime: lifetime("first"),
            channels: Vec::new(),
            deliveries: Arc::default(),
            sender: None,
            _folder: folder,
        }
    }

    /// A channel that answers as it is told.
    pub(super) fn channel(
        &mut self,
        name: &str,
        settings: deliver::Delivery,
        answer: impl Fn(&Parcel) -> Verdict + Send + Sync + 'static,
    ) -> Script {
        self.add(name, settings, Script::new(name, 1, None, answer))
    }

    /// A channel that answers nothing until it is released.
    pub(super) fn slow_channel(&mut self, name: &str, settings: deliver::Delivery) -> Script {
        self.gated_channel(name, settings, super::taken)
    }

    /// The same, with an answer of its own.
    pub(super) fn gated_channel(
        &mut self,
        name: &str,
        settings: deliver::Delivery,
        answer: impl Fn(&Parcel) -> Verdict + Send + Sync + 'static,
    ) -> Script {
        let script = Script::new(name, 1, Some(Semaphore::new(0)), answer);
        self.add(name, settings, script)
    }

    /// A channel that takes several in one call; 0: one, of which it says nothing.
    pub(super) fn batching_channel(
        &mut self,
        name: &str,
        settings: deliver::Delivery,
        batch: usize,
        answer: impl Fn(&Parcel) -> Verdict + Send + Sync + 'static,
    ) -> Script {
        self.add(name, settings, Script::new(name, batch, None, answer))
    }

    fn add(&mut self, name: &str, settings: deliver::Delivery, script: Script) -> Script {
        self.channels
            .push((name.to_owned(), settings, Arc::new(script.clone())));
        self.deliveries = Arc::new(self.open());
        script
    }

    pub(super) fn opened(
        &self,
        name: &str,
        settings: &deliver::Delivery,
        answer: impl Fn(&Parcel) -> Verdict + Send + Sync + 'static,
    ) -> Opened {
        let script = Script::new(name, 1, None, answer);
        Opened::new(script.endpoint(), "webhook", settings, Arc::new(script)).unwrap()
    }

    fn open(&self) -> Deliveries {
        Deliveries::new(self.channels.iter().map(|(name, settings, channel)| {
            let endpoint = Endpoint::new(INTEGRATION, name);
            Opened::new(endpoint, "webhook", settings, channel.clone()).unwrap()
        }))
    }

    pub(super) fn forget_channels(&mut self) {
        self.channels.clear();
    }

    /// The deliveries of a result.
    pub(super) async fn outbox(&self, result: &ResultDocument) -> Vec<NewDelivery> {
        self.deliveries.outbox(result, self.clock.time()).await
    }

    /// Starts a sender for the channels that there are now.
    pub(super) fn run(&mut self) {
        self.deliveries = Arc::new(self.open());
        let sender = Sender::new(
            self.deliveries.clone(),
            self.store.clone(),
            self.clock.clone(),
            Arc::new(Metrics::new()),
            self.lifetime.clone(),
        );
        sender.start();
        self.sender = Some(sender);
    }

    /// The sender ends without a word: the end of what it has under way is never stored.
    pub(super) async fn die(&mut self) {
        self.lifetime.stop.cancel();
        self.lifetime.closed.cancel();
        let sender = self.sender.take().unwrap();
        // What is under way holds it, and the task that waits for that. While others do, an end that comes could still be stored.
        while Arc::strong_count(&sender) > 2 + sender.count() {
            tokio::task::yield_now().await;
        }
        std::mem::forget(sender);
        self.lifetime = lifetime("second");
    }

    pub(super) async fn recover(&self, all: bool) {
        self.sender.as_ref().unwrap().recover(all).await.unwrap();
    }

    pub(super) fn advance(&self, seconds: i64) {
        self.clock
            .set(self.clock.time() + SignedDuration::from_secs(seconds));
    }

    /// Stores a job that has succeeded, with the deliveries of its result: its answer says which job it was.
    pub(super) async fn finish_job(&self, nth: usize) {
        let now = self.clock.time();
        let id = InvocationId::new();
        let job = NewJob {
            id,
            integration: INTEGRATION.to_owned(),
            caller: "crm".to_owned(),
            document: None,
            request: "{}".to_owned(),
            request_id: "r-1".to_owned(),
            traceparent: None,
            idempotency: None,
            start: Some(Start {
                owner: "runner".to_owned(),
                lease: SignedDuration::from_secs(60),
                held: false,
            }),
            max_attempts: 1,
            due: now,
            keep: SignedDuration::from_hours(24 * 365),
            now,
        };
        let Enqueued::Created {
            attempt: Some(attempt),
            ..
        } = self.store.enqueue(job).await.unwrap()
        else {
            panic!("no attempt");
        };
        let mut document = ResultDocument {
            id,
            integration: INTEGRATION.to_owned(),
            status: Status::Succeeded,
            answers: Map::new(),
            steps: Vec::new(),
            error: None,
        };
        document.answers.insert("nth".to_owned(), json!(nth));
        let deliveries = self.deliveries.outbox(&document, now).await;
        let result = serde_json::to_string(&document).unwrap();
        self.store
            .finish(AttemptEnd {
                attempt,
                outcome: Outcome::Succeeded { result },
                deliveries,
                now,
            })
            .await
            .unwrap();
    }

    pub(super) async fn deliveries(&self) -> Vec<Delivery> {
        let query = DeliveryQuery {
            limit: 1000,
            ..DeliveryQuery::default()
        };
        self.store.list_deliveries(query).await.unwrap().deliveries
    }

    pub(super) async fn count(&self, state: DeliveryState) -> usize {
        let all = self.deliveries().await;
        all.iter()
            .filter(|delivery| delivery.state == state)
            .count()
    }

    /// Waits until the one delivery is as it should be.
    pub(super) async fn delivery_where(
        &self,
        as_it_should: impl Fn(&Delivery) -> bool,
    ) -> Delivery {
        loop {
            if let Some(delivery) = self.deliveries().await.pop().filter(&as_it_should) {
                return delivery;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn until_count(&self, state: DeliveryState, count: usize) {
        while self.count(state).await < count {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the sender sleeps and nothing is under way.
    pub(super) async fn idle(&self) {
        let sender = self.sender.as_ref().unwrap();
        let mut quiet = 0;
        while quiet < 20 {
            let sleeps = *self.clock.1.lock().unwrap() == 1;
            quiet = if sleeps && sender.count() == 0 {
                quiet + 1
            } else {
                0
            };
            // The round trip through the store lets all that was before it be done.
            self.store.get_delivery(DeliveryId::new()).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

fn lifetime(owner: &str) -> Lifetime {
    Lifetime::new(owner.to_owned(), std::time::Duration::from_secs(30))
}

/// The settings of a channel, as they stand in a file.
pub(super) fn settings(lines: &str) -> deliver::Delivery {
    let text = format!(
        "[service.mood]\ntask = \"sentiment\"\n[integration.calls]\npattern = \"async\"\nsteps = [\"mood\"]\n\
         [[integration.calls.deliver]]\nfile = \"out.jsonl\"\n{lines}\n"
    );
    struct Nothing;
    impl linkspan_model::config::Resolve for Nothing {
        fn resolve(&self, _: linkspan_model::config::Reference<'_>) -> Result<String, String> {
            Err("no references here".to_owned())
        }
    }
    let config =
        Config::parse(&text, "test.toml", &Nothing).unwrap_or_else(|faults| panic!("{faults}"));
    config.integrations[INTEGRATION].deliver[0].common.clone()
}

/// A channel that does what a test says.
#[derive(Clone)]
pub(super) struct Script(Arc<Inner>);

struct Inner {
    name: String,
    batch: usize,
    gate: Option<Semaphore>,
    answer: Box<dyn Fn(&Parcel) -> Verdict + Send + Sync>,
    receiver: Mutex<&'static str>,
    calls: Mutex<Vec<Call>>,
    sizes: Mutex<Vec<usize>>,
}

/// One delivery of one call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: DeliveryId,
    pub(super) attempt: u32,
    pub(super) nth: u64,
    pub(super) content: Value,
}

impl Script {
    fn new(
        name: &str,
        batch: usize,
        gate: Option<Semaphore>,
        answer: impl Fn(&Parcel) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            batch,
            gate,
            answer: Box::new(answer),
            receiver: Mutex::new("https://crm.example.com"),
            calls: Mutex::default(),
            sizes: Mutex::default(),
        }))
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::new(INTEGRATION, &self.0.name)
    }

    /// The configuration names another receiver from now on.
    pub(super) fn lead_to(&self, receiver: &'static str) {
        *self.0.receiver.lock().unwrap() = receiver;
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.0.calls.lock().unwrap().clone()
    }

    /// How many deliveries each call held.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.0.sizes.lock().unwrap().clone()
    }

    /// Lets a slow channel answer from now on.
    pub(super) fn release(&self) {
        self.0.gate.as_ref().unwrap().add_permits(1 << 20);
    }
}

#[async_trait]
impl Channel for Script {
    fn receiver(&self) -> String {
        (*self.0.receiver.lock().unwrap()).to_owned()
    }

    fn batch(&self) -> usize {
        self.0.batch
    }

    /// Those of one moment belong together.
    fn group(&self, made: Timestamp) -> Option<Timestamp> {
        Some(made)
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        self.0.sizes.lock().unwrap().push(parcels.len());
        let calls = parcels.iter().map(|parcel| Call {
            id: parcel.id,
            attempt: parcel.attempt,
            nth: parcel.result["answers"]["nth"].as_u64().unwrap(),
            content: parcel.content.clone(),
        });
        self.0.calls.lock().unwrap().extend(calls);
        if let Some(gate) = &self.0.gate {
            gate.acquire().await.unwrap().forget();
        }
        if self.0.batch == 0 {
            return Vec::new();
        }
        parcels
            .iter()
            .map(|parcel| (self.0.answer)(parcel))
            .collect()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.0.name).finish()
    }
}
