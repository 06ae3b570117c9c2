//! Outputs that their topics do not take.

use std::collections::BTreeMap;

use linkspan_streams::flow::{Commit, CommitError, Committer as _, LaneCommit, Progress};
use linkspan_streams::kafka::{Takes, Topics};
use linkspan_streams::{Record, Term};
use linkspan_testkit::KafkaCluster;

use crate::common::{self, Copier, Seen, records};

/// Records with old timestamps stay.
const KEPT: (&str, &str) = ("retention.ms", "-1");
const AN_HOUR: (&str, &str) = ("message.timestamp.before.max.ms", "3600000");
const COMPACT: (&str, &str) = ("cleanup.policy", "compact");

fn specimen(key: Option<&str>, timestamp: i64) -> Seen {
    Seen {
        partition: 0,
        offset: 0,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: Some(b"value".to_vec()),
        headers: Vec::new(),
        timestamp: Some(timestamp),
    }
}

fn header(record: &Seen, name: &str) -> Option<String> {
    let mut found = record.headers.iter().filter(|(header, _)| header == name);
    let value = found.next()?.1.clone()?;
    assert!(found.next().is_none(), "{name} stands once");
    Some(String::from_utf8(value).expect("a text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_its_topic_does_not_take_makes_its_record_a_dead_letter() {
    const OLD: i64 = 1_500_000_000_000;
    let kafka = KafkaCluster::shared();
    let now = jiff::Timestamp::now().as_millisecond();
    let from = common::topic(kafka, "unfit-in", 1, &[KEPT]).await;
    let compacted = common::topic(kafka, "unfit-compacted", 1, &[COMPACT]).await;
    let timed = common::topic(kafka, "unfit-timed", 1, &[KEPT, AN_HOUR]).await;
    // Its bounds are those of an output's topic: the time is left out.
    let dead = common::topic(kafka, "unfit-dead", 1, &[KEPT, AN_HOUR]).await;
    let outputs = [
        (specimen(Some("keyed"), now), &compacted),
        (specimen(None, now), &compacted),
        (specimen(None, now), &timed),
        (specimen(Some("old"), OLD), &timed),
        (specimen(Some("old"), OLD), &compacted),
    ];
    for (record, _) in &outputs {
        common::write(kafka, &from, record);
    }
    let mut copier = Copier::new(kafka, "unfit", &common::unique("group"), &from, &compacted);
    copier.committer.dead_letters = dead.as_str().into();
    let topics = Topics::open(&copier.cluster).expect("topics");
    for topic in [&compacted, &timed, &dead] {
        let found = topics.find(topic).await.expect("an answer");
        let takes = found.expect("the topic").takes;
        copier.committer.topics.insert(topic.as_str().into(), takes);
    }
    let (mut source, mut committer) = copier.open().await.expect("source and committer");
    let mut taken: Vec<Record> = Vec::new();
    while taken.len() < outputs.len() {
        taken.extend(records(&mut source).await);
    }
    let last = taken[4].clone();
    let to = outputs.iter().map(|(_, topic)| topic.as_str().into());
    let outputs = taken.into_iter().zip(to);
    let commit = Commit {
        lanes: vec![LaneCommit {
            lane: last.lane,
            term: Term::default(),
            outputs: outputs.map(|(it, to)| common::output(it, &to)).collect(),
            progress: Progress {
                last: Some((last.ordinal, last.position)),
                beyond: Vec::new(),
            },
        }],
    };
    committer.commit(&commit).await.expect("a commit");

    let keys = |topic| {
        let seen = common::dump(kafka, topic).into_iter();
        let keys = seen.map(|it| it.key.map(|key| String::from_utf8(key).expect("a text")));
        keys.collect::<Vec<_>>()
    };
    let key = |key: &str| Some(key.to_owned());
    assert_eq!(keys(&compacted), [key("keyed"), key("old")]);
    assert_eq!(keys(&timed), [None]);
    let dead = common::dump(kafka, &dead);
    let codes: BTreeMap<_, _> = dead
        .iter()
        .map(|letter| {
            (
                header(letter, "linkspan-offset"),
                header(letter, "linkspan-error-code"),
            )
        })
        .collect();
    let expected = [("1", "output-without-key"), ("3", "output-out-of-time")];
    let expected = expected.map(|(offset, code)| (key(offset), key(code)));
    assert_eq!(codes, expected.into());
    assert_eq!(dead[0].timestamp, Some(now));
    assert_eq!(header(&dead[0], "linkspan-timestamp-left-out"), None);
    assert_eq!(dead[1].key, Some(b"old".to_vec()));
    assert!(dead[1].timestamp >= Some(now - 60_000));
    let left_out = header(&dead[1], "linkspan-timestamp-left-out");
    assert_eq!(left_out, Some(OLD.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_topic_refuses_by_its_key_or_time_stops_the_flow_and_says_so() {
    let kafka = KafkaCluster::shared();
    let (keyed, unkeyed) = (specimen(Some("key"), 1), specimen(None, 1));
    for property in [COMPACT, AN_HOUR] {
        let from = common::topic(kafka, "refused-in", 1, &[KEPT]).await;
        let to = common::topic(kafka, "refused-out", 1, &[property]).await;
        // Those that the topic takes are refused with the other one, and are not to blame.
        for record in [&keyed, &unkeyed, &keyed] {
            common::write(kafka, &from, record);
        }
        let copier = Copier::new(kafka, "refused", &common::unique("group"), &from, &to);
        let (mut source, mut committer) = copier.open().await.expect("source and committer");
        let mut taken = Vec::new();
        while taken.len() < 3 {
            taken.extend(records(&mut source).await);
        }
        let fault = committer
            .commit(&common::passed_on(taken, &copier.to))
            .await
            .expect_err("the topic does not take it");
        assert!(matches!(fault, CommitError::Lasting(_)), "{fault}");
        let text = fault.to_string();
        assert!(
            text.contains(&to) && text.contains("does not take such a record"),
            "{text}"
        );
        assert_eq!(common::dump(kafka, &to), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_takes_one_by_one_it_gets_in_batches_that_it_takes() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "batches-in", 1, &[]).await;
    let to = common::topic(kafka, "batches-out", 1, &[("max.message.bytes", "1500")]).await;
    common::fill(kafka, &from, 1, 0..500);
    let mut copier = Copier::new(kafka, "batches", &common::unique("group"), &from, &to);
    let takes = Takes {
        largest: 988,
        ..Takes::USUAL
    };
    copier.committer.topics.insert(copier.to.clone(), takes);
    let (mut source, mut committer) = copier.open().await.expect("source and committer");
    let mut taken = Vec::new();
    while taken.len() < 500 {
        taken.extend(records(&mut source).await);
    }
    committer
        .commit(&common::passed_on(taken, &copier.to))
        .await
        .expect("a commit");
    common::assert_each_once(&common::dump(kafka, &to), 1, 500);
}
