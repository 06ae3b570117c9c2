//! What people see of streams: results, the streams' figures, the label mix, the replay of dead letters, the command line.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use linkspan::store::{AuditLog as _, AuditQuery, SqliteStore, Upkeep as _};
use linkspan_testkit::{Answer, Client, Gateway, Setup};
use reqwest::Method;
use serde_json::{Value, json};

use crate::seed::{self, Seed};

const TOML: &str = r#"
[service.mood]
task = "sentiment"
[integration.reviews]
pattern = "stream-in"
source = { kinesis = "reviews" }
steps = ["mood"]
attempts = 1
[integration.letters]
pattern = "async"
steps = ["mood"]
attempts = 1
"#;

const PATIENCE: Duration = Duration::from_secs(120);

/// A gateway with a key for everything.
struct Scene {
    setup: Setup,
    gateway: Gateway,
    client: Client,
}

impl Scene {
    fn start() -> Self {
        let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML);
        let key = setup.key("operations", &["admin"]);
        let gateway = setup.serve();
        Self {
            client: gateway.client(&key),
            setup,
            gateway,
        }
    }

    fn client_of(&self, name: &str, scopes: &[&str]) -> Client {
        self.gateway.client(&self.setup.key(name, scopes))
    }

    async fn commit(&self, seeds: &[Seed]) -> Vec<String> {
        self.commit_at(seeds, Timestamp::now()).await
    }

    async fn commit_at(&self, seeds: &[Seed], now: Timestamp) -> Vec<String> {
        let store = SqliteStore::open_beside(self.setup.folder().join("data/linkspan.db")).unwrap();
        let ids = seed::commit_at(&store, seed::REVIEWS, seeds, now).await;
        store.close().await;
        ids.iter().map(ToString::to_string).collect()
    }

    /// What the program prints about this gateway.
    fn program(&self, key: &str, arguments: &[&str]) -> Command {
        let mut command = self.setup.command(arguments);
        command
            .env("LINKSPAN_URL", &self.gateway.url)
            .env("LINKSPAN_KEY", key);
        command
    }
}

fn ids(page: &Value) -> Vec<String> {
    let results = page["results"].as_array().unwrap();
    let id = |result: &Value| result["id"].as_str().unwrap().to_owned();
    results.iter().map(id).collect()
}

