//! What producers wrap their records in, taken off: base64, gzip, aggregates of the Kinesis Producer Library, CloudWatch Logs.

use std::io::Read as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use prost::Message as _;
use serde::Deserialize;

use super::hash_key::HashKey;
use crate::record::{Header, Position, Record};

/// A wrapping. A list of them is taken off from the outermost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// The value is base64 (RFC 4648 section 4).
    Base64,
    /// The value is gzip (RFC 1952).
    Gzip,
    /// The value may be an aggregate of the Kinesis Producer Library; one that is none passes as it is.
    /// <https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md>
    Kpl,
    /// The value is an envelope of a CloudWatch Logs subscription, gzip with JSON in it: each log event becomes a record.
    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html>
    CloudWatchLogs,
}

/// The least and the greatest hash key of a shard, in decimal: parts of an aggregate that belong to another shard are left out, since
/// that one has them too (after a split).
#[derive(Clone, Copy, Debug)]
pub struct Range {
    first: HashKey,
    last: HashKey,
}

impl Range {
    /// The range between two hash keys; none where they are none.
    #[must_use]
    pub fn new(first: &str, last: &str) -> Option<Self> {
        Some(Self {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
        })
    }
}

/// What wraps the records of a source.
#[derive(Clone, Debug)]
pub struct Decoder {
    wrappings: Vec<Wrapping>,
    /// The most bytes that one record may become, with all that is in it.
    limit: usize,
}

/// What would become more than that.
const TOO_LARGE: &str = "unpacked it is larger than is allowed";

impl Decoder {
    /// A decoder. `limit` bounds the bytes that one record may become, all records within it together, as [`Record::size`] counts them: a
    /// small one can hold very much when it is compressed.
    #[must_use]
    pub const fn new(wrappings: Vec<Wrapping>, limit: usize) -> Self {
        Self { wrappings, limit }
    }

    /// The decoder that takes off aggregates first, where it does not take them off anyway.
    #[must_use]
    pub fn with_kpl(mut self) -> Self {
        if !self.wrappings.contains(&Wrapping::Kpl) {
            self.wrappings.insert(0, Wrapping::Kpl);
        }
        self
    }

    /// The most bytes that a record of that size can become.
    #[must_use]
    pub fn most(&self, size: usize) -> usize {
        size.max(self.limit)
    }

    /// What it takes off, in a word: two of the same name find the same records in a record.
    #[must_use]
    pub fn name(&self) -> String {
        let names: Vec<_> = self.wrappings.iter().map(|it| it.name()).collect();
        names.join("+")
    }

    /// The records in a record, in order. One that cannot be read comes back as it was, with its defect.
    #[must_use]
    pub fn decode(&self, record: Record, shard: Option<Range>) -> Vec<Record> {
        let mut records = vec![record.clone()];
        for wrapping in &self.wrappings {
            let mut next = Vec::with_capacity(records.len());
            let mut left = self.most(record.size());
            for part in records {
                let parts = wrapping.take_off(part, shard, left).and_then(|parts| {
                    let size = parts.iter().map(Record::size).sum();
                    left = left.checked_sub(size).ok_or(TOO_LARGE)?;
                    Ok(parts)
                });
                match parts {
                    Ok(parts) => next.extend(parts),
                    Err(defect) => {
                        return vec![Record {
                            defect: Some(defect.into()),
                            ..record
                        }];
                    }
                }
            }
            records = next;
        }
        records
    }
}

impl Wrapping {
    const fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Gzip => "gzip",
            Self::Kpl => "kpl",
            Self::CloudWatchLogs => "cloudwatch-logs",
        }
    }

    fn take_off(
        self,
        record: Record,
        shard: Option<Range>,
        limit: usize,
    ) -> Result<Vec<Record>, &'static str> {
        let value = record.value.clone().unwrap_or_default();
        match self {
            Self::Base64 => {
                let text = value.trim_ascii();
                let decoded = STANDARD.decode(text).map_err(|_| "it is no base64")?;
                Ok(vec![with(record, decoded.into())])
            }
            Self::Gzip => {
                let whole = unpacked(&value, limit)?;
                Ok(vec![with(record, whole)])
            }
            Self::Kpl => Ok(match aggregate(&value) {
                None => vec![record],
                Some(aggregate) => parts(&record, aggregate, shard, limit)?,
            }),
            Self::CloudWatchLogs => log_events(&record, &unpacked(&value, limit)?, limit),
        }
    }
}

