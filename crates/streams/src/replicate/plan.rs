//! Which topics are copied, and the target's topics brought in step with the source's.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, NewPartitions, NewTopic,
    OwnedResourceSpecifier, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use tokio::runtime::Runtime;

use super::clients::{self, ANSWER, Quiet};
use super::cycle::{self, Chains};
use super::describe::{self, Described};
use super::in_step::{self, BATCH, Configs, largest, own};
use super::{ReplicateError, Settings, error, progress};
use crate::kafka::ErrorKind;

/// What is to be copied now.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) topics: Vec<Planned>,
    /// Whether a topic was made and is not there yet.
    pub(super) pending: bool,
}

/// A topic to copy.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) source_id: String,
    pub(super) target_id: String,
    /// Of the source.
    pub(super) partitions: i32,
    /// The largest batch that the target takes, in bytes.
    pub(super) batch: usize,
    pub(super) chain: Vec<String>,
    /// Why it is not copied.
    pub(super) refused: Option<String>,
    /// What could not be kept in step, though it is copied.
    pub(super) warning: Option<String>,
}

/// Makes plans. Its calls wait for the clusters.
pub(super) struct Planner {
    settings: Settings,
    pub(super) source: AdminClient<Quiet>,
    target: AdminClient<Quiet>,
    runtime: Runtime,
    pub(super) source_cluster: String,
    pub(super) target_cluster: String,
}

/// How long a new topic is waited for.
const MADE: Duration = Duration::from_secs(5);

impl Planner {
    /// Reaches both clusters. An error when they are one.
    pub(super) fn new(settings: &Settings) -> Result<Self, ReplicateError> {
        let source = clients::admin(&settings.source, "source")?;
        let target = clients::admin(&settings.target, "target")?;
        let source_cluster = cluster_id(&source, "source")?;
        let target_cluster = cluster_id(&target, "target")?;
        if source_cluster == target_cluster {
            return Err(ReplicateError::settings(format!(
                "the source and the target of the replication {} are the same cluster ({source_cluster}): what is copied would be copied again",
                settings.name
            )));
        }
        Ok(Self {
            settings: settings.clone(),
            source,
            target,
            runtime: progress::runtime()?,
            source_cluster,
            target_cluster,
        })
    }

