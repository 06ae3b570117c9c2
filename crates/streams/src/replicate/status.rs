//! What a replication tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::clients::{self, ANSWER};
use super::progress::Chunks;
use super::{OffsetMap, ReplicateError, Settings, describe, progress};
use rdkafka::consumer::Consumer as _;

/// A replication now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: State,
    /// Its topics, by the source's name.
    pub topics: Vec<TopicStatus>,
    /// Records copied and committed since it was started.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Records a second, over the last seconds.
    pub records_per_second: f64,
    /// Bytes a second.
    pub bytes_per_second: f64,
}

/// What a replication does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Reaches the clusters and reads its progress.
    Starting,
    /// Copies.
    Running,
    /// Another process copies under this name; this one takes its place when it has gone, or is not heard of.
    Standby,
    /// Cannot copy now, and tries again: why.
    Waiting(String),
    /// Was stopped.
    Stopped,
    /// Has given up: why.
    Failed(String),
    /// Is looked at from outside: whether a process copies is not known here.
    Seen,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopicStatus {
    /// Its name on the source.
    pub source: String,
    /// Its name on the target.
    pub target: String,
    /// Whether it is copied.
    pub state: TopicState,
    /// What could not be kept in step, though it is copied.
    pub warning: Option<String>,
    /// Records copied and committed since it was started.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
}

/// Whether a topic is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopicState {
    /// It is.
    Running,
    /// It is not: why, and what to do.
    Stopped(String),
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: i32,
    /// The source's end for a reader of committed records, when it is known.
    pub source_end: Option<i64>,
    /// The source offset up to which, not with which, all is copied and committed.
    pub done: Option<i64>,
    /// Offsets between the two: at least as many as there are records.
    pub lag: Option<i64>,
    /// The age of the last copied record while there is a lag. None when it is not known; zero without a lag.
    pub lag_time: Option<Duration>,
}

impl TopicStatus {
    /// Offsets of all partitions that are not copied yet. None where none is known.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        let lags = self.partitions.iter().filter_map(|partition| partition.lag);
        lags.reduce(|one, other| one + other)
    }

    /// The greatest age of a last copied record, among the partitions with a lag.
    #[must_use]
    pub fn lag_time(&self) -> Option<Duration> {
        let times = self.partitions.iter();
        times.filter_map(|partition| partition.lag_time).max()
    }
}

impl PartitionStatus {
    pub(super) fn new(
        partition: i32,
        source_end: Option<i64>,
        done: Option<i64>,
        last: Option<i64>,
    ) -> Self {
        let lag = source_end.map(|end| (end - done.unwrap_or_default()).max(0));
        let age = |last: i64| {
            let now = jiff::Timestamp::now().as_millisecond();
            Duration::from_millis(u64::try_from(now - last).unwrap_or_default())
        };
        Self {
            partition,
            source_end,
            done,
            lag,
            lag_time: match lag {
                Some(0) => Some(Duration::ZERO),
                _ => last.map(age),
            },
        }
    }
}

/// What a process that is not the replicator can tell: the progress in the target against the source's ends and ids.
///
/// # Errors
///
/// A cluster does not answer, or nothing was ever copied under this name.
pub fn look(settings: &Settings) -> Result<Status, ReplicateError> {
    let progress = progress::read(settings)?;
    let reader = clients::reader(&settings.source, &settings.transactional_id(), "source")?;
    let names: Vec<&str> = progress.topics.keys().map(String::as_str).collect();
    let there = describe::topics(reader.client(), &names, ANSWER).map_err(|code| {
        ReplicateError::other(format!(
            "ask the source cluster for its topics: {}",
            super::plan::text(code)
        ))
    })?;
    let of_target = clients::admin(&settings.target, "target")?;
    let names: Vec<&str> = progress
        .topics
        .values()
        .map(|entry| entry.target.as_str())
        .collect();
    let targets = describe::topics(of_target.inner(), &names, ANSWER).map_err(|code| {
        ReplicateError::other(format!(
            "ask the target cluster for its topics: {}",
            super::plan::text(code)
        ))
    })?;
    let mut topics = Vec::new();
    for (source, entry) in &progress.topics {
        let mut state = match there.get(source) {
            None => TopicState::Stopped(gone(source)),
            Some(known) if known.id != entry.source_id => {
                TopicState::Stopped(made_anew(settings, source, "source"))
            }
            Some(_) => match targets.get(&entry.target) {
                Some(known) if known.id == entry.target_id => TopicState::Running,
                _ => TopicState::Stopped(made_anew(settings, source, "target")),
            },
        };
        let known: BTreeMap<i32, &Chunks> = progress
            .partitions
            .iter()
            .filter(|((topic, _), _)| topic == source)
            .map(|((_, partition), chunks)| (*partition, chunks))
            .collect();
        let count = there.get(source).map_or(0, |topic| topic.partitions);
        let mut partitions = Vec::new();
        for partition in 0..count {
            let marks = reader.fetch_watermarks(source, partition, ANSWER);
            let (low, end) = marks.map_err(|fault| {
                ReplicateError::new(format!("ask {source}/{partition} for its end"), &fault)
            })?;
            let chunks = known.get(&partition);
            let done = chunks.map(|chunks| OffsetMap::new(chunks.values()).done());
            if state == TopicState::Running
                && let Some(why) = truncated(
                    settings,
                    source,
                    partition,
                    done.unwrap_or_default(),
                    low..end,
                )
            {
                state = TopicState::Stopped(why);
            }
            partitions.push(PartitionStatus::new(partition, Some(end), done, None));
        }
        topics.push(TopicStatus {
            source: source.clone(),
            target: entry.target.clone(),
            state,
            warning: None,
            records: 0,
            bytes: 0,
            partitions,
        });
    }
    Ok(Status {
        name: settings.name.clone(),
        state: State::Seen,
        topics,
        records: 0,
        bytes: 0,
        records_per_second: 0.0,
        bytes_per_second: 0.0,
    })
}

pub(super) fn gone(topic: &str) -> String {
    format!("the topic {topic} is no longer on the source; nothing more is copied")
}

/// Why a partition cannot go on at `next`, when the source has these offsets.
pub(super) fn truncated(
    settings: &Settings,
    topic: &str,
    partition: i32,
    next: i64,
    there: std::ops::Range<i64>,
) -> Option<String> {
    let name = &settings.name;
    let std::ops::Range { start, end } = there;
    if start > next {
        return Some(format!(
            "{topic}/{partition} on the source begins at offset {start}, and the records from {next} on were not copied yet: retention or a deletion has overtaken the replication, and they are lost; go on without them with `linkspan replicate reset {name} --topic {topic}`, which copies the topic anew"
        ));
    }
    (end < next).then(|| {
        format!(
            "{topic}/{partition} on the source ends at offset {end}, and was copied up to {next}: it was truncated, and what comes there next has other offsets; copy it anew with `linkspan replicate reset {name} --topic {topic}`"
        )
    })
}

pub(super) fn made_anew(settings: &Settings, topic: &str, side: &str) -> String {
    let name = &settings.name;
    let target = settings.naming.target(topic);
    match side {
        "source" => format!(
            "the topic {topic} was deleted and made anew on the source: what it held and was not copied is lost; copy the new one with `linkspan replicate reset {name} --topic {topic}`, after deleting {target} on the target if the old records are not wanted there"
        ),
        _ => format!(
            "the topic {target} was deleted and made anew on the target: what was copied into it is lost there; copy {topic} from its beginning with `linkspan replicate reset {name} --topic {topic}`"
        ),
    }
}
