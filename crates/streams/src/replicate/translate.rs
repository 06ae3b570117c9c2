//! The offsets of a consumer group on the other side.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError as Native;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use serde::Serialize;

use super::clients::{self, ANSWER, Quiet, Reader};
use super::standing::{Copied, Sides};
use super::{ReplicateError, Settings, progress};
use crate::kafka::{Cluster, ErrorKind, ranges};

/// Which way a group moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the source to the target, with the records.
    ToTarget,
    /// Back.
    ToSource,
}

/// What a group has committed of a partition, on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Translated {
    /// The topic on the source.
    pub source: String,
    /// The topic on the target.
    pub target: String,
    /// The partition, on both.
    pub partition: i32,
    /// The offset that the group reads next on the side that it leaves.
    pub committed: i64,
    /// What that is on the other side.
    pub outcome: Outcome,
    /// Ranges of offsets that are done beyond it, first and last, as they are called on the other side. A gateway that works out of order
    /// keeps such ranges with its offset; other consumers have none.
    pub beyond: Vec<(i64, i64)>,
}

/// What an offset of one side is on the other.
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

/// Where a group goes on on the other side, for each partition that it has committed and that is replicated.
///
/// # Errors
///
/// A cluster does not answer, nothing was ever copied under this name, or what the group has done out of order cannot be read. Refused as
/// well where the offsets would be those of other records: a topic was made anew, truncated, or has lost what the group has not read.
pub fn translate(
    settings: &Settings,
    group: &str,
    direction: Direction,
) -> Result<Vec<Translated>, ReplicateError> {
    let progress = progress::read(settings)?;
    let mut sides = Sides::of(settings, &progress.topics)?;
    let mut list = TopicPartitionList::new();
    for (topic, entry) in &progress.topics {
        for partition in 0..direction.partitions(&sides, topic, &entry.target) {
            list.add_partition(direction.left(topic, &entry.target), partition);
        }
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let (cluster, side) = direction.leaves(settings);
    let of_group = clients::reader(cluster, group, side)?;
    let committed = of_group.committed_offsets(list, ANSWER).map_err(|fault| {
        ReplicateError::new(
            format!("ask the {side} for the offsets of the group {group}"),
            &fault,
        )
    })?;
    let mut moves = Vec::new();
    for (topic, entry) in &progress.topics {
        let left = direction.left(topic, &entry.target);
        for partition in 0..direction.partitions(&sides, topic, &entry.target) {
            let Some(element) = committed.find_partition(left, partition) else {
                continue;
            };
            let Offset::Offset(offset) = element.offset() else {
                continue;
            };
            let done = u64::try_from(offset)
                .ok()
                .and_then(|next| ranges::read(next, element.metadata()))
                .ok_or_else(|| {
                    ReplicateError::other(format!(
                        "what the group {group} has done out of order in {left}/{partition} cannot be read: a newer linkspan may have written it"
                    ))
                })?;
            let chunks = progress.partitions.get(&(topic.clone(), partition));
            let copied = Copied::new(topic, entry, partition, chunks);
            moves.push((copied, offset, done));
        }
    }
    let refused = |why: String| {
        ReplicateError::other(format!(
            "the offsets of the group {group} are not translated: {why}"
        ))
    };
    for (copied, ..) in &moves {
        if let Some(why) = sides.other(settings, copied) {
            return Err(refused(why));
        }
    }
    sides.look(moves.iter().map(|(copied, ..)| copied))?;
    let mut translated = Vec::new();
    for (copied, offset, done) in &moves {
        let (map, offset) = (&copied.map, *offset);
        let (outcome, beyond) = match direction {
            Direction::ToSource => {
                let source = sides.to_source(settings, copied, map.back(offset));
                let ranges = each(done, |range| map.range_back(range));
                (Outcome::Offset(source.map_err(refused)?), ranges)
            }
            Direction::ToTarget => {
                let target = map.target(offset).unwrap_or_else(|| map.target_end());
                let target = sides.to_target(settings, copied, offset, target);
                let target = target.map_err(refused)?;
                // All that the group has done must be there.
                let reached = done.last().map_or(offset, |(_, last)| signed(*last) + 1);
                let reader = &sides.source.reader;
                let all = map.done() >= reached
                    // Between what is copied and the group's offset there may be nothing but markers of transactions.
                    || !any_between(reader, copied.topic, copied.partition, map.done(), reached)?;
                if all {
                    let ranges = each(done, |range| map.range(range));
                    (Outcome::Offset(target), ranges)
                } else {
                    (Outcome::NotCopied { done: map.done() }, Vec::new())
                }
            }
        };
        translated.push(Translated {
            source: copied.topic.to_owned(),
            target: copied.entry.target.clone(),
            partition: copied.partition,
            committed: offset,
            outcome,
            beyond,
        });
    }
    Ok(translated)
}

/// Commits translated offsets for the group on the side that it moves to. Refused when one of them is not copied yet.
///
/// # Errors
///
/// An offset is not copied yet, the group has members there, or the cluster does not answer.
pub fn apply(
    settings: &Settings,
    group: &str,
    direction: Direction,
    offsets: &[Translated],
) -> Result<(), ReplicateError> {
    let (cluster, side) = direction.comes_to(settings);
    let mut list = TopicPartitionList::new();
    let attempted = format!("commit the offsets of the group {group} on the {side}");
    for translated in offsets {
        let partition = translated.partition;
        let offset = match translated.outcome {
            Outcome::Offset(offset) => offset,
            Outcome::NotCopied { done } => {
                return Err(ReplicateError::other(format!(
                    "the group {group} has read {}/{partition} up to {}, and it is copied up to {done}: wait until the replication has come so far",
                    translated.source, translated.committed
                )));
            }
        };
        let topic = match direction {
            Direction::ToTarget => &translated.target,
            Direction::ToSource => &translated.source,
        };
        let mut element = list.add_partition(topic, partition);
        element
            .set_offset(Offset::Offset(offset))
            .map_err(|fault| ReplicateError::new(&attempted, &fault))?;
        if let Some(metadata) = metadata(offset, &translated.beyond)
            && !metadata.is_empty()
        {
            element.set_metadata(metadata);
        }
    }
    if list.count() == 0 {
        return Err(ReplicateError::other(format!(
            "the group {group} has committed nothing of what is replicated on the side that it leaves"
        )));
    }
    let consumer: BaseConsumer<Quiet> = clients::reader(cluster, group, side)?;
    consumer
        .commit(&list, CommitMode::Sync)
        .map_err(|fault| match super::error::kind(&fault) {
            ErrorKind::Generation => ReplicateError::other(format!(
                "the group {group} has members on the {side}; stop them, so that nobody else commits"
            )),
            _ => ReplicateError::new(&attempted, &fault),
        })
}

impl Direction {
    /// The side that the group leaves.
    fn leaves(self, settings: &Settings) -> (&Cluster, &'static str) {
        match self {
            Self::ToTarget => (&settings.source, "source"),
            Self::ToSource => (&settings.target, "target"),
        }
    }

    fn comes_to(self, settings: &Settings) -> (&Cluster, &'static str) {
        match self {
            Self::ToTarget => (&settings.target, "target"),
            Self::ToSource => (&settings.source, "source"),
        }
    }

    /// How many partitions of a topic the group may have committed. Also of one that has gone on the side that it comes to.
    fn partitions(self, sides: &Sides, source: &str, target: &str) -> i32 {
        match (self, sides.source.partitions(source)) {
            (Self::ToSource, 0) => sides.target.partitions(target),
            (_, count) => count,
        }
    }

    /// A topic's name on the side that the group leaves.
    fn left<'a>(self, source: &'a str, target: &'a str) -> &'a str {
        match self {
            Self::ToTarget => source,
            Self::ToSource => target,
        }
    }
}

/// The ranges as an offset's metadata. Those that do not fit any more are left out from the far end: their records come again.
fn metadata(offset: i64, beyond: &[(i64, i64)]) -> Option<String> {
    let next = u64::try_from(offset).ok()?;
    let mut ranges: Vec<ranges::Range> = beyond
        .iter()
        .filter_map(|(first, last)| Some((u64::try_from(*first).ok()?, u64::try_from(*last).ok()?)))
        .collect();
    loop {
        match ranges::write(next, &ranges) {
            Some(text) => return Some(text),
            None => ranges.truncate(ranges.len() * 7 / 8),
        }
    }
}

/// Ranges on one side as ranges on the other.
fn each(
    done: &[ranges::Range],
    mut other: impl FnMut((i64, i64)) -> Vec<(i64, i64)>,
) -> Vec<(i64, i64)> {
    done.iter()
        .flat_map(|(first, last)| other((signed(*first), signed(*last))))
        .collect()
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
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
    let begin = match from {
        0 => Offset::Beginning,
        from => Offset::Offset(from),
    };
    list.add_partition_offset(topic, partition, begin)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_out_of_order_is_kept_as_far_as_it_fits() {
        let few = [(12, 14), (20, 20)];
        let text = metadata(10, &few).expect("it is written");
        assert_eq!(ranges::read(10, &text), Some(vec![(12, 14), (20, 20)]));
        assert_eq!(metadata(10, &[]), Some(String::new()));
        let many: Vec<_> = (0..4_000).map(|n| (11 + n * 3, 12 + n * 3)).collect();
        let text = metadata(10, &many).expect("it is written");
        let kept = ranges::read(10, &text).expect("it is read");
        assert!(kept.len() > 1_000 && kept.len() < 4_000, "{}", kept.len());
        assert_eq!(kept[0], (11, 12));
    }
}
