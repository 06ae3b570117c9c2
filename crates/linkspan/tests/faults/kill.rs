//! SIGKILL of the gateway at random moments under load: no acknowledged job is lost, and no idempotency key has two answers.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fastrand::Rng;
use linkspan_testkit::ledger::{Ledger, Sent};
use linkspan_testkit::{Answer, Client, Setup};

use crate::PROGRAM;

const ROUNDS: u32 = 50;

/// So many clients send at once.
const CLIENTS: u64 = 4;

/// So many new requests a client sends between two kills: the load ends before the test does.
const NEW_A_ROUND: u32 = 12;

/// A job may be cut off at every kill; that is no fault of its document.
const TOML: &str = r#"
[server]
rate_limit = 0
[worker]
max_workers = 1
[service.text]
task = "extract-text"
[service.language]
task = "detect-language"
[service.mood]
task = "sentiment"
[integration.reviews-now]
pattern = "sync"
steps = ["language", "mood"]
[integration.reviews-later]
pattern = "async"
steps = ["language", "mood"]
attempts = 100
backoff = { first = "1ms", max = "20ms" }
[integration.letters-now]
pattern = "sync"
steps = ["text", "language"]
[integration.letters-later]
pattern = "async"
steps = ["text", "language"]
attempts = 100
backoff = { first = "1ms", max = "20ms" }
[integration.letters-soon]
pattern = "sync"
steps = ["text", "language"]
deadline = "10ms"
overflow = "async"
attempts = 100
backoff = { first = "1ms", max = "20ms" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn kill_at_fifty_random_moments_loses_no_job_and_answers_no_key_twice_differently() {
    let seed = std::env::var("LINKSPAN_SEED")
        .ok()
        .map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("LINKSPAN_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let setup = Setup::new(PROGRAM, TOML);
    let key = setup.key("estate", &["invoke", "read"]);
    let ledger = Arc::new(Ledger::default());
    let made = Arc::new(AtomicU32::new(0));

    for round in 0..ROUNDS {
        let gateway = setup.serve();
        let client = gateway.client(&key);
        let repeats = ledger.unanswered();
        let load: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mine = repeats
                    .iter()
                    .skip(number as usize)
                    .step_by(CLIENTS as usize);
                let (client, ledger, made) = (client.clone(), ledger.clone(), made.clone());
                let random = Rng::with_seed(random.u64(..));
                tokio::spawn(send(client, ledger, made, mine.cloned().collect(), random))
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
    for sent in ledger.unanswered() {
        answer(&client, &ledger, &sent).await;
    }
    let replayed = settle(&client, &ledger).await;
    assert_eq!(ledger.faults(), Vec::<String>::new());
    let entries = ledger.entries();
    let doubled = entries.iter().filter(|entry| entry.times > 2).count();
    assert!(doubled > 0, "no kill hit a request");
    assert!(replayed > 0, "no result was asked for again");
    count_jobs(&client, &ledger).await;
    eprintln!(
        "{} requests, {doubled} of them sent again after a kill",
        entries.len()
    );
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_at_a_start_leaves_a_folder_in_which_the_next_one_starts() {
    let setup = Setup::new(PROGRAM, TOML);
    for _ in 0..12 {
        let mut starting = setup
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..120))).await;
        starting.kill().expect("it is killed, or has ended");
        starting.wait().expect("it is gone");
    }
    let key = setup.key("estate", &["invoke", "read"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    let job = client.text("reviews-later", SENTENCES[0]).await.job();
    assert_eq!(client.result(&job).await.status, 200);
    assert_eq!(gateway.stop(), Some(0));
}

/// Sends what has no answer, then new requests, until the gateway is gone or enough is sent.
async fn send(
    client: Client,
    ledger: Arc<Ledger>,
    made: Arc<AtomicU32>,
    repeats: Vec<Sent>,
    mut random: Rng,
) {
    let new = (0..NEW_A_ROUND)
        .map(|_| request(made.fetch_add(1, Ordering::Relaxed), &mut random))
        .collect::<Vec<_>>();
    for sent in repeats.into_iter().chain(new) {
        ledger.open(&sent);
        match Answer::try_of(sent.to(&client)).await {
            Ok(answer) => ledger.note(&sent.key, &answer),
            Err(_) => return,
        }
    }
}

/// Sends a request until it is answered. The gateway runs, so this ends.
async fn answer(client: &Client, ledger: &Ledger, sent: &Sent) {
    crate::until("an answer for a key", || async {
        ledger.open(sent);
        let answer = Answer::of(sent.to(client)).await;
        ledger.note(&sent.key, &answer);
        (answer.status < 400).then_some(())
    })
    .await;
}

/// Waits for every job's result, asks for each twice, and repeats every request. Says how many were answered from the store.
async fn settle(client: &Client, ledger: &Ledger) -> usize {
    let mut replayed = 0;
    for entry in ledger.entries() {
        let key = &entry.sent.key;
        for job in &entry.jobs {
            let result = client.result(job).await;
            assert_eq!(
                result.status, 200,
                "the job {job} of {key}: {}",
                result.body
            );
            assert_eq!(result.json()["status"], "succeeded", "{key}");
            ledger.result(key, &result.body);
            let again = client.get(&format!("/v1/jobs/{job}/result")).await;
            ledger.result(key, &again.body);
        }
        ledger.open(&entry.sent);
        let again = Answer::of(entry.sent.to(client)).await;
        assert!(
            matches!(again.status, 200 | 202),
            "{key}: {} {}",
            again.status,
            again.body
        );
        replayed += usize::from(again.header("idempotency-replayed") == Some("true"));
        ledger.note(key, &again);
    }
    replayed
}

/// In the listing there is one job for each key of the async integrations, and one that succeeded for each of the others: the calls
/// that were cut off have failed, which freed their key.
async fn count_jobs(client: &Client, ledger: &Ledger) {
    for integration in [
        "reviews-now",
        "reviews-later",
        "letters-now",
        "letters-later",
        "letters-soon",
    ] {
        let mut known = BTreeSet::new();
        for entry in ledger.entries() {
            if entry.sent.integration == integration {
                let id = entry.results.first().map(|result| {
                    let result: serde_json::Value =
                        serde_json::from_str(result).expect("a result document");
                    result["id"].as_str().expect("an id").to_owned()
                });
                known.extend(id);
                known.extend(entry.jobs);
            }
        }
        let (mut succeeded, mut others) = (BTreeSet::new(), Vec::new());
        let mut after = String::new();
        loop {
            let path = format!("/v1/jobs?integration={integration}&limit=200{after}");
            let page = client.get(&path).await.json();
            for job in page["jobs"].as_array().expect("jobs") {
                let id = job["id"].as_str().expect("an id").to_owned();
                if job["state"] == "succeeded" {
                    assert!(succeeded.insert(id), "listed twice: {job}");
                } else {
                    others.push(job.clone());
                }
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert!(!known.is_empty(), "{integration} had no load");
        assert_eq!(succeeded, known, "{integration}");
        if integration.ends_with("-later") {
            assert_eq!(others, Vec::<serde_json::Value>::new());
        }
        for job in others {
            assert_eq!(job["error"]["code"], "shutting-down", "{job}");
        }
    }
}

/// A review, or once in a while a letter too long for a row of the store.
fn request(number: u32, random: &mut Rng) -> Sent {
    let long = random.u8(..8) == 0;
    // Letters take longer than the deadline of those that overflow.
    let ways = if long { 3 } else { 2 };
    let when = ["now", "later", "soon"][random.usize(..ways)];
    let sentences = if long { 1500 } else { random.usize(1..4) };
    let mut text = format!("Review number {number}. ");
    for _ in 0..sentences {
        text += random.choice(SENTENCES).expect("one");
    }
    let key = format!("key-{number:06}");
    if long {
        assert!(text.len() > 65536, "a letter fits a row");
        Sent {
            key,
            integration: format!("letters-{when}"),
            media_type: "text/plain; charset=utf-8",
            body: text,
        }
    } else {
        Sent {
            key,
            integration: format!("reviews-{when}"),
            media_type: "application/json",
            body: serde_json::json!({ "text": text }).to_string(),
        }
    }
}

const SENTENCES: [&str; 6] = [
    "The crossing was wonderful and the crew was very friendly. ",
    "Our cabin smelled awful and nobody apologised for that. ",
    "Breakfast was delicious, but the coffee was terribly weak. ",
    "The ferry left at eight and arrived at noon at quay four. ",
    "I would happily sail with this company again next summer. ",
    "They refused the refund, which was a really bad surprise. ",
];
