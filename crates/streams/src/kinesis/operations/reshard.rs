//! Shards: listed, split, merged.

use super::super::catalogue::{ShardEntry, StreamEntry, shard_id, shard_number};
use super::super::fault::{Fault, Kind};
use super::super::hash_key::HashKey;
use super::super::sequence::Sequence;
use super::super::service::{ACCOUNT, Access, Service, State, name_of, no_stream};
use super::super::shapes::{
    HashKeyRange, ListShards, MergeShards, Nothing, SequenceNumberRange, Shard, Shards, SplitShard,
};
use super::{Asked, Silent, required, within};

/// Refuses more open shards than the service may have.
pub(in super::super) fn bounded(service: &Service, state: &State, more: u32) -> Result<(), Fault> {
    let streams = state.catalogue.streams.values();
    let open = streams
        .map(|stream| stream.open_shards().count())
        .sum::<usize>();
    let most = service.options.shards as usize;
    if open + more as usize <= most {
        return Ok(());
    }
    Err(Fault::new(
        Kind::LimitExceeded,
        format!(
            "This request would exceed the shard limit for the account {ACCOUNT}. Current shard count: {open}. Limit: {most}. Number of additional shards that would have resulted from this request: {more}."
        ),
    ))
}

/// A page of a stream's shards, and whether there are more.
pub(super) fn page(
    stream: &StreamEntry,
    after: Option<&str>,
    limit: usize,
    wanted: impl Fn(&ShardEntry) -> bool,
) -> (Vec<Shard>, bool) {
    let mut shards = stream
        .shards
        .iter()
        .filter(|shard| after.is_none_or(|after| shard.id().as_str() > after) && wanted(shard));
    let page = shards.by_ref().take(limit);
    let page = page.map(described).collect();
    (page, shards.next().is_some())
}

fn described(shard: &ShardEntry) -> Shard {
    // A parent that retention has removed is still named, as Kinesis does.
    let mut parents = shard.parents.iter().map(|parent| shard_id(*parent));
    Shard {
        shard_id: shard.id(),
        parent_shard_id: parents.next(),
        adjacent_parent_shard_id: parents.next(),
        hash_key_range: range(shard),
        sequence_number_range: SequenceNumberRange {
            starting_sequence_number: Sequence::new(shard.born, 0).to_string(),
            ending_sequence_number: shard
                .closed
                .map(|(end, _)| Sequence::new(shard.born, end).to_string()),
        },
    }
}

/// A shard's hash keys.
pub(super) fn range(shard: &ShardEntry) -> HashKeyRange {
    HashKeyRange {
        starting_hash_key: shard.first_key.to_string(),
        ending_hash_key: shard.last_key.to_string(),
    }
}

pub(super) async fn list(asked: Asked<'_, ListShards>) -> Result<Shards, Fault> {
    let request = &asked.request;
    let limit = within(request.max_results, "maxResults", 1, 10_000, 1000)?;
    let state = asked.service.state();
    let which = request.which();
    // The token holds the name, since it comes without one.
    let (token_name, token_after) = match request.next_token.as_deref() {
        None => (None, None),
        Some(token) => {
            if which.stream_name.is_some() || which.stream_arn.is_some() {
                return Err(Fault::new(
                    Kind::InvalidArgument,
                    "NextToken and StreamName cannot be provided together.",
                ));
            }
            let (name, after) = token
                .rsplit_once('/')
                .ok_or_else(|| Fault::new(Kind::InvalidArgument, "Invalid NextToken."))?;
            (Some(name.to_owned()), Some(after))
        }
    };
    let which = match token_name {
        Some(name) => super::super::shapes::Which {
            stream_name: Some(name),
            stream_arn: None,
        },
        None => which,
    };
    let (name, stream) = asked.look_at(&state, &which)?;
    let after = token_after.or(request.exclusive_start_shard_id.as_deref());
    let filter = request.shard_filter.as_ref();
    let kind = filter.and_then(|filter| filter.kind.as_deref());
    let time = filter.and_then(|filter| filter.timestamp);
    let filter_after = filter.and_then(|filter| filter.shard_id.clone());
    let now = asked.call.now;
    let wanted: Box<dyn Fn(&ShardEntry) -> bool + Send> = match kind {
        None | Some("FROM_TRIM_HORIZON") => Box::new(|_| true),
        Some("AT_LATEST") => Box::new(|shard| shard.closed.is_none()),
        Some("AT_TRIM_HORIZON") => {
            let horizon = now - jiff::SignedDuration::from_hours(i64::from(stream.retention_hours));
            Box::new(move |shard| is_open_at(shard, horizon))
        }
        Some("AT_TIMESTAMP") => {
            let time = required(time, "shardFilter.timestamp")?.0;
            Box::new(move |shard| is_open_at(shard, time))
        }
        Some("FROM_TIMESTAMP") => {
            let time = required(time, "shardFilter.timestamp")?.0;
            Box::new(move |shard| shard.closed.is_none_or(|(_, closed)| closed >= time))
        }
        Some("AFTER_SHARD_ID") => {
            let after = required(filter_after, "shardFilter.shardId")?;
            Box::new(move |shard| shard.id() > after)
        }
        Some(other) => {
            return Err(Fault::validation(
                other,
                "shardFilter.type",
                "Member must satisfy enum value set: [AFTER_SHARD_ID, AT_LATEST, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, AT_TIMESTAMP, FROM_TIMESTAMP]",
            ));
        }
    };
    let (shards, more) = page(stream, after, limit, wanted);
    let next = shards
        .last()
        .filter(|_| more)
        .map(|last| format!("{name}/{}", last.shard_id));
    Ok(Shards {
        shards,
        next_token: next,
    })
}

