//! Shards are listed, split and merged, and nothing is missed, repeated or out of order.

use std::collections::BTreeSet;

use aws_sdk_kinesis::Client;
use linkspan_streams::flow::Order;
use linkspan_streams::kinesis::Kind;
use linkspan_streams::kinesis::consumer::{Settings, Start};

use crate::leases::Store;
use crate::reader::{Reader, assert_each_once_in_order, settings};
use crate::server::{Kinesis, PATIENCE, STREAM, Trouble, entry};

const KEYS: usize = 40;

/// Puts the values of all keys, from one number to another.
async fn fill(kinesis: &Kinesis, client: &Client, values: std::ops::Range<usize>) {
    for value in values {
        let entries: Vec<_> = (0..KEYS)
            .map(|key| entry(&format!("key-{key}"), value.to_string()))
            .collect();
        kinesis.put(client, &entries).await;
    }
}

async fn split(client: &Client, shard: u32, at: u128) {
    let call = client.split_shard().stream_name(STREAM);
    let call = call.shard_to_split(format!("shardId-{shard:012}"));
    call.new_starting_hash_key(at.to_string())
        .send()
        .await
        .unwrap();
}

async fn merge(client: &Client, one: u32, other: u32) {
    let call = client.merge_shards().stream_name(STREAM);
    let call = call.shard_to_merge(format!("shardId-{one:012}"));
    let call = call.adjacent_shard_to_merge(format!("shardId-{other:012}"));
    call.send().await.unwrap();
}

