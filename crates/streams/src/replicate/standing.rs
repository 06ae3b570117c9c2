//! Whether both sides of a partition still hold what the map of its offsets tells of: else a translated offset would be that of another
//! record.

use std::collections::HashMap;
use std::ops::Range;

use super::clients::{self, ANSWER, Reader};
use super::describe::{self, Described};
use super::positions::{self, Edge, Partition};
use super::progress::{Chunks, Entry};
use super::status::{gone, made_anew, truncated};
use super::{OffsetMap, ReplicateError, Settings};
use rdkafka::consumer::Consumer as _;

/// Both clusters, as they are now.
pub(super) struct Sides {
    pub(super) source: Side,
    pub(super) target: Side,
}

/// One of them.
pub(super) struct Side {
    pub(super) reader: Reader,
    name: &'static str,
    topics: HashMap<String, Described>,
    edges: HashMap<Partition, Range<i64>>,
}

/// A partition that is copied.
pub(super) struct Copied<'a> {
    pub(super) topic: &'a str,
    pub(super) entry: &'a Entry,
    pub(super) partition: i32,
    pub(super) map: OffsetMap,
    /// Whether the map no longer tells of its first records: the source had removed them.
    trimmed: bool,
}

impl<'a> Copied<'a> {
    pub(super) fn new(
        topic: &'a str,
        entry: &'a Entry,
        partition: i32,
        chunks: Option<&Chunks>,
    ) -> Self {
        let first = chunks.and_then(Chunks::first_key_value);
        Self {
            topic,
            entry,
            partition,
            map: OffsetMap::new(chunks.into_iter().flat_map(Chunks::values)),
            trimmed: first.is_some_and(|(number, _)| *number > 0),
        }
    }
}

impl Sides {
    /// Asks both clusters for the topics.
    pub(super) fn of<'a>(
        settings: &Settings,
        topics: impl IntoIterator<Item = (&'a String, &'a Entry)>,
    ) -> Result<Self, ReplicateError> {
        let (sources, targets): (Vec<&str>, Vec<&str>) = topics
            .into_iter()
            .map(|(topic, entry)| (topic.as_str(), entry.target.as_str()))
            .unzip();
        let group = settings.transactional_id();
        let source = clients::reader(&settings.source, &group, "source")?;
        let target = clients::reader(&settings.target, &group, "target")?;
        Ok(Self {
            source: Side::of(source, "source", &sources)?,
            target: Side::of(target, "target", &targets)?,
        })
    }

    /// Why a partition is not the one that was copied any more, on either side.
    pub(super) fn other(&self, settings: &Settings, copied: &Copied<'_>) -> Option<String> {
        let Copied { topic, entry, .. } = *copied;
        match self.source.topics.get(topic) {
            None => return Some(gone(topic)),
            Some(known) if known.id != entry.source_id => {
                return Some(made_anew(settings, topic, "source"));
            }
            Some(_) => {}
        }
        match self.target.topics.get(&entry.target) {
            Some(known) if known.id == entry.target_id => {}
            _ => return Some(made_anew(settings, topic, "target")),
        }
        let (target, partition) = (&entry.target, copied.partition);
        if self.target.partitions(target) <= partition {
            return Some(format!(
                "{target} on the target has no partition {partition} yet"
            ));
        }
        None
    }

    /// Asks where these partitions begin and end, on both sides.
    pub(super) fn look<'a>(
        &mut self,
        partitions: impl Iterator<Item = &'a Copied<'a>> + Clone,
    ) -> Result<(), ReplicateError> {
        let sources = partitions.clone().map(|of| (of.topic, of.partition));
        self.source.look(sources)?;
        let targets = partitions.map(|of| (of.entry.target.as_str(), of.partition));
        self.target.look(targets)
    }

    /// Where a group that has come to a source offset reads on on the target, by its offset there: or why that is not known.
    pub(super) fn to_target(
        &self,
        settings: &Settings,
        copied: &Copied<'_>,
        committed: i64,
        target: i64,
    ) -> Result<i64, String> {
        let Copied {
            topic,
            entry,
            partition,
            ref map,
            ..
        } = *copied;
        let source = self.source.edges(topic, partition);
        let done = map.done();
        if source.end < done || committed > done {
            truncated(settings, topic, partition, done, source.clone()).map_or(Ok(()), Err)?;
        }
        let known = map.first().map_or(done, |(first, _)| first);
        if copied.trimmed && committed < known && committed < source.start {
            return Err(format!(
                "it stands at offset {committed} of {topic}/{partition}, and the source begins at {}: what it has not read is gone there, and where that is on the target is not known any more; set its offset on the target by hand",
                source.start
            ));
        }
        let there = self.target.edges(&entry.target, partition);
        ends_late_enough(&entry.target, partition, "target", &there, map.target_end())?;
        let lost = target < there.start && !map.range_back((target, there.start - 1)).is_empty();
        begins_early_enough(&entry.target, partition, "target", &there, target, lost)
    }

    /// The same for a group that moves back: by the source offset.
    pub(super) fn to_source(
        &self,
        settings: &Settings,
        copied: &Copied<'_>,
        source: i64,
    ) -> Result<i64, String> {
        let Copied {
            topic,
            entry,
            partition,
            ref map,
            ..
        } = *copied;
        let there = self.target.edges(&entry.target, partition);
        ends_late_enough(&entry.target, partition, "target", &there, map.target_end())?;
        let there = self.source.edges(topic, partition);
        truncated(settings, topic, partition, map.done(), there.clone()).map_or(Ok(()), Err)?;
        let lost = source < there.start && !map.range((source, there.start - 1)).is_empty();
        begins_early_enough(topic, partition, "source", &there, source, lost)
    }
}

