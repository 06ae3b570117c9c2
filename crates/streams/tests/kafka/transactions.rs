//! A transaction is seen as a whole, or never.

use std::time::Duration;

use linkspan_streams::flow::{CommitError, Committer as _};
use linkspan_streams::kafka::{ErrorKind, KafkaSource, Outgoing, Sizes, Transactions};
use linkspan_testkit::KafkaCluster;

use crate::common::{self, Copier, bytes, records};

const TIMEOUT: Duration = Duration::from_secs(10);

async fn open(kafka: &KafkaCluster, id: &str) -> Transactions {
    let sizes = Sizes {
        largest: 1_000_000,
        batch: 1_000_000,
    };
    Transactions::open(&common::cluster(kafka), id, TIMEOUT, TIMEOUT * 3, sizes)
        .await
        .expect("transactions")
}

fn outgoing<'a>(topic: &'a str, value: Option<&'a bytes::Bytes>) -> Outgoing<'a> {
    Outgoing {
        topic,
        partition: 0,
        key: None,
        value,
        headers: [&[], &[]],
        timestamp: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_is_invisible() {
    let kafka = KafkaCluster::shared();
    let topic = common::topic(kafka, "aborted", 1, &[]).await;
    let mut transactions = open(kafka, &common::unique("aborting")).await;
    for (number, commits) in [("1", true), ("2", false), ("3", true)] {
        transactions.begin().expect("a transaction begins");
        let value = bytes(number);
        for _ in 0..100 {
            transactions
                .send(outgoing(&topic, value.as_ref()))
                .await
                .expect("a record goes");
        }
        if commits {
            transactions.commit().await.expect("a commit");
        } else {
            // So that there is something to abort at the broker.
            common::lies_in(kafka, &topic, 200).await;
            transactions.abort().await.expect("an abort");
        }
    }
    assert_eq!(common::dump_uncommitted(kafka, &topic).len(), 300);
    let committed = [vec![1; 100], vec![3; 100]].concat();
    assert_eq!(common::numbers(&common::dump(kafka, &topic))[&0], committed);
    // Nor does a source give any of it.
    let group = common::unique("group");
    let copier = Copier::new(kafka, "reader", &group, &topic, "nowhere");
    let (mut source, _) = KafkaSource::open(&copier.cluster, copier.source).expect("a source");
    let mut given = Vec::new();
    while given.len() < committed.len() {
        let records = records(&mut source).await.into_iter();
        given.extend(records.map(|record| record.value.expect("a value")));
    }
    let expected: Vec<_> = committed.iter().map(u32::to_string).collect();
    assert_eq!(given, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_with_the_same_id_ends_what_another_left_open() {
    let kafka = KafkaCluster::shared();
    let topic = common::topic(kafka, "left-open", 1, &[]).await;
    let id = common::unique("same");
    let mut left = open(kafka, &id).await;
    left.begin().expect("a transaction begins");
    let value = bytes("1");
    left.send(outgoing(&topic, value.as_ref()))
        .await
        .expect("a record goes");
    common::lies_in(kafka, &topic, 1).await;
    let mut next = open(kafka, &id).await;
    next.begin().expect("a transaction begins");
    let value = bytes("2");
    next.send(outgoing(&topic, value.as_ref()))
        .await
        .expect("a record goes");
    next.commit().await.expect("a commit");
    let refused = left.commit().await.expect_err("the first one is fenced");
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    assert_eq!(common::numbers(&common::dump(kafka, &topic))[&0], [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named_and_nothing_is_committed() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "absent-in", 1, &[]).await;
    common::fill(kafka, &from, 1, 0..3);
    let mut copier = Copier::new(
        kafka,
        "absent",
        &common::unique("group"),
        &from,
        "no-such-topic",
    );
    let (mut source, mut committer) = copier.open().await.expect("source and committer");
    let taken = records(&mut source).await;
    let fault = committer
        .commit(&common::passed_on(taken.clone(), &copier.to))
        .await
        .expect_err("there is no such topic");
    assert!(matches!(fault, CommitError::Lasting(_)), "{fault}");
    // The committer is of use after that.
    let to = common::topic(kafka, "absent-out", 1, &[]).await;
    copier.to = to.as_str().into();
    committer
        .commit(&common::passed_on(taken, &copier.to))
        .await
        .expect("a commit");
    common::assert_each_once(&common::dump(kafka, &to), 1, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_topic_does_not_take_stops_the_flow_and_says_so() {
    let kafka = KafkaCluster::shared();
    let from = common::topic(kafka, "large-in", 1, &[]).await;
    let to = common::topic(kafka, "large-out", 1, &[("max.message.bytes", "1000")]).await;
    let value: String = "x".repeat(5_000);
    common::write(
        kafka,
        &from,
        &common::Seen {
            partition: 0,
            offset: 0,
            key: None,
            value: Some(value.into_bytes()),
            headers: Vec::new(),
            timestamp: None,
        },
    );
    let copier = Copier::new(kafka, "large", &common::unique("group"), &from, &to);
    let (mut source, mut committer) = copier.open().await.expect("source and committer");
    let taken = records(&mut source).await;
    let fault = committer
        .commit(&common::passed_on(taken, &copier.to))
        .await
        .expect_err("the topic does not take it");
    assert!(matches!(fault, CommitError::Lasting(_)), "{fault}");
    assert!(fault.to_string().contains(&to), "{fault}");
    assert_eq!(common::dump(kafka, &to), []);
}
