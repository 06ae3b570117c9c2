//! The console's door: signing in with a key, the cookie and what keeps others from using it, the page's headers, the live figures.

use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use linkspan::store::{Actor, AuditQuery};
use linkspan_testkit::Answer;
use reqwest::Method;
use serde_json::{Value, json};

use crate::browser::{Browser, set_cookies};
use crate::scripted::{Scene, until};

const INTEGRATIONS: &str = "[integration.feedback]\npattern = \"sync\"\nsteps = [\"mood\"]\n\
    [integration.letters]\npattern = \"async\"\nsteps = [\"mood\"]\nattempts = 1\n";

async fn scene() -> Scene {
    let scene = Scene::start_keyed("", INTEGRATIONS).await;
    scene.engine.open();
    scene
}

fn id_of(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_with_a_key_and_out_again() {
    let scene = scene().await;
    let key = scene.key("ana", &["invoke:letters", "read"]).await;
    let mut browser = Browser::at(&scene.url());
    let nobody = browser.get("/console/session").await.json();
    assert_eq!(
        nobody,
        json!({ "signed_in": false, "name": "", "scopes": [], "csrf": "", "auth": "keys", "oidc": false,
                "version": env!("CARGO_PKG_VERSION") })
    );
    assert_eq!(browser.get("/v1/jobs").await.status, 401);

    let signed_in = browser.sign_in(&key).await;
    let session = signed_in.json();
    assert_eq!(
        (&session["signed_in"], &session["name"], &session["scopes"]),
        (
            &json!(true),
            &json!("ana"),
            &json!(["invoke:letters", "read"])
        )
    );
    let [cookie] = &set_cookies(&signed_in)[..] else {
        panic!("{:?}", signed_in.headers)
    };
    assert!(cookie.starts_with("linkspan_session="), "{cookie}");
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(flag), "{flag}: {cookie}");
    }
    assert!(
        !cookie.contains("Domain") && !cookie.contains("Secure"),
        "{cookie}"
    );
    assert_eq!(signed_in.header("cache-control"), Some("no-store"));
    assert_eq!(browser.get("/console/session").await.json(), session);
    assert_eq!(browser.get("/v1/jobs").await.status, 200);
    assert_eq!(
        browser.get("/v1/audit").await.code(),
        "forbidden",
        "the session has the key's scopes"
    );

    let shown = browser.cookies.clone();
    assert_eq!(browser.delete("/console/session").await.status, 204);
    assert!(browser.cookies.is_empty(), "the cookie is taken away");
    browser.cookies = shown;
    assert_eq!(
        browser.get("/v1/jobs").await.status,
        401,
        "it opens nothing any more"
    );
    assert!(!browser.is_signed_in().await);

    let page = scene
        .served
        .gateway
        .store
        .list_audit(AuditQuery::newest(100))
        .await
        .unwrap();
    let lines: Vec<_> = page
        .lines
        .iter()
        .filter(|line| line.action.starts_with("session."))
        .map(|line| {
            (
                line.actor.name.as_str(),
                line.action.as_str(),
                line.target.as_str(),
                line.outcome.as_str(),
            )
        })
        .collect();
    let target = format!("ana ({})", id_of(&key));
    assert_eq!(
        lines,
        [
            ("ana", "session.sign-out", &*target, "done"),
            ("ana", "session.sign-in", &*target, "done")
        ]
    );
    let from_here = page
        .lines
        .iter()
        .filter(|line| line.actor.remote.as_deref() == Some("127.0.0.1"));
    assert!(from_here.count() >= 2);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_never_holds_what_the_browser_shows() {
    let scene = scene().await;
    let key = scene.key("ana", &["read"]).await;
    let mut browser = Browser::at(&scene.url());
    browser.sign_in(&key).await;
    let token = browser.cookies["linkspan_session"].clone();
    let secret = key.splitn(3, '_').nth(2).unwrap().to_owned();
    let folder = scene.stop().await;
    let mut read = 0;
    for entry in std::fs::read_dir(folder.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            read += bytes.len();
            for hidden in [&token, &secret] {
                let found = bytes
                    .windows(hidden.len())
                    .any(|window| window == hidden.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
    assert!(read > 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_cookie_only_the_consoles_own_page_changes_anything() {
    let scene = scene().await;
    let key = scene.key("ana", &["admin"]).await;
    let mut browser = Browser::at(&scene.url());
    browser.sign_in(&key).await;
    let csrf = browser.csrf.clone();
    let own = Some(scene.url());
    let port = scene.served.address.port();
    let hostile = [
        Some("https://evil.example".to_owned()),
        Some("null".to_owned()),
        Some(format!("http://127.0.0.1:{port}.evil.example")),
        Some(format!("http://localhost:{port}")),
        Some("http://127.0.0.1".to_owned()),
        Some(String::new()),
    ];
    for origin in hostile {
        browser.origin = origin;
        let answer = browser
            .post("/v1/keys", &json!({"name": "x", "scopes": ["admin"]}))
            .await;
        assert_eq!(answer.code(), "forbidden", "{:?}", browser.origin);
    }
    for (origin, shown) in [
        (own.clone(), None),
        (None, None),
        (None, Some(String::new())),
        (own.clone(), Some("A".repeat(43))),
        (own.clone(), csrf.as_ref().map(|csrf| format!("{csrf}x"))),
    ] {
        (browser.origin, browser.csrf) = (origin, shown);
        for (method, path) in [
            (Method::POST, "/v1/keys"),
            (Method::DELETE, "/console/session"),
            (Method::POST, "/v1/integrations/feedback/invocations"),
        ] {
            let request = browser.request(method, path).json(&json!({"text": "x"}));
            let answer = browser.send(request).await;
            assert_eq!(answer.code(), "forbidden", "{path}");
        }
    }
    assert_eq!(
        browser.get("/v1/keys").await.json()["keys"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    (browser.origin, browser.csrf) = (own, csrf);
    let answer = browser
        .post(
            "/v1/integrations/feedback/invocations",
            &json!({"text": "x"}),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let made = browser
        .post("/v1/keys", &json!({"name": "x", "scopes": ["read"]}))
        .await;
    assert_eq!(made.status, 201);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_key_and_has_the_scopes_that_the_key_has_now() {
    let scene = scene().await;
    let key = scene.key("ana", &["read"]).await;
    let gateway = &scene.served.gateway;
    let mut browser = Browser::at(&scene.url());
    browser.sign_in(&key).await;
    assert_eq!(browser.get("/v1/jobs").await.status, 200);
    let mut other = Browser::at(&scene.url());
    other.sign_in(&key).await;
    let revoked = gateway
        .store
        .revoke_key(id_of(&key), Actor::default(), Timestamp::now())
        .await;
    assert!(revoked.unwrap());
    for browser in [&mut browser, &mut other] {
        let ended = browser.get("/v1/jobs").await;
        assert_eq!(ended.code(), "unauthenticated");
        assert!(!browser.is_signed_in().await);
    }
    assert_eq!(browser.sign_in(&key).await.code(), "unauthenticated");

    let brief = scene.key("bo", &["read"]).await;
    let mut browser = Browser::at(&scene.url());
    browser.sign_in(&brief).await;
    let past = Timestamp::now() - jiff::SignedDuration::from_secs(1);
    let store = &gateway.store;
    let set = store.set_key_expiry(
        id_of(&brief),
        Some(past),
        Actor::default(),
        Timestamp::now(),
    );
    assert!(set.await.unwrap());
    assert!(
        !browser.is_signed_in().await,
        "an expired key ends its sessions too"
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_somebody_else_chose_is_never_taken_over() {
    let scene = scene().await;
    let (ana, bo) = (
        scene.key("ana", &["read"]).await,
        scene.key("bo", &["read"]).await,
    );
    let mut attacker = Browser::at(&scene.url());
    attacker.sign_in(&bo).await;
    let chosen = attacker.cookies["linkspan_session"].clone();
    for fixed in ["A".repeat(43), chosen.clone(), "<script>".to_owned()] {
        let mut victim = Browser::at(&scene.url());
        victim
            .cookies
            .insert("linkspan_session".to_owned(), fixed.clone());
        assert_eq!(victim.sign_in(&ana).await.status, 200);
        assert_ne!(victim.cookies["linkspan_session"], fixed);
        assert_eq!(victim.get("/console/session").await.json()["name"], "ana");
    }
    assert!(
        !attacker.is_signed_in().await,
        "its session ended where it was brought along"
    );

    // Two cookies of one name: somebody set the second one.
    let mut victim = Browser::at(&scene.url());
    victim.sign_in(&ana).await;
    let own = victim.cookies["linkspan_session"].clone();
    victim.cookies.insert(
        "linkspan_session".to_owned(),
        format!("{own}; linkspan_session={chosen}"),
    );
    assert!(!victim.is_signed_in().await);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_sites_page_signs_anybody_in() {
    let scene = scene().await;
    let key = scene.key("mallory", &["read"]).await;
    let mut browser = Browser::at(&scene.url());
    browser.origin = Some("https://evil.example".to_owned());
    let answer = browser.sign_in(&key).await;
    assert_eq!(answer.code(), "forbidden");
    // What a form can send without asking: no JSON.
    browser.origin = None;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let request = browser
            .request(Method::POST, "/console/session")
            .header("content-type", kind)
            .body(json!({ "key": key }).to_string());
        let answer = browser.send(request).await;
        assert_eq!(answer.status, 415, "{kind}");
    }
    assert!(browser.cookies.is_empty());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_tries_are_bounded_tell_nothing_and_shut_nobody_out() {
    let scene = scene().await;
    let key = scene.key("ana", &["read"]).await;
    let mut browser = Browser::at(&scene.url());
    let id = id_of(&key);
    let wrong = [
        format!("lsk_{id}_wrong"),
        "lsk_nobody_wrong".to_owned(),
        "wrong".to_owned(),
    ];
    let mut said = Vec::new();
    for guess in wrong.iter().cycle().take(10) {
        let answer = browser.sign_in(guess).await;
        assert_eq!(answer.code(), "unauthenticated");
        assert!(!answer.body.contains(guess.as_str()));
        said.push(answer.json()["detail"].clone());
    }
    assert_eq!(
        said[0], said[1],
        "an unknown id is answered as a wrong secret is"
    );
    for body in ["{\"key\":", "{\"key\":7}", "[]"] {
        let request = browser
            .request(Method::POST, "/console/session")
            .header("content-type", "application/json")
            .body(body);
        assert_eq!(browser.send(request).await.code(), "bad-request");
    }
    let refused = browser.sign_in(&wrong[0]).await;
    assert_eq!(refused.code(), "rate-limited");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(
        browser.sign_in(&key).await.status,
        200,
        "behind a proxy everyone has one address: a right key lets in"
    );
    let page = scene
        .served
        .gateway
        .store
        .list_audit(AuditQuery::newest(100))
        .await
        .unwrap();
    let failures = page
        .lines
        .iter()
        .filter(|line| line.target == "POST /console/session" && line.outcome == "unauthenticated");
    assert_eq!(failures.count(), 10);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_browsers_come_by_tls_the_cookies_go_by_tls_only() {
    let server = "public_url = \"https://linkspan.example.com\"";
    let scene = Scene::start_keyed(server, INTEGRATIONS).await;
    let key = scene.key("ana", &["admin"]).await;
    let mut browser = Browser::at(&scene.url());
    let signed_in = browser.sign_in(&key).await;
    let [cookie] = &set_cookies(&signed_in)[..] else {
        panic!("{:?}", signed_in.headers)
    };
    assert!(cookie.starts_with("__Host-linkspan_session="), "{cookie}");
    assert!(
        cookie.contains("Secure") && cookie.contains("Path=/"),
        "{cookie}"
    );
    assert!(browser.is_signed_in().await);
    browser.origin = Some("https://linkspan.example.com".to_owned());
    let made = browser
        .post("/v1/keys", &json!({"name": "x", "scopes": ["read"]}))
        .await;
    assert_eq!(made.status, 201, "the proxy's origin is the gateway's own");
    let token = browser.cookies.remove("__Host-linkspan_session").unwrap();
    browser.cookies.insert("linkspan_session".to_owned(), token);
    assert!(
        !browser.is_signed_in().await,
        "a name that any host may set does not count"
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_the_page_needs_no_sign_in_and_no_other_page_gets_in() {
    let scene = Scene::start(INTEGRATIONS).await;
    scene.engine.open();
    let mut browser = Browser::at(&scene.url());
    let session = browser.get("/console/session").await.json();
    assert_eq!(
        (&session["signed_in"], &session["auth"], &session["scopes"]),
        (&json!(true), &json!("none"), &json!(["admin"]))
    );
    browser.origin = Some(scene.url());
    let path = "/v1/integrations/feedback/invocations";
    let own = browser.post(path, &json!({"text": "x"})).await;
    assert_eq!(own.status, 200, "{}", own.body);
    for (origin, host) in [
        (Some("https://evil.example"), None),
        (
            Some("http://rebound.example:8080"),
            Some("rebound.example:8080"),
        ),
        (None, Some("rebound.example:8080")),
        (Some("null"), None),
    ] {
        (browser.origin, browser.host) = (origin.map(str::to_owned), host.map(str::to_owned));
        let answer = browser.post(path, &json!({"text": "x"})).await;
        assert_eq!(answer.code(), "forbidden", "{origin:?} {host:?}");
        let session = browser.get("/console/session").await;
        assert_eq!(session.code(), "forbidden", "{origin:?} {host:?}");
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_loads_nothing_from_elsewhere_and_lies_in_no_frame() {
    let scene = scene().await;
    let mut browser = Browser::at(&scene.url());
    let page = browser.get("/").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(
            policy.split(';').any(|one| one.trim() == part),
            "{part}: {policy}"
        );
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let script = browser.get("/console/assets/app.js").await;
    assert_eq!(
        (script.status, script.header("x-content-type-options")),
        (200, Some("nosniff"))
    );
    for name in ["..%2fmod.rs", "nothing.js", "app.js%00"] {
        let answer = browser.get(&format!("/console/assets/{name}")).await;
        assert_eq!(answer.code(), "not-found", "{name}");
    }
    scene.stop().await;
    let off = format!("{INTEGRATIONS}[console]\nenabled = false\n");
    let scene = Scene::start_keyed("", &off).await;
    let mut browser = Browser::at(&scene.url());
    for path in ["/", "/console/session", "/console/assets/app.js"] {
        assert_eq!(browser.get(path).await.code(), "not-found", "{path}");
    }
    scene.stop().await;
}

fn integration<'o>(overview: &'o Value, name: &str) -> &'o Value {
    let all = overview["integrations"].as_array().unwrap();
    let found = all.iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name} in {overview}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_tells_what_goes_on_to_whom_it_concerns() {
    let scene = Scene::start_keyed("", INTEGRATIONS).await;
    let (admin, reader) = (
        scene.key("root", &["admin"]).await,
        scene.key("reader", &["read:feedback"]).await,
    );
    let admin = scene.with_key(&admin);
    let waiting = admin.text("letters", "waits").await.job();
    scene.engine.begun(1).await;
    let overview = admin.get("/console/overview").await.json();
    let letters = integration(&overview, "letters");
    assert_eq!(
        (
            &letters["pattern"],
            &letters["running"],
            &letters["takes"],
            &letters["may_invoke"]
        ),
        (&json!("async"), &json!(1), &json!("text"), &json!(true))
    );
    assert_eq!(
        letters["steps"],
        json!([{"service": "mood", "task": "sentiment"}])
    );
    assert_eq!(
        (&letters["count"], &letters["p50_ms"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(overview["accepting"], true);

    scene.engine.open();
    assert_eq!(admin.result(&waiting).await.status, 200);
    for text in ["a", "b", "fail:unreadable-document", "c"] {
        admin.text("feedback", text).await;
    }
    let overview = admin.get("/console/overview").await.json();
    let feedback = integration(&overview, "feedback");
    assert_eq!(
        (&feedback["count"], &feedback["error_share"]),
        (&json!(4), &json!(0.25))
    );
    assert!(feedback["p50_ms"].as_f64().unwrap() > 0.0 && feedback["rate"].as_f64().unwrap() > 0.0);
    assert!(feedback["p99_ms"].as_f64() >= feedback["p50_ms"].as_f64());
    assert_eq!(integration(&overview, "letters")["count"], 1);

    let theirs = scene
        .with_key(&reader)
        .get("/console/overview")
        .await
        .json();
    let names: Vec<_> = theirs["integrations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["feedback"]);
    assert_eq!(integration(&theirs, "feedback")["may_invoke"], false);
    assert_eq!(
        scene.with_key("").get("/console/overview").await.status,
        401
    );
    scene.stop().await;
}

/// Reads a stream of events; gives each as its name and data.
struct Events {
    bytes:
        std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    read: String,
}

impl Events {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self {
            bytes: Box::pin(response.bytes_stream()),
            read: String::new(),
        }
    }

    /// The next event; none at the stream's end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.read.find("\n\n") {
                let event: String = self.read.drain(..end + 2).collect();
                let line = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::trim)
                };
                if let (Some(name), Some(data)) = (line("event:"), line("data:")) {
                    return Some((name.to_owned(), serde_json::from_str(data).unwrap()));
                }
                continue; // a sign of life
            }
            let chunk = tokio::time::timeout(Duration::from_secs(90), self.bytes.next());
            match chunk.await.expect("an event in time") {
                Some(Ok(chunk)) => self.read.push_str(std::str::from_utf8(&chunk).unwrap()),
                Some(Err(_)) | None => return None,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_tells_everyone_their_own_changes_and_ends_with_the_session() {
    let scene = scene().await;
    let (ana, bo) = (
        scene.key("ana", &["invoke", "read"]).await,
        scene.key("bo", &["invoke", "read"]).await,
    );
    let mut browser = Browser::at(&scene.url());
    browser.sign_in(&ana).await;
    let mut events = Events::of(browser.request(Method::GET, "/console/events")).await;
    let (name, overview) = events.next().await.unwrap();
    assert_eq!(name, "overview");
    assert_eq!(overview["integrations"].as_array().unwrap().len(), 2);

    let others = scene.with_key(&bo).text("letters", "bo's").await.job();
    assert_eq!(scene.with_key(&bo).result(&others).await.status, 200);
    let own = scene.with_key(&ana).text("letters", "ana's").await.job();
    let mut seen = Vec::new();
    loop {
        let (name, data) = events.next().await.unwrap();
        match name.as_str() {
            "job" => {
                assert_eq!(data["integration"], "letters");
                seen.push(data["id"].as_str().unwrap().to_owned());
                if data["state"] == "succeeded" {
                    break;
                }
            }
            "overview" => {}
            other => panic!("{other}: {data}"),
        }
    }
    assert!(seen.iter().all(|id| *id == own), "{seen:?} {others}");

    let revoke =
        scene
            .served
            .gateway
            .store
            .revoke_key(id_of(&ana), Actor::default(), Timestamp::now());
    assert!(revoke.await.unwrap());
    while events.next().await.is_some() {}
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_ends_when_the_gateway_stops() {
    let scene = scene().await;
    let key = scene.key("ana", &["read"]).await;
    let request = scene.with_key(&key).request(Method::GET, "/console/events");
    let mut events = Events::of(request).await;
    assert_eq!(events.next().await.unwrap().0, "overview");
    let stop = scene.served.gateway.stop.clone();
    let stopped = tokio::spawn(scene.stop());
    until(|| stop.is_cancelled()).await;
    while events.next().await.is_some() {}
    stopped.await.unwrap();
}

/// The events of a job of this caller's, opened; and the job.
async fn job_events(scene: &Scene, key: &str, job: &str) -> reqwest::Response {
    let path = format!("/v1/jobs/{job}/events");
    let request = scene.with_key(key).request(Method::GET, &path);
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_job_waits_no_longer_than_the_key_holds() {
    let scene = Scene::start_keyed("", INTEGRATIONS).await;
    let key = scene.key("ana", &["invoke", "read"]).await;
    let job = scene.with_key(&key).text("letters", "waits").await.job();
    scene.engine.begun(1).await;
    let path = format!("/v1/jobs/{job}/events");
    let request = scene.with_key(&key).request(Method::GET, &path);
    let mut events = Events::of(request).await;
    assert_eq!(events.next().await.unwrap().0, "running");
    let waiting = ["", "/result"].map(|rest| {
        let client = scene.with_key(&key);
        let path = format!("/v1/jobs/{job}{rest}");
        let request = client
            .request(Method::GET, &path)
            .header("prefer", "wait=60");
        tokio::spawn(Answer::of(request))
    });
    // They are let in before they watch.
    let id = job.parse().unwrap();
    until(|| scene.served.gateway.store.watchers().count(id) >= 3).await;
    let revoke =
        scene
            .served
            .gateway
            .store
            .revoke_key(id_of(&key), Actor::default(), Timestamp::now());
    assert!(revoke.await.unwrap());
    // The job's end is told to nobody who was shut out.
    scene.engine.open();
    assert_eq!(events.next().await, None);
    for waited in waiting {
        assert_eq!(waited.await.unwrap().code(), "unauthenticated");
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_caller_takes_all_event_streams() {
    let limits = format!("{INTEGRATIONS}[limits]\nmax_watchers = 40\n");
    let scene = Scene::start_keyed("", &limits).await;
    let greedy = scene.key("greedy", &["invoke", "read"]).await;
    let modest = scene.key("modest", &["invoke", "read"]).await;
    let theirs = scene.with_key(&greedy).text("letters", "waits").await.job();
    let others = scene.with_key(&modest).text("letters", "waits").await.job();
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(job_events(&scene, &greedy, &theirs).await);
    }
    assert!(open.iter().all(|stream| stream.status() == 200));
    for path in [
        format!("/v1/jobs/{theirs}/events"),
        "/console/events".to_owned(),
    ] {
        let refused = scene.with_key(&greedy).get(&path).await;
        assert_eq!(refused.code(), "rate-limited", "{path}");
        let said = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(said.contains("limits.max_watchers"), "{said}");
    }
    assert_eq!(job_events(&scene, &modest, &others).await.status(), 200);
    drop(open);
    let again = async {
        while job_events(&scene, &greedy, &theirs).await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(90), again).await;
    again.expect("a stream that is closed makes place for another");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_browser_shows_to_a_proxy_in_front_keeps_nobody_out() {
    let scene = scene().await;
    let key = scene.key("ana", &["read"]).await;
    let mut browser = Browser::at(&scene.url());
    browser.sign_in(&key).await;
    let get = |browser: &Browser, authorization: &str| {
        let request = browser.request(Method::GET, "/v1/jobs");
        Answer::of(request.header("authorization", authorization))
    };
    assert_eq!(get(&browser, "Basic cHJveHk6cGFzcw==").await.status, 200);
    let wrong_key = get(&browser, "Bearer lsk_nobody_wrong").await;
    assert_eq!(
        wrong_key.code(),
        "unauthenticated",
        "a key goes before the cookie"
    );
    browser.cookies.clear();
    let nobody = get(&browser, "Basic cHJveHk6cGFzcw==").await;
    assert_eq!(nobody.code(), "unauthenticated");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_header_needs_no_cookie_and_no_token() {
    let scene = scene().await;
    let key = scene.key("ana", &["invoke"]).await;
    let mut browser = Browser::at(&scene.url());
    browser
        .cookies
        .insert("linkspan_session".to_owned(), "A".repeat(43));
    let request = browser
        .request(Method::POST, "/v1/integrations/feedback/invocations")
        .bearer_auth(&key)
        .json(&json!({"text": "x"}));
    let answer: Answer = browser.send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    scene.stop().await;
}
