//! The catalogue of streams on a disk whose syncs fail: what is acknowledged afterwards is there after the restart.

use std::path::Path;

use fastrand::Rng;

use super::*;
use crate::log::simulated::SimulatedDisk;

const FOLDER: &str = "/data";

const OPTIONS: Options = Options {
    throttle: false,
    shard_size: None,
    shards: 20,
};

/// Changes of the streams while `reviews` has two shards.
fn changes() -> [(&'static str, Value); 4] {
    [
        ("DeleteStream", json!({ "StreamName": "reviews" })),
        (
            "CreateStream",
            json!({ "StreamName": "orders", "ShardCount": 1 }),
        ),
        (
            "SplitShard",
            json!({ "StreamName": "reviews", "ShardToSplit": SHARD, "NewStartingHashKey": "1000" }),
        ),
        (
            "MergeShards",
            json!({ "StreamName": "reviews", "ShardToMerge": SHARD, "AdjacentShardToMerge": "shardId-000000000001" }),
        ),
    ]
}

/// A service that was just started.
struct Started(Service);

impl Started {
    async fn on(disk: &SimulatedDisk, logs: Arc<Folder>) -> Self {
        let path = Path::new(FOLDER).join("catalogue.json");
        let disk = Arc::new(disk.clone());
        let service = Service::open_on(disk, path, logs, b"secret", OPTIONS).await;
        Self(service.unwrap())
    }

    /// The answer, or why there is none.
    async fn call(&self, operation: &str, body: &Value) -> Result<Value, String> {
        let body = serde_json::to_vec(body).unwrap();
        let call = Call {
            operation,
            codec: Codec::Json,
            body: &body,
            region: "eu-central-1",
            may: &|_, _| true,
            now: Timestamp::from_second(1_790_000_000).unwrap(),
        };
        let answer = self.0.answer(call).await;
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        match answer.fault {
            None => Ok(value),
            Some(_) => Err(value["message"].as_str().unwrap().to_owned()),
        }
    }

    /// Puts a record to a shard's end of the hash keys; gives where it is.
    async fn put(&self, hash_key: &str) -> Result<Value, String> {
        let record = json!({
            "StreamName": "reviews", "PartitionKey": "k", "ExplicitHashKey": hash_key, "Data": "eA=="
        });
        self.call("PutRecord", &record).await
    }

    async fn has(&self, placed: &Value) -> bool {
        let at = json!({
            "StreamName": "reviews", "ShardId": placed["ShardId"], "ShardIteratorType": "AT_SEQUENCE_NUMBER",
            "StartingSequenceNumber": placed["SequenceNumber"]
        });
        let Ok(iterator) = self.call("GetShardIterator", &at).await else {
            return false;
        };
        let records = json!({ "ShardIterator": iterator["ShardIterator"] });
        let records = self.call("GetRecords", &records).await.unwrap();
        records["Records"][0]["SequenceNumber"] == placed["SequenceNumber"]
    }
}

impl Folder {
    /// The same logs, for a service that may remove some.
    fn copied(&self) -> Arc<Self> {
        Arc::new(Self(Mutex::new(self.0.lock().unwrap().clone())))
    }
}

#[tokio::test]
async fn what_is_acknowledged_after_a_change_that_failed_is_there_after_the_restart() {
    const HIGHEST: &str = "340282366920938463463374607431768211455";
    for (operation, body) in changes() {
        // Syncs that work, and those that fail after them. A change has two, and two more where it is taken back.
        for (good, bad) in [(0, 1), (0, 9), (1, 1), (1, 2), (1, 9), (2, 9), (1, 3)] {
            let case = format!("{operation}, {good} good, {bad} bad");
            let (disk, logs) = (SimulatedDisk::with(FOLDER), Arc::new(Folder::default()));
            let started = Started::on(&disk, logs.clone()).await;
            let reviews = json!({ "StreamName": "reviews", "ShardCount": 2 });
            started.call("CreateStream", &reviews).await.unwrap();
            let before = started.put("0").await.unwrap();
            disk.fail_syncs_after(good, bad);
            let changed = started.call(operation, &body).await;
            disk.fail_syncs(0);
            assert_eq!(changed.is_ok(), good == 2, "{case}: {changed:?}");

            let mut acknowledged = Vec::new();
            for hash_key in ["0", "2000", HIGHEST] {
                acknowledged.extend(started.put(hash_key).await.ok());
            }
            let again = started
                .call(
                    "CreateStream",
                    &json!({ "StreamName": "more", "ShardCount": 1 }),
                )
                .await;
            // The catalogue is the old one for certain, or the new one.
            let is_sure = good != 1 || bad == 1;
            let is_there = operation != "DeleteStream" || (is_sure && good != 2);
            let taken = if is_sure && is_there { 3 } else { 0 };
            assert_eq!(acknowledged.len(), taken, "{case}");
            match again {
                Ok(_) => assert!(is_sure, "{case}"),
                Err(why) => {
                    assert!(
                        !is_sure && why.contains("until the restart"),
                        "{case}: {why}"
                    );
                }
            }
            if is_there {
                acknowledged.push(before);
            }
            let mut rng = Rng::with_seed(7);
            let ends = (0..20).map(|_| disk.after_power_loss(&mut rng));
            for end in ends.chain([disk.copied()]) {
                let restarted = Started::on(&end, logs.copied()).await;
                for placed in &acknowledged {
                    assert!(restarted.has(placed).await, "{case}: {placed}");
                }
            }
        }
    }
}
