//! Durable appends: the segment log beside fjall, on the same disk in the same run, alternating.
//!
//! `cargo bench -p linkspan-streams --bench log` prints records/s of 1 KiB, the median of several runs, by batch and by how many
//! wait at once. `LOG_BENCH_SECONDS` (0.5) is the length of one run, `LOG_BENCH_RUNS` (5) their number, `LOG_BENCH_FOLDER` where.
#![expect(clippy::unwrap_used, reason = "a bench that fails may say so")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use futures_util::future::join_all;
use jiff::Timestamp;
use linkspan_streams::log::{Log, Logs, Settings};
use tokio::runtime::Runtime;

const PAYLOAD: usize = 1024;

fn main() {
    let seconds = Duration::from_secs_f64(set("LOG_BENCH_SECONDS", 0.5));
    let runs = set("LOG_BENCH_RUNS", 5.0) as usize;
    let within = std::env::var_os("LOG_BENCH_FOLDER").unwrap_or_else(|| "target".into());
    println!("durable records/s of 1 KiB, median of {runs} runs of {seconds:?}, alternating");
    println!("| waiting | batch | segment log | fjall | ratio |");
    println!("| --- | --- | --- | --- | --- |");
    for waiting in [1, 16] {
        for batch in [1, 100, 500, 1000] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                ours.push(segment_log(Path::new(&within), waiting, batch, seconds));
                theirs.push(fjall(Path::new(&within), waiting, batch, seconds));
            }
            let (ours, theirs) = (median(ours), median(theirs));
            let ratio = ours / theirs;
            println!("| {waiting} | {batch} | {ours:.0} | {theirs:.0} | {ratio:.2} |");
        }
    }
    let spread: Vec<_> = (0..runs)
        .map(|_| shards(Path::new(&within), seconds))
        .collect();
    let write = median(spread.iter().map(|(write, _)| *write).collect());
    let read = median(spread.iter().map(|(_, read)| *read).collect());
    println!();
    println!("segment log, 16 callers, each 500 records over 100 logs: {write:.0} records/s");
    println!("read back in turns of 1,000 records: {read:.0} records/s");
}

/// A stream of many shards, as a call that spreads its records over all of them sees it; then all of it read.
fn shards(within: &Path, lasts: Duration) -> (f64, f64) {
    let folder = tempfile::tempdir_in(within).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let logs = Logs::open(folder.path(), Settings::default())
            .await
            .unwrap();
        let mut shards = Vec::new();
        for shard in 0..100 {
            shards.push(logs.create(&format!("shard-{shard}")).await.unwrap());
        }
        let begin = Instant::now();
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let shards = shards.clone();
                tokio::spawn(async move {
                    let payload = Bytes::from(noise());
                    while begin.elapsed() < lasts {
                        let five = || vec![payload.clone(); 5];
                        let append = shards
                            .iter()
                            .map(|log| log.append(five(), Timestamp::now()));
                        for appended in join_all(append).await {
                            appended.unwrap();
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let taken = begin.elapsed().as_secs_f64();
        let (begin, mut records) = (Instant::now(), 0);
        for log in &shards {
            let mut next = 0;
            while next < log.bounds().end {
                next += log.read(next, 1000, 10 << 20).await.unwrap().len() as u64;
            }
            records += next;
        }
        let read = records as f64 / begin.elapsed().as_secs_f64();
        logs.close().await;
        (records as f64 / taken, read)
    })
}

fn segment_log(within: &Path, waiting: usize, batch: usize, lasts: Duration) -> f64 {
    let folder = tempfile::tempdir_in(within).unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let logs = Logs::open(folder.path(), Settings::default())
            .await
            .unwrap();
        let log = logs.create("bench").await.unwrap();
        let records = Arc::new(AtomicU64::new(0));
        let begin = Instant::now();
        let tasks: Vec<_> = (0..waiting)
            .map(|_| {
                let (log, records) = (log.clone(), records.clone());
                tokio::spawn(async move {
                    let payload = Bytes::from(noise());
                    while begin.elapsed() < lasts {
                        let entries = vec![payload.clone(); batch];
                        log.append(entries, Timestamp::now()).await.unwrap();
                        records.fetch_add(batch as u64, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let rate = records.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
        logs.close().await;
        rate
    })
}

fn fjall(within: &Path, waiting: usize, batch: usize, lasts: Duration) -> f64 {
    let folder = tempfile::tempdir_in(within).unwrap();
    let database = Database::builder(folder.path()).open().unwrap();
    let records = database
        .keyspace("bench", KeyspaceCreateOptions::default)
        .unwrap();
    let (next, begin) = (AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..waiting {
            scope.spawn(|| {
                let payload = noise();
                while begin.elapsed() < lasts {
                    let first = next.fetch_add(batch as u64, Ordering::Relaxed);
                    let mut write = database.batch().durability(Some(PersistMode::SyncAll));
                    for number in 0..batch as u64 {
                        let key = (first + number).to_be_bytes();
                        write.insert(&records, key, payload.as_slice());
                    }
                    write.commit().unwrap();
                }
            });
        }
    });
    next.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// What does not compress.
fn noise() -> Vec<u8> {
    let mut payload = vec![0; PAYLOAD];
    fastrand::fill(&mut payload);
    payload
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

fn set(name: &str, otherwise: f64) -> f64 {
    let set = std::env::var(name).ok().and_then(|set| set.parse().ok());
    set.unwrap_or(otherwise)
}
