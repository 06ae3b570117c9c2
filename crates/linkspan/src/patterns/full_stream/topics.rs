//! The topics that a transaction writes to: there, or made.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use linkspan_streams::kafka::{Cluster, ErrorKind, KafkaError, Takes, Topic, Topics};

use super::outputs::Outputs;
use super::refused;
use crate::streaming::ReaderError;

/// Makes sure that all topics are there, and says what each takes. Those that are missing are made like the source's.
pub(super) async fn prepare(
    cluster: &Cluster,
    source: &str,
    outputs: &Outputs,
    dead_letters: &str,
) -> Result<HashMap<Arc<str>, Takes>, ReaderError> {
    let topics = Topics::open(cluster).map_err(refused)?;
    let Some(from) = topics.find(source).await.map_err(refused)? else {
        return Err(ReaderError::Open(format!(
            "the topic {source}, where the records are to come from, is not there: create it, or correct source.kafka"
        )));
    };
    let mut takes = HashMap::new();
    let names: BTreeSet<_> = outputs.topics().collect();
    for name in names {
        let topic = found_or_made(&topics, name, &from).await?;
        if topic.partitions < from.partitions {
            tracing::warn!(
                topic = name,
                partitions = topic.partitions,
                source,
                of_source = from.partitions,
                "the topic has fewer partitions than the source's: a record goes to the number of its own modulo theirs"
            );
        }
        takes.insert(name.into(), topic.takes);
    }
    let dead = found_or_made(&topics, dead_letters, &from).await?;
    if dead.takes.keyed {
        return Err(ReaderError::Open(format!(
            "the topic {dead_letters} of the dead letters is compacted, which removes all but the last one of each key: set its cleanup.policy to delete, or name another topic in source.dead_letters"
        )));
    }
    takes.insert(dead_letters.into(), dead.takes);
    Ok(takes)
}

async fn found_or_made(topics: &Topics, name: &str, like: &Topic) -> Result<Topic, ReaderError> {
    match topics.find(name).await {
        Ok(Some(topic)) => return Ok(topic),
        Ok(None) => {}
        Err(error) => return Err(refused(error)),
    }
    let made = topics.make_like(name, like).await;
    let topic = made.map_err(|error| missing(name, like.partitions, &error))?;
    tracing::info!(
        topic = name,
        partitions = topic.partitions,
        "a topic was not there and was made"
    );
    Ok(topic)
}

fn missing(name: &str, partitions: i32, error: &KafkaError) -> ReaderError {
    let why = match error.kind {
        ErrorKind::Refused => "this gateway may not make it",
        kind => kind.text(),
    };
    ReaderError::Open(format!(
        "the topic {name} is not there and cannot be made ({why}): create it with {partitions} partitions, as the source's topic has"
    ))
}
