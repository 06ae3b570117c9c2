//! Members come and go, and nothing is lost or repeated.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use linkspan_streams::flow::{Commit, CommitError, Committer as _, LaneCommit, Progress};
use linkspan_streams::kafka::{Group, KafkaSource, Start};
use linkspan_streams::{Event, Lane, Position, Source as _, SourceError, Term};
use linkspan_testkit::KafkaCluster;
use tokio::sync::watch;

use crate::common::{self, Copier, PATIENCE, records};

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_lose_and_repeat_nothing() {
    const PARTITIONS: i32 = 4;
    const ROUND: u32 = 5_000;
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "rebalance", PARTITIONS, &[]).await;
    let to = common::topic(kafka, "rebalance-out", PARTITIONS, &[]).await;
    let group = common::unique("group");
    let (stop, stopped) = watch::channel(false);
    let first = Copier::new(kafka, "first", &group, &from, &to);
    let copied_by_first = first.copied.clone();
    let first = tokio::spawn(first.run(stopped));
    let mut filled = 0;
    let mut comings = Vec::new();
    // Records come all the time, a second member comes and goes twice.
    for _ in 0..2 {
        let (stop, stopped) = watch::channel(false);
        let second = Copier::new(kafka, "second", &group, &from, &to);
        let copied = second.copied.clone();
        let second = tokio::spawn(second.run(stopped));
        let end = Instant::now() + PATIENCE;
        while copied.load(Ordering::Acquire) < 1_000 {
            assert!(Instant::now() < end, "the second member gets nothing to do");
            common::fill(kafka, &from, PARTITIONS, filled..filled + ROUND);
            filled += ROUND;
        }
        stop.send_replace(true);
        second.await.expect("the second member");
        comings.push(copied);
    }
    common::fill(kafka, &from, PARTITIONS, filled..filled + ROUND);
    filled += ROUND;
    let seen = common::shows(kafka, &to, filled as usize).await;
    stop.send_replace(true);
    first.await.expect("the first member");

    common::assert_each_once(&seen, PARTITIONS, filled);
    let copied = comings.iter().chain([&copied_by_first]);
    let copied: usize = copied.map(|copied| copied.load(Ordering::Acquire)).sum();
    assert_eq!(copied, filled as usize);
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
        zombie.cluster = common::chatty(kafka);
        let (mut source, zombie_group, mut committer) = zombie.open_all().await;
        let taken = records(&mut source).await;

        // Another one comes; the group shares out anew, and the first one's flow has seen nothing of it. The other topic is there so
        // that the other one gets something in any case.
        let mut heir = Copier::new(kafka, "heir", &group, &from, &to);
        heir.source.topics.push(others);
        heir.source.instance = instance.map(str::to_owned);
        let (mut heir_source, heir_group) =
            KafkaSource::open(&heir.cluster, heir.source).expect("a source");
        while !matches!(heir_source.next(true).await, Ok(Event::Gained(_))) {}

        let commit = common::passed_on(taken, &zombie.to);
        let fault = committer
            .commit(&commit)
            .await
            .expect_err("the group has gone on");
        assert!(matches!(fault, CommitError::Fenced(_)), "{fault}");
        assert_eq!(common::dump(kafka, &to), []);
        if instance.is_some() {
            continue;
        }

        // The other one goes, and the partition comes back. What was taken before is not good for that: others had it meanwhile.
        drop(heir_source);
        heir_group.left().await;
        common::is_stable(kafka, &group, 1).await;
        told(&zombie_group, &commit.lanes[0].lane).await;
        let fault = committer
            .commit(&commit)
            .await
            .expect_err("the group has gone on");
        assert!(matches!(fault, CommitError::Fenced(_)), "{fault}");
        assert_eq!(common::dump(kafka, &to), []);
        let again = records(&mut source).await;
        assert_eq!(again[0].ordinal, 0);
        committer
            .commit(&common::passed_on(again, &zombie.to))
            .await
            .expect("a commit");
        common::assert_each_once(&common::dump(kafka, &to), 1, 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_out_of_order_is_not_done_again() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "beyond", 1, &[]).await;
    let to = common::topic(kafka, "beyond-out", 1, &[]).await;
    common::fill(kafka, &from, 1, 0..10);
    let copier = Copier::new(kafka, "beyond", &common::unique("group"), &from, &to);
    let steps = [
        // Records 0, 3, 4 and 8 are done; then, after a restart, 1 and 9; then the rest.
        (vec![0, 3, 4, 8], Some(0), vec![(3, 4), (8, 8)]),
        (vec![1, 9], Some(1), vec![(9, 9)]),
        (vec![2, 5, 6, 7], Some(7), vec![]),
    ];
    let mut given = vec![
        (0..10).collect::<Vec<u64>>(),
        vec![1, 2, 5, 6, 7, 9],
        vec![2, 5, 6, 7],
    ]
    .into_iter();
    for (done, last, beyond) in steps {
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
                term: Term::default(),
                outputs: outputs.collect(),
                progress: Progress {
                    last: last.map(|last: u64| (last, Position::number(last))),
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
    while !matches!(source.next(true).await, Ok(Event::Gained(_))) {}
    drop(source);
    common::fill(kafka, &from, 1, 5..8);
    let (mut source, _committer) = copier.open().await.expect("source and committer");
    assert_eq!(records(&mut source).await[0].ordinal, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_dropped_leaves_the_group_and_the_next_one_does_not_wait() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "leaving", 2, &[]).await;
    common::fill(kafka, &from, 2, 0..10);
    let mut copier = Copier::new(kafka, "leaving", &common::unique("group"), &from, "nowhere");
    // Far longer than anything here: who waits for it fails.
    copier.source.session_timeout = PATIENCE * 2;
    for _ in 0..2 {
        let (mut source, group) =
            KafkaSource::open(&copier.cluster, copier.source.clone()).expect("a source");
        records(&mut source).await;
        drop(source);
        tokio::time::timeout(PATIENCE, group.left())
            .await
            .expect("the source has left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_comes_back_disturbs_nobody() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "static", 2, &[]).await;
    let group = common::unique("group");
    let member = |instance: &str| {
        let mut copier = Copier::new(kafka, instance, &group, &from, "nowhere");
        copier.source.instance = Some(instance.to_owned());
        copier.source.session_timeout = PATIENCE;
        KafkaSource::open(&copier.cluster, copier.source).expect("a source")
    };
    let (mut one, _) = member("one");
    let mut of_one = gained(&mut one).await;
    let (mut other, group_of_other) = member("other");
    let of_other = loop {
        tokio::select! {
            lanes = gained(&mut other) => break lanes,
            lanes = gained(&mut one) => of_one = lanes,
        }
    };
    if of_one.len() == 2 {
        of_one = gained(&mut one).await;
    }
    assert_eq!((of_one.len(), of_other.len()), (1, 1));
    drop(other);
    group_of_other.left().await;
    let (mut other, _) = member("other");
    let (quiet, again) = tokio::join!(
        async {
            tokio::select! {
                event = one.next(true) => format!("{event:?}"),
                () = tokio::time::sleep(Duration::from_secs(5)) => "quiet".to_owned(),
            }
        },
        gained(&mut other)
    );
    assert_eq!(again, of_other);
    assert_eq!(quiet, "quiet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_a_lasting_fault_that_names_it() {
    let kafka = KafkaCluster::shared();
    let copier = Copier::new(
        kafka,
        "absent",
        &common::unique("group"),
        "no-such-source",
        "nowhere",
    );
    let (mut source, _) = KafkaSource::open(&copier.cluster, copier.source).expect("a source");
    let fault = loop {
        match source.next(true).await {
            Err(SourceError::Lasting(fault)) => break fault,
            Ok(event) => panic!("{event:?}"),
            Err(_) => {}
        }
    };
    assert!(fault.contains("no-such-source"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_it_is_behind_is_told() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "lag", 1, &[]).await;
    common::fill(kafka, &from, 1, 0..5_000);
    let mut copier = Copier::new(kafka, "lag", &common::unique("group"), &from, "nowhere");
    copier.cluster = common::chatty(kafka);
    // Room for one batch.
    copier.source.buffered = 1;
    let (mut source, group) = KafkaSource::open(&copier.cluster, copier.source).expect("a source");
    let taken = records(&mut source).await;
    // One batch more waits in the queue.
    let end = Instant::now() + PATIENCE;
    let expected = 5_000 - 2 * taken.len() as u64;
    while told(&group, &taken[0].lane).await != expected {
        assert!(Instant::now() < end, "{:?}", group.lags());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How far a lane is behind, as soon as that is told.
async fn told(group: &Group, lane: &Lane) -> u64 {
    let told = async {
        loop {
            if let Some(lag) = group.lags().get(lane) {
                return *lag;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .expect("it is told")
}

async fn gained(source: &mut KafkaSource) -> Vec<Lane> {
    loop {
        match source.next(true).await {
            Ok(Event::Gained(lanes)) => {
                return lanes.into_iter().map(|gained| gained.lane).collect();
            }
            Ok(Event::Revoked { release, .. }) => release.done(),
            Ok(_) | Err(SourceError::Passing(_)) => {}
            Err(fault) => panic!("{fault}"),
        }
    }
}
