//! Several gateways share a stream's shards.

use std::time::Duration;

use linkspan_streams::flow::Order;

use crate::leases::Store;
use crate::reader::{Reader, assert_each_once_in_order};
use crate::server::{Kinesis, entry};

const KEYS: usize = 30;
const LEASE: Duration = Duration::from_secs(3);

/// Writes the next value of each key until it is stopped; gives how many each has.
async fn write(kinesis: &Kinesis, mut stop: tokio::sync::watch::Receiver<bool>) -> usize {
    let client = kinesis.client().await;
    let mut value = 0;
    while !*stop.borrow_and_update() {
        let entries: Vec<_> = (0..KEYS)
            .map(|key| entry(&format!("key-{key}"), value.to_string()))
            .collect();
        kinesis.put(&client, &entries).await;
        value += 1;
    }
    value
}

fn evenly(store: &Store, names: &[&str], lanes: usize) -> bool {
    let holders = store.holders();
    let counts: Vec<_> = names
        .iter()
        .map(|name| holders.get(*name).copied().unwrap_or(0))
        .collect();
    counts.iter().sum::<usize>() == lanes
        && counts.iter().all(|count| *count == lanes / names.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_come_go_and_are_killed_share_the_shards_and_every_effect_is_there_once() {
    let kinesis = Kinesis::with(6, false).await;
    let store = Store::new(LEASE);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let steps = async {
        let one = Reader::start(&kinesis, &store, "one", Order::Lane);
        store
            .becomes("one has all", |it| evenly(it, &["one"], 6))
            .await;
        let two = Reader::start(&kinesis, &store, "two", Order::Lane);
        store
            .becomes("two share", |it| evenly(it, &["one", "two"], 6))
            .await;
        let three = Reader::start(&kinesis, &store, "three", Order::Lane);
        let all = ["one", "two", "three"];
        store.becomes("three share", |it| evenly(it, &all, 6)).await;
        one.kill();
        store
            .becomes("the others have all", |it| evenly(it, &["two", "three"], 6))
            .await;
        two.stop().await;
        store
            .becomes("the last has all", |it| evenly(it, &["three"], 6))
            .await;
        stop.send_replace(true);
        three
    };
    let (last, each) = tokio::join!(steps, write(&kinesis, stopped));
    store.shows(KEYS * each).await;
    last.stop().await;
    let outputs = store.outputs();
    assert_each_once_in_order(&outputs, KEYS, each);
    for name in ["one", "two", "three"] {
        assert!(outputs.iter().any(|output| output.by == name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_only_silent_commits_nothing_of_what_others_took() {
    let kinesis = Kinesis::with(2, false).await;
    let store = Store::new(Duration::from_millis(1));
    // Each of them takes what the other has, for all leases are over at once.
    let one = Reader::start(&kinesis, &store, "one", Order::Lane);
    let two = Reader::start(&kinesis, &store, "two", Order::Lane);
    let client = kinesis.client().await;
    for value in 0..60 {
        let entries: Vec<_> = (0..KEYS)
            .map(|key| entry(&format!("key-{key}"), value.to_string()))
            .collect();
        kinesis.put(&client, &entries).await;
    }
    store.shows(KEYS * 60).await;
    one.stop().await;
    two.stop().await;
    assert_each_once_in_order(&store.outputs(), KEYS, 60);
    tracing::debug!(fenced = store.fenced(), "commits were refused");
}
