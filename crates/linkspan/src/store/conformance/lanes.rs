//! Lanes of streams: taken, held, let go, forgotten.

use super::{Site, at, seconds};
use crate::store::{TakeLanes, Takeable, TakenLane};

fn names(taken: &[TakenLane]) -> Vec<&str> {
    taken.iter().map(|lane| lane.hold.lane.as_str()).collect()
}

pub(in crate::store) async fn a_lane_is_one_readers_and_its_tokens_only_grow(site: &dyn Site) {
    let open = site.open();
    let first = open.take("one", Takeable::Free, &["b", "a", "b"], 0).await;
    assert_eq!(names(&first), ["b", "a"], "in the order asked for, once");
    assert_eq!((&first[0].progress, first[0].ended), (&None, false));
    let other = open.take("two", Takeable::Free, &["a", "c", "b"], 59).await;
    assert_eq!(names(&other), ["c"], "the others are leased");
    let mut tokens: Vec<u64> = first.iter().map(|lane| lane.hold.token).collect();

    let second = open.take("two", Takeable::Free, &["a"], 60).await;
    assert_eq!(names(&second), ["a"], "its lease was over");
    tokens.push(second[0].hold.token);
    let third = open.take("one", Takeable::Any, &["a"], 61).await;
    tokens.push(third[0].hold.token);
    let stale = vec![second[0].hold.clone()];
    open.store.release_lanes("reviews", stale).await.unwrap();
    let fourth = open.take("two", Takeable::Free, &["a"], 61).await;
    assert!(fourth.is_empty(), "who lost it cannot release it");

    let hold = third[0].hold.clone();
    let forget = vec!["a".to_owned()];
    let forgotten = open.store.forget_lanes("reviews", forget.clone()).await;
    forgotten.unwrap();
    assert!(open.lanes().await.iter().any(|lane| lane.lane == "a"));
    open.store
        .release_lanes("reviews", vec![hold.clone()])
        .await
        .unwrap();
    let released = &open.lanes().await[0];
    assert_eq!((&released.owner, released.until), (&None, None));
    let fifth = open.take("two", Takeable::Free, &["a"], 61).await;
    tokens.push(fifth[0].hold.token);
    open.store
        .release_lanes("reviews", vec![fifth[0].hold.clone()])
        .await
        .unwrap();
    open.store.forget_lanes("reviews", forget).await.unwrap();
    assert!(open.lanes().await.iter().all(|lane| lane.lane != "a"));
    drop(open);

    let open = site.open();
    let anew = open.take("two", Takeable::Free, &["a"], 61).await;
    tokens.push(anew[0].hold.token);
    let other = first[0].hold.token;
    let of_a = &tokens[1..];
    assert!(of_a.is_sorted_by(|one, next| one < next), "{of_a:?}");
    assert!(!of_a.contains(&other), "none was given twice");
    assert_eq!(anew[0].progress, None);
    let elsewhere = TakeLanes {
        stream: "orders".to_owned(),
        lanes: vec!["a".to_owned()],
        owner: "one".to_owned(),
        which: Takeable::Free,
        lease: seconds(60),
        now: at(61),
    };
    let elsewhere = open.store.take_lanes(elsewhere).await.unwrap();
    assert_eq!(names(&elsewhere), ["a"], "another stream's lane");
}

pub(in crate::store) async fn a_lease_is_prolonged_by_who_holds_the_lane(site: &dyn Site) {
    let open = site.open();
    let held = open
        .take("one", Takeable::Free, &["a", "b", "c"], 0)
        .await
        .into_iter()
        .map(|taken| taken.hold)
        .collect::<Vec<_>>();
    let taken = open.take("two", Takeable::Any, &["b"], 10).await;
    open.store
        .release_lanes("reviews", vec![held[2].clone()])
        .await
        .unwrap();
    let lost = open
        .store
        .renew_lanes("reviews", held.clone(), seconds(60), at(50))
        .await
        .unwrap();
    assert_eq!(lost, held[1..]);
    let free = open
        .take("three", Takeable::Free, &["a", "b", "c"], 100)
        .await;
    assert_eq!(names(&free), ["b", "c"]);
    let lost = open
        .store
        .renew_lanes("reviews", vec![taken[0].hold.clone()], seconds(60), at(100))
        .await
        .unwrap();
    assert_eq!(lost, [taken[0].hold.clone()]);
    // Over, and nobody else's: it is held again.
    let late = vec![held[0].clone()];
    let lost = open
        .store
        .renew_lanes("reviews", late, seconds(60), at(500))
        .await
        .unwrap();
    assert!(lost.is_empty());
    assert!(
        open.take("two", Takeable::Free, &["a"], 559)
            .await
            .is_empty()
    );
}
