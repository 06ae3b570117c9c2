//! Streams: made, listed, described, deleted; how long they keep records.

use super::super::catalogue::StreamEntry;
use super::super::fault::{Fault, Kind};
use super::super::service::{Access, name_of, no_stream};
use super::super::shapes::{
    ChangeRetention, CreateStream, DeleteStream, DescribeStream, DescribeStreamSummary,
    DescribedStream, DescribedSummary, EnhancedMonitoring, ListStreams, MOST_TAGS, Nothing,
    StreamDescription, StreamMode, StreamNames, StreamSummary, Which,
};
use super::super::wire::Time;
use super::{Asked, Silent, required, reshard, within};

/// The longest retention, a year.
const MOST_HOURS: u32 = 8760;
const LEAST_HOURS: u32 = 24;
/// How many shards an on-demand stream begins with.
const ON_DEMAND_SHARDS: u32 = 4;

pub(super) async fn create(asked: Asked<'_, CreateStream>) -> Silent {
    let request = &asked.request;
    let name = required(request.stream_name.clone(), "streamName")?;
    let name = name_of(&Which {
        stream_name: Some(name),
        stream_arn: None,
    })?;
    asked.allow(Access::Admin, Some(&name))?;
    let mode = request.stream_mode_details.as_ref();
    let mode = mode.and_then(|details| details.stream_mode.as_deref());
    let on_demand = match mode {
        None | Some("PROVISIONED") => false,
        Some("ON_DEMAND") => true,
        Some(other) => {
            return Err(Fault::validation(
                other,
                "streamModeDetails.streamMode",
                "Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]",
            ));
        }
    };
    let shards = match request.shard_count {
        None if on_demand => ON_DEMAND_SHARDS as usize,
        None => {
            return Err(Fault::new(
                Kind::InvalidArgument,
                "ShardCount must be given for a stream of the mode PROVISIONED.",
            ));
        }
        Some(_) => within(request.shard_count, "shardCount", 1, 100_000, 1)?,
    };
    let shards = u32::try_from(shards).unwrap_or(u32::MAX);
    let mut stream = StreamEntry::new(shards, on_demand, asked.call.now);
    if let Some(tags) = &request.tags {
        if tags.len() > MOST_TAGS {
            return Err(Fault::new(
                Kind::InvalidArgument,
                format!("A stream has at most {MOST_TAGS} tags."),
            ));
        }
        stream.tags.clone_from(tags);
    }
    if !asked.service.create(&name, stream).await? {
        return Err(Fault::new(
            Kind::ResourceInUse,
            format!(
                "Stream {name} under account {} already exists.",
                super::super::service::ACCOUNT
            ),
        ));
    }
    Ok(Nothing {})
}

pub(super) async fn delete(asked: Asked<'_, DeleteStream>) -> Silent {
    let name = name_of(&asked.request.which())?;
    asked.allow(Access::Admin, Some(&name))?;
    let removed = asked
        .service
        .change(|state| {
            let stream = state.catalogue.streams.remove(&name)?;
            state.shards.retain(|(id, _), _| *id != stream.id);
            Some(stream)
        })
        .await?;
    let stream = removed.ok_or_else(|| no_stream(&name))?;
    asked.service.remove_logs(&stream).await;
    Ok(Nothing {})
}

pub(super) async fn list(asked: Asked<'_, ListStreams>) -> Result<StreamNames, Fault> {
    asked.allow(Access::Read, None)?;
    let request = &asked.request;
    let limit = within(request.limit, "limit", 1, 10_000, 100)?;
    let after = request
        .next_token
        .as_ref()
        .or(request.exclusive_start_stream_name.as_ref());
    let state = asked.service.state();
    let mut streams = state
        .catalogue
        .streams
        .iter()
        .filter(|(name, _)| after.is_none_or(|after| *name > after));
    let page: Vec<_> = streams.by_ref().take(limit).collect();
    let more = streams.next().is_some();
    Ok(StreamNames {
        stream_names: page.iter().map(|(name, _)| (*name).clone()).collect(),
        has_more_streams: more,
        next_token: page
            .last()
            .filter(|_| more)
            .map(|(name, _)| (*name).clone()),
        stream_summaries: page
            .iter()
            .map(|(name, stream)| summary_of(&asked, name, stream))
            .collect(),
    })
}

