//! Durable jobs a second: `cargo bench -p linkspan --bench store`.
//!
//! The same loads on the store on SQLite, on the store on PostgreSQL and, where Node.js and npm are there, on Graphile Worker on the same
//! PostgreSQL server in the same run. The server is a private one with `fsync = on` and its default settings; each run of a load has a
//! database of its own. Every call counts only when what it did is durable (`synchronous_commit = on`, SQLite `synchronous = FULL`).
//! A request is 1 KiB; linkspan also keeps a result of 1 KiB, Graphile Worker removes what is done.
//!
//! What each line means:
//! - *enqueue, N waiting callers*: each enqueues one job and waits until it is durable before its next; p50 and p99 are of these calls.
//!   linkspan has its 16 connections; Graphile Worker (`addJob`) is shown with as many, and with 64.
//! - *enqueue, N at once by 1 caller*: linkspan's calls are made together, Graphile Worker is given them in one `addJobs`; p50 and p99
//!   are those of N jobs.
//! - *claim and finish*: jobs that wait already, until the last one has durably ended. linkspan has 128 places; Graphile Worker has the
//!   settings of its documentation's page on performance (24 at once, a local queue of 500, completions in batches).
//! - *stream*: a reader of a stream stores what came of 500 records, with its progress, in each commit: jobs that have ended, with their
//!   results. Graphile Worker has nothing like it.
//! - *whole life*: callers enqueue while the jobs are run, until the last one has durably ended. linkspan's callers and runner are one
//!   process, Graphile Worker's are two.
//!
//! Each figure is the median of the rounds, in which the contenders take turns; *least* and *most* are the rounds' rates. *jobs a
//! commit* says how many jobs shared a transaction. *ratio* is the rate against the best of Graphile Worker's for the same load. All are
//! good as ratios on one machine, not as promises.

mod graphile;
mod programs;
mod scenarios;
mod table;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use linkspan::store::{
    FileBlobs, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, Store,
};
use linkspan_testkit::PostgresServer;

use graphile::Graphile;
use scenarios::{Load, Run};
use table::{Table, load_average, median, quantile};

const LOADS: [Load; 8] = [
    Load::Enqueue { callers: 1 },
    Load::Enqueue { callers: 16 },
    Load::Enqueue { callers: 128 },
    Load::Enqueue { callers: 1024 },
    Load::Batch { batch: 128 },
    Load::Work { jobs: 6000 },
    Load::Stream { outcomes: 500 },
    Load::Life { callers: 128 },
];

const ROUNDS: usize = 3;

/// How long one load may take, with its preparation.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is measured.
#[derive(Clone, Copy, PartialEq)]
enum Contender {
    Sqlite,
    Postgres,
    Graphile { connections: usize },
}

/// What all runs share.
struct Bench {
    folder: tempfile::TempDir,
    server: PostgresServer,
    graphile: Result<Graphile, String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<(), Box<dyn Error>> {
    let bench = Bench {
        // Beside the build, on a real disk: the system's temporary folder may be in memory.
        folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?,
        // The defaults of PostgreSQL, not those of the tests' server.
        server: PostgresServer::start(&["shared_buffers=128MB", "max_connections=100"]),
        graphile: Graphile::set_up().await,
    };
    let version = bench.server.sql("postgres", "SHOW server_version");
    println!(
        "Durable jobs a second, requests of 1 KiB; {}",
        load_average()
    );
    println!("PostgreSQL {version}, fsync on, default settings, one server for all");
    match &bench.graphile {
        Ok(graphile) => println!("beside it: {}", graphile.version),
        Err(why) => println!("without Graphile Worker, which needs Node.js and npm: {why}"),
    }
    println!();
    let mut table = Table::new(&[
        "",
        "jobs/s",
        "least",
        "most",
        "p50 ms",
        "p99 ms",
        "jobs a commit",
        "ratio",
    ]);
    // `cargo bench -p linkspan --bench store -- stream`: only these.
    let only = std::env::args().skip(1).find(|one| !one.starts_with('-'));
    let only = only.unwrap_or_default();
    for load in LOADS.into_iter().filter(|load| load.name().contains(&only)) {
        eprintln!("{}", load.name());
        let contenders = contenders(load, bench.graphile.is_ok());
        let mut runs: Vec<Vec<(Run, Option<u64>)>> =
            contenders.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (contender, runs) in contenders.iter().zip(&mut runs) {
                let run = tokio::time::timeout(PATIENCE, bench.run(load, *contender));
                runs.push(run.await??);
            }
        }
        lines(&mut table, load, &contenders, &runs);
    }
    table.print();
    println!("\n{} at the end", load_average());
    Ok(())
}

