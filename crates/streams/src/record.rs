//! A record, and where it stands in its stream.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A part of a source whose records have an order: a partition of a Kafka topic, a shard of a Kinesis stream.
/// Its name is unique within the source: `contracts.in/3`, `shardId-000000000001`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lane(Arc<str>);

/// Where a record stands in its lane, in the source's own words: an offset, or a sequence number with the place within an aggregate.
/// Opaque here; whoever made it reads it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Position(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    // Most positions are numbers, and come by the hundred thousand a second.
    Number(u64),
    Text(Arc<str>),
}

/// A record as it came.
#[derive(Clone)]
pub struct Record {
    /// The lane.
    pub lane: Lane,
    /// Its number within its lane: grows from record to record, with gaps or without. For Kafka the offset; for others counted from
    /// where reading began, so that it holds for one run only.
    pub ordinal: u64,
    /// Its position, which holds for ever.
    pub position: Position,
    /// Kafka's key, Kinesis's partition key.
    pub key: Option<Bytes>,
    /// The content; none is Kafka's tombstone.
    pub value: Option<Bytes>,
    /// Kafka's headers, in their order, names more than once where they stand so.
    pub headers: Vec<Header>,
    /// When it was made or taken, as the source says: milliseconds.
    pub timestamp: Option<Timestamp>,
    /// Why nothing can be done with it, where that is known already: it becomes a dead letter, with the bytes as they came.
    pub defect: Option<Arc<str>>,
}

/// A header. Names may stand more than once in a record; the value may be absent.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: Arc<str>,
    /// The value.
    pub value: Option<Bytes>,
}

impl Record {
    /// About how many bytes of memory it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        const ITSELF: usize = 128;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        ITSELF
            + length(&self.key)
            + length(&self.value)
            + headers
                .map(|header| header.name.len() + length(&header.value))
                .sum::<usize>()
    }
}

impl Lane {
    /// The lane of that name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Position {
    /// The position that is written so.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.parse::<u64>() {
            Ok(number) if number.to_string() == text => Self(Form::Number(number)),
            _ => Self(Form::Text(text.into())),
        }
    }

    /// The position that is a number.
    #[must_use]
    pub const fn number(number: u64) -> Self {
        Self(Form::Number(number))
    }

    /// The number, where it is one.
    #[must_use]
    pub const fn as_number(&self) -> Option<u64> {
        match self.0 {
            Form::Number(number) => Some(number),
            Form::Text(_) => None,
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key, the value or a header.
        f.debug_struct("Record")
            .field("lane", &self.lane)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Number(number) => number.fmt(f),
            Form::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