pub(super) async fn describe(asked: Asked<'_, DescribeStream>) -> Result<DescribedStream, Fault> {
    let state = asked.service.state();
    let (name, stream) = asked.look_at(&state, &asked.request.which())?;
    let limit = within(asked.request.limit, "limit", 1, 10_000, 100)?;
    let after = asked.request.exclusive_start_shard_id.as_deref();
    let (shards, more) = reshard::page(stream, after, limit, |_| true);
    Ok(DescribedStream {
        stream_description: StreamDescription {
            shards: Some(shards),
            has_more_shards: Some(more),
            open_shard_count: None,
            consumer_count: None,
            ..description(&asked, name, stream)
        },
    })
}

pub(super) async fn summary(
    asked: Asked<'_, DescribeStreamSummary>,
) -> Result<DescribedSummary, Fault> {
    let state = asked.service.state();
    let (name, stream) = asked.look_at(&state, &asked.request.which())?;
    Ok(DescribedSummary {
        stream_description_summary: description(&asked, name, stream),
    })
}

pub(super) async fn increase_retention(asked: Asked<'_, ChangeRetention>) -> Silent {
    change_retention(asked, |now, wanted| wanted >= now, "greater").await
}

pub(super) async fn decrease_retention(asked: Asked<'_, ChangeRetention>) -> Silent {
    change_retention(asked, |now, wanted| wanted <= now, "less").await
}

async fn change_retention(
    asked: Asked<'_, ChangeRetention>,
    fits: impl Fn(u32, u32) -> bool,
    way: &str,
) -> Silent {
    let name = name_of(&asked.request.which())?;
    asked.allow(Access::Admin, Some(&name))?;
    let hours = required(asked.request.retention_period_hours, "retentionPeriodHours")?;
    let (least, most) = (i64::from(LEAST_HOURS), i64::from(MOST_HOURS));
    if !(least..=most).contains(&hours) {
        return Err(Fault::new(
            Kind::InvalidArgument,
            format!(
                "The retention period must be between {least} and {most} hours; requested {hours} hours."
            ),
        ));
    }
    let hours = u32::try_from(hours).unwrap_or(MOST_HOURS);
    asked
        .service
        .change(|state| {
            let stream = state.catalogue.streams.get_mut(&name);
            let stream = stream.ok_or_else(|| no_stream(&name))?;
            if !fits(stream.retention_hours, hours) {
                return Err(Fault::new(
                    Kind::InvalidArgument,
                    format!(
                        "Requested retention period ({hours} hours) for stream {name} must be {way} than or equal to the existing retention period ({} hours).",
                        stream.retention_hours
                    ),
                ));
            }
            stream.retention_hours = hours;
            Ok(Nothing {})
        })
        .await?
}

fn summary_of<T>(asked: &Asked<'_, T>, name: &str, stream: &StreamEntry) -> StreamSummary {
    StreamSummary {
        stream_name: name.to_owned(),
        stream_arn: asked.arn(name),
        stream_status: "ACTIVE",
        stream_mode_details: StreamMode {
            stream_mode: Some(
                if stream.on_demand {
                    "ON_DEMAND"
                } else {
                    "PROVISIONED"
                }
                .to_owned(),
            ),
        },
        stream_creation_timestamp: Time(stream.created),
    }
}

/// A stream's description as a summary.
fn description<T>(asked: &Asked<'_, T>, name: &str, stream: &StreamEntry) -> StreamDescription {
    StreamDescription {
        stream: summary_of(asked, name, stream),
        retention_period_hours: stream.retention_hours,
        enhanced_monitoring: vec![EnhancedMonitoring {
            shard_level_metrics: Vec::new(),
        }],
        encryption_type: "NONE",
        shards: None,
        has_more_shards: None,
        open_shard_count: Some(u32::try_from(stream.open_shards().count()).unwrap_or(u32::MAX)),
        consumer_count: Some(0),
    }
}
