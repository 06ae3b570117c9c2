//! What does not pass is said, and what cannot be read is never passed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use linkspan_streams::flow::Progress;
use linkspan_streams::kinesis::Kind;
use linkspan_streams::kinesis::consumer::{KinesisSource, Leases as _, Note, Settings, Takeable};
use linkspan_streams::{Event, Lane, Position, Source as _, SourceError};
use serde_json::json;

use crate::leases::Store;
use crate::reader::settings;
use crate::server::{Kinesis, PATIENCE, STREAM, Trouble, base64, entry};

fn lane() -> Lane {
    Lane::new("shardId-000000000000")
}

/// The next error that does not pass by itself.
async fn error(source: &mut KinesisSource) -> SourceError {
    let waiting = async {
        loop {
            match source.next(true).await {
                Err(SourceError::Passing(_)) | Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

/// A source whose only shard is read up to that position.
async fn source_at(kinesis: &Kinesis, position: &str) -> KinesisSource {
    source_of(kinesis, STREAM, position).await
}

async fn source_of(kinesis: &Kinesis, stream: &str, position: &str) -> KinesisSource {
    let gateway = Store::new(PATIENCE).gateway("one");
    let taken = gateway.take(&[lane()], Takeable::Any).await.unwrap();
    let progress = Progress {
        last: Some((7, Position::new(position))),
        beyond: Vec::new(),
    };
    gateway
        .note(&lane(), taken[0].term, Note::Progress(progress))
        .await
        .unwrap();
    gateway.release(&[lane()]).await.unwrap();
    let quick = Settings {
        stream: stream.to_owned(),
        refresh: Duration::from_millis(300),
        ..settings()
    };
    KinesisSource::open(kinesis.amazon(), gateway, quick).0
}

/// A stream whose oldest records retention has removed; gives the first one's sequence number, and the last one's.
async fn trimmed() -> (Kinesis, String, String) {
    let kinesis = Kinesis::with(1, false).await;
    let client = kinesis.client().await;
    // Several segments of 64 KiB: whole ones are let go of.
    let entries: Vec<_> = (0..20)
        .map(|_| entry("key", vec![b'x'; 40 << 10]))
        .collect();
    let placed = kinesis.put(&client, &entries[..1]).await;
    for entry in &entries {
        kinesis.put(&client, std::slice::from_ref(entry)).await;
    }
    let later = Timestamp::now() + SignedDuration::from_hours(25);
    kinesis.service.sweep(later).await.unwrap();
    let last = kinesis.put(&client, &entries[..1]).await;
    (kinesis, placed[0].clone(), last[0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_removed_before_they_were_read_are_not_passed_over() {
    let (kinesis, first, _) = trimmed().await;
    for position in [first.clone(), format!("{first}/3"), format!("={first}")] {
        match error(&mut source_at(&kinesis, &position).await).await {
            SourceError::Broken { lane: of, detail } => {
                assert_eq!(of, lane());
                assert!(detail.contains("overtaken"), "{detail}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The records that come until there are so many, or an error that does not pass.
async fn values(source: &mut KinesisSource, count: usize) -> Result<Vec<String>, SourceError> {
    let mut values = Vec::new();
    let reading = async {
        while values.len() < count {
            match source.next(true).await {
                Ok(Event::Records(records)) => values.extend(records.into_iter().map(|record| {
                    String::from_utf8(record.value.unwrap_or_default().into()).unwrap()
                })),
                Ok(_) | Err(SourceError::Passing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap()?;
    Ok(values)
}

/// One more than one answer brings.
const TWO_PAGES: usize = 10_001;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_read_from_its_oldest_record_is_not_overtaken_for_being_full() {
    let kinesis = Kinesis::with(1, false).await;
    // So old that each may be removed at any moment.
    let old = Timestamp::now() - SignedDuration::from_hours(24) + SignedDuration::from_mins(2);
    kinesis.fill_at(STREAM, 0, TWO_PAGES, old).await;
    let gateway = Store::new(PATIENCE).gateway("one");
    let (mut source, _) = KinesisSource::open(kinesis.amazon(), gateway, settings());
    let values = values(&mut source, TWO_PAGES).await.unwrap();
    let expected: Vec<_> = (0..TWO_PAGES).map(|it| it.to_string()).collect();
    assert_eq!(values, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removes_between_two_answers_is_told() {
    let kinesis = Kinesis::with(1, false).await;
    let old = Timestamp::now() - SignedDuration::from_hours(24) + SignedDuration::from_mins(2);
    // Several segments of 64 KiB more than the first answer brings.
    kinesis.fill_at(STREAM, 0, TWO_PAGES + 5_000, old).await;
    let swept = Arc::new(AtomicBool::new(false));
    let waits = swept.clone();
    let mut gets = 0;
    kinesis.trouble(move |operation| {
        gets += usize::from(operation == "GetRecords");
        let waits = operation == "GetRecords" && gets > 1 && !waits.load(Ordering::Acquire);
        waits.then_some(Trouble::Refused(Kind::ProvisionedThroughputExceeded))
    });
    let gateway = Store::new(PATIENCE).gateway("one");
    let (mut source, _) = KinesisSource::open(kinesis.amazon(), gateway, settings());
    assert_eq!(values(&mut source, 10_000).await.unwrap().len(), 10_000);
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    kinesis.service.sweep(later).await.unwrap();
    swept.store(true, Ordering::Release);
    match values(&mut source, 1).await {
        Err(SourceError::Broken { lane: of, detail }) => {
            assert_eq!(of, lane());
            assert!(detail.contains("overtaken"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_shard_that_is_gone_before_its_records_were_read_is_told() {
    let kinesis = Kinesis::with(2, false).await;
    let store = Store::new(PATIENCE);
    let open = || KinesisSource::open(kinesis.amazon(), store.gateway("one"), settings());
    let (mut source, reading) = open();
    let has_begun = |store: &Store| {
        let progress = store.progress(&lane()).and_then(|progress| progress.last);
        progress.is_some_and(|(_, at)| at.to_string().starts_with("^@"))
    };
    tokio::select! {
        () = store.becomes("it is noted that there is nothing", has_begun) => {}
        event = source.next(true) => panic!("{event:?}"),
    }
    drop(source);
    reading.left().await;
    // While nobody reads, a record comes, the shard is split, and its retention is over.
    let long_ago = Timestamp::now() - SignedDuration::from_hours(25);
    let record = json!({
        "StreamName": STREAM,
        "PartitionKey": "key",
        "ExplicitHashKey": "0",
        "Data": base64("unread".to_owned()),
    });
    kinesis.call_at("PutRecord", record, long_ago).await;
    let split = json!({
        "StreamName": STREAM,
        "ShardToSplit": lane().as_str(),
        "NewStartingHashKey": (1_u128 << 126).to_string(),
    });
    kinesis.call_at("SplitShard", split, long_ago).await;
    kinesis.service.sweep(Timestamp::now()).await.unwrap();
    match error(&mut open().0).await {
        SourceError::Broken { lane: of, detail } => {
            assert_eq!(of, lane());
            assert!(detail.contains("overtaken"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_noted_while_they_wait_and_told_when_they_waited_too_long() {
    let kinesis = Kinesis::with(1, false).await;
    let client = kinesis.client().await;
    kinesis.put(&client, &[entry("key", "1")]).await;
    let store = Store::new(PATIENCE);
    let quick = Settings {
        refresh: Duration::from_millis(300),
        ..settings()
    };
    let (mut source, reading) = KinesisSource::open(kinesis.amazon(), store.gateway("one"), quick);
    assert_eq!(values(&mut source, 1).await.unwrap(), ["1"]);
    let split = json!({
        "StreamName": STREAM,
        "ShardToSplit": lane().as_str(),
        "NewStartingHashKey": (1_u128 << 127).to_string(),
    });
    kinesis.call_at("SplitShard", split, Timestamp::now()).await;
    let children = [1, 2].map(|it| Lane::new(format!("shardId-{it:012}")));
    let are_noted = |store: &Store| {
        children.iter().all(|child| {
            let progress = store.progress(child).and_then(|progress| progress.last);
            progress.is_some_and(|(_, at)| at.to_string().starts_with("^@"))
        })
    };
    // The parent is never done.
    let mut waiting = Vec::new();
    let reads = async {
        loop {
            waiting.push(source.next(true).await);
        }
    };
    tokio::select! {
        () = store.becomes("the children are noted", are_noted) => {}
        () = reads => {}
    }
    drop((source, waiting));
    reading.left().await;
    let gateway = store.gateway("one");
    assert!(gateway.list().await.unwrap().iter().all(|lane| !lane.ended));
    // A child that nobody has begun for longer than its records are kept.
    let long_ago = Timestamp::now() - SignedDuration::from_hours(40);
    let body = json!({ "StreamName": "old", "ShardCount": 1 });
    kinesis.call_at("CreateStream", body, long_ago).await;
    let late = (long_ago + SignedDuration::from_hours(1)).as_millisecond();
    let mut source = source_of(&kinesis, "old", &format!("^@{late}")).await;
    match error(&mut source).await {
        SourceError::Broken { detail, .. } => assert!(detail.contains("overtaken"), "{detail}"),
        other => panic!("{other:?}"),
    }
    let recent = (Timestamp::now() - SignedDuration::from_hours(1)).as_millisecond();
    kinesis.fill_at("old", 7, 1, Timestamp::now()).await;
    let mut source = source_of(&kinesis, "old", &format!("^@{recent}")).await;
    assert_eq!(values(&mut source, 1).await.unwrap(), ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_was_noted_that_all_was_read_nothing_is_missed() {
    let (kinesis, first, last) = trimmed().await;
    let recently = (Timestamp::now() - SignedDuration::from_hours(2)).as_millisecond();
    let mut source = source_at(&kinesis, &format!("{first}@{recently}")).await;
    let mut ordinals = Vec::new();
    let read = async {
        loop {
            if let Event::Records(records) = source.next(true).await.unwrap() {
                ordinals.extend(records.iter().map(|record| record.ordinal));
                if records.iter().any(|it| it.position == Position::new(&last)) {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    assert_eq!(ordinals[0], 8);
    let long_ago = (Timestamp::now() - SignedDuration::from_hours(30)).as_millisecond();
    let mut source = source_at(&kinesis, &format!("{first}@{long_ago}")).await;
    assert!(matches!(
        error(&mut source).await,
        SourceError::Broken { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_or_made_anew_is_told_from_the_one_that_was_read() {
    for anew in [false, true] {
        let kinesis = Kinesis::with(1, false).await;
        let client = kinesis.client().await;
        let placed = kinesis
            .put(&client, &[entry("key", "1"), entry("key", "2")])
            .await;
        let mut source = source_at(&kinesis, &placed[0]).await;
        let first =
            async { while !matches!(source.next(true).await.unwrap(), Event::Records(_)) {} };
        tokio::time::timeout(PATIENCE, first).await.unwrap();
        client
            .delete_stream()
            .stream_name(STREAM)
            .send()
            .await
            .unwrap();
        if anew {
            kinesis.create(1).await;
        }
        // While it is read, and where it is only looked at later.
        let detail = match error(&mut source).await {
            SourceError::Broken { detail, .. } => detail,
            other => panic!("{other:?}"),
        };
        let word = if anew { "anew" } else { "not there" };
        assert!(detail.contains(word), "{detail}");
        let later = error(&mut source_at(&kinesis, &placed[0]).await).await;
        match (anew, later) {
            (true, SourceError::Broken { detail, .. }) => {
                assert!(detail.contains("anew"), "{detail}");
            }
            (false, SourceError::Lasting(why)) => assert!(why.contains("no such stream"), "{why}"),
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_without_it_and_a_fault_of_the_service_is_waited_out() {
    let kinesis = Kinesis::with(1, false).await;
    let gateway = Store::new(PATIENCE).gateway("one");
    let wrong = kinesis.amazon_with("a wrong secret");
    let (mut source, _) = KinesisSource::open(wrong, gateway, settings());
    match error(&mut source).await {
        SourceError::Lasting(why) => {
            assert!(why.contains("access key") && why.contains(STREAM), "{why}");
            assert!(!why.contains("wrong secret"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let mut left = 3;
    kinesis.trouble(move |operation| {
        left -= i32::from(operation == "DescribeStreamSummary" && left > 0);
        let troubled = operation == "DescribeStreamSummary" && left > 0;
        troubled.then_some(Trouble::Refused(Kind::InternalFailure))
    });
    let client = kinesis.client().await;
    let gateway = Store::new(PATIENCE).gateway("one");
    let (mut source, _) = KinesisSource::open(kinesis.amazon(), gateway, settings());
    let told = source.next(true).await;
    assert!(
        matches!(&told, Err(SourceError::Passing(why)) if why.contains(STREAM)),
        "{told:?}"
    );
    let gained = async { while !matches!(source.next(true).await, Ok(Event::Records(_))) {} };
    let entries = [entry("key", "1")];
    let put = kinesis.put(&client, &entries);
    let both = async { tokio::join!(gained, put) };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_not_fetched_beyond_a_bound() {
    const SIZE: usize = 512 << 10;
    let kinesis = Kinesis::with(4, false).await;
    let client = kinesis.client().await;
    for nth in 0..64_u64 {
        // Every key is in another shard than the one before, about.
        let key = format!("key-{nth}");
        kinesis.put(&client, &[entry(&key, vec![b'x'; SIZE])]).await;
    }
    let gateway = Store::new(PATIENCE).gateway("one");
    let small = Settings {
        buffered: 1 << 20,
        refresh: Duration::from_millis(100),
        ..settings()
    };
    let (mut source, _) = KinesisSource::open(kinesis.amazon(), gateway, small);
    // One answer fills the room. Nobody asks again, while the list of shards is looked at again and again.
    let looked = async {
        while kinesis.answered("GetRecords", "") == 0 || kinesis.answered("ListShards", "") < 6 {
            tokio::select! {
                event = source.next(false) => assert!(!matches!(event.unwrap(), Event::Records(_))),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap();
    assert_eq!(kinesis.answered("GetRecords", ""), 1);
    assert!(
        kinesis.given() < 20 * SIZE * 4 / 3 + (1 << 20),
        "{}",
        kinesis.given()
    );
    let mut records = 0;
    let all = async {
        while records < 64 {
            if let Event::Records(some) = source.next(true).await.unwrap() {
                records += some.len();
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
}
