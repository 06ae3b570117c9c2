//! The gateway and the receiver of its webhooks are killed at random moments: every result arrives, with the same id each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fastrand::Rng;
use linkspan_testkit::ledger::{Ledger, Sent};
use linkspan_testkit::{Answer, Client, Setup};
use serde_json::Value;

use crate::PROGRAM;
use crate::receiver::Receiver;

/// So often each of the two is killed.
const ROUNDS: u32 = 50;

/// So many clients send at once.
const CLIENTS: usize = 4;

/// So many new requests a client sends between two kills of the gateway.
const NEW_A_ROUND: u32 = 5;

const CHANNELS: [&str; 3] = ["ed25519", "file", "hmac"];

/// Waits so short that a receiver which is down for a while is tried again and again.
fn toml(receiver: &Receiver) -> String {
    let often = format!("retry = [{}]", vec!["\"50ms\""; 500].join(", "));
    let webhook = format!("timeout = \"500ms\", {often}");
    format!(
        r#"
[server]
rate_limit = 0
[outbound]
private_networks = ["127.0.0.0/8"]
[service.language]
task = "detect-language"
[integration.reviews]
pattern = "async"
steps = ["language"]
attempts = 100
backoff = {{ first = "1ms", max = "20ms" }}
deliver = [
  {},
  {},
  {{ file = "out/results.jsonl", {often} }},
]
"#,
        receiver.channel("hmac", &webhook),
        receiver.channel("ed25519", &webhook),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_gateway_and_receiver_at_fifty_random_moments_each_loses_no_result_on_its_way() {
    let seed = std::env::var("LINKSPAN_SEED")
        .ok()
        .map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("LINKSPAN_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let receiver = Arc::new(Receiver::new().await);
    receiver.be_moody(Rng::with_seed(random.u64(..)));
    receiver.start().await;
    let mut setup = Setup::new(PROGRAM, &toml(&receiver));
    for (name, secret) in Receiver::secrets() {
        setup = setup.env(name, &secret);
    }
    let key = setup.key("estate", &["invoke", "read"]);
    let ledger = Arc::new(Ledger::default());

    let falling = tokio::spawn(fall(receiver.clone(), Rng::with_seed(random.u64(..))));
    let made = Arc::new(AtomicU32::new(0));
    for round in 0..ROUNDS {
        let gateway = setup.serve();
        let client = gateway.client(&key);
        let repeats = ledger.unanswered();
        let load: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mine = repeats.iter().skip(number).step_by(CLIENTS).cloned();
                let (ledger, made) = (ledger.clone(), made.clone());
                tokio::spawn(send(client.clone(), ledger, made, mine.collect()))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.u64(20..=400))).await;
        gateway.kill();
        for client in load {
            client.await.expect("a client ends with its gateway");
        }
        assert_eq!(ledger.faults(), Vec::<String>::new(), "round {round}");
    }
    let gateway = setup.serve();
    let client = gateway.client(&key);
    send(client.clone(), ledger.clone(), made, ledger.unanswered()).await;
    falling.await.expect("the receiver falls and gets up");
    receiver.be_calm();

    let jobs = accepted(&client, &ledger).await;
    for state in ["pending", "sending"] {
        let path = format!("/v1/deliveries?state={state}&limit=1");
        crate::until("all deliveries to end", || async {
            let page = client.get(&path).await.json();
            page["deliveries"].as_array()?.is_empty().then_some(())
        })
        .await;
    }
    let deliveries = deliveries(&client).await;
    assert_eq!(receiver.faults(), Vec::<String>::new());
    assert_sent_once_for_each_channel(&receiver, &jobs, &deliveries);
    assert_written(&setup, &jobs);

    let tries = deliveries
        .iter()
        .filter_map(|one| one["tries"].as_array())
        .flatten();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for tried in tries {
        *outcomes
            .entry(tried["outcome"].as_str().expect("an outcome"))
            .or_default() += 1;
    }
    let arrived = receiver.arrived();
    let again = arrived.values().filter(|arrived| arrived.taken > 1).count();
    eprintln!(
        "{} jobs, {} deliveries, tries {outcomes:?}; {again} webhooks were taken more than once",
        jobs.len(),
        deliveries.len(),
    );
    assert!(
        outcomes.contains_key("lost"),
        "no kill of the gateway hit a delivery"
    );
    assert!(
        outcomes.contains_key("failed"),
        "no kill of the receiver hit a delivery"
    );
    assert!(again > 0, "no answer was lost on its way");
    assert_eq!(gateway.stop(), Some(0));
}

/// The receiver is killed so often, and starts again after a while.
async fn fall(receiver: Arc<Receiver>, mut random: Rng) {
    for _ in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(random.u64(20..=600))).await;
        receiver.kill();
        tokio::time::sleep(Duration::from_millis(random.u64(0..=300))).await;
        receiver.start().await;
    }
}