async fn found(client: &Client, query: &str) -> Vec<String> {
    let answer = client.get(&format!("/v1/results?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    ids(&answer.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_records_and_of_calls_are_found_newest_first() {
    let scene = Scene::start();
    let begin = Timestamp::now();
    let ago = |seconds| begin - SignedDuration::from_secs(seconds);
    let seeds = [
        Seed::labelled("shard/1", "positive").at(ago(40)),
        Seed::labelled("shard/2", "NEGATIVE \"zero\"").at(ago(30)),
        Seed::dead("shard/3", b"not JSON", "the record is not JSON").at(ago(20)),
        Seed::labelled("shard/4", "positive").at(ago(10)),
    ];
    let all = scene.commit(&seeds).await;
    let [one, two, three, four] = &all[..] else {
        panic!("{all:?}")
    };
    let call = scene.client.text("letters", "I love it.").await.job();
    scene.client.result(&call).await;

    let page = scene.client.get("/v1/results").await.json();
    assert_eq!(
        ids(&page),
        [&call, four, three, two, one].map(String::as_str)
    );
    assert!(page.get("next").is_none(), "{page}");
    let [by_call, _, dead, ..] = &page["results"].as_array().unwrap()[..] else {
        panic!("{page}")
    };
    assert!(by_call.get("record").is_none(), "{by_call}");
    assert_eq!(by_call["result"]["answers"]["mood"]["label"], "positive");
    assert_eq!(
        (&dead["status"], &dead["record"], &dead["integration"]),
        (&json!("failed"), &json!("shard/3"), &json!("reviews"))
    );
    assert_eq!(dead["result"]["error"]["detail"], "the record is not JSON");

    let from = format!("integration=reviews&from={}", ago(25));
    let until = format!("integration=reviews&until={}", ago(25));
    for (query, expected) in [
        ("integration=reviews", &[four, three, two, one][..]),
        ("integration=letters", &[&call]),
        ("q=negative&integration=reviews", &[two]),
        ("q=Negative+%22Zero%22", &[two]),
        (
            "q=%22label%22%3A%22positive%22&integration=reviews",
            &[four, one],
        ),
        ("q=nobody+said+this", &[]),
        ("status=failed", &[three]),
        ("status=succeeded&integration=reviews", &[four, two, one]),
        ("record=shard/2", &[two]),
        (&from, &[four, three]),
        (&until, &[two, one]),
    ] {
        assert_eq!(
            found(&scene.client, query).await,
            expected.iter().map(|id| (*id).clone()).collect::<Vec<_>>(),
            "{query}"
        );
    }
    for (query, said) in [
        ("status=dead", "status: what has ended"),
        ("after=yesterday", "after: not a cursor"),
        ("from=yesterday", "from: not a time"),
        ("label=positive", "the query takes integration, q"),
    ] {
        let answer = scene.client.get(&format!("/v1/results?{query}")).await;
        assert_eq!(answer.code(), "bad-request");
        assert!(answer.body.contains(said), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_result_once_however_they_are_cut_and_however_they_are_written() {
    let scene = Scene::start();
    let seeds: Vec<_> = (0..57)
        .map(|number| {
            Seed::labelled(
                &format!("shard/{number}"),
                if number % 5 == 0 { "rare" } else { "usual" },
            )
        })
        .collect();
    let mut all = scene.commit(&seeds).await;
    all.sort();
    all.reverse();
    for (limit, q, count) in [
        (1, "", 57),
        (10, "", 57),
        (57, "", 57),
        (1000, "", 57),
        (4, "q=rare", 12),
        (20, "q=rare", 12),
    ] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = scene
                .client
                .get(&format!("/v1/results?limit={limit}&{q}{after}"))
                .await
                .json();
            assert!(ids(&page).len() <= limit);
            seen.extend(ids(&page));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(seen.len(), count, "{limit} {q}");
        assert!(
            seen.is_sorted_by(|one, other| one > other),
            "{limit} {q}: {seen:?}"
        );
        assert!(seen.iter().all(|id| all.contains(id)));
    }

    let as_kind = async |kind: &str| {
        let request = scene
            .client
            .request(Method::GET, "/v1/results?limit=3&integration=reviews");
        Answer::of(request.header("accept", kind)).await
    };
    let lines = as_kind("application/x-ndjson").await;
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let read: Vec<Value> = lines
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(ids(&json!({ "results": read })), all[..3]);
    assert_eq!(lines.header("linkspan-next"), Some(&*all[2]));
    let csv = as_kind("text/csv").await;
    assert_eq!(csv.body.lines().count(), 4, "{}", csv.body);
    assert!(
        csv.body
            .starts_with("id,integration,status,created,finished,record,result\r\n")
            || csv
                .body
                .starts_with("id,integration,status,created,finished,record,result\n"),
        "{}",
        csv.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_looks_at_so_many_rows_and_whoever_follows_next_finds_what_lies_behind() {
    let scene = Scene::start();
    let begin = Timestamp::now();
    let ago = |seconds| begin - SignedDuration::from_secs(seconds);
    let sought = Seed::labelled("shard/sought", "positive").at(ago(90));
    let dead = Seed::dead("shard/dead", b"x", "the record is not JSON").at(ago(80));
    let old = scene.commit(&[sought, dead]).await;
    // Newer ones that succeeded; of these those that failed are found at once, though.
    let newer: Vec<_> = (0..12_000)
        .map(|number| Seed::labelled(&format!("shard/{number}"), "neutral").at(ago(60)))
        .collect();
    for some in newer.chunks(2_000) {
        scene.commit(some).await;
    }
    for query in [
        "status=failed&integration=reviews",
        "status=failed",
        "record=shard/dead",
    ] {
        assert_eq!(found(&scene.client, query).await, old[1..], "{query}");
    }
    assert_eq!(found(&scene.client, "record=shard/sought").await, old[..1]);

    // Whoever asks for an old time looks through all that is newer.
    let path = format!("/v1/results?until={}", ago(70));
    let first = scene.client.get(&path).await.json();
    assert_eq!(ids(&first), Vec::<String>::new());
    let next = first["next"]
        .as_str()
        .expect("an empty page is not the last one");
    let rest = scene
        .client
        .get(&format!("{path}&after={next}"))
        .await
        .json();
    assert_eq!(ids(&rest), [old[1].clone(), old[0].clone()]);
    assert!(rest.get("next").is_none(), "{rest}");
    let listed = scene
        .program(
            &scene.setup.key("shell", &["read"]),
            &[
                "streams",
                "results",
                "reviews",
                "--until",
                &ago(70).to_string(),
                "--output",
                "csv",
            ],
        )
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(old.iter().all(|id| listed.contains(id)), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_an_integration_see_its_records_and_only_its_administrators_change_them() {
    let scene = Scene::start();
    let [dead, ..] = &scene
        .commit(&[Seed::dead(
            "shard/1",
            b"I love it.",
            "the record is not JSON",
        )])
        .await[..]
    else {
        panic!("one was seeded")
    };
    let reader = scene.client_of("reader", &["read:reviews"]);
    let stranger = scene.client_of("stranger", &["invoke", "read:letters"]);
    let caller = scene.client_of("caller", &["invoke", "read"]);
    let own = caller.text("reviews", "By hand.").await.job();
    caller.result(&own).await;

    assert_eq!(
        found(&reader, "integration=reviews").await,
        std::slice::from_ref(dead),
        "not what others called for"
    );
    assert_eq!(found(&reader, "").await, std::slice::from_ref(dead));
    assert_eq!(
        found(&caller, "").await,
        [own.clone(), dead.clone()],
        "its own, and the records"
    );
    assert_eq!(found(&scene.client, "").await, [own.clone(), dead.clone()]);
    assert_eq!(found(&stranger, "").await, Vec::<String>::new());
    for path in [
        "/v1/results?integration=reviews",
        "/v1/streams/reviews",
        "/v1/streams/reviews/labels",
    ] {
        assert_eq!(stranger.get(path).await.code(), "forbidden", "{path}");
        assert_eq!(reader.get(path).await.status, 200, "{path}");
    }
    assert_eq!(
        stranger.get("/v1/streams").await.json(),
        json!({ "streams": [] })
    );

    let job = format!("/v1/jobs/{dead}");
    assert_eq!(reader.get(&job).await.status, 200);
    assert_eq!(
        reader.get(&format!("{job}/document")).await.body,
        "I love it."
    );
    assert_eq!(stranger.get(&job).await.code(), "not-found");
    assert_eq!(
        reader.post(&format!("{job}/retry")).await.code(),
        "forbidden"
    );
    let erase = Answer::of(reader.request(Method::DELETE, &job)).await;
    assert_eq!(erase.code(), "forbidden");
    assert_eq!(scene.client.post(&format!("{job}/retry")).await.status, 200);
    assert_eq!(reader.result(dead).await.json()["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_replayed_together_each_with_its_audit_line() {
    let scene = Scene::start();
    let now = Timestamp::now();
    let hours = |hours| now - SignedDuration::from_hours(hours);
    let letter = |record: &str, at| Seed::dead(record, b"I love it.", "the engine was away").at(at);
    let seeds = [
        letter("shard/1", hours(5)),
        letter("shard/2", hours(3)),
        letter("shard/3", hours(1)),
    ];
    let dead = scene.commit(&seeds).await;
    let retry = async |client: &Client, body: Value| {
        Answer::of(client.request(Method::POST, "/v1/jobs/retry").json(&body)).await
    };
    let administrator = scene.client_of("reviewer", &["admin:reviews"]);
    for (client, body, code) in [
        (&administrator, json!({}), "bad-request"),
        (
            &administrator,
            json!({ "integration": "reviews", "state": "succeeded" }),
            "bad-request",
        ),
        (
            &administrator,
            json!({ "integration": "letters" }),
            "forbidden",
        ),
        (
            &scene.client,
            json!({ "integration": "contracts" }),
            "not-found",
        ),
        (
            &scene.client_of("reader", &["read"]),
            json!({ "integration": "reviews" }),
            "forbidden",
        ),
    ] {
        assert_eq!(retry(client, body.clone()).await.code(), code, "{body}");
    }

    let some = retry(
        &administrator,
        json!({ "integration": "reviews", "from": hours(4), "until": hours(2) }),
    )
    .await;
    assert_eq!(some.json(), json!({ "retried": 1, "left": 0 }));
    let result = scene.client.result(&dead[1]).await.json();
    assert_eq!(
        (&result["status"], &result["answers"]["mood"]["label"]),
        (&json!("succeeded"), &json!("positive"))
    );
    let rest = retry(&administrator, json!({ "from": hours(24) })).await;
    assert_eq!(rest.json(), json!({ "retried": 2, "left": 0 }));
    for id in &dead {
        assert_eq!(scene.client.result(id).await.json()["status"], "succeeded");
    }
    let store = SqliteStore::open_beside(scene.setup.folder().join("data/linkspan.db")).unwrap();
    let lines = store
        .list_audit(AuditQuery::newest(1000))
        .await
        .unwrap()
        .lines;
    store.close().await;
    let retried: BTreeSet<_> = lines
        .iter()
        .filter(|line| {
            line.actor.name == "reviewer" && line.outcome == "done" && line.action == "job.retry"
        })
        .map(|line| line.target.clone())
        .collect();
    assert_eq!(retried, dead.into_iter().collect(), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_it_reads_how_far_and_which_labels_came() {
    let scene = Scene::start();
    let streams = scene.client.get("/v1/streams").await.json();
    let [stream] = &streams["streams"].as_array().unwrap()[..] else {
        panic!("{streams}")
    };
    assert_eq!(
        (
            &stream["integration"],
            &stream["pattern"],
            &stream["source"]
        ),
        (
            &json!("reviews"),
            &json!("stream-in"),
            &json!({ "kind": "own", "name": "reviews" })
        )
    );
    assert!(stream.get("lanes").is_none());
    for figure in [
        "rate",
        "error_share",
        "taken",
        "committed",
        "dead",
        "retried",
        "in_flight",
        "limit",
    ] {
        assert!(stream[figure].is_number(), "{figure}: {stream}");
    }
    assert!(
        ["starting", "reading", "waiting"].contains(&stream["state"].as_str().unwrap()),
        "{stream}"
    );

    let minute: Timestamp = "2026-11-23T08:10:20Z".parse().unwrap();
    assert_eq!(stream["stream"], seed::REVIEWS);
    for (label, later) in [
        ("positive", 0),
        ("positive", 20),
        ("negative", 0),
        ("positive", 60),
        ("negative", 60 * 11),
    ] {
        let at = minute + SignedDuration::from_secs(later);
        let seed = Seed::labelled("shard/1", label).at(at);
        scene.commit_at(&[seed], at).await;
    }
    let shown = scene.client.get("/v1/streams/reviews").await.json();
    let lanes = shown["lanes"].as_array().unwrap();
    let lane = lanes
        .iter()
        .find(|lane| lane["lane"] == "seeded")
        .unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(
        (
            &lane["here"],
            &lane["owner"],
            &lane["progress"],
            &lane["ended"]
        ),
        (&json!(false), &json!("another"), &json!("1"), &json!(false))
    );

    for (query, expected) in [
        (
            "from=2026-11-23T08:00:00Z&until=2026-11-23T09:00:00Z&step=1",
            json!([
                ["08:10", "negative", 1],
                ["08:10", "positive", 2],
                ["08:11", "positive", 1],
                ["08:21", "negative", 1]
            ]),
        ),
        (
            "from=2026-11-23T08:00:00Z&until=2026-11-23T09:00:00Z&step=10",
            json!([
                ["08:10", "negative", 1],
                ["08:10", "positive", 3],
                ["08:20", "negative", 1]
            ]),
        ),
        (
            "from=2026-11-23T08:20:00Z&until=2026-11-23T08:21:00Z",
            json!([]),
        ),
    ] {
        let answer = scene
            .client
            .get(&format!("/v1/streams/reviews/labels?{query}"))
            .await
            .json();
        let counts: Vec<_> = answer["counts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|count| {
                json!([
                    count["at"].as_str().unwrap()[11..16],
                    count["label"],
                    count["count"]
                ])
            })
            .collect();
        assert_eq!(Value::from(counts), expected, "{query}: {answer}");
    }
    assert_eq!(
        scene
            .client
            .get("/v1/streams/reviews/labels?step=x")
            .await
            .code(),
        "bad-request"
    );
    let none = scene.client.get("/v1/streams/letters").await;
    assert_eq!(none.code(), "not-found");
    assert!(none.body.contains("there are: reviews"), "{}", none.body);

    let metrics = scene.client.get("/metrics").await.body;
    for line in [
        "linkspan_stream_records_total{integration=\"reviews\",outcome=\"dead\"} 0",
        "linkspan_stream_in_flight{integration=\"reviews\"} ",
        "linkspan_stream_commits_total{integration=\"reviews\"} ",
        "linkspan_stream_concurrency_limit{integration=\"reviews\"} ",
        "linkspan_stream_state{integration=\"reviews\",state=\"stopped\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_streams_and_follows_their_results() {
    let scene = Scene::start();
    let key = scene.setup.key("shell", &["read"]);
    let dead = Seed::dead("shard/2", b"x", "the record is not\u{1b}[2J JSON");
    let first = scene
        .commit(&[Seed::labelled("shard/1", "positive"), dead])
        .await;

    let listed = scene
        .program(&key, &["streams", "list", "--output", "csv"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("reviews,stream-in,own: reviews,"),
        "{listed}"
    );
    let results = scene
        .program(
            &key,
            &[
                "streams", "results", "reviews", "--status", "failed", "--output", "json",
            ],
        )
        .output()
        .unwrap();
    let results: Value = serde_json::from_slice(&results.stdout).unwrap();
    assert_eq!(results["id"], json!(first[1]));
    let table = scene
        .program(&key, &["streams", "results", "reviews", "-q", "POSITIVE"])
        .output()
        .unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("mood: positive") && table.contains("shard/1") && !table.contains("shard/2"),
        "{table}"
    );

    let mut tail = scene
        .program(
            &key,
            &[
                "streams", "tail", "reviews", "--limit", "1", "--output", "json",
            ],
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (line, lines) = mpsc::channel();
    let out = BufReader::new(tail.stdout.take().unwrap());
    std::thread::spawn(move || {
        for found in out.lines().map_while(Result::ok) {
            let _ = line.send(serde_json::from_str::<Value>(&found).unwrap());
        }
    });
    let next = || lines.recv_timeout(PATIENCE).expect("a result")["id"].clone();
    let newest = next();
    assert!(first.contains(&newest.as_str().unwrap().to_owned()));
    // One that is stored after another that was taken later is not left out; none comes twice.
    let late = Timestamp::now();
    for seed in [
        Seed::labelled("shard/3", "positive"),
        Seed::labelled("shard/4", "positive").at(late),
    ] {
        let came = scene.commit(&[seed]).await;
        assert_eq!(next(), json!(came[0]));
    }
    let more: Vec<_> = (5..8)
        .map(|number| Seed::labelled(&format!("shard/{number}"), "neutral"))
        .collect();
    let more: BTreeSet<_> = scene.commit(&more).await.into_iter().collect();
    let came: BTreeSet<_> = (0..3)
        .map(|_| next().as_str().unwrap().to_owned())
        .collect();
    assert_eq!(came, more);
    let interrupted = Command::new("kill")
        .args(["-INT", &tail.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    assert_eq!(tail.wait().unwrap().code(), Some(0));
    assert!(lines.recv().is_err(), "nothing came twice");

    let retried = scene
        .program(
            &scene.setup.key("boss", &["admin"]),
            &[
                "jobs",
                "retry",
                "--integration",
                "reviews",
                "--output",
                "json",
            ],
        )
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&retried.stdout).unwrap();
    assert_eq!(said, json!({ "retried": 1, "left": 0 }));
}
