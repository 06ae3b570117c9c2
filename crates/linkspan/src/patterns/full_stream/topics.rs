//! The topics that a transaction writes to: there, or made.

use std::collections::BTreeSet;

use linkspan_streams::kafka::{Cluster, ErrorKind, KafkaError, Topic, Topics};

use super::outputs::Outputs;
use super::refused;
use crate::streaming::ReaderError;

/// What a topic takes where the cluster does not tell: less than the brokers' default, for headers and the batch's own bytes.
const USUAL: usize = 1_000_000;

/// What a batch of one record has beside the record.
const BATCH: usize = 512;

/// The largest record, in bytes.
pub(super) struct Sizes {
    /// That every output topic takes.
    pub(super) outputs: usize,
    /// That the topic of dead letters takes.
    pub(super) dead_letters: usize,
}

/// Makes sure that all topics are there. Those that are missing are made like the source's.
pub(super) async fn prepare(
    cluster: &Cluster,
    source: &str,
    outputs: &Outputs,
    dead_letters: &str,
) -> Result<Sizes, ReaderError> {
    let topics = Topics::open(cluster).map_err(refused)?;
    let Some(from) = topics.find(source).await.map_err(refused)? else {
        return Err(ReaderError::Open(format!(
            "the topic {source}, where the records are to come from, is not there: create it, or correct source.kafka"
        )));
    };
    let mut largest = None;
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
        let takes = takes(&topic);
        largest = Some(largest.map_or(takes, |largest: usize| largest.min(takes)));
    }
    let dead = found_or_made(&topics, dead_letters, &from).await?;
    Ok(Sizes {
        outputs: largest.unwrap_or(USUAL),
        dead_letters: takes(&dead),
    })
}

fn takes(topic: &Topic) -> usize {
    topic
        .largest
        .map_or(USUAL, |largest| largest.saturating_sub(BATCH))
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
