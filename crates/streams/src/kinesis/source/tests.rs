//! The source, over logs in memory and lanes in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::decode::Wrapping;
use super::super::tests::Folder;
use super::super::{Call, Codec, Options};
use super::*;
use crate::source::Gained;
use crate::{Position, Record};

const PATIENCE: Duration = Duration::from_secs(60);

/// Lanes that are forgotten at the end of the test.
#[derive(Default)]
struct Kept {
    lanes: Mutex<BTreeMap<String, (Option<Progress>, bool)>>,
    fails: AtomicBool,
    keep_fails: AtomicBool,
}

#[async_trait]
impl Keeper for Kept {
    async fn known(&self) -> Result<Vec<KnownLane>, String> {
        let lanes = self.lanes.lock().unwrap();
        let known = lanes.iter().map(|(lane, (progress, ended))| KnownLane {
            lane: Lane::new(lane.clone()),
            begun: progress.is_some(),
            ended: *ended,
        });
        Ok(known.collect())
    }

    async fn take(&self, asked: &[Lane]) -> Result<Vec<Claimed>, String> {
        if self.fails.swap(false, Ordering::Relaxed) {
            return Err("the store is away".to_owned());
        }
        let mut lanes = self.lanes.lock().unwrap();
        let taken = asked.iter().map(|lane| {
            let kept = lanes.entry(lane.to_string()).or_default();
            Claimed {
                term: Term::default(),
                progress: kept.0.clone(),
            }
        });
        Ok(taken.collect())
    }

    async fn keep(&self, kept: Vec<KeptLane>) -> Result<(), String> {
        if self.keep_fails.swap(false, Ordering::Relaxed) {
            return Err("the store is away".to_owned());
        }
        let mut lanes = self.lanes.lock().unwrap();
        for kept in kept {
            let lane = lanes.get_mut(kept.lane.as_str()).expect("it was taken");
            if kept.progress.is_some() {
                lane.0 = kept.progress;
            }
            lane.1 |= kept.ended;
        }
        Ok(())
    }

    async fn forget(&self, forgotten: Vec<Lane>) -> Result<(), String> {
        let mut lanes = self.lanes.lock().unwrap();
        lanes.retain(|lane, _| !forgotten.iter().any(|one| one.as_str() == lane));
        Ok(())
    }
}

struct Rig {
    _folder: tempfile::TempDir,
    service: Arc<Service>,
    kept: Arc<Kept>,
    settings: OwnSettings,
}

impl Rig {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.json");
        let options = Options {
            throttle: false,
            shard_size: None,
            shards: 20,
        };
        let logs = Arc::new(Folder::default());
        let service = Service::open(path, logs, b"secret", options).await.unwrap();
        Self {
            _folder: folder,
            service: Arc::new(service),
            kept: Arc::default(),
            settings: OwnSettings {
                stream: "reviews".to_owned(),
                shards: 1,
                start: OwnStart::Earliest,
                decoder: None,
                sole: true,
            },
        }
    }

    fn open(&self) -> Reader {
        Reader(OwnSource::open(
            self.service.clone(),
            self.settings.clone(),
            self.kept.clone(),
        ))
    }

    async fn call_at(&self, operation: &str, body: Value, now: Timestamp) -> Value {
        let answer = self
            .service
            .answer(Call {
                operation,
                codec: Codec::Json,
                body: &serde_json::to_vec(&body).unwrap(),
                region: "eu-central-1",
                may: &|_, _| true,
                now,
            })
            .await;
        let value: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, 200, "{operation}: {value}");
        value
    }

    async fn call(&self, operation: &str, body: Value) -> Value {
        self.call_at(operation, body, Timestamp::now()).await
    }

    async fn create(&self, shards: u32) {
        let body = json!({ "StreamName": "reviews", "ShardCount": shards });
        self.call("CreateStream", body).await;
    }

    async fn put_at(&self, hash: u128, text: &[u8], now: Timestamp) -> String {
        let body = json!({
            "StreamName": "reviews", "PartitionKey": "key", "ExplicitHashKey": hash.to_string(),
            "Data": STANDARD.encode(text),
        });
        let answer = self.call_at("PutRecord", body, now).await;
        answer["SequenceNumber"].as_str().unwrap().to_owned()
    }

    async fn put(&self, text: &str) -> String {
        self.put_at(0, text.as_bytes(), Timestamp::now()).await
    }

    async fn split(&self, shard: &str) {
        let half = (1_u128 << 127).to_string();
        let body =
            json!({ "StreamName": "reviews", "ShardToSplit": shard, "NewStartingHashKey": half });
        self.call("SplitShard", body).await;
    }

    /// What a committer does with a record.
    fn commit(&self, record: &Record) {
        let mut lanes = self.kept.lanes.lock().unwrap();
        let lane = lanes.get_mut(record.lane.as_str()).expect("it was taken");
        lane.0 = Some(Progress {
            last: Some((record.ordinal, record.position.clone())),
            beyond: Vec::new(),
        });
    }
}

