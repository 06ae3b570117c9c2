//! Graphile Worker, a job queue on PostgreSQL of good name (Node.js), under the same loads: installed beside the build with its pinned
//! versions, and run by `bench.mjs`, which says how it is used.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::programs::{self, said};
use crate::scenarios::{Load, Run};

const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("package.json")),
    ("package-lock.json", include_str!("package-lock.json")),
    ("bench.mjs", include_str!("bench.mjs")),
];

/// How long one load may take, with its start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Graphile Worker, installed.
pub(crate) struct Graphile {
    folder: PathBuf,
    /// Its version, and Node's.
    pub(crate) version: String,
}

impl Graphile {
    /// Installs it, where it is not.
    ///
    /// # Errors
    ///
    /// Why it cannot be had.
    pub(crate) async fn set_up() -> Result<Self, String> {
        let folder = programs::folder("graphile");
        let node = said(Command::new("node").arg("--version"), PATIENCE).await?;
        let lock = FILES[1].1;
        programs::write(&folder, &FILES)?;
        if !programs::is_installed(&folder, lock) {
            eprintln!("installing Graphile Worker by npm");
            let mut npm = Command::new("npm");
            npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
            said(npm.current_dir(&folder), PATIENCE).await?;
            programs::installed(&folder, lock)?;
        }
        let lock: Value = serde_json::from_str(lock).map_err(|error| error.to_string())?;
        let own = &lock["packages"]["node_modules/graphile-worker"]["version"];
        let own = own.as_str().unwrap_or_default();
        Ok(Self {
            folder,
            version: format!("Graphile Worker {own} on Node.js {}", node.trim()),
        })
    }

    /// Puts a load on it, in an empty database.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(crate) async fn run(
        &self,
        load: Load,
        connections: usize,
        database: &str,
    ) -> Result<Run, String> {
        let seconds = load.time().as_secs_f64();
        let load = match load {
            Load::Enqueue { callers } => json!({ "load": "enqueue", "callers": callers }),
            Load::Batch { batch } => json!({ "load": "batch", "callers": 1, "batch": batch }),
            Load::Stream { .. } => return Err("it reads no streams".into()),
            Load::Work { jobs } => json!({ "load": "work", "jobs": jobs }),
            Load::Life { callers } => json!({ "load": "life", "callers": callers }),
        };
        let mut load = load;
        load["seconds"] = json!(seconds);
        load["connections"] = json!(connections);
        let mut node = Command::new("node");
        node.arg("bench.mjs")
            .current_dir(&self.folder)
            .env("DATABASE_URL", database)
            .env("BENCH_LOAD", load.to_string());
        let output = said(&mut node, PATIENCE).await?;
        let outcome: Value = serde_json::from_str(&output).map_err(|error| error.to_string())?;
        let number = |key: &str| outcome[key].as_f64().ok_or(format!("no {key}"));
        let calls = outcome["times"].as_array().into_iter().flatten();
        Ok(Run {
            jobs: number("jobs")? as usize,
            seconds: number("seconds")?,
            calls: calls.filter_map(Value::as_f64).collect(),
        })
    }
}