fn with(record: Record, value: Bytes) -> Record {
    Record {
        value: Some(value),
        ..record
    }
}

fn unpacked(value: &[u8], limit: usize) -> Result<Bytes, &'static str> {
    let mut whole = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    MultiGzDecoder::new(value)
        .take(most.saturating_add(1))
        .read_to_end(&mut whole)
        .map_err(|_| "it is no gzip, or is cut off")?;
    if whole.len() > limit {
        return Err(TOO_LARGE);
    }
    Ok(whole.into())
}

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
const DIGEST: usize = 16;

#[derive(Clone, PartialEq, prost::Message)]
struct Aggregate {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Part>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Part {
    #[prost(uint64, tag = "1")]
    partition_key: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key: Option<u64>,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

/// The aggregate in a value: it begins with the magic bytes and ends with the MD5 of what is between. Anything else is a record that only
/// looks like one, as the format's description says.
fn aggregate(value: &Bytes) -> Option<Aggregate> {
    if !value.starts_with(&MAGIC) || value.len() < MAGIC.len() + DIGEST {
        return None;
    }
    let body = value.slice(MAGIC.len()..value.len() - DIGEST);
    let digest: [u8; DIGEST] = Md5::digest(&body).into();
    if value[value.len() - DIGEST..] != digest {
        return None;
    }
    Aggregate::decode(body).ok()
}

fn parts(
    record: &Record,
    aggregate: Aggregate,
    shard: Option<Range>,
    limit: usize,
) -> Result<Vec<Record>, &'static str> {
    let named = |names: &[String], nth: u64| {
        usize::try_from(nth)
            .ok()
            .and_then(|nth| names.get(nth))
            .cloned()
            .ok_or("its aggregate names a key that it does not hold")
    };
    let mut parts = Parts::within(limit);
    for (nth, part) in aggregate.records.into_iter().enumerate() {
        let key = named(&aggregate.partition_keys, part.partition_key)?;
        let hash = match part.explicit_hash_key {
            None => HashKey::of(&key),
            Some(explicit) => named(&aggregate.explicit_hash_keys, explicit)?
                .parse()
                .map_err(|()| "its aggregate holds a hash key that is none")?,
        };
        if shard.is_some_and(|shard| hash < shard.first || hash > shard.last) {
            continue;
        }
        parts.push(Record {
            key: Some(key.into()),
            value: Some(part.data),
            position: within(record, nth),
            ..record.clone()
        })?;
    }
    Ok(parts.records)
}

/// Records within a record, as many as there is room for.
struct Parts {
    records: Vec<Record>,
    left: usize,
}

impl Parts {
    const fn within(limit: usize) -> Self {
        Self {
            records: Vec::new(),
            left: limit,
        }
    }

    fn push(&mut self, record: Record) -> Result<(), &'static str> {
        self.left = self.left.checked_sub(record.size()).ok_or(TOO_LARGE)?;
        self.records.push(record);
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    message_type: String,
    #[serde(default)]
    log_group: String,
    #[serde(default)]
    log_stream: String,
    #[serde(default)]
    log_events: Vec<LogEvent>,
}

#[derive(Deserialize)]
struct LogEvent {
    id: String,
    timestamp: i64,
    message: String,
}

fn log_events(record: &Record, json: &[u8], limit: usize) -> Result<Vec<Record>, &'static str> {
    let envelope: Envelope =
        serde_json::from_slice(json).map_err(|_| "it is no envelope of CloudWatch Logs")?;
    // A control message only tries whether the stream can be reached.
    if envelope.message_type != "DATA_MESSAGE" {
        return Ok(Vec::new());
    }
    let header = |name: &str, value: String| Header {
        name: Arc::from(name),
        value: Some(value.into()),
    };
    let group = header("cloudwatch-log-group", envelope.log_group);
    let stream = header("cloudwatch-log-stream", envelope.log_stream);
    let id: Arc<str> = Arc::from("cloudwatch-event-id");
    let mut records = Parts::within(limit);
    for (nth, event) in envelope.log_events.into_iter().enumerate() {
        let mut headers = record.headers.clone();
        headers.extend([group.clone(), stream.clone()]);
        headers.push(Header {
            name: id.clone(),
            value: Some(event.id.into()),
        });
        records.push(Record {
            value: Some(event.message.into()),
            headers,
            timestamp: Timestamp::from_millisecond(event.timestamp)
                .ok()
                .or(record.timestamp),
            position: within(record, nth),
            ..record.clone()
        })?;
    }
    Ok(records.records)
}

