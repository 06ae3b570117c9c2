//! The API as its clients see it, over logs in memory.

mod faults;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Access, Call, Codec, Kind, Logs, Options, Service};
use crate::log::{Entry, Log, LogError};

/// A log that forgets at the end of the test.
struct InMemory {
    entries: Mutex<(u64, Vec<Entry>)>,
    next: watch::Sender<u64>,
    full: Mutex<bool>,
}

#[async_trait]
impl Log for InMemory {
    async fn append(&self, entries: Vec<Bytes>, now: Timestamp) -> Result<u64, LogError> {
        if *self.full.lock().unwrap() {
            return Err(LogError::Full);
        }
        let mut kept = self.entries.lock().unwrap();
        let first = kept.0 + kept.1.len() as u64;
        kept.1.extend(
            entries
                .into_iter()
                .zip(first..)
                .map(|(payload, offset)| Entry {
                    offset,
                    arrived: now,
                    payload,
                }),
        );
        self.next.send_replace(kept.0 + kept.1.len() as u64);
        Ok(first)
    }

    async fn read(&self, from: u64, entries: usize, bytes: usize) -> Result<Vec<Entry>, LogError> {
        let kept = self.entries.lock().unwrap();
        let Some(skip) = from.checked_sub(kept.0) else {
            return Err(LogError::Trimmed { first: kept.0 });
        };
        let mut sum = 0;
        let page = kept.1.iter().skip(skip as usize).take(entries);
        Ok(page
            .take_while(|entry| {
                let first = sum == 0;
                sum += entry.payload.len();
                first || sum <= bytes
            })
            .cloned()
            .collect())
    }

    fn bounds(&self) -> Range<u64> {
        let kept = self.entries.lock().unwrap();
        kept.0..kept.0 + kept.1.len() as u64
    }

    fn follow(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }

    async fn since(&self, time: Timestamp) -> Result<u64, LogError> {
        let kept = self.entries.lock().unwrap();
        let found = kept.1.iter().find(|entry| entry.arrived >= time);
        Ok(found.map_or(kept.0 + kept.1.len() as u64, |entry| entry.offset))
    }

    async fn trim(&self, age: Duration, _: Option<u64>, now: Timestamp) -> Result<u64, LogError> {
        let mut kept = self.entries.lock().unwrap();
        let until = now - SignedDuration::try_from(age).unwrap();
        let old = kept.1.partition_point(|entry| entry.arrived < until);
        kept.1.drain(..old);
        kept.0 += old as u64;
        Ok(0)
    }
}

#[derive(Default)]
pub(super) struct Folder(Mutex<BTreeMap<String, Arc<InMemory>>>);

#[async_trait]
impl Logs for Folder {
    async fn open(&self, name: &str) -> Result<Arc<dyn Log>, LogError> {
        let mut logs = self.0.lock().unwrap();
        let log = logs.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(InMemory {
                entries: Mutex::default(),
                next: watch::Sender::new(0),
                full: Mutex::new(false),
            })
        });
        let log: Arc<dyn Log> = log.clone();
        Ok(log)
    }

    async fn remove(&self, name: &str) -> Result<(), LogError> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }

    async fn names(&self) -> Result<Vec<String>, LogError> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }
}

struct Rig {
    folder: tempfile::TempDir,
    logs: Arc<Folder>,
    service: Service,
    options: Options,
    now: Timestamp,
}

impl Rig {
    async fn new() -> Self {
        Self::with(Options {
            throttle: false,
            shard_size: None,
            shards: 20,
        })
        .await
    }

