//! Members come and go, and nothing is lost or repeated.

use std::time::Duration;

use linkspan_streams::flow::{Commit, CommitError, Committer as _, LaneCommit, Progress};
use linkspan_streams::kafka::Start;
use linkspan_streams::{Event, Position, Source as _};
use linkspan_testkit::KafkaCluster;
use tokio::sync::watch;

use crate::common::{self, Copier, records};

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_lose_and_repeat_nothing() {
    const PARTITIONS: i32 = 4;
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "rebalance", PARTITIONS, &[]).await;
    let to = common::topic(kafka, "rebalance-out", PARTITIONS, &[]).await;
    let group = common::unique("group");
    let (stop, stopped) = watch::channel(false);
    let member = |name: &str| Copier::new(kafka, name, &group, &from, &to);
    common::fill(kafka, &from, PARTITIONS, 0..20_000);
    let first = tokio::spawn(member("first").run(stopped.clone()));
    common::shows(kafka, &to, 1).await;

    let (stop_second, second_stopped) = watch::channel(false);
    let second = tokio::spawn(member("second").run(second_stopped));
    for round in 1..4 {
        common::fill(
            kafka,
            &from,
            PARTITIONS,
            round * 20_000..(round + 1) * 20_000,
        );
    }
    common::shows(kafka, &to, 60_000).await;
    stop_second.send_replace(true);
    let by_second = second.await.expect("the second member");
    common::fill(kafka, &from, PARTITIONS, 80_000..90_000);
    let seen = common::shows(kafka, &to, 90_000).await;
    stop.send_replace(true);
    let by_first = first.await.expect("the first member");

    common::assert_each_once(&seen, PARTITIONS, 90_000);
    assert!(by_second > 0, "the second member had a part of the work");
    assert_eq!(by_first + by_second, 90_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_the_group_went_on_without_commits_nothing() {
    let kafka = KafkaCluster::shared();
    for instance in [None, Some("the-one")] {
        let from = common::topic(kafka, "zombie", 1, &[]).await;
        let others = common::topic(kafka, "zombie-others", 1, &[]).await;
        let to = common::topic(kafka, "zombie-out", 1, &[]).await;
        let group = common::unique("group");
        common::fill(kafka, &from, 1, 0..100);
        let mut zombie = Copier::new(kafka, "zombie", &group, &from, &to);
        zombie.source.release_wait = Duration::ZERO;
        zombie.source.instance = instance.map(str::to_owned);
        let (mut source, mut committer) = zombie.open().await.expect("source and committer");
        let taken = records(&mut source).await;

        // Another one comes; the group shares out anew, and the first one's flow has seen nothing of it. The other topic is there so
        // that the other one gets something in any case.
        let mut heir = Copier::new(kafka, "heir", &group, &from, &to);
        heir.source.topics.push(others);
        heir.source.instance = instance.map(str::to_owned);
        let (mut heir_source, _committer) = heir.open().await.expect("source and committer");
        while !matches!(heir_source.next().await, Ok(Event::Gained(_))) {}

        let fault = committer
            .commit(&common::passed_on(taken, &zombie.to))
            .await
            .expect_err("the group has gone on");
        assert!(matches!(fault, CommitError::Fenced(_)), "{fault}");
        assert_eq!(common::dump(kafka, &to), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_out_of_order_is_not_done_again() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "beyond", 1, &[]).await;
    let to = common::topic(kafka, "beyond-out", 1, &[]).await;
    common::fill(kafka, &from, 1, 0..10);
    let copier = Copier::new(kafka, "beyond", &common::unique("group"), &from, &to);
    let mut steps = [
        // Records 0, 3, 4 and 8 are done; then, after a restart, 1 and 9; then the rest.
        (vec![0, 3, 4, 8], Some(0), vec![(3, 4), (8, 8)]),
        (vec![1, 9], Some(1), vec![(9, 9)]),
        (vec![2, 5, 6, 7], Some(7), vec![]),
    ]
    .into_iter();
    let mut given = vec![
        (0..10).collect::<Vec<u64>>(),
        vec![1, 2, 5, 6, 7, 9],
        vec![2, 5, 6, 7],
    ]
    .into_iter();
    while let Some((done, last, beyond)) = steps.next() {
        let (mut source, mut committer) = copier.open().await.expect("source and committer");
        let expected = given.next().expect("a step");
        let mut taken = Vec::new();
        while taken.len() < expected.len() {
            taken.extend(records(&mut source).await);
        }
        let ordinals: Vec<_> = taken.iter().map(|record| record.ordinal).collect();
        assert_eq!(ordinals, expected);
        let lane = taken[0].lane.clone();
        let outputs = taken
            .into_iter()
            .filter(|record| done.contains(&record.ordinal))
            .map(|record| common::output(record, &copier.to));
        let commit = Commit {
            lanes: vec![LaneCommit {
                lane,
                outputs: outputs.collect(),
                progress: Progress {
                    last: last.map(|last: u64| (last, Position::new(last.to_string()))),
                    beyond,
                },
            }],
        };
        committer.commit(&commit).await.expect("a commit");
    }
    let mut numbers = common::numbers(&common::dump(kafka, &to))
        .remove(&0)
        .expect("records");
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_first_look_at_the_end_is_not_missed_by_a_restart() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "latest", 1, &[]).await;
    let to = common::topic(kafka, "latest-out", 1, &[]).await;
    common::fill(kafka, &from, 1, 0..5);
    let mut copier = Copier::new(kafka, "latest", &common::unique("group"), &from, &to);
    copier.source.start = Start::Latest;
    let (mut source, _committer) = copier.open().await.expect("source and committer");
    while !matches!(source.next().await, Ok(Event::Gained(_))) {}
    drop(source);
    common::fill(kafka, &from, 1, 5..8);
    let (mut source, _committer) = copier.open().await.expect("source and committer");
    assert_eq!(records(&mut source).await[0].ordinal, 5);
}
