//! Which shards of a stream can be read now: parents before their children, so that the records of a key keep their order when shards
//! are split and merged.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::Start;
use super::leases::Known;
use super::place::{At, Place, Sequence};
use crate::kinesis::decode::Range;
use crate::record::Lane;

/// A shard, as the service lists it.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) lane: Lane,
    /// What it was made from. A parent that retention has removed is still named.
    pub(super) parents: Vec<Lane>,
    pub(super) range: Option<Range>,
    /// No record of it has a lower number.
    pub(super) first: Option<Sequence>,
    /// It takes no more records.
    pub(super) closed: bool,
}

/// Where a shard that was never read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Oldest,
    Newest,
}

/// The shards that can be read now, each with where it begins if nothing of it was ever read.
///
/// A shard is read when all of its parents are read to their ends, or are gone. With [`Start::Latest`] a shard that was there before the
/// stream was read at all begins behind its newest record, or is passed over where it is closed; what was split off later is read whole.
pub(super) fn readable<'s>(
    shards: &'s [Shard],
    known: &HashMap<Lane, Known>,
    start: Start,
) -> Vec<(&'s Shard, Begin)> {
    let there: HashSet<_> = shards.iter().map(|shard| &shard.lane).collect();
    let descends = |shard: &Shard| shard.parents.iter().any(|lane| known.contains_key(lane));
    let begin = |shard: &Shard| match start {
        Start::Latest if !descends(shard) => Begin::Newest,
        _ => Begin::Oldest,
    };
    let passed: HashSet<_> = shards
        .iter()
        .filter(|shard| shard.closed && begin(shard) == Begin::Newest)
        .map(|shard| &shard.lane)
        .filter(|lane| !known.contains_key(*lane))
        .collect();
    let is_done = |lane: &Lane| known.get(lane).is_some_and(|known| known.ended);
    let can_be_read = |shard: &&Shard| {
        let after =
            |parent: &Lane| !there.contains(parent) || is_done(parent) || passed.contains(parent);
        !is_done(&shard.lane) && !passed.contains(&shard.lane) && shard.parents.iter().all(after)
    };
    let readable = shards.iter().filter(can_be_read);
    readable.map(|shard| (shard, begin(shard))).collect()
}

/// What is wrong with a stream, told from what was kept of it: the lane, and a sentence.
pub(super) fn fault(
    shards: &[Shard],
    known: &HashMap<Lane, Known>,
    created: Timestamp,
) -> Option<(Lane, &'static str)> {
    let by_lane: HashMap<_, _> = shards.iter().map(|shard| (&shard.lane, shard)).collect();
    known.values().find_map(|known| {
        let progress = known.progress.as_ref();
        let last = progress.and_then(|progress| progress.last.as_ref());
        let shard = by_lane.get(&known.lane);
        let found = match (last.map(|(_, at)| Place::of(at)), shard) {
            (None, None) => None,
            (_, None) => (!known.ended).then_some(OVERTAKEN),
            (Some(None), Some(_)) => Some("the progress that is kept is no place in a shard"),
            (_, Some(shard)) if known.ended && !shard.closed => Some(ANEW),
            (Some(Some(place)), Some(shard)) => {
                let before = match (place.sequence(), &shard.first) {
                    (Some(sequence), Some(first)) => sequence < first,
                    _ => false,
                };
                let older = place.at == At::Time && place.settled.is_some_and(|it| it < created);
                (before || older).then_some(ANEW)
            }
            (None, Some(_)) => None,
        };
        found.map(|detail| (known.lane.clone(), detail))
    })
}

/// Retention has removed what was not read.
pub(super) const OVERTAKEN: &str = "records that were not read are gone: the stream's retention period has overtaken the reader. To go on with what is there, give the integration another name, which begins anew; and let the stream keep records for longer";
/// The stream is another one than the one that was read.
pub(super) const ANEW: &str = "the stream was deleted and made anew under its old name: what was read before is not a part of it. To read the new one, give the integration another name, which begins anew";
/// The stream is not there any more.
pub(super) const DELETED: &str =
    "the stream is not there any more: it was deleted, or its name or region has changed";

