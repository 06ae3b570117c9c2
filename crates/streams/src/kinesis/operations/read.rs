//! Records out.

use super::super::catalogue::{ShardEntry, StreamEntry, shard_id, shard_number};
use super::super::fault::{Fault, Kind};
use super::super::iterator::ShardIterator;
use super::super::sequence::Sequence;
use super::super::service::{ACCOUNT, Access};
use super::super::shapes::{
    ChildShard, GetRecords, GetShardIterator, Record, Records, ShardIteratorAnswer,
};
use super::super::shard::{Shard, Stored, fault_of};
use super::super::wire::{Blob, Time};
use super::{Asked, required, reshard, within};
use crate::log::LogError;

/// The most records of an answer.
const MOST_RECORDS: i64 = 10_000;
/// The most bytes of an answer.
const MOST_BYTES: usize = 10 << 20;

pub(super) async fn iterator(
    asked: Asked<'_, GetShardIterator>,
) -> Result<ShardIteratorAnswer, Fault> {
    let state = asked.service.state();
    let request = &asked.request;
    let (name, stream) = asked.look_at(&state, &request.which())?;
    let id = required(request.shard_id.as_deref(), "shardId")?;
    let kind = required(request.shard_iterator_type.as_deref(), "shardIteratorType")?;
    let missing = || {
        Fault::new(
            Kind::ResourceNotFound,
            format!("Shard {id} in stream {name} under account {ACCOUNT} does not exist."),
        )
    };
    let entry = shard_number(id).and_then(|number| stream.shard(number));
    let entry = entry.ok_or_else(missing)?;
    let shard = state
        .shards
        .get(&(stream.id, entry.number))
        .ok_or_else(missing)?;
    let bounds = shard.log().bounds();
    let sequence = || at_sequence(&asked, name, entry, bounds.end);
    let offset = match kind {
        "TRIM_HORIZON" => bounds.start,
        "LATEST" => bounds.end,
        "AT_SEQUENCE_NUMBER" => sequence()?,
        "AFTER_SEQUENCE_NUMBER" => sequence()? + 1,
        "AT_TIMESTAMP" => {
            let time = request.timestamp.ok_or_else(|| {
                Fault::new(
                    Kind::InvalidArgument,
                    "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.",
                )
            })?;
            if time.0 > asked.call.now {
                return Err(Fault::new(
                    Kind::InvalidArgument,
                    "The timestampInMillis parameter cannot be in the future.",
                ));
            }
            shard
                .log()
                .since(time.0)
                .await
                .map_err(|error| fault_of(&error))?
        }
        other => {
            return Err(Fault::validation(
                other,
                "shardIteratorType",
                "Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]",
            ));
        }
    };
    let iterator = ShardIterator {
        stream: stream.id,
        shard: entry.number,
        offset,
    };
    Ok(ShardIteratorAnswer {
        shard_iterator: iterator.seal(&asked.service.tokens, asked.call.now),
    })
}

/// The offset of the sequence number in a request.
fn at_sequence(
    asked: &Asked<'_, GetShardIterator>,
    name: &str,
    entry: &ShardEntry,
    end: u64,
) -> Result<u64, Fault> {
    let text = required(
        asked.request.starting_sequence_number.as_deref(),
        "startingSequenceNumber",
    )?;
    text.parse::<Sequence>()
        .ok()
        .and_then(|sequence| sequence.offset_in(entry.born))
        // The number after the last one is where reading goes on.
        .filter(|offset| *offset <= end)
        .ok_or_else(|| {
            Fault::new(
                Kind::InvalidArgument,
                format!(
                    "StartingSequenceNumber {text} used in GetShardIterator on shard {} in stream {name} under account {ACCOUNT} is invalid.",
                    entry.id()
                ),
            )
        })
}

