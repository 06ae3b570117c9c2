//! What is set on a topic of the target, for what is set on the source's.

use std::collections::{BTreeMap, HashMap};

use rdkafka::admin::{ConfigResource, ConfigSource};

/// Settings of a topic that are its own cluster's affair: how many copies must be there, what is throttled; and what would change or
/// refuse the timestamps of records that are copied.
const NOT_COPIED: &[&str] = &[
    "min.insync.replicas",
    "unclean.leader.election.enable",
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
    "message.timestamp.type",
    "message.timestamp.difference.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
];

/// How large a batch a topic takes.
const SIZE: &str = "max.message.bytes";

/// The size of a batch where the topic takes more, in bytes.
pub(super) const BATCH: usize = 1_000_000;

/// The settings of topics by their names.
pub(super) type Configs = HashMap<String, ConfigResource>;

/// What was set on a topic itself and is copied.
pub(super) fn own<'a>(configs: &'a Configs, topic: &str) -> BTreeMap<&'a str, &'a str> {
    let Some(resource) = configs.get(topic) else {
        return BTreeMap::new();
    };
    set_on(resource)
        .filter(|(name, _)| !NOT_COPIED.contains(name))
        .collect()
}

fn set_on(resource: &ConfigResource) -> impl Iterator<Item = (&str, &str)> {
    let set = resource.entries.iter().filter(|entry| {
        entry.source == ConfigSource::DynamicTopic && !entry.is_read_only && !entry.is_sensitive
    });
    set.filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?)))
}

/// What is to be set on a target's topic so that it is as the source's. None where nothing is to change.
pub(super) fn with<'a>(
    wanted: &BTreeMap<&'a str, &'a str>,
    kept: &'a ConfigResource,
) -> Option<BTreeMap<&'a str, &'a str>> {
    let size = kept.get(SIZE).and_then(|entry| entry.value.as_deref());
    step(wanted, &set_on(kept).collect(), size)
}

/// What is to be set on a target's topic that has `kept`, for a source's that has `wanted`. None where nothing is to change. `size` is
/// what the target takes now, by whatever setting: that is never lowered, for somebody may have raised it for a record that was refused.
fn step<'a>(
    wanted: &BTreeMap<&'a str, &'a str>,
    kept: &BTreeMap<&'a str, &'a str>,
    size: Option<&str>,
) -> Option<BTreeMap<&'a str, &'a str>> {
    let number = |text: &str| text.parse::<u64>().ok();
    let larger = wanted.get(SIZE).is_some_and(|wanted| {
        size.and_then(number)
            .is_none_or(|size| number(wanted).is_none_or(|wanted| wanted > size))
    });
    let own = |name: &str| NOT_COPIED.contains(&name) || (name == SIZE && !larger);
    let of_source = wanted.iter().filter(|(name, _)| !own(name));
    let of_target = kept.iter().filter(|(name, _)| own(name));
    let set = of_source.chain(of_target);
    let set: BTreeMap<_, _> = set.map(|(name, value)| (*name, *value)).collect();
    (set != *kept).then_some(set)
}

pub(super) fn largest(resource: Option<&ConfigResource>) -> usize {
    let entry = resource.and_then(|resource| resource.get(SIZE));
    let value = entry.and_then(|entry| entry.value.as_deref()?.parse().ok());
    value.unwrap_or(BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_settings_follow_the_sources_but_never_to_smaller_batches() {
        let of = |list: &[(&'static str, &'static str)]| list.iter().copied().collect();
        let retention = ("retention.ms", "1000");
        let copies = ("min.insync.replicas", "2");
        let size = |bytes| (SIZE, bytes);
        for (wanted, kept, effective, set) in [
            (&[retention][..], &[retention][..], "1048588", None),
            (
                &[retention],
                &[copies],
                "1048588",
                Some(&[retention, copies][..]),
            ),
            (&[], &[retention, copies], "1048588", Some(&[copies])),
            // Raised on the source.
            (&[size("2000000")], &[], "1048588", Some(&[size("2000000")])),
            // Raised on the target alone, by the topic or by the cluster.
            (&[], &[size("3000000")], "3000000", None),
            (&[size("2000000")], &[size("3000000")], "3000000", None),
            (&[size("2000000")], &[], "3000000", None),
            (
                &[size("2000000"), retention],
                &[size("3000000")],
                "3000000",
                Some(&[retention, size("3000000")]),
            ),
        ] {
            let step = step(&of(wanted), &of(kept), Some(effective));
            assert_eq!(step, set.map(of), "{wanted:?} {kept:?} {effective}");
        }
    }
}
