//! `linkspan demo`: the main job, over real HTTP, on files that come along.

mod kafka;
mod mailbox;
mod receivers;
mod specimens;
mod stream;
mod webhook;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use linkspan_model::ResultDocument;
use linkspan_model::config::{Config, LogFormat, Reference};
use reqwest::{Client, StatusCode};

use self::receivers::Receivers;
use self::specimens::{SPECIMENS, Specimen};
use super::serve::interrupted;
use super::{DONE, Done, Failure, SOME_FAILED, keys, output, runtime};
use crate::access_key::AccessKey;
use crate::keys::HashKey;
use crate::logging;
use crate::served::Served;
use crate::summary::Summary;

/// The arguments of `linkspan demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// End after the table, with exit code 1 if an answer was wrong.
    #[arg(long)]
    exit: bool,
    /// Listen here; without it 127.0.0.1:8080, or a free port where that is taken.
    #[arg(long, value_name = "ADDRESS", value_parser = super::serve::address)]
    listen: Option<SocketAddr>,
    /// Show pattern 4 in place of it, between two Kafka clusters: the brokers of the estate's. The topics reviews and reviews.… are made
    /// and written there.
    #[arg(long, value_name = "BROKERS", requires = "cloud")]
    estate: Option<String>,
    /// The brokers of the other cluster.
    #[arg(long, value_name = "BROKERS", requires = "estate")]
    cloud: Option<String>,
}

/// One line of the table.
struct Answered {
    file: &'static str,
    pattern: &'static str,
    summary: Summary,
    took: Duration,
    fault: Option<String>,
}

pub(super) fn run(args: &Args) -> Done {
    logging::start(LogFormat::Auto, "warn");
    let folder = tempfile::Builder::new()
        .prefix("linkspan-demo-")
        .tempdir()
        .map_err(|error| Failure::of(&error))?;
    if let (Some(estate), Some(cloud)) = (&args.estate, &args.cloud) {
        let clusters = kafka::Clusters {
            estate: estate.clone(),
            cloud: cloud.clone(),
        };
        return runtime()?.block_on(between(&clusters, folder.path()));
    }
    for specimen in SPECIMENS {
        std::fs::write(folder.path().join(specimen.file), specimen.bytes)
            .map_err(|error| Failure::of(&error))?;
    }
    runtime()?.block_on(async {
        let mut receivers = Receivers::start(folder.path()).await?;
        let served = Box::pin(start(args.listen, folder.path(), &receivers)).await?;
        let base = format!("http://{}", served.address);
        eprintln!(
            "linkspan {} listens on {base}; its files are in {}",
            env!("CARGO_PKG_VERSION"),
            folder.path().display()
        );
        let gateway = &served.gateway;
        let hash_key = HashKey::of(&gateway.config, folder.path(), &*gateway.store)
            .await
            .map_err(|error| Failure::of(&error))?;
        let scopes = ["invoke", "read", "admin"].map(str::to_owned);
        let key = keys::add(
            &hash_key,
            &*served.gateway.store,
            "demo",
            &scopes,
            None,
            None,
        )
        .await?
        .reveal();
        let access = keys::add_access(
            &hash_key,
            &*served.gateway.store,
            "demo",
            &scopes,
            None,
            None,
        )
        .await?;
        let shown = tokio::select! {
            shown = show(&base, &key, &access, &mut receivers) => Some(shown?),
            () = interrupted() => None,
        };
        let code = match shown {
            Some(true) => DONE,
            Some(false) => SOME_FAILED,
            None => DONE,
        };
        if shown.is_some() && !args.exit {
            invite(&base, &key, folder.path());
            interrupted().await;
            eprintln!("stopping");
        }
        served.stop().await;
        Ok(code)
    })
}

/// Pattern 4 between two clusters.
async fn between(clusters: &kafka::Clusters, folder: &Path) -> Done {
    let served = Box::pin(kafka::start(clusters, folder)).await?;
    let shown = tokio::select! {
        shown = kafka::show(clusters) => shown,
        () = interrupted() => Ok(true),
    };
    served.stop().await;
    Ok(if shown? { DONE } else { SOME_FAILED })
}

async fn start(
    listen: Option<SocketAddr>,
    folder: &Path,
    receivers: &Receivers,
) -> Result<Served, Failure> {
    let preferred = listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
    let resolve = |reference: Reference<'_>| receivers.resolve(reference);
    let mut config = Config::parse(include_str!("demo.toml"), "demo.toml", &resolve)
        .map_err(|faults| Failure::work(faults.to_string()))?;
    config.server.listen = preferred;
    config
        .check_listen()
        .map_err(|sentence| Failure::usage(format!("--listen {preferred}: {sentence}")))?;
    if listen.is_none() && std::net::TcpListener::bind(preferred).is_err() {
        config.server.listen.set_port(0);
    }
    Served::start(config, folder)
        .await
        .map_err(|error| Failure::of(&error))
}

