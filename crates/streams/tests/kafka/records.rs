//! A record keeps what it came with.

use linkspan_streams::flow::{Commit, Committer as _, Failure, LaneCommit, Output, Progress};
use linkspan_streams::kafka::{KafkaMessage, KafkaOutput, Takes};
use linkspan_streams::{Event, Header, Source as _, SourceError, Term};
use linkspan_testkit::KafkaCluster;

use crate::common::{self, Copier, Seen, bytes, records};

/// Records with old timestamps stay.
const KEPT: &[(&str, &str)] = &[("retention.ms", "-1")];

fn specimens() -> Vec<Seen> {
    let header = |name: &str, value: Option<&str>| {
        (
            name.to_owned(),
            value.map(|value| value.as_bytes().to_vec()),
        )
    };
    let seen = |partition, key: Option<&str>, value: Option<&str>, headers, timestamp| Seen {
        partition,
        offset: 0,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        headers,
        timestamp: Some(timestamp),
    };
    let twice = vec![
        header("trace", Some("one")),
        header("nothing", None),
        header("trace", Some("two")),
        header("empty", Some("")),
    ];
    vec![
        seen(0, Some("key"), Some("a value"), twice, 1_700_000_000_123),
        seen(1, None, Some("no key"), Vec::new(), 1),
        seen(2, Some(""), Some(""), Vec::new(), 1_600_000_000_000),
        seen(
            1,
            Some("tombstone"),
            None,
            vec![header("why", Some("erased"))],
            1_700_000_000_124,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_headers_nulls_timestamps_and_partitions_survive() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "specimens", 3, KEPT).await;
    let to = common::topic(kafka, "specimens-out", 3, KEPT).await;
    for record in &specimens() {
        common::write(kafka, &from, record);
    }
    let copier = Copier::new(kafka, "specimens", &common::unique("group"), &from, &to);
    let (mut source, mut committer) = copier.open().await.expect("source and committer");
    let mut left = specimens().len();
    while left > 0 {
        let records = records(&mut source).await;
        left -= records.len();
        committer
            .commit(&common::passed_on(records, &copier.to))
            .await
            .expect("a commit");
    }
    let mut expected = specimens();
    expected.sort_by_key(|record| record.partition);
    for topic in [from, to] {
        let mut seen = common::dump(kafka, &topic);
        // The ends of transactions have offsets too.
        seen.iter_mut().for_each(|record| record.offset = 0);
        assert_eq!(seen, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_goes_out_with_its_headers_behind_those_of_the_record() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "results", 3, KEPT).await;
    // Fewer partitions than the source has.
    let to = common::topic(kafka, "results-out", 2, KEPT).await;
    let dead = common::topic(kafka, "results-dead", 3, KEPT).await;
    for mut record in specimens() {
        record.partition = 2;
        common::write(kafka, &from, &record);
    }
    let mut copier = Copier::new(kafka, "results", &common::unique("group"), &from, &to);
    copier.committer.dead_letters = dead.as_str().into();
    let takes = Takes {
        largest: 10_000,
        ..Takes::USUAL
    };
    copier.committer.topics.insert(copier.to.clone(), takes);
    let (mut source, mut committer) = copier.open().await.expect("source and committer");
    let mut records = records(&mut source).await;
    while records.len() < 4 {
        records.extend(common::records(&mut source).await);
    }
    let last = records[3].clone();
    let outcomes = [
        Ok(vec![
            (&to, bytes("{\"label\":\"positive\"}")),
            (&dead, bytes("twice")),
        ]),
        Ok(Vec::new()),
        Err(Failure {
            code: "engine-failed".to_owned(),
            reason: "the engine gave no answer".to_owned(),
            retryable: false,
            after: None,
            overloaded: false,
        }),
        Ok(vec![(&to, Some(vec![b'x'; 20_000].into()))]),
    ];
    let outputs = records
        .into_iter()
        .zip(outcomes)
        .map(|(record, outcome)| Output {
            record: record.into(),
            outcome: outcome.map(|messages| KafkaOutput {
                messages: messages
                    .into_iter()
                    .map(|(topic, value)| KafkaMessage {
                        topic: topic.as_str().into(),
                        key: None,
                        value,
                        headers: vec![Header {
                            name: "linkspan-id".into(),
                            value: bytes("0198"),
                        }],
                    })
                    .collect(),
            }),
            attempts: 3,
            taken: jiff::Timestamp::now(),
        });
    let commit = Commit {
        lanes: vec![LaneCommit {
            lane: last.lane.clone(),
            term: Term::default(),
            outputs: outputs.collect(),
            progress: Progress {
                last: Some((last.ordinal, last.position.clone())),
                beyond: Vec::new(),
            },
        }],
    };
    committer.commit(&commit).await.expect("a commit");

    let specimens = specimens();
    let out = common::dump(kafka, &to);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].partition, 0, "2 modulo 2");
    assert_eq!(out[0].key, specimens[0].key);
    assert_eq!(out[0].timestamp, specimens[0].timestamp);
    let (of_the_record, added) = out[0].headers.split_at(specimens[0].headers.len());
    assert_eq!(of_the_record, specimens[0].headers);
    assert_eq!(added, [("linkspan-id".to_owned(), Some(b"0198".to_vec()))]);

    let dead = common::dump(kafka, &dead);
    assert_eq!(dead.len(), 3);
    assert_eq!(dead[0].value.as_deref(), Some(&b"twice"[..]));
    let reason = |record: &Seen, name: &str| {
        let header = record.headers.iter().find(|(header, _)| header == name);
        header.and_then(|(_, value)| String::from_utf8(value.clone()?).ok())
    };
    assert_eq!(dead[1].value, specimens[2].value);
    assert_eq!(dead[1].key, specimens[2].key);
    assert_eq!(dead[1].partition, 2);
    for (name, value) in [
        ("linkspan-error-code", "engine-failed"),
        ("linkspan-error-reason", "the engine gave no answer"),
        ("linkspan-attempts", "3"),
        ("linkspan-source", last.lane.as_str()),
        ("linkspan-offset", "2"),
    ] {
        assert_eq!(reason(&dead[1], name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(dead[2].value, specimens[3].value);
    assert_eq!(
        reason(&dead[2], "linkspan-error-code").as_deref(),
        Some("output-too-large")
    );
    assert_eq!(dead[2].headers[0], specimens[3].headers[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_break_the_lane_and_are_never_skipped() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "trimmed", 1, &[]).await;
    let to = common::topic(kafka, "trimmed-out", 1, &[]).await;
    common::fill(kafka, &from, 1, 0..10);
    let copier = Copier::new(kafka, "trimmed", &common::unique("group"), &from, &to);
    let (mut source, mut committer) = copier.open().await.expect("source and committer");
    let mut taken = records(&mut source).await;
    taken.truncate(3);
    committer
        .commit(&common::passed_on(taken, &copier.to))
        .await
        .expect("a commit");
    drop((source, committer));
    common::delete_records(kafka, &from, 0, 8).await;

    let (mut source, _committer) = copier.open().await.expect("source and committer");
    let fault = loop {
        match source.next(true).await {
            Ok(Event::Records(_)) => panic!("records were skipped in silence"),
            Err(fault @ (SourceError::Broken { .. } | SourceError::Lasting(_))) => break fault,
            Ok(_) | Err(_) => {}
        }
    };
    let text = fault.to_string();
    assert!(matches!(fault, SourceError::Broken { .. }), "{text}");
    assert!(text.contains("the next record is 3"), "{text}");
    assert!(text.contains("it holds 8 up to, not with, 10"), "{text}");
}
