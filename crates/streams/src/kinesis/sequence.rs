//! Sequence numbers: when the shard was made, in milliseconds, times 2^64, and the offset in its log.
//!
//! So they grow within a shard without a gap, and those of a shard are greater than all of its parents', which were made before.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A sequence number, written in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sequence(u128);

impl Sequence {
    /// The sequence number of an entry of a shard that was made at `born` milliseconds.
    pub(super) fn new(born: u64, offset: u64) -> Self {
        Self(u128::from(born) << 64 | u128::from(offset))
    }

    /// When the shard was made, in milliseconds.
    pub(super) fn born(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The offset in the shard's log.
    pub(super) fn offset(self) -> u64 {
        self.0 as u64
    }

    /// The offset, where the number is of a shard that was made at `born` milliseconds.
    pub(super) fn offset_in(self, born: u64) -> Option<u64> {
        (self.born() == born).then_some(self.offset())
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Sequence {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().map(Self).map_err(drop)
    }
}

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|()| serde::de::Error::custom("no sequence number"))
    }
}
