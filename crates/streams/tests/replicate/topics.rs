//! Topics come, grow, change, break and go round in circles.

use std::time::Duration;

use linkspan_streams::replicate::{Naming, Replicator, State, TopicState, reset};
use linkspan_testkit::KafkaCluster;
use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::clusters::*;

#[test]
fn the_targets_topics_follow_the_sources() {
    let (source, target) = KafkaCluster::shared_pair();
    let config = [("retention.ms", "86400000"), ("min.insync.replicas", "1")];
    make_topic(source, "follow.one", 2, &config);
    fill(source, "follow.one", 2, 0..10);
    let settings = settings("follow", source, target, &["follow.*", "!follow.not"]);
    let replicator = Replicator::start(settings).expect("it starts");
    until_copied(&replicator, source, "follow.one");
    let set = config_of(target, "follow.one");
    assert_eq!(
        set.get("retention.ms").map(String::as_str),
        Some("86400000")
    );
    assert!(!set.contains_key("min.insync.replicas"), "{set:?}");

    // More partitions, other settings, a new topic: all while it runs.
    let widened = NewPartitions::new("follow.one", 4);
    wait(admin(source).create_partitions([&widened], &AdminOptions::new()))
        .expect("an answer")
        .pop()
        .expect("a result")
        .expect("it is widened");
    let change = AlterConfig::new(ResourceSpecifier::Topic("follow.one"))
        .set("cleanup.policy", "compact,delete");
    wait(admin(source).alter_configs([&change], &AdminOptions::new())).expect("an answer");
    make_topic(source, "follow.two", 1, &[]);
    make_topic(source, "follow.not", 1, &[]);
    fill(source, "follow.two", 1, 0..10);
    until("partition 3 can be written", || {
        partitions_of(source, "follow.one") == 4
    });
    fill(source, "follow.one", 4, 10..20);
    until("the settings have changed", || {
        let set = config_of(target, "follow.one");
        set.get("cleanup.policy").map(String::as_str) == Some("compact,delete")
            && !set.contains_key("retention.ms")
    });
    until_copied(&replicator, source, "follow.one");
    until_copied(&replicator, source, "follow.two");
    assert_same(source, target, "follow.one", "follow.one", 4);
    assert_same(source, target, "follow.two", "follow.two", 1);
    assert!(
        replicator
            .status()
            .topics
            .iter()
            .all(|topic| topic.source != "follow.not")
    );
}

#[test]
fn a_topic_that_was_made_anew_stops_and_the_others_go_on() {
    let (source, target) = KafkaCluster::shared_pair();
    for topic in ["anew.one", "anew.two"] {
        make_topic(source, topic, 1, &[]);
        fill(source, topic, 1, 0..10);
    }
    let mut settings = settings("anew", source, target, &["anew.*"]);
    // It is not left to the regular look at the topics.
    settings.sync_every = Duration::from_secs(600);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "anew.one");
    until_copied(&replicator, source, "anew.two");

    delete_topic(source, "anew.one");
    until("the topic is gone", || {
        partitions_of(source, "anew.one") == 0
    });
    make_topic(source, "anew.one", 1, &[]);
    // More than there were: offset for offset they would follow the old ones without a gap.
    fill(source, "anew.one", 1, 100..150);
    let why = until_stopped(&replicator, "anew.one");
    assert!(why.contains("anew.one"), "{why}");
    fill(source, "anew.two", 1, 10..20);
    until_copied(&replicator, source, "anew.two");
    assert_eq!(read(target, "anew.one", 0).len(), 10);
    assert_eq!(read(target, "anew.two", 0).len(), 20);
    drop(replicator);

    // It stays so after a restart, and goes on only when it is told to.
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    let why = until_stopped(&replicator, "anew.one");
    assert!(why.contains("made anew on the source"), "{why}");
    assert!(
        why.contains("linkspan replicate reset anew --topic anew.one"),
        "{why}"
    );
    // While it runs: it begins that topic anew by itself.
    reset(&settings, "anew.one").expect("it is forgotten");
    until_copied(&replicator, source, "anew.one");
    let refused = reset(&settings, "anew.three").expect_err("it is not known");
    assert!(
        refused
            .to_string()
            .contains("has copied no topic anew.three"),
        "{refused}"
    );
    assert_eq!(read(target, "anew.one", 0).len(), 60);
}

