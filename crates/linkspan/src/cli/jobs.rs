//! `linkspan jobs`: the jobs of a running gateway.

use serde::Serialize;
use serde_json::Value;

use super::output::{self, Output, Row};
use super::remote::{Remote, each, text, time};
use super::{DONE, Done};

/// The arguments of `linkspan jobs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
    /// The form of the output.
    #[arg(long, value_enum, default_value = "table", global = true)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

/// The verbs of `linkspan jobs`.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List jobs, newest first.
    List {
        /// Only this integration's.
        #[arg(long, value_name = "NAME")]
        integration: Option<String>,
        /// Only in this state: queued, running, waiting, succeeded, failed, cancelled, expired.
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// Only this caller's, for administrators.
        #[arg(long, value_name = "NAME")]
        caller: Option<String>,
        /// Only those made at this time or later (RFC 3339).
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Only those made before this time (RFC 3339).
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show jobs; with --output json all that the gateway says of them.
    Show {
        /// The jobs' ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Stop queued, running and waiting jobs.
    Cancel {
        /// The jobs' ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Run failed and cancelled jobs again.
    Retry {
        /// The jobs' ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

/// A job as the gateway says it.
#[derive(Serialize)]
#[serde(transparent)]
struct Job(Value);

impl Row for Job {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "integration",
        "caller",
        "state",
        "attempts",
        "created",
        "finished",
        "problem",
    ];

    fn cells(&self) -> Vec<String> {
        let Self(job) = self;
        vec![
            text(&job["id"]),
            text(&job["integration"]),
            text(&job["caller"]),
            text(&job["state"]),
            text(&job["attempts"]),
            time(&job["created"]),
            time(&job["finished"]),
            text(&job["error"]["code"]),
        ]
    }
}

pub(super) fn run(args: Args) -> Done {
    let Args {
        remote,
        output,
        verb,
    } = args;
    remote.run(async move |gateway| {
        let (ids, action) = match &verb {
            Verb::List {
                integration,
                state,
                caller,
                from,
                until,
                limit,
            } => {
                let filters = [
                    ("integration", integration.clone()),
                    ("state", state.clone()),
                    ("caller", caller.clone()),
                    ("from", from.clone()),
                    ("until", until.clone()),
                ];
                let jobs = gateway.pages("jobs", &filters, *limit).await?;
                let jobs: Vec<_> = jobs.into_iter().map(Job).collect();
                output::list(output, &jobs, "such jobs")?;
                return Ok(DONE);
            }
            Verb::Show { ids } => (ids, None),
            Verb::Cancel { ids } => (ids, Some("cancel")),
            Verb::Retry { ids } => (ids, Some("retry")),
        };
        let (jobs, code) = each(ids, async |id| match action {
            None => gateway.get(&["v1", "jobs", &id], &[]).await.map(Job),
            Some(action) => gateway
                .post(&["v1", "jobs", &id, action], None)
                .await
                .map(Job),
        })
        .await?;
        output::print(output, &jobs)?;
        Ok(code)
    })
}