/// Whether a shard took records at a time; one that was made since the oldest of its time counts from the beginning.
fn is_open_at(shard: &ShardEntry, time: jiff::Timestamp) -> bool {
    let at = u64::try_from(time.as_millisecond()).unwrap_or(0);
    let begun = shard.parents.is_empty() || shard.born <= at;
    begun && shard.closed.is_none_or(|(_, closed)| closed > time)
}

pub(super) async fn split(asked: Asked<'_, SplitShard>) -> Silent {
    let name = name_of(&asked.request.which())?;
    asked.allow(Access::Admin, Some(&name))?;
    let shard = required(asked.request.shard_to_split.as_deref(), "shardToSplit")?;
    let text = required(
        asked.request.new_starting_hash_key.as_deref(),
        "newStartingHashKey",
    )?;
    let key: HashKey = text.parse().map_err(|()| {
        Fault::validation(
            text,
            "newStartingHashKey",
            "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})",
        )
    })?;
    reshard(&asked, &name, &[shard], |shards| {
        let [parent] = shards else { return Err(()) };
        if key <= parent.first_key || key > parent.last_key {
            return Err(());
        }
        Ok(vec![
            (parent.first_key, HashKey(key.0 - 1)),
            (key, parent.last_key),
        ])
    })
    .await
}

pub(super) async fn merge(asked: Asked<'_, MergeShards>) -> Silent {
    let name = name_of(&asked.request.which())?;
    asked.allow(Access::Admin, Some(&name))?;
    let first = required(asked.request.shard_to_merge.as_deref(), "shardToMerge")?;
    let second = required(
        asked.request.adjacent_shard_to_merge.as_deref(),
        "adjacentShardToMerge",
    )?;
    reshard(&asked, &name, &[first, second], |shards| {
        let [one, other] = shards else { return Err(()) };
        let adjacent = |low: &ShardEntry, high: &ShardEntry| {
            low.last_key.0.checked_add(1) == Some(high.first_key.0)
        };
        if adjacent(one, other) {
            Ok(vec![(one.first_key, other.last_key)])
        } else if adjacent(other, one) {
            Ok(vec![(other.first_key, one.last_key)])
        } else {
            Err(())
        }
    })
    .await
}

/// Closes shards and opens their children.
async fn reshard<T: Sync>(
    asked: &Asked<'_, T>,
    name: &str,
    ids: &[&str],
    children: impl Fn(&[ShardEntry]) -> Result<Vec<(HashKey, HashKey)>, ()>,
) -> Silent {
    let service = asked.service;
    let _one = service.changing().await;
    let mut state = State::clone(&service.state());
    let stream = state.catalogue.streams.get(name);
    let mut stream = stream.ok_or_else(|| no_stream(name))?.clone();
    let mut parents = Vec::new();
    for id in ids {
        let parent = shard_number(id).and_then(|number| stream.shard(number));
        let parent = parent.ok_or_else(|| {
            Fault::new(
                Kind::ResourceNotFound,
                format!("Could not find shard {id} in stream {name} under account {ACCOUNT}."),
            )
        })?;
        if parent.closed.is_some() {
            return Err(Fault::new(
                Kind::ResourceInUse,
                format!(
                    "Shard {id} in stream {name} under account {ACCOUNT} has already been merged or split, and thus is not eligible for merging or splitting."
                ),
            ));
        }
        parents.push(parent.clone());
    }
    let children = children(&parents).map_err(|()| {
        let message = match ids {
            [one] => format!("NewStartingHashKey must be within the hash keys of shard {one}, and above its first."),
            _ => format!("Shards {} are not an adjacent pair of shards eligible for merging.", ids.join(" and ")),
        };
        Fault::new(Kind::InvalidArgument, message)
    })?;
    let added = u32::try_from(children.len()).unwrap_or(u32::MAX);
    bounded(service, &state, added.saturating_sub(ids.len() as u32))?;
    let numbers: Vec<_> = parents.iter().map(|parent| parent.number).collect();
    for (first, last) in children {
        let number = stream.add(numbers.clone(), first, last, asked.call.now);
        let opened = service.open_shard(&stream, number).await?;
        state.shards.insert((stream.id, number), opened);
    }
    // Whoever appends meanwhile waits, and then finds the children.
    let mut held = Vec::new();
    for number in numbers {
        if let Some(shard) = state.shards.get(&(stream.id, number)) {
            held.push(shard.hold().await);
            let end = shard.log().bounds().end;
            if let Some(entry) = stream.shard_mut(number) {
                entry.closed = Some((end, asked.call.now));
            }
        }
    }
    state.catalogue.streams.insert(name.to_owned(), stream);
    let kept = service.keep(state).await;
    // Where nobody knows, whoever waits to append must not do so here.
    let is_over = kept.is_ok() || service.is_sure().is_err();
    for mut open in held {
        *open = !is_over;
    }
    kept.map(|()| Nothing {})
}
