//! What a log does when nothing crashes, and when the disk fails without a loss of power.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::crashes::{FOLDER, all, logs, second};
use super::simulated::SimulatedDisk;
use super::{Log, LogError, Logs, LogsError, SegmentLog, Settings};

const NEWEST: &str = "/logs/a/00000000000000000000.log";

async fn append(log: &SegmentLog, text: &str, at: i64) -> Result<u64, LogError> {
    let entry = Bytes::copy_from_slice(text.as_bytes());
    log.append(vec![entry], second(at)).await
}

/// Entries of 100 bytes, one append and one second each.
async fn fill(log: &SegmentLog, count: i64) {
    for number in 0..count {
        append(log, &format!("{number:0100}"), number)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_failed_sync_closes_the_log_until_it_is_opened_anew() {
    let disk = SimulatedDisk::with(FOLDER);
    let logs = logs(&disk);
    let log = logs.create("a").await.unwrap();
    append(&log, "kept", 1).await.unwrap();
    disk.fail_syncs(1);
    let failed = append(&log, "lost", 2).await;
    assert!(matches!(failed, Err(LogError::Io { .. })));
    assert!(matches!(
        append(&log, "refused", 3).await,
        Err(LogError::Closed)
    ));
    assert_eq!(
        all(&log).await.unwrap().len(),
        1,
        "what is there can be read"
    );
    let anew = logs.get("a").await.unwrap().unwrap();
    // What the kernel holds for written and is not: it must not be seen, for it would be gone after the next loss of power.
    assert_eq!(anew.bounds(), 0..1);
    assert_eq!(append(&anew, "taken", 4).await.unwrap(), 1);
    let after = disk.after_power_loss(&mut fastrand::Rng::with_seed(1));
    logs.close().await;
    let logs = super::crashes::logs(&after);
    let log = logs.get("a").await.unwrap().unwrap();
    let texts: Vec<_> = all(&log)
        .await
        .unwrap()
        .into_iter()
        .map(|(.., text)| text)
        .collect();
    assert_eq!(texts, ["kept", "taken"]);
    logs.close().await;
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_again_when_there_is_space() {
    let disk = SimulatedDisk::with(FOLDER);
    let logs = logs(&disk);
    let log = logs.create("a").await.unwrap();
    fill(&log, 3).await;
    for room in 0..200 {
        disk.leave_room(Some(room));
        let (long, now) = (Bytes::from(vec![b'x'; 400]), second(9));
        let refused = log.append(vec![long.clone(), long], now).await;
        assert!(
            matches!(refused, Err(LogError::Full)),
            "{room}: {refused:?}"
        );
    }
    disk.leave_room(None);
    assert_eq!(append(&log, "again", 10).await.unwrap(), 3);
    // Rolling needs space, too.
    fill(&log, 6).await;
    disk.leave_room(Some(20));
    let long = vec![Bytes::from(vec![b'x'; 1400])];
    let refused = log.append(long.clone(), second(11)).await;
    assert!(matches!(refused, Err(LogError::Full)));
    disk.leave_room(None);
    assert_eq!(log.append(long, second(12)).await.unwrap(), 10);
    logs.close().await;
    let logs = super::crashes::logs(&disk);
    let log = logs.get("a").await.unwrap().unwrap();
    assert_eq!(all(&log).await.unwrap().len(), 11);
    logs.close().await;
}

#[tokio::test]
async fn damage_before_the_last_write_is_reported_at_every_byte() {
    let disk = SimulatedDisk::with(FOLDER);
    let opened = logs(&disk);
    let log = opened.create("a").await.unwrap();
    append(&log, "first", 1).await.unwrap();
    let end = usize::try_from(log.size()).unwrap();
    append(&log, "second", 2).await.unwrap();
    opened.close().await;
    for at in 0..end {
        let damaged = disk.copied();
        damaged.damage(NEWEST, |bytes| bytes[at] ^= 0x10);
        // Also where the mark is old, as after a loss of power.
        damaged.damage("/logs/a/mark", Vec::clear);
        let opened = logs(&damaged);
        let error = opened.get("a").await.err().expect("damage is an error");
        let found = matches!(error, LogsError::Log(LogError::Corrupt { .. }));
        assert!(found, "byte {at}: {error}");
        opened.close().await;
    }
}

#[tokio::test]
async fn damage_of_the_last_write_is_reported_where_its_mark_is_there() {
    let disk = SimulatedDisk::with(FOLDER);
    let opened = logs(&disk);
    let log = opened.create("a").await.unwrap();
    append(&log, "only", 1).await.unwrap();
    opened.close().await;
    for shorter in [false, true] {
        let damaged = disk.copied();
        damaged.damage(NEWEST, |bytes| match shorter {
            true => bytes.truncate(40),
            false => bytes[70] ^= 1,
        });
        let opened = logs(&damaged);
        let error = opened.get("a").await.err().expect("damage is an error");
        assert!(
            matches!(error, LogsError::Log(LogError::Corrupt { .. })),
            "{error}"
        );
        opened.close().await;
    }
}

#[tokio::test]
async fn damage_in_an_older_segment_is_met_by_the_read_that_comes_to_it() {
    let disk = SimulatedDisk::with(FOLDER);
    let opened = logs(&disk);
    let log = opened.create("a").await.unwrap();
    fill(&log, 40).await;
    disk.damage(NEWEST, |bytes| bytes[32 + 3 * 136 + 50] ^= 1);
    let read = log.read(0, 100, usize::MAX).await.unwrap();
    assert_eq!(read.len(), 3, "what reads well is given");
    let error = log.read(3, 100, usize::MAX).await.err();
    assert!(
        matches!(error, Some(LogError::Corrupt { at: 440, .. })),
        "{error:?}"
    );
    opened.close().await;
    // Where the side file is lost the segment is read whole, and a missing segment is no gap to step over.
    disk.damage("/logs/a/00000000000000000000.index", |bytes| bytes[50] ^= 1);
    let opened = logs(&disk);
    assert!(opened.get("a").await.is_err());
    opened.close().await;
}

#[tokio::test]
async fn reads_and_times_cross_segments() {
    let disk = SimulatedDisk::with(FOLDER);
    let opened = logs(&disk);
    let log = opened.create("a").await.unwrap();
    let mut followed = log.follow();
    fill(&log, 40).await;
    assert!(disk.paths().len() > 8, "it is several segments");
    assert_eq!(*followed.borrow_and_update(), 40);
    opened.close().await;
    let opened = logs(&disk);
    let log = opened.get("a").await.unwrap().unwrap();
    assert_eq!(log.bounds(), 0..40);
    assert_eq!(log.read(0, 100, usize::MAX).await.unwrap().len(), 40);
    assert_eq!(log.read(0, 100, 1050).await.unwrap().len(), 10);
    assert_eq!(log.read(5, 100, 0).await.unwrap().len(), 1, "at least one");
    assert_eq!(log.read(12, 9, usize::MAX).await.unwrap()[8].offset, 20);
    assert!(log.read(40, 9, 9).await.unwrap().is_empty());
    for time in [0, 1, 10, 11, 25, 39, 40] {
        let expected = u64::try_from(time).unwrap();
        assert_eq!(
            log.since(second(time)).await.unwrap(),
            expected,
            "since {time}"
        );
    }
    assert_eq!(log.since(second(-5)).await.unwrap(), 0);
    opened.close().await;
}

#[tokio::test]
async fn what_is_old_or_too_much_is_let_go_of_and_offsets_go_on() {
    let disk = SimulatedDisk::with(FOLDER);
    let opened = logs(&disk);
    let log = opened.create("a").await.unwrap();
    fill(&log, 40).await;
    let (before, day) = (log.size(), Duration::from_secs(86_400));
    let freed = log.trim(day, Some(3000), second(40)).await.unwrap();
    assert_eq!(log.size(), before - freed);
    let first = log.bounds().start;
    assert!(
        first > 0 && log.size() >= 3000 && log.size() < 4500,
        "{}",
        log.size()
    );
    let trimmed = log.read(first - 1, 1, 1).await.err();
    assert!(matches!(trimmed, Some(LogError::Trimmed { first: f }) if f == first));
    assert_eq!(log.since(second(0)).await.unwrap(), first);
    // An idle log lets go of its newest segment, too.
    log.trim(Duration::from_secs(5), None, second(100))
        .await
        .unwrap();
    assert_eq!(log.bounds(), 40..40);
    opened.close().await;
    let opened = logs(&disk);
    let log = opened.get("a").await.unwrap().unwrap();
    assert_eq!(log.bounds(), 40..40);
    // A clock that steps back is held, though nothing of then is left.
    assert_eq!(append(&log, "next", 7).await.unwrap(), 40);
    assert_eq!(log.read(40, 1, 1).await.unwrap()[0].arrived, second(39));
    opened.close().await;
}

#[tokio::test]
async fn appends_that_wait_share_a_sync() {
    let disk = SimulatedDisk::with(FOLDER);
    let opened = logs(&disk);
    let log = opened.create("a").await.unwrap();
    let before = disk.calls();
    let waiting = (0..8).map(|number| append(&log, "x", number));
    let offsets: Vec<u64> = join_all(waiting)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(offsets, (0..8).collect::<Vec<_>>());
    // A write, a sync and a mark each. The first may go alone.
    assert!(disk.calls() - before <= 3 * 8, "{}", disk.calls() - before);
    opened.close().await;
    assert!(matches!(
        append(&log, "late", 9).await,
        Err(LogError::Closed)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_logs_on_a_real_disk_keep_what_they_took() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("streams");
    let settings = Settings::default();
    let opened = Logs::open(&path, settings.clone()).await.unwrap();
    let again = Logs::open(&path, settings.clone()).await;
    assert!(
        matches!(again, Err(LogsError::Locked(_))),
        "one process at a time"
    );
    let names: Vec<String> = (0..200)
        .map(|number| format!("reviews~{number:03}"))
        .collect();
    let mut made = Vec::new();
    for name in &names {
        made.push(opened.create(name).await.unwrap());
    }
    assert!(matches!(
        opened.create("reviews~007").await,
        Err(LogsError::Exists(_))
    ));
    for name in ["", ".", "..", "a/b", ".lock", "ä", &"x".repeat(201)] {
        assert!(
            matches!(opened.get(name).await, Err(LogsError::Name(_))),
            "{name}"
        );
    }
    let (made, names_then) = (&made, &names);
    let append = |round: usize| {
        made.iter()
            .zip(names_then)
            .map(move |(log, name)| async move {
                let entries = (0..5).map(|_| Bytes::from(name.clone())).collect();
                let first = log.append(entries, second(1)).await.unwrap();
                assert_eq!(first, round as u64 * 5);
            })
    };
    join_all(append(0)).await;
    join_all(append(1)).await;
    assert!(opened.delete("reviews~003").await.unwrap());
    assert!(!opened.delete("reviews~003").await.unwrap());
    opened.close().await;
    let opened = Logs::open(&path, settings).await.unwrap();
    assert_eq!(opened.names().await.unwrap().len(), 199);
    assert!(opened.get("reviews~003").await.unwrap().is_none());
    for name in names.iter().filter(|name| *name != "reviews~003") {
        let log = opened.get(name).await.unwrap().unwrap();
        let entries = all(&log).await.unwrap();
        assert_eq!(entries.len(), 10);
        assert!(entries.iter().all(|(.., text)| text == name.as_bytes()));
    }
    opened.close().await;
}
