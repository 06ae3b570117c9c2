//! A disk that fails or is full: new work is refused, nothing that was acknowledged is lost.

use std::path::Path;

use linkspan_testkit::faults::{Disk, Fault};
use linkspan_testkit::{Answer, Client, Gateway, Setup};

use crate::{PROGRAM, until};

const TOML: &str = r#"
[service.text]
task = "extract-text"
[service.language]
task = "detect-language"
[service.mood]
task = "sentiment"
[integration.reviews]
pattern = "async"
steps = ["language", "mood"]
backoff = { first = "1ms", max = "20ms" }
[integration.letters]
pattern = "async"
steps = ["text", "language"]
backoff = { first = "1ms", max = "20ms" }
"#;

/// A gateway on a disk that can be made to fail.
struct Scene {
    disk: Disk,
    setup: Setup,
    key: String,
}

/// An acknowledged job with its result.
struct Done {
    job: String,
    result: String,
}

impl Scene {
    fn new(toml: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let disk = Disk::new(&source);
        let mut setup = Setup::new(PROGRAM, toml);
        for (name, value) in disk.env() {
            setup = setup.env(name, &value);
        }
        let key = setup.key("estate", &["invoke", "read", "admin"]);
        Self { disk, setup, key }
    }

    fn serve(&self) -> (Gateway, Client) {
        let gateway = self.setup.serve();
        let client = gateway.client(&self.key);
        (gateway, client)
    }

    /// How often the gateway called for an fsync of such files, and how many of them failed.
    fn syncs(&self, files: &str) -> (usize, usize) {
        let synced = self.disk.synced();
        let there: Vec<_> = synced
            .iter()
            .filter(|synced| synced.path.contains(files))
            .collect();
        let failed = there.iter().filter(|synced| synced.failed).count();
        (there.len(), failed)
    }
}

fn long_text() -> String {
    "The ferry left at eight and arrived at noon at quay four. ".repeat(1300)
}

async fn send_long(client: &Client) -> Answer {
    let text = long_text();
    assert!(text.len() > 65536, "it would fit a row");
    let request = client.invocation("reviews").body(text);
    Answer::of(request.header("content-type", "text/plain")).await
}

/// Waits for the result of what was accepted.
async fn done(client: &Client, accepted: Answer) -> Done {
    let job = accepted.job();
    let result = client.result(&job).await;
    assert_eq!(result.status, 200, "{}", result.body);
    Done {
        job,
        result: result.body,
    }
}

/// A refusal that says that the store does not accept, and when to come again.
fn assert_refused(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "store-unavailable"),
        "{}",
        answer.body
    );
    let after = answer.header("retry-after").expect("Retry-After");
    assert!(after.parse::<u32>().is_ok_and(|after| after > 0), "{after}");
}