/// A source that is read to the end of the test.
struct Reader(OwnSource);

impl Reader {
    async fn next(&mut self) -> Result<Event, SourceError> {
        tokio::time::timeout(PATIENCE, self.0.next(true))
            .await
            .expect("an event")
    }

    async fn gained(&mut self) -> Vec<Gained> {
        match self.next().await {
            Ok(Event::Gained(gained)) => gained,
            other => panic!("{other:?}"),
        }
    }

    async fn records(&mut self, count: usize) -> Vec<Record> {
        let mut records = Vec::new();
        while records.len() < count {
            match self.next().await {
                Ok(Event::Records(more)) => records.extend(more),
                other => panic!("{other:?} after {} records", records.len()),
            }
        }
        assert_eq!(records.len(), count);
        records
    }
}

fn texts(records: &[Record]) -> Vec<&str> {
    let text = |record: &Record| std::str::from_utf8(record.value.as_ref().unwrap()).map(drop);
    assert!(records.iter().all(|record| text(record).is_ok()));
    records
        .iter()
        .map(|record| std::str::from_utf8(record.value.as_deref().unwrap()).unwrap())
        .collect()
}

#[tokio::test]
async fn a_stream_is_made_and_its_records_come_as_they_are_put() {
    let rig = Rig::new().await;
    let mut reader = rig.open();
    let gained = reader.gained().await;
    assert_eq!(gained.len(), 1);
    let lane = gained[0].lane.as_str();
    assert!(lane.ends_with("/shardId-000000000000"), "{lane}");
    let first = rig.put("one").await;
    let one = reader.records(1).await;
    assert_eq!(one[0].position.to_string(), first);
    assert_eq!(one[0].key.as_deref(), Some(&b"key"[..]));
    assert!(one[0].timestamp.is_some());
    rig.put("two").await;
    let two = reader.records(1).await;
    assert!(two[0].ordinal > one[0].ordinal);
    assert_eq!((texts(&one), texts(&two)), (vec!["one"], vec!["two"]));
    assert_eq!(reader.0.lags().lags().values().collect::<Vec<_>>(), [&0]);
}

#[tokio::test]
async fn reading_goes_on_behind_what_was_committed() {
    let rig = Rig::new().await;
    rig.create(1).await;
    for text in ["one", "two", "three"] {
        rig.put(text).await;
    }
    let mut reader = rig.open();
    reader.gained().await;
    let records = reader.records(3).await;
    rig.commit(&records[1]);
    drop(reader);
    let mut again = rig.open();
    let gained = again.gained().await;
    let last = gained[0].progress.last.clone().unwrap();
    assert_eq!(last.1, records[1].position);
    assert_eq!(texts(&again.records(1).await), ["three"]);
}

