//! What is announced in the progress before anything of a topic is copied.

use std::collections::HashMap;

use rdkafka::consumer::Consumer as _;

use super::clients::{self, ANSWER};
use super::map::Chunk;
use super::plan::Planned;
use super::positions::{self, Edge};
use super::progress::{self, Chunks, Entry};
use super::replicator::End;
use super::session::Session;
use super::{Naming, ReplicateError, cycle};

/// Where each partition begins that is copied for the first time.
pub(super) type Beginnings = HashMap<positions::Partition, i64>;

impl Session<'_> {
    /// Whether a topic was only announced: nothing of it was copied.
    pub(super) fn is_empty_entry(&self, topic: &str) -> bool {
        let mut partitions = self.progress.partitions.iter();
        self.progress.topics.contains_key(topic)
            && partitions.all(|((known, _), chunks)| known != topic || is_untouched(chunks))
            && self.settings.naming == Naming::Identity
    }

    /// Writes what will be copied to where, and from which offsets on, before anything of it is: who would copy it back sees it, and
    /// what retention takes away before it is copied is noticed, even of a partition that was empty.
    pub(super) fn announce(
        &mut self,
        taken: &[Planned],
        fresh: &[String],
        withdrawn: &[String],
        begin: Beginnings,
    ) -> Result<(), End> {
        self.begin()?;
        for topic in fresh {
            let Some(planned) = taken.iter().find(|planned| planned.source == *topic) else {
                continue;
            };
            let entry = Entry {
                source_cluster: self.planner.source_cluster.clone(),
                target_cluster: self.planner.target_cluster.clone(),
                target: planned.target.clone(),
                source_id: planned.source_id.clone(),
                target_id: planned.target_id.clone(),
                chain: planned.chain.clone(),
            };
            let value = serde_json::to_vec(&entry)
                .map_err(|_| End::Lasting("write the progress: it failed".to_owned()))?;
            self.write(progress::TOPICS, &progress::topic_key(topic), Some(&value))?;
            self.progress.topics.insert(topic.clone(), entry);
        }
        for ((topic, partition), done) in begin {
            let chunk = Chunk {
                done,
                ..Chunk::default()
            };
            let mut bytes = Vec::new();
            chunk.encode(&mut bytes);
            let key = progress::chunk_key(&topic, partition, 0);
            self.write(progress::CHUNKS, &key, Some(&bytes))?;
            let chunks = self.progress.partitions.entry((topic, partition));
            chunks.or_default().insert(0, chunk);
        }
        for topic in withdrawn {
            for (partition, key) in progress::keys_of(&self.progress, topic) {
                self.write(partition, &key, None)?;
            }
            self.progress.topics.remove(topic);
            let partitions = &mut self.progress.partitions;
            partitions.retain(|(known, _), _| known != topic);
        }
        self.commit()
    }

    /// The first offsets of all partitions of the topics that are copied for the first time. One with a partition that has no leader now
    /// cannot be asked: it is left for a later plan, and holds up no other.
    pub(super) fn beginnings(
        &mut self,
        taken: &mut Vec<Planned>,
        fresh: &mut Vec<String>,
    ) -> Result<Beginnings, End> {
        if fresh.is_empty() {
            return Ok(Beginnings::new());
        }
        let (source, group) = (&self.settings.source, self.settings.transactional_id());
        let reader = clients::reader(source, &group, "source")?;
        let metadata = reader.fetch_metadata(None, ANSWER).map_err(|fault| {
            ReplicateError::new("ask the source cluster for its topics", &fault)
        })?;
        for topic in metadata.topics() {
            let leaderless = topic.partitions().iter().find(|of| of.leader() < 0);
            let Some(leaderless) = leaderless.filter(|_| fresh.iter().any(|of| of == topic.name()))
            else {
                continue;
            };
            let why = format!(
                "{}/{} on the source has no leader now: the topic is copied when it has one",
                topic.name(),
                leaderless.id()
            );
            fresh.retain(|of| of != topic.name());
            let left = taken.extract_if(.., |planned| planned.source == topic.name());
            self.refused
                .extend(left.map(|planned| (planned, why.clone())));
        }
        let of = taken
            .iter()
            .filter(|planned| fresh.contains(&planned.source));
        let partitions = of.flat_map(|planned| {
            (0..planned.partitions).map(|partition| (planned.source.as_str(), partition))
        });
        Ok(positions::ask(&reader, partitions, Edge::Begin, "source")?)
    }

    /// Two replications that begin at the same time do not see each other in their plans. Each announces first and looks then, so at
    /// least one of them sees the other.
    pub(super) fn look_back(
        &mut self,
        taken: &mut Vec<Planned>,
        fresh: &[String],
    ) -> Result<(), End> {
        let chains = self.planner.chains()?;
        let mut withdrawn = Vec::new();
        let mut refused = Vec::new();
        taken.retain(|planned| {
            let why = fresh.contains(&planned.source).then(|| {
                let target = &self.planner.target_cluster;
                cycle::refusal(&chains, &planned.source, target, &self.settings.name)
            });
            match why.flatten() {
                None => true,
                Some(why) => {
                    withdrawn.push(planned.source.clone());
                    refused.push((planned.clone(), why));
                    false
                }
            }
        });
        self.refused.append(&mut refused);
        if withdrawn.is_empty() {
            return Ok(());
        }
        self.announce(&[], &[], &withdrawn, Beginnings::new())
    }
}

/// Whether nothing but where the copying begins is known.
fn is_untouched(chunks: &Chunks) -> bool {
    let mut chunks = chunks.iter();
    chunks.all(|(number, chunk)| *number == 0 && chunk.runs.is_empty())
}
