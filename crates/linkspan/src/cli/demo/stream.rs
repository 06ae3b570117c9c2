//! Pattern 3 in the demo: product reviews come in by the gateway's own Kinesis stream, written by Amazon's client.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use linkspan_streams::kinesis::Amazon;
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use crate::access_key::AccessKey;

/// Reviews of invented customers, a JSON object a line, each with what is expected of it.
pub(super) const REVIEWS: &str = include_str!("reviews.jsonl");

/// The integration, and its stream.
const NAME: &str = "product-reviews";

/// How long the results may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One line of the reviews.
#[derive(Deserialize)]
pub(super) struct Review {
    pub(super) product: String,
    /// What comes of it: a label, or `dead` where no engine reads its language.
    pub(super) expected: String,
}

impl Review {
    /// The reviews with their lines.
    pub(super) fn all() -> Result<Vec<(Self, &'static str)>, Failure> {
        let read = |line: &'static str| serde_json::from_str(line).map(|review| (review, line));
        let all: Result<_, serde_json::Error> = REVIEWS.lines().map(read).collect();
        all.map_err(|error| Failure::of(&error))
    }
}

/// Writes the reviews to the stream as any producer would, waits for their results, and says what came. True where all of it was right.
pub(super) async fn show(base: &str, bearer: &str, access: &AccessKey) -> Result<bool, Failure> {
    let reviews = Review::all()?;
    put(base, access, &reviews).await?;
    let mut expected = BTreeMap::<&str, usize>::new();
    for (review, _) in &reviews {
        *expected.entry(&review.expected).or_default() += 1;
    }
    let found = results(base, bearer, reviews.len()).await?;
    let right = expected
        .iter()
        .all(|(label, count)| found.get(*label) == Some(count))
        && found.values().sum::<usize>() == reviews.len();
    let counts: Vec<_> = found
        .iter()
        .map(|(label, count)| match label.as_str() {
            "dead" => format!("{count} dead letters"),
            label => format!("{count} {label}"),
        })
        .collect();
    let _ = writeln!(
        std::io::stdout(),
        "stream-in:        {} reviews put by PutRecords; results: {}",
        reviews.len(),
        counts.join(", ")
    );
    if !right {
        eprintln!("wrong: expected of the stream {expected:?}");
    }
    Ok(right)
}

async fn put(
    base: &str,
    access: &AccessKey,
    reviews: &[(Review, &'static str)],
) -> Result<(), Failure> {
    let amazon = Amazon {
        region: "eu-central-1".to_owned(),
        endpoint: Some(base.to_owned()),
        access_key: Some((access.id.clone(), access.secret.clone())),
    };
    let client = amazon.client(None).await;
    let mut call = client.put_records().stream_name(NAME);
    for (review, line) in reviews {
        let entry = PutRecordsRequestEntry::builder()
            .data(Blob::new(line.as_bytes()))
            .partition_key(&review.product)
            .build()
            .map_err(|error| Failure::of(&error))?;
        call = call.records(entry);
    }
    let answer = call.send().await.map_err(|error| Failure::of(&error))?;
    match answer.failed_record_count() {
        None | Some(0) => Ok(()),
        Some(failed) => Err(Failure::work(format!("{failed} records were not taken"))),
    }
}

/// How many results have which label, when as many are there as records were put; those that failed are `dead`.
async fn results(
    base: &str,
    bearer: &str,
    expected: usize,
) -> Result<BTreeMap<String, usize>, Failure> {
    let client = Client::builder()
        .no_proxy()
        .build()
        .map_err(|error| Failure::of(&error))?;
    let url = format!("{base}/v1/results?integration={NAME}&limit=200");
    let looking = async {
        loop {
            let said: Value = client
                .get(&url)
                .bearer_auth(bearer)
                .send()
                .await?
                .error_for_status()?
                .json()
                .await?;
            let results = said["results"].as_array().cloned().unwrap_or_default();
            if results.len() >= expected {
                return Ok::<_, reqwest::Error>(results);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let results = tokio::time::timeout(PATIENCE, looking)
        .await
        .map_err(|_| Failure::work(format!("the stream's results did not come in {PATIENCE:?}")))?
        .map_err(|error| Failure::of(&error))?;
    let mut counts = BTreeMap::new();
    for result in results {
        let label = match result["status"].as_str() {
            Some("failed") => "dead",
            _ => result["result"]["answers"]["mood"]["label"]
                .as_str()
                .unwrap_or("no label"),
        };
        *counts.entry(label.to_owned()).or_default() += 1;
    }
    Ok(counts)
}