#[test]
fn a_truncated_topic_stops_and_the_others_go_on() {
    let (source, target) = KafkaCluster::shared_pair();
    for topic in ["cut.one", "cut.two"] {
        make_topic(source, topic, 1, &[]);
        fill(source, topic, 1, 0..10);
    }
    let settings = settings("cut", source, target, &["cut.*"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "cut.one");
    until_copied(&replicator, source, "cut.two");
    drop(replicator);
    for topic in ["cut.one", "cut.two"] {
        fill(source, topic, 1, 10..30);
    }
    delete_before(source, "cut.one", 0, 20);
    let replicator = Replicator::start(settings).expect("it starts");
    let why = until_stopped(&replicator, "cut.one");
    assert!(why.contains("begins at offset 20"), "{why}");
    assert!(why.contains("from 10 on"), "{why}");
    until_copied(&replicator, source, "cut.two");
    assert_eq!(read(target, "cut.one", 0).len(), 10);
}

#[test]
fn a_target_topic_that_was_made_anew_stops() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "gone.one", 1, &[]);
    fill(source, "gone.one", 1, 0..10);
    let settings = settings("gone", source, target, &["gone.*"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "gone.one");
    drop(replicator);
    delete_topic(target, "gone.one");
    let replicator = Replicator::start(settings).expect("it starts");
    let why = until_stopped(&replicator, "gone.one");
    assert!(why.contains("made anew on the target"), "{why}");
}

#[test]
fn a_record_that_the_target_refuses_stops_its_topic_alone() {
    let (source, target) = KafkaCluster::shared_pair();
    // Every topic of this cluster takes more than those of the other, without a setting of its own.
    let larger = AlterConfig::new(ResourceSpecifier::Broker(1)).set("message.max.bytes", "3000000");
    wait(admin(source).alter_configs([&larger], &AdminOptions::new()))
        .expect("an answer")
        .pop()
        .expect("a result")
        .expect("it is set");
    for topic in ["large.one", "large.two"] {
        make_topic(source, topic, 1, &[]);
        fill(source, topic, 1, 0..10);
    }
    let settings = settings("large", source, target, &["large.*"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "large.one");
    let mut config = client(source);
    config.set("message.max.bytes", "3000000");
    let producer: BaseProducer = config.create().expect("a producer");
    send(&producer, "large.one", 0, &"x".repeat(2_000_000));
    producer.flush(PATIENCE).expect("it is written");
    let why = until_stopped(&replicator, "large.one");
    assert!(
        why.contains("the target refuses a record of large.one/0"),
        "{why}"
    );
    assert!(why.contains("max.message.bytes"), "{why}");
    fill(source, "large.two", 1, 10..20);
    until_copied(&replicator, source, "large.two");
    assert_eq!(read(target, "large.one", 0).len(), 10);
    assert_eq!(read(target, "large.two", 0).len(), 20);
    drop(replicator);

    // What the sentence says is to be done about it helps, and stays.
    let larger =
        AlterConfig::new(ResourceSpecifier::Topic("large.one")).set("max.message.bytes", "3000000");
    wait(admin(target).alter_configs([&larger], &AdminOptions::new())).expect("an answer");
    let set = || config_of(target, "large.one").remove("max.message.bytes");
    until("it is set", || set().is_some());
    let replicator = Replicator::start(settings).expect("it starts");
    until_copied(&replicator, source, "large.one");
    assert_eq!(read(target, "large.one", 0).len(), 11);
    assert_eq!(set().as_deref(), Some("3000000"));
}

#[test]
fn a_record_that_is_refused_under_load_stops_its_topic_alone() {
    let (source, target) = KafkaCluster::shared_pair();
    let larger = [("max.message.bytes", "3000000")];
    make_topic(source, "loaded.one", 1, &larger);
    make_topic(source, "loaded.two", 1, &[]);
    // Kept in step it would take the record: so it is made before, and it takes little.
    let mut config = client(source);
    config.set("message.max.bytes", "3000000");
    let producer: BaseProducer = config.create().expect("a producer");
    let line = "x".repeat(1_000);
    for number in 0..30_000 {
        send(&producer, "loaded.two", 0, &line);
        send(&producer, "loaded.one", 0, &line);
        if number == 2_000 {
            send(&producer, "loaded.one", 0, &"y".repeat(2_000_000));
        }
    }
    producer.flush(PATIENCE).expect("all is written");
    let unset = AlterConfig::new(ResourceSpecifier::Topic("loaded.one"));
    wait(admin(source).alter_configs([&unset], &AdminOptions::new())).expect("an answer");
    let mut settings = settings("loaded", source, target, &["loaded.*"]);
    // The producer's queue is full all the time, and much is still to be sent when the record is refused.
    settings.buffer_kib = 4_096;
    let replicator = Replicator::start(settings).expect("it starts");
    until("one of the topics is stopped", || {
        let status = replicator.status();
        // The first that is told of it names the topic, and stops nothing else.
        if let State::Waiting(why) = &status.state {
            assert!(!why.contains("write to the target"), "{why}");
        }
        let mut topics = status.topics.iter();
        topics.any(|topic| topic.state != TopicState::Running)
    });
    let why = until_stopped(&replicator, "loaded.one");
    assert!(
        why.contains("the target refuses a record of loaded.one/0"),
        "{why}"
    );
    until_copied(&replicator, source, "loaded.two");
    assert_eq!(read(target, "loaded.two", 0).len(), 30_000);
}

#[test]
fn a_record_without_a_key_waits_until_its_topic_is_not_compacted() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "keyless", 1, &[]);
    let producer = producer(source);
    let record: BaseRecord<'_, str, str> = BaseRecord::to("keyless").payload("no key");
    producer
        .send(record)
        .map_err(|(fault, _)| fault)
        .expect("it is sent");
    producer.flush(PATIENCE).expect("it is written");
    let policy = |policy: &str| {
        let change = AlterConfig::new(ResourceSpecifier::Topic("keyless"));
        let change = change.set("cleanup.policy", policy);
        wait(admin(source).alter_configs([&change], &AdminOptions::new())).expect("an answer");
        until("it is set", || {
            config_of(source, "keyless")
                .get("cleanup.policy")
                .map(String::as_str)
                == Some(policy)
        });
    };
    policy("compact");
    let settings = settings("keyless", source, target, &["keyless"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    let why = until_stopped(&replicator, "keyless");
    assert!(why.contains("takes no record without a key"), "{why}");
    drop(replicator);
    // As the sentence says.
    policy("delete");
    let replicator = Replicator::start(settings).expect("it starts");
    until_copied(&replicator, source, "keyless");
    assert_eq!(read(target, "keyless", 0).len(), 1);
}

#[test]
fn a_record_that_does_not_fit_into_memory_stops_its_topic_alone() {
    let (source, target) = KafkaCluster::shared_pair();
    for topic in ["huge.one", "huge.two"] {
        make_topic(source, topic, 1, &[("max.message.bytes", "3000000")]);
        fill(source, topic, 1, 0..10);
    }
    let mut config = client(source);
    config.set("message.max.bytes", "3000000");
    let producer: BaseProducer = config.create().expect("a producer");
    send(&producer, "huge.one", 0, &"x".repeat(2_000_000));
    producer.flush(PATIENCE).expect("it is written");
    let mut settings = settings("huge", source, target, &["huge.*"]);
    settings.buffer_kib = 1_024;
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    let why = until_stopped(&replicator, "huge.one");
    assert!(
        why.contains("the record of huge.one/0 at offset 10"),
        "{why}"
    );
    assert!(why.contains("raise the `buffer`"), "{why}");
    fill(source, "huge.two", 1, 10..20);
    until_copied(&replicator, source, "huge.two");
    drop(replicator);
    settings.buffer_kib = 4_096;
    let replicator = Replicator::start(settings).expect("it starts");
    until_copied(&replicator, source, "huge.one");
    assert_eq!(read(target, "huge.one", 0).len(), 11);
}

#[test]
fn small_batches_are_kept_small() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "small", 1, &[("max.message.bytes", "2000")]);
    let mut config = client(source);
    config.set("batch.size", "1500");
    let producer: BaseProducer = config.create().expect("a producer");
    for number in 0..500 {
        send(&producer, "small", 0, &format!("{number:0100}"));
    }
    producer.flush(PATIENCE).expect("all is written");
    let settings = settings("small", source, target, &["small"]);
    let replicator = Replicator::start(settings).expect("it starts");
    until_copied(&replicator, source, "small");
    assert_eq!(assert_same(source, target, "small", "small", 1), 500);
}

