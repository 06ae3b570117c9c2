//! Whatever moment the power goes at, what was acknowledged is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::join_all;
use jiff::Timestamp;
use proptest::prelude::*;

use super::simulated::SimulatedDisk;
use super::{Log, LogError, Logs, SegmentLog, Settings};

pub(super) const FOLDER: &str = "/logs";

pub(super) fn logs(disk: &SimulatedDisk) -> Logs {
    let settings = Settings {
        segment_bytes: 1500,
        segment_age: Duration::from_secs(50),
        writers: 1,
        group_bytes: 600,
    };
    Logs::start(Arc::new(disk.clone()), FOLDER.into(), settings, None).unwrap()
}

pub(super) fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// All entries of a log from its first on.
pub(super) async fn all(log: &SegmentLog) -> Result<Vec<(u64, i64, Bytes)>, LogError> {
    let bounds = log.bounds();
    let mut all = Vec::new();
    let mut next = bounds.start;
    while next < bounds.end {
        for entry in log.read(next, 7, 300).await? {
            assert_eq!(entry.offset, next, "offsets follow each other");
            all.push((entry.offset, entry.arrived.as_second(), entry.payload));
            next += 1;
        }
    }
    Ok(all)
}

/// What must be there: by offset, from the first on.
#[derive(Default)]
struct Known {
    entries: Vec<Option<(i64, Bytes)>>,
    trimmed: u64,
}

impl Known {
    fn note(&mut self, offset: u64, entry: (i64, Bytes)) {
        let place = usize::try_from(offset).unwrap();
        self.entries.resize(self.entries.len().max(place + 1), None);
        let before = self.entries[place].replace(entry);
        assert!(before.is_none(), "offset {offset} was given twice");
    }

    /// Compares, and takes for known what somebody could read now.
    async fn check(&mut self, log: &SegmentLog, exact_start: bool) {
        let bounds = log.bounds();
        assert!(
            bounds.start <= self.trimmed,
            "more was let go of than was asked for"
        );
        assert!(!exact_start || bounds.start == self.trimmed);
        let end = self.entries.len() as u64;
        assert!(
            bounds.end >= end,
            "acknowledged up to {end}, there up to {}",
            bounds.end
        );
        let mut before = i64::MIN;
        for (offset, arrived, payload) in all(log).await.unwrap() {
            assert!(arrived >= before, "time went back");
            before = arrived;
            let place = usize::try_from(offset).unwrap();
            self.entries.resize(self.entries.len().max(place + 1), None);
            let known = self.entries[place].get_or_insert((arrived, payload.clone()));
            assert_eq!(*known, (arrived, payload), "entry {offset} is another one");
        }
        self.trimmed = bounds.start;
    }
}

/// Works until the power goes, or the work is done.
async fn work(log: &SegmentLog, known: &mut Known, rng: &mut Rng, clock: &mut i64, rounds: usize) {
    for _ in 0..rounds {
        *clock += i64::from(rng.u8(..20)) - 4;
        let now = second(*clock);
        let appends: Vec<Vec<Bytes>> = (0..rng.usize(1..5))
            .map(|_| {
                let count = rng.usize(1..6);
                let entry = |_| {
                    let length = if rng.u8(..8) == 0 { 700 } else { 60 };
                    let mut bytes = vec![0; rng.usize(..length)];
                    rng.fill(&mut bytes);
                    Bytes::from(bytes)
                };
                (0..count).map(entry).collect()
            })
            .collect();
        let answers = join_all(
            appends
                .iter()
                .map(|entries| log.append(entries.clone(), now)),
        )
        .await;
        let mut before = None;
        for (entries, answer) in appends.into_iter().zip(answers) {
            let Ok(first) = answer else { continue };
            assert!(before < Some(first), "appends keep their order");
            before = Some(first);
            let there = log.read(first, entries.len(), usize::MAX).await.unwrap();
            for (number, entry) in entries.into_iter().enumerate() {
                let arrived = there[number].arrived.as_second();
                known.note(first + number as u64, (arrived, entry));
            }
        }
        if rng.u8(..6) == 0 {
            let age = Duration::from_secs(rng.u64(20..400));
            let size = rng.bool().then(|| rng.u64(500..6000));
            let trimmed = log.trim(age, size, now).await;
            // One that failed may have let go of some.
            known.trimmed = log.bounds().start;
            if trimmed.is_err() && !log.refuses() {
                return;
            }
        }
    }
}

