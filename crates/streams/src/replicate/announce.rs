//! What is announced in the progress before anything of a topic is copied.

use std::collections::HashMap;

use super::map::Chunk;
use super::plan::Planned;
use super::positions::{self, Edge};
use super::progress::{self, Chunks, Entry};
use super::replicator::End;
use super::session::Session;
use super::{Naming, clients, cycle};

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
    ) -> Result<(), End> {
        let begin = self.beginnings(taken, fresh)?;
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

    /// The first offsets of all partitions of the topics that are copied for the first time.
    fn beginnings(
        &self,
        taken: &[Planned],
        fresh: &[String],
    ) -> Result<HashMap<positions::Partition, i64>, End> {
        let fresh = taken
            .iter()
            .filter(|planned| fresh.contains(&planned.source));
        let mut partitions = fresh
            .flat_map(|planned| {
                (0..planned.partitions).map(|partition| (planned.source.as_str(), partition))
            })
            .peekable();
        if partitions.peek().is_none() {
            return Ok(HashMap::new());
        }
        let (source, group) = (&self.settings.source, self.settings.transactional_id());
        let reader = clients::reader(source, &group, "source")?;
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
        self.announce(&[], &[], &withdrawn)
    }
}

/// Whether nothing but where the copying begins is known.
fn is_untouched(chunks: &Chunks) -> bool {
    let mut chunks = chunks.iter();
    chunks.all(|(number, chunk)| *number == 0 && chunk.runs.is_empty())
}