impl Side {
    fn of(reader: Reader, name: &'static str, topics: &[&str]) -> Result<Self, ReplicateError> {
        let told = describe::topics(reader.client(), topics, ANSWER);
        let topics = told.map_err(|code| {
            ReplicateError::other(format!(
                "ask the {name} cluster for its topics: {}",
                super::plan::text(code)
            ))
        })?;
        Ok(Self {
            reader,
            name,
            topics,
            edges: HashMap::new(),
        })
    }

    /// How many partitions a topic has.
    pub(super) fn partitions(&self, topic: &str) -> i32 {
        self.topics.get(topic).map_or(0, |topic| topic.partitions)
    }

    fn look<'a>(
        &mut self,
        partitions: impl Iterator<Item = (&'a str, i32)> + Clone,
    ) -> Result<(), ReplicateError> {
        let begin = positions::ask(&self.reader, partitions.clone(), Edge::Begin, self.name)?;
        let end = positions::ask(&self.reader, partitions, Edge::End, self.name)?;
        for (partition, begin) in begin {
            let end = end.get(&partition).copied().unwrap_or(begin);
            self.edges.insert(partition, begin..end);
        }
        Ok(())
    }

    fn edges(&self, topic: &str, partition: i32) -> Range<i64> {
        let edges = self.edges.get(&(topic.to_owned(), partition));
        edges.cloned().unwrap_or_default()
    }
}

fn ends_late_enough(
    topic: &str,
    partition: i32,
    side: &str,
    there: &Range<i64>,
    copied: i64,
) -> Result<(), String> {
    if there.end >= copied {
        return Ok(());
    }
    Err(format!(
        "{topic}/{partition} on the {side} ends at offset {}, and records were copied up to {copied}: it was truncated",
        there.end
    ))
}

/// The offset, or the first one that is there, where no record lies between the two.
fn begins_early_enough(
    topic: &str,
    partition: i32,
    side: &str,
    there: &Range<i64>,
    at: i64,
    lost: bool,
) -> Result<i64, String> {
    if lost {
        return Err(format!(
            "{topic}/{partition} on the {side} begins at offset {}, and the records from {at} on, which it has not read, are no longer there (retention, or a deletion); where they may be missed, set its offset there by hand",
            there.start
        ));
    }
    Ok(at.max(there.start))
}
