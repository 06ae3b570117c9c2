//! Records in: acknowledged when they are on disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::join_all;

use super::super::catalogue::{StreamEntry, shard_id};
use super::super::fault::{Fault, Kind};
use super::super::hash_key::HashKey;
use super::super::sequence::Sequence;
use super::super::service::{Access, State, name_of};
use super::super::shapes::{
    Entry, MOST_RECORDS, PutEntry, PutRecord, PutRecordAnswer, PutRecords, PutRecordsAnswer,
};
use super::super::shard::{Stored, fault_of};
use super::{Asked, required};
use crate::log::LogError;

/// The largest record's data.
const MOST_DATA: usize = 1 << 20;
/// The most bytes of a call, partition keys among them.
const MOST_BYTES: usize = 10 << 20;
/// How often a record looks for its shard anew when it was closed meanwhile.
const TRIES: usize = 5;

/// A record that is to be put.
struct Put {
    key: HashKey,
    entry: Bytes,
}

/// What became of it.
type Placed = Result<(u32, Sequence), Fault>;

pub(super) async fn one(asked: Asked<'_, PutRecord>) -> Result<PutRecordAnswer, Fault> {
    let name = name_of(&asked.request.which())?;
    asked.allow(Access::Write, Some(&name))?;
    let request = &asked.request;
    let entry = Entry {
        data: request.data.clone(),
        partition_key: request.partition_key.clone(),
        explicit_hash_key: request.explicit_hash_key.clone(),
    };
    let put = read(&entry, "")?;
    let placed = place(&asked, &name, vec![put]).await?;
    let (shard, sequence) = placed.into_iter().next().unwrap_or_else(|| Err(broken()))?;
    Ok(PutRecordAnswer {
        shard_id: shard_id(shard),
        sequence_number: sequence.to_string(),
    })
}

pub(super) async fn many(asked: Asked<'_, PutRecords>) -> Result<PutRecordsAnswer, Fault> {
    let name = name_of(&asked.request.which())?;
    asked.allow(Access::Write, Some(&name))?;
    let records = required(asked.request.records.as_ref(), "records")?;
    if !(1..=MOST_RECORDS).contains(&records.len()) {
        return Err(Fault::validation(
            format!("[{} records or more]", records.len()),
            "records",
            &format!("Member must have length between 1 and {MOST_RECORDS}"),
        ));
    }
    let mut puts = Vec::with_capacity(records.len());
    for (nth, record) in records.iter().enumerate() {
        puts.push(read(record, &format!("records.{}.member.", nth + 1))?);
    }
    let bytes: usize = puts.iter().map(|put| put.entry.len()).sum();
    if bytes > MOST_BYTES {
        return Err(Fault::new(
            Kind::InvalidArgument,
            format!("Records size exceeds {} MiB limit.", MOST_BYTES >> 20),
        ));
    }
    let placed = place(&asked, &name, puts).await?;
    let failed = placed.iter().filter(|placed| placed.is_err()).count();
    let records = placed.into_iter().map(|placed| match placed {
        Ok((shard, sequence)) => PutEntry {
            shard_id: Some(shard_id(shard)),
            sequence_number: Some(sequence.to_string()),
            error_code: None,
            error_message: None,
        },
        Err(fault) => PutEntry {
            shard_id: None,
            sequence_number: None,
            // Of a record's errors clients know these two, and try both again.
            error_code: Some(match fault.kind {
                Kind::ProvisionedThroughputExceeded => fault.kind.name(),
                _ => Kind::InternalFailure.name(),
            }),
            error_message: Some(fault.message),
        },
    });
    Ok(PutRecordsAnswer {
        failed_record_count: u32::try_from(failed).unwrap_or(u32::MAX),
        records: records.collect(),
    })
}

