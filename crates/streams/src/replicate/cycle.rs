//! Whether a topic would be copied in a circle, told by the real ids of the clusters.

use std::collections::{BTreeMap, HashMap};

use super::progress::{self, Entry};
use super::{ReplicateError, Settings, clients};

/// For each topic of the source that a replication has brought there: the clusters that its records came through.
pub(super) type Chains = HashMap<String, Vec<String>>;

/// Asks the source which of its topics were brought there, and from where.
pub(super) fn chains(settings: &Settings, source_cluster: &str) -> Result<Chains, ReplicateError> {
    let mut chains = Chains::new();
    let names = progress::topics_of(&settings.source, "source")?;
    if names.is_empty() {
        return Ok(chains);
    }
    let reader = clients::reader(&settings.source, &settings.transactional_id(), "source")?;
    for name in names {
        add(
            &mut chains,
            progress::entries(&reader, &name)?,
            source_cluster,
        );
    }
    Ok(chains)
}

/// Why a topic must not be copied to this cluster, when it came from there.
pub(super) fn refusal(
    chains: &Chains,
    topic: &str,
    target_cluster: &str,
    name: &str,
) -> Option<String> {
    let chain = chains.get(topic)?;
    chain.iter().any(|cluster| cluster == target_cluster).then(|| {
        format!(
            "the topic {topic} was itself copied from the target cluster ({target_cluster}), and would go round in a circle; leave it out of the replication {name}, or stop the one that brings it and delete that one's topic linkspan.offsets.* on the source"
        )
    })
}

fn add(chains: &mut Chains, entries: BTreeMap<String, Entry>, source_cluster: &str) {
    for entry in entries.into_values() {
        if entry.target_cluster == source_cluster {
            let known = chains.entry(entry.target).or_default();
            for cluster in entry.chain.into_iter().chain([entry.source_cluster]) {
                if !known.contains(&cluster) {
                    known.push(cluster);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(from: &str, to: &str, target: &str, chain: &[&str]) -> Entry {
        Entry {
            source_cluster: from.to_owned(),
            target_cluster: to.to_owned(),
            target: target.to_owned(),
            source_id: String::new(),
            target_id: String::new(),
            chain: chain.iter().map(|cluster| (*cluster).to_owned()).collect(),
        }
    }

    #[test]
    fn a_topic_never_goes_back_to_where_it_came_from() {
        let mut chains = Chains::new();
        let entries = [
            ("orders".to_owned(), entry("a", "b", "orders", &[])),
            ("bills".to_owned(), entry("a", "b", "east.bills", &["c"])),
            ("else".to_owned(), entry("a", "x", "else", &[])),
        ];
        add(&mut chains, entries.into_iter().collect(), "b");
        for (topic, target, refused) in [
            ("orders", "a", true),
            ("orders", "c", false),
            ("east.bills", "a", true),
            ("east.bills", "c", true),
            ("east.bills", "d", false),
            ("bills", "a", false),
            ("else", "a", false),
        ] {
            let why = refusal(&chains, topic, target, "back");
            assert_eq!(why.is_some(), refused, "{topic} to {target}");
        }
    }
}