/// What need not be kept any more: lanes that are done, whose shards are gone, and whose children were begun, so that nobody asks for
/// their parents.
pub(super) fn forgettable(shards: &[Shard], known: &HashMap<Lane, Known>) -> Vec<Lane> {
    let there: HashSet<_> = shards.iter().map(|shard| &shard.lane).collect();
    let is_begun = |shard: &Shard| {
        let known = known.get(&shard.lane);
        known.is_some_and(|known| known.ended || known.progress.is_some())
    };
    let wanted: HashSet<_> = shards
        .iter()
        .filter(|shard| !is_begun(shard))
        .flat_map(|shard| &shard.parents)
        .collect();
    let over = known
        .values()
        .filter(|known| known.ended)
        .map(|known| &known.lane)
        .filter(|lane| !there.contains(lane) && !wanted.contains(lane));
    over.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Progress;
    use crate::kinesis::consumer::leases::Holder;
    use crate::record::Position;

    fn shard(name: &str, parents: &[&str], closed: bool) -> Shard {
        Shard {
            lane: Lane::new(name),
            parents: parents.iter().map(|name| Lane::new(*name)).collect(),
            range: None,
            first: Sequence::new("100"),
            closed,
        }
    }

    fn known(lanes: &[(&str, Option<&str>, bool)]) -> HashMap<Lane, Known> {
        let known = lanes.iter().map(|(name, position, ended)| {
            let last = position.map(|position| (0, Position::new(position)));
            let known = Known {
                lane: Lane::new(*name),
                holder: Holder::Nobody,
                progress: last.map(|last| Progress {
                    last: Some(last),
                    beyond: Vec::new(),
                }),
                ended: *ended,
            };
            (known.lane.clone(), known)
        });
        known.collect()
    }

    /// a was split into b and c; c and d were merged into e, of which f is not yet the end.
    fn family() -> Vec<Shard> {
        vec![
            shard("a", &[], true),
            shard("b", &["a"], false),
            shard("c", &["a"], true),
            shard("d", &[], true),
            shard("e", &["c", "d"], false),
        ]
    }

    #[test]
    fn a_child_is_read_when_all_of_its_parents_are_read() {
        for (done, expected) in [
            (&[][..], &["a", "d"][..]),
            (&["d"], &["a"]),
            (&["a"], &["b", "c", "d"]),
            (&["a", "c"], &["b", "d"]),
            (&["a", "c", "d"], &["b", "e"]),
        ] {
            let done: Vec<_> = done.iter().map(|name| (*name, Some("200"), true)).collect();
            let shards = family();
            let readable = readable(&shards, &known(&done), Start::Earliest);
            let names: Vec<_> = readable.iter().map(|(it, _)| it.lane.as_str()).collect();
            assert_eq!(names, expected, "{done:?}");
            assert!(readable.iter().all(|(_, begin)| *begin == Begin::Oldest));
        }
    }

    #[test]
    fn a_parent_that_retention_has_removed_counts_as_read() {
        let shards = &family()[1..3];
        let readable = readable(shards, &HashMap::new(), Start::Earliest);
        assert_eq!(readable.len(), 2);
    }

    #[test]
    fn from_the_latest_only_open_shards_are_read_and_later_ones_whole() {
        let shards = family();
        let first = readable(&shards, &HashMap::new(), Start::Latest);
        let names: Vec<_> = first
            .iter()
            .map(|(it, at)| (it.lane.as_str(), *at))
            .collect();
        assert_eq!(names, [("b", Begin::Newest), ("e", Begin::Newest)]);
        let mut shards = vec![shard("b", &["a"], true), shard("e", &["c", "d"], false)];
        shards.push(shard("g", &["b"], true));
        shards.push(shard("h", &["g"], false));
        let kept = [("b", Some("@5"), true), ("e", Some("@5"), false)];
        let later = readable(&shards, &known(&kept), Start::Latest);
        let names: Vec<_> = later
            .iter()
            .map(|(it, at)| (it.lane.as_str(), *at))
            .collect();
        assert_eq!(names, [("e", Begin::Newest), ("g", Begin::Oldest)]);
    }

    #[test]
    fn what_was_read_and_does_not_fit_the_stream_is_told() {
        let created = Timestamp::from_millisecond(1000).unwrap();
        for (kept, expected) in [
            (("a", Some("150"), true), None),
            (("b", Some("150/2"), false), None),
            (("b", Some("@1500"), false), None),
            (("b", None, false), None),
            (("gone", Some("150"), true), None),
            (("gone", None, false), None),
            (("gone", Some("150"), false), Some(OVERTAKEN)),
            (("b", Some("150"), true), Some(ANEW)),
            (("b", Some("99"), false), Some(ANEW)),
            (("b", Some("=99"), false), Some(ANEW)),
            (("b", Some("@500"), false), Some(ANEW)),
        ] {
            let found = fault(&family(), &known(&[kept]), created);
            assert_eq!(found.map(|(_, detail)| detail), expected, "{kept:?}");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten_when_its_children_are_begun() {
        let shards = [shard("b", &["a"], false), shard("c", &["a"], false)];
        let both = |c| {
            [
                ("a", Some("1"), true),
                ("b", Some("2"), false),
                ("c", c, false),
            ]
        };
        assert!(forgettable(&shards, &known(&both(None))).is_empty());
        let begun = known(&both(Some("3")));
        assert_eq!(forgettable(&shards, &begun), [Lane::new("a")]);
        assert!(forgettable(&family(), &begun).is_empty());
    }
}
