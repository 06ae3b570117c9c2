//! The requests and answers of the operations, with the API's names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bounded::UpTo;
use super::wire::{Blob, Time};

/// The most records of a call.
pub(super) const MOST_RECORDS: usize = 500;

/// The most tags of a stream, and of a call.
pub(super) const MOST_TAGS: usize = 50;

type TagMap = UpTo<BTreeMap<String, String>, MOST_TAGS>;

macro_rules! requests {
    ($($name:ident { $($field:ident: $type:ty,)* })+) => {
        $(
            #[derive(Deserialize)]
            #[serde(rename_all = "PascalCase")]
            pub(super) struct $name {
                $(pub(super) $field: $type,)*
            }
        )+
    };
}

macro_rules! answers {
    ($($name:ident { $($field:ident: $type:ty,)* })+) => {
        $(
            #[derive(Serialize)]
            #[serde(rename_all = "PascalCase")]
            pub(super) struct $name {
                $(#[serde(skip_serializing_if = "Absent::is_absent")] pub(super) $field: $type,)*
            }
        )+
    };
}

/// Whether a member is left out of an answer.
trait Absent {
    fn is_absent(&self) -> bool {
        false
    }
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

macro_rules! present {
    ($($type:ty),+) => { $(impl Absent for $type {})+ };
}

present!(
    bool,
    u64,
    i64,
    u32,
    &'static str,
    String,
    Blob,
    Time,
    BTreeMap<String, String>
);

impl<T> Absent for Vec<T> {}

/// Names a stream, by name or ARN.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Which {
    pub(super) stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: Option<String>,
}

macro_rules! of_streams {
    ($($name:ident { $($field:ident: $type:ty,)* })+) => {
        $(
            #[derive(Deserialize)]
            #[serde(rename_all = "PascalCase")]
            pub(super) struct $name {
                pub(super) stream_name: Option<String>,
                #[serde(rename = "StreamARN")]
                pub(super) stream_arn: Option<String>,
                $(pub(super) $field: $type,)*
            }

            impl $name {
                pub(super) fn which(&self) -> Which {
                    Which { stream_name: self.stream_name.clone(), stream_arn: self.stream_arn.clone() }
                }
            }
        )+
    };
}

requests! {
    CreateStream {
        stream_name: Option<String>,
        shard_count: Option<i64>,
        stream_mode_details: Option<StreamMode>,
        tags: Option<TagMap>,
    }
    ListStreams {
        limit: Option<i64>,
        exclusive_start_stream_name: Option<String>,
        next_token: Option<String>,
    }
    GetRecords {
        shard_iterator: Option<String>,
        limit: Option<i64>,
    }
    Entry {
        data: Option<Blob>,
        partition_key: Option<String>,
        explicit_hash_key: Option<String>,
    }
}

of_streams! {
    DeleteStream {}
    DescribeStream {
        limit: Option<i64>,
        exclusive_start_shard_id: Option<String>,
    }
    DescribeStreamSummary {}
    ListShards {
        next_token: Option<String>,
        exclusive_start_shard_id: Option<String>,
        max_results: Option<i64>,
        shard_filter: Option<ShardFilter>,
    }
    GetShardIterator {
        shard_id: Option<String>,
        shard_iterator_type: Option<String>,
        starting_sequence_number: Option<String>,
        timestamp: Option<Time>,
    }
    PutRecord {
        data: Option<Blob>,
        partition_key: Option<String>,
        explicit_hash_key: Option<String>,
    }
    PutRecords {
        records: Option<UpTo<Vec<Entry>, MOST_RECORDS>>,
    }
    SplitShard {
        shard_to_split: Option<String>,
        new_starting_hash_key: Option<String>,
    }
    MergeShards {
        shard_to_merge: Option<String>,
        adjacent_shard_to_merge: Option<String>,
    }
    ChangeRetention {
        retention_period_hours: Option<i64>,
    }
    AddTags {
        tags: Option<TagMap>,
    }
    RemoveTags {
        tag_keys: Option<UpTo<Vec<String>, MOST_TAGS>>,
    }
    ListTags {
        exclusive_start_tag_key: Option<String>,
        limit: Option<i64>,
    }
}

/// Which shards are listed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardFilter {
    #[serde(rename = "Type")]
    pub(super) kind: Option<String>,
    pub(super) shard_id: Option<String>,
    pub(super) timestamp: Option<Time>,
}

/// How a stream's capacity is managed.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamMode {
    pub(super) stream_mode: Option<String>,
}

answers! {
    Nothing {}
    StreamNames {
        stream_names: Vec<String>,
        has_more_streams: bool,
        next_token: Option<String>,
        stream_summaries: Vec<StreamSummary>,
    }
    Shard {
        shard_id: String,
        parent_shard_id: Option<String>,
        adjacent_parent_shard_id: Option<String>,
        hash_key_range: HashKeyRange,
        sequence_number_range: SequenceNumberRange,
    }
    HashKeyRange {
        starting_hash_key: String,
        ending_hash_key: String,
    }
    SequenceNumberRange {
        starting_sequence_number: String,
        ending_sequence_number: Option<String>,
    }
    DescribedStream {
        stream_description: StreamDescription,
    }
    DescribedSummary {
        stream_description_summary: StreamDescription,
    }
    Shards {
        shards: Vec<Shard>,
        next_token: Option<String>,
    }
    ShardIteratorAnswer {
        shard_iterator: String,
    }
    Records {
        records: Vec<Record>,
        next_shard_iterator: Option<String>,
        millis_behind_latest: i64,
        child_shards: Option<Vec<ChildShard>>,
    }
    Record {
        sequence_number: String,
        approximate_arrival_timestamp: Time,
        data: Blob,
        partition_key: String,
    }
    ChildShard {
        shard_id: String,
        parent_shards: Vec<String>,
        hash_key_range: HashKeyRange,
    }
    PutRecordAnswer {
        shard_id: String,
        sequence_number: String,
    }
    PutRecordsAnswer {
        failed_record_count: u32,
        records: Vec<PutEntry>,
    }
    PutEntry {
        shard_id: Option<String>,
        sequence_number: Option<String>,
        error_code: Option<&'static str>,
        error_message: Option<String>,
    }
    Tag {
        key: String,
        value: String,
    }
    Tags {
        tags: Vec<Tag>,
        has_more_tags: bool,
    }
    EnhancedMonitoring {
        shard_level_metrics: Vec<String>,
    }
}

impl Absent for HashKeyRange {}
impl Absent for SequenceNumberRange {}
impl Absent for StreamDescription {}

/// A stream in a list.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamSummary {
    pub(super) stream_name: String,
    #[serde(rename = "StreamARN")]
    pub(super) stream_arn: String,
    pub(super) stream_status: &'static str,
    pub(super) stream_mode_details: StreamMode,
    pub(super) stream_creation_timestamp: Time,
}

/// A stream, whole or as a summary.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamDescription {
    #[serde(flatten)]
    pub(super) stream: StreamSummary,
    pub(super) retention_period_hours: u32,
    pub(super) enhanced_monitoring: Vec<EnhancedMonitoring>,
    pub(super) encryption_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shards: Option<Vec<Shard>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) has_more_shards: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_shard_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consumer_count: Option<u32>,
}
