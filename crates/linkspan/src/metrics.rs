//! Prometheus metrics, with the field's usual names and units (seconds, bytes, `_total`).

mod streams;

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linkspan_engines::host::Stats;
use linkspan_model::{Code, Task};
use linkspan_streams::replicate::{self, State, TopicState};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::deliveries::BreakerState;
use crate::store::Endpoint;
use crate::streaming::Streams;
use streams::StreamMetrics;

/// A request's labels, by OpenTelemetry's names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// GET, POST, …
    pub http_request_method: String,
    /// The route's pattern, never the path: its cardinality is bounded.
    pub http_route: String,
    /// The status.
    pub http_response_status_code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    service: String,
    task: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InvocationLabels {
    integration: String,
    pattern: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    integration: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    task: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerEventLabels {
    task: &'static str,
    event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    integration: String,
    channel: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    integration: String,
    channel: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryStateLabels {
    integration: String,
    channel: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicationStateLabels {
    replication: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicatedLabels {
    replication: String,
    topic: String,
}

/// What replications do.
#[derive(Default)]
struct Replicated {
    states: Family<ReplicationStateLabels, Gauge>,
    stopped: Family<ReplicatedLabels, Gauge>,
    records: Family<ReplicatedLabels, Counter>,
    bytes: Family<ReplicatedLabels, Counter>,
    lag: Family<ReplicatedLabels, Gauge>,
    lag_time: Family<ReplicatedLabels, Seconds>,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Everything that is measured.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    steps: Family<StepLabels, Histogram, fn() -> Histogram>,
    invocations: Family<InvocationLabels, Counter>,
    jobs: Family<JobLabels, Gauge>,
    oldest: Seconds,
    deliveries: Family<DeliveryLabels, Counter>,
    delivery_attempts: Family<EndpointLabels, Histogram, fn() -> Histogram>,
    stored_deliveries: Family<DeliveryStateLabels, Gauge>,
    oldest_delivery: Family<EndpointLabels, Seconds>,
    breakers: Family<EndpointLabels, Gauge>,
    workers: Family<WorkerLabels, Gauge>,
    worker_events: Family<WorkerEventLabels, Counter>,
    cold_start: Family<TaskLabels, Seconds>,
    refusals: Family<ReasonLabels, Counter>,
    streams: StreamMetrics,
    replicated: Replicated,
    accepting: Gauge,
    memory: Gauge,
    open_files: Gauge,
    cpu: Seconds,
}

impl From<&Endpoint> for EndpointLabels {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            integration: endpoint.integration.clone(),
            channel: endpoint.channel.clone(),
        }
    }
}

fn latency() -> Histogram {
    // 1 ms to 65 s.
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::new_with_constructor(latency as fn() -> Histogram);
        registry.register_with_unit(
            "http_server_request_duration",
            "Time from a request's headers to its answer's",
            Unit::Seconds,
            requests.clone(),
        );
        let steps = Family::new_with_constructor(latency as fn() -> Histogram);
        registry.register_with_unit(
            "linkspan_step_duration",
            "Time that a step took, waiting included; code is ok or the problem's code",
            Unit::Seconds,
            steps.clone(),
        );
        let invocations = Family::<InvocationLabels, Counter>::default();
        registry.register(
            "linkspan_invocations",
            "Invocations that ended",
            invocations.clone(),
        );
        let jobs = Family::<JobLabels, Gauge>::default();
        registry.register("linkspan_jobs", "Jobs in the store", jobs.clone());
        let oldest = Seconds::default();
        registry.register_with_unit(
            "linkspan_oldest_queued_job_age",
            "Age of the oldest job that has not begun",
            Unit::Seconds,
            oldest.clone(),
        );
        let deliveries = Family::<DeliveryLabels, Counter>::default();
        registry.register(
            "linkspan_deliveries",
            "Attempts of deliveries that ended",
            deliveries.clone(),
        );
        let delivery_attempts = Family::new_with_constructor(latency as fn() -> Histogram);
        registry.register_with_unit(
            "linkspan_delivery_attempt_duration",
            "Time that a call of a channel took",
            Unit::Seconds,
            delivery_attempts.clone(),
        );
        let stored_deliveries = Family::<DeliveryStateLabels, Gauge>::default();
        registry.register(
            "linkspan_stored_deliveries",
            "Deliveries in the store",
            stored_deliveries.clone(),
        );
        let oldest_delivery = Family::<EndpointLabels, Seconds>::default();
        registry.register_with_unit(
            "linkspan_oldest_due_delivery_age",
            "How long the oldest delivery that is due has waited",
            Unit::Seconds,
            oldest_delivery.clone(),
        );
        let breakers = Family::<EndpointLabels, Gauge>::default();
        registry.register(
            "linkspan_delivery_breaker",
            "0: all is sent; 1: one delivery is sent to see whether the receiver is back; 2: nothing is sent for a while",
            breakers.clone(),
        );
        let replicated = Replicated::registered(&mut registry);
        let workers = Family::<WorkerLabels, Gauge>::default();
        registry.register("linkspan_workers", "Worker processes", workers.clone());
        let worker_events = Family::<WorkerEventLabels, Counter>::default();
        registry.register(
            "linkspan_worker_events",
            "What happened to worker processes since the start",
            worker_events.clone(),
        );
        let cold_start = Family::<TaskLabels, Seconds>::default();
        registry.register_with_unit(
            "linkspan_worker_cold_start_mean",
            "Mean time from a worker's start to its first request for work",
            Unit::Seconds,
            cold_start.clone(),
        );
        let refusals = Family::<ReasonLabels, Counter>::default();
        registry.register(
            "linkspan_refusals",
            "Requests that were refused, by problem code",
            refusals.clone(),
        );
        let streams = StreamMetrics::register(&mut registry);
        let accepting = Gauge::<i64>::default();
        registry.register(
            "linkspan_store_accepting",
            "1 while the store accepts new work",
            accepting.clone(),
        );
        let memory = Gauge::<i64>::default();
        registry.register_with_unit(
            "process_resident_memory",
            "Resident memory of the gateway's process",
            Unit::Bytes,
            memory.clone(),
        );
        let open_files = Gauge::<i64>::default();
        registry.register(
            "process_open_fds",
            "Open file descriptors",
            open_files.clone(),
        );
        let cpu = Seconds::default();
        registry.register_with_unit(
            "process_cpu",
            "Processor time of the gateway's process",
            Unit::Seconds,
            cpu.clone(),
        );
        let start = Seconds::default();
        start.set(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0.0, |since| since.as_secs_f64()),
        );
        registry.register_with_unit(
            "process_start_time",
            "Start of the process since the Unix epoch",
            Unit::Seconds,
            start,
        );
        registry.register(
            "linkspan_build",
            "What is running",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            registry,
            requests,
            steps,
            invocations,
            jobs,
            oldest,
            deliveries,
            delivery_attempts,
            stored_deliveries,
            oldest_delivery,
            breakers,
            workers,
            worker_events,
            cold_start,
            refusals,
            streams,
            replicated,
            accepting,
            memory,
            open_files,
            cpu,
        }
    }

    /// A request was answered.
    pub fn request(&self, labels: &RequestLabels, took: Duration) {
        self.requests
            .get_or_create(labels)
            .observe(took.as_secs_f64());
    }

    /// A request was refused.
    pub fn refusal(&self, code: Code) {
        self.refusals
            .get_or_create(&ReasonLabels {
                reason: code.name(),
            })
            .inc();
    }

    /// A step ended.
    pub fn step(&self, service: &str, task: Task, failure: Option<Code>, took: Duration) {
        let labels = StepLabels {
            service: service.to_owned(),
            task: task.name(),
            code: failure.map_or("ok", Code::name),
        };
        self.steps
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// An invocation ended.
    pub fn invocation(&self, integration: &str, pattern: &'static str, outcome: &'static str) {
        let labels = InvocationLabels {
            integration: integration.to_owned(),
            pattern,
            outcome,
        };
        self.invocations.get_or_create(&labels).inc();
    }

    /// The jobs of an integration in a state.
    pub fn set_jobs(&self, integration: &str, state: &'static str, count: u64) {
        let labels = JobLabels {
            integration: integration.to_owned(),
            state,
        };
        self.jobs
            .get_or_create(&labels)
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How the store does.
    pub fn set_store(&self, accepting: bool, oldest: Option<Duration>) {
        self.accepting.set(i64::from(accepting));
        self.oldest.set(oldest.map_or(0.0, |age| age.as_secs_f64()));
    }

    /// An attempt of a delivery ended.
    pub fn delivery(&self, endpoint: &Endpoint, outcome: &'static str) {
        let Endpoint {
            integration,
            channel,
        } = endpoint.clone();
        let labels = DeliveryLabels {
            integration,
            channel,
            outcome,
        };
        self.deliveries.get_or_create(&labels).inc();
    }

    /// A channel was called.
    pub fn delivery_attempt(&self, endpoint: &Endpoint, took: Duration) {
        self.delivery_attempts
            .get_or_create(&endpoint.into())
            .observe(took.as_secs_f64());
    }

    /// The deliveries of an endpoint in a state.
    pub fn set_deliveries(&self, endpoint: &Endpoint, state: &'static str, count: u64) {
        let Endpoint {
            integration,
            channel,
        } = endpoint.clone();
        let labels = DeliveryStateLabels {
            integration,
            channel,
            state,
        };
        self.stored_deliveries
            .get_or_create(&labels)
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How long the oldest due delivery of an endpoint has waited.
    pub fn set_oldest_delivery(&self, endpoint: &Endpoint, age: Duration) {
        self.oldest_delivery
            .get_or_create(&endpoint.into())
            .set(age.as_secs_f64());
    }

    /// How an endpoint's breaker stands.
    pub fn set_breaker(&self, endpoint: &Endpoint, state: BreakerState) {
        self.breakers
            .get_or_create(&endpoint.into())
            .set(match state {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            });
    }

    /// How the readers of streams do.
    pub fn set_streams(&self, streams: &Streams) {
        for reader in streams.iter() {
            self.streams.set(reader);
        }
    }

    /// What the workers of a task's engine do.
    pub fn set_workers(&self, task: Task, stats: &Stats) {
        let labels = |state| WorkerLabels {
            task: task.name(),
            state,
        };
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.workers
            .get_or_create(&labels("busy"))
            .set(count(stats.busy));
        self.workers
            .get_or_create(&labels("idle"))
            .set(count(stats.running.saturating_sub(stats.busy)));
        let events = [
            ("cold-start", stats.cold_starts),
            ("recycled", stats.recycled),
            ("crashed", stats.crashed),
            ("timed-out", stats.timed_out),
            ("idled-out", stats.idled_out),
            ("failed-start", stats.failed_starts),
        ];
        for (event, total) in events {
            let counter = self.worker_events.get_or_create(&WorkerEventLabels {
                task: task.name(),
                event,
            });
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        let mean = self
            .cold_start
            .get_or_create(&TaskLabels { task: task.name() });
        mean.set(stats.cold_start_mean().unwrap_or_default().as_secs_f64());
    }

    /// How the replications do.
    pub fn set_replications(&self, all: &[replicate::Status]) {
        // A topic that is no longer there is no longer told of.
        self.replicated.stopped.clear();
        self.replicated.lag.clear();
        self.replicated.lag_time.clear();
        for status in all {
            self.replicated.set(status);
        }
    }

    /// The page that Prometheus reads (OpenMetrics text, version 1.0.0).
    #[must_use]
    pub fn page(&self) -> String {
        self.read_process();
        let mut page = String::new();
        if encode(&mut page, &self.registry).is_err() {
            let _ = write!(page, "# the metrics cannot be written\n# EOF\n");
        }
        page
    }

    /// What Linux says of this process; elsewhere the values stay zero.
    fn read_process(&self) {
        if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
            && let Some(pages) = statm
                .split(' ')
                .nth(1)
                .and_then(|pages| pages.parse::<i64>().ok())
        {
            self.memory.set(pages * rustix::param::page_size() as i64);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files
                .set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
        let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        self.cpu
            .set(usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9);
    }
}

impl Replicated {
    fn registered(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register(
            "linkspan_replication_state",
            "1 for the state that a replication is in, 0 for the others",
            all.states.clone(),
        );
        registry.register(
            "linkspan_replication_topic_stopped",
            "1 where a topic is not copied until somebody does something, 0 where it is",
            all.stopped.clone(),
        );
        registry.register(
            "linkspan_replicated_records",
            "Records that were copied and committed",
            all.records.clone(),
        );
        registry.register_with_unit(
            "linkspan_replicated",
            "Keys and values of records that were copied and committed",
            Unit::Bytes,
            all.bytes.clone(),
        );
        registry.register(
            "linkspan_replication_lag",
            "Offsets of the source that are not copied yet",
            all.lag.clone(),
        );
        registry.register_with_unit(
            "linkspan_replication_lag",
            "Age of the last copied record while there is a lag",
            Unit::Seconds,
            all.lag_time.clone(),
        );
        all
    }

    fn set(&self, status: &replicate::Status) {
        let now = match status.state {
            State::Starting => "starting",
            State::Running => "running",
            State::Standby => "standby",
            State::Waiting(_) => "waiting",
            State::Failed(_) => "failed",
            State::Stopped | State::Seen => "stopped",
        };
        for state in [
            "starting", "running", "standby", "waiting", "failed", "stopped",
        ] {
            let labels = ReplicationStateLabels {
                replication: status.name.clone(),
                state,
            };
            self.states
                .get_or_create(&labels)
                .set(i64::from(state == now));
        }
        for topic in &status.topics {
            let labels = ReplicatedLabels {
                replication: status.name.clone(),
                topic: topic.source.clone(),
            };
            let stopped = matches!(topic.state, TopicState::Stopped(_));
            self.stopped.get_or_create(&labels).set(i64::from(stopped));
            for (counter, total) in [(&self.records, topic.records), (&self.bytes, topic.bytes)] {
                let counter = counter.get_or_create(&labels);
                counter.inc_by(total.saturating_sub(counter.get()));
            }
            if let Some(lag) = topic.lag() {
                self.lag.get_or_create(&labels).set(lag);
            }
            if let Some(time) = topic.lag_time() {
                self.lag_time.get_or_create(&labels).set(time.as_secs_f64());
            }
        }
    }
}
