//! The progress of a replication, as it stands in the target: a compacted topic of two partitions.
//!
//! The first holds chunks of the map, `chunk/TOPIC/PARTITION/NUMBER`. The second holds what is copied to where, `topic/TOPIC`: small, so
//! that others can read it to see whether a topic would be copied in a circle.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use serde::{Deserialize, Serialize};

use super::clients::{self, ANSWER, Reader};
use super::map::Chunk;
use super::positions::{self, Edge};
use super::reports::Origin;
use super::{ReplicateError, Settings};
use crate::kafka::{Cluster, ErrorKind};

/// The partition with the chunks.
pub(super) const CHUNKS: i32 = 0;

/// The partition with the topics.
pub(super) const TOPICS: i32 = 1;

/// How long reading may stand still.
const STILL: Duration = Duration::from_secs(30);

/// How long one look for the next record takes.
const LOOK: Duration = Duration::from_millis(200);

/// The key of what only shows that the brokers of a partition know of a new writer.
const NEW_WRITER: &str = "new-writer";

/// Asked again and again while something is read: whether to read on.
pub(super) type GoOn<'a> = &'a mut dyn FnMut() -> bool;

/// What is copied to where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) source_cluster: String,
    pub(super) target_cluster: String,
    pub(super) target: String,
    pub(super) source_id: String,
    pub(super) target_id: String,
    /// The clusters that the topic's records had come through before they were in the source, the first one first.
    #[serde(default)]
    pub(super) chain: Vec<String>,
}

/// The chunks of a partition by their numbers.
pub(super) type Chunks = BTreeMap<u64, Chunk>;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// By the source's topic.
    pub(super) topics: BTreeMap<String, Entry>,
    /// By the source's topic and partition.
    pub(super) partitions: BTreeMap<(String, i32), Chunks>,
}

pub(super) fn topic_key(topic: &str) -> String {
    format!("topic/{topic}")
}

pub(super) fn chunk_key(topic: &str, partition: i32, number: u64) -> String {
    format!("chunk/{topic}/{partition}/{number}")
}

/// Makes the topic where it is not there.
pub(super) fn ensure(settings: &Settings) -> Result<(), ReplicateError> {
    let name = settings.progress_topic();
    let attempted = format!("make the topic {name} on the target");
    let admin = clients::admin(&settings.target, "target")?;
    let topic = NewTopic::new(
        &name,
        2,
        TopicReplication::Fixed(settings.replication_factor.unwrap_or(-1)),
    )
    .set("cleanup.policy", "compact")
    .set("min.cleanable.dirty.ratio", "0.2")
    .set("segment.bytes", "33554432");
    let options = AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER));
    let made = runtime()?.block_on(admin.create_topics([&topic], &options));
    let made = made.map_err(|fault| ReplicateError::new(&attempted, &fault))?;
    match made.into_iter().next() {
        Some(Err((_, code))) if code != Code::TopicAlreadyExists => {
            Err(ReplicateError::of_kind(attempted, ErrorKind::of(code)))
        }
        _ => Ok(()),
    }
}

/// Reads all of it. An error when there is none.
pub(super) fn read(settings: &Settings) -> Result<Progress, ReplicateError> {
    read_while(settings, &mut || true)
}

/// As [`read`], as long as it may go on.
pub(super) fn read_while(settings: &Settings, go_on: GoOn<'_>) -> Result<Progress, ReplicateError> {
    let name = settings.progress_topic();
    let reader = clients::reader(&settings.target, &settings.transactional_id(), "target")?;
    let there = reader.fetch_metadata(Some(&name), ANSWER);
    let there = there.map_err(|fault| ReplicateError::new(format!("read {name}"), &fault))?;
    if there
        .topics()
        .first()
        .is_none_or(|topic| topic.partitions().is_empty())
    {
        let nothing = format!("nothing was copied yet under the name {}", settings.name);
        return Err(ReplicateError::absent(nothing));
    }
    let mut progress = Progress {
        topics: entries_while(&reader, &name, go_on)?,
        ..Progress::default()
    };
    let mut broken = None;
    scan(&reader, &name, CHUNKS, 0, go_on, |key, value| {
        let Some((topic, partition, number)) = chunk_of(key) else {
            return;
        };
        let chunks = progress.partitions.entry((topic, partition)).or_default();
        match value.map(Chunk::decode) {
            None => {
                chunks.remove(&number);
            }
            Some(Some(chunk)) => {
                chunks.insert(number, chunk);
            }
            Some(None) => broken = Some(key.to_owned()),
        }
    })?;
    progress.partitions.retain(|_, chunks| !chunks.is_empty());
    match broken {
        Some(key) => Err(ReplicateError::other(format!(
            "the record {key} of {name} on the target cannot be read: a newer linkspan may have written it"
        ))),
        None => Ok(progress),
    }
}

