//! Which shards of a stream can be read now: parents before their children, so that the records of a key keep their order when shards
//! are split and merged.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::Start;
use super::leases::{Known, Note};
use super::place::{Place, Sequence};
use crate::flow::Progress;
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

/// Where the shards begin of which nothing was written down yet. It is written down when they are first listed, long before some of them
/// can be read: so it is known of each of them that it was there, and is told when it goes unread.
///
/// The first time of all, [`Start::Latest`] begins behind the newest records and passes closed shards over. Everything that is listed later
/// was split off since, and is read whole. `before` gives the time at which a shard was not there yet, as far as that is known.
pub(super) fn begins(
    shards: &[Shard],
    known: &HashMap<Lane, Known>,
    start: Start,
    before: impl Fn(&Lane) -> Option<Timestamp>,
) -> HashMap<Lane, Note> {
    let is_first = !known.values().any(is_begun);
    let unknown = shards
        .iter()
        .filter(|shard| !known.get(&shard.lane).is_some_and(is_begun));
    let begins = unknown.map(|shard| {
        let place = match start {
            Start::Latest if is_first && shard.closed => None,
            Start::Latest if is_first => Some(Place::newest()),
            _ => Some(Place::oldest(before(&shard.lane))),
        };
        let note = place.map_or(Note::Ended, |place| {
            Note::Progress(Progress {
                last: Some((0, place.position())),
                beyond: Vec::new(),
            })
        });
        (shard.lane.clone(), note)
    });
    begins.collect()
}

/// The shards that can be read now: those of which it is written down where they begin, and all of whose parents are read to their ends,
/// or are gone.
pub(super) fn readable<'s>(shards: &'s [Shard], known: &HashMap<Lane, Known>) -> Vec<&'s Shard> {
    let there: HashSet<_> = shards.iter().map(|shard| &shard.lane).collect();
    let is_done = |lane: &Lane| known.get(lane).is_some_and(|known| known.ended);
    let can_be_read = |shard: &&Shard| {
        let after = |parent: &Lane| !there.contains(parent) || is_done(parent);
        let is_open = known
            .get(&shard.lane)
            .is_some_and(|known| is_begun(known) && !known.ended);
        is_open && shard.parents.iter().all(after)
    };
    shards.iter().filter(can_be_read).collect()
}

/// Whether there are lanes that are not done and whose shards are not in the list: it is older than they are, or they are gone.
pub(super) fn is_outdated(shards: &[Shard], known: &HashMap<Lane, Known>) -> bool {
    let there: HashSet<_> = shards.iter().map(|shard| &shard.lane).collect();
    let mut open = known.values().filter(|known| !known.ended);
    open.any(|known| !there.contains(&known.lane))
}

