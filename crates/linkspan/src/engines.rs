//! The engines of a configuration, and the integrations bound to them. No server and no store: `linkspan run` uses it as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use linkspan_engines::host::{Limits, WorkerPool, WorkerSpec};
use linkspan_engines::{Isolation, registry};
use linkspan_model::Task;
use linkspan_model::config::Config;
use tokio::sync::Notify;

use crate::engine::{Engine, Hosted, InProcess};
use crate::integration::Integration;
use crate::metrics::Metrics;
use crate::pipeline::{Pipeline, Step};

/// The engines, one for each task that a service has.
pub struct Engines(Vec<(Task, Arc<dyn Engine>)>);

/// Why the engines cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum EnginesError {
    /// There is no built-in engine for a task.
    #[error("no engine performs the task {0} in this version")]
    NoEngine(Task),
    /// The folder for the workers' documents, or this program's own path, is not to be had.
    #[error("cannot set up worker processes")]
    Workers(#[source] std::io::Error),
    /// The options of services are wrong.
    #[error("{}", .0.join("\n"))]
    Options(Vec<String>),
}

impl Engines {
    /// The engines that a configuration needs. Nothing is started: workers start when work comes.
    ///
    /// # Errors
    ///
    /// When a task has no engine, an option is wrong, or workers cannot be set up.
    pub fn new(config: &Config) -> Result<Self, EnginesError> {
        let faults = crate::configuration::check_options(config);
        if !faults.is_empty() {
            return Err(EnginesError::Options(faults));
        }
        let mut engines: Vec<(Task, Arc<dyn Engine>)> = Vec::new();
        for service in config.services.values() {
            if engines.iter().any(|(task, _)| *task == service.task) {
                continue;
            }
            let builtin =
                registry::builtin(service.task).ok_or(EnginesError::NoEngine(service.task))?;
            let engine: Arc<dyn Engine> = match builtin.isolation() {
                Isolation::InProcess => Arc::new(InProcess::new(builtin)),
                Isolation::Worker => Arc::new(Hosted::new(
                    workers(config, service.task).map_err(EnginesError::Workers)?,
                )),
            };
            engines.push((service.task, engine));
        }
        Ok(Self(engines))
    }

    /// Engines of one's own, each for a task.
    #[must_use]
    pub fn of(engines: Vec<(Task, Arc<dyn Engine>)>) -> Self {
        Self(engines)
    }

    /// The integrations of the configuration, bound to these engines. `freed` is told of each place that gets free.
    #[must_use]
    pub fn integrations(
        &self,
        config: &Config,
        metrics: &Arc<Metrics>,
        freed: &Arc<Notify>,
    ) -> BTreeMap<String, Arc<Integration>> {
        config
            .integrations
            .iter()
            .map(|(name, given)| {
                let steps = config
                    .steps(given)
                    .filter_map(|(service, declared)| {
                        let (task, engine) =
                            self.0.iter().find(|(task, _)| *task == declared.task)?;
                        Some(Step {
                            service: service.to_string(),
                            task: *task,
                            engine: engine.clone(),
                            options: Arc::new(declared.options.as_map().clone()),
                            parameters: registry::builtin(*task)
                                .map_or(&[], |builtin| builtin.parameters()),
                        })
                    })
                    .collect();
                let pipeline = Pipeline::new(name.to_string(), steps, metrics.clone());
                let integration = Integration::new(name, config, given, pipeline, freed.clone());
                (name.to_string(), Arc::new(integration))
            })
            .collect()
    }

    /// Sets the gauges of the workers.
    pub fn measure(&self, metrics: &Metrics) {
        for (task, engine) in &self.0 {
            if let Some(stats) = engine.workers() {
                metrics.set_workers(*task, &stats);
            }
        }
    }

    /// Ends the workers. Nothing may be under way any more.
    pub async fn shutdown(&self) {
        for (_, engine) in &self.0 {
            engine.shutdown().await;
        }
    }
}

/// What one kind of worker may use.
pub(crate) fn worker_limits(config: &Config) -> Limits {
    let given = &config.worker;
    let defaults = Limits::default();
    Limits {
        max_workers: given
            .max_workers
            .map_or(defaults.max_workers, |most| most as usize),
        time_limit: given.time_limit,
        start_timeout: defaults.start_timeout,
        idle_timeout: given.idle_timeout,
        recycle_after: given.recycle_after,
        memory: given.memory_limit.bytes(),
        max_answer: usize::try_from(given.max_answer.bytes()).unwrap_or(usize::MAX),
    }
}

/// Workers for a task: this program again, with the hidden verb.
fn workers(config: &Config, task: Task) -> std::io::Result<WorkerPool> {
    let spec = WorkerSpec::own(
        task.name(),
        std::env::current_exe()?,
        ["worker", task.name()],
    );
    WorkerPool::new(spec, worker_limits(config))
}