/// What replications into this cluster copy: the topics of one of their progress topics.
pub(super) fn entries(
    reader: &Reader,
    name: &str,
) -> Result<BTreeMap<String, Entry>, ReplicateError> {
    entries_while(reader, name, &mut || true)
}

fn entries_while(
    reader: &Reader,
    name: &str,
    go_on: GoOn<'_>,
) -> Result<BTreeMap<String, Entry>, ReplicateError> {
    let mut topics = BTreeMap::new();
    scan(reader, name, TOPICS, 0, go_on, |key, value| {
        let Some(topic) = key.strip_prefix("topic/") else {
            return;
        };
        match value.and_then(|value| serde_json::from_slice(value).ok()) {
            Some(entry) => {
                topics.insert(topic.to_owned(), entry);
            }
            None => {
                topics.remove(topic);
            }
        }
    })?;
    Ok(topics)
}

/// Forgets what is known of a source topic, so that it is copied from its beginning again. The target's records stay. Whoever replicates
/// under this name begins anew by itself: at the latest with its next sign of life.
///
/// # Errors
///
/// The topic is not one that was copied, or the target does not answer.
pub fn reset(settings: &Settings, topic: &str) -> Result<(), ReplicateError> {
    let mut tries = 0;
    loop {
        match reset_once(settings, topic) {
            // Whoever replicates has begun anew in between.
            Err(fault) if fault.kind == ErrorKind::Fenced && tries < 5 => tries += 1,
            done => return done,
        }
    }
}

fn reset_once(settings: &Settings, topic: &str) -> Result<(), ReplicateError> {
    let attempted = format!("forget the progress of {topic}");
    let absent = || {
        ReplicateError::settings(format!(
            "the replication {} has copied no topic {topic}",
            settings.name
        ))
    };
    if keys_of(&read(settings)?, topic).is_empty() {
        return Err(absent());
    }
    let producer = clients::producing(settings, 1_000_000)?;
    let failed = |fault: Native| {
        let code = producer.client().fatal_error().map(|(code, _)| code);
        match code.map_or_else(|| super::error::kind(&fault), ErrorKind::of) {
            // After a failure within a transaction librdkafka says no more than that there was one.
            ErrorKind::Other => ReplicateError::of_kind(&attempted, ErrorKind::Fenced),
            kind => ReplicateError::of_kind(&attempted, kind),
        }
    };
    producer.init_transactions(STILL).map_err(failed)?;
    let name = settings.progress_topic();
    let remove = |keys: &[(i32, String)]| {
        producer.begin_transaction().map_err(failed)?;
        for (partition, key) in keys {
            let record: BaseRecord<'_, str, [u8], usize> =
                BaseRecord::with_opaque_to(&name, Origin::progress().number())
                    .partition(*partition)
                    .key(key.as_str());
            producer.send(record).map_err(|(fault, _)| failed(fault))?;
        }
        let end = Instant::now() + STILL;
        while producer.in_flight_count() > 0 && Instant::now() < end {
            producer.poll(Duration::from_millis(5));
        }
        producer.commit_transaction(ANSWER).map_err(failed)
    };
    // From here on nobody else can write to either partition, however late what they sent arrives.
    remove(&[CHUNKS, TOPICS].map(|partition| (partition, NEW_WRITER.to_owned())))?;
    let keys = keys_of(&read(settings)?, topic);
    if keys.is_empty() {
        return Err(absent());
    }
    remove(&keys)
}