#[test]
fn a_cluster_is_not_copied_into_itself() {
    let source = KafkaCluster::shared();
    let mut settings = settings("itself", source, source, &["itself"]);
    settings.naming = Naming::Prefix("copy.".to_owned());
    let replicator = Replicator::start(settings).expect("it starts");
    until("it gives up", || !replicator.is_running());
    let status = replicator.status();
    let why = is_failed(&status).expect("it has failed");
    assert!(why.contains("are the same cluster"), "{why}");
}

#[test]
fn a_topic_is_not_copied_back() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "circle.one", 1, &[]);
    make_topic(target, "circle.back", 1, &[]);
    fill(source, "circle.one", 1, 0..10);
    fill(target, "circle.back", 1, 0..10);
    let there = settings("circle.there", source, target, &["circle.*"]);
    let back = settings("circle.back", target, source, &["circle.*"]);
    let there = Replicator::start(there).expect("it starts");
    until_copied(&there, source, "circle.one");
    let back = Replicator::start(back).expect("it starts");
    let why = until_stopped(&back, "circle.one");
    assert!(why.contains("copied from the target cluster"), "{why}");
    until_copied(&back, target, "circle.back");
    let why = until_stopped(&there, "circle.back");
    assert!(why.contains("in a circle"), "{why}");
    assert_eq!(there.status().state, State::Running);
    fill(source, "circle.one", 1, 10..20);
    until_copied(&there, source, "circle.one");
    for (of, topic, count) in [
        (source, "circle.one", 20),
        (target, "circle.one", 20),
        (source, "circle.back", 10),
        (target, "circle.back", 10),
    ] {
        assert_eq!(read(of, topic, 0).len(), count, "{topic}");
    }
}
