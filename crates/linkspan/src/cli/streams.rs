//! `linkspan streams`: the streams that a running gateway reads, and what comes out of them.

mod tail;

use serde::Serialize;
use serde_json::Value;

use super::output::{self, Output, Row};
use super::remote::{Remote, text, time};
use super::{DONE, Done};

/// The arguments of `linkspan streams`.
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

/// The verbs of `linkspan streams`.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the streams, with how they go.
    List,
    /// List results of an integration, newest first.
    Results {
        /// The integration.
        integration: String,
        #[command(flatten)]
        which: Which,
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
    /// Show results of an integration as they come, until Ctrl-C: one JSON document a line with --output json, else a short line.
    Tail {
        /// The integration.
        integration: String,
        #[command(flatten)]
        which: Which,
        /// So many that are there already come first.
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: u32,
    },
}

/// Which results are meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only those that succeeded, or failed.
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only those that contain this text, whatever the case.
    #[arg(short, value_name = "TEXT")]
    q: Option<String>,
}

impl Which {
    /// As filters of a call, with the integration.
    fn filters(self, integration: String) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("integration", Some(integration)),
            ("status", self.status),
            ("q", self.q),
        ]
    }
}

/// A stream as the gateway says it.
#[derive(Serialize)]
#[serde(transparent)]
struct Stream(Value);

impl Row for Stream {
    const COLUMNS: &'static [&'static str] = &[
        "integration",
        "pattern",
        "source",
        "state",
        "rate/s",
        "committed",
        "dead",
        "in flight",
        "lag",
        "reason",
    ];

    fn cells(&self) -> Vec<String> {
        let Self(stream) = self;
        let source = &stream["source"];
        let place = [&source["cluster"], &source["region"]];
        let place = place.into_iter().find(|place| place.is_string());
        let place = place.map_or_else(String::new, |place| format!(" ({})", text(place)));
        vec![
            text(&stream["integration"]),
            text(&stream["pattern"]),
            format!(
                "{}: {}{place}",
                text(&source["kind"]),
                text(&source["name"])
            ),
            text(&stream["state"]),
            text(&stream["rate"]),
            text(&stream["committed"]),
            text(&stream["dead"]),
            text(&stream["in_flight"]),
            lag(&stream["lag"]),
            text(&stream["reason"]),
        ]
    }
}

/// A result as the gateway says it.
#[derive(Serialize)]
#[serde(transparent)]
struct Found(Value);

impl Row for Found {
    const COLUMNS: &'static [&'static str] =
        &["id", "status", "created", "record", "labels", "error"];

    fn cells(&self) -> Vec<String> {
        let Self(found) = self;
        vec![
            text(&found["id"]),
            text(&found["status"]),
            time(&found["created"]),
            text(&found["record"]),
            labels(&found["result"]["answers"]),
            text(&found["result"]["error"]["detail"]),
        ]
    }
}

pub(super) fn run(args: Args) -> Done {
    let Args {
        remote,
        output,
        verb,
    } = args;
    remote.run(async move |gateway| match verb {
        Verb::List => {
            let mut page: Value = gateway.get(&["v1", "streams"], &[]).await?;
            let found = match page["streams"].take() {
                Value::Array(streams) => streams,
                _ => Vec::new(),
            };
            let found: Vec<_> = found.into_iter().map(Stream).collect();
            output::list(output, &found, "integrations that read a stream")?;
            Ok(DONE)
        }
        Verb::Results {
            integration,
            which,
            from,
            until,
            limit,
        } => {
            let mut filters = which.filters(integration);
            filters.extend([("from", from), ("until", until)]);
            let found = gateway.pages("results", &filters, limit).await?;
            let found: Vec<_> = found.into_iter().map(Found).collect();
            output::list(output, &found, "such results")?;
            Ok(DONE)
        }
        Verb::Tail {
            integration,
            which,
            limit,
        } => tail::follow(&gateway, output, which.filters(integration), limit).await,
    })
}

/// How far behind, in a word.
fn lag(lag: &Value) -> String {
    match (&lag["records"], &lag["seconds"]) {
        (Value::Number(records), _) => format!("{records} records"),
        (_, Value::Number(seconds)) => format!("{seconds} s"),
        _ => String::new(),
    }
}

/// The labels and languages of the answers: what there is room for in a line.
fn labels(answers: &Value) -> String {
    let answers = answers.as_object().into_iter().flatten();
    let labels = answers.filter_map(|(service, answer)| {
        let label = ["label", "language", "verdict"]
            .iter()
            .map(|member| &answer[*member])
            .find(|label| label.is_string())?;
        Some(format!("{service}: {}", text(label)))
    });
    labels.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stream_and_a_result_are_a_line_each() {
        let stream = json!({ "integration": "reviews", "pattern": "stream-in", "state": "reading", "rate": 1.5, "committed": 7, "dead": 1,
            "in_flight": 2, "source": { "kind": "kafka", "name": "reviews", "cluster": "estate" }, "lag": { "records": 12 } });
        let cells = Stream(stream).cells();
        assert_eq!(cells.len(), Stream::COLUMNS.len());
        assert_eq!(
            (&*cells[2], &*cells[8]),
            ("kafka: reviews (estate)", "12 records")
        );
        let found = json!({ "id": "0198", "status": "failed", "created": "2026-11-23T08:00:00Z", "record": "shardId-0\u{1b}[2J/7",
            "result": { "answers": { "mood": { "label": "negative" }, "text": { "text": "…" } }, "error": { "detail": "not\nJSON" } } });
        let cells = Found(found).cells();
        assert_eq!(cells.len(), Found::COLUMNS.len());
        assert_eq!(
            &cells[3..],
            ["shardId-0 [2J/7", "mood: negative", "not JSON"]
        );
    }
}