/// The position of a record within a record: `SEQUENCE/NTH`, and deeper ones with another `/NTH`.
fn within(record: &Record, nth: usize) -> Position {
    Position::new(&format!("{}/{nth}", record.position))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::record::Lane;

    const LIMIT: usize = 1 << 20;

    fn record(value: Vec<u8>) -> Record {
        Record {
            lane: Lane::new("shardId-000000000000"),
            ordinal: 7,
            position: Position::new("31313131313131313131313131"),
            key: Some(Bytes::from_static(b"outer")),
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
            defect: None,
        }
    }

    fn decode(wrappings: &[Wrapping], value: Vec<u8>) -> Vec<Record> {
        Decoder::new(wrappings.to_vec(), LIMIT).decode(record(value), None)
    }

    fn values(records: &[Record]) -> Vec<&str> {
        let value = |record: &Record| std::str::from_utf8(record.value.as_ref()?).ok().map(|_| ());
        assert!(records.iter().all(|record| value(record).is_some()));
        records
            .iter()
            .map(|record| std::str::from_utf8(record.value.as_deref().unwrap()).unwrap())
            .collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn kpl(parts: &[(&str, Option<&str>, &str)]) -> Vec<u8> {
        let mut aggregate = Aggregate::default();
        for (key, explicit, data) in parts {
            aggregate.partition_keys.push((*key).to_owned());
            let explicit = explicit.map(|explicit| {
                aggregate.explicit_hash_keys.push(explicit.to_owned());
                aggregate.explicit_hash_keys.len() as u64 - 1
            });
            aggregate.records.push(Part {
                partition_key: aggregate.partition_keys.len() as u64 - 1,
                explicit_hash_key: explicit,
                data: Bytes::copy_from_slice(data.as_bytes()),
            });
        }
        let body = aggregate.encode_to_vec();
        let digest: [u8; DIGEST] = Md5::digest(&body).into();
        [&MAGIC[..], &body, &digest].concat()
    }

    #[test]
    fn wrappings_are_taken_off_from_the_outermost() {
        let wrapped = STANDARD.encode(gzip(b"good")).into_bytes();
        let records = decode(&[Wrapping::Base64, Wrapping::Gzip], wrapped);
        assert_eq!(values(&records), ["good"]);
        assert_eq!(records[0].position, record(Vec::new()).position);
        assert_eq!(values(&decode(&[], b"as it is".to_vec())), ["as it is"]);
    }

    #[test]
    fn an_aggregate_becomes_its_records_with_keys_and_positions_of_their_own() {
        let wrapped = kpl(&[("a", None, "one"), ("b", Some("5"), "two")]);
        let records = decode(&[Wrapping::Kpl], wrapped.clone());
        assert_eq!(values(&records), ["one", "two"]);
        let keys: Vec<_> = records.iter().map(|record| record.key.as_deref()).collect();
        assert_eq!(keys, [Some(&b"a"[..]), Some(b"b")]);
        assert_eq!(
            records[1].position.to_string(),
            "31313131313131313131313131/1"
        );
        // MD5 of "a" begins with 0x0c: after a split at the half, the upper shard has neither of them.
        let decoder = Decoder::new(vec![Wrapping::Kpl], LIMIT);
        let half = (1_u128 << 127).to_string();
        let upper = Range::new(&half, &u128::MAX.to_string());
        assert!(decoder.decode(record(wrapped.clone()), upper).is_empty());
        let lower = Range::new("6", &half);
        assert_eq!(values(&decoder.decode(record(wrapped), lower)), ["one"]);
    }

    #[test]
    fn what_only_looks_like_an_aggregate_passes_as_it_is() {
        let mut spoiled = kpl(&[("a", None, "one")]);
        let last = spoiled.len() - 1;
        spoiled[last] ^= 1;
        for value in [spoiled, MAGIC.to_vec(), b"plain".to_vec(), Vec::new()] {
            let records = decode(&[Wrapping::Kpl], value.clone());
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].value.as_deref(), Some(&value[..]));
            assert_eq!(records[0].defect, None);
        }
    }

    #[test]
    fn log_events_become_records_and_control_messages_none() {
        let data = br#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"app","logStream":"web-1","subscriptionFilters":["f"],
            "logEvents":[{"id":"1","timestamp":1790000000123,"message":"ERROR a"},{"id":"2","timestamp":1790000000124,"message":"b"}]}"#;
        let records = decode(&[Wrapping::CloudWatchLogs], gzip(data));
        assert_eq!(values(&records), ["ERROR a", "b"]);
        let time = records[0].timestamp.unwrap();
        assert_eq!(time.as_millisecond(), 1_790_000_000_123);
        let names: Vec<_> = records[0]
            .headers
            .iter()
            .map(|header| &*header.name)
            .collect();
        assert_eq!(
            names,
            [
                "cloudwatch-log-group",
                "cloudwatch-log-stream",
                "cloudwatch-event-id"
            ]
        );
        let control = br#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE"}]}"#;
        assert!(decode(&[Wrapping::CloudWatchLogs], gzip(control)).is_empty());
    }

    #[test]
    fn what_is_in_a_record_is_bounded_with_all_of_it_together() {
        // Each of them could be unpacked by itself.
        let half = gzip(&vec![0; LIMIT / 2 - 1_000]);
        let event = r#"{"id":"1","timestamp":1790000000123,"message":"m"}"#;
        let envelope = |events: usize, group: usize| {
            let (events, group) = (vec![event; events].join(","), "g".repeat(group));
            let envelope = format!(
                r#"{{"messageType":"DATA_MESSAGE","logGroup":"{group}","logEvents":[{events}]}}"#
            );
            gzip(envelope.as_bytes())
        };
        let aggregate = |parts: usize| {
            let mut aggregate = Aggregate {
                partition_keys: vec!["a".to_owned()],
                ..Aggregate::default()
            };
            aggregate.records = vec![
                Part {
                    partition_key: 0,
                    explicit_hash_key: None,
                    data: half.clone().into(),
                };
                parts
            ];
            let body = aggregate.encode_to_vec();
            let digest: [u8; DIGEST] = Md5::digest(&body).into();
            [&MAGIC[..], &body, &digest].concat()
        };
        for (wrappings, value, parts) in [
            (&[Wrapping::Kpl, Wrapping::Gzip][..], aggregate(2), Some(2)),
            (&[Wrapping::Kpl, Wrapping::Gzip], aggregate(3), None),
            (&[Wrapping::CloudWatchLogs], envelope(100, 1_000), Some(100)),
            (&[Wrapping::CloudWatchLogs], envelope(100, LIMIT / 50), None),
        ] {
            let records = decode(wrappings, value);
            let defect = records[0].defect.as_deref();
            assert_eq!(defect, parts.is_none().then_some(TOO_LARGE));
            assert_eq!(records.len(), parts.unwrap_or(1));
        }
    }

    #[test]
    fn what_cannot_be_read_keeps_its_bytes_and_says_why() {
        let bomb = gzip(&vec![0; LIMIT + 1]);
        let mut cut = gzip(b"good");
        cut.truncate(cut.len() - 3);
        for (wrapping, value, why) in [
            (Wrapping::Base64, b"?".to_vec(), "base64"),
            (Wrapping::Gzip, b"plain".to_vec(), "gzip"),
            (Wrapping::Gzip, cut, "cut off"),
            (Wrapping::Gzip, bomb, "larger"),
            (Wrapping::CloudWatchLogs, gzip(b"{}"), "envelope"),
        ] {
            let records = decode(&[wrapping], value.clone());
            assert_eq!(records.len(), 1);
            assert_eq!(records[0].value.as_deref(), Some(&value[..]));
            let defect = records[0].defect.as_deref().unwrap();
            assert!(defect.contains(why), "{defect}");
        }
    }
}
