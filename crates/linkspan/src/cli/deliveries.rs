//! `linkspan deliveries`: the deliveries of a running gateway, dead letters above all.

use serde::Serialize;
use serde_json::{Value, json};

use super::output::{self, Output, Row};
use super::remote::{Gateway, Remote, each, text, time};
use super::{DONE, Done, Failure, SOME_FAILED};

/// The arguments of `linkspan deliveries`.
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

/// The verbs of `linkspan deliveries`.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List deliveries, newest first.
    List {
        #[command(flatten)]
        which: Which,
        /// Only this job's.
        #[arg(long, value_name = "ID")]
        job: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show deliveries with all their tries.
    Show {
        /// The deliveries' ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Send deliveries again, with the same ids, or now what waits for its next attempt: some by their ids, or many by --integration,
    /// --from and --until (dead ones, if no --state is given).
    Replay {
        /// The deliveries' ids.
        #[arg(value_name = "ID", conflicts_with_all = ["integration", "channel", "state", "from", "until"])]
        ids: Vec<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Give up deliveries that have not arrived: they are dead letters.
    GiveUp {
        /// The deliveries' ids.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// List where deliveries go: every channel with its circuit breaker, and how many wait, arrived or are dead.
    Endpoints,
    /// Hold back the deliveries of a channel.
    Pause {
        /// The integration.
        integration: String,
        /// The channel's name within it.
        channel: String,
        /// Why, for whoever wonders.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let the deliveries of a channel go on.
    Resume {
        /// The integration.
        integration: String,
        /// The channel's name within it.
        channel: String,
    },
}

/// Which deliveries are meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only this integration's.
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
    /// Only this channel's.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Only in this state: pending, sending, delivered, dead, paused.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only those made at this time or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only those made before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// A delivery as the gateway says it.
#[derive(Serialize)]
#[serde(transparent)]
struct Delivery(Value);

impl Row for Delivery {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "integration",
        "channel",
        "receiver",
        "state",
        "attempts",
        "updated",
        "next",
        "reason",
    ];

    fn cells(&self) -> Vec<String> {
        let Self(delivery) = self;
        vec![
            text(&delivery["id"]),
            text(&delivery["integration"]),
            text(&delivery["channel"]),
            text(&delivery["receiver"]),
            text(&delivery["state"]),
            text(&delivery["attempts"]),
            time(&delivery["updated"]),
            time(&delivery["due"]),
            text(&delivery["reason"]),
        ]
    }
}

impl Delivery {
    /// All of it, for people: a line a fact, then a line a try.
    fn detail(&self) -> String {
        let Self(delivery) = self;
        let mut page = format!("{}\n", text(&delivery["id"]));
        let mut fact = |name: &str, value: String| {
            if !value.is_empty() {
                page.push_str(&format!("  {name:<12} {value}\n"));
            }
        };
        for name in [
            "job",
            "integration",
            "channel",
            "kind",
            "receiver",
            "state",
            "reason",
        ] {
            fact(name, text(&delivery[name]));
        }
        let attempts = text(&delivery["attempts"]);
        fact(
            "attempts",
            format!("{attempts}, since it was made or replayed"),
        );
        for name in ["created", "updated", "finished"] {
            fact(name, time(&delivery[name]));
        }
        fact("next", time(&delivery["due"]));
        let tries = delivery["tries"].as_array().map_or(&[][..], Vec::as_slice);
        fact(
            "tries",
            format!("{}, over all replays, oldest first", tries.len()),
        );
        for tried in tries {
            let took = tried["took_ms"].as_f64().unwrap_or_default();
            let parts = [
                time(&tried["at"]),
                text(&tried["outcome"]),
                format!("{took:.0} ms"),
                text(&tried["status"]),
                text(&tried["detail"]),
            ];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            page.push_str(&format!("    {}\n", parts.join("  ")));
        }
        page
    }
}

/// An endpoint as the gateway says it.
#[derive(Serialize)]
#[serde(transparent)]
struct Endpoint(Value);

impl Row for Endpoint {
    const COLUMNS: &'static [&'static str] = &[
        "integration",
        "channel",
        "receiver",
        "breaker",
        "paused",
        "pending",
        "sending",
        "held",
        "delivered",
        "dead",
    ];

    fn cells(&self) -> Vec<String> {
        let Self(endpoint) = self;
        let counted = ["pending", "sending", "held", "delivered", "dead"];
        let mut cells = vec![
            text(&endpoint["integration"]),
            text(&endpoint["channel"]),
            if endpoint["configured"] == false {
                "not configured".to_owned()
            } else {
                text(&endpoint["receiver"])
            },
            text(&endpoint["breaker"]),
            text(&endpoint["paused"]["reason"]),
        ];
        cells.extend(counted.map(|state| text(&endpoint[state])));
        cells
    }
}

/// How many were sent again.
#[derive(Serialize)]
#[serde(transparent)]
struct Replayed(Value);

impl Row for Replayed {
    const COLUMNS: &'static [&'static str] = &["replayed", "left"];

    fn cells(&self) -> Vec<String> {
        vec![text(&self.0["replayed"]), text(&self.0["left"])]
    }
}

pub(super) fn run(args: Args) -> Done {
    let Args {
        remote,
        output,
        verb,
    } = args;
    remote.run(async move |gateway| match verb {
        Verb::List { which, job, limit } => {
            let filters = [
                ("job", job),
                ("integration", which.integration),
                ("channel", which.channel),
                ("state", which.state),
                ("from", which.from),
                ("until", which.until),
            ];
            let found = gateway.pages("deliveries", &filters, limit).await?;
            let found: Vec<_> = found.into_iter().map(Delivery).collect();
            output::list(output, &found, "such deliveries")?;
            Ok(DONE)
        }
        Verb::Endpoints => {
            let mut page: Value = gateway.get(&["v1", "endpoints"], &[]).await?;
            let found = match page["endpoints"].take() {
                Value::Array(endpoints) => endpoints,
                _ => Vec::new(),
            };
            let found: Vec<_> = found.into_iter().map(Endpoint).collect();
            output::list(output, &found, "channels")?;
            Ok(DONE)
        }
        Verb::Show { ids } => {
            let (found, code) = each(&ids, async |id| {
                gateway
                    .get(&["v1", "deliveries", &id], &[])
                    .await
                    .map(Delivery)
            })
            .await?;
            if output == Output::Table {
                let pages: Vec<_> = found.iter().map(Delivery::detail).collect();
                output::write(pages.join("\n").as_bytes())?;
            } else {
                output::print(output, &found)?;
            }
            Ok(code)
        }
        Verb::Replay { ids, which } if ids.is_empty() => replay(&gateway, output, which).await,
        Verb::Replay { ids, .. } => command(&gateway, output, &ids, "replay").await,
        Verb::GiveUp { ids } => command(&gateway, output, &ids, "give-up").await,
        Verb::Pause {
            integration,
            channel,
            reason,
        } => {
            let body = json!({ "reason": reason });
            let path = ["v1", "endpoints", &integration, &channel, "pause"];
            let endpoint = gateway.post(&path, Some(&body)).await?;
            output::print(output, &[Endpoint(endpoint)])?;
            Ok(DONE)
        }
        Verb::Resume {
            integration,
            channel,
        } => {
            let path = ["v1", "endpoints", &integration, &channel, "resume"];
            let endpoint = gateway.post(&path, None).await?;
            output::print(output, &[Endpoint(endpoint)])?;
            Ok(DONE)
        }
    })
}

async fn command(gateway: &Gateway, output: Output, ids: &[String], action: &str) -> Done {
    let (changed, code) = each(ids, async |id| {
        let path = ["v1", "deliveries", &id, action];
        gateway.post(&path, None).await.map(Delivery)
    })
    .await?;
    output::print(output, &changed)?;
    Ok(code)
}

/// Many at once. Those that are left could not be sent again: that is some of the work.
async fn replay(gateway: &Gateway, output: Output, which: Which) -> Done {
    if which.integration.is_none() && which.from.is_none() && which.until.is_none() {
        return Err(Failure::usage(
            "say which deliveries: their ids, or --integration, --from or --until",
        ));
    }
    let mut body = serde_json::Map::new();
    let given = [
        ("integration", which.integration),
        ("channel", which.channel),
        ("state", which.state),
        ("from", which.from),
        ("until", which.until),
    ];
    for (name, value) in given {
        body.extend(value.map(|value| (name.to_owned(), Value::String(value))));
    }
    let done: Value = gateway
        .post(&["v1", "deliveries", "replay"], Some(&Value::Object(body)))
        .await?;
    let left = done["left"].as_u64().unwrap_or(0);
    output::print(output, &[Replayed(done)])?;
    Ok(if left == 0 { DONE } else { SOME_FAILED })
}
