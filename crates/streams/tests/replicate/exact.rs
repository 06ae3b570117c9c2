//! What is copied is the same on the other side.

use linkspan_streams::replicate::{Difference, Naming, Replicator, State, Verified, look, verify};
use linkspan_testkit::KafkaCluster;
use rdkafka::producer::{BaseRecord, Producer as _};

use crate::clusters::*;

#[test]
fn every_part_of_a_record_is_kept() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "exact.parts", 3, &[("retention.ms", "-1")]);
    let producer = producer(source);
    let rows = [
        (Some("key"), Some("value"), vec![], 1_600_000_000_000),
        (None, Some("no key"), vec![("a", Some("1"))], 1),
        (Some(""), Some(""), vec![("a", None)], 1_700_000_000_001),
        (Some("tombstone"), None, vec![], 1_700_000_000_002),
        (
            Some("twice"),
            Some("headers"),
            vec![
                ("same", Some("1")),
                ("other", Some("")),
                ("same", None),
                ("same", Some("1")),
                ("", Some("no name")),
            ],
            1_760_000_000_003,
        ),
    ];
    for number in 0..500 {
        let (key, value, list, timestamp) = &rows[number % rows.len()];
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to("exact.parts")
            .partition((number % 3) as i32)
            .timestamp(timestamp + number as i64);
        if let Some(key) = key {
            record = record.key(*key);
        }
        if let Some(value) = value {
            record = record.payload(*value);
        }
        if !list.is_empty() {
            record = record.headers(headers(list));
        }
        producer
            .send(record)
            .map_err(|(fault, _)| fault)
            .expect("it is sent");
    }
    producer.flush(PATIENCE).expect("all is written");

    let mut settings = settings("exact.parts", source, target, &["exact.parts"]);
    settings.naming = Naming::Prefix("east.".to_owned());
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "exact.parts");
    assert_eq!(
        assert_same(source, target, "exact.parts", "east.exact.parts", 3),
        500
    );
    assert_eq!(replicator.stop().state, State::Stopped);

    let verified = verify(&settings, &[], 100, |_| {}).expect("both sides are read");
    assert_eq!(verified.len(), 3);
    assert_eq!(verified.iter().map(Verified::records).sum::<u64>(), 500);
    for partition in &verified {
        assert_eq!(partition.first_difference(), None);
        assert!(partition.ranges.len() > 1);
    }
    let seen = look(&settings).expect("the progress is read");
    let lags = seen.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.lag);
    assert_eq!(lags.collect::<Vec<_>>(), vec![Some(0); 3]);
}

#[test]
fn only_what_was_committed_on_the_source_is_copied() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "exact.committed", 1, &[]);
    let producer = transactional(source, "exact.committed");
    for round in 0..20 {
        producer.begin_transaction().expect("it begins");
        for number in 0..10 {
            send(
                &producer,
                "exact.committed",
                0,
                &format!("{round}:{number}"),
            );
        }
        producer.flush(PATIENCE).expect("all is written");
        match round % 3 {
            1 => producer.abort_transaction(PATIENCE).expect("it is aborted"),
            _ => producer
                .commit_transaction(PATIENCE)
                .expect("it is committed"),
        }
    }
    let settings = settings("exact.committed", source, target, &["exact.committed"]);
    let replicator = Replicator::start(settings).expect("it starts");
    // The end is behind the last transaction's marker: positions go over what is no record.
    until_copied(&replicator, source, "exact.committed");
    let copied = assert_same(source, target, "exact.committed", "exact.committed", 1);
    assert_eq!(copied, 130);

    producer.begin_transaction().expect("it begins");
    send(&producer, "exact.committed", 0, "aborted at the end");
    producer.flush(PATIENCE).expect("all is written");
    producer.abort_transaction(PATIENCE).expect("it is aborted");
    until_copied(&replicator, source, "exact.committed");
    assert_eq!(read(target, "exact.committed", 0).len(), 130);
}

#[test]
fn a_difference_is_found_where_it_is() {
    let (source, target) = KafkaCluster::shared_pair();
    make_topic(source, "exact.differs", 1, &[]);
    fill(source, "exact.differs", 1, 0..100);
    let settings = settings("exact.differs", source, target, &["exact.differs"]);
    let replicator = Replicator::start(settings.clone()).expect("it starts");
    until_copied(&replicator, source, "exact.differs");
    drop(replicator);
    // Somebody else writes into the target, and takes the first records away there.
    fill(target, "exact.differs", 1, 200..203);
    delete_before(target, "exact.differs", 0, 10);
    let verified = verify(&settings, &[], 10, |_| {}).expect("both sides are read");
    assert_eq!(verified[0].first_difference(), None, "{verified:?}");
    assert_eq!(verified[0].records(), 90);

    // Nor does it matter what the source no longer has.
    delete_before(source, "exact.differs", 0, 20);
    let verified = verify(&settings, &[], 10, |_| {}).expect("both sides are read");
    assert_eq!(verified[0].records(), 80);

    // A topic in the same place with other records: the first range that differs is told, and the record.
    delete_topic(target, "exact.differs");
    until("the topic is gone", || {
        partitions_of(target, "exact.differs") == 0
    });
    make_topic(target, "exact.differs", 1, &[]);
    let producer = producer(target);
    for (number, kept) in (0..20).map(|number| (number, None)).chain(
        read(source, "exact.differs", 0)
            .iter()
            .map(|kept| (kept.offset, Some(kept))),
    ) {
        let text = match kept {
            Some(kept) if number != 57 => kept.text().to_owned(),
            _ => "0:other".to_owned(),
        };
        let record = BaseRecord::to("exact.differs")
            .partition(0)
            .key("key")
            .payload(&text)
            .timestamp(kept.and_then(|kept| kept.timestamp).unwrap_or(1));
        producer
            .send(record)
            .map_err(|(fault, _)| fault)
            .expect("it is sent");
    }
    producer.flush(PATIENCE).expect("all is written");
    let verified = verify(&settings, &[], 10, |_| {}).expect("both sides are read");
    let range = verified[0].first_difference().expect("a range differs");
    assert_eq!((range.from, range.to), (50, 60));
    let (source, target) = (57, 57);
    assert_eq!(
        range.difference,
        Some(Difference::Content { source, target })
    );
    assert_ne!(range.source_checksum, range.target_checksum);
}
