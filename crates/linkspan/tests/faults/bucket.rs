//! Documents in a bucket on another machine: worked on, erased, and taken again after the store was away.

use std::path::Path;

use linkspan_testkit::{Answer, Client, Gateway, S3Server, Setup};
use reqwest::Method;

use crate::{PROGRAM, until};

const TOML: &str = r#"
[service.text]
task = "extract-text"
[service.language]
task = "detect-language"
[integration.letters]
pattern = "async"
steps = ["text", "language"]
backoff = { first = "1ms", max = "20ms" }
[integration.now]
pattern = "sync"
steps = ["text"]
[server]
max_body = "1 GiB"
[store]
blobs = "s3://documents/team"
"#;

struct Scene {
    server: S3Server,
    setup: Setup,
    key: String,
}

impl Scene {
    fn new() -> Self {
        let server = S3Server::start("documents");
        let setup = Setup::new(PROGRAM, &format!("{TOML}{}", server.toml()))
            .env("S3_KEY_ID", S3Server::ACCESS_KEY_ID)
            .env("S3_SECRET", S3Server::SECRET_ACCESS_KEY);
        let key = setup.key("estate", &["invoke", "read", "admin"]);
        Self { server, setup, key }
    }

    fn serve(&self) -> (Gateway, Client) {
        let gateway = self.setup.serve();
        let client = gateway.client(&self.key);
        (gateway, client)
    }

    /// How many documents the bucket holds.
    fn documents(&self) -> usize {
        fn files(folder: &Path) -> usize {
            let Ok(entries) = std::fs::read_dir(folder) else {
                return 0;
            };
            entries
                .flatten()
                .map(|entry| match entry.path() {
                    path if path.is_dir() => files(&path),
                    path => usize::from(path.file_name().is_some_and(|name| name != "probe")),
                })
                .sum()
        }
        files(&self.server.file("documents", "team"))
    }
}

fn long_text() -> String {
    "The ferry left at eight and arrived at noon at quay four. ".repeat(1300)
}

async fn send(client: &Client, integration: &str, text: String) -> Answer {
    let request = client.invocation(integration).body(text);
    Answer::of(request.header("content-type", "text/plain")).await
}

async fn ready(client: &Client, status: u16) -> Answer {
    until(&format!("readiness {status}"), || async {
        let answer = client.get("/readyz").await;
        (answer.status == status).then_some(answer)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_document_goes_by_the_bucket_and_leaves_it_with_its_job() {
    let scene = Scene::new();
    let (gateway, client) = scene.serve();
    let job = send(&client, "letters", long_text()).await.job();
    let result = client.result(&job).await;
    assert_eq!(result.status, 200, "{}", result.body);
    let answers = &result.json()["answers"];
    assert_eq!(answers["language"]["language"], "en");
    let text = answers["text"]["text"].as_str().unwrap_or_default();
    assert_eq!(text.matches("quay four").count(), 1300);
    assert_eq!(scene.documents(), 1);
    let again = send(&client, "letters", long_text()).await.job();
    assert_eq!(client.result(&again).await.status, 200);
    assert_eq!(scene.documents(), 1, "the same content is kept once");
    for job in [&job, &again] {
        let path = format!("/v1/jobs/{job}");
        let deleted = Answer::of(client.request(Method::DELETE, &path)).await;
        assert_eq!(deleted.status, 204, "{}", deleted.body);
    }
    until("the document is erased", || async {
        (scene.documents() == 0).then_some(())
    })
    .await;
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_accepted_before_a_restart_fetches_its_document() {
    let scene = Scene::new();
    let (gateway, client) = scene.serve();
    let job = send(&client, "letters", long_text()).await.job();
    gateway.kill();
    let (_gateway, client) = scene.serve();
    let result = client.result(&job).await;
    assert_eq!(result.status, 200, "{}", result.body);
    assert_eq!(result.json()["answers"]["language"]["language"], "en");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_away_large_jobs_are_refused_and_small_ones_and_sync_go_on() {
    let mut scene = Scene::new();
    let (gateway, client) = scene.serve();
    assert_eq!(client.get("/readyz").await.status, 200);
    scene.server.stop();
    let refused = send(&client, "letters", long_text()).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "store-unavailable")
    );
    assert!(refused.header("retry-after").is_some());
    let red = ready(&client, 503).await;
    assert!(red.body.contains("does not answer"), "{}", red.body);
    let small = send(&client, "letters", "A fine day at sea.".to_owned()).await;
    assert_eq!(client.result(&small.job()).await.status, 200);
    assert_eq!(send(&client, "now", long_text()).await.status, 200);
    scene.server.start_again();
    ready(&client, 200).await;
    let job = send(&client, "letters", long_text()).await.job();
    assert_eq!(client.result(&job).await.status, 200);
    let log = gateway.log();
    assert!(!log.contains(S3Server::SECRET_ACCESS_KEY), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_the_bucket_without_using_up_their_attempts() {
    let mut scene = Scene::new();
    let (gateway, client) = scene.serve();
    let job = send(&client, "letters", long_text()).await.job();
    gateway.kill();
    scene.server.stop();
    let (gateway, client) = scene.serve();
    until("the job's document is asked for", || async {
        let log = gateway.log();
        log.contains("a job's document cannot be had").then_some(())
    })
    .await;
    scene.server.start_again();
    let result = client.result(&job).await;
    assert_eq!(result.status, 200, "{}", result.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_document_passes_through_in_pieces() {
    let scene = Scene::new();
    let (gateway, client) = scene.serve();
    let peak = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid()))
            .expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        kilobytes.and_then(|text| text.parse().ok()).expect("VmHWM")
    };
    let job = send(&client, "letters", long_text()).await.job();
    assert_eq!(client.result(&job).await.status, 200);
    let before = peak();
    // Not a text: what is looked at is the way there.
    let size: u64 = 300 << 20;
    let pieces = (0..size / 65536).map(|_| Ok::<_, std::io::Error>(vec![0_u8; 65536]));
    let body = reqwest::Body::wrap_stream(tokio_stream::iter(pieces));
    let request = client.invocation("letters").body(body);
    let accepted = Answer::of(request.header("content-type", "application/pdf")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let grown = peak().saturating_sub(before);
    assert!(
        grown < 100 << 10,
        "{grown} KiB for a document of {size} bytes"
    );
    assert!(scene.documents() == 2);
}
