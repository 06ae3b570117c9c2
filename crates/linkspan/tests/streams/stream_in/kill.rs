//! SIGKILL of the gateway again and again, while a client writes to its stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use linkspan_testkit::{Answer, Client, Setup};
use reqwest::Method;
use serde_json::{Value, json};

use super::scene::until;
use super::{review, reviews};

/// How long the gateway is killed again and again, in seconds, unless this variable says otherwise.
const SECONDS: (&str, u64) = ("LINKSPAN_KILL_SECONDS", 20);

/// And how often at least, however long that takes.
const LEAST: u32 = 3;

/// Where a record was put: the shard and the sequence number.
type Place = (String, String);

/// What a client has written.
#[derive(Default)]
struct Written {
    /// Acknowledged.
    places: Mutex<BTreeSet<Place>>,
    stop: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_again_and_again_misses_no_record_and_has_each_effect_once() {
    let seconds = std::env::var(SECONDS.0).ok();
    let seconds = seconds.map_or(SECONDS.1, |text| text.parse().expect("a number"));
    let toml = format!(
        "[server]\nauth = \"none\"\n{}",
        reviews(
            "{ kinesis = \"reviews\", shards = 2, linger = \"5ms\" }",
            ""
        )
    );
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &toml);
    let mut gateway = setup.serve();
    let url = Arc::new(Mutex::new(gateway.url.clone()));
    let written = Arc::new(Written::default());
    let writers: Vec<_> = (0..2)
        .map(|writer| tokio::spawn(write(writer, url.clone(), written.clone())))
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut kills = 0;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end || kills < LEAST {
        let before = written.count();
        // Time for some records, and a moment that nobody chose.
        until("some records are taken", async || {
            (written.count() >= before + 20).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..1_000))).await;
        gateway.kill();
        kills += 1;
        gateway = setup.serve();
        *url.lock().unwrap_or_else(PoisonError::into_inner) = gateway.url.clone();
    }
    written.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("the client has not failed by itself");
    }
    let acknowledged = written.places.lock().unwrap().clone();
    let client = gateway.client("");
    let found = until("all acknowledged records have results", async || {
        let found = results(&client).await;
        let places: BTreeSet<_> = found.iter().map(|(place, _)| place.clone()).collect();
        assert_eq!(places.len(), found.len(), "a record has two results");
        acknowledged.is_subset(&places).then_some(found)
    })
    .await;
    // What was written and not acknowledged may be there too. When all is read, the labels add up to what is there.
    let moods = |results: &[(Place, String)]| {
        let mut moods = BTreeMap::<String, u64>::new();
        for (_, mood) in results {
            *moods.entry(mood.clone()).or_default() += 1;
        }
        moods
    };
    until("labels and results agree", async || {
        let counted = labels(&client).await;
        (counted == moods(&results(&client).await)).then_some(())
    })
    .await;
    println!(
        "{kills} kills, {} records acknowledged, {} results",
        acknowledged.len(),
        found.len()
    );
    assert_eq!(gateway.stop(), Some(0));
}

impl Written {
    fn count(&self) -> usize {
        self.places.lock().unwrap().len()
    }
}

/// Writes records one after another. One that is not acknowledged is given up: whether it is there is open.
async fn write(writer: usize, url: Arc<Mutex<String>>, written: Arc<Written>) {
    let mut number = writer;
    while !written.stop.load(Ordering::Relaxed) {
        let client = Client::new(&url.lock().unwrap().clone(), "");
        loop {
            number += 2;
            let body = json!({
                "StreamName": "reviews",
                "PartitionKey": format!("key {}", number % 13),
                "Data": STANDARD.encode(review(number)),
            });
            let request = client
                .request(Method::POST, "/")
                .header("x-amz-target", "Kinesis_20131202.PutRecord")
                .header("content-type", "application/x-amz-json-1.1")
                .body(body.to_string());
            let Ok(answer) = Answer::try_of(request).await else {
                break; // killed
            };
            if answer.status == 200 {
                let answer = answer.json();
                let text = |member: &str| answer[member].as_str().unwrap().to_owned();
                let place = (text("ShardId"), text("SequenceNumber"));
                let new = written.places.lock().unwrap().insert(place);
                assert!(new, "a sequence number is given twice");
            } else if answer.status >= 500 || answer.body.contains("ResourceNotFound") {
                break; // not ready yet
            } else {
                panic!("{}", answer.body);
            }
            if written.stop.load(Ordering::Relaxed) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The place and the mood of each result.
async fn results(client: &Client) -> Vec<(Place, String)> {
    let mut results = Vec::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/results?integration=reviews&limit=1000{after}");
        let page = client.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let page = page.json();
        for result in page["results"].as_array().unwrap() {
            let record = result["record"].as_str().unwrap();
            let mut parts = record.split('/').skip(1).map(str::to_owned);
            let place = (parts.next().unwrap(), parts.next().unwrap());
            let mood = &result["result"]["answers"]["mood"]["label"];
            results.push((place, mood.as_str().unwrap_or("none").to_owned()));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return results,
        }
    }
}

/// How often which mood was counted.
async fn labels(client: &Client) -> BTreeMap<String, u64> {
    let answer = client.get("/v1/streams/reviews/labels").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut labels = BTreeMap::new();
    let all: Value = answer.json();
    for count in all["counts"].as_array().unwrap() {
        if count["service"] == "mood" {
            let label = count["label"].as_str().unwrap().to_owned();
            *labels.entry(label).or_default() += count["count"].as_u64().unwrap();
        }
    }
    labels
}