async fn crash_again_and_again(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let mut disk = SimulatedDisk::with(FOLDER);
    let first = logs(&disk);
    first.create("a").await.unwrap();
    first.close().await;
    let (mut known, mut clock) = (Known::default(), 1_000);
    for _ in 0..4 {
        // The power may go while the log is opened, too.
        disk.power_goes_after(rng.usize(..60));
        let opened = logs(&disk);
        match opened.get("a").await {
            Ok(Some(log)) => {
                known.check(&log, false).await;
                work(&log, &mut known, &mut rng, &mut clock, 12).await;
            }
            Ok(None) => panic!("the log is gone"),
            Err(error) => assert!(!error.to_string().contains("damaged"), "{error}"),
        }
        opened.close().await;
        disk = disk.after_power_loss(&mut rng);
    }
    let opened = logs(&disk);
    let log = opened.get("a").await.unwrap().expect("the log is there");
    known.check(&log, false).await;
    work(&log, &mut known, &mut rng, &mut clock, 3).await;
    known.check(&log, true).await;
    opened.close().await;
}

fn run(work: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .max_blocking_threads(2)
        .build()
        .unwrap()
        .block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_outlives_every_loss_of_power(seed: u64) {
        run(crash_again_and_again(seed));
    }
}

/// Every single call in turn, so that none is left to chance.
#[test]
fn the_power_may_go_at_any_call() {
    run(async {
        let whole = SimulatedDisk::with(FOLDER);
        let opened = logs(&whole);
        opened.create("a").await.unwrap();
        opened.close().await;
        let prepared = whole.copied();
        let mut calls = 0;
        loop {
            let disk = prepared.copied();
            disk.power_goes_after(calls);
            let (mut known, mut clock) = (Known::default(), 1_000);
            let opened = logs(&disk);
            if let Ok(Some(log)) = opened.get("a").await {
                work(&log, &mut known, &mut Rng::with_seed(7), &mut clock, 8).await;
            }
            opened.close().await;
            for seed in 0..6 {
                let after = disk.after_power_loss(&mut Rng::with_seed(seed));
                let opened = logs(&after);
                let log = opened.get("a").await.unwrap().expect("the log is there");
                let mut known = Known {
                    entries: known.entries.clone(),
                    trimmed: known.trimmed,
                };
                known.check(&log, false).await;
                opened.close().await;
            }
            if disk.calls() < calls {
                break;
            }
            calls += 1;
        }
        assert!(calls > 50, "only {calls} calls were seen");
    });
}

#[test]
fn a_log_is_made_whole_or_not_at_all_and_removed_for_good() {
    run(async {
        for calls in 0..30 {
            let disk = SimulatedDisk::with(FOLDER);
            disk.power_goes_after(calls);
            let opened = logs(&disk);
            let created = opened.create("a").await.is_ok();
            let deleted = matches!(opened.delete("a").await, Ok(true));
            opened.close().await;
            for seed in 0..20 {
                let after = disk.after_power_loss(&mut Rng::with_seed(seed));
                let opened = logs(&after);
                let there = opened.get("a").await.unwrap();
                assert!(
                    there.is_some() || !created || calls > 7,
                    "{calls}: it was made"
                );
                assert!(there.is_none() || !deleted, "{calls}: it was removed");
                if there.is_none() {
                    opened.create("a").await.unwrap();
                }
                let log = opened.get("a").await.unwrap().unwrap();
                log.append(vec![Bytes::new()], second(1)).await.unwrap();
                opened.close().await;
                let left = after.paths();
                let known = |path: &String| !path.contains("/.");
                assert!(left.iter().all(known), "{left:?}");
            }
        }
    });
}

/// A write that is torn at each of its bytes.
#[test]
fn a_write_torn_at_any_byte_is_cut_off_whole() {
    run(async {
        let whole = SimulatedDisk::with(FOLDER);
        let opened = logs(&whole);
        let log = opened.create("a").await.unwrap();
        let entry = |text: &'static str| Bytes::from_static(text.as_bytes());
        log.append(vec![entry("first")], second(1)).await.unwrap();
        let before = log.size();
        log.append(vec![entry("second"), entry("third")], second(2))
            .await
            .unwrap();
        let after = log.size();
        opened.close().await;
        let file = Path::new(FOLDER).join("a/00000000000000000000.log");
        let file = file.to_str().unwrap();
        for at in before..after {
            for garbage in [None, Some(0), Some(0xa5)] {
                let torn = whole.copied();
                torn.damage(file, |bytes| {
                    let (at, length) = (usize::try_from(at).unwrap(), bytes.len());
                    bytes.truncate(at);
                    if let Some(byte) = garbage {
                        bytes.resize(length, byte);
                    }
                });
                // The mark had not reached the disk.
                torn.damage("/logs/a/mark", Vec::clear);
                let opened = logs(&torn);
                let log = opened.get("a").await.unwrap().unwrap();
                assert_eq!(log.bounds(), 0..1, "torn at {at}");
                let next = log.append(vec![entry("fourth")], second(3)).await.unwrap();
                assert_eq!(next, 1);
                assert_eq!(all(&log).await.unwrap().len(), 2);
                opened.close().await;
            }
        }
    });
}
