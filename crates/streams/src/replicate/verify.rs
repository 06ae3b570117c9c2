//! Compares both sides: the records of each partition, paired by the map, range by range.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError as Native;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;
use serde::Serialize;

use super::clients::{self, ANSWER, Reader};
use super::{OffsetMap, ReplicateError, Settings, progress};
use crate::kafka::ErrorKind;

/// A partition, compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The topic on the source.
    pub source: String,
    /// The topic on the target.
    pub target: String,
    /// The partition.
    pub partition: i32,
    /// Its ranges, in order.
    pub ranges: Vec<Range>,
    /// Records of the target that were not copied from the source: somebody else has written them.
    pub foreign: u64,
}

/// A range of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first source offset.
    pub from: i64,
    /// The source offset behind the last.
    pub to: i64,
    /// Records of the source.
    pub source_records: u64,
    /// Records of the target.
    pub target_records: u64,
    /// CRC-32 over the records of the source: key, value, headers and timestamp.
    pub source_checksum: u32,
    /// The same of the target.
    pub target_checksum: u32,
    /// Records that only one side still has, where both clean by their own time (retention, compaction).
    pub cleaned: u64,
    /// The first record that differs.
    pub difference: Option<Difference>,
}

/// How the first record that differs does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// Key, value, headers or timestamp.
    Content {
        /// The source offset.
        source: i64,
        /// The target offset.
        target: i64,
    },
    /// The target does not have it.
    Missing {
        /// The source offset.
        source: i64,
    },
    /// The source does not have it.
    Extra {
        /// The target offset.
        target: i64,
    },
}

/// How far a comparison has come in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// The topic on the source.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Source offsets that are behind it.
    pub done: u64,
    /// Source offsets in all.
    pub all: u64,
}

/// How many records are compared between two calls that tell of it.
const STRETCH: u64 = 1_000;

/// Reads both sides up to where the copying stands, and compares them, with so many source offsets in a range.
///
/// What lies before the first record that both sides still have is left out. On compacted topics (`cleanup.policy` with `compact`) each
/// side cleans by its own time, so there a record that one side lacks is counted as cleaned. `seen` is told how it goes.
///
/// # Errors
///
/// A cluster does not answer, nothing was ever copied under this name, or a topic is not one that was copied.
pub fn verify(
    settings: &Settings,
    topics: &[String],
    offsets_in_range: i64,
    mut seen: impl FnMut(Seen<'_>),
) -> Result<Vec<Verified>, ReplicateError> {
    let progress = progress::read(settings)?;
    if let Some(unknown) = topics
        .iter()
        .find(|topic| !progress.topics.contains_key(*topic))
    {
        return Err(ReplicateError::settings(format!(
            "the replication {} has copied no topic {unknown}",
            settings.name
        )));
    }
    let mut verified = Vec::new();
    for ((topic, partition), chunks) in &progress.partitions {
        let Some(entry) = progress.topics.get(topic) else {
            continue;
        };
        if !topics.is_empty() && !topics.contains(topic) {
            continue;
        }
        let map = OffsetMap::new(chunks.values());
        let compacted = is_compacted(settings, topic)?;
        let (ranges, foreign) = compare(
            settings,
            (topic, &entry.target, *partition),
            &map,
            offsets_in_range.max(1),
            compacted,
            &mut seen,
        )?;
        verified.push(Verified {
            source: topic.clone(),
            target: entry.target.clone(),
            partition: *partition,
            ranges,
            foreign,
        });
    }
    Ok(verified)
}

impl Verified {
    /// The first range that differs.
    #[must_use]
    pub fn first_difference(&self) -> Option<&Range> {
        self.ranges.iter().find(|range| range.difference.is_some())
    }

    /// How many records were compared.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.ranges.iter().map(|range| range.source_records).sum()
    }
}

/// One side of a partition, read in order up to an end.
struct Side {
    reader: Reader,
    topic: String,
    partition: i32,
    end: i64,
    ahead: VecDeque<(i64, u32)>,
    over: bool,
}

