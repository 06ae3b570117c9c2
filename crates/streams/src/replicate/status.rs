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
    let mut topics = Vec::new();
    for (source, entry) in &progress.topics {
        let state = match there.get(source) {
            None => TopicState::Stopped(gone(source)),
            Some(known) if known.id != entry.source_id => {
                TopicState::Stopped(made_anew(settings, source, "source"))
            }
            Some(_) => TopicState::Running,
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
            let (_, end) = marks.map_err(|fault| {
                ReplicateError::new(format!("ask {source}/{partition} for its end"), &fault)
            })?;
            let chunks = known.get(&partition);
            let done = chunks.map(|chunks| OffsetMap::new(chunks.values()).done());
            partitions.push(PartitionStatus::new(partition, Some(end), done, None));
        }
        topics.push(TopicStatus {
            source: source.clone(),
            target: entry.target.clone(),
            state,
            warning: None,
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

pub(super) fn made_anew(settings: &Settings, topic: &str, side: &str) -> String {
    let name = &settings.name;
    let target = settings.naming.target(topic);
    match side {
        "source" => format!(
            "the topic {topic} was deleted and made anew on the source: what it held and was not copied is lost; copy the new one with `linkspan replicate reset {name} {topic}`, after deleting {target} on the target if the old records are not wanted there"
        ),
        _ => format!(
            "the topic {target} was deleted and made anew on the target: what was copied into it is lost there; copy {topic} from its beginning with `linkspan replicate reset {name} {topic}`"
        ),
    }
}
