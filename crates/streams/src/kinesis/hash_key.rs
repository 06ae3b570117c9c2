//! Hash keys: 128-bit numbers that say to which shard a record belongs.

use std::fmt;
use std::str::FromStr;

use md5::{Digest as _, Md5};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hash key, written in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HashKey(pub(super) u128);

impl HashKey {
    /// The hash key of a partition key: its MD5, big-endian.
    pub(super) fn of(partition_key: &str) -> Self {
        Self(u128::from_be_bytes(Md5::digest(partition_key).into()))
    }

    /// The least and the most of each of `count` shards of about the same width.
    pub(super) fn ranges(count: u32) -> Vec<(Self, Self)> {
        let count = u128::from(count);
        let width = u128::MAX / count;
        (0..count)
            .map(|nth| {
                let end = if nth + 1 == count {
                    u128::MAX
                } else {
                    (nth + 1) * width - 1
                };
                (Self(nth * width), Self(end))
            })
            .collect()
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HashKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let plain = text == "0" || !text.starts_with(['0', '+']);
        text.parse().ok().filter(|_| plain).map(Self).ok_or(())
    }
}

impl Serialize for HashKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HashKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|()| serde::de::Error::custom("no hash key"))
    }
}
