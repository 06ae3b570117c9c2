//! One gateway's own streams are another one's Amazon: it reads them by its `aws` source, and delivers to them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use linkspan_streams::kinesis::put::{self, Entry};
use linkspan_streams::kinesis::{Amazon, Client as Kinesis};
use linkspan_testkit::{Client, Gateway, PostgresServer, S3Server, Setup};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);
const BATCH: usize = 40;

fn setup(toml: &str) -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_linkspan"), toml)
}

/// The gateway in Amazon's place, and a client of it.
struct There {
    gateway: Gateway,
    client: Kinesis,
    id: String,
    secret: String,
    _setup: Setup,
}

impl There {
    async fn start() -> Self {
        let setup = setup("[streams]\nenabled = true\n");
        let add = "keys add here --sigv4 --output json --scope admin";
        let arguments: Vec<_> = add.split(' ').collect();
        let printed = setup.command(&arguments).output().unwrap();
        assert!(printed.status.success());
        let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
        let text = |member: &str| printed[member].as_str().unwrap().to_owned();
        let (id, secret) = (text("access_key_id"), text("secret_access_key"));
        let gateway = setup.serve();
        let amazon = Amazon {
            region: "eu-central-1".to_owned(),
            endpoint: Some(gateway.url.clone()),
            access_key: Some((id.clone(), secret.clone())),
        };
        let client = amazon.client(None).await;
        for (stream, shards) in [("reviews", 2), ("scored", 1)] {
            let call = client.create_stream().stream_name(stream);
            call.shard_count(shards).send().await.unwrap();
        }
        Self {
            gateway,
            client,
            id,
            secret,
            _setup: setup,
        }
    }

    /// Puts reviews of these numbers.
    async fn fill(&self, numbers: std::ops::Range<usize>) {
        let entry = |number| Entry {
            key: format!("shop-{}", number % 7),
            data: format!("Review {number}: this is a wonderful, excellent shop.").into(),
        };
        let entries: Vec<_> = numbers.map(entry).collect();
        let placed = put::records(&self.client, "reviews", &entries)
            .await
            .unwrap();
        assert!(placed.iter().all(Result::is_ok));
    }

    /// The keys and result documents in the stream that is delivered to.
    async fn scored(&self) -> Vec<(String, Value)> {
        let call = self.client.get_shard_iterator().stream_name("scored");
        let call = call.shard_id("shardId-000000000000");
        let iterator = call.shard_iterator_type("TRIM_HORIZON".into()).send().await;
        let iterator = iterator.unwrap().shard_iterator.unwrap();
        let call = self.client.get_records().shard_iterator(iterator);
        let records = call.send().await.unwrap().records.into_iter();
        records
            .map(|record| {
                let result = serde_json::from_slice(record.data.as_ref()).unwrap();
                (record.partition_key.unwrap(), result)
            })
            .collect()
    }

