//! What a batch saves: `cargo bench -p linkspan --bench batches`.
//!
//! Short reviews through `detect-language` and `sentiment`, and a filter over their results: one by one, 64 at once as 64 runs, and 64 as
//! one batch. A line each, in records a second. Good as ratios on one machine, not as promises.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use linkspan::engines::Engines;
use linkspan::jq::Filter;
use linkspan::metrics::Metrics;
use linkspan::pipeline::{Pipeline, Request};
use linkspan_model::config::{Config, Reference};
use linkspan_model::{InvocationId, ResultDocument};
use serde_json::Value;
use tokio::sync::Notify;

const TOML: &str = r#"
[service.language]
task = "detect-language"
[service.mood]
task = "sentiment"
[integration.reviews]
pattern = "async"
steps = ["language", "mood"]
"#;

const BATCH: usize = 64;

/// How long each way is measured.
const TIME: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let nothing = |_: Reference<'_>| Err(String::new());
    let config = Config::parse(TOML, "linkspan.toml", &nothing)?;
    let engines = Engines::new(&config)?;
    let integrations =
        engines.integrations(&config, &Arc::new(Metrics::new()), &Arc::new(Notify::new()));
    let pipeline = &integrations["reviews"].pipeline;
    let requests: Vec<_> = (0..BATCH).map(review).collect();
    measure("one by one", || async {
        for (id, request) in &requests {
            pipeline.run(*id, request).await;
        }
    })
    .await;
    measure("64 at once", || single(pipeline, &requests)).await;
    measure("a batch of 64", || async {
        pipeline.run_all(&requests).await;
    })
    .await;

    let filter = Filter::compile(r#".answers.mood.label == "positive""#)?;
    let results = pipeline.run_all(&requests).await;
    let results: Result<Vec<Value>, _> = results.iter().map(document).collect();
    let results = results?;
    let results: Vec<_> = results.iter().collect();
    measure("a filter, 64 at once", || async {
        join_all(results.iter().map(|result| filter.is_true_limited(result))).await;
    })
    .await;
    measure("a filter, a batch of 64", || async {
        filter.are_true(&results).await;
    })
    .await;
    Ok(())
}

async fn single(pipeline: &Pipeline, requests: &[(InvocationId, Request)]) {
    join_all(
        requests
            .iter()
            .map(|(id, request)| pipeline.run(*id, request)),
    )
    .await;
}

fn document(result: &ResultDocument) -> serde_json::Result<Value> {
    serde_json::to_value(result)
}

fn review(number: usize) -> (InvocationId, Request) {
    let text = format!("This is review number {number}, and I like the kettle: it is wonderful.");
    let request = Request {
        text: Some(text.into()),
        ..Request::default()
    };
    (InvocationId::new(), request)
}

async fn measure<F: Future<Output = ()>>(what: &str, mut batch: impl FnMut() -> F) {
    batch().await;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < TIME {
        batch().await;
        count += BATCH;
    }
    let rate = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / start.elapsed().as_secs_f64();
    println!("{what:<28} {rate:>10.0} records/s");
}
