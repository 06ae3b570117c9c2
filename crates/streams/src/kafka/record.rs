//! A message of librdkafka as a record.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use crate::record::{Header, Lane, Position, Record};

/// The lane of a partition: `topic/3`.
#[must_use]
pub fn lane(topic: &str, partition: i32) -> Lane {
    Lane::new(format!("{topic}/{partition}"))
}

/// The topic and the partition of a lane of Kafka's.
#[must_use]
pub fn partition_of(lane: &Lane) -> Option<(&str, i32)> {
    let (topic, partition) = lane.as_str().rsplit_once('/')?;
    Some((topic, partition.parse().ok()?))
}

/// Makes records of messages. Keys, values and headers of neighbours lie in common blocks: a block of memory for each would cost more
/// than the copying. A record that is kept keeps its block, so blocks are small.
pub(super) struct Maker {
    block: BytesMut,
    names: Vec<Arc<str>>,
}

/// The size of a block. What is larger than a quarter of it has memory of its own.
const BLOCK: usize = 64 * 1024;

/// How many names of headers are remembered.
const NAMES: usize = 32;

impl Maker {
    pub(super) fn new() -> Self {
        Self {
            block: BytesMut::new(),
            names: Vec::new(),
        }
    }

    pub(super) fn record(
        &mut self,
        lane: &Lane,
        offset: u64,
        message: &BorrowedMessage<'_>,
    ) -> Record {
        Record {
            lane: lane.clone(),
            ordinal: offset,
            position: Position::number(offset),
            key: message.key().map(|key| self.keep(key)),
            value: message.payload().map(|value| self.keep(value)),
            headers: self.headers(message),
            timestamp: message
                .timestamp()
                .to_millis()
                .and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            defect: None,
        }
    }

    fn headers(&mut self, message: &BorrowedMessage<'_>) -> Vec<Header> {
        let Some(headers) = message.headers() else {
            return Vec::new();
        };
        let mut list = Vec::with_capacity(headers.count());
        for index in 0..headers.count() {
            // rdkafka panics at a name that is not UTF-8. Kafka's protocol wants UTF-8, brokers do not look.
            match catch_unwind(AssertUnwindSafe(|| headers.try_get(index))) {
                Ok(Some(header)) => list.push(Header {
                    name: self.name(header.key),
                    value: header.value.map(|value| self.keep(value)),
                }),
                Ok(None) => {}
                Err(_) => tracing::warn!(
                    topic = message.topic(),
                    partition = message.partition(),
                    offset = message.offset(),
                    "a header whose name is not UTF-8 is left out"
                ),
            }
        }
        list
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.iter().find(|known| &***known == name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        if self.names.len() < NAMES {
            self.names.push(name.clone());
        }
        name
    }

    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > BLOCK / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if bytes.is_empty() {
            return Bytes::new();
        }
        if self.block.capacity() - self.block.len() < bytes.len() {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_tells_its_partition() {
        for (topic, partition) in [("contracts.in", 0), ("a-b_c", 31)] {
            assert_eq!(
                partition_of(&lane(topic, partition)),
                Some((topic, partition))
            );
        }
        assert_eq!(partition_of(&Lane::new("shardId-000000000001")), None);
    }

    #[test]
    fn neighbours_share_a_block_and_large_ones_do_not() {
        let mut maker = Maker::new();
        let one = maker.keep(b"one");
        let two = maker.keep(b"two");
        assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"two"[..]));
        assert_eq!(two.as_ptr() as usize, one.as_ptr() as usize + 3);
        let large = vec![7; BLOCK];
        assert_eq!(&maker.keep(&large)[..], &large[..]);
    }
}
