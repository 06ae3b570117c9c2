//! The running gateway: integrations with their pipelines and limits, the store, and what stops it all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use linkspan_model::config::{self, Config, Overflow, Pattern};
use linkspan_model::task::Takes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Gate;
use crate::auth::Auth;
use crate::backoff::Backoff;
use crate::engines::Engines;
use crate::logging;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::runner::{self, InFlight};
use crate::store::{
    Blobs, Enqueued, FileBlobs, Health, NewJob, Retention, SqliteOptions, SqliteStore, Store,
    StoreError,
};

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
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// This gateway's name in the store: new at each start.
    pub owner: String,
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
    engines: Engines,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// One integration, ready to be invoked.
pub struct Integration {
    /// Its name.
    pub name: String,
    /// How its answers come back.
    pub pattern: Pattern,
    /// What a request brings: a document or a text.
    pub takes: Takes,
    /// Its steps.
    pub pipeline: Pipeline,
    /// How much it does at once.
    pub gate: Gate,
    /// How much it does at once, as configured.
    pub concurrency: usize,
    /// How many calls may wait.
    pub queue: usize,
    /// How many jobs may wait.
    pub backlog: i64,
    /// How long a caller waits.
    pub deadline: Duration,
    /// What happens then.
    pub overflow: Overflow,
    /// The largest body in bytes.
    pub max_body: u64,
    /// How often a job is tried.
    pub attempts: u32,
    /// How long one attempt of a job may take.
    pub attempt_time_limit: Duration,
    /// The waits between attempts.
    pub backoff: Backoff,
    /// How long a job's document and result are kept.
    pub retention: SignedDuration,
    /// How long an idempotency key holds.
    pub idempotency_ttl: SignedDuration,
    queued: AtomicI64,
}

impl Integration {
    /// The integration as it is configured.
    #[must_use]
    pub fn new(
        name: &config::IntegrationName,
        config: &Config,
        given: &config::Integration,
        pipeline: Pipeline,
        freed: Arc<Notify>,
    ) -> Self {
        let concurrency = given.concurrency as usize;
        let queue = given.queue as usize;
        Self {
            name: name.to_string(),
            pattern: given.pattern,
            takes: config.takes(given),
            pipeline,
            gate: Gate::new(concurrency, queue, freed),
            concurrency,
            queue,
            backlog: i64::from(given.backlog),
            deadline: given.deadline,
            overflow: given.overflow,
            max_body: config.max_body(given).bytes(),
            attempts: given.attempts,
            attempt_time_limit: given.attempt_time_limit,
            backoff: Backoff {
                first: given.backoff.first,
                max: given.backoff.max,
            },
            retention: signed(config.retention(given)),
            idempotency_ttl: signed(config.store.idempotency_ttl),
            queued: AtomicI64::new(0),
        }
    }

    /// Whether another job may join those that wait. The count is this gateway's own, set right from the store every few seconds.
    #[must_use]
    pub fn accepts_another_job(&self) -> bool {
        self.queued.load(Ordering::Relaxed) < self.backlog
    }

    /// A job waits.
    pub fn job_accepted(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// A job that waited has started.
    pub fn job_started(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key with which secrets are hashed is not there and cannot be made.
    #[error("cannot use the hash key {path}")]
    HashKey {
        /// Its file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The engines cannot be set up.
    #[error(transparent)]
    Engines(#[from] crate::engines::EnginesError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
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
        let blobs: Arc<dyn Blobs> =
            Arc::new(FileBlobs::open(folder.join(config.store.blobs.path()))?);
        let jobs = folder.join(config.store.jobs.path());
        let options = SqliteOptions {
            max_size: Some(config.store.max_size.bytes()),
        };
        let store = SqliteStore::open(&jobs, options, blobs.clone())?;
        let auth = Auth::open(&config, &jobs)?;
        let gateway = Arc::new(Self {
            integrations,
            store: Arc::new(store),
            blobs,
            auth,
            metrics,
            owner: uuid::Uuid::now_v7().to_string(),
            in_flight: InFlight::default(),
            place_freed,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            closed: CancellationToken::new(),
            engines,
            config,
        });
        runner::recover(&gateway, true).await?;
        gateway.measure().await;
        tokio::spawn(runner::run(gateway.clone()));
        tokio::spawn(runner::keep_leases(gateway.clone()));
        tokio::spawn(gateway.clone().keep());
        Ok(gateway)
    }

    /// Accepts a job durably. The call goes on when its caller goes away, so that what was accepted is also run.
    ///
    /// # Errors
    ///
    /// As [`JobStore::enqueue`](crate::store::JobStore::enqueue).
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
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

    /// Stops accepting and claiming, lets attempts end within the drain time, gives the rest back, and closes the store.
    pub async fn drain(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(self.config.server.drain_timeout, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                attempts = self.in_flight.count(),
                "drain_timeout is over; unfinished jobs are given back and run at the next start"
            );
            self.abandon.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await;
        }
        self.abandon.cancel();
        // A worker that is busy for a connection that was cut off is killed with its pool.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.engines.shutdown()).await;
        self.closed.cancel();
        self.store.close().await;
    }

    /// Sets the gauges and the queues' lengths from the store.
    pub async fn measure(&self) {
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
            integration.queued.store(queued, Ordering::Relaxed);
        }
        let oldest = counts
            .oldest_due
            .and_then(|due| Duration::try_from(Timestamp::now().duration_since(due)).ok());
        self.metrics.set_store(self.readiness().is_ok(), oldest);
        self.engines.measure(&self.metrics);
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
            if let Err(error) = runner::recover(&self, false).await {
                tracing::warn!(
                    error = logging::chain(&error),
                    "lost attempts cannot be recovered"
                );
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

/// A duration as the store takes it.
#[must_use]
pub fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