/// Puts every file through its sync and its async integration, and prints the table and what arrived elsewhere. True where all of it
/// was right.
async fn show(
    base: &str,
    key: &str,
    access: &AccessKey,
    receivers: &mut Receivers,
) -> Result<bool, Failure> {
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(120))
        .build()
        .map_err(|error| Failure::of(&error))?;
    let bar = progress(2 * SPECIMENS.len() as u64);
    let mut rows = Vec::new();
    for specimen in SPECIMENS {
        bar.set_message(specimen.file);
        let now = invoke(&client, base, key, specimen, false).await;
        bar.inc(1);
        let later = invoke(&client, base, key, specimen, true).await;
        bar.inc(1);
        let differ = matches!((&now, &later), (Ok((now, _)), Ok((later, _))) if now.answers != later.answers);
        for (pattern, outcome) in [("sync", now), ("async", later)] {
            rows.push(match outcome {
                Ok((result, took)) => Answered {
                    file: specimen.file,
                    pattern,
                    summary: Summary::of(&result),
                    took,
                    fault: specimen.fault(&result).or_else(|| {
                        differ.then(|| "sync and async answered differently".to_owned())
                    }),
                },
                Err((problem, took)) => Answered {
                    file: specimen.file,
                    pattern,
                    summary: Summary {
                        words: "no answer".to_owned(),
                        confidence: None,
                    },
                    took,
                    fault: Some(problem),
                },
            });
        }
    }
    bar.finish_and_clear();
    let right = rows.iter().all(|row| row.fault.is_none());
    let table = output::table(
        &["file", "pattern", "answer", "confidence", "ms", ""],
        rows.iter().map(|row| {
            vec![
                row.file.to_owned(),
                row.pattern.to_owned(),
                row.summary.words.clone(),
                row.summary
                    .confidence
                    .map(|confidence| format!("{confidence:.2}"))
                    .unwrap_or_default(),
                format!("{:.0}", row.took.as_secs_f64() * 1000.0),
                if row.fault.is_none() {
                    "right"
                } else {
                    "WRONG"
                }
                .to_owned(),
            ]
        }),
    );
    let _ = writeln!(std::io::stdout(), "{table}");
    for row in rows {
        if let Some(fault) = row.fault {
            eprintln!("wrong: {} by {}: {fault}", row.file, row.pattern);
        }
    }
    let arrived = receivers.show().await;
    let streamed = stream::show(base, key, access).await?;
    let _ = writeln!(std::io::stdout(), "console:          {base}/");
    Ok(right && arrived && streamed)
}

type Outcome = Result<(ResultDocument, Duration), (String, Duration)>;

/// One file through one integration; asynchronously, the job is followed to its end.
async fn invoke(
    client: &Client,
    base: &str,
    key: &str,
    specimen: &Specimen,
    later: bool,
) -> Outcome {
    let start = Instant::now();
    let work = async {
        let suffix = if later { "-later" } else { "" };
        let url = format!(
            "{base}/v1/integrations/{}{suffix}/invocations",
            specimen.integration
        );
        let mut response = client
            .post(url)
            .bearer_auth(key)
            .header("content-type", specimen.media_type)
            .body(specimen.bytes)
            .send()
            .await?;
        if later && response.status() == StatusCode::ACCEPTED {
            let location = response
                .headers()
                .get("location")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            let result = format!("{base}{location}/result");
            response = client
                .get(result)
                .bearer_auth(key)
                .header("prefer", "wait=60")
                .send()
                .await?;
        }
        let ok = response.status() == StatusCode::OK;
        Ok::<_, reqwest::Error>((ok, response.text().await?))
    };
    let outcome = work.await;
    let took = start.elapsed();
    match outcome {
        Ok((true, text)) => serde_json::from_str(&text)
            .map(|result| (result, took))
            .map_err(|error| (format!("the answer is no result document: {error}"), took)),
        Ok((false, problem)) => Err((problem, took)),
        Err(error) => Err((logging::chain(&error), took)),
    }
}

/// What to try next, as commands that work when pasted.
fn invite(base: &str, key: &str, folder: &Path) {
    let folder = folder.display();
    println!(
        "\nThe gateway stays up; Ctrl-C ends it. Open the console at {base}/ and sign in with this key:\n\n\
         {key}\n\n\
         Or try it from another terminal:\n\n\
         export KEY={key}\n\n\
         # sync: the answer in the response\n\
         curl -s {base}/v1/integrations/onboarding/invocations -H \"Authorization: Bearer $KEY\" --data-binary @{folder}/passport.png\n\n\
         # async: accepted, durable, answered later; only the integration's pattern differs\n\
         curl -si {base}/v1/integrations/documents-later/invocations -H \"Authorization: Bearer $KEY\" --data-binary @{folder}/bill-scan.jpg\n\
         curl -s {base}/v1/jobs -H \"Authorization: Bearer $KEY\"\n\n\
         # the sync integration, asked to answer later; an idempotency key makes sending it twice safe\n\
         curl -si {base}/v1/integrations/documents/invocations -H \"Authorization: Bearer $KEY\" -H 'Prefer: respond-async' -H 'Idempotency-Key: bill-1' --data-binary @{folder}/bill-scan.jpg\n\n\
         # a text as JSON\n\
         curl -s {base}/v1/integrations/feedback/invocations -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d '{{\"text\": \"The crossing was wonderful!\"}}'\n\n\
         # what was delivered, and where to\n\
         curl -s {base}/v1/deliveries -H \"Authorization: Bearer $KEY\"\n\n\
         # the HTTP face, for people and for Prometheus\n\
         curl -s {base}/docs\n\
         curl -s {base}/metrics -H \"Authorization: Bearer $KEY\"\n"
    );
}

fn progress(steps: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}