/// Sends what has no answer, then new requests, until the gateway is gone or enough is sent.
async fn send(client: Client, ledger: Arc<Ledger>, made: Arc<AtomicU32>, repeats: Vec<Sent>) {
    let new = (0..NEW_A_ROUND).map(|_| {
        let number = made.fetch_add(1, Ordering::Relaxed);
        Sent {
            key: format!("key-{number:06}"),
            integration: "reviews".to_owned(),
            media_type: "application/json",
            body: serde_json::json!({ "text": format!("The crossing number {number} was wonderful.") })
                .to_string(),
        }
    });
    for sent in repeats.into_iter().chain(new) {
        ledger.open(&sent);
        match Answer::try_of(sent.to(&client)).await {
            Ok(answer) => ledger.note(&sent.key, &answer),
            Err(_) => return,
        }
    }
}

/// The accepted jobs, each with its result.
async fn accepted(client: &Client, ledger: &Ledger) -> BTreeMap<String, Value> {
    assert_eq!(ledger.faults(), Vec::<String>::new());
    let mut jobs = BTreeMap::new();
    for entry in ledger.entries() {
        assert_eq!(entry.jobs.len(), 1, "{entry:?}");
        for job in entry.jobs {
            let result = client.result(&job).await;
            assert_eq!(result.status, 200, "{job}: {}", result.body);
            jobs.insert(job, result.json());
        }
    }
    jobs
}

/// Every delivery that the gateway knows of.
async fn deliveries(client: &Client) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = client
            .get(&format!("/v1/deliveries?limit=200{after}"))
            .await
            .json();
        all.extend(
            page["deliveries"]
                .as_array()
                .expect("deliveries")
                .iter()
                .cloned(),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

/// One delivery for each job and channel, and under its id alone the receiver has taken the job's result, always with the same body.
fn assert_sent_once_for_each_channel(
    receiver: &Receiver,
    jobs: &BTreeMap<String, Value>,
    deliveries: &[Value],
) {
    let mut known: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for delivery in deliveries {
        assert_eq!(delivery["state"], "delivered", "{delivery}");
        let [channel, job, id] =
            ["channel", "job", "id"].map(|name| delivery[name].as_str().expect("a text"));
        let doubled = known.insert((channel, job), id);
        assert_eq!(doubled, None, "two deliveries of one result: {delivery}");
    }
    let expected: BTreeSet<_> = CHANNELS
        .iter()
        .flat_map(|channel| jobs.keys().map(move |job| (*channel, job.as_str())))
        .collect();
    assert_eq!(known.keys().copied().collect::<BTreeSet<_>>(), expected);

    let arrived = receiver.arrived();
    assert_eq!(arrived.len(), 2 * jobs.len(), "what came is what was sent");
    for ((channel, job), arrived) in arrived {
        let id = known[&(channel.as_str(), job.as_str())];
        assert_eq!(
            arrived.ids,
            BTreeSet::from([id.to_owned()]),
            "{channel} {job}"
        );
        assert_eq!(
            arrived.bodies.len(),
            1,
            "{channel} {job}: {:?}",
            arrived.bodies
        );
        assert!(
            arrived.taken > 0,
            "{channel} {job} came {} times",
            arrived.times
        );
        assert_eq!(arrived.result(), jobs[&job], "{channel} {job}");
    }
}

/// The file has each job's result, in whole lines.
fn assert_written(setup: &Setup, jobs: &BTreeMap<String, Value>) {
    let file = setup.folder().join("out/results.jsonl");
    let written = std::fs::read_to_string(file).expect("the file is there");
    let mut there = BTreeSet::new();
    for line in written.lines() {
        let result: Value = serde_json::from_str(line).expect("a line is a result");
        let id = result["id"].as_str().expect("an id").to_owned();
        assert_eq!(result, jobs[&id]);
        there.insert(id);
    }
    assert_eq!(there, jobs.keys().cloned().collect());
    assert!(written.ends_with('\n'));
}