async fn assert_all_there(client: &Client, jobs: &[Done]) {
    for done in jobs {
        let result = client.result(&done.job).await;
        assert_eq!((result.status, &result.body), (200, &done.result));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_whose_fsync_fails_takes_no_more_until_the_restart_and_keeps_what_was_acknowledged() {
    let scene = Scene::new(TOML);
    let (gateway, client) = scene.serve();
    let mut jobs = vec![done(&client, send_long(&client).await).await];
    for number in 0..3 {
        let text = format!("A good review, number {number}.");
        jobs.push(done(&client, client.text("reviews", &text).await).await);
    }
    let under_way = client.text("reviews", "A fine day at sea.").await.job();
    scene.disk.fail(Fault::Sync, "linkspan.db-wal");
    assert_refused(&client.text("reviews", "Too late for this one.").await);
    let (syncs, failed) = scene.syncs("linkspan.db");
    assert_eq!(failed, 1);
    for _ in 0..5 {
        assert_refused(&client.text("reviews", "And for this one.").await);
        assert_refused(&send_long(&client).await);
    }
    assert_refused(&client.get("/readyz").await);
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_all_there(&client, &jobs).await;
    scene.disk.heal(Fault::Sync);
    assert_refused(
        &client
            .text("reviews", "A disk that failed is not trusted.")
            .await,
    );
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(
        scene.syncs("linkspan.db"),
        (syncs, 1),
        "no fsync is tried again, not at the stop either"
    );

    let (gateway, client) = scene.serve();
    assert_eq!(client.get("/readyz").await.status, 200);
    assert_all_there(&client, &jobs).await;
    let result = client.result(&under_way).await;
    assert_eq!(result.status, 200, "{}", result.body);
    done(&client, client.text("reviews", "All is well.").await).await;
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_that_fails_at_a_checkpoint_leaves_the_log_as_it_is() {
    let scene = Scene::new(TOML);
    let (gateway, client) = scene.serve();
    let mut jobs = Vec::new();
    for number in 0..3 {
        let text = format!("A good review, number {number}.");
        jobs.push(done(&client, client.text("reviews", &text).await).await);
    }
    scene.disk.fail(Fault::Sync, "linkspan.db$");
    let erased = jobs.pop().expect("a job");
    let path = format!("/v1/jobs/{}", erased.job);
    let request = client.request(reqwest::Method::DELETE, &path);
    let deleted = Answer::of(request).await;
    // The deletion is durable in the log; what fails is bringing the log into the file.
    assert_eq!(deleted.status, 204, "{}", deleted.body);
    until("the store to be red", || async {
        (client.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    let before = scene.syncs("linkspan.db");
    assert_eq!(before.1, 1);
    assert_refused(&client.text("reviews", "Not now.").await);
    assert_refused(&send_long(&client).await);
    scene.disk.heal(Fault::Sync);
    gateway.kill();
    assert_eq!(scene.syncs("linkspan.db"), before);

    let (gateway, client) = scene.serve();
    assert_all_there(&client, &jobs).await;
    assert_eq!(client.get(&path).await.status, 404);
    done(&client, client.text("reviews", "All is well.").await).await;
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_whose_fsync_fails_for_a_document_takes_no_more_of_any_size() {
    let scene = Scene::new(TOML);
    let (gateway, client) = scene.serve();
    let jobs = [
        done(&client, send_long(&client).await).await,
        done(&client, client.text("reviews", "A good review.").await).await,
    ];
    scene.disk.fail(Fault::Sync, "/blobs/");
    let request = client
        .invocation("reviews")
        .header("content-type", "text/plain")
        .body(long_text() + "And more.");
    assert_refused(&Answer::of(request).await);
    assert_refused(&client.get("/readyz").await);
    let before = scene.syncs("/blobs/");
    assert_eq!(before.1, 1);
    assert_refused(&client.text("reviews", "A small one.").await);
    assert_refused(&send_long(&client).await);
    scene.disk.heal(Fault::Sync);
    assert_refused(&send_long(&client).await);
    assert_eq!(scene.syncs("/blobs/"), before, "no fsync is tried again");
    assert_all_there(&client, &jobs).await;
    gateway.kill();

    let (gateway, client) = scene.serve();
    assert_all_there(&client, &jobs).await;
    done(&client, send_long(&client).await).await;
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_that_is_full_refuses_and_accepts_again_by_itself() {
    let scene = Scene::new(TOML);
    let (gateway, client) = scene.serve();
    let mut jobs = vec![
        done(&client, send_long(&client).await).await,
        done(&client, client.text("reviews", "A good review.").await).await,
    ];
    let under_way = [
        client.text("reviews", "A fine day at sea.").await.job(),
        send_long(&client).await.job(),
    ];
    for files in ["/data/", "/blobs/", "linkspan.db-wal"] {
        scene.disk.fail(Fault::Write, files);
        let refused = match files {
            "/blobs/" => send_long(&client).await,
            _ => client.text("reviews", "There is no room.").await,
        };
        assert_refused(&refused);
        assert_refused(&client.get("/readyz").await);
        assert_refused(&client.text("reviews", "There is no room either.").await);
        assert_refused(&send_long(&client).await);
        assert_eq!(client.get("/healthz").await.status, 200);
        assert_all_there(&client, &jobs).await;
        scene.disk.heal(Fault::Write);
        until("the store to accept again", || async {
            (client.get("/readyz").await.status == 200).then_some(())
        })
        .await;
        jobs.push(done(&client, client.text("reviews", "Room again.").await).await);
        jobs.push(done(&client, send_long(&client).await).await);
    }
    for job in under_way {
        let result = client.result(&job).await;
        assert_eq!(result.status, 200, "{}", result.body);
    }
    gateway.kill();
    let (gateway, client) = scene.serve();
    assert_all_there(&client, &jobs).await;
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_space_of_max_size_bounds_what_is_accepted_and_not_its_results() {
    let toml = format!("[store]\nmax_size = \"1 MiB\"\n{TOML}concurrency = 1\n");
    let scene = Scene::new(&toml);
    let (gateway, client) = scene.serve();
    // A result of this holds the text again, with its lines: it is larger than the request.
    let text = "The ferry left at eight and arrived at noon at quay four.\n".repeat(900);
    let mut accepted = Vec::new();
    let refused = loop {
        let request = client.invocation("letters").body(text.clone());
        let answer = Answer::of(request.header("content-type", "text/plain")).await;
        if answer.status != 202 {
            break answer;
        }
        accepted.push(answer.job());
        assert!(accepted.len() < 100, "the store has no bound");
    };
    assert_refused(&refused);
    assert_refused(&client.get("/readyz").await);
    assert!(accepted.len() > 3, "{}", accepted.len());
    for job in &accepted {
        let result = client.result(job).await;
        assert_eq!(result.status, 200, "{}", result.body);
    }
    assert_refused(&client.text("reviews", "There is no room.").await);
    for job in &accepted {
        let request = client.request(reqwest::Method::DELETE, &format!("/v1/jobs/{job}"));
        assert_eq!(Answer::of(request).await.status, 204);
    }
    until("the store to accept again", || async {
        (client.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    done(&client, client.text("reviews", "Room again.").await).await;
    assert_eq!(gateway.stop(), Some(0));
}
