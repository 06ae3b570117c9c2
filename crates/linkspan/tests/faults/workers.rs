//! Hostile documents and workers that die or hang, over HTTP: each costs its own invocation and no other.

use std::path::PathBuf;

use linkspan_testkit::faults::{processor_ticks, signal};
use linkspan_testkit::{Answer, Client, Gateway, Setup, fixture};

use crate::{PROGRAM, until};

const TOML: &str = r#"
[service.text]
task = "extract-text"
[service.language]
task = "detect-language"
[integration.letters]
pattern = "sync"
steps = ["text", "language"]
deadline = "60s"
attempts = 3
backoff = { first = "1ms", max = "2ms" }
"#;

/// A long piece of work: its pages are pictures.
const LONG_WORK: &str = "pdf/log-12-pages-scanned.pdf";

fn start(worker: &str) -> (Setup, String, Gateway, Client) {
    let setup = Setup::new(PROGRAM, &format!("[worker]\n{worker}\n{TOML}"));
    let key = setup.key("estate", &["invoke", "read"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    (setup, key, gateway, client)
}

/// Sends a file; it says itself what it is.
async fn send(client: &Client, file: PathBuf, later: bool) -> Answer {
    let bytes = std::fs::read(file).expect("the file is there");
    let mut request = client.invocation("letters").body(bytes);
    if later {
        request = request.header("prefer", "respond-async");
    }
    Answer::of(request).await
}

async fn assert_good_document_is_read(client: &Client) {
    let answer = send(client, fixture("office/report.docx"), false).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = &answer.json()["answers"]["text"]["text"];
    assert!(text.as_str().is_some_and(|text| text.len() > 100), "{text}");
}

/// The one worker that is at work: it has used processor time since it was looked at first.
async fn busy_worker(gateway: &Gateway) -> u32 {
    const TICKS: u64 = 20;
    let ticks = |pid| processor_ticks(pid).unwrap_or(0);
    let before: Vec<_> = gateway
        .workers()
        .into_iter()
        .map(|pid| (pid, ticks(pid)))
        .collect();
    until("a worker at work", || async {
        gateway.workers().into_iter().find(|pid| {
            let used = before.iter().find(|(known, _)| known == pid);
            ticks(*pid) > TICKS + used.map_or(0, |(_, ticks)| *ticks)
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_read_hostile_documents_at_the_cost_of_those_alone() {
    let (_setup, _key, gateway, client) = start("memory_limit = \"512 MiB\"\ntime_limit = \"15s\"");
    let mut files: Vec<_> = std::fs::read_dir(fixture("bombs"))
        .expect("the bombs are there")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.push(fixture("images/damaged-truncated.jpg"));
    files.push(fixture("images/damaged-not-a-picture.png"));
    files.push(fixture("pdf/damaged-truncated.pdf"));
    files.sort();
    assert!(files.len() > 12);
    // The same integration by both patterns.
    let mut jobs = Vec::new();
    for file in &files {
        let accepted = send(&client, file.clone(), true).await;
        jobs.push((file, accepted.job()));
    }
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let answer = send(&client, file.clone(), false).await;
        assert_judged(&name, &answer);
        assert_good_document_is_read(&client).await;
    }
    for (file, job) in jobs {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        assert_judged(&name, &client.result(&job).await);
        let shown = client.get(&format!("/v1/jobs/{job}")).await.json();
        assert_eq!(shown["attempts"], 1, "{name} is not tried again: {shown}");
    }
    let peak = gateway.peak_memory_kib() / 1024;
    assert!(peak < 300, "the gateway itself took {peak} MiB");
    eprintln!("the gateway's peak: {peak} MiB");
    assert_eq!(gateway.stop(), Some(0));
}

/// A hostile document may be read within the limits; else the problem says what is wrong with it, never that linkspan is at fault.
fn assert_judged(name: &str, answer: &Answer) {
    let refused = ["one-gibibyte.docx", "60000-by-60000.png"];
    eprintln!("{name}: {}", answer.status);
    match answer.status {
        200 => assert!(!refused.contains(&name), "{name} was read"),
        422 | 504 => {
            let detail = answer.json()["detail"].as_str().unwrap_or_default().len();
            assert!(detail > 20, "{name}: {}", answer.body);
            assert_ne!(answer.json()["retryable"], true, "{name}: {}", answer.body);
        }
        415 => assert_eq!(answer.code(), "unsupported-media-type"),
        status => panic!("{name}: {status} {}", answer.body),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_run_out_of_memory_cost_their_own_invocation() {
    let (_setup, _key, gateway, client) = start("memory_limit = \"256 MiB\"");
    for later in [false, true] {
        let mut answer = send(&client, fixture("bombs/flate-500-mib.pdf"), later).await;
        if later {
            answer = client.result(&answer.job()).await;
        }
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "memory-limit"),
            "{}",
            answer.body
        );
        assert_good_document_is_read(&client).await;
    }
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_killed_cost_their_own_invocation() {
    let (_setup, _key, gateway, client) = start("max_workers = 2");
    assert_good_document_is_read(&client).await;
    for later in [false, true] {
        let victim = {
            let client = client.clone();
            tokio::spawn(async move {
                let answer = send(&client, fixture(LONG_WORK), later).await;
                match later {
                    true => client.result(&answer.job()).await,
                    false => answer,
                }
            })
        };
        let worker = busy_worker(&gateway).await;
        assert_good_document_is_read(&client).await;
        signal(worker, "KILL");
        let answer = victim.await.expect("an answer");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "engine-crashed"),
            "{}",
            answer.body
        );
        assert_good_document_is_read(&client).await;
    }
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_hang_are_ended_by_the_time_limit() {
    let (_setup, _key, gateway, client) = start("max_workers = 1\ntime_limit = \"15s\"");
    for later in [false, true] {
        assert_good_document_is_read(&client).await;
        let workers = gateway.workers();
        let [worker] = workers[..] else {
            panic!("one worker: {workers:?}")
        };
        // It will take the next document and do nothing with it.
        signal(worker, "STOP");
        let mut answer = send(&client, fixture("office/report.docx"), later).await;
        if later {
            let job = answer.job();
            answer = client.result(&job).await;
            let shown = client.get(&format!("/v1/jobs/{job}")).await.json();
            assert_eq!(
                (&shown["state"], &shown["attempts"]),
                (&"failed".into(), &1.into())
            );
        }
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (504, "engine-timeout"),
            "{}",
            answer.body
        );
        until("the end of the worker that hung", || async {
            (!gateway.workers().contains(&worker)).then_some(())
        })
        .await;
    }
    assert_good_document_is_read(&client).await;
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_go_to_zero_when_there_is_no_work() {
    let (_setup, _key, gateway, client) = start("idle_timeout = \"10s\"");
    for _ in 0..2 {
        assert_good_document_is_read(&client).await;
        assert_eq!(gateway.workers().len(), 1, "one worker is warm");
        until("no workers", || async {
            gateway.workers().is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_killed_gateway_end_and_a_document_that_kills_it_is_given_up() {
    let (setup, key, mut gateway, mut client) = start("");
    let job = send(&client, fixture(LONG_WORK), true).await.job();
    let path = format!("/v1/jobs/{job}");
    for attempt in 1..=3 {
        until("the attempt", || async {
            let shown = client.get(&path).await.json();
            (shown["state"] == "running" && shown["attempts"] == attempt).then_some(())
        })
        .await;
        let worker = busy_worker(&gateway).await;
        gateway.kill();
        until("the end of the dead gateway's worker", || async {
            processor_ticks(worker).is_none().then_some(())
        })
        .await;
        gateway = setup.serve();
        client = gateway.client(&key);
    }
    let shown = client.get(&path).await.json();
    assert_eq!(
        (&shown["state"], &shown["attempts"]),
        (&"failed".into(), &3.into()),
        "{shown}"
    );
    let result = client.result(&job).await;
    assert_eq!(
        (result.status, result.code().as_str()),
        (422, "engine-crashed"),
        "{}",
        result.body
    );
    assert_good_document_is_read(&client).await;
    assert_eq!(gateway.stop(), Some(0));
}