    /// Waits until so many results were delivered.
    async fn has(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        loop {
            let there = self.scored().await.len();
            if there >= count {
                return;
            }
            assert!(Instant::now() < end, "{there} of {count} came");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Waits until a gateway says that a question is answered.
async fn until(client: &Client, what: &str, path: &str, holds: impl Fn(&Value) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = client.get(path).await;
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if answer.status == 200 && holds(&body) {
            return;
        }
        assert!(Instant::now() < end, "never: {what}: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// So many gateways hold the stream's lanes that are not done.
fn held_by(stream: &Value, gateways: usize) -> bool {
    let lanes = stream["lanes"].as_array().unwrap();
    let open = lanes.iter().filter(|lane| lane["ended"] == false);
    let owners: BTreeSet<_> = open.map(|lane| lane["owner"].as_str()).collect();
    owners.len() == gateways && !owners.contains(&None)
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_of_one_postgresql_share_the_shards_and_go_on_for_one_that_is_killed_or_stops() {
    let there = There::start().await;
    let aws = format!(
        r#"{{ region = "eu-central-1", endpoint = "{}", access_key_id = "${{file:id}}", secret_access_key = "${{file:secret}}" }}"#,
        there.gateway.url
    );
    let bucket = S3Server::start("documents");
    let setup = setup(&format!(
        r#"
{}
[store]
jobs = "${{env:DATABASE_URL}}"
blobs = "s3://documents/team"
lease = "3s"
[service.mood]
task = "sentiment"
[integration.reviews]
pattern = "stream-in"
source = {{ kinesis = "reviews", aws = {aws} }}
steps = ["mood"]
"#,
        bucket.toml()
    ));
    let setup = setup
        .env("DATABASE_URL", &PostgresServer::shared().database())
        .env("S3_KEY_ID", S3Server::ACCESS_KEY_ID)
        .env("S3_SECRET", S3Server::SECRET_ACCESS_KEY);
    std::fs::write(setup.folder().join("id"), &there.id).unwrap();
    std::fs::write(setup.folder().join("secret"), &there.secret).unwrap();
    let key = setup.key("ops", &["admin"]);
    let stream = "/v1/streams/reviews";
    let results = "/v1/results?integration=reviews&limit=1000";
    let has = |count: usize| {
        move |page: &Value| {
            let results = page["results"].as_array().unwrap();
            let records: BTreeSet<_> = results.iter().map(|it| it["record"].as_str()).collect();
            assert_eq!(records.len(), results.len(), "a record has two results");
            results.len() >= count
        }
    };

    let one = setup.serve();
    let other = setup.serve();
    let client = other.client(&key);
    until(&client, "two share", stream, |it| held_by(it, 2)).await;
    there.fill(0..BATCH).await;
    until(&client, "all is read", results, has(BATCH)).await;
    // Its lease is over some seconds after it was killed.
    one.kill();
    there.fill(BATCH..2 * BATCH).await;
    until(&client, "one reads all", results, has(2 * BATCH)).await;
    until(&client, "one has all", stream, |it| held_by(it, 1)).await;
    // One that comes gets its share again, and one that stops gives its lanes back at once.
    let one = setup.serve();
    until(&client, "two share again", stream, |it| held_by(it, 2)).await;
    there.fill(2 * BATCH..3 * BATCH).await;
    assert_eq!(other.stop(), Some(0));
    there.fill(3 * BATCH..4 * BATCH).await;
    let client = one.client(&key);
    until(&client, "the last reads all", results, has(4 * BATCH)).await;
    until(&client, "the last has all", stream, |it| held_by(it, 1)).await;
    until(&client, "each record once", results, |page| {
        page["results"].as_array().unwrap().len() == 4 * BATCH
    })
    .await;
    assert_eq!(one.stop(), Some(0));
    assert_eq!(there.gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_reads_and_fills_streams_of_amazon_and_goes_on_after_a_restart() {
    let there = There::start().await;
    let aws = format!(
        r#"{{ region = "eu-central-1", endpoint = "{}", access_key_id = "${{file:id}}", secret_access_key = "${{file:secret}}" }}"#,
        there.gateway.url
    );
    let setup = setup(&format!(
        r#"
[service.mood]
task = "sentiment"
[integration.reviews]
pattern = "stream-in"
source = {{ kinesis = "reviews", aws = {aws} }}
steps = ["mood"]
deliver = [{{ kinesis = "scored", aws = {aws}, key = ".answers.mood.label" }}]
[outbound]
private_networks = ["127.0.0.0/8"]
"#
    ));
    std::fs::write(setup.folder().join("id"), &there.id).unwrap();
    std::fs::write(setup.folder().join("secret"), &there.secret).unwrap();
    let key = setup.key("ops", &["admin"]);

    there.fill(0..BATCH).await;
    let here = setup.serve();
    there.has(BATCH).await;
    let log = here.log();
    assert!(!log.contains(&there.secret) && !log.contains("wonderful"));
    assert_eq!(here.stop(), Some(0));
    // While it is gone, records come and the shards are split and merged.
    there.fill(BATCH..2 * BATCH).await;
    let call = there.client.merge_shards().stream_name("reviews");
    let call = call.shard_to_merge("shardId-000000000000");
    let call = call.adjacent_shard_to_merge("shardId-000000000001");
    call.send().await.unwrap();
    there.fill(2 * BATCH..3 * BATCH).await;
    let here = setup.serve();
    there.has(3 * BATCH).await;

    let answer = here
        .client(&key)
        .get("/v1/results?integration=reviews&limit=1000")
        .await;
    let page: Value = serde_json::from_str(&answer.body).unwrap();
    let results = page["results"].as_array().unwrap();
    assert_eq!(results.len(), 3 * BATCH, "each record has one result");
    let scored = there.scored().await;
    let ids: BTreeSet<_> = scored
        .iter()
        .map(|(_, it)| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 3 * BATCH);
    for (key, result) in &scored {
        assert_eq!(result["status"], "succeeded");
        assert_eq!(result["answers"]["mood"]["label"], key.as_str());
    }
    assert_eq!(here.stop(), Some(0));
    assert_eq!(there.gateway.stop(), Some(0));
}
