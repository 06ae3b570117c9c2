//! A consumer group moves to the other cluster, and neither misses nor repeats a record.

use std::collections::BTreeMap;
use std::time::Duration;

use linkspan_streams::replicate::{Direction, Outcome, Replicator, apply, translate};
use linkspan_testkit::KafkaCluster;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::Offset;

use crate::clusters::*;

/// Values in transactions of different sizes, some of them aborted: offsets with gaps. Gives what was committed.
fn fill_with_gaps(of: &KafkaCluster, topic: &str, partitions: i32, rounds: usize) -> usize {
    let producer = transactional(of, topic);
    let mut count = 0;
    for round in 0..rounds {
        producer.begin_transaction().expect("it begins");
        for number in 0..1 + round % 7 {
            for partition in 0..partitions {
                send(
                    &producer,
                    topic,
                    partition,
                    &format!("{partition}:{round}:{number}"),
                );
            }
        }
        producer.flush(PATIENCE).expect("all is written");
        if round % 4 == 1 {
            producer.abort_transaction(PATIENCE).expect("it is aborted");
        } else {
            producer
                .commit_transaction(PATIENCE)
                .expect("it is committed");
            count += (1 + round % 7) * partitions as usize;
        }
    }
    count
}

/// Reads as a member of a group until so many records have come, commits, and leaves.
fn consume(of: &KafkaCluster, group: &str, topic: &str, records: usize) -> Vec<String> {
    let mut config = client(of);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed");
    if records < usize::MAX {
        config.set("auto.offset.reset", "earliest");
    }
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("it subscribes");
    let mut values = Vec::new();
    let mut over = std::collections::BTreeSet::new();
    let partitions = partitions_of(of, topic);
    let mut list = TopicPartitionList::new();
    until("the group has read", || {
        while values.len() < records {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    values.push(
                        String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned(),
                    );
                    list = TopicPartitionList::new();
                    over.remove(&message.partition());
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                    over.insert(partition);
                    if over.len() == partitions {
                        return true;
                    }
                }
                Some(Err(fault)) => panic!("{fault}"),
                None => return false,
            }
        }
        true
    });
    let positions = consumer.position().expect("positions");
    for element in positions.elements() {
        if let Offset::Offset(offset) = element.offset() {
            list.add_partition_offset(topic, element.partition(), Offset::Offset(offset))
                .expect("an offset");
        }
    }
    if list.count() > 0 {
        consumer
            .commit(&list, CommitMode::Sync)
            .expect("it is committed");
    }
    values
}

#[test]
fn a_group_goes_on_where_it_was() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "moves", 3, &[]);
    let first = fill_with_gaps(source, "moves", 3, 30);
    let settings = settings("moves", source, target, &["moves"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "moves");
    // Others write into the target too, so that the difference of the offsets changes.
    let second = fill_with_gaps(source, "moves", 3, 30);
    until_copied(&replicator, source, "moves");
    drop(replicator);
    let total = first + second;
    for part in [1, total / 2, total] {
        let group = format!("movers.{part}");
        let mut values = consume(source, &group, "moves", part);
        let offsets = translate(&settings, &group, Direction::ToTarget).expect("it is translated");
        apply(&settings, &group, Direction::ToTarget, &offsets)
            .expect("it is committed on the target");
        let read: BTreeMap<i32, i64> = offsets
            .iter()
            .map(|translated| (translated.partition, translated.committed))
            .collect();
        assert!(!read.is_empty());
        // A partition that the group has not come to has no offset: there it begins.
        let mut rest = Vec::new();
        for partition in 0..3 {
            let from = offsets
                .iter()
                .find(|translated| translated.partition == partition)
                .map_or(0, |translated| match translated.outcome {
                    Outcome::Offset(offset) => offset,
                    Outcome::NotCopied { .. } => panic!("{translated:?}"),
                });
            let kept = read_from(target, "moves", partition, from);
            rest.extend(kept);
        }
        let committed = committed(target, &group, "moves", 3);
        for translated in &offsets {
            assert_eq!(
                Some(translated.outcome),
                committed
                    .get(&translated.partition)
                    .map(|offset| Outcome::Offset(*offset))
            );
        }
        values.extend(rest);
        values.sort();
        let mut expected: Vec<String> = (0..3)
            .flat_map(|partition| crate::clusters::read(source, "moves", partition))
            .map(|kept| kept.text().to_owned())
            .collect();
        expected.sort();
        assert_eq!(values, expected, "{part}");
    }
}

