//! What does not pass is said, and what cannot be read is never passed over.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use linkspan_streams::flow::Progress;
use linkspan_streams::kinesis::Kind;
use linkspan_streams::kinesis::consumer::{KinesisSource, Leases as _, Note, Settings, Takeable};
use linkspan_streams::{Event, Lane, Position, Source as _, SourceError};

use crate::leases::Store;
use crate::reader::settings;
use crate::server::{Kinesis, PATIENCE, STREAM, Trouble, entry};

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
