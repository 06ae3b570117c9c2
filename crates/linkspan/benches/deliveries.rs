//! Webhook deliveries a second: `cargo bench -p linkspan --bench deliveries`. What a slow receiver costs the others is `receivers`.
//!
//! All of a delivery's way: the pending row in a SQLite store, the gateway's sender, the signed webhook, HTTP/1.1 over loopback to a
//! receiver that reads the event and answers 204, and the durable end of the delivery. The rows are there when the sender starts, and the
//! clock runs until the last delivery's end is durable. There is one endpoint, whose `concurrency` the line names. A result is 1 KiB.
//! The receiver is in the same process, so it shares the machine's cores; an event without a signature fails the bench.
//!
//! Each figure is the median of the rounds, in which the lines take turns; *least* and *most* are the rounds' rates, and *ratio* is the
//! rate against the first line's. Good as ratios on one machine, not as promises.

mod table;

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use linkspan::channels::Context;
use linkspan::deliveries::{Deliveries, Lifetime, Sender, SystemClock};
use linkspan::keys::HashKey;
use linkspan::links::Links;
use linkspan::metrics::Metrics;
use linkspan::outbound::Outbound;
use linkspan::store::{
    AttemptEnd, Enqueued, FileBlobs, NewJob, Outcome, SqliteOptions, SqliteStore, Start, Store,
};
use linkspan_model::config::{Config, Faults, Reference};
use linkspan_model::{DeliveryState, InvocationId, ResultDocument, Status};
use serde_json::{Map, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use table::{Table, load_average, median, quantile};

const INTEGRATION: &str = "calls";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ROUNDS: usize = 3;

/// How long an attempt may go without a sign of life: far longer than one takes here.
const LEASE: Duration = Duration::from_secs(30);

/// How many deliveries, at which concurrency.
const SHAPES: [(u32, usize); 3] = [(1, 500), (8, 3_000), (64, 6_000)];

/// How long one round may take.
const PATIENCE: Duration = Duration::from_secs(60);

type Outcomes<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcomes<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(rates())
}

async fn rates() -> Outcomes<()> {
    println!(
        "Webhook deliveries a second to one endpoint; {}",
        load_average()
    );
    println!();
    let mut table = Table::new(&["", "deliveries", "deliveries/s", "least", "most", "ratio"]);
    let mut runs = SHAPES.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((concurrency, deliveries), runs) in SHAPES.into_iter().zip(&mut runs) {
            eprintln!("{deliveries} deliveries, {concurrency} at once");
            let round = tokio::time::timeout(PATIENCE, rate(concurrency, deliveries));
            runs.push(round.await??);
        }
    }
    let first = median(&runs[0]);
    for ((concurrency, deliveries), runs) in SHAPES.into_iter().zip(&runs) {
        table.row(vec![
            format!("{concurrency} at once"),
            deliveries.to_string(),
            format!("{:.0}", median(runs)),
            format!("{:.0}", quantile(runs, 0.0).unwrap_or_default()),
            format!("{:.0}", quantile(runs, 1.0).unwrap_or_default()),
            format!("{:.2}", median(runs) / first),
        ]);
    }
    table.print();
    println!("\n{} at the end", load_average());
    Ok(())
}

/// Deliveries a second to one endpoint.
async fn rate(concurrency: u32, deliveries: usize) -> Outcomes<f64> {
    let receiver = Receiver::start().await?;
    let channel = receiver.channel(concurrency);
    let scene = Arc::new(Scene::open(&[channel])?);
    let jobs = (0..deliveries).map(|_| tokio::spawn(scene.clone().result()));
    for job in jobs.collect::<Vec<_>>() {
        job.await??;
    }
    let begun = Instant::now();
    scene.sender.start();
    receiver.until(deliveries).await;
    scene.until_delivered(deliveries as u64).await?;
    let seconds = begun.elapsed().as_secs_f64();
    scene.close().await;
    receiver.check()?;
    Ok(deliveries as f64 / seconds)
}

/// A store with a sender and its channels.
struct Scene {
    store: Arc<dyn Store>,
    deliveries: Arc<Deliveries>,
    sender: Arc<Sender>,
    lifetime: Lifetime,
    _folder: tempfile::TempDir,
}

impl Scene {
    fn open(channels: &[String]) -> Outcomes<Self> {
        // Beside the build, on a real disk: the system's temporary folder may be in memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let config = config(channels)?;
        let outbound = Outbound::new(&config.outbound, folder.path())?;
        let links = Links::new(&Links::base_of(&config), &HashKey::throwaway()?);
        let context = Context::of(&config, folder.path().to_owned(), outbound, links);
        let deliveries = Deliveries::open(&config, &context).map_err(Faults::of_all)?;
        let deliveries = Arc::new(deliveries);
        let store = store(folder.path())?;
        let lifetime = Lifetime::new("gateway".to_owned(), LEASE);
        let sender = Sender::new(
            deliveries.clone(),
            store.clone(),
            Arc::new(SystemClock),
            Arc::new(Metrics::new()),
            lifetime.clone(),
        );
        Ok(Self {
            store,
            deliveries,
            sender,
            lifetime,
            _folder: folder,
        })
    }