#[tokio::test]
async fn latest_begins_behind_what_is_there_and_a_restart_misses_nothing() {
    let mut rig = Rig::new().await;
    rig.settings.start = OwnStart::Latest;
    rig.create(1).await;
    rig.put("before").await;
    let mut reader = rig.open();
    reader.gained().await;
    drop(reader);
    rig.put("between").await;
    let mut again = rig.open();
    again.gained().await;
    assert_eq!(texts(&again.records(1).await), ["between"]);
}

#[tokio::test]
async fn latest_begins_at_the_end_that_was_there_also_where_nothing_was() {
    let mut rig = Rig::new().await;
    rig.settings.start = OwnStart::Latest;
    rig.create(1).await;
    let mut reader = rig.open();
    reader.gained().await;
    drop(reader);
    rig.put("between").await;
    let mut again = rig.open();
    again.gained().await;
    assert_eq!(texts(&again.records(1).await), ["between"]);
}

#[tokio::test]
async fn latest_stays_the_latest_where_it_could_not_be_kept_at_once() {
    for is_restarted in [false, true] {
        let mut rig = Rig::new().await;
        rig.settings.start = OwnStart::Latest;
        rig.create(1).await;
        rig.put("before").await;
        rig.kept.keep_fails.store(true, Ordering::Relaxed);
        let mut reader = rig.open();
        match reader.next().await {
            Err(SourceError::Passing(why)) => assert_eq!(why, "the store is away"),
            other => panic!("{other:?}"),
        }
        if is_restarted {
            reader = rig.open();
            reader.gained().await;
            rig.put("after").await;
        } else {
            // It is tried again, and begins where it began.
            rig.put("after").await;
            reader.gained().await;
        }
        assert_eq!(texts(&reader.records(1).await), ["after"]);
    }
}

#[tokio::test]
async fn children_are_begun_when_all_of_their_parent_is_committed() {
    let rig = Rig::new().await;
    rig.create(1).await;
    rig.put("before").await;
    rig.split("shardId-000000000000").await;
    rig.put_at(0, b"lower", Timestamp::now()).await;
    rig.put_at(u128::MAX, b"upper", Timestamp::now()).await;
    let mut reader = rig.open();
    reader.gained().await;
    assert_eq!(texts(&reader.records(1).await), ["before"]);
    let Ok(Event::Ended { release, .. }) = reader.next().await else {
        panic!("the parent has ended")
    };
    let early = tokio::time::timeout(Duration::from_millis(50), reader.0.next(true)).await;
    assert!(early.is_err(), "{early:?}");
    release.done();
    let gained = reader.gained().await;
    let lanes: Vec<_> = gained
        .iter()
        .map(|one| one.lane.as_str().rsplit('/').next())
        .collect();
    assert_eq!(
        lanes,
        [Some("shardId-000000000001"), Some("shardId-000000000002")]
    );
    let mut records = reader.records(1).await;
    records.extend(reader.records(1).await);
    let mut found = texts(&records);
    found.sort_unstable();
    assert_eq!(found, ["lower", "upper"]);
    drop(reader);
    // The parent is done for ever: the children are all there is at the next start.
    let mut again = rig.open();
    assert_eq!(again.gained().await.len(), 2);
}

#[tokio::test]
async fn a_parent_that_was_not_committed_comes_again() {
    let rig = Rig::new().await;
    rig.create(1).await;
    rig.put("before").await;
    rig.split("shardId-000000000000").await;
    let mut reader = rig.open();
    reader.gained().await;
    reader.records(1).await;
    let Ok(Event::Ended { release, .. }) = reader.next().await else {
        panic!("the parent has ended")
    };
    drop((release, reader));
    let mut again = rig.open();
    assert_eq!(again.gained().await.len(), 1);
    assert_eq!(texts(&again.records(1).await), ["before"]);
}