#[test]
fn an_offset_of_the_source_has_its_exact_place_in_the_target() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "every", 1, &[]);
    fill_with_gaps(source, "every", 1, 25);
    let settings = settings("every", source, target, &["every"]);
    // In several lives, with records of others in between.
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "every");
    drop(replicator);
    fill(target, "every", 1, 900..905);
    fill_with_gaps(source, "every", 1, 25);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "every");
    let end = ends(source, "every")[0];
    let of_source = read(source, "every", 0);
    let of_target = read(target, "every", 0);
    let own: Vec<_> = of_target
        .iter()
        .filter(|kept| kept.text().matches(':').count() == 2)
        .collect();
    assert_eq!(own.len(), of_source.len());
    let consumer: BaseConsumer = client(source)
        .set("group.id", "every")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    // Records, markers, aborted records and the end: each kind many times.
    for offset in (0..=end).step_by(13).chain([end]) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("every", 0, Offset::Offset(offset))
            .expect("an offset");
        consumer
            .commit(&list, CommitMode::Sync)
            .expect("it is committed");
        let translated =
            translate(&settings, "every", Direction::ToTarget).expect("it is translated");
        let next = of_source.iter().position(|kept| kept.offset >= offset);
        let expected = match next {
            Some(next) => own[next].offset,
            None => own[own.len() - 1].offset + 1,
        };
        assert_eq!(translated[0].outcome, Outcome::Offset(expected), "{offset}");
    }
}

#[test]
fn what_is_not_copied_yet_is_not_translated() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "ahead", 1, &[]);
    fill(source, "ahead", 1, 0..10);
    let settings = settings("ahead", source, target, &["ahead"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "ahead");
    drop(replicator);
    fill(source, "ahead", 1, 10..20);
    assert_eq!(consume(source, "ahead", "ahead", 20).len(), 20);
    let translated = translate(&settings, "ahead", Direction::ToTarget).expect("it is translated");
    assert_eq!(translated[0].outcome, Outcome::NotCopied { done: 10 });
    let refused =
        apply(&settings, "ahead", Direction::ToTarget, &translated).expect_err("it is refused");
    assert!(
        refused
            .to_string()
            .contains("up to 20, and it is copied up to 10"),
        "{refused}"
    );
}

#[test]
fn offsets_are_not_translated_where_the_records_are_others() {
    let (source, target) = KafkaCluster::shared_pair();
    for (topic, side) in [("others.source", source), ("others.target", target)] {
        make_topic(source, topic, 1, &[]);
        fill(source, topic, 1, 0..10);
        let settings = settings(topic, source, target, &[topic]);
        let replicator = Replicator::start(settings.clone()).expect("it starts");
        until_copied(&replicator, source, topic);
        drop(replicator);
        for group in ["others.there", "others.back"] {
            commit(source, group, topic, 4);
            commit(target, group, topic, 4);
        }
        let to_target = || translate(&settings, "others.there", Direction::ToTarget);
        let to_source = || translate(&settings, "others.back", Direction::ToSource);
        assert_eq!(to_target().expect("it is translated").len(), 1);
        assert_eq!(to_source().expect("it is translated").len(), 1);

        delete_topic(side, topic);
        until("the topic is gone", || partitions_of(side, topic) == 0);
        make_topic(side, topic, 1, &[]);
        fill(side, topic, 1, 100..120);
        commit(side, "others.there", topic, 4);
        commit(side, "others.back", topic, 4);
        for refused in [to_target(), to_source()] {
            let why = refused.expect_err("it is refused").to_string();
            let sentence = match topic {
                "others.source" => "others.source was deleted and made anew on the source",
                _ => "others.target was deleted and made anew on the target",
            };
            assert!(why.contains(sentence), "{why}");
        }
    }
}

#[test]
fn a_group_does_not_move_to_where_its_next_records_are_gone() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "removed", 1, &[]);
    fill(source, "removed", 1, 0..20);
    let settings = settings("removed", source, target, &["removed"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "removed");
    drop(replicator);
    delete_before(target, "removed", 0, 10);
    for (offset, translated) in [(4, None), (9, None), (10, Some(10)), (20, Some(20))] {
        commit(source, "removed", "removed", offset);
        match (
            translate(&settings, "removed", Direction::ToTarget),
            translated,
        ) {
            (Ok(offsets), Some(expected)) => {
                assert_eq!(offsets[0].outcome, Outcome::Offset(expected));
            }
            (Err(refused), None) => {
                let why = refused.to_string();
                assert!(
                    why.contains("removed/0 on the target begins at offset 10"),
                    "{why}"
                );
                assert!(why.contains("no longer there"), "{why}");
            }
            (other, _) => panic!("{offset}: {other:?}"),
        }
    }
    // And back: the source has lost more than the target.
    delete_before(source, "removed", 0, 15);
    commit(target, "removed", "removed", 12);
    let refused = translate(&settings, "removed", Direction::ToSource);
    let why = refused.expect_err("it is refused").to_string();
    assert!(
        why.contains("removed/0 on the source begins at offset 15"),
        "{why}"
    );
    commit(target, "removed", "removed", 16);
    let offsets = translate(&settings, "removed", Direction::ToSource).expect("it is translated");
    assert_eq!(offsets[0].outcome, Outcome::Offset(16));
}