/// What is wrong with a stream, told from what was kept of it: the lane, and a sentence. `known` was looked at before the shards were
/// listed.
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
            (_, None) => (!known.ended).then_some(OVERTAKEN),
            (Some(None), Some(_)) => Some("the progress that is kept is no place in a shard"),
            (_, Some(shard)) if known.ended && !shard.closed => Some(ANEW),
            (Some(Some(place)), Some(shard)) => {
                let before = match (place.sequence(), &shard.first) {
                    (Some(sequence), Some(first)) => sequence < first,
                    _ => false,
                };
                let is_time = place.sequence().is_none();
                let older = is_time && place.settled.is_some_and(|it| it < created);
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

/// What need not be kept any more: lanes that are done and whose shards are gone. `known` was looked at before the shards were listed.
pub(super) fn forgettable(shards: &[Shard], known: &HashMap<Lane, Known>) -> Vec<Lane> {
    let there: HashSet<_> = shards.iter().map(|shard| &shard.lane).collect();
    let over = known
        .values()
        .filter(|known| known.ended && !there.contains(&known.lane));
    over.map(|known| known.lane.clone()).collect()
}

/// Whether it is written down where a lane begins, or how far it is.
fn is_begun(known: &Known) -> bool {
    known.ended || known.progress.is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
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

    /// What is known when the shards were listed for the first time, and what was read since is done.
    fn begun(shards: &[Shard], start: Start, done: &[&str]) -> HashMap<Lane, Known> {
        let begins = begins(shards, &HashMap::new(), start, |_| None);
        let known = begins.into_iter().map(|(lane, note)| {
            let (progress, ended) = match note {
                Note::Progress(progress) => (Some(progress), done.contains(&lane.as_str())),
                Note::Ended => (None, true),
            };
            let known = Known {
                lane: lane.clone(),
                holder: Holder::Nobody,
                progress,
                ended,
            };
            (lane, known)
        });
        known.collect()
    }

    fn names(shards: &[&Shard]) -> Vec<String> {
        let names = shards.iter().map(|shard| shard.lane.to_string());
        names.collect()
    }

    /// Where the lanes begin, by name; `-` is nowhere.
    fn texts(begins: HashMap<Lane, Note>) -> BTreeMap<String, String> {
        let texts = begins.into_iter().map(|(lane, note)| {
            let text = match note {
                Note::Progress(progress) => progress.last.unwrap().1.to_string(),
                Note::Ended => "-".to_owned(),
            };
            (lane.to_string(), text)
        });
        texts.collect()
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
            let shards = family();
            let known = begun(&shards, Start::Earliest, done);
            assert_eq!(names(&readable(&shards, &known)), expected, "{done:?}");
        }
    }

    #[test]
    fn a_parent_that_retention_has_removed_counts_as_read() {
        let shards = &family()[1..3];
        let known = begun(shards, Start::Earliest, &[]);
        assert_eq!(readable(shards, &known).len(), 2);
    }

    #[test]
    fn nothing_is_read_before_it_is_written_down_where_it_begins() {
        let known = known(&[("a", None, false)]);
        assert!(readable(&family(), &known).is_empty());
        assert!(begins(&family(), &known, Start::Earliest, |_| None).contains_key(&Lane::new("a")));
    }

    #[test]
    fn from_the_latest_only_open_shards_are_read_and_later_ones_whole() {
        let shards = family();
        let first = begins(&shards, &HashMap::new(), Start::Latest, |_| None);
        let expected = [("a", "-"), ("b", "$"), ("c", "-"), ("d", "-"), ("e", "$")];
        let expected = expected.map(|(lane, at)| (lane.to_owned(), at.to_owned()));
        assert_eq!(texts(first), expected.into());
        let known = begun(&shards, Start::Latest, &[]);
        assert_eq!(names(&readable(&shards, &known)), ["b", "e"]);
        // What is listed later is read whole, whether it is closed already or not.
        let mut later = shards;
        later[1].closed = true;
        later.push(shard("g", &["b"], true));
        later.push(shard("h", &["g"], false));
        let time = Timestamp::from_millisecond(1500).unwrap();
        let before = |lane: &Lane| (lane.as_str() == "h").then_some(time);
        let begins = begins(&later, &known, Start::Latest, before);
        let expected = [("g", "^"), ("h", "^@1500")];
        let expected = expected.map(|(lane, at)| (lane.to_owned(), at.to_owned()));
        assert_eq!(texts(begins), expected.into());
    }

    #[test]
    fn a_list_is_outdated_where_it_lacks_what_others_have_begun() {
        for (kept, expected) in [
            (("a", None, false), false),
            (("new", None, false), true),
            (("new", Some("150"), false), true),
            (("gone", Some("150"), true), false),
        ] {
            assert_eq!(
                is_outdated(&family(), &known(&[kept])),
                expected,
                "{kept:?}"
            );
        }
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
            (("gone", None, false), Some(OVERTAKEN)),
            (("gone", Some("^"), false), Some(OVERTAKEN)),
            (("gone", Some("150"), false), Some(OVERTAKEN)),
            (("b", Some("150"), true), Some(ANEW)),
            (("b", Some("99"), false), Some(ANEW)),
            (("b", Some("=99"), false), Some(ANEW)),
            (("b", Some("@500"), false), Some(ANEW)),
            (("b", Some("^@500"), false), Some(ANEW)),
            (("b", Some("^@1500"), false), None),
            (("b", Some("$"), false), None),
        ] {
            let found = fault(&family(), &known(&[kept]), created);
            assert_eq!(found.map(|(_, detail)| detail), expected, "{kept:?}");
        }
    }

    #[test]
    fn what_is_done_and_gone_is_forgotten() {
        let known = known(&[
            ("a", Some("1"), true),
            ("b", Some("2"), true),
            ("x", None, true),
            ("y", Some("3"), false),
        ]);
        let mut over = forgettable(&family(), &known);
        over.sort_unstable();
        assert_eq!(over, [Lane::new("x")]);
        let mut over = forgettable(&family()[2..], &known);
        over.sort_unstable();
        assert_eq!(over, [Lane::new("a"), Lane::new("b"), Lane::new("x")]);
    }
}