/// Writes while the stream is split and merged: seven generations of shards in all.
async fn write(kinesis: &Kinesis) -> usize {
    let client = kinesis.client().await;
    fill(kinesis, &client, 0..25).await;
    split(&client, 0, 1 << 125).await; // 2, 3
    fill(kinesis, &client, 25..50).await;
    split(&client, 1, 3 << 126).await; // 4, 5
    split(&client, 2, 1 << 124).await; // 6, 7
    fill(kinesis, &client, 50..75).await;
    merge(&client, 3, 4).await; // 8
    fill(kinesis, &client, 75..100).await;
    merge(&client, 6, 7).await; // 9
    merge(&client, 9, 8).await; // 10
    fill(kinesis, &client, 100..125).await;
    125
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_comes_once_and_in_order_across_splits_and_merges_however_often_calls_fail() {
    for order in [Order::Lane, Order::Key] {
        let kinesis = Kinesis::with(2, false).await;
        let (mut calls, mut gets) = (0, 0);
        kinesis.trouble(move |operation| {
            if ![
                "GetRecords",
                "GetShardIterator",
                "ListShards",
                "DescribeStreamSummary",
            ]
            .contains(&operation)
            {
                return None;
            }
            calls += 1;
            gets += usize::from(operation == "GetRecords");
            if operation == "GetRecords" && gets % 9 == 5 {
                return Some(Trouble::Refused(Kind::ExpiredIterator));
            }
            match calls % 31 {
                3 => Some(Trouble::Refused(Kind::InternalFailure)),
                7 => Some(Trouble::Refused(Kind::ProvisionedThroughputExceeded)),
                11 => Some(Trouble::CutBefore),
                13 => Some(Trouble::Refused(Kind::ServiceUnavailable)),
                17 => Some(Trouble::CutAfter),
                19 => Some(Trouble::Refused(Kind::LimitExceeded)),
                _ => None,
            }
        });
        let store = Store::new(PATIENCE);
        let reader = Reader::start(&kinesis, &store, "one", order);
        let each = write(&kinesis).await;
        store.shows(KEYS * each).await;
        // What is split or merged is read to its end: all but the two last shards.
        store
            .becomes("all parents end", |store| store.ended() == 9)
            .await;
        reader.stop().await;
        assert_each_once_in_order(&store.outputs(), KEYS, each);
        assert!(kinesis.answered("GetRecords", Kind::ExpiredIterator.name()) > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_behind_what_is_committed_wherever_it_comes() {
    let kinesis = Kinesis::with(2, false).await;
    let store = Store::new(PATIENCE);
    let writing = write(&kinesis);
    tokio::pin!(writing);
    let mut each = 0;
    let mut committed = 0;
    while each == 0 || committed < KEYS * each {
        let reader = Reader::start(&kinesis, &store, "one", Order::Key);
        let next = committed + KEYS * 10;
        tokio::select! {
            written = &mut writing, if each == 0 => each = written,
            () = store.shows(if each == 0 { next } else { next.min(KEYS * each) }) => {}
        }
        reader.stop().await;
        committed = store.outputs().len();
    }
    assert_each_once_in_order(&store.outputs(), KEYS, each);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_a_list_of_a_thousand_shards_are_read_also_when_a_place_in_it_grows_old() {
    const SHARDS: u32 = 1_050;
    let kinesis = Kinesis::with(SHARDS, false).await;
    let client = kinesis.client().await;
    let width = u128::MAX / u128::from(SHARDS);
    let keys: Vec<_> = (0..u128::from(SHARDS)).map(|nth| nth * width).collect();
    for keys in keys.chunks(500) {
        let mut call = client.put_records().stream_name(STREAM);
        for key in keys {
            let one = aws_sdk_kinesis::types::PutRecordsRequestEntry::builder()
                .partition_key("any")
                .explicit_hash_key(key.to_string())
                .data(aws_sdk_kinesis::primitives::Blob::new("0"));
            call = call.records(one.build().unwrap());
        }
        assert_eq!(call.send().await.unwrap().failed_record_count, Some(0));
    }
    let mut lists = 0;
    kinesis.trouble(move |operation| {
        lists += usize::from(operation == "ListShards");
        // Only the second call has a token.
        (operation == "ListShards" && lists == 2).then_some(Trouble::Refused(Kind::ExpiredIterator))
    });
    let store = Store::new(PATIENCE);
    let slow = Settings {
        idle: PATIENCE,
        refresh: PATIENCE,
        ..settings()
    };
    let reader = Reader::with(&kinesis, &store, "one", Order::Lane, slow);
    store.shows(SHARDS as usize).await;
    assert_eq!(reader.reading.behind().len(), SHARDS as usize);
    reader.stop().await;
    let outputs = store.outputs();
    let lanes: BTreeSet<_> = outputs.iter().map(|output| &output.lane).collect();
    assert_eq!(
        (outputs.len(), lanes.len()),
        (SHARDS as usize, SHARDS as usize)
    );
    assert_eq!(kinesis.answered("ListShards", ""), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_latest_on_only_new_records_are_read_and_those_of_a_restart_are_not_missed() {
    let kinesis = Kinesis::with(1, false).await;
    let client = kinesis.client().await;
    kinesis.put(&client, &[entry("old", "0")]).await;
    let store = Store::new(PATIENCE);
    let latest = || Settings {
        start: Start::Latest,
        ..settings()
    };
    let reader = Reader::with(&kinesis, &store, "one", Order::Lane, latest());
    let lane = linkspan_streams::Lane::new("shardId-000000000000");
    let has_begun = |store: &Store| {
        let last = store.progress(&lane).and_then(|progress| progress.last);
        last.is_some_and(|(_, at)| at.to_string().starts_with('@'))
    };
    store.becomes("it begins", has_begun).await;
    reader.stop().await;
    // While nobody reads, records come and the shard is split.
    kinesis.put(&client, &[entry("new", "0")]).await;
    split(&client, 0, 1 << 127).await;
    kinesis.put(&client, &[entry("new", "1")]).await;
    let reader = Reader::with(&kinesis, &store, "one", Order::Lane, latest());
    store.shows(2).await;
    reader.stop().await;
    assert_each_once_in_order(&store.outputs(), 1, 2);
    assert_eq!(store.outputs()[0].key, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_is_never_asked_for_more_than_it_gives() {
    let kinesis = Kinesis::with(1, true).await;
    let client = kinesis.client().await;
    let store = Store::new(PATIENCE);
    let reader = Reader::start(&kinesis, &store, "one", Order::Lane);
    for value in 0..20 {
        kinesis
            .put(&client, &[entry("key", value.to_string())])
            .await;
        store.shows(value + 1).await;
    }
    reader.stop().await;
    assert!(kinesis.answered("GetRecords", "") >= 20);
    let refused = Kind::ProvisionedThroughputExceeded.name();
    assert_eq!(kinesis.answered("GetRecords", refused), 0);
}