    async fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logs = Arc::new(Folder::default());
        let path = folder.path().join("catalogue.json");
        let service = Service::open(path, logs.clone(), b"secret", options)
            .await
            .unwrap();
        Self {
            folder,
            logs,
            service,
            options,
            now: Timestamp::from_second(1_790_000_000).unwrap(),
        }
    }

    async fn restart(&mut self) {
        let path = self.folder.path().join("catalogue.json");
        self.service = Service::open(path, self.logs.clone(), b"secret", self.options)
            .await
            .unwrap();
    }

    async fn raw(
        &self,
        operation: &str,
        codec: Codec,
        body: &[u8],
        may: &(dyn Fn(Access, Option<&str>) -> bool + Sync),
    ) -> super::Answer {
        self.service
            .answer(Call {
                operation,
                codec,
                body,
                region: "eu-central-1",
                may,
                now: self.now,
            })
            .await
    }

    async fn call(&self, operation: &str, body: Value) -> Value {
        let body = serde_json::to_vec(&body).unwrap();
        let answer = self.raw(operation, Codec::Json, &body, &|_, _| true).await;
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, 200, "{operation}: {value}");
        value
    }

    async fn refused(&self, operation: &str, body: Value) -> (Kind, String) {
        let body = serde_json::to_vec(&body).unwrap();
        let answer = self.raw(operation, Codec::Json, &body, &|_, _| true).await;
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        let kind = answer
            .fault
            .unwrap_or_else(|| panic!("{operation} was performed: {value}"));
        assert_eq!(value["__type"], kind.name());
        (kind, value["message"].as_str().unwrap().to_owned())
    }

    async fn stream(&self, shards: u32) {
        self.call(
            "CreateStream",
            json!({ "StreamName": "reviews", "ShardCount": shards }),
        )
        .await;
    }

    async fn put(&self, key: &str, data: &str) -> Value {
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.encode(data);
        let record = json!({ "StreamName": "reviews", "PartitionKey": key, "Data": data });
        self.call("PutRecord", record).await
    }

    async fn iterator(&self, shard: &str, kind: &str, more: Value) -> String {
        let mut request =
            json!({ "StreamName": "reviews", "ShardId": shard, "ShardIteratorType": kind });
        let members = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(members);
        let answer = self.call("GetShardIterator", request).await;
        answer["ShardIterator"].as_str().unwrap().to_owned()
    }

    async fn get(&self, iterator: &str) -> Value {
        self.call("GetRecords", json!({ "ShardIterator": iterator }))
            .await
    }

    /// What a shard holds, as texts.
    async fn texts(&self, shard: &str) -> Vec<String> {
        let iterator = self.iterator(shard, "TRIM_HORIZON", json!({})).await;
        texts(&self.get(&iterator).await)
    }
}

fn texts(records: &Value) -> Vec<String> {
    use base64::Engine as _;
    let records = records["Records"].as_array().unwrap().iter();
    records
        .map(|record| {
            let data = record["Data"].as_str().unwrap();
            let data = base64::engine::general_purpose::STANDARD.decode(data);
            String::from_utf8(data.unwrap()).unwrap()
        })
        .collect()
}

const SHARD: &str = "shardId-000000000000";