    /// Looks at both sides, and makes, widens and sets the target's topics.
    pub(super) fn plan(&self) -> Result<Plan, ReplicateError> {
        let names = self.names()?;
        let sources = self.describe(&self.source, "source", &names)?;
        let names: Vec<String> = names
            .into_iter()
            .filter(|name| sources.contains_key(name))
            .collect();
        let targets: Vec<String> = names.iter().map(|name| self.target_name(name)).collect();
        let chains = self.chains()?;
        let wanted = self.configs(&self.source, "source", &names)?;
        let mut there = self.describe(&self.target, "target", &targets)?;
        let mut refused: BTreeMap<&str, String> = BTreeMap::new();
        for name in &names {
            let why = cycle::refusal(&chains, name, &self.target_cluster, &self.settings.name);
            if let Some(why) = why {
                refused.insert(name, why);
            }
        }
        let mut made = false;
        for name in &names {
            let target = self.target_name(name);
            if refused.contains_key(name.as_str()) {
                continue;
            }
            let partitions = sources.get(name).map_or(1, |topic| topic.partitions);
            let changed = match there.get(&target) {
                None => self.create(&target, partitions, &own(&wanted, name)),
                Some(known) if known.partitions < partitions => self.widen(&target, partitions),
                Some(_) => continue,
            };
            made = true;
            if let Err(why) = changed {
                refused.insert(name, why.to_string());
            }
        }
        let end = Instant::now() + MADE;
        while made {
            there = self.describe(&self.target, "target", &targets)?;
            let missing = |name: &&String| {
                !refused.contains_key(name.as_str()) && !there.contains_key(&self.target_name(name))
            };
            // Brokers learn of a new topic a moment after it was made.
            made = names.iter().any(|name| missing(&name)) && Instant::now() < end;
            if made {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let existing: Vec<String> = there.keys().cloned().collect();
        let kept = self.configs(&self.target, "target", &existing)?;
        let mut plan = Plan::default();
        for name in &names {
            let target = self.target_name(name);
            let (Some(source), known) = (sources.get(name), there.get(&target)) else {
                continue;
            };
            let mut why = refused.remove(name.as_str());
            let mut warning = None;
            match known {
                None if why.is_none() => {
                    why = Some(format!("the topic {target} is not on the target yet"));
                    plan.pending = true;
                }
                Some(_) if why.is_none() => {
                    let set = self.keep_in_step(&target, &own(&wanted, name), kept.get(&target));
                    warning = set.err().map(|why| why.to_string());
                }
                _ => {}
            }
            plan.topics.push(Planned {
                source: name.clone(),
                source_id: source.id.clone(),
                target_id: known.map(|known| known.id.clone()).unwrap_or_default(),
                partitions: source.partitions,
                batch: largest(kept.get(&target)).min(BATCH),
                chain: chains.get(name).cloned().unwrap_or_default(),
                refused: why,
                warning,
                target,
            });
        }
        Ok(plan)
    }

    /// From where the source's topics were brought there.
    pub(super) fn chains(&self) -> Result<Chains, ReplicateError> {
        cycle::chains(&self.settings, &self.source_cluster)
    }

    fn target_name(&self, topic: &str) -> String {
        self.settings.naming.target(topic)
    }

    fn names(&self) -> Result<Vec<String>, ReplicateError> {
        let client = self.source.inner();
        let metadata = client.fetch_metadata(None, ANSWER).map_err(|fault| {
            ReplicateError::new("ask the source cluster for its topics", &fault)
        })?;
        let names = metadata.topics().iter().map(MetadataTopic::name);
        Ok(names
            .filter(|name| self.settings.takes(name))
            .map(str::to_owned)
            .collect())
    }

    fn describe(
        &self,
        admin: &AdminClient<Quiet>,
        side: &str,
        names: &[String],
    ) -> Result<HashMap<String, Described>, ReplicateError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        describe::topics(admin.inner(), &names, ANSWER).map_err(|code| {
            let attempted = format!("ask the {side} cluster for its topics");
            ReplicateError::of_kind(attempted, ErrorKind::of(code))
        })
    }

    fn configs(
        &self,
        admin: &AdminClient<Quiet>,
        side: &str,
        names: &[String],
    ) -> Result<Configs, ReplicateError> {
        if names.is_empty() {
            return Ok(Configs::new());
        }
        let attempted = format!("ask the {side} cluster for the settings of its topics");
        let resources: Vec<_> = names
            .iter()
            .map(|name| ResourceSpecifier::Topic(name))
            .collect();
        let asked = admin.describe_configs(&resources, &options());
        let told = self.runtime.block_on(asked);
        let told = told.map_err(|fault| ReplicateError::new(&attempted, &fault))?;
        Ok(told
            .into_iter()
            .filter_map(|resource| {
                let resource = resource.ok()?;
                match &resource.specifier {
                    OwnedResourceSpecifier::Topic(name) => Some((name.clone(), resource)),
                    _ => None,
                }
            })
            .collect())
    }

    fn create(
        &self,
        topic: &str,
        partitions: i32,
        config: &BTreeMap<&str, &str>,
    ) -> Result<(), ReplicateError> {
        let copies = self.settings.replication_factor.unwrap_or(-1);
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(copies))
            .set("message.timestamp.type", "CreateTime");
        for (name, value) in config {
            new = new.set(name, value);
        }
        let made = self.target.create_topics([&new], &options());
        let attempted = format!("make the topic {topic} on the target");
        match first(self.runtime.block_on(made)) {
            Err(fault) if fault.rdkafka_error_code() != Some(Code::TopicAlreadyExists) => {
                Err(ReplicateError::new(attempted, &fault))
            }
            _ => Ok(()),
        }
    }

    fn widen(&self, topic: &str, partitions: i32) -> Result<(), ReplicateError> {
        let count = usize::try_from(partitions).unwrap_or_default();
        let new = NewPartitions::new(topic, count);
        let widened = self.target.create_partitions([&new], &options());
        first(self.runtime.block_on(widened)).map_err(|fault| {
            ReplicateError::new(
                format!("give the topic {topic} on the target {partitions} partitions"),
                &fault,
            )
        })
    }

    /// Gives the target's topic what is set on the source's, and takes from it what is set there no more.
    fn keep_in_step(
        &self,
        topic: &str,
        wanted: &BTreeMap<&str, &str>,
        kept: Option<&ConfigResource>,
    ) -> Result<(), ReplicateError> {
        let Some(kept) = kept else { return Ok(()) };
        let Some(set) = in_step::with(wanted, kept) else {
            return Ok(());
        };
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        // This call replaces all that is set.
        for (name, value) in &set {
            change = change.set(name, value);
        }
        let changed = self.target.alter_configs([&change], &options());
        let attempted = format!("set the settings of the topic {topic} on the target");
        match self.runtime.block_on(changed) {
            Err(fault) => Err(ReplicateError::new(attempted, &fault)),
            Ok(results) => match results.into_iter().next() {
                Some(Err((_, code))) => {
                    Err(ReplicateError::of_kind(attempted, ErrorKind::of(code)))
                }
                _ => Ok(()),
            },
        }
    }
}

fn cluster_id(admin: &AdminClient<Quiet>, side: &str) -> Result<String, ReplicateError> {
    admin.inner().fetch_cluster_id(ANSWER).ok_or_else(|| {
        ReplicateError::of_kind(
            format!("ask the {side} cluster for its id"),
            ErrorKind::Unreachable,
        )
    })
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER))
}

fn first(results: Result<Vec<TopicResult>, Native>) -> Result<(), Native> {
    match results?.into_iter().next() {
        Some(Err((_, code))) => Err(Native::AdminOp(code)),
        _ => Ok(()),
    }
}

/// What a failure of the planner makes of the session: [`error`] knows the words.
pub(super) fn text(code: Code) -> &'static str {
    error::words(ErrorKind::of(code))
}