/// Who can take a load.
fn contenders(load: Load, graphile: bool) -> Vec<Contender> {
    let connections: &[usize] = match load {
        _ if !graphile => &[],
        Load::Enqueue { callers: 1 } | Load::Batch { .. } | Load::Work { .. } => &[1],
        Load::Enqueue { callers: 16 } => &[16],
        Load::Enqueue { callers: 128 } => &[16, 64],
        Load::Enqueue { .. } | Load::Stream { .. } => &[],
        Load::Life { .. } => &[64],
    };
    let theirs = connections
        .iter()
        .map(|&connections| Contender::Graphile { connections });
    [Contender::Sqlite, Contender::Postgres]
        .into_iter()
        .chain(theirs)
        .collect()
}

impl Bench {
    /// One run on an empty store; with the transactions that it took.
    async fn run(
        &self,
        load: Load,
        contender: Contender,
    ) -> Result<(Run, Option<u64>), Box<dyn Error>> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        match contender {
            Contender::Sqlite => {
                let path = folder.path().join("jobs.db");
                let store = SqliteStore::open(path, SqliteOptions::default(), blobs(&folder)?)?;
                counted(load, Arc::new(store), SqliteStore::commits).await
            }
            Contender::Postgres => {
                let url = self.server.database();
                let options = PostgresOptions::default();
                let store = PostgresStore::open(&url, options, blobs(&folder)?).await?;
                counted(load, Arc::new(store), PostgresStore::commits).await
            }
            Contender::Graphile { connections } => {
                let graphile = self.graphile.as_ref().map_err(Clone::clone)?;
                let database = self.server.database();
                let run = graphile.run(load, connections, &database).await?;
                Ok((run, None))
            }
        }
    }
}

fn blobs(folder: &tempfile::TempDir) -> Result<Arc<FileBlobs>, Box<dyn Error>> {
    let folder: &Path = folder.path();
    Ok(Arc::new(FileBlobs::open(folder.join("blobs"))?))
}

async fn counted<S: Store + 'static>(
    load: Load,
    store: Arc<S>,
    commits: fn(&S) -> u64,
) -> Result<(Run, Option<u64>), Box<dyn Error>> {
    let before = commits(&store);
    let run = load.run(store.clone()).await?;
    let commits = commits(&store) - before;
    store.close().await;
    Ok((run, Some(commits)))
}

/// A load's lines.
fn lines(
    table: &mut Table,
    load: Load,
    contenders: &[Contender],
    runs: &[Vec<(Run, Option<u64>)>],
) {
    let rates = |runs: &[(Run, Option<u64>)]| -> Vec<f64> {
        runs.iter().map(|(run, _)| run.rate()).collect()
    };
    let theirs = contenders
        .iter()
        .zip(runs)
        .filter(|(contender, _)| matches!(contender, Contender::Graphile { .. }))
        .map(|(_, runs)| median(&rates(runs)))
        .reduce(f64::max);
    table.row(vec![load.name()]);
    for (contender, runs) in contenders.iter().zip(runs) {
        let rates = rates(runs);
        let rate = median(&rates);
        let milliseconds = |share: f64| {
            let rounds: Vec<_> = runs
                .iter()
                .filter_map(|(run, _)| quantile(&run.calls, share))
                .collect();
            if rounds.is_empty() {
                String::new()
            } else {
                format!("{:.2}", median(&rounds))
            }
        };
        let shared: Vec<_> = runs
            .iter()
            .filter_map(|(run, commits)| Some(run.jobs as f64 / (*commits)?.max(1) as f64))
            .collect();
        let name = match contender {
            Contender::Sqlite => "  linkspan on SQLite".to_owned(),
            Contender::Postgres => "  linkspan on PostgreSQL".to_owned(),
            Contender::Graphile { .. } if matches!(load, Load::Work { .. }) => {
                "  Graphile Worker".to_owned()
            }
            Contender::Graphile { connections: 1 } => "  Graphile Worker, 1 connection".to_owned(),
            Contender::Graphile { connections } => {
                format!("  Graphile Worker, {connections} connections")
            }
        };
        table.row(vec![
            name,
            format!("{rate:.0}"),
            format!("{:.0}", quantile(&rates, 0.0).unwrap_or_default()),
            format!("{:.0}", quantile(&rates, 1.0).unwrap_or_default()),
            milliseconds(0.5),
            milliseconds(0.99),
            if shared.is_empty() {
                String::new()
            } else {
                format!("{:.1}", median(&shared))
            },
            theirs.map_or_else(String::new, |theirs| format!("{:.2}", rate / theirs)),
        ]);
    }
}