    /// Stores a job that has succeeded, with the deliveries of its result.
    async fn result(self: Arc<Self>) -> Result<(), String> {
        let said = |error| linkspan::logging::chain(&error);
        let id = InvocationId::new();
        let created = self.store.enqueue(job(id)).await.map_err(said)?;
        let Enqueued::Created {
            attempt: Some(attempt),
            ..
        } = created
        else {
            return Err("the job was not started".to_owned());
        };
        let mut result = ResultDocument {
            id,
            integration: INTEGRATION.to_owned(),
            status: Status::Succeeded,
            answers: Map::new(),
            steps: Vec::new(),
            error: None,
        };
        let text = "word ".repeat(200);
        result.answers.insert("text".to_owned(), json!(text));
        let now = Timestamp::now();
        let end = AttemptEnd {
            attempt,
            deliveries: self.deliveries.outbox(&result, now).await,
            outcome: Outcome::Succeeded {
                result: serde_json::to_string(&result).map_err(|error| error.to_string())?,
            },
            now,
        };
        self.store.finish(end).await.map_err(said)?;
        Ok(())
    }

    /// Waits until so many deliveries have durably ended.
    async fn until_delivered(&self, deliveries: u64) -> Outcomes<()> {
        loop {
            let endpoints = self.store.endpoints().await?;
            let tallies = endpoints.iter().flat_map(|endpoint| &endpoint.tallies);
            let delivered: u64 = tallies
                .filter(|(state, _)| *state == DeliveryState::Delivered)
                .map(|(_, count)| count)
                .sum();
            if delivered >= deliveries {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops the sender, and closes.
    async fn close(&self) {
        self.lifetime.stop.cancel();
        self.lifetime.abandon.cancel();
        self.lifetime.tasks.close();
        self.lifetime.tasks.wait().await;
        self.lifetime.closed.cancel();
        self.store.close().await;
    }
}

fn store(folder: &Path) -> Outcomes<Arc<dyn Store>> {
    let blobs = Arc::new(FileBlobs::open(folder.join("blobs"))?);
    let path = folder.join("jobs.db");
    let store = SqliteStore::open(path, SqliteOptions::default(), blobs)?;
    Ok(Arc::new(store))
}

fn config(channels: &[String]) -> Result<Config, Faults> {
    let text = format!(
        "[outbound]\nprivate_networks = [\"127.0.0.0/8\"]\n[service.mood]\ntask = \"sentiment\"\n\
         [integration.{INTEGRATION}]\npattern = \"async\"\nsteps = [\"mood\"]\ndeliver = [{}]\n",
        channels.join(", ")
    );
    let secret = |_: Reference<'_>| Ok(SECRET.to_owned());
    Config::parse(&text, "bench.toml", &secret)
}

fn job(id: InvocationId) -> NewJob {
    let now = Timestamp::now();
    NewJob {
        id,
        integration: INTEGRATION.to_owned(),
        caller: "crm".to_owned(),
        document: None,
        request: "{}".to_owned(),
        request_id: "0198f2a4-1111-7222-8333-444455556666".to_owned(),
        traceparent: None,
        idempotency: None,
        start: Some(Start {
            owner: "gateway".to_owned(),
            lease: SignedDuration::from_secs(60),
            held: false,
        }),
        max_attempts: 1,
        due: now,
        keep: SignedDuration::from_hours(24),
        now,
    }
}

/// A receiver of webhooks.
struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Inner {
    events: AtomicUsize,
    unsigned: AtomicUsize,
    come: Notify,
}

impl Receiver {
    async fn start() -> Outcomes<Self> {
        let inner = Arc::new(Inner::default());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(receive).with_state(inner.clone());
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the receiver: {error}");
            }
        });
        Ok(Self {
            address,
            inner,
            serving,
        })
    }

    /// A webhook to it, as an item of `deliver`.
    fn channel(&self, concurrency: u32) -> String {
        format!(
            "{{ webhook = \"http://{}/\", secret = \"${{env:SECRET}}\", concurrency = {concurrency} }}",
            self.address
        )
    }

    /// Waits until so many events have come.
    async fn until(&self, events: usize) {
        while self.inner.events.load(Ordering::Acquire) < events {
            self.inner.come.notified().await;
        }
    }

    fn check(&self) -> Outcomes<()> {
        match self.inner.unsigned.load(Ordering::Acquire) {
            0 => Ok(()),
            events => Err(format!("{events} events came unsigned").into()),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(inner): State<Arc<Inner>>, headers: HeaderMap, _event: Bytes) -> StatusCode {
    let signature = headers.get("webhook-signature");
    let signature = signature.and_then(|value| value.to_str().ok());
    if !signature.is_some_and(|value| value.starts_with("v1,")) {
        inner.unsigned.fetch_add(1, Ordering::AcqRel);
    }
    inner.events.fetch_add(1, Ordering::AcqRel);
    inner.come.notify_one();
    StatusCode::NO_CONTENT
}
