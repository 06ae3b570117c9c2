//! Which lanes a gateway takes, so that all gateways of a stream have about as many: a pure function that each of them follows by
//! itself, with nobody in charge.
//!
//! The fair share is the lanes divided by those who hold any, and who asks. A gateway takes free lanes up to its share, rounded up. Where
//! none is free and it has less than its share, rounded down, it steals one from whoever has most: how a gateway that is new, and that
//! nobody knows of, gets its first. Who has more than the share, rounded up, gives one back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::leases::Holder;
use crate::record::Lane;

/// What a gateway does next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Free lanes that it takes.
    pub(super) take: Vec<Lane>,
    /// A lane that it takes from another.
    pub(super) steal: Option<Lane>,
    /// A lane that it gives back.
    pub(super) give: Option<Lane>,
}

/// What to do, with these lanes that can be read now. `chance` (0 to 1) chooses the lane that is stolen, so that two do not steal the same.
pub(super) fn plan(lanes: &[(Lane, Holder)], chance: f64) -> Plan {
    let mut others: BTreeMap<&Arc<str>, Vec<&Lane>> = BTreeMap::new();
    let (mut mine, mut free) = (Vec::new(), Vec::new());
    for (lane, holder) in lanes {
        match holder {
            Holder::Me => mine.push(lane),
            Holder::Nobody => free.push(lane),
            Holder::Other(name) => others.entry(name).or_default().push(lane),
        }
    }
    let gateways = others.len() + 1;
    let most = lanes.len().div_ceil(gateways);
    let least = lanes.len() / gateways;
    if mine.len() > most {
        return Plan {
            give: mine.last().map(|lane| (*lane).clone()),
            ..Plan::default()
        };
    }
    if !free.is_empty() {
        let take = free.into_iter().take(most - mine.len()).cloned();
        return Plan {
            take: take.collect(),
            ..Plan::default()
        };
    }
    let richest = others.values().max_by_key(|lanes| lanes.len());
    let steal = richest.filter(|theirs| mine.len() < least && theirs.len() >= mine.len() + 2);
    Plan {
        steal: steal.map(|theirs| {
            let at = (chance * theirs.len() as f64) as usize;
            theirs[at.min(theirs.len() - 1)].clone()
        }),
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Who holds each lane.
    type Owners = Vec<Option<usize>>;

    fn seen(owners: &Owners, by: usize) -> Vec<(Lane, Holder)> {
        let lanes = owners.iter().enumerate().map(|(nth, owner)| {
            let holder = match owner {
                None => Holder::Nobody,
                Some(owner) if *owner == by => Holder::Me,
                Some(owner) => Holder::Other(format!("gateway-{owner}").into()),
            };
            (Lane::new(format!("{nth:04}")), holder)
        });
        lanes.collect()
    }

    /// One gateway's turn; whether it did anything.
    fn turn(owners: &mut Owners, by: usize, chance: f64) -> bool {
        let plan = plan(&seen(owners, by), chance);
        let at = |lane: &Lane| lane.as_str().parse::<usize>().unwrap();
        for lane in plan.take.iter().chain(&plan.steal) {
            owners[at(lane)] = Some(by);
        }
        if let Some(lane) = &plan.give {
            owners[at(lane)] = None;
        }
        plan != Plan::default()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn whoever_comes_and_goes_all_lanes_are_soon_shared_evenly_and_stay_where_they_are(
            lanes in 0_usize..60,
            gateways in 1_usize..8,
            held in proptest::collection::vec(proptest::option::of(0_usize..10), 60),
            order in proptest::collection::vec((0_usize..8, 0.0..1.0_f64), 1500),
        ) {
            // Those who are gone hold nothing: their leases are over.
            let mut owners: Owners = held[..lanes]
                .iter()
                .map(|owner| owner.filter(|owner| *owner < gateways))
                .collect();
            for (by, chance) in order {
                turn(&mut owners, by % gateways, chance);
            }
            // Everybody once more, in turn, until nobody does anything.
            let mut rounds = 0;
            while (0..gateways).filter(|by| turn(&mut owners, *by, 0.5)).count() > 0 {
                rounds += 1;
                prop_assert!(rounds < 2 * lanes + gateways, "{owners:?}");
            }
            prop_assert!(owners.iter().all(Option::is_some));
            let count = |by| owners.iter().filter(|owner| **owner == Some(by)).count();
            let counts: Vec<_> = (0..gateways).map(count).collect();
            let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
            prop_assert!(spread <= 1, "{counts:?}");
        }

        #[test]
        fn a_plan_takes_what_is_free_and_gives_what_is_its_own(
            owners in proptest::collection::vec(proptest::option::of(0_usize..4), 0..40),
            chance in 0.0..1.0_f64,
        ) {
            let lanes = seen(&owners, 0);
            let plan = plan(&lanes, chance);
            let holder = |lane: &Lane| lanes.iter().find(|(known, _)| known == lane).unwrap().1.clone();
            prop_assert!(plan.take.iter().all(|lane| holder(lane) == Holder::Nobody));
            prop_assert!(plan.give.iter().all(|lane| holder(lane) == Holder::Me));
            prop_assert!(plan.steal.iter().all(|lane| matches!(holder(lane), Holder::Other(_))));
            prop_assert!(plan.give.is_none() || plan.take.is_empty() && plan.steal.is_none());
        }
    }

    #[test]
    fn one_alone_takes_all_and_a_newcomer_steals_one_at_a_time() {
        let mut owners = vec![None; 5];
        assert!(turn(&mut owners, 0, 0.0));
        assert_eq!(owners, vec![Some(0); 5]);
        assert!(turn(&mut owners, 1, 0.0));
        assert_eq!(owners.iter().filter(|owner| **owner == Some(1)).count(), 1);
    }
}
