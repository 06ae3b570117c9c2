//! Pattern 2, `async`.

use std::sync::atomic::Ordering;

use linkspan_testkit::Answer;
use reqwest::Method;

use crate::scripted::Scene;

const CALLS: &str = "[integration.calls]\npattern = \"async\"\nsteps = [\"mood\"]\n\
    attempts = 3\nbackoff = { first = \"1ms\", max = \"2ms\" }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_accepted_runs_and_has_its_result() {
    let scene = Scene::start(CALLS).await;
    let accepted = scene.client.text("calls", "later").await;
    let job = accepted.job();
    scene.engine.begun(1).await;
    let path = format!("/v1/jobs/{job}");
    let running = scene.client.get(&path).await;
    assert_eq!(
        (
            running.json()["state"].as_str(),
            running.json()["attempts"].as_u64()
        ),
        (Some("running"), Some(1))
    );
    let early = scene.client.get(&format!("{path}/result")).await;
    assert_eq!((early.status, early.code().as_str()), (409, "not-ready"));
    scene.engine.open();
    let result = scene.client.result(&job).await;
    assert_eq!(
        (result.status, result.json()["status"].as_str()),
        (200, Some("succeeded"))
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_pass_is_tried_again_and_what_cannot_is_not() {
    let scene = Scene::start(CALLS).await;
    scene.engine.open();
    let passing = scene
        .client
        .text("calls", "fail:engine-unavailable")
        .await
        .job();
    let failed = scene.client.result(&passing).await;
    assert_eq!(
        (failed.status, failed.code().as_str()),
        (503, "engine-unavailable")
    );
    assert_eq!(scene.engine.begun.load(Ordering::SeqCst), 3);
    let lasting = scene
        .client
        .text("calls", "fail:unreadable-document")
        .await
        .job();
    assert_eq!(scene.client.result(&lasting).await.status, 422);
    assert_eq!(scene.engine.begun.load(Ordering::SeqCst), 4);
    let shown = scene
        .client
        .get(&format!("/v1/jobs/{lasting}"))
        .await
        .json();
    assert_eq!(
        (shown["state"].as_str(), shown["error"]["code"].as_str()),
        (Some("failed"), Some("unreadable-document"))
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_wait_holds_the_answer_up_to_its_time() {
    let scene = Scene::start(CALLS).await;
    let body = serde_json::json!({ "text": "held" });
    let short = Answer::of(
        scene
            .client
            .invocation("calls")
            .header("prefer", "wait=0")
            .json(&body),
    )
    .await;
    assert_eq!(
        (short.status, short.header("preference-applied")),
        (202, Some("wait=0"))
    );
    scene.engine.open();
    let held = Answer::of(
        scene
            .client
            .invocation("calls")
            .header("prefer", "wait=30")
            .json(&body),
    )
    .await;
    assert_eq!(
        (held.status, held.header("preference-applied")),
        (200, Some("wait=30"))
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_answers_when_the_job_changes() {
    let scene = Scene::start(CALLS).await;
    let job = scene.client.text("calls", "watched").await.job();
    scene.engine.begun(1).await;
    let path = format!("/v1/jobs/{job}");
    let seen = scene.client.get(&path).await;
    let tag = seen.header("etag").expect("an ETag").to_owned();
    let unchanged = Answer::of(
        scene
            .client
            .request(Method::GET, &path)
            .header("if-none-match", &tag),
    )
    .await;
    assert_eq!(unchanged.status, 304);
    let poll = tokio::spawn(Answer::of(
        scene
            .client
            .request(Method::GET, &path)
            .header("if-none-match", &tag)
            .header("prefer", "wait=30"),
    ));
    scene.engine.open();
    let changed = poll.await.unwrap();
    assert_eq!(
        (changed.status, changed.json()["state"].as_str()),
        (200, Some("succeeded"))
    );
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_job_end_with_it() {
    let scene = Scene::start(CALLS).await;
    let job = scene.client.text("calls", "followed").await.job();
    scene.engine.begun(1).await;
    let events = tokio::spawn(Answer::of(
        scene
            .client
            .request(Method::GET, &format!("/v1/jobs/{job}/events")),
    ));
    scene.engine.open();
    let events = events.await.unwrap();
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    let names: Vec<_> = events
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(names.last(), Some(&"succeeded"), "{}", events.body);
    let last = events
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .next_back()
        .expect("an id")
        .to_owned();
    let resumed = Answer::of(
        scene
            .client
            .request(Method::GET, &format!("/v1/jobs/{job}/events"))
            .header("last-event-id", last),
    )
    .await;
    assert!(!resumed.body.contains("event:"), "{}", resumed.body);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_and_can_be_tried_again() {
    let scene = Scene::start(CALLS).await;
    let job = scene.client.text("calls", "stop me").await.job();
    scene.engine.begun(1).await;
    let cancelled = scene.client.post(&format!("/v1/jobs/{job}/cancel")).await;
    assert_eq!(
        (cancelled.status, cancelled.json()["state"].as_str()),
        (200, Some("cancelled"))
    );
    crate::scripted::until(|| scene.engine.dropped.load(Ordering::SeqCst) == 1).await;
    let twice = scene.client.post(&format!("/v1/jobs/{job}/cancel")).await;
    assert_eq!((twice.status, twice.code().as_str()), (409, "wrong-state"));
    scene.engine.open();
    assert_eq!(
        scene
            .client
            .post(&format!("/v1/jobs/{job}/retry"))
            .await
            .status,
        200
    );
    assert_eq!(scene.client.result(&job).await.status, 200);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_is_gone_and_its_audit_line_stays() {
    let scene = Scene::start(CALLS).await;
    scene.engine.open();
    let job = scene.client.text("calls", "forget this").await.job();
    assert_eq!(scene.client.result(&job).await.status, 200);
    let deleted = Answer::of(
        scene
            .client
            .request(Method::DELETE, &format!("/v1/jobs/{job}")),
    )
    .await;
    assert_eq!(deleted.status, 204);
    assert_eq!(
        scene.client.get(&format!("/v1/jobs/{job}")).await.code(),
        "not-found"
    );
    let audit = scene
        .served
        .gateway
        .store
        .list_audit(linkspan::store::AuditQuery::newest(10))
        .await
        .unwrap();
    assert!(
        audit
            .lines
            .iter()
            .any(|line| line.action == "job.delete" && line.target == job),
        "{audit:?}"
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_newest_first_in_pages() {
    let scene = Scene::start(CALLS).await;
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(
            scene
                .client
                .text("calls", &format!("number {number}"))
                .await
                .job(),
        );
    }
    let (mut listed, mut after) = (Vec::new(), String::new());
    loop {
        let page = scene
            .client
            .get(&format!("/v1/jobs?integration=calls&limit=2{after}"))
            .await
            .json();
        listed.extend(
            page["jobs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|job| job["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    made.reverse();
    assert_eq!(listed, made);
    assert_eq!(
        scene.client.get("/v1/jobs?state=sleeping").await.code(),
        "bad-request"
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gives_running_jobs_back_and_the_next_start_runs_them() {
    let toml =
        format!("{CALLS}\n[integration.other]\npattern = \"async\"\nsteps = [\"language\"]\n");
    let scene = Scene::start(&toml).await;
    let job = scene.client.text("calls", "cut off").await.job();
    scene.engine.begun(1).await;
    // As a second Ctrl-C would: attempts are not waited for.
    scene.served.gateway.abandon.cancel();
    scene.served.stop().await;
    let scene = Scene::start_in(scene.folder, &toml).await;
    scene.engine.open();
    let result = scene.client.result(&job).await;
    assert_eq!(result.status, 200, "{}", result.body);
    let shown = scene.client.get(&format!("/v1/jobs/{job}")).await.json();
    assert_eq!(
        shown["attempts"], 1,
        "the attempt that was given back does not count"
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_not_held_up_by_those_who_wait_for_a_job() {
    let scene = Scene::start(CALLS).await;
    let job = scene.client.text("calls", "cut off").await.job();
    scene.engine.begun(1).await;
    let poll = |path: String| {
        let request = scene.client.request(Method::GET, &path);
        tokio::spawn(Answer::of(request.header("prefer", "wait=60")))
    };
    let polls = [
        poll(format!("/v1/jobs/{job}")),
        poll(format!("/v1/jobs/{job}/result")),
    ];
    // Both polls' watches, and that of the attempt itself.
    let watchers = scene.served.gateway.store.watchers().clone();
    crate::scripted::until(|| watchers.count(job.parse().unwrap()) == 3).await;
    scene.served.gateway.abandon.cancel();
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(45), scene.served.stop());
    stopped
        .await
        .expect("the drain does not wait for the polls");
    let statuses = futures_util::future::join_all(polls).await;
    let statuses: Vec<_> = statuses
        .into_iter()
        .map(|one| one.unwrap().status)
        .collect();
    assert_eq!(statuses, [200, 409]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_job_ends_when_the_job_is_deleted() {
    let scene = Scene::start(CALLS).await;
    let call = scene.client.invocation("calls").header("prefer", "wait=60");
    let call = tokio::spawn(Answer::of(
        call.json(&serde_json::json!({ "text": "gone" })),
    ));
    scene.engine.begun(1).await;
    let jobs = scene.client.get("/v1/jobs").await.json();
    let path = format!("/v1/jobs/{}", jobs["jobs"][0]["id"].as_str().unwrap());
    let erased = Answer::of(scene.client.request(Method::DELETE, &path)).await;
    assert_eq!(erased.status, 204);
    assert_eq!(call.await.unwrap().status, 404);
    scene.stop().await;
}