#[test]
fn a_group_moves_back_with_what_it_has_done_meanwhile() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "returns", 1, &[]);
    fill_with_gaps(source, "returns", 1, 25);
    let settings = settings("returns", source, target, &["returns"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "returns");
    drop(replicator);
    let of_source = read(source, "returns", 0);
    let of_target = read(target, "returns", 0);
    for part in [1, 17, of_target.len()] {
        let group = format!("returns.{part}");
        assert_eq!(consume(target, &group, "returns", part).len(), part);
        let offsets = translate(&settings, &group, Direction::ToSource).expect("it is translated");
        let next = of_source
            .get(part)
            .map_or(ends(source, "returns")[0], |kept| kept.offset);
        let Outcome::Offset(offset) = offsets[0].outcome else {
            panic!("{offsets:?}");
        };
        // Between the last record and the next one there are only markers: it may stand at any of them.
        assert!(
            of_source[part - 1].offset < offset && offset <= next,
            "{part}: {offset}, {next}"
        );
        apply(&settings, &group, Direction::ToSource, &offsets).expect("it is committed");
        assert_eq!(
            committed(source, &group, "returns", 1).get(&0),
            Some(&offset)
        );
    }
}

#[test]
fn what_a_group_has_done_out_of_order_moves_with_it() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "beyond", 1, &[]);
    fill(source, "beyond", 1, 0..40);
    let settings = settings("beyond", source, target, &["beyond"]);
    // Records of others come first on the target: every offset is another one there.
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "beyond");
    drop(replicator);
    fill(target, "beyond", 1, 900..907);
    fill(source, "beyond", 1, 40..60);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "beyond");
    drop(replicator);
    // Done: all before 10, then 12 to 14 and 38 to 45, as a gateway writes it: how far from the last one, and how many more.
    let consumer: BaseConsumer = client(source)
        .set("group.id", "beyond")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition("beyond", 0);
    element.set_offset(Offset::Offset(10)).expect("an offset");
    element.set_metadata("linkspan1:AgIXBw");
    consumer
        .commit(&list, CommitMode::Sync)
        .expect("it is committed");

    let there = translate(&settings, "beyond", Direction::ToTarget).expect("it is translated");
    let of_target = read(target, "beyond", 0);
    let texts = |ranges: &[(i64, i64)]| -> Vec<String> {
        let holds = |offset: i64| {
            ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&offset))
        };
        let kept = of_target.iter().filter(|kept| holds(kept.offset));
        kept.map(|kept| kept.text().to_owned()).collect()
    };
    let done: Vec<String> = (12..=14)
        .chain(38..=45)
        .map(|number| format!("0:{number}"))
        .collect();
    assert_eq!(texts(&there[0].beyond), done, "{there:?}");
    apply(&settings, "beyond", Direction::ToTarget, &there).expect("it is committed");
    // And back to where it came from.
    let back = translate(&settings, "beyond", Direction::ToSource).expect("it is translated");
    assert_eq!(back[0].outcome, Outcome::Offset(10));
    let covered: Vec<i64> = back[0]
        .beyond
        .iter()
        .flat_map(|(first, last)| *first..=*last)
        .collect();
    assert_eq!(covered, (12..=14).chain(38..=45).collect::<Vec<_>>());
}

/// Commits an offset of partition 0, as somebody who is no member.
fn commit(of: &KafkaCluster, group: &str, topic: &str, offset: i64) {
    let consumer: BaseConsumer = client(of)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset))
        .expect("an offset");
    consumer
        .commit(&list, CommitMode::Sync)
        .expect("it is committed");
}

fn read_from(of: &KafkaCluster, topic: &str, partition: i32, from: i64) -> Vec<String> {
    read(of, topic, partition)
        .into_iter()
        .filter(|kept| kept.offset >= from)
        .map(|kept| kept.text().to_owned())
        .collect()
}

fn committed(of: &KafkaCluster, group: &str, topic: &str, partitions: i32) -> BTreeMap<i32, i64> {
    let consumer: BaseConsumer = client(of)
        .set("group.id", group)
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let list = consumer.committed_offsets(list, PATIENCE).expect("offsets");
    list.elements()
        .iter()
        .filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        })
        .collect()
}
