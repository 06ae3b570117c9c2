//! Which topics are copied, and the target's topics brought in step with the source's.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewPartitions, NewTopic,
    OwnedResourceSpecifier, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use tokio::runtime::Runtime;

use super::clients::{self, ANSWER, Quiet};
use super::cycle::{self, Chains};
use super::describe::{self, Described};
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

/// Settings of a topic that are its own cluster's affair: how many copies must be there, what is throttled; and what would change or
/// refuse the timestamps of records that are copied.
const NOT_COPIED: &[&str] = &[
    "min.insync.replicas",
    "unclean.leader.election.enable",
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
    "message.timestamp.type",
    "message.timestamp.difference.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
];

/// How large a batch a topic takes.
const SIZE: &str = "max.message.bytes";

/// How long a new topic is waited for.
const MADE: Duration = Duration::from_secs(5);

/// The size of a batch where the topic takes more, in bytes.
const BATCH: usize = 1_000_000;

type Configs = HashMap<String, ConfigResource>;

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
        let size = kept.get(SIZE).and_then(|entry| entry.value.as_deref());
        let Some(set) = step(wanted, &set_on(kept).collect(), size) else {
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

/// What was set on a topic itself and is copied.
fn own<'a>(configs: &'a Configs, topic: &str) -> BTreeMap<&'a str, &'a str> {
    let Some(resource) = configs.get(topic) else {
        return BTreeMap::new();
    };
    set_on(resource)
        .filter(|(name, _)| !NOT_COPIED.contains(name))
        .collect()
}

fn set_on(resource: &ConfigResource) -> impl Iterator<Item = (&str, &str)> {
    let set = resource.entries.iter().filter(|entry| {
        entry.source == ConfigSource::DynamicTopic && !entry.is_read_only && !entry.is_sensitive
    });
    set.filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
}

/// What is to be set on a target's topic that has `kept`, for a source's that has `wanted`. None where nothing is to change. `size` is
/// what the target takes now, by whatever setting: that is never lowered, for somebody may have raised it for a record that was refused.
fn step<'a>(
    wanted: &BTreeMap<&'a str, &'a str>,
    kept: &BTreeMap<&'a str, &'a str>,
    size: Option<&str>,
) -> Option<BTreeMap<&'a str, &'a str>> {
    let number = |text: &str| text.parse::<u64>().ok();
    let larger = wanted.get(SIZE).is_some_and(|wanted| {
        size.and_then(number)
            .is_none_or(|size| number(wanted).is_none_or(|wanted| wanted > size))
    });
    let own = |name: &str| NOT_COPIED.contains(&name) || (name == SIZE && !larger);
    let of_source = wanted.iter().filter(|(name, _)| !own(name));
    let of_target = kept.iter().filter(|(name, _)| own(name));
    let set = of_source.chain(of_target);
    let set: BTreeMap<_, _> = set.map(|(name, value)| (*name, *value)).collect();
    (set != *kept).then_some(set)
}

fn largest(resource: Option<&ConfigResource>) -> usize {
    let entry = resource.and_then(|resource| resource.get(SIZE));
    let value = entry.and_then(|entry| entry.value.as_deref()?.parse().ok());
    value.unwrap_or(BATCH)
}

/// What a failure of the planner makes of the session: [`error`] knows the words.
pub(super) fn text(code: Code) -> &'static str {
    error::words(ErrorKind::of(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_settings_follow_the_sources_but_never_to_smaller_batches() {
        let of = |list: &[(&'static str, &'static str)]| list.iter().copied().collect();
        let retention = ("retention.ms", "1000");
        let copies = ("min.insync.replicas", "2");
        let size = |bytes| (SIZE, bytes);
        for (wanted, kept, effective, set) in [
            (&[retention][..], &[retention][..], "1048588", None),
            (
                &[retention],
                &[copies],
                "1048588",
                Some(&[retention, copies][..]),
            ),
            (&[], &[retention, copies], "1048588", Some(&[copies])),
            // Raised on the source.
            (&[size("2000000")], &[], "1048588", Some(&[size("2000000")])),
            // Raised on the target alone, by the topic or by the cluster.
            (&[], &[size("3000000")], "3000000", None),
            (&[size("2000000")], &[size("3000000")], "3000000", None),
            (&[size("2000000")], &[], "3000000", None),
            (
                &[size("2000000"), retention],
                &[size("3000000")],
                "3000000",
                Some(&[retention, size("3000000")]),
            ),
        ] {
            let step = step(&of(wanted), &of(kept), Some(effective));
            assert_eq!(step, set.map(of), "{wanted:?} {kept:?} {effective}");
        }
    }
}
