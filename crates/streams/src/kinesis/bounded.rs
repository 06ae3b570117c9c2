//! Lists of a request that are read only as far as the API's limit: a body of a few bytes an item would take hundreds of times its size.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The first `N` items, and one more where there are more: whoever checks the length sees that. What follows is passed over.
#[derive(Clone, Debug)]
pub(super) struct UpTo<C, const N: usize>(C);

impl<C, const N: usize> Deref for UpTo<C, N> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for UpTo<Vec<T>, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Reading::<Vec<T>, N>(PhantomData))
    }
}

impl<'de, const N: usize> Deserialize<'de> for UpTo<BTreeMap<String, String>, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reading::<BTreeMap<String, String>, N>(PhantomData))
    }
}

struct Reading<C, const N: usize>(PhantomData<C>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Reading<Vec<T>, N> {
    type Value = UpTo<Vec<T>, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() <= N {
            match items.next_element()? {
                Some(item) => kept.push(item),
                None => return Ok(UpTo(kept)),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(UpTo(kept))
    }
}

impl<'de, const N: usize> Visitor<'de> for Reading<BTreeMap<String, String>, N> {
    type Value = UpTo<BTreeMap<String, String>, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut kept = BTreeMap::new();
        while kept.len() <= N {
            match members.next_entry()? {
                Some((key, value)) => kept.insert(key, value),
                None => return Ok(UpTo(kept)),
            };
        }
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(UpTo(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_one_beyond_the_limit() {
        for (given, kept) in [(0, 0), (2, 2), (3, 3), (4, 4), (5, 4), (1000, 4)] {
            let items: Vec<usize> = (0..given).collect();
            let json = serde_json::to_string(&items).unwrap();
            let read: UpTo<Vec<usize>, 3> = serde_json::from_str(&json).unwrap();
            assert_eq!(read.len(), kept, "{given}");
            let members: BTreeMap<String, String> = items
                .iter()
                .map(|item| (item.to_string(), String::new()))
                .collect();
            let json = serde_json::to_string(&members).unwrap();
            let read: UpTo<BTreeMap<String, String>, 3> = serde_json::from_str(&json).unwrap();
            assert_eq!(read.len(), kept, "{given}");
        }
        assert!(serde_json::from_str::<UpTo<Vec<usize>, 1>>("[1, 2, 3").is_err());
    }
}