fn read(entry: &Entry, at: &str) -> Result<Put, Fault> {
    let data = required(entry.data.as_ref(), &format!("{at}data"))?;
    let partition_key = required(entry.partition_key.as_deref(), &format!("{at}partitionKey"))?;
    if !(1..=256).contains(&partition_key.chars().count()) {
        return Err(Fault::validation(
            partition_key,
            &format!("{at}partitionKey"),
            "Member must have length between 1 and 256",
        ));
    }
    if data.0.len() > MOST_DATA {
        return Err(Fault::validation(
            format!("[{} bytes]", data.0.len()),
            &format!("{at}data"),
            &format!("Member must have length less than or equal to {MOST_DATA}"),
        ));
    }
    let key = match entry.explicit_hash_key.as_deref() {
        None => HashKey::of(partition_key),
        Some(text) => text.parse().map_err(|()| {
            Fault::new(
                Kind::InvalidArgument,
                format!("Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"),
            )
        })?,
    };
    Ok(Put {
        key,
        entry: Stored::encode(partition_key, &data.0),
    })
}

/// Puts records where they belong; gives what became of each, in order.
async fn place<T>(asked: &Asked<'_, T>, name: &str, puts: Vec<Put>) -> Result<Vec<Placed>, Fault> {
    let mut placed: Vec<Option<Placed>> = puts.iter().map(|_| None).collect();
    let mut left: Vec<usize> = (0..puts.len()).collect();
    for _ in 0..TRIES {
        asked.service.is_sure()?;
        let state = asked.service.state();
        let (_, stream) = state.named(&super::super::shapes::Which {
            stream_name: Some(name.to_owned()),
            stream_arn: None,
        })?;
        let mut by_shard: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for nth in left.drain(..) {
            let key = puts[nth].key;
            let mut open = stream.open_shards();
            match open.find(|shard| shard.first_key <= key && key <= shard.last_key) {
                Some(shard) => by_shard.entry(shard.number).or_default().push(nth),
                None => placed[nth] = Some(Err(broken())),
            }
        }
        let appends = by_shard
            .into_iter()
            .map(|(number, nths)| append(asked, &state, stream, number, nths, &puts));
        for (number, nths, outcome) in join_all(appends).await {
            let Some(outcome) = outcome else {
                // The shard was closed meanwhile: its children take them.
                left.extend(nths);
                continue;
            };
            for (at, nth) in nths.into_iter().enumerate() {
                placed[nth] = Some(
                    outcome
                        .clone()
                        .map(|(born, first)| (number, Sequence::new(born, first + at as u64))),
                );
            }
        }
        if left.is_empty() {
            break;
        }
    }
    let placed = placed.into_iter();
    Ok(placed
        .map(|placed| placed.unwrap_or_else(|| Err(broken())))
        .collect())
}

/// Appends the records of one shard: when it was made and the first offset; none where it was closed meanwhile.
async fn append<T>(
    asked: &Asked<'_, T>,
    state: &State,
    stream: &StreamEntry,
    number: u32,
    nths: Vec<usize>,
    puts: &[Put],
) -> (u32, Vec<usize>, Option<Result<(u64, u64), Fault>>) {
    let entry = stream.shard(number);
    let shard = state.shards.get(&(stream.id, number));
    let (Some(entry), Some(shard)) = (entry, shard) else {
        return (number, nths, Some(Err(broken())));
    };
    let entries: Vec<_> = nths.iter().map(|nth| puts[*nth].entry.clone()).collect();
    let now = asked.call.now;
    if asked.service.options.throttle {
        let bytes = entries.iter().map(Bytes::len).sum::<usize>() as u64;
        if let Err(fault) = shard.throttle.take_in(entries.len() as u64, bytes, now) {
            return (number, nths, Some(Err(fault)));
        }
    }
    let outcome = match shard.append(entries, now).await {
        None => None,
        Some(Ok(first)) => Some(Ok((entry.born, first))),
        Some(Err(error)) => {
            if !matches!(error, LogError::Full) {
                asked.service.heal(shard).await;
            }
            Some(Err(fault_of(&error)))
        }
    };
    (number, nths, outcome)
}

fn broken() -> Fault {
    Fault::new(Kind::InternalFailure, "Internal service failure.")
}