fn compare(
    settings: &Settings,
    (source, target, partition): (&str, &str, i32),
    map: &OffsetMap,
    size: i64,
    compacted: bool,
    seen: &mut impl FnMut(Seen<'_>),
) -> Result<(Vec<Range>, u64), ReplicateError> {
    let Some((first_source, first_target)) = map.first() else {
        return Ok((Vec::new(), 0));
    };
    let group = settings.transactional_id();
    let left = clients::reader(&settings.source, &group, "source")?;
    let right = clients::reader(&settings.target, &group, "target")?;
    let low_source = low(&left, source, partition)?.max(first_source);
    let low_target = low(&right, target, partition)?.max(first_target);
    // The first that both still have.
    let from_source = map.back(low_target).max(low_source);
    let from_target = map.target(from_source).unwrap_or(map.target_end());
    let mut left = Side::new(left, source, partition, from_source, map.done())?;
    let mut right = Side::new(right, target, partition, from_target, map.target_end())?;
    let mut ranges: Vec<Range> = Vec::new();
    let mut foreign = 0;
    let all = u64::try_from(map.done() - from_source).unwrap_or_default();
    let mut tell = |done| {
        seen(Seen {
            topic: source,
            partition,
            done,
            all,
        });
    };
    tell(0);
    let mut compared = 0_u64;
    loop {
        let one = left.peek()?;
        let other = match right.peek()? {
            None => None,
            Some((offset, sum)) => match map.source(offset) {
                Some(source) => Some((source, offset, sum)),
                None => {
                    foreign += 1;
                    right.take();
                    continue;
                }
            },
        };
        let at = match (one, other) {
            (None, None) => {
                tell(all);
                return Ok((ranges, foreign));
            }
            (Some((source, _)), None) => source,
            (None, Some((source, ..))) => source,
            (Some((one, _)), Some((other, ..))) => one.min(other),
        };
        compared += 1;
        if compared.is_multiple_of(STRETCH) {
            tell(u64::try_from(at - from_source).unwrap_or_default());
        }
        let range = range_of(&mut ranges, at, size);
        let one = one.filter(|(source, _)| *source == at);
        let other = other.filter(|(source, ..)| *source == at);
        if let Some((_, sum)) = one {
            left.take();
            range.source_records += 1;
            range.source_checksum = fold(range.source_checksum, sum);
        }
        if let Some((_, _, sum)) = other {
            right.take();
            range.target_records += 1;
            range.target_checksum = fold(range.target_checksum, sum);
        }
        let difference = match (one, other) {
            (Some((source, one)), Some((_, target, other))) if one != other => {
                Some(Difference::Content { source, target })
            }
            (Some((source, _)), None) if compacted && map.holds(source) => {
                range.cleaned += 1;
                None
            }
            (None, Some(_)) if compacted => {
                range.cleaned += 1;
                None
            }
            (Some((source, _)), None) => Some(Difference::Missing { source }),
            (None, Some((_, target, _))) => Some(Difference::Extra { target }),
            _ => None,
        };
        if range.difference.is_none() {
            range.difference = difference;
        }
    }
}

fn range_of(ranges: &mut Vec<Range>, offset: i64, size: i64) -> &mut Range {
    let from = offset - offset % size;
    if ranges.last().is_none_or(|range| range.from != from) {
        ranges.push(Range {
            from,
            to: from + size,
            ..Range::default()
        });
    }
    let last = ranges.len() - 1;
    &mut ranges[last]
}

impl Side {
    fn new(
        reader: Reader,
        topic: &str,
        partition: i32,
        from: i64,
        end: i64,
    ) -> Result<Self, ReplicateError> {
        let over = from >= end;
        if !over {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(topic, partition, Offset::Offset(from))
                .and_then(|()| reader.assign(&list))
                .map_err(|fault| {
                    ReplicateError::new(format!("read {topic}/{partition}"), &fault)
                })?;
        }
        Ok(Self {
            reader,
            topic: topic.to_owned(),
            partition,
            end,
            ahead: VecDeque::new(),
            over,
        })
    }

    /// The next record: its offset and checksum.
    fn peek(&mut self) -> Result<Option<(i64, u32)>, ReplicateError> {
        let patience = Instant::now() + 3 * ANSWER;
        while self.ahead.is_empty() && !self.over {
            match self.reader.poll(Duration::from_millis(200)) {
                Some(Ok(message)) if message.offset() >= self.end => self.over = true,
                Some(Ok(message)) => {
                    self.over = message.offset() + 1 >= self.end;
                    self.ahead.push_back((message.offset(), checksum(&message)));
                }
                Some(Err(Native::PartitionEOF(_))) => self.over = true,
                Some(Err(fault)) if super::error::kind(&fault) != ErrorKind::Unreachable => {
                    let attempted = format!("read {}/{}", self.topic, self.partition);
                    return Err(ReplicateError::new(attempted, &fault));
                }
                _ if Instant::now() >= patience => {
                    return Err(ReplicateError::of_kind(
                        format!("read {}/{}", self.topic, self.partition),
                        ErrorKind::Unreachable,
                    ));
                }
                _ => {}
            }
        }
        Ok(self.ahead.front().copied())
    }

    fn take(&mut self) {
        self.ahead.pop_front();
    }
}

fn low(reader: &Reader, topic: &str, partition: i32) -> Result<i64, ReplicateError> {
    let marks = reader.fetch_watermarks(topic, partition, ANSWER);
    let (low, _) = marks.map_err(|fault| {
        ReplicateError::new(format!("ask {topic}/{partition} where it begins"), &fault)
    })?;
    Ok(low)
}

fn is_compacted(settings: &Settings, topic: &str) -> Result<bool, ReplicateError> {
    use rdkafka::admin::{AdminOptions, ResourceSpecifier};
    let admin = clients::admin(&settings.source, "source")?;
    let options = AdminOptions::new().request_timeout(Some(ANSWER));
    let asked = [ResourceSpecifier::Topic(topic)];
    let told = progress::runtime()?.block_on(admin.describe_configs(&asked, &options));
    let told = told
        .map_err(|fault| ReplicateError::new(format!("ask for the settings of {topic}"), &fault))?;
    Ok(told.into_iter().flatten().any(|resource| {
        let policy = resource.get("cleanup.policy");
        policy.is_some_and(|entry| {
            entry
                .value
                .as_deref()
                .is_some_and(|text| text.contains("compact"))
        })
    }))
}

fn fold(before: u32, sum: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(&sum.to_le_bytes());
    hasher.finalize()
}

/// Over all that a copy keeps, with lengths, so that no two records share the same bytes.
fn checksum(message: &BorrowedMessage<'_>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut field = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        hasher.update(&length.to_le_bytes());
        hasher.update(bytes.unwrap_or_default());
    };
    field(message.key());
    field(message.payload());
    // What is 0 becomes 1, see `copy`.
    let timestamp = message.timestamp().to_millis().unwrap_or(-1);
    let timestamp = if timestamp == 0 { 1 } else { timestamp };
    field(Some(&timestamp.to_le_bytes()));
    if let Some(headers) = message.headers() {
        for index in 0..headers.count() {
            // rdkafka panics at a name that is not UTF-8.
            let header =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| headers.try_get(index)));
            if let Ok(Some(header)) = header {
                field(Some(header.key.as_bytes()));
                field(header.value);
            }
        }
    }
    hasher.finalize()
}
