//! The running gateway: integrations with their pipelines and limits, the store, and what stops it all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use linkspan_model::config::{Config, Faults};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::channels::Context;
use crate::deliveries::{Deliveries, Lifetime, Sender, SystemClock};
use crate::engines::Engines;
use crate::http::console::Console;
use crate::integration::Integration;
use crate::keys::HashKey;
use crate::links::Links;
use crate::logging;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::preview::Previews;
use crate::replication::Replications;
use crate::runner::{self, InFlight};
use crate::store::{
    self, Blobs, Change, Enqueued, ErrorKind, Health, NewJob, Retention, Store, StoreError, signed,
};
use crate::streaming::own::OwnStreams;
use crate::streaming::{Clusters, Streams, check_clusters};

/// The longest pause between two looks for what other gateways left behind.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A gateway. One per process; every request and every attempt shares it.
pub struct Gateway {
    /// What it was configured with.
    pub config: Config,
    /// The integrations, by name.
    pub integrations: BTreeMap<String, Arc<Integration>>,
    /// Jobs, keys and the audit log.
    pub store: Arc<dyn Store>,
    /// Documents that are too big for a row.
    pub blobs: Arc<dyn Blobs>,
    /// Who may do what.
    pub auth: Auth,
    /// The way out to others.
    pub outbound: Outbound,
    /// Makes and checks links to results.
    pub links: Links,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// The channels by which results leave.
    pub deliveries: Arc<Deliveries>,
    /// What reads streams.
    pub streams: Streams,
    /// What copies topics between clusters.
    pub replications: Replications,
    /// The gateway's own Kinesis streams, where it has some.
    pub own_streams: Option<OwnStreams>,
    /// The Kafka clusters that channels write to.
    pub clusters: Clusters,
    /// What the configuration's paths are relative to.
    pub folder: PathBuf,
    /// What sends them.
    pub sender: Arc<Sender>,
    /// This gateway's name in the store: new at each start.
    pub owner: String,
    /// When it started.
    pub started: Instant,
    /// What the console keeps in memory.
    pub console: Console,
    /// The attempts under way.
    pub in_flight: InFlight,
    /// Told of each place that gets free.
    pub place_freed: Arc<Notify>,
    /// The attempts' tasks.
    pub tasks: TaskTracker,
    /// Cancelled first: accept and claim no more.
    pub stop: CancellationToken,
    /// Cancelled when the drain time is over: give attempts back.
    pub abandon: CancellationToken,
    /// Cancelled last: nothing is under way any more.
    pub closed: CancellationToken,
    /// Pictures of documents' pages.
    pub previews: Previews,
    engines: Engines,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key with which secrets are hashed is not there and cannot be made.
    #[error(transparent)]
    HashKey(#[from] crate::keys::HashKeyError),
    /// The engines cannot be set up.
    #[error(transparent)]
    Engines(#[from] crate::engines::EnginesError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// Others cannot be called.
    #[error(transparent)]
    Outbound(#[from] crate::outbound::OutboundError),
    /// The gateway's own streams cannot be opened.
    #[error(transparent)]
    Streams(#[from] crate::streaming::own::OwnStreamsError),
    /// A replication cannot be set up.
    #[error(transparent)]
    Replications(#[from] crate::replication::ReplicationError),
    /// The channels cannot be opened.
    #[error(transparent)]
    Channels(#[from] Faults),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {listen} (server.listen or --listen names another address)")]
    Listen {
        /// The address.
        listen: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Gateway {
    /// Opens the store, takes back what an earlier gateway left unfinished, and starts the runner. `folder` is what the
    /// configuration's paths are relative to.
    ///
    /// # Errors
    ///
    /// When the store or the hash key cannot be opened.
    pub async fn start(
        config: Config,
        folder: &Path,
        engines: Engines,
    ) -> Result<Arc<Self>, StartError> {
        let metrics = Arc::new(Metrics::new());
        let place_freed = Arc::new(Notify::new());
        let integrations = engines.integrations(&config, &metrics, &place_freed);
        let (store, blobs) = store::open(&config, folder).await?;
        let auth = Auth::open(&config, folder, &*store).await?;
        let outbound = Outbound::new(&config.outbound, folder)?;
        let hash_key = HashKey::of(&config, folder, &*store).await?;
        let links = Links::new(&Links::base_of(&config), &hash_key);
        let faults = check_clusters(&config, folder);
        if !faults.is_empty() {
            return Err(StartError::Channels(Faults::of_all(faults)));
        }
        let own_streams = OwnStreams::open(&config, folder, &hash_key).await?;
        let context = Context::of(&config, folder.to_owned(), outbound.clone(), links.clone())
            .with_own_streams(own_streams.as_ref().map(|own| own.service().clone()));
        let clusters = context.kafka.clone();
        let deliveries = Deliveries::open(&config, &context).map_err(Faults::of_all)?;
        let deliveries = Arc::new(deliveries);
        let owner = uuid::Uuid::now_v7().to_string();
        let lifetime = Lifetime::new(owner, config.store.lease);
        let sender = Sender::new(
            deliveries.clone(),
            store.clone(),
            Arc::new(SystemClock),
            metrics.clone(),
            lifetime.clone(),
        );
        let Lifetime {
            owner,
            tasks,
            stop,
            abandon,
            closed,
            ..
        } = lifetime;
        let gateway = Arc::new(Self {
            streams: Streams::of(&config, &integrations, folder),
            replications: Replications::of(&config, folder)?,
            own_streams,
            clusters,
            folder: folder.to_owned(),
            integrations,
            store,
            blobs,
            auth,
            outbound,
            links,
            metrics,
            deliveries,
            sender,
            owner,
            started: Instant::now(),
            console: Console::default(),
            in_flight: InFlight::default(),
            place_freed,
            tasks,
            stop,
            abandon,
            closed,
            previews: Previews::new(&config),
            engines,
            config,
        });
        if gateway.store.is_shared() {
            // From here on it is changed: a copy into it would undo that.
            let owner = gateway.owner.clone().into_bytes();
            gateway.store.settle(store::copy::IN_USE, owner).await?;
        }
        // What runs on a store that others share is perhaps theirs.
        let alone = !gateway.store.is_shared();
        runner::recover(&gateway, alone).await?;
        gateway.sender.recover(alone).await?;
        gateway.measure().await;
        gateway.sender.note_unknown().await;
        tokio::spawn(runner::run(gateway.clone()));
        tokio::spawn(runner::keep_leases(gateway.clone()));
        gateway.sender.start();
        gateway.streams.start(&gateway);
        gateway.replications.start(&gateway)?;
        tokio::spawn(gateway.clone().keep());
        tokio::spawn(gateway.clone().take_over());
        Ok(gateway)
    }

    /// Accepts a job durably. The call goes on when its caller goes away, so that what was accepted is also run.
    ///
    /// # Errors
    ///
    /// As [`JobStore::enqueue`](crate::store::JobStore::enqueue); also where only the blobs fail, whatever the job's size: a disk that
    /// fails is not trusted with a part. Blobs that cannot be reached keep only large documents out, and these are not here.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        if let Health::Refusing(kind) = self.blobs.health()
            && kind != ErrorKind::Unreachable
        {
            return Err(StoreError::new(kind, "enqueue a job"));
        }
        self.store.enqueue(job).await
    }

    /// Whether new work is accepted.
    ///
    /// # Errors
    ///
    /// A sentence that says why not.
    pub fn readiness(&self) -> Result<(), String> {
        if self.stop.is_cancelled() {
            return Err("the gateway is stopping".to_owned());
        }
        for health in [self.store.health(), self.blobs.health()] {
            if let Health::Refusing(kind) = health {
                return Err(format!("the store does not accept: {kind}"));
            }
        }
        Ok(())
    }

    /// Waits for a job's change. False where none came until `end`, or the gateway stops: nobody may hold up its drain by waiting.
    pub async fn waited(
        &self,
        end: tokio::time::Instant,
        change: impl Future<Output = Change>,
    ) -> bool {
        self.stop
            .run_until_cancelled(tokio::time::timeout_at(end, change))
            .await
            .is_some_and(|waited| waited.is_ok())
    }

    /// Stops accepting and claiming, lets attempts end within the drain time, and gives the rest back.
    pub async fn drain(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.config.server.drain_timeout, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                attempts = self.in_flight.count(),
                deliveries = self.sender.count(),
                "drain_timeout is over; unfinished jobs and deliveries are given back, for the next start"
            );
            self.abandon.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await;
        }
    }

    /// Ends the workers and closes the store. Nothing may be under way any more.
    pub async fn close(&self) {
        self.abandon.cancel();
        // A worker that is busy for a connection that was cut off is killed with its pool.
        let workers = async { tokio::join!(self.engines.shutdown(), self.previews.shutdown()) };
        let _ = tokio::time::timeout(Duration::from_secs(5), workers).await;
        self.closed.cancel();
        self.clusters.close().await;
        self.store.close().await;
    }

    /// Sets the gauges and the queues' lengths from the store.
    pub async fn measure(&self) {
        self.metrics.set_streams(&self.streams);
        let counts = match self.store.counts().await {
            Ok(counts) => counts,
            Err(error) => {
                tracing::warn!(error = logging::chain(&error), "jobs cannot be counted");
                return;
            }
        };
        for (name, integration) in &self.integrations {
            let mut queued = 0;
            for state in linkspan_model::JobState::ALL {
                let count = counts
                    .tallies
                    .iter()
                    .find(|tally| tally.integration == *name && tally.state == state)
                    .map_or(0, |tally| tally.jobs);
                self.metrics.set_jobs(name, state.name(), count);
                if matches!(
                    state,
                    linkspan_model::JobState::Queued | linkspan_model::JobState::Waiting
                ) {
                    queued += i64::try_from(count).unwrap_or(i64::MAX);
                }
            }
            integration.set_queued(queued);
        }
        let oldest = counts
            .oldest_due
            .and_then(|due| Duration::try_from(Timestamp::now().duration_since(due)).ok());
        self.metrics.set_store(self.readiness().is_ok(), oldest);
        self.engines.measure(&self.metrics);
        self.metrics.set_replications(&self.replications.status());
        if let Err(error) = self.sender.measure().await {
            tracing::warn!(
                error = logging::chain(&error),
                "deliveries cannot be counted"
            );
        }
    }

    /// Takes over what other gateways left behind, until this one is closed. It looks several times a lease: what a gateway that died
    /// had under way waits little longer than its lease.
    async fn take_over(self: Arc<Self>) {
        let pause = (self.config.store.lease / 6).min(LONGEST_PAUSE);
        while self
            .closed
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
        {
            if let Err(error) = runner::recover(&self, false).await {
                tracing::warn!(
                    error = logging::chain(&error),
                    "lost attempts cannot be recovered"
                );
            }
            if let Err(error) = self.sender.recover(false).await {
                tracing::warn!(
                    error = logging::chain(&error),
                    "lost deliveries cannot be recovered"
                );
            }
        }
    }

    /// The gateway's own housekeeping, until it is closed.
    async fn keep(self: Arc<Self>) {
        let retention = Retention {
            rows: signed(self.config.store.row_retention),
            audit: signed(self.config.store.audit_retention),
        };
        let mut turn = 0_u32;
        while self
            .closed
            .run_until_cancelled(tokio::time::sleep(Duration::from_secs(5)))
            .await
            .is_some()
        {
            self.measure().await;
            turn = turn.wrapping_add(1);
            if !turn.is_multiple_of(6) {
                continue;
            }
            loop {
                match self.store.sweep(retention, Timestamp::now()).await {
                    Ok(swept) if swept.more => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(error = logging::chain(&error), "the store cannot be swept");
                        break;
                    }
                }
            }
        }
    }
}
