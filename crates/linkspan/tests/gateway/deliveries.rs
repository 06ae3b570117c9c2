//! Results on their way out of a whole gateway, to real HTTP receivers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use linkspan::store::{Delivery, DeliveryQuery};
use linkspan_model::DeliveryState;
use linkspan_testkit::Answer;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::scripted::{Scene, until};

/// What came to a receiver.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    id: String,
    body: Value,
}

type Script = Box<dyn Fn(&Seen) -> u16 + Send + Sync>;

/// A receiver on loopback: it remembers what comes and answers with the status that its script gives. What comes to `/slow` waits at
/// the gate first.
struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    serving: tokio::task::JoinHandle<()>,
}

struct Inner {
    seen: Mutex<Vec<Seen>>,
    gate: Semaphore,
    script: Script,
}

impl Receiver {
    async fn start(script: impl Fn(&Seen) -> u16 + Send + Sync + 'static) -> Self {
        let inner = Arc::new(Inner {
            seen: Mutex::default(),
            gate: Semaphore::new(0),
            script: Box::new(script),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(receive).with_state(inner.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            inner,
            serving,
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// How often something came to a path.
    fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path == path).count()
    }

    /// A webhook to a path, as an item of `deliver`.
    fn webhook(&self, path: &str, rest: &str) -> String {
        format!(
            "{{ webhook = \"http://{}{path}\", secret = \"${{env:WEBHOOK_SECRET}}\"{rest} }}",
            self.address
        )
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let seen = Seen {
        path: head.uri.path().to_owned(),
        id: head.headers["webhook-id"].to_str().unwrap().to_owned(),
        body: serde_json::from_slice(&body).unwrap(),
    };
    inner.seen.lock().unwrap().push(seen.clone());
    if seen.path == "/slow" {
        inner.gate.acquire().await.unwrap().forget();
    }
    StatusCode::from_u16((inner.script)(&seen))
        .unwrap()
        .into_response()
}

/// The integration `calls` with these channels.
fn calls(pattern: &str, channels: &[String]) -> String {
    format!(
        "[outbound]\nprivate_networks = [\"127.0.0.0/8\"]\n\
         [integration.calls]\npattern = \"{pattern}\"\nsteps = [\"mood\"]\nattempts = 2\nbackoff = {{ first = \"1ms\", max = \"2ms\" }}\n\
         deliver = [{}]\n",
        channels.join(", ")
    )
}

/// All deliveries, oldest first.
async fn deliveries(scene: &Scene) -> Vec<Delivery> {
    let query = DeliveryQuery {
        limit: 1000,
        ..DeliveryQuery::default()
    };
    let page = scene.served.gateway.store.list_deliveries(query).await;
    let mut deliveries = page.unwrap().deliveries;
    deliveries.reverse();
    deliveries
}

/// Waits until so many deliveries are in a state.
async fn until_count(scene: &Scene, state: DeliveryState, count: usize) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        loop {
            let all = deliveries(scene).await;
            let there = all.iter().filter(|one| one.state == state).count();
            if there >= count {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("the deliveries get there in time");
}

async fn endpoint(scene: &Scene) -> Value {
    let page = scene.client.get("/v1/endpoints").await.json();
    page["endpoints"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_failures_arrive_as_they_can_be_fetched() {
    let receiver = Receiver::start(|_| 200).await;
    let scene = Scene::start(&calls("async", &[receiver.webhook("/crm", "")])).await;
    scene.engine.open();
    let good = scene.client.text("calls", "fine").await.job();
    let bad = scene
        .client
        .text("calls", "fail:engine-unavailable")
        .await
        .job();
    until(|| receiver.seen().len() == 2).await;
    until_count(&scene, DeliveryState::Delivered, 2).await;
    let result = scene.client.result(&good).await.json();
    let seen = receiver.seen();
    let of = |job: &str| {
        let data = seen.iter().map(|seen| &seen.body["data"]);
        data.into_iter()
            .find(|data| data["id"] == job)
            .cloned()
            .unwrap()
    };
    assert_eq!(of(&good), result);
    assert_eq!(of(&bad)["status"], "failed");
    assert_eq!(of(&bad)["error"]["code"], "engine-unavailable");
    let sent: BTreeSet<_> = seen.iter().map(|seen| seen.id.clone()).collect();
    let kept = deliveries(&scene).await;
    let kept: BTreeSet<_> = kept.iter().map(|one| one.id.to_string()).collect();
    assert_eq!(sent, kept);
    let shown = endpoint(&scene).await;
    assert_eq!(
        (
            &shown["channel"],
            &shown["delivered"],
            &shown["configured"],
            &shown["breaker"]
        ),
        (&json!("webhook"), &json!(2), &json!(true), &json!("closed"))
    );
    assert_eq!(
        shown["receiver"],
        json!(format!("http://{}", receiver.address)),
        "without its path, which may be a secret"
    );
    let metrics = scene.client.get("/metrics").await.body;
    let counted = "linkspan_deliveries_total{integration=\"calls\",channel=\"webhook\",outcome=\"delivered\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_and_shape_what_leaves() {
    let receiver = Receiver::start(|_| 204).await;
    let channels = [
        receiver.webhook(
            "/failed",
            ", name = \"failed\", when = '.status == \"failed\"', map = '{job: .id, code: .error.code}'",
        ),
        receiver.webhook("/moods", ", name = \"moods\", when = '.answers.mood.label == \"neutral\"'"),
        receiver.webhook("/never", ", name = \"never\", when = '.answers.mood.label | keys'"),
    ];
    let scene = Scene::start(&calls("async", &channels)).await;
    scene.engine.open();
    let _ = scene.client.text("calls", "fine").await.job();
    let bad = scene
        .client
        .text("calls", "fail:unreadable-document")
        .await
        .job();
    until_count(&scene, DeliveryState::Delivered, 2).await;
    assert_eq!(
        (receiver.count("/failed"), receiver.count("/moods")),
        (1, 1)
    );
    let seen = receiver.seen();
    let failed = seen.iter().find(|seen| seen.path == "/failed").unwrap();
    assert_eq!(
        failed.body["data"],
        json!({"job": bad, "code": "unreadable-document"})
    );
    until_count(&scene, DeliveryState::Dead, 2).await;
    assert_eq!(receiver.count("/never"), 0);
    // The same content is behind a link, and behind a key.
    let all = deliveries(&scene).await;
    let mapped = all
        .iter()
        .find(|one| one.job.to_string() == bad && one.state == DeliveryState::Delivered)
        .unwrap();
    let links = &scene.served.gateway.links;
    let link = links.link(
        mapped.id,
        jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60),
    );
    let link = link.strip_prefix(&scene.url()).unwrap();
    let opened = scene.with_key("").get(link).await;
    assert_eq!(opened.json(), failed.body["data"]);
    assert_eq!(opened.header("cache-control"), Some("no-store"));
    let path = link.split_once('?').unwrap().0;
    assert_eq!(scene.client.get(path).await.json(), failed.body["data"]);
    let other = all.iter().find(|one| one.id != mapped.id).unwrap();
    let other = link.replace(&mapped.id.to_string(), &other.id.to_string());
    assert_eq!(scene.with_key("").get(&other).await.code(), "forbidden");
    let erase = scene
        .client
        .request(reqwest::Method::DELETE, &format!("/v1/jobs/{bad}"));
    assert!(erase.send().await.unwrap().status().is_success());
    let after = scene.with_key("").get(link).await;
    assert_eq!(after.code(), "expired");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_receiver_among_fifty_does_not_hold_up_the_others() {
    let receiver = Receiver::start(|_| 200).await;
    let mut channels: Vec<_> = (1..50)
        .map(|nth| receiver.webhook(&format!("/fast/{nth}"), &format!(", name = \"fast-{nth}\"")))
        .collect();
    channels.push(receiver.webhook("/slow", ", name = \"slow\", timeout = \"5m\""));
    let scene = Scene::start(&calls("async", &channels)).await;
    scene.engine.open();
    for nth in 0..10 {
        scene.client.text("calls", &format!("text {nth}")).await;
    }
    until_count(&scene, DeliveryState::Delivered, 490).await;
    // It has its own places, and no answer to the first yet.
    until(|| receiver.count("/slow") == 4).await;
    let mut each: BTreeMap<String, usize> = BTreeMap::new();
    for seen in receiver.seen() {
        *each.entry(seen.path).or_default() += 1;
    }
    each.remove("/slow");
    assert!(each.len() == 49 && each.values().all(|count| *count == 10));
    receiver.inner.gate.add_permits(1000);
    until_count(&scene, DeliveryState::Delivered, 500).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_keeps_failing_is_given_a_rest_and_gets_everything_when_it_is_back() {
    let up = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_up = up.clone();
    let receiver = Receiver::start(move |_| {
        if is_up.load(std::sync::atomic::Ordering::SeqCst) {
            200
        } else {
            503
        }
    })
    .await;
    let rest = ", concurrency = 1, retry = [\"1ms\", \"1ms\", \"1ms\", \"1ms\", \"1ms\", \"1ms\"]";
    let scene = Scene::start(&calls("async", &[receiver.webhook("/crm", rest)])).await;
    scene.engine.open();
    for nth in 0..8 {
        scene.client.text("calls", &format!("text {nth}")).await;
    }
    until(|| receiver.seen().len() == 5).await;
    while endpoint(&scene).await["breaker"] != "open" {
        tokio::task::yield_now().await;
    }
    up.store(true, std::sync::atomic::Ordering::SeqCst);
    until_count(&scene, DeliveryState::Delivered, 8).await;
    assert_eq!(endpoint(&scene).await["breaker"], "closed");
    assert_eq!(receiver.seen().len(), 5 + 8, "nothing was sent meanwhile");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_pauses_its_endpoint_until_an_operator_resumes_it() {
    let receiver = Receiver::start({
        let first = std::sync::atomic::AtomicBool::new(true);
        move |_| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                410
            } else {
                200
            }
        }
    })
    .await;
    let scene = Scene::start(&calls(
        "async",
        &[receiver.webhook("/crm", ", name = \"crm\"")],
    ))
    .await;
    scene.engine.open();
    scene.client.text("calls", "first").await;
    until_count(&scene, DeliveryState::Paused, 1).await;
    scene.client.text("calls", "second").await;
    until_count(&scene, DeliveryState::Paused, 2).await;
    let shown = endpoint(&scene).await;
    assert!(shown["paused"]["reason"].as_str().unwrap().contains("410"));
    assert_eq!(receiver.seen().len(), 1);
    let resumed = scene.client.post("/v1/endpoints/calls/crm/resume").await;
    assert!(resumed.status < 300, "{resumed:?}");
    until_count(&scene, DeliveryState::Delivered, 2).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopping_gateway_could_not_finish_the_next_one_sends_with_the_same_id() {
    let receiver = Receiver::start(|_| 200).await;
    let integrations = calls("async", &[receiver.webhook("/slow", "")]);
    let server = "auth = \"none\"\ndrain_timeout = \"0s\"";
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::start_as(folder, server, &integrations).await;
    scene.engine.open();
    scene.client.text("calls", "late").await;
    until(|| receiver.seen().len() == 1).await;
    let folder = scene.stop().await;
    receiver.inner.gate.add_permits(1000);
    let scene = Scene::start_as(folder, server, &integrations).await;
    until_count(&scene, DeliveryState::Delivered, 1).await;
    let seen = receiver.seen();
    assert_eq!((seen.len(), &seen[0].id), (2, &seen[1].id));
    let delivery = deliveries(&scene).await.remove(0);
    assert_eq!((delivery.attempts, delivery.tries.len()), (1, 2));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_sync_integration_only_jobs_are_delivered() {
    let receiver = Receiver::start(|_| 200).await;
    let integrations = calls("sync", &[receiver.webhook("/crm", "")])
        + "overflow = \"async\"\ndeadline = \"60s\"\n";
    let scene = Scene::start(&integrations).await;
    let body = json!({ "text": "held" });
    let invocation = |key: &str| {
        let request = scene.client.invocation("calls").json(&body);
        match key {
            "" => request,
            key => request.header("idempotency-key", key),
        }
    };
    scene.engine.gate.add_permits(2);
    for key in ["", "answered"] {
        assert_eq!(Answer::of(invocation(key)).await.status, 200);
    }
    let mut jobs = BTreeSet::new();
    for (key, prefer) in [
        ("", "wait=0"),
        ("overflowed", "wait=0"),
        ("", "respond-async"),
    ] {
        let accepted = Answer::of(invocation(key).header("prefer", prefer)).await;
        assert_eq!(accepted.status, 202);
        jobs.insert(accepted.job());
    }
    scene.engine.open();
    until_count(&scene, DeliveryState::Delivered, 3).await;
    let delivered = deliveries(&scene).await;
    let delivered: BTreeSet<_> = delivered.iter().map(|one| one.job.to_string()).collect();
    assert_eq!(delivered, jobs);
    assert_eq!(receiver.seen().len(), 3);
    scene.stop().await;
}

#[test]
fn every_fault_of_a_channel_is_told_with_its_key_when_the_file_is_checked() {
    let toml = "[service.mood]\ntask = \"sentiment\"\n[integration.calls]\npattern = \"async\"\nsteps = [\"mood\"]\n\
                [[integration.calls.deliver]]\nfile = \"out.jsonl\"\nname = \"a\"\nwhen = '.status =='\nmap = 'env.PATH'\n\
                [[integration.calls.deliver]]\nwebhook = \"https://crm.example.com\"\nsecret = \"${env:SECRET}\"\n\
                [[integration.calls.deliver]]\nhttp = \"http://[::1]:9\"\nname = \"c\"\nwhen = '.status = \"failed\"'\n\
                [[integration.calls.deliver]]\nhttp = \"https://crm.example.com\"\nname = \"d\"\nwhen = '.status = \"failed\"'\n\
                oauth2 = { token_url = \"https://192.168.1.1\", client_id = \"a\", client_secret = \"${env:SECRET}\" }\n\
                [[integration.calls.deliver]]\nfile = \"a\"\nname = \"e\"\nwhen = '.status = \"failed\"'\n";
    let secret = |_: linkspan_model::config::Reference<'_>| Ok("too short".to_owned());
    let config = linkspan_model::config::Config::parse(toml, "linkspan.toml", &secret).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let faults = linkspan::configuration::check_targets(&config, folder.path());
    let expected = [
        "linkspan.toml:9: integration.calls.deliver[0].when: is no jq filter that can be used: expected term, at line 1, column 11 (the end)",
        "linkspan.toml:10: integration.calls.deliver[0].map: is no jq filter that can be used: the filter env/0 is not to be had here: \
         a filter sees its input and nothing else, at line 1, column 1: env.PATH",
        "linkspan.toml:13: integration.calls.deliver[1].secret: must begin with whsec_",
        "linkspan.toml:15: integration.calls.deliver[2].http: [::1] is an address of this machine, which is not called; where that is \
         meant, add \"::1/128\" to outbound.private_networks",
        "linkspan.toml:22: integration.calls.deliver[3].oauth2.token_url: 192.168.1.1 is an address of a private network",
        "linkspan.toml:26: integration.calls.deliver[4].when: is no jq filter that can be used: = is an assignment: it gives the changed \
         document, not true or false; did you mean == ?",
    ];
    for (found, expected) in faults.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    assert!(!faults.concat().contains("too short"));
}
