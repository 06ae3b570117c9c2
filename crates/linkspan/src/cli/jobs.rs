//! `linkspan jobs`: the jobs of a running gateway.

use serde::Serialize;
use serde_json::Value;

use super::output::{self, Output, Row};
use super::remote::{Gateway, Remote, each, text, time};
use super::{DONE, Done, Failure, SOME_FAILED};

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
    /// Run failed and cancelled jobs again: by their ids, or many by --integration, --from and --until (failed ones, if no --state is
    /// given). For a stream that is the replay of dead letters.
    Retry {
        /// The jobs' ids.
        #[arg(value_name = "ID", conflicts_with_all = ["integration", "state", "from", "until"])]
        ids: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
}

/// Which jobs are retried together.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only this integration's.
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
    /// Only in this state: failed, cancelled.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those made at this time or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only those made before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
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

/// How many were queued again.
#[derive(Serialize)]
#[serde(transparent)]
struct Retried(Value);

impl Row for Retried {
    const COLUMNS: &'static [&'static str] = &["retried", "left"];

    fn cells(&self) -> Vec<String> {
        vec![text(&self.0["retried"]), text(&self.0["left"])]
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
            Verb::Retry { ids, which } if ids.is_empty() => {
                return retry(&gateway, output, which).await;
            }
            Verb::Retry { ids, .. } => (ids, Some("retry")),
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

/// Many at once. Those that are left could not be retried: that is some of the work.
async fn retry(gateway: &Gateway, output: Output, which: &Which) -> Done {
    if which.integration.is_none() && which.from.is_none() && which.until.is_none() {
        return Err(Failure::usage(
            "say which jobs: their ids, or --integration, --from or --until",
        ));
    }
    let mut body = serde_json::Map::new();
    let given = [
        ("integration", &which.integration),
        ("state", &which.state),
        ("from", &which.from),
        ("until", &which.until),
    ];
    for (name, value) in given {
        body.extend(
            value
                .clone()
                .map(|value| (name.to_owned(), Value::String(value))),
        );
    }
    let done: Value = gateway
        .post(&["v1", "jobs", "retry"], Some(&Value::Object(body)))
        .await?;
    let left = done["left"].as_u64().unwrap_or(0);
    output::print(output, &[Retried(done)])?;
    Ok(if left == 0 { DONE } else { SOME_FAILED })
}
