//! Records of the Kinesis Producer Library: many in one.

use aws_sdk_kinesis::primitives::Blob;
use bytes::Bytes;
use linkspan_streams::flow::Progress;
use linkspan_streams::kinesis::consumer::{KinesisSource, Leases as _, Note};
use linkspan_streams::{Event, Position, Record, Source as _};
use md5::{Digest as _, Md5};
use prost::Message as _;

use crate::leases::Store;
use crate::reader::settings;
use crate::server::{Kinesis, PATIENCE, STREAM, entry};

#[derive(Clone, PartialEq, prost::Message)]
struct Aggregate {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Part>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Part {
    #[prost(uint64, tag = "1")]
    partition_key: u64,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

fn aggregate(parts: &[(&str, &str)]) -> Vec<u8> {
    let records = parts.iter().enumerate().map(|(nth, (_, data))| Part {
        partition_key: nth as u64,
        data: Bytes::copy_from_slice(data.as_bytes()),
    });
    let body = Aggregate {
        partition_keys: parts.iter().map(|(key, _)| (*key).to_owned()).collect(),
        records: records.collect(),
    };
    let body = body.encode_to_vec();
    let digest: [u8; 16] = Md5::digest(&body).into();
    [&[0xF3, 0x89, 0x9A, 0xC2][..], &body, &digest].concat()
}

/// The next records, as many as are asked for; what ends on the way is all committed.
async fn read(source: &mut KinesisSource, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let event = tokio::time::timeout(PATIENCE, source.next(true)).await;
        match event.unwrap().unwrap() {
            Event::Records(some) => records.extend(some),
            Event::Ended { release, .. } => release.done(),
            _ => {}
        }
    }
    records
}

fn values(records: &[Record]) -> Vec<&str> {
    let value = |record: &'_ Record| record.value.clone().unwrap();
    assert!(records.iter().all(|record| !value(record).is_empty()));
    records
        .iter()
        .map(|record| std::str::from_utf8(record.value.as_deref().unwrap()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_goes_on_in_the_middle_of_an_aggregate() {
    let kinesis = Kinesis::with(1, false).await;
    let client = kinesis.client().await;
    let many = aggregate(&[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")]);
    let after = aggregate(&[("a", "6"), ("b", "7")]);
    let entries = [entry("x", many), entry("x", "5"), entry("x", after)];
    kinesis.put(&client, &entries).await;
    let store = Store::new(PATIENCE);
    for done in 0..7 {
        let gateway = store.gateway("one");
        let (mut source, reading) =
            KinesisSource::open(kinesis.amazon(), gateway.clone(), settings());
        let records = read(&mut source, 7 - done).await;
        let expected: Vec<_> = (done + 1..=7).map(|it| it.to_string()).collect();
        assert_eq!(values(&records), expected);
        let mut ordinals = records.iter().map(|record| record.ordinal);
        assert!(
            ordinals
                .by_ref()
                .is_sorted_by(|one, other| one + 1 == *other)
        );
        // The first of them is committed, and then the gateway begins anew.
        let first = &records[0];
        let progress = Progress {
            last: Some((first.ordinal, first.position.clone())),
            beyond: Vec::new(),
        };
        assert!(
            gateway
                .note(
                    &first.lane,
                    gateway.held(&first.lane),
                    Note::Progress(progress)
                )
                .await
                .unwrap()
        );
        drop(source);
        reading.left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_aggregate_that_was_made_before_a_split_each_shard_gives_its_own_part() {
    let kinesis = Kinesis::with(1, false).await;
    let client = kinesis.client().await;
    // MD5 of "a" is 0x0cc1…, of "b" 0x92eb…, of "c" 0x4a8a…, of "d" 0x8277….
    let parts = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];
    kinesis.put(&client, &[entry("x", aggregate(&parts))]).await;
    let call = client.split_shard().stream_name(STREAM);
    let call = call.shard_to_split("shardId-000000000000");
    let half = (1_u128 << 127).to_string();
    call.new_starting_hash_key(&half).send().await.unwrap();
    // A producer that has not heard of the split: the library puts the other part again, into the other shard.
    for key in ["0", &*half] {
        let call = client.put_record().stream_name(STREAM);
        let call = call.partition_key("x").explicit_hash_key(key);
        let late = aggregate(&parts.map(|(key, _)| (key, "late")));
        call.data(Blob::new(late)).send().await.unwrap();
    }
    let store = Store::new(PATIENCE);
    let gateway = store.gateway("one");
    let (mut source, _) = KinesisSource::open(kinesis.amazon(), gateway, settings());
    let records = read(&mut source, 8).await;
    let (before, late) = records.split_at(4);
    assert_eq!(values(before), ["1", "2", "3", "4"]);
    let mut late: Vec<_> = late
        .iter()
        .map(|record| (record.lane.as_str(), record.key.as_deref().unwrap()))
        .collect();
    late.sort_unstable();
    let (lower, upper) = ("shardId-000000000001", "shardId-000000000002");
    assert_eq!(
        late,
        [
            (lower, &b"a"[..]),
            (lower, b"c"),
            (upper, b"b"),
            (upper, b"d")
        ]
    );
    let place = |record: &Record| record.position.to_string();
    assert_eq!(Position::new(&place(&records[3])), records[3].position);
    assert!(place(&records[3]).ends_with("/3"));
}