#[tokio::test]
async fn without_room_a_lanes_end_does_not_overtake_its_records() {
    let rig = Rig::new().await;
    rig.create(1).await;
    rig.put("before").await;
    rig.split("shardId-000000000000").await;
    let mut reader = rig.open();
    reader.gained().await;
    let early = tokio::time::timeout(Duration::from_millis(50), reader.0.next(false)).await;
    assert!(early.is_err(), "{early:?}");
    reader.records(1).await;
    let ended = tokio::time::timeout(PATIENCE, reader.0.next(false)).await;
    assert!(matches!(ended, Ok(Ok(Event::Ended { .. }))), "{ended:?}");
}

#[tokio::test]
async fn a_stream_made_anew_is_another_stream_and_all_of_it_is_read() {
    let mut rig = Rig::new().await;
    rig.settings.start = OwnStart::Latest;
    let mut reader = rig.open();
    let old = reader.gained().await;
    rig.put("old").await;
    let record = &reader.records(1).await[0];
    rig.commit(record);
    rig.call("DeleteStream", json!({ "StreamName": "reviews" }))
        .await;
    match reader.next().await {
        Ok(Event::Lost(lanes)) => assert_eq!(lanes, [old[0].lane.clone()]),
        other => panic!("{other:?}"),
    }
    rig.create(1).await;
    rig.put("new").await;
    let new = reader.gained().await;
    assert_ne!(new[0].lane, old[0].lane);
    assert_eq!(texts(&reader.records(1).await), ["new"]);
    let lanes = rig.kept.lanes.lock().unwrap();
    assert_eq!(lanes.len(), 1, "the old stream's lane is forgotten");
}

#[tokio::test]
async fn what_retention_removed_unread_is_a_record_that_says_so() {
    let rig = Rig::new().await;
    rig.create(1).await;
    let long_ago = Timestamp::now() - SignedDuration::from_hours(48);
    for text in ["one", "two", "three"] {
        rig.put_at(0, text.as_bytes(), long_ago).await;
    }
    let mut reader = rig.open();
    reader.gained().await;
    let records = reader.records(3).await;
    rig.commit(&records[0]);
    drop(reader);
    rig.put("new").await;
    rig.service.sweep(Timestamp::now()).await.unwrap();
    let mut again = rig.open();
    again.gained().await;
    let found = again.records(2).await;
    let defect = found[0].defect.as_deref().unwrap();
    assert!(
        defect.starts_with("2 records of the stream reviews"),
        "{defect}"
    );
    assert_eq!(found[0].value, None);
    assert_eq!(found[0].position, records[2].position);
    assert_eq!(texts(&found[1..]), ["new"]);
    // It is said once.
    rig.commit(&found[0]);
    drop(again);
    let mut last = rig.open();
    last.gained().await;
    assert_eq!(texts(&last.records(1).await), ["new"]);
}

#[tokio::test]
async fn a_first_reading_misses_nothing_of_what_was_removed_before_it() {
    let rig = Rig::new().await;
    rig.create(1).await;
    let long_ago = Timestamp::now() - SignedDuration::from_hours(48);
    rig.put_at(0, b"old", long_ago).await;
    rig.put("new").await;
    rig.service.sweep(Timestamp::now()).await.unwrap();
    drop({
        let mut reader = rig.open();
        reader.gained().await;
        reader
    });
    let mut again = rig.open();
    again.gained().await;
    assert_eq!(texts(&again.records(1).await), ["new"]);
}

