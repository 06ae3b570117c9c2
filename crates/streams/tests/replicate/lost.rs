//! What the source has lost before it was copied is noticed, however it was lost.

use std::path::Path;

use linkspan_streams::replicate::{Replicator, TopicState, look, reset};
use linkspan_testkit::KafkaCluster;
use rdkafka::admin::{AdminOptions, NewPartitions};

use crate::clusters::*;

#[test]
fn retention_that_overtakes_a_partition_that_was_empty_is_noticed() {
    let (source, target) = KafkaCluster::shared_pair();
    for topic in ["overtaken.first", "overtaken.later", "overtaken.not"] {
        make_topic(source, topic, 1, &[]);
    }
    fill(source, "overtaken.later", 1, 0..5);
    let settings = settings("overtaken", source, target, &["overtaken.*"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until("it is known where all of them begin", || {
        let seen = look(&settings);
        seen.is_ok_and(|seen| {
            let mut partitions = seen.topics.iter().flat_map(|topic| &topic.partitions);
            seen.topics.len() == 3 && partitions.all(|partition| partition.done.is_some())
        })
    });
    until_copied(&replicator, source, "overtaken.later");
    drop(replicator);

    // Records come and go: to a partition that was empty, and to one that was not there.
    fill(source, "overtaken.first", 1, 0..10);
    delete_before(source, "overtaken.first", 0, 7);
    let widened = NewPartitions::new("overtaken.later", 2);
    wait(admin(source).create_partitions([&widened], &AdminOptions::new()))
        .expect("an answer")
        .pop()
        .expect("a result")
        .expect("it is widened");
    until("partition 1 can be written", || {
        partitions_of(source, "overtaken.later") == 2
    });
    fill(source, "overtaken.later", 2, 5..10);
    delete_before(source, "overtaken.later", 1, 3);
    fill(source, "overtaken.not", 1, 0..10);
    let seen = look(&settings).expect("both clusters answer");
    let stopped = |name: &str| {
        let topic = seen.topics.iter().find(|topic| topic.source == name);
        match &topic.expect("it is known").state {
            TopicState::Stopped(why) => Some(why.clone()),
            TopicState::Running => None,
        }
    };
    let whys = [
        (
            "overtaken.first",
            "overtaken.first/0 on the source begins at offset 7",
        ),
        (
            "overtaken.later",
            "overtaken.later/1 on the source begins at offset 3",
        ),
    ];
    for (topic, sentence) in whys {
        let why = stopped(topic).expect("it is stopped");
        assert!(why.contains(sentence), "{why}");
    }
    assert_eq!(stopped("overtaken.not"), None);

    let replicator = Replicator::start(settings).expect("it starts");
    for (topic, sentence) in whys {
        let why = until_stopped(&replicator, topic);
        assert!(why.contains(sentence), "{why}");
        assert!(why.contains("the records from 0 on"), "{why}");
    }
    until_copied(&replicator, source, "overtaken.not");
    assert_eq!(read(target, "overtaken.first", 0).len(), 0);
    assert_eq!(read(target, "overtaken.not", 0).len(), 10);
}

#[test]
fn a_log_that_was_truncated_and_has_grown_again_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let source = KafkaCluster::start(&[&format!("log.dirs={}", data.display())]);
    let (_, target) = KafkaCluster::shared_pair();
    for topic in ["regrown.one", "regrown.two", "regrown.not"] {
        make_topic(&source, topic, 1, &[]);
        fill(&source, topic, 1, 0..10);
    }
    // What an unclean election leaves: the log of a replica that lacks the last records. One time before it is begun again, one time
    // while it copies.
    source.stop();
    for topic in ["regrown.one-0", "regrown.two-0"] {
        copy(&data.join(topic), &folder.path().join(topic));
    }
    source.run();
    let put_back = |topic: &str| {
        source.stop();
        std::fs::remove_dir_all(data.join(topic)).expect("it is there");
        copy(&folder.path().join(topic), &data.join(topic));
        source.run();
    };
    for topic in ["regrown.one", "regrown.two", "regrown.not"] {
        fill(&source, topic, 1, 10..20);
    }
    let settings = settings("regrown", &source, target, &["regrown.*"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    for topic in ["regrown.one", "regrown.two", "regrown.not"] {
        until_copied(&replicator, &source, topic);
    }
    drop(replicator);
    put_back("regrown.one-0");
    fill(&source, "regrown.one", 1, 100..130);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    let why = until_stopped(&replicator, "regrown.one");
    assert!(
        why.contains("regrown.one/0 on the source was truncated"),
        "{why}"
    );
    assert!(why.contains("has grown beyond them since"), "{why}");
    fill(&source, "regrown.not", 1, 20..30);
    until_copied(&replicator, &source, "regrown.not");

    put_back("regrown.two-0");
    fill(&source, "regrown.two", 1, 100..130);
    let why = until_stopped(&replicator, "regrown.two");
    assert!(why.contains("truncated"), "{why}");
    fill(&source, "regrown.not", 1, 30..40);
    until_copied(&replicator, &source, "regrown.not");
    for (topic, count) in [
        ("regrown.one", 20),
        ("regrown.two", 20),
        ("regrown.not", 40),
    ] {
        assert_eq!(read(target, topic, 0).len(), count, "{topic}");
    }
}

#[test]
fn a_topic_that_has_gone_and_come_again_needs_no_restart() {
    let (source, target) = KafkaCluster::shared_pair();
    for topic in ["vanished.one", "vanished.two"] {
        make_topic(source, topic, 1, &[]);
        fill(source, topic, 1, 0..10);
    }
    let settings = settings(
        "vanished.one",
        source,
        target,
        &["vanished.one", "vanished.two"],
    );
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "vanished.one");
    delete_topic(source, "vanished.one");
    let why = until_stopped(&replicator, "vanished.one");
    assert!(why.contains("no longer on the source"), "{why}");
    fill(source, "vanished.two", 1, 10..20);
    until_copied(&replicator, source, "vanished.two");
    make_topic(source, "vanished.one", 1, &[]);
    until("it is seen that another one is there", || {
        until_stopped(&replicator, "vanished.one").contains("made anew on the source")
    });
    fill(source, "vanished.one", 1, 20..25);
    reset(&settings, "vanished.one").expect("it is forgotten");
    until_copied(&replicator, source, "vanished.one");
    assert_eq!(read(target, "vanished.one", 0).len(), 15);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("the folder is read") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("it is copied");
    }
}