fn number(value: &Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_put_is_got_in_order_with_growing_sequence_numbers() {
    let mut rig = Rig::new().await;
    rig.stream(1).await;
    let mut before = 0;
    for nth in 0..5 {
        let put = rig.put("k", &format!("review {nth}")).await;
        assert_eq!(put["ShardId"], SHARD);
        let sequence = number(&put["SequenceNumber"]);
        assert!(sequence > before);
        before = sequence;
        rig.now += SignedDuration::from_secs(10);
    }
    let all: Vec<_> = (0..5).map(|nth| format!("review {nth}")).collect();
    assert_eq!(rig.texts(SHARD).await, all);
    rig.restart().await;
    assert_eq!(rig.texts(SHARD).await, all);
    let put = rig.put("k", "after").await;
    assert!(number(&put["SequenceNumber"]) > before);
}

#[tokio::test]
async fn what_was_acknowledged_is_on_the_disk() {
    use crate::log;
    let folder = tempfile::tempdir().unwrap();
    let mut sequences = Vec::new();
    for round in 0..3 {
        let logs = log::Logs::open(&folder.path().join("logs"), log::Settings::default())
            .await
            .unwrap();
        let options = Options {
            throttle: false,
            shard_size: None,
            shards: 20,
        };
        let path = folder.path().join("catalogue.json");
        let service = Service::open(path, Arc::new(logs), b"secret", options)
            .await
            .unwrap();
        let call = async |operation: &str, body: Value| {
            let body = serde_json::to_vec(&body).unwrap();
            let call = Call {
                operation,
                codec: Codec::Json,
                body: &body,
                region: "eu-central-1",
                may: &|_, _| true,
                now: Timestamp::now(),
            };
            let answer = service.answer(call).await;
            assert_eq!(answer.status, 200, "{:?}", answer.fault);
            serde_json::from_slice::<Value>(&answer.body).unwrap()
        };
        if round == 0 {
            call(
                "CreateStream",
                json!({ "StreamName": "reviews", "ShardCount": 1 }),
            )
            .await;
        }
        for _ in 0..10 {
            let record = json!({ "StreamName": "reviews", "PartitionKey": "a", "Data": "eA==" });
            let put = call("PutRecord", record).await;
            sequences.push(number(&put["SequenceNumber"]));
        }
        let iterator = json!({ "StreamName": "reviews", "ShardId": SHARD, "ShardIteratorType": "TRIM_HORIZON" });
        let iterator = call("GetShardIterator", iterator).await["ShardIterator"].clone();
        let got = call("GetRecords", json!({ "ShardIterator": iterator })).await;
        let got: Vec<_> = got["Records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| number(&record["SequenceNumber"]))
            .collect();
        assert_eq!(got, sequences);
        assert!(got.is_sorted());
    }
}

#[tokio::test]
async fn each_kind_of_iterator_begins_where_it_says() {
    let mut rig = Rig::new().await;
    rig.stream(1).await;
    let mut puts = Vec::new();
    for nth in 0..5 {
        puts.push(rig.put("k", &nth.to_string()).await["SequenceNumber"].clone());
        rig.now += SignedDuration::from_secs(10);
    }
    let at = |seconds: i64| 1_790_000_000.0 + seconds as f64;
    for (kind, more, expected) in [
        ("TRIM_HORIZON", json!({}), 0),
        ("LATEST", json!({}), 5),
        (
            "AT_SEQUENCE_NUMBER",
            json!({ "StartingSequenceNumber": puts[2] }),
            2,
        ),
        (
            "AFTER_SEQUENCE_NUMBER",
            json!({ "StartingSequenceNumber": puts[2] }),
            3,
        ),
        ("AT_TIMESTAMP", json!({ "Timestamp": at(20) }), 2),
        ("AT_TIMESTAMP", json!({ "Timestamp": at(21) }), 3),
        ("AT_TIMESTAMP", json!({ "Timestamp": at(-100) }), 0),
    ] {
        let iterator = rig.iterator(SHARD, kind, more).await;
        let got = texts(&rig.get(&iterator).await);
        let rest: Vec<_> = (expected..5).map(|nth: i32| nth.to_string()).collect();
        assert_eq!(got, rest, "{kind}");
    }
    let iterator = rig.iterator(SHARD, "LATEST", json!({})).await;
    rig.put("k", "new").await;
    let got = rig.get(&iterator).await;
    assert_eq!(texts(&got), ["new"]);
    assert_eq!(got["MillisBehindLatest"], 0);
    let next = got["NextShardIterator"].as_str().unwrap();
    assert!(texts(&rig.get(next).await).is_empty());

    for (request, part) in [
        (json!({ "ShardIteratorType": "AT_TIMESTAMP" }), "timestamp"),
        (
            json!({ "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at(9999) }),
            "future",
        ),
        (
            json!({ "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "17" }),
            "invalid",
        ),
    ] {
        let mut whole = json!({ "StreamName": "reviews", "ShardId": SHARD });
        let members = request.as_object().unwrap().clone();
        whole.as_object_mut().unwrap().extend(members);
        let (kind, message) = rig.refused("GetShardIterator", whole).await;
        assert_eq!(kind, Kind::InvalidArgument);
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn an_iterator_expires_and_a_forged_one_opens_nothing() {
    let mut rig = Rig::new().await;
    rig.stream(1).await;
    let iterator = rig.iterator(SHARD, "TRIM_HORIZON", json!({})).await;
    rig.restart().await;
    rig.get(&iterator).await;
    rig.now += SignedDuration::from_secs(301);
    let old = json!({ "ShardIterator": iterator });
    assert_eq!(
        rig.refused("GetRecords", old).await.0,
        Kind::ExpiredIterator
    );
    let mut forged = iterator.into_bytes();
    forged[20] = if forged[20] == b'A' { b'B' } else { b'A' };
    for forged in [String::from_utf8(forged).unwrap(), "x".to_owned()] {
        let forged = json!({ "ShardIterator": forged });
        assert_eq!(
            rig.refused("GetRecords", forged).await.0,
            Kind::InvalidArgument
        );
    }
}

#[tokio::test]
async fn records_go_to_the_shard_of_their_hash_key() {
    let rig = Rig::new().await;
    rig.stream(4).await;
    // MD5 of "a" begins with 0x0c, of "d" with 0x82.
    assert_eq!(rig.put("a", "x").await["ShardId"], "shardId-000000000000");
    assert_eq!(rig.put("d", "x").await["ShardId"], "shardId-000000000002");
    let most = u128::MAX.to_string();
    let records = json!([
        { "PartitionKey": "a", "Data": "eA==", "ExplicitHashKey": most },
        { "PartitionKey": "a", "Data": "eA==", "ExplicitHashKey": "0" },
        { "PartitionKey": "a", "Data": "eA==" },
    ]);
    let put = json!({ "StreamName": "reviews", "Records": records });
    let put = rig.call("PutRecords", put).await;
    assert_eq!(put["FailedRecordCount"], 0);
    let shards: Vec<_> = put["Records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["ShardId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        shards,
        [
            "shardId-000000000003",
            "shardId-000000000000",
            "shardId-000000000000"
        ]
    );
}

#[tokio::test]
async fn a_full_disk_fails_its_records_and_no_other() {
    let rig = Rig::new().await;
    rig.stream(2).await;
    let first = rig.logs.0.lock().unwrap().values().next().unwrap().clone();
    *first.full.lock().unwrap() = true;
    let records = json!([
        { "PartitionKey": "a", "Data": "eA==" },
        { "PartitionKey": "d", "Data": "eA==" },
    ]);
    let put = rig
        .call(
            "PutRecords",
            json!({ "StreamName": "reviews", "Records": records }),
        )
        .await;
    assert_eq!(put["FailedRecordCount"], 1);
    assert_eq!(put["Records"][0]["ErrorCode"], "InternalFailure");
    assert_eq!(put["Records"][0]["SequenceNumber"], Value::Null);
    assert_eq!(put["Records"][1]["ShardId"], "shardId-000000000001");
    let one = json!({ "StreamName": "reviews", "PartitionKey": "a", "Data": "eA==" });
    assert_eq!(
        rig.refused("PutRecord", one).await.0,
        Kind::ServiceUnavailable
    );
}

#[tokio::test]
async fn a_split_and_a_merge_end_their_shards_and_name_their_children() {
    let mut rig = Rig::new().await;
    rig.stream(1).await;
    rig.put("a", "before").await;
    let tail = rig.iterator(SHARD, "TRIM_HORIZON", json!({})).await;
    rig.now += SignedDuration::from_secs(1);
    let half = (1_u128 << 127).to_string();
    let split =
        json!({ "StreamName": "reviews", "ShardToSplit": SHARD, "NewStartingHashKey": half });
    rig.call("SplitShard", split.clone()).await;
    assert_eq!(
        rig.refused("SplitShard", split).await.0,
        Kind::ResourceInUse
    );
    assert_eq!(rig.put("a", "low").await["ShardId"], "shardId-000000000001");
    assert_eq!(
        rig.put("d", "high").await["ShardId"],
        "shardId-000000000002"
    );
    let got = rig.get(&tail).await;
    assert_eq!(texts(&got), ["before"]);
    assert_eq!(got["NextShardIterator"], Value::Null);
    let children = got["ChildShards"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!(children[0]["ParentShards"], json!([SHARD]));

    let merge = json!({
        "StreamName": "reviews",
        "ShardToMerge": "shardId-000000000002",
        "AdjacentShardToMerge": "shardId-000000000001",
    });
    rig.call("MergeShards", merge).await;
    assert_eq!(rig.put("d", "one").await["ShardId"], "shardId-000000000003");
    rig.restart().await;
    let shards = rig
        .call("ListShards", json!({ "StreamName": "reviews" }))
        .await;
    let shards = shards["Shards"].as_array().unwrap();
    assert_eq!(shards.len(), 4);
    let range = |nth: usize| &shards[nth]["SequenceNumberRange"];
    assert_eq!(
        shards[3]["HashKeyRange"]["EndingHashKey"],
        u128::MAX.to_string()
    );
    assert_eq!(shards[3]["ParentShardId"], "shardId-000000000002");
    assert_eq!(shards[3]["AdjacentParentShardId"], "shardId-000000000001");
    assert!(range(3)["EndingSequenceNumber"].is_null());
    for (child, parent) in [(1, 0), (2, 0), (3, 1), (3, 2)] {
        assert!(
            number(&range(child)["StartingSequenceNumber"])
                > number(&range(parent)["EndingSequenceNumber"]),
            "{child} after {parent}"
        );
    }
    let open = json!({ "StreamName": "reviews", "ShardFilter": { "Type": "AT_LATEST" } });
    let open = rig.call("ListShards", open).await;
    assert_eq!(open["Shards"].as_array().unwrap().len(), 1);

    // A day later nothing is left of the closed ones.
    rig.now += SignedDuration::from_hours(25);
    rig.service.sweep(rig.now).await.unwrap();
    let left = rig
        .call("ListShards", json!({ "StreamName": "reviews" }))
        .await;
    assert_eq!(left["Shards"].as_array().unwrap().len(), 1);
    assert_eq!(rig.logs.0.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_lost_between_a_shard_that_closes_and_its_children() {
    let rig = Arc::new(Rig::new().await);
    rig.stream(1).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                for nth in 0..50 {
                    rig.put(&format!("{writer}-{nth}"), "x").await;
                }
            })
        })
        .collect();
    let mut parent = 0;
    for level in 1..=6_u32 {
        let (first, last) = (0_u128, u128::MAX >> (level - 1));
        let middle = first + (last - first) / 2 + 1;
        let split = json!({
            "StreamName": "reviews",
            "ShardToSplit": format!("shardId-{parent:012}"),
            "NewStartingHashKey": middle.to_string(),
        });
        rig.call("SplitShard", split).await;
        parent = 2 * level - 1;
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut all = 0;
    for shard in 0..=12 {
        all += rig.texts(&format!("shardId-{shard:012}")).await.len();
    }
    assert_eq!(all, 400);
}

#[tokio::test]
async fn streams_are_listed_described_tagged_and_deleted() {
    let rig = Rig::new().await;
    for name in ["a", "b", "c"] {
        let create = json!({ "StreamName": name, "ShardCount": 2, "Tags": { "team": "x" } });
        rig.call("CreateStream", create).await;
    }
    let again = json!({ "StreamName": "a", "ShardCount": 2 });
    assert_eq!(
        rig.refused("CreateStream", again).await.0,
        Kind::ResourceInUse
    );
    let page = rig.call("ListStreams", json!({ "Limit": 2 })).await;
    assert_eq!(
        (&page["StreamNames"], &page["HasMoreStreams"]),
        (&json!(["a", "b"]), &json!(true))
    );
    let page = rig
        .call("ListStreams", json!({ "NextToken": page["NextToken"] }))
        .await;
    assert_eq!(page["StreamNames"], json!(["c"]));
    let arn = page["StreamSummaries"][0]["StreamARN"].clone();
    assert_eq!(arn, "arn:aws:kinesis:eu-central-1:000000000000:stream/c");

    let described = rig
        .call("DescribeStream", json!({ "StreamARN": arn, "Limit": 1 }))
        .await;
    let described = &described["StreamDescription"];
    assert_eq!(described["StreamStatus"], "ACTIVE");
    assert_eq!(described["RetentionPeriodHours"], 24);
    assert_eq!(described["HasMoreShards"], true);
    assert_eq!(described["Shards"].as_array().unwrap().len(), 1);
    assert_eq!(described["OpenShardCount"], Value::Null);
    let summary = rig
        .call("DescribeStreamSummary", json!({ "StreamARN": arn }))
        .await;
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!(
        (&summary["OpenShardCount"], &summary["Shards"]),
        (&json!(2), &Value::Null)
    );

    rig.call(
        "IncreaseStreamRetentionPeriod",
        json!({ "StreamName": "c", "RetentionPeriodHours": 48 }),
    )
    .await;
    for (operation, hours) in [
        ("IncreaseStreamRetentionPeriod", 24),
        ("DecreaseStreamRetentionPeriod", 72),
        ("DecreaseStreamRetentionPeriod", 1),
    ] {
        let change = json!({ "StreamName": "c", "RetentionPeriodHours": hours });
        assert_eq!(
            rig.refused(operation, change).await.0,
            Kind::InvalidArgument
        );
    }
    rig.call(
        "AddTagsToStream",
        json!({ "StreamName": "c", "Tags": { "a": "1", "b": "2" } }),
    )
    .await;
    rig.call(
        "RemoveTagsFromStream",
        json!({ "StreamName": "c", "TagKeys": ["team"] }),
    )
    .await;
    let tags = rig
        .call(
            "ListTagsForStream",
            json!({ "StreamName": "c", "Limit": 1 }),
        )
        .await;
    assert_eq!(
        tags,
        json!({ "Tags": [{ "Key": "a", "Value": "1" }], "HasMoreTags": true })
    );

    rig.call("DeleteStream", json!({ "StreamName": "c" })).await;
    let (kind, message) = rig
        .refused("DescribeStream", json!({ "StreamName": "c" }))
        .await;
    assert_eq!(kind, Kind::ResourceNotFound);
    assert_eq!(message, "Stream c under account 000000000000 not found.");
    assert_eq!(rig.logs.0.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_by_its_proper_error() {
    let rig = Rig::new().await;
    rig.stream(1).await;
    let long = "k".repeat(257);
    let large = "A".repeat((1 << 20) / 3 * 4 + 8);
    let many: Vec<_> = (0..501)
        .map(|_| json!({ "PartitionKey": "a", "Data": "" }))
        .collect();
    let megabyte = "A".repeat((1 << 20) / 3 * 4);
    let heavy: Vec<_> = (0..11)
        .map(|_| json!({ "PartitionKey": "a", "Data": megabyte }))
        .collect();
    for (operation, body, kind) in [
        ("SubscribeToShard", json!({}), Kind::UnknownOperation),
        (
            "PutRecord",
            json!({ "PartitionKey": "a", "Data": "" }),
            Kind::InvalidArgument,
        ),
        (
            "PutRecord",
            json!({ "StreamName": "nosuch", "PartitionKey": "a", "Data": "" }),
            Kind::ResourceNotFound,
        ),
        (
            "PutRecord",
            json!({ "StreamName": "no such", "PartitionKey": "a", "Data": "" }),
            Kind::Validation,
        ),
        (
            "PutRecord",
            json!({ "StreamName": "reviews", "Data": "" }),
            Kind::Validation,
        ),
        (
            "PutRecord",
            json!({ "StreamName": "reviews", "PartitionKey": long, "Data": "" }),
            Kind::Validation,
        ),
        (
            "PutRecord",
            json!({ "StreamName": "reviews", "PartitionKey": "a", "Data": large }),
            Kind::Validation,
        ),
        (
            "PutRecord",
            json!({ "StreamName": "reviews", "PartitionKey": "a", "Data": "", "ExplicitHashKey": "-1" }),
            Kind::InvalidArgument,
        ),
        ("PutRecord", json!({ "StreamName": 7 }), Kind::Serialization),
        (
            "PutRecord",
            json!({ "StreamName": "reviews", "PartitionKey": "a", "Data": "?" }),
            Kind::Serialization,
        ),
        (
            "PutRecords",
            json!({ "StreamName": "reviews", "Records": [] }),
            Kind::Validation,
        ),
        (
            "PutRecords",
            json!({ "StreamName": "reviews", "Records": many }),
            Kind::Validation,
        ),
        (
            "PutRecords",
            json!({ "StreamName": "reviews", "Records": heavy }),
            Kind::InvalidArgument,
        ),
        (
            "CreateStream",
            json!({ "StreamName": "x", "ShardCount": 0 }),
            Kind::Validation,
        ),
        (
            "CreateStream",
            json!({ "StreamName": "x", "ShardCount": 20 }),
            Kind::LimitExceeded,
        ),
        (
            "GetShardIterator",
            json!({ "StreamName": "reviews", "ShardId": "shardId-000000000009", "ShardIteratorType": "LATEST" }),
            Kind::ResourceNotFound,
        ),
        (
            "GetShardIterator",
            json!({ "StreamName": "reviews", "ShardId": SHARD, "ShardIteratorType": "EARLIEST" }),
            Kind::Validation,
        ),
        (
            "GetRecords",
            json!({ "ShardIterator": "x", "Limit": 10_001 }),
            Kind::Validation,
        ),
        (
            "MergeShards",
            json!({ "StreamName": "reviews", "ShardToMerge": SHARD, "AdjacentShardToMerge": SHARD }),
            Kind::InvalidArgument,
        ),
        (
            "SplitShard",
            json!({ "StreamName": "reviews", "ShardToSplit": SHARD, "NewStartingHashKey": "0" }),
            Kind::InvalidArgument,
        ),
    ] {
        let (told, message) = rig.refused(operation, body.clone()).await;
        assert_eq!(told, kind, "{operation}: {message}");
    }
    let answer = rig
        .raw("ListStreams", Codec::Json, b"{", &|_, _| true)
        .await;
    assert_eq!(answer.fault, Some(Kind::Serialization));
}

#[tokio::test]
async fn a_key_does_what_its_scopes_allow() {
    let rig = Rig::new().await;
    rig.stream(1).await;
    let write_reviews =
        |access: Access, stream: Option<&str>| access == Access::Write && stream == Some("reviews");
    let put = br#"{"StreamName":"reviews","PartitionKey":"a","Data":""}"#;
    let answer = rig.raw("PutRecord", Codec::Json, put, &write_reviews).await;
    assert_eq!(answer.status, 200);
    for (operation, body) in [
        ("ListStreams", &b"{}"[..]),
        ("DeleteStream", br#"{"StreamName":"reviews"}"#),
        (
            "PutRecord",
            br#"{"StreamName":"other","PartitionKey":"a","Data":""}"#,
        ),
        ("DescribeStream", br#"{"StreamName":"reviews"}"#),
    ] {
        let answer = rig.raw(operation, Codec::Json, body, &write_reviews).await;
        assert_eq!(answer.fault, Some(Kind::AccessDenied), "{operation}");
    }
}

#[tokio::test]
async fn a_shard_has_amazons_limits_where_they_are_asked_for() {
    let mut rig = Rig::with(Options {
        throttle: true,
        shard_size: None,
        shards: 20,
    })
    .await;
    rig.stream(1).await;
    let records: Vec<_> = (0..500)
        .map(|_| json!({ "PartitionKey": "a", "Data": "" }))
        .collect();
    let put = json!({ "StreamName": "reviews", "Records": records });
    for failed in [0, 0, 500] {
        let answer = rig.call("PutRecords", put.clone()).await;
        assert_eq!(answer["FailedRecordCount"], failed);
    }
    let iterator = rig.iterator(SHARD, "TRIM_HORIZON", json!({})).await;
    for _ in 0..5 {
        rig.get(&iterator).await;
    }
    let get = json!({ "ShardIterator": iterator });
    let refused = rig.refused("GetRecords", get.clone()).await;
    assert_eq!(refused.0, Kind::ProvisionedThroughputExceeded);
    rig.now += SignedDuration::from_secs(1);
    rig.call("GetRecords", get).await;
    assert_eq!(rig.call("PutRecords", put).await["FailedRecordCount"], 0);
}

#[tokio::test]
async fn cbor_carries_bytes_as_bytes_and_times_as_tagged_milliseconds() {
    use ciborium::Value as Cbor;
    let rig = Rig::new().await;
    rig.stream(1).await;
    let text = |text: &str| Cbor::Text(text.to_owned());
    let call = async |operation: &str, members: Vec<(&str, Cbor)>| {
        let members = members.into_iter().map(|(name, value)| (text(name), value));
        let mut body = Vec::new();
        ciborium::into_writer(&Cbor::Map(members.collect()), &mut body).unwrap();
        let answer = rig.raw(operation, Codec::Cbor, &body, &|_, _| true).await;
        let value: Cbor = ciborium::from_reader(&answer.body[..]).unwrap();
        assert_eq!(answer.status, 200, "{value:?}");
        value
    };
    let member = |value: &Cbor, name: &str| {
        let map = value.as_map().unwrap().iter();
        let mut found = map.filter(|(key, _)| key.as_text() == Some(name));
        found.next().map(|(_, value)| value.clone())
    };
    let name = ("StreamName", text("reviews"));
    call(
        "PutRecord",
        vec![
            name.clone(),
            ("PartitionKey", text("a")),
            ("Data", Cbor::Bytes(vec![0, 255, 7])),
        ],
    )
    .await;
    for time in [
        Cbor::Integer(1_789_999_999_000_i64.into()),
        Cbor::Tag(1, Box::new(Cbor::Integer(1_789_999_999_000_i64.into()))),
    ] {
        let iterator = call(
            "GetShardIterator",
            vec![
                name.clone(),
                ("ShardId", text(SHARD)),
                ("ShardIteratorType", text("AT_TIMESTAMP")),
                ("Timestamp", time),
            ],
        )
        .await;
        let iterator = member(&iterator, "ShardIterator").unwrap();
        let got = call("GetRecords", vec![("ShardIterator", iterator)]).await;
        let record = member(&got, "Records").unwrap().as_array().unwrap()[0].clone();
        assert_eq!(
            member(&record, "Data").unwrap().as_bytes().unwrap(),
            &[0, 255, 7]
        );
        let (tag, time) = member(&record, "ApproximateArrivalTimestamp")
            .unwrap()
            .into_tag()
            .unwrap();
        assert_eq!(tag, 1);
        assert_eq!(time.as_integer().unwrap(), 1_790_000_000_000_i64.into());
    }
}