#[tokio::test]
async fn a_shard_that_retention_removed_unread_is_told_and_its_children_are_read() {
    let rig = Rig::new().await;
    rig.create(1).await;
    let long_ago = Timestamp::now() - SignedDuration::from_hours(48);
    rig.put_at(0, b"old", long_ago).await;
    let mut reader = rig.open();
    reader.gained().await;
    reader.records(1).await;
    drop(reader);
    let half = (1_u128 << 127).to_string();
    let body = json!({ "StreamName": "reviews", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": half });
    rig.call_at("SplitShard", body, long_ago).await;
    rig.service.sweep(Timestamp::now()).await.unwrap();
    rig.put("new").await;
    let mut again = rig.open();
    assert_eq!(
        again.gained().await.len(),
        1,
        "its children wait until it is told"
    );
    let mut gaps = 0;
    let mut read = Vec::new();
    while gaps == 0 || read.is_empty() {
        match again.next().await {
            Ok(Event::Records(records)) => {
                for record in records {
                    match &record.defect {
                        Some(defect) => {
                            assert!(defect.contains("is gone"), "{defect}");
                            gaps += 1;
                        }
                        None => read.push(record),
                    }
                }
            }
            Ok(Event::Ended { release, .. }) => release.done(),
            Ok(Event::Gained(children)) => assert_eq!((children.len(), gaps), (2, 1)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((gaps, texts(&read)), (1, vec!["new"]));
}

#[tokio::test]
async fn a_child_that_was_never_begun_is_told_when_retention_removes_it() {
    let rig = Rig::new().await;
    rig.create(1).await;
    let long_ago = Timestamp::now() - SignedDuration::from_hours(48);
    let half = 1_u128 << 127;
    let split = |shard: &str, at: u128| json!({ "StreamName": "reviews", "ShardToSplit": shard, "NewStartingHashKey": at.to_string() });
    rig.put_at(0, b"old", long_ago).await;
    let mut reader = rig.open();
    reader.gained().await;
    reader.records(1).await;
    // The parent is not done, so the children wait.
    let body = split("shardId-000000000000", half);
    rig.call_at("SplitShard", body, long_ago).await;
    let Ok(Event::Ended { release, .. }) = reader.next().await else {
        panic!("the parent has ended")
    };
    let are_kept = || rig.kept.lanes.lock().unwrap().len() == 3;
    let waiting = async {
        while !are_kept() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("the children are kept");
    drop((release, reader));
    rig.put_at(0, b"unread", long_ago).await;
    let body = split("shardId-000000000001", half / 2);
    rig.call_at("SplitShard", body, long_ago).await;
    rig.service.sweep(Timestamp::now()).await.unwrap();
    rig.put_at(0, b"new", Timestamp::now()).await;
    let mut again = rig.open();
    let (mut gaps, mut read) = (BTreeSet::new(), Vec::new());
    while gaps.len() < 2 || read.is_empty() {
        match again.next().await {
            Ok(Event::Records(records)) => {
                for record in records {
                    match record.defect {
                        Some(_) => assert!(gaps.insert(record.lane)),
                        None => read.push(record),
                    }
                }
            }
            Ok(Event::Ended { release, .. }) => release.done(),
            Ok(Event::Gained(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let gaps: Vec<_> = gaps.iter().map(|lane| shard_of(lane).unwrap().1).collect();
    assert_eq!((gaps, texts(&read)), (vec![0, 1], vec!["new"]));
}

#[tokio::test]
async fn what_was_done_within_an_entry_is_nothing_when_it_is_unwrapped_otherwise() {
    let mut rig = Rig::new().await;
    rig.settings.decoder = Some(Decoder::new(vec![Wrapping::CloudWatchLogs], 1 << 20));
    rig.create(1).await;
    rig.put_at(0, &log_events(&["a", "b"]), Timestamp::now())
        .await;
    rig.put_at(0, &log_events(&["one", "two", "three"]), Timestamp::now())
        .await;
    let mut reader = rig.open();
    reader.gained().await;
    let records = reader.records(5).await;
    rig.commit(&records[3]);
    drop(reader);
    // As it is where the configuration was changed: each entry is one record.
    for (_, kept) in rig.kept.lanes.lock().unwrap().iter_mut() {
        let mut progress = kept.0.take().unwrap();
        progress.beyond = vec![(records[4].ordinal, records[4].ordinal)];
        kept.0 = Some(own_whole(progress));
    }
    rig.settings.decoder = Some(Decoder::new(vec![Wrapping::Gzip], 1 << 20));
    let mut again = rig.open();
    let gained = again.gained().await;
    assert_eq!(gained[0].progress.beyond, []);
    let whole = &again.records(1).await[0];
    let text = std::str::from_utf8(whole.value.as_deref().unwrap()).unwrap();
    assert!(text.contains("one") && text.contains("three"), "{text}");
    // And a whole entry that is done is done, however it is unwrapped.
    rig.commit(whole);
    drop(again);
    for (_, kept) in rig.kept.lanes.lock().unwrap().iter_mut() {
        kept.0 = kept.0.take().map(own_whole);
    }
    rig.put_at(0, &log_events(&["last"]), Timestamp::now())
        .await;
    rig.settings.decoder = Some(Decoder::new(vec![Wrapping::CloudWatchLogs], 1 << 20));
    let mut last = rig.open();
    last.gained().await;
    assert_eq!(texts(&last.records(1).await), ["last"]);
}

/// An envelope of CloudWatch Logs.
fn log_events(texts: &[&str]) -> Vec<u8> {
    let events: Vec<_> = texts
        .iter()
        .map(|text| json!({ "id": text, "timestamp": 1_790_000_000_000_i64, "message": text }))
        .collect();
    let envelope = json!({ "messageType": "DATA_MESSAGE", "logEvents": events }).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, envelope.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test]
async fn reading_goes_on_within_an_entry_that_holds_several_records() {
    let mut rig = Rig::new().await;
    let wrappings = vec![Wrapping::CloudWatchLogs];
    rig.settings.decoder = Some(Decoder::new(wrappings, 1 << 20));
    rig.create(1).await;
    rig.put_at(0, &log_events(&["one", "two", "three"]), Timestamp::now())
        .await;
    let mut reader = rig.open();
    reader.gained().await;
    let records = reader.records(3).await;
    assert_eq!(texts(&records), ["one", "two", "three"]);
    assert!(records.is_sorted_by_key(|record| record.ordinal));
    rig.commit(&records[0]);
    drop(reader);
    let mut again = rig.open();
    again.gained().await;
    let rest = again.records(2).await;
    assert_eq!(texts(&rest), ["two", "three"]);
    assert_eq!(rest[0].ordinal, records[1].ordinal);
    assert_eq!(
        rest[1].position,
        Position::new(&records[2].position.to_string())
    );
}

#[tokio::test]
async fn of_small_records_that_become_large_ones_no_more_are_unwrapped_than_there_is_room_for() {
    const COUNT: usize = 24;
    const LARGE: usize = 2 << 20;
    let mut rig = Rig::new().await;
    let limit = 2 * LARGE;
    rig.settings.decoder = Some(Decoder::new(vec![Wrapping::Gzip], limit));
    rig.create(1).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &vec![0; LARGE]).unwrap();
    let small = gzip.finish().unwrap();
    for _ in 0..COUNT {
        rig.put_at(0, &small, Timestamp::now()).await;
    }
    let mut reader = rig.open();
    reader.gained().await;
    let queue = reader.0.queue.clone();
    // So much is unwrapped while nobody takes anything: what may wait, and a batch.
    let filled = async {
        while queue.waits() < queue::WAITING - LARGE {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, filled).await.unwrap();
    let most = queue::WAITING + limit + super::super::room::BATCH_BYTES;
    assert!(queue.waits() <= most, "{}", queue.waits());
    let records = reader.records(COUNT).await;
    assert!(
        records
            .iter()
            .all(|record| record.value.as_ref().unwrap().len() == LARGE)
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_asked_again() {
    let rig = Rig::new().await;
    rig.kept.fails.store(true, Ordering::Relaxed);
    let mut reader = rig.open();
    match reader.next().await {
        Err(SourceError::Passing(why)) => assert_eq!(why, "the store is away"),
        other => panic!("{other:?}"),
    }
    assert_eq!(reader.gained().await.len(), 1);
}
