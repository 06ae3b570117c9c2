//! One integration: its steps, its limits, and how much of it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use linkspan_model::config::{self, Config, Overflow, Pattern};
use linkspan_model::task::Takes;
use tokio::sync::Notify;

use crate::admission::Gate;
use crate::backoff::Backoff;
use crate::pipeline::Pipeline;
use crate::recent::Recent;
use crate::store::signed;

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
    /// What it did in the last minute, on this gateway.
    pub recent: Recent,
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
            recent: Recent::default(),
            queued: AtomicI64::new(0),
        }
    }

    /// Sets how many jobs wait, as the store has counted them.
    pub fn set_queued(&self, jobs: i64) {
        self.queued.store(jobs, Ordering::Relaxed);
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