pub(super) async fn records(asked: Asked<'_, GetRecords>) -> Result<Records, Fault> {
    let token = required(asked.request.shard_iterator.as_deref(), "shardIterator")?;
    let limit = within(asked.request.limit, "limit", 1, MOST_RECORDS, MOST_RECORDS)?;
    let (service, now) = (asked.service, asked.call.now);
    let at = ShardIterator::open(token, &service.tokens, now)?;
    let state = service.state();
    let gone = || {
        Fault::new(
            Kind::ResourceNotFound,
            "The stream or shard of this iterator is not there any more.",
        )
    };
    let mut streams = state.catalogue.streams.iter();
    let (name, stream) = streams
        .find(|(_, stream)| stream.id == at.stream)
        .ok_or_else(gone)?;
    asked.allow(Access::Read, Some(name))?;
    let entry = stream.shard(at.shard).ok_or_else(gone)?;
    let shard = state.shards.get(&(stream.id, at.shard)).ok_or_else(gone)?;
    if service.options.throttle {
        shard.throttle.give_out(now)?;
    }
    let (records, next) = page(shard, entry, at.offset, limit).await?;
    if service.options.throttle {
        let bytes: usize = records.iter().map(|record| record.data.0.len()).sum();
        shard.throttle.gave(bytes as u64);
    }
    let ended = entry.closed.is_some_and(|(end, _)| next >= end);
    Ok(Records {
        millis_behind_latest: behind(&asked, shard, next).await?,
        records,
        next_shard_iterator: (!ended).then(|| {
            let next = ShardIterator { offset: next, ..at };
            next.seal(&service.tokens, now)
        }),
        child_shards: ended.then(|| children(stream, entry.number)),
    })
}

/// The records from an offset on, and the offset after them. What retention has removed is passed over, as Kinesis does.
async fn page(
    shard: &Shard,
    entry: &ShardEntry,
    from: u64,
    limit: usize,
) -> Result<(Vec<Record>, u64), Fault> {
    let mut from = from.max(shard.log().bounds().start);
    let entries = loop {
        match shard.log().read(from, limit, MOST_BYTES).await {
            Err(LogError::Trimmed { first }) => from = first,
            read => break read.map_err(|error| fault_of(&error))?,
        }
    };
    let next = entries.last().map_or(from, |last| last.offset + 1);
    let mut records = Vec::with_capacity(entries.len());
    for kept in entries {
        let stored = Stored::decode(kept.payload).ok_or_else(|| {
            tracing::error!(
                offset = kept.offset,
                "an entry of a shard's log cannot be read"
            );
            Fault::new(Kind::InternalFailure, "Internal service failure.")
        })?;
        records.push(Record {
            sequence_number: Sequence::new(entry.born, kept.offset).to_string(),
            approximate_arrival_timestamp: Time(kept.arrived),
            data: Blob(stored.data),
            partition_key: stored.partition_key,
        });
    }
    Ok((records, next))
}

/// How old the next unread record is, in milliseconds.
async fn behind(asked: &Asked<'_, GetRecords>, shard: &Shard, next: u64) -> Result<i64, Fault> {
    if next >= shard.log().bounds().end {
        return Ok(0);
    }
    let waiting = shard.log().read(next, 1, 1).await;
    let waiting = match waiting {
        Err(LogError::Trimmed { .. }) => return Ok(0),
        read => read.map_err(|error| fault_of(&error))?,
    };
    let age = waiting
        .first()
        .map(|entry| asked.call.now.duration_since(entry.arrived).as_millis());
    Ok(i64::try_from(age.unwrap_or(0)).unwrap_or(i64::MAX).max(0))
}

fn children(stream: &StreamEntry, parent: u32) -> Vec<ChildShard> {
    let children = stream
        .shards
        .iter()
        .filter(|shard| shard.parents.contains(&parent));
    children
        .map(|shard| ChildShard {
            shard_id: shard.id(),
            parent_shards: shard
                .parents
                .iter()
                .map(|number| shard_id(*number))
                .collect(),
            hash_key_range: reshard::range(shard),
        })
        .collect()
}