/// The records of a topic's progress.
pub(super) fn keys_of(progress: &Progress, topic: &str) -> Vec<(i32, String)> {
    let mut keys = Vec::new();
    if progress.topics.contains_key(topic) {
        keys.push((TOPICS, topic_key(topic)));
    }
    for ((known, partition), chunks) in &progress.partitions {
        if known == topic {
            let of = chunks.keys();
            keys.extend(of.map(|number| (CHUNKS, chunk_key(topic, *partition, *number))));
        }
    }
    keys
}

/// A runtime for calls that rdkafka offers as futures only.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ReplicateError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|_| ReplicateError::other("start what waits for the clusters: it failed"))
}

/// Reads a partition from an offset to its end, and gives that. The end is asked for first: where a fetch finds no more, a broker that
/// has just become the leader may not know yet how far it may give records away.
pub(super) fn scan(
    reader: &Reader,
    topic: &str,
    partition: i32,
    from: i64,
    go_on: GoOn<'_>,
    mut seen: impl FnMut(&str, Option<&[u8]>),
) -> Result<i64, ReplicateError> {
    let failed = |fault: &Native| ReplicateError::new(format!("read {topic}"), fault);
    let edge = |edge| {
        let asked = positions::ask(reader, [(topic, partition)], edge, "target")?;
        Ok(asked.into_values().next().unwrap_or_default())
    };
    let end = edge(Edge::End)?;
    let mut next = from.max(edge(Edge::Begin)?);
    if next >= end {
        return Ok(next);
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(next))
        .and_then(|()| reader.assign(&list))
        .map_err(|fault| failed(&fault))?;
    let mut until = Instant::now() + STILL;
    // Before, the reader's position may be that of what it was assigned to last.
    let mut begun = false;
    let read = loop {
        let before = next;
        let polled = reader.poll(LOOK);
        begun |= matches!(polled, Some(Ok(_) | Err(Native::PartitionEOF(_))));
        match polled {
            Some(Ok(message)) => {
                next = next.max(message.offset() + 1);
                if let Some(key) = message.key().and_then(|key| std::str::from_utf8(key).ok()) {
                    seen(key, message.payload());
                }
            }
            // Behind the last record there may be markers of transactions.
            None | Some(Err(Native::PartitionEOF(_))) if begun => {
                next = next.max(stands(reader));
            }
            None => {}
            Some(Err(fault)) => {
                let kind = super::error::kind(&fault);
                if kind != ErrorKind::Unreachable {
                    break Err(failed(&fault));
                }
            }
        }
        if next >= end {
            break Ok(next);
        }
        if next > before {
            until = Instant::now() + STILL;
        }
        if Instant::now() >= until || !go_on() {
            break Err(ReplicateError::of_kind(
                format!("read {topic}"),
                ErrorKind::Unreachable,
            ));
        }
    };
    let _ = reader.unassign();
    read
}

/// The position in the only partition that is read.
fn stands(reader: &Reader) -> i64 {
    let mut next = 0;
    if let Ok(list) = reader.position() {
        positions::of(&list, |_, _, at| next = at.offset);
    }
    next
}

/// The names of the progress topics of a cluster.
pub(super) fn topics_of(cluster: &Cluster, side: &str) -> Result<Vec<String>, ReplicateError> {
    let admin = clients::admin(cluster, side)?;
    let metadata = admin
        .inner()
        .fetch_metadata(None, ANSWER)
        .map_err(|fault| {
            ReplicateError::new(format!("ask the {side} cluster for its topics"), &fault)
        })?;
    let names = metadata
        .topics()
        .iter()
        .map(rdkafka::metadata::MetadataTopic::name);
    Ok(names
        .filter(|name| name.starts_with(super::settings::PROGRESS))
        .map(str::to_owned)
        .collect())
}

fn chunk_of(key: &str) -> Option<(String, i32, u64)> {
    let mut parts = key.strip_prefix("chunk/")?.split('/');
    let topic = parts.next()?.to_owned();
    let partition = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    Some((topic, partition, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_chunk() {
        let key = chunk_key("orders.eu", 3, 12);
        assert_eq!(chunk_of(&key), Some(("orders.eu".to_owned(), 3, 12)));
        assert_eq!(chunk_of(&topic_key("orders")), None);
        assert_eq!(chunk_of("chunk/orders/x/1"), None);
    }
}
