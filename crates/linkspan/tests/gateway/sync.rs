//! Pattern 1, `sync`.

use std::sync::atomic::Ordering;

use linkspan_testkit::Answer;

use crate::scripted::{Scene, until};

const FEEDBACK: &str = "[integration.feedback]\npattern = \"sync\"\nsteps = [\"mood\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_response_is_the_result() {
    let scene = Scene::start(FEEDBACK).await;
    scene.engine.open();
    let answer = scene.client.text("feedback", "a fine day").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let result = answer.json();
    assert_eq!(result["status"], "succeeded");
    assert_eq!(result["answers"]["mood"]["label"], "neutral");
    assert_eq!(result["steps"][0]["engine"], "scripted");
    assert_eq!(
        answer.header("linkspan-invocation-id"),
        result["id"].as_str()
    );
    assert!(
        scene.client.get("/v1/jobs").await.json()["jobs"]
            .as_array()
            .unwrap()
            .is_empty(),
        "nothing is stored"
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_is_answered_with_its_true_status() {
    let scene = Scene::start(FEEDBACK).await;
    scene.engine.open();
    for (code, status) in [
        ("unsupported-language", 422),
        ("engine-timeout", 504),
        ("engine-unavailable", 503),
    ] {
        let answer = scene.client.text("feedback", &format!("fail:{code}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        assert_eq!(
            answer.json()["request_id"].as_str(),
            answer.header("x-request-id")
        );
        assert_eq!(
            answer.header("retry-after").is_some(),
            status == 503,
            "{code}"
        );
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_deadline_the_answer_is_504_and_the_work_is_cancelled() {
    // Time enough for the work to begin.
    let scene = Scene::start(&format!("{FEEDBACK}deadline = \"2s\"\n")).await;
    let answer = scene.client.text("feedback", "slow").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "deadline-exceeded")
    );
    until(|| scene.engine.dropped.load(Ordering::SeqCst) == 1).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_overflow_the_work_goes_on_as_a_job_and_is_not_done_twice() {
    let scene = Scene::start(&format!(
        "{FEEDBACK}deadline = \"50ms\"\noverflow = \"async\"\n"
    ))
    .await;
    let answer = scene.client.text("feedback", "slow").await;
    let job = answer.job();
    assert_eq!(
        answer.header("location"),
        Some(format!("/v1/jobs/{job}").as_str())
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        scene.client.get(&format!("/v1/jobs/{job}")).await.json()["state"],
        "running"
    );
    scene.engine.open();
    let result = scene.client.result(&job).await;
    assert_eq!(
        (result.status, result.json()["id"].as_str()),
        (200, Some(job.as_str()))
    );
    assert_eq!(scene.engine.begun.load(Ordering::SeqCst), 1);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_queue_the_answer_is_503_at_once() {
    let scene = Scene::start(&format!("{FEEDBACK}concurrency = 1\nqueue = 1\n")).await;
    let (one, two) = (scene.client.clone(), scene.client.clone());
    let first = tokio::spawn(async move { one.text("feedback", "first").await });
    scene.engine.begun(1).await;
    let second = tokio::spawn(async move { two.text("feedback", "second").await });
    let gate = &scene.served.gateway.integrations["feedback"].gate;
    until(|| gate.waiting() == 1).await;
    let third = scene.client.text("feedback", "third").await;
    assert_eq!((third.status, third.code().as_str()), (503, "overloaded"));
    assert!(third.header("retry-after").is_some());
    scene.engine.open();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(second.await.unwrap().status, 200);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_cancels_its_work() {
    let scene = Scene::start(FEEDBACK).await;
    let client = scene.client.clone();
    let call = tokio::spawn(async move { client.text("feedback", "never mind").await });
    scene.engine.begun(1).await;
    call.abort();
    until(|| scene.engine.dropped.load(Ordering::SeqCst) == 1).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_body_bring_the_first_result_again_also_after_a_restart() {
    let scene = Scene::start(FEEDBACK).await;
    scene.engine.open();
    let keyed = |scene: &Scene, text: &str| {
        let body = serde_json::json!({ "text": text });
        Answer::of(
            scene
                .client
                .invocation("feedback")
                .header("idempotency-key", "order-1")
                .json(&body),
        )
    };
    let first = keyed(&scene, "once").await;
    assert_eq!(
        (first.status, first.header("idempotency-replayed")),
        (200, None)
    );
    let again = keyed(&scene, "once").await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, Some("true"))
    );
    assert_eq!(again.body, first.body);
    let other = keyed(&scene, "twice").await;
    assert_eq!(
        (other.status, other.code().as_str()),
        (422, "idempotency-key-reused")
    );
    assert_eq!(scene.engine.begun.load(Ordering::SeqCst), 1);

    let scene = Scene::start_in(scene.stop().await, FEEDBACK).await;
    let later = keyed(&scene, "once").await;
    assert_eq!(later.body, first.body);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_still_running_is_409_and_a_failure_that_can_pass_frees_it() {
    let scene = Scene::start(FEEDBACK).await;
    let send = |text: &str| {
        let body = serde_json::json!({ "text": text });
        Answer::of(
            scene
                .client
                .invocation("feedback")
                .header("idempotency-key", "k")
                .json(&body),
        )
    };
    let running = tokio::spawn(send("fail:engine-unavailable"));
    scene.engine.begun(1).await;
    let meanwhile = send("fail:engine-unavailable").await;
    assert_eq!(
        (meanwhile.status, meanwhile.code().as_str()),
        (409, "in-progress")
    );
    scene.engine.open();
    assert_eq!(running.await.unwrap().status, 503);
    assert_eq!(
        send("fail:engine-unavailable").await.status,
        503,
        "the key is free: the work is done anew"
    );
    assert_eq!(scene.engine.begun.load(Ordering::SeqCst), 2);
    let lasting = send("fail:unsupported-language").await;
    assert_eq!(lasting.status, 422);
    assert_eq!(
        send("fail:unsupported-language").await.code(),
        "unsupported-language"
    );
    assert_eq!(
        scene.engine.begun.load(Ordering::SeqCst),
        3,
        "a failure that lasts is answered from the store"
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn respond_async_makes_any_integration_answer_later() {
    let scene = Scene::start(FEEDBACK).await;
    let body = serde_json::json!({ "text": "later" });
    let answer = Answer::of(
        scene
            .client
            .invocation("feedback")
            .header("prefer", "respond-async")
            .json(&body),
    )
    .await;
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    let job = answer.job();
    scene.engine.open();
    assert_eq!(scene.client.result(&job).await.status, 200);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefer_wait_holds_a_sync_call_and_then_answers_202() {
    let scene = Scene::start(FEEDBACK).await;
    let body = serde_json::json!({ "text": "patient" });
    let held = |wait: &str| {
        let call = scene.client.invocation("feedback").header("prefer", wait);
        Answer::of(call.json(&body))
    };
    let short = held("wait=0").await;
    assert_eq!(short.header("preference-applied"), Some("wait=0"));
    let job = short.job();
    scene.engine.open();
    assert_eq!(scene.client.result(&job).await.status, 200);
    assert_eq!(held("wait=20").await.status, 200);
    scene.stop().await;
}

/// A call with the idempotency key `k`.
fn keyed(scene: &Scene, text: &str, prefer: Option<&str>) -> impl Future<Output = Answer> + use<> {
    let mut call = scene
        .client
        .invocation("feedback")
        .header("idempotency-key", "k");
    if let Some(prefer) = prefer {
        call = call.header("prefer", prefer);
    }
    Answer::of(call.json(&serde_json::json!({ "text": text })))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_call_whose_job_is_cancelled_stops_and_says_so_each_time() {
    let scene = Scene::start(FEEDBACK).await;
    let call = tokio::spawn(keyed(&scene, "stop me", None));
    scene.engine.begun(1).await;
    let jobs = scene.client.get("/v1/jobs").await.json();
    let job = jobs["jobs"][0]["id"].as_str().unwrap();
    let cancelled = scene.client.post(&format!("/v1/jobs/{job}/cancel")).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    until(|| scene.engine.dropped.load(Ordering::SeqCst) == 1).await;
    let first = call.await.unwrap();
    scene.engine.open();
    let again = keyed(&scene, "stop me", None).await;
    for answer in [first, again] {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (409, "wrong-state")
        );
    }
    assert_eq!(scene.engine.begun.load(Ordering::SeqCst), 1);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_overflowed_has_the_time_limit_of_an_attempt() {
    let scene = Scene::start(&format!(
        "{FEEDBACK}deadline = \"50ms\"\noverflow = \"async\"\nattempt_time_limit = \"3s\"\n"
    ))
    .await;
    let jobs = [
        scene.client.text("feedback", "endless").await.job(),
        keyed(&scene, "endless too", None).await.job(),
    ];
    for job in jobs {
        let result = scene.client.result(&job).await;
        assert_eq!(
            (result.status, result.code().as_str()),
            (504, "engine-timeout")
        );
    }
    assert_eq!(scene.engine.dropped.load(Ordering::SeqCst), 2);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_rather_have_a_job_gets_the_same_one_again_for_the_same_key() {
    let scene = Scene::start(FEEDBACK).await;
    let first = keyed(&scene, "patient", Some("wait=0")).await.job();
    let again = keyed(&scene, "patient", Some("wait=0")).await.job();
    assert_eq!(first, again);
    let impatient = keyed(&scene, "patient", None).await;
    assert_eq!(
        (impatient.status, impatient.code().as_str()),
        (409, "in-progress")
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_said_before_the_body_has_come() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let scene = Scene::start(&format!("{FEEDBACK}concurrency = 1\nqueue = 0\n")).await;
    let client = scene.client.clone();
    let first = tokio::spawn(async move { client.text("feedback", "first").await });
    scene.engine.begun(1).await;
    let mut connection = tokio::net::TcpStream::connect(scene.served.address)
        .await
        .unwrap();
    let head = "POST /v1/integrations/feedback/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500\r\n\r\n";
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    scene.engine.open();
    assert_eq!(first.await.unwrap().status, 200);
    scene.stop().await;
}
