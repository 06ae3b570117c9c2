//! `stream-in`, in a gateway in this process: its own streams and a real Kafka cluster.

mod bodies;
mod kill;
mod scene;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use linkspan::store::{Content, Job, ResultQuery};
use linkspan_model::JobState;
use linkspan_testkit::{KafkaCluster, Setup};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};

use scene::{Scene, until};

const SERVICES: &str = "
[service.mood]
task = \"sentiment\"
[service.language]
task = \"detect-language\"
";

const TEXTS: [(&str, &str); 2] = [
    (
        "The crossing was wonderful and the crew was very friendly.",
        "positive",
    ),
    (
        "Our cabin smelled awful and nobody apologised for that.",
        "negative",
    ),
];

fn reviews(source: &str, more: &str) -> String {
    format!(
        "{SERVICES}\n[integration.reviews]\npattern = \"stream-in\"\nsteps = [\"language\", \"mood\"]\nsource = {source}\n{more}"
    )
}

fn review(number: usize) -> String {
    json!({ "text": format!("Review number {number}. {}", TEXTS[number % 2].0) }).to_string()
}

/// What every test of the pipeline expects, whatever the source: each record once, its label counted, its result delivered.
async fn all_came(scene: &Scene, count: usize) {
    let results = scene.results(count).await;
    let mut moods = BTreeMap::<String, u64>::new();
    for (job, result) in &results {
        assert_eq!(job.state, JobState::Succeeded, "{result}");
        assert_eq!(result["id"], job.id.to_string());
        let mood = result["answers"]["mood"]["label"].as_str().unwrap();
        *moods.entry(mood.to_owned()).or_default() += 1;
    }
    assert_eq!(scene.labels("mood").await, moods);
    assert_eq!(moods.values().sum::<u64>(), count as u64);
    assert_eq!(scene.labels("language").await["en"], count as u64);
    let ids: BTreeSet<_> = results.iter().map(|(job, _)| job.id.to_string()).collect();
    until("all results are delivered", async || {
        (scene.delivered() == ids).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_each_record_is_stored_counted_and_delivered() {
    let scene = Scene::start(|receiver| {
        let deliver = format!("deliver = [{receiver}]");
        reviews("{ kinesis = \"reviews\", shards = 3 }", &deliver)
    })
    .await;
    scene.stream("reviews").await;
    for number in 0..90 {
        scene
            .put("reviews", &format!("key {}", number % 7), &review(number))
            .await;
    }
    all_came(&scene, 90).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_kafka_the_same_comes_with_nothing_but_the_source_changed() {
    let cluster = KafkaCluster::shared();
    let topic = "reviews.in";
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", cluster.brokers());
    let admin: AdminClient<_> = client.create().unwrap();
    let new = NewTopic::new(topic, 3, TopicReplication::Fixed(1));
    let made = admin
        .create_topics([&new], &AdminOptions::new())
        .await
        .unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    let producer: BaseProducer = client.create().unwrap();
    let write = |from: usize, to: usize| {
        for number in from..to {
            let (key, value) = (format!("key {}", number % 7), review(number));
            let record = BaseRecord::to(topic).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    };
    write(0, 45);
    let kafka = format!("[kafka.estate]\nbrokers = \"{}\"\n", cluster.brokers());
    let mut scene = Scene::start(|receiver| {
        let deliver = format!("deliver = [{receiver}]\n{kafka}");
        reviews("{ kafka = \"reviews.in\" }", &deliver)
    })
    .await;
    all_came(&scene, 45).await;
    // A restart reads on where the store says.
    scene.restart().await;
    write(45, 90);
    all_came(&scene, 90).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_a_dead_letter_whose_retry_reads_it_anew() {
    let source = |filter: &str| format!("{{ kinesis = \"reviews\", text = '{filter}' }}");
    let first = source(".review");
    let mut scene = Scene::start(|receiver| {
        let deliver = format!("attempts = 2\ndeliver = [{receiver}]");
        reviews(&first, &deliver)
    })
    .await;
    scene.stream("reviews").await;
    let good = json!({ "review": TEXTS[0].0 }).to_string();
    let other = json!({ "opinion": TEXTS[1].0 }).to_string();
    for value in [&good, &other, "no JSON"] {
        scene.put("reviews", "key", value).await;
    }
    let results = scene.results(3).await;
    let state = |results: &[(Job, Value)], state| {
        let found = results.iter().filter(|(job, _)| job.state == state);
        found.map(|(job, _)| job.clone()).collect::<Vec<_>>()
    };
    assert_eq!(state(&results, JobState::Succeeded).len(), 1);
    let failed = state(&results, JobState::Failed);
    assert_eq!(failed.len(), 2);
    for job in &failed {
        let problem = job.problem.as_ref().unwrap();
        assert_eq!(problem.code.name(), "unreadable-document", "{problem:?}");
        let document = scene.store().document(job.id).await.unwrap();
        assert!(document.is_some(), "its bytes are kept");
    }
    // Nothing has changed: it fails again, for the same reason.
    let mending = failed.iter().find(|job| {
        let problem = job.problem.as_ref().unwrap();
        problem.detail.contains("gives no text")
    });
    let mending = mending.expect("the one with another member").id;
    let again = scene.retry(mending).await;
    assert_eq!(again.state, JobState::Failed);
    assert_eq!(again.problem.unwrap().code.name(), "unreadable-document");
    // The filter is mended.
    scene.configure(&first, &source(".review // .opinion"));
    scene.restart().await;
    let again = scene.retry(mending).await;
    assert_eq!(again.state, JobState::Succeeded);
    let result = scene.store().result(mending).await.unwrap().unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["answers"]["mood"]["label"], "negative");
    until("the replayed record's result is delivered", async || {
        scene
            .delivered_as("succeeded")
            .contains(&mending.to_string())
            .then_some(())
    })
    .await;
    assert_eq!(scene.results(3).await.len(), 3, "no record came again");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_large_for_its_row_keeps_all_of_its_bytes() {
    let source = |filter: &str| format!("{{ kinesis = \"reviews\", text = '{filter}' }}");
    let first = source(".review");
    let mut scene = Scene::start(|_| reviews(&first, "")).await;
    scene.stream("reviews").await;
    let padding = "x".repeat(300_000);
    let large = json!({ "padding": padding, "opinion": TEXTS[1].0 }).to_string();
    scene.put("reviews", "key", &large).await;
    let results = scene.results(1).await;
    let job = &results[0].0;
    assert_eq!(job.state, JobState::Failed);
    let document = scene.store().document(job.id).await.unwrap();
    assert!(document.is_some_and(|it| matches!(it.content, Content::Blob(_))));
    // What comes last in the record is still there.
    scene.configure(&first, &source(".opinion"));
    scene.restart().await;
    let again = scene.retry(job.id).await;
    assert_eq!(again.state, JobState::Succeeded, "{:?}", again.problem);
    let result = scene.store().result(job.id).await.unwrap().unwrap();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["answers"]["mood"]["label"], "negative");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_are_split_and_merged_under_load_and_each_record_comes_once() {
    let scene = Scene::start(|_| reviews("{ kinesis = \"reviews\" }", "")).await;
    scene.stream("reviews").await;
    let mut number = 0;
    let half = (1_u128 << 127).to_string();
    let steps = [
        (
            "SplitShard",
            json!({ "StreamName": "reviews", "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": half }),
        ),
        (
            "MergeShards",
            json!({ "StreamName": "reviews", "ShardToMerge": "shardId-000000000001", "AdjacentShardToMerge": "shardId-000000000002" }),
        ),
        (
            "SplitShard",
            json!({ "StreamName": "reviews", "ShardToSplit": "shardId-000000000003", "NewStartingHashKey": half }),
        ),
    ];
    for (operation, body) in steps {
        for _ in 0..40 {
            scene
                .put("reviews", &format!("key {}", number % 11), &review(number))
                .await;
            number += 1;
        }
        scene.call(operation, body).await;
    }
    for _ in 0..40 {
        scene
            .put("reviews", &format!("key {}", number % 11), &review(number))
            .await;
        number += 1;
    }
    let results = scene.results(number).await;
    let shards: BTreeSet<_> = results
        .iter()
        .map(|(job, _)| {
            job.request_id
                .split('/')
                .nth(1)
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(shards.len(), 6, "{shards:?}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_and_starts_again_loses_nothing_and_repeats_nothing() {
    let mut scene = Scene::start(|_| reviews("{ kinesis = \"reviews\", shards = 2 }", "")).await;
    scene.stream("reviews").await;
    for round in 0..4 {
        for number in 0..60 {
            scene
                .put("reviews", &format!("key {number}"), &review(number + round))
                .await;
        }
        scene.restart().await;
    }
    scene.results(240).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_stored_in_the_order_of_their_shard_or_of_their_key() {
    const RECORDS: usize = 240;
    const LONG: usize = 400;
    for order in ["partition", "key"] {
        let source = format!(
            "{{ kinesis = \"reviews\", shards = 2, order = \"{order}\", linger = \"0s\" }}"
        );
        let scene = Scene::start(|_| reviews(&source, "concurrency = 16")).await;
        scene.stream("reviews").await;
        let mut keys = BTreeMap::new();
        for number in 0..RECORDS {
            let key = format!("key {}", number % 11);
            // Every third takes far longer than those behind it.
            let more = TEXTS[0].0.repeat(if number % 3 == 0 { LONG } else { 1 });
            let value = json!({ "text": format!("{} {more}", review(number)) });
            let body = json!({ "StreamName": "reviews", "PartitionKey": key, "Data": STANDARD.encode(value.to_string()) });
            let answer = scene.call("PutRecord", body).await;
            let text = |member: &str| answer[member].as_str().unwrap().to_owned();
            keys.insert((text("ShardId"), text("SequenceNumber")), key);
        }
        // When what came of a record was committed, by where the record stands.
        let mut committed = BTreeMap::<_, Vec<_>>::new();
        for (job, _) in scene.results(RECORDS).await {
            let mut place = job.request_id.rsplit('/').map(str::to_owned);
            let (sequence, shard) = (place.next().unwrap(), place.next().unwrap());
            let number: u128 = sequence.parse().unwrap();
            let of = match order {
                "key" => keys[&(shard, sequence)].clone(),
                _ => shard,
            };
            let commits = committed.entry(of).or_default();
            commits.push((number, job.finished.unwrap()));
        }
        assert_eq!(committed.len(), if order == "key" { 11 } else { 2 });
        let mut all = BTreeSet::new();
        for (of, mut commits) in committed {
            commits.sort_unstable();
            all.extend(commits.iter().map(|(_, at)| *at));
            assert!(commits.is_sorted_by_key(|(_, at)| at), "{of}: {commits:?}");
        }
        assert!(all.len() > 2, "they were not all one commit: {all:?}");
        scene.stop().await;
    }
}

/// An aggregate of the Kinesis Producer Library: the keys shop-1, shop-2 and shop-1 again, each with a sentence.
const AGGREGATE: &str = "84mawgoGc2hvcC0xCgZzaG9wLTIaGwgAGhdUaGUgY3JldyB3YXMgd29uZGVyZnVsLhoYCAEaFFRoZSBjYWJpbiB3YXMgYXdmdWwu\
                         GiAIABocQSBsb3ZlbHksIGZyaWVuZGx5IGNyb3NzaW5nLvKCjZvjql1+GvbdYjQCnRs=";

#[tokio::test(flavor = "multi_thread")]
async fn each_record_of_an_aggregate_has_a_result_of_its_own_and_none_where_it_is_not_unwrapped() {
    let unwrap = "unwrap = [\"kpl\"]";
    let source = format!("{{ kinesis = \"reviews\", {unwrap} }}");
    let mut scene = Scene::start(|_| reviews(&source, "")).await;
    scene.stream("reviews").await;
    let put = async |scene: &Scene| {
        let body = json!({ "StreamName": "reviews", "PartitionKey": "any", "Data": AGGREGATE });
        let answer = scene.call("PutRecord", body).await;
        answer["SequenceNumber"].as_str().unwrap().to_owned()
    };
    let sequence = put(&scene).await;
    let results = scene.results(3).await;
    let mood = |nth: usize| {
        let place = format!("{sequence}/{nth}");
        let found = results
            .iter()
            .find(|(job, _)| job.request_id.ends_with(&place));
        let (_, result) = found.unwrap_or_else(|| panic!("a result of {place}"));
        result["answers"]["mood"]["label"].clone()
    };
    assert_eq!(
        [mood(0), mood(1), mood(2)],
        ["positive", "negative", "positive"]
    );
    // Read otherwise from here on, it goes on behind what is done.
    scene.configure(unwrap, "unwrap = []");
    scene.restart().await;
    let whole = put(&scene).await;
    until("the aggregate as it is", async || {
        let query = ResultQuery {
            limit: 10,
            ..ResultQuery::default()
        };
        let page = scene.store().list_results(query).await.unwrap();
        let is_whole = |(job, _): &(Job, String)| job.request_id.ends_with(&whole);
        page.results.iter().any(is_whole).then_some(())
    })
    .await;
    scene.stop().await;
}

#[test]
fn check_finds_what_is_wrong_with_a_source_and_a_cluster_and_calls_nobody() {
    let more = "[kafka.estate]\nbrokers = \"192.0.2.1:9092\"\nproperties = { \"no.such.property\" = 1 }\n\
                [kafka.cloud]\nbrokers = \"192.0.2.1:9092\"\ntls = { ca = \"missing.pem\" }\n";
    let source = "{ kafka = \"reviews.in\", cluster = \"cloud\", text = '.review |' }";
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &reviews(source, more));
    let output = setup.command(&["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "integration.reviews.source.text: is no jq filter that can be used",
        "kafka.estate.properties: librdkafka does not take the property no.such.property",
        "kafka.cloud.tls.ca: cannot read",
    ] {
        assert!(said.contains(expected), "{expected} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_by_its_record_is_that_record() {
    let scene = Scene::start(|_| reviews("{ kinesis = \"reviews\" }", "")).await;
    scene.stream("reviews").await;
    let sequence = scene.put("reviews", "key", &review(0)).await;
    scene.put("reviews", "key", &review(1)).await;
    let results = scene.results(2).await;
    let places: Vec<_> = results
        .iter()
        .map(|(job, _)| job.request_id.clone())
        .collect();
    let place = places.iter().find(|place| place.ends_with(&sequence));
    let query = ResultQuery {
        record: place.cloned(),
        limit: 10,
        ..ResultQuery::default()
    };
    let found = scene.store().list_results(query).await.unwrap();
    assert_eq!(found.results.len(), 1);
    scene.stop().await;
}
