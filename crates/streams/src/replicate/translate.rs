//! The offsets of a consumer group on the other side.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError as Native;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use serde::Serialize;

use super::clients::{self, ANSWER, Quiet, Reader};
use super::{OffsetMap, ReplicateError, Settings, progress};
use crate::kafka::ErrorKind;

/// What a group has committed of a partition, on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Translated {
    /// The topic on the source.
    pub source: String,
    /// The topic on the target.
    pub target: String,
    /// The partition, on both.
    pub partition: i32,
    /// The offset that the group reads next on the source.
    pub committed: i64,
    /// What that is on the target.
    pub outcome: Outcome,
}

/// What a source offset is on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Read on here: no record is missed, and none comes again.
    Offset(i64),
    /// The group has read records that are not copied yet: the copying stands at this source offset.
    NotCopied {
        /// The source offset up to which, not with which, all is copied.
        done: i64,
    },
}

/// Where a group of the source goes on in the target, for each partition that it has committed and that is replicated.
///
/// # Errors
///
/// A cluster does not answer, or nothing was ever copied under this name.
pub fn translate(settings: &Settings, group: &str) -> Result<Vec<Translated>, ReplicateError> {
    let progress = progress::read(settings)?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in progress.partitions.keys() {
        list.add_partition(topic, *partition);
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let of_group = clients::reader(&settings.source, group, "source")?;
    let committed = of_group.committed_offsets(list, ANSWER).map_err(|fault| {
        ReplicateError::new(
            format!("ask the source for the offsets of the group {group}"),
            &fault,
        )
    })?;
    let reader = clients::reader(&settings.source, &settings.transactional_id(), "source")?;
    let mut translated = Vec::new();
    for ((topic, partition), chunks) in &progress.partitions {
        let Some(entry) = progress.topics.get(topic) else {
            continue;
        };
        let element = committed.find_partition(topic, *partition);
        let Some(Offset::Offset(offset)) = element.map(|element| element.offset()) else {
            continue;
        };
        let map = OffsetMap::new(chunks.values());
        let outcome = match map.target(offset) {
            Some(target) => Outcome::Offset(target),
            // Between what is copied and the group's offset there may be nothing but markers of transactions.
            None if !any_between(&reader, topic, *partition, map.done(), offset)? => {
                Outcome::Offset(map.target_end())
            }
            None => Outcome::NotCopied { done: map.done() },
        };
        translated.push(Translated {
            source: topic.clone(),
            target: entry.target.clone(),
            partition: *partition,
            committed: offset,
            outcome,
        });
    }
    Ok(translated)
}

/// Commits translated offsets for the group on the target. Refused when one of them is not copied yet.
///
/// # Errors
///
/// An offset is not copied yet, the group has members on the target, or the target does not answer.
pub fn apply(
    settings: &Settings,
    group: &str,
    offsets: &[Translated],
) -> Result<(), ReplicateError> {
    let mut list = TopicPartitionList::new();
    let attempted = format!("commit the offsets of the group {group} on the target");
    for translated in offsets {
        let (topic, partition) = (&translated.source, translated.partition);
        match translated.outcome {
            Outcome::Offset(offset) => list
                .add_partition_offset(&translated.target, partition, Offset::Offset(offset))
                .map_err(|fault| ReplicateError::new(&attempted, &fault))?,
            Outcome::NotCopied { done } => {
                return Err(ReplicateError::other(format!(
                    "the group {group} has read {topic}/{partition} up to {}, and it is copied up to {done}: wait until the replication has come so far",
                    translated.committed
                )));
            }
        }
    }
    if list.count() == 0 {
        return Err(ReplicateError::other(format!(
            "the group {group} has committed nothing on the source of what is replicated"
        )));
    }
    let consumer: BaseConsumer<Quiet> = clients::reader(&settings.target, group, "target")?;
    consumer
        .commit(&list, CommitMode::Sync)
        .map_err(|fault| match super::error::kind(&fault) {
            ErrorKind::Generation => ReplicateError::other(format!(
                "the group {group} has members on the target; stop them, so that nobody else commits"
            )),
            _ => ReplicateError::new(&attempted, &fault),
        })
}

/// Whether a partition has a committed record between two offsets.
fn any_between(
    reader: &Reader,
    topic: &str,
    partition: i32,
    from: i64,
    to: i64,
) -> Result<bool, ReplicateError> {
    let failed = |fault: &Native| ReplicateError::new(format!("read {topic}/{partition}"), fault);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(from))
        .and_then(|()| reader.assign(&list))
        .map_err(|fault| failed(&fault))?;
    let end = Instant::now() + ANSWER;
    let found = loop {
        match reader.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => break Ok(message.offset() < to),
            Some(Err(Native::PartitionEOF(_))) => break Ok(false),
            Some(Err(fault)) if super::error::kind(&fault) != ErrorKind::Unreachable => {
                break Err(failed(&fault));
            }
            _ if Instant::now() >= end => {
                break Err(ReplicateError::of_kind(
                    format!("read {topic}/{partition}"),
                    ErrorKind::Unreachable,
                ));
            }
            _ => {}
        }
    };
    let _ = reader.unassign();
    found
}
