//! Keys, scopes, rates, audit lines, and what must never be seen.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use linkspan::store::{AuditLine, AuditLog as _, AuditQuery, SqliteStore, Upkeep as _};
use linkspan_testkit::{Answer, Client, Gateway, Setup};
use reqwest::Method;
use serde_json::{Value, json};

const TOML: &str = r#"
[service.mood]
task = "sentiment"
[service.language]
task = "detect-language"
[integration.feedback]
pattern = "sync"
steps = ["mood"]
[integration.letters]
pattern = "async"
steps = ["language"]
"#;

fn setup() -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML)
}

/// Runs a verb that must succeed; gives its standard output.
fn linkspan(setup: &Setup, arguments: &[&str]) -> String {
    let output = setup.command(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn id_of(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

async fn with_header(gateway: &Gateway, authorization: &str) -> Answer {
    let request = gateway.client("").request(Method::GET, "/v1/jobs");
    Answer::of(request.header("authorization", authorization)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_key_the_answer_is_401_and_does_not_say_which_part_is_wrong() {
    let setup = setup();
    let good = setup.key("crm", &["read"]);
    let revoked = setup.key("old", &["admin"]);
    let expired = linkspan(
        &setup,
        &[
            "keys",
            "add",
            "brief",
            "--scope",
            "admin",
            "--expires",
            "1ms",
        ],
    );
    linkspan(&setup, &["keys", "revoke", id_of(&revoked)]);
    let gateway = setup.serve();
    assert_eq!(
        with_header(&gateway, &format!("Bearer {good}"))
            .await
            .status,
        200
    );
    assert_eq!(
        with_header(&gateway, &format!("bearer  {good}"))
            .await
            .status,
        200
    );

    let malformed = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer lsk_",
        "Bearer lsk__",
        &format!("Basic {good}"),
        &good,
        &format!("Bearer {}", &good["lsk_".len()..]),
        &format!("Bearer lsk_{}", "x".repeat(4000)),
    ]
    .map(str::to_owned);
    for header in malformed {
        let answer = with_header(&gateway, &header).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "unauthenticated"),
            "{header}"
        );
    }

    let (id, secret) = good["lsk_".len()..].split_once('_').unwrap();
    let mut details = Vec::new();
    for key in [
        format!("lsk_{id}_{}", "A".repeat(secret.len())),
        format!("lsk_{id}_{}", &secret[..secret.len() - 1]),
        format!("{good}A"),
        format!("lsk_unknown_{secret}"),
        revoked,
        expired,
    ] {
        let answer = with_header(&gateway, &format!("Bearer {key}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "unauthenticated"),
            "{key}"
        );
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
        let mut problem = answer.json();
        problem.as_object_mut().unwrap().remove("request_id");
        details.push(problem);
    }
    assert!(
        details.windows(2).all(|pair| pair[0] == pair[1]),
        "{details:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_asks_for_a_key_but_the_few_that_tell_nothing() {
    let setup = setup();
    let gateway = setup.serve();
    let nobody = gateway.client("");
    let description = nobody.get("/openapi.json").await.json();
    let mut open = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let real = path
                .replace("{name}", "feedback")
                .replace("{id}", "0")
                .replace("{code}", "internal");
            let answer = Answer::of(nobody.request(method.clone(), &real).body("text")).await;
            if path.starts_with("/v1/") {
                assert_eq!(
                    (
                        answer.header("cache-control"),
                        answer.header("x-content-type-options")
                    ),
                    (Some("private, no-store"), Some("nosniff")),
                    "{method} {path}"
                );
            }
            match answer.status {
                200 => open.push(path.as_str()),
                status => assert_eq!(
                    (status, answer.code().as_str()),
                    (401, "unauthenticated"),
                    "{method} {path}"
                ),
            }
        }
    }
    open.sort_unstable();
    assert_eq!(
        open,
        [
            "/docs",
            "/healthz",
            "/openapi.json",
            "/problems/{code}",
            "/readyz"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_allows_what_it_says_and_nothing_else() {
    let setup = setup();
    let key = |scopes: &[&str]| setup.key("crm", scopes);
    let keys = [
        key(&["invoke"]),
        key(&["read"]),
        key(&["invoke:letters", "read:letters"]),
        key(&["admin:letters"]),
        key(&["admin"]),
    ];
    let gateway = setup.serve();
    let clients = keys.map(|key| gateway.client(&key));
    // One column a key, in the order above.
    let expected: [(Method, &str, [u16; 5]); 11] = [
        (
            Method::POST,
            "/v1/integrations/feedback/invocations",
            [200, 403, 403, 403, 200],
        ),
        (
            Method::POST,
            "/v1/integrations/letters/invocations",
            [202, 403, 202, 202, 202],
        ),
        (
            Method::POST,
            "/v1/integrations/nothing/invocations",
            [404, 403, 403, 403, 404],
        ),
        (Method::GET, "/v1/integrations", [200, 403, 200, 200, 200]),
        (Method::GET, "/v1/services", [200, 403, 200, 200, 200]),
        (Method::GET, "/v1/jobs", [403, 200, 200, 200, 200]),
        (
            Method::GET,
            "/v1/jobs?integration=letters",
            [403, 200, 200, 200, 200],
        ),
        (
            Method::GET,
            "/v1/jobs?integration=feedback",
            [403, 200, 403, 403, 200],
        ),
        (
            Method::GET,
            "/v1/jobs/01980000-0000-7000-8000-000000000000",
            [403, 404, 404, 404, 404],
        ),
        (
            Method::DELETE,
            "/v1/jobs/01980000-0000-7000-8000-000000000000",
            [403, 404, 404, 404, 404],
        ),
        (Method::GET, "/metrics", [403, 200, 403, 403, 200]),
    ];
    for (method, path, statuses) in expected {
        for (client, status) in clients.iter().zip(statuses) {
            let request = client.request(method.clone(), path);
            let request = match method {
                Method::POST => {
                    request.json(&json!({ "text": "What a good and lovely day this was." }))
                }
                _ => request,
            };
            let answer = Answer::of(request).await;
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
            if status == 403 {
                assert!(
                    answer.json()["detail"].as_str().unwrap().contains("scope"),
                    "{}",
                    answer.body
                );
            }
        }
    }
    let seen = |answer: Answer| {
        let integrations = answer.json()["integrations"].as_array().unwrap().clone();
        integrations
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        seen(clients[0].get("/v1/integrations").await),
        ["feedback", "letters"]
    );
    assert_eq!(seen(clients[2].get("/v1/integrations").await), ["letters"]);
}

/// Accepts a job and waits for its end.
async fn job(client: &Client) -> String {
    client
        .text("letters", "Good morning, this is a plain English text.")
        .await
        .job()
}

async fn listed(client: &Client) -> Vec<String> {
    let page = client.get("/v1/jobs").await.json();
    let jobs = page["jobs"].as_array().unwrap().clone();
    jobs.iter()
        .map(|job| job["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sees_its_own_jobs_and_an_administrator_all() {
    let setup = setup();
    let (one, two) = (
        setup.key("one", &["invoke", "read"]),
        setup.key("two", &["invoke", "read"]),
    );
    let (admin, local) = (
        setup.key("root", &["admin"]),
        setup.key("local", &["admin:feedback"]),
    );
    let letters = setup.key("letters", &["admin:letters"]);
    let gateway = setup.serve();
    let [one, two, admin, local, letters] =
        [one, two, admin, local, letters].map(|key| gateway.client(&key));
    let (first, second) = (job(&one).await, job(&two).await);
    assert_eq!(one.result(&first).await.status, 200);
    assert_eq!(two.result(&second).await.status, 200);

    assert_eq!(listed(&one).await, std::slice::from_ref(&first));
    assert_eq!(listed(&two).await, std::slice::from_ref(&second));
    assert_eq!(listed(&admin).await, [second.clone(), first.clone()]);
    assert!(listed(&local).await.is_empty());
    assert_eq!(
        listed(&letters).await,
        [second.clone(), first.clone()],
        "everybody's where it is an administrator, without naming that"
    );
    for (client, status) in [(&letters, 200), (&one, 403)] {
        let others = client.get("/v1/jobs?caller=two").await;
        assert_eq!(others.status, status, "{}", others.body);
    }
    let shown = one.get(&format!("/v1/jobs/{first}")).await;
    assert_eq!(shown.header("cache-control"), Some("private, no-cache"));
    for path in [
        format!("/v1/jobs/{first}/result"),
        format!("/v1/jobs/{first}/events"),
    ] {
        let answer = one.get(&path).await;
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, Some("private, no-store")),
            "{path}"
        );
    }
    for stranger in [&two, &local] {
        for (method, rest) in [
            (Method::GET, ""),
            (Method::GET, "/result"),
            (Method::GET, "/events"),
            (Method::POST, "/cancel"),
            (Method::POST, "/retry"),
            (Method::DELETE, ""),
        ] {
            let path = format!("/v1/jobs/{first}{rest}");
            let theirs = Answer::of(stranger.request(method.clone(), &path)).await;
            let nobodys = format!("/v1/jobs/01980000-0000-7000-8000-000000000000{rest}");
            let nobodys = Answer::of(stranger.request(method, &nobodys)).await;
            assert_eq!((theirs.status, nobodys.status), (404, 404), "{path}");
            assert_eq!(
                theirs.json()["detail"],
                nobodys.json()["detail"],
                "it does not tell whether there is such a job"
            );
        }
    }
    assert_eq!(one.get(&format!("/v1/jobs/{first}")).await.status, 200);
    let erased = Answer::of(admin.request(Method::DELETE, &format!("/v1/jobs/{first}"))).await;
    assert_eq!(erased.status, 204);
    assert_eq!(one.get(&format!("/v1/jobs/{first}")).await.status, 404);
    for stranger in ["two", "local"] {
        let reaches = audit_of(&setup).await;
        let reaches = reaches
            .iter()
            .filter(|line| line.actor.name == stranger && line.outcome == "forbidden");
        assert_eq!(
            reaches.count(),
            6,
            "each reach for another's job is audited"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_belongs_to_its_caller() {
    let setup = setup();
    let keys = [setup.key("one", &["invoke"]), setup.key("two", &["invoke"])];
    let gateway = setup.serve();
    let mut ids = Vec::new();
    for (key, text) in keys.iter().zip(["I love this.", "I hate this."]) {
        let request = gateway
            .client(key)
            .invocation("feedback")
            .header("idempotency-key", "same");
        let answer = Answer::of(request.json(&json!({ "text": text }))).await;
        assert_eq!(
            (answer.status, answer.header("idempotency-replayed")),
            (200, None),
            "{}",
            answer.body
        );
        ids.push(answer.json()["id"].clone());
    }
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_sees_the_same_jobs_and_both_hold_for_the_overlap() {
    let setup = setup();
    let old = setup.key("crm", &["invoke", "read"]);
    let gateway = setup.serve();
    let before = gateway.client(&old);
    let first = job(&before).await;
    let new = linkspan(&setup, &["keys", "rotate", "crm", "--overlap", "1h"]);
    let after = gateway.client(&new);
    let second = job(&after).await;
    assert_eq!(listed(&after).await, [second.clone(), first.clone()]);
    assert_eq!(
        listed(&before).await,
        [second, first],
        "the old key holds for an hour more"
    );

    let newest = linkspan(&setup, &["keys", "rotate", "crm", "--overlap", "1ms"]);
    for ended in [&before, &after] {
        assert_eq!(ended.get("/v1/jobs").await.status, 401);
    }
    assert_eq!(listed(&gateway.client(&newest)).await.len(), 2);
    let states: Vec<Value> = linkspan(&setup, &["keys", "list", "--output", "json"])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["state"].clone())
        .collect();
    assert_eq!(states, ["expired", "expired", "valid"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_at_once_and_the_others_are_not() {
    let setup = setup();
    let (lost, kept) = (setup.key("crm", &["read"]), setup.key("crm", &["read"]));
    let gateway = setup.serve();
    let (thief, owner) = (gateway.client(&lost), gateway.client(&kept));
    assert_eq!(thief.get("/v1/jobs").await.status, 200);
    linkspan(&setup, &["keys", "revoke", id_of(&lost)]);
    assert_eq!(thief.get("/v1/jobs").await.code(), "unauthenticated");
    assert_eq!(owner.get("/v1/jobs").await.status, 200);
    linkspan(&setup, &["keys", "revoke", "crm"]);
    assert_eq!(owner.get("/v1/jobs").await.code(), "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_rate_a_key_is_told_when_to_come_back_and_others_go_on() {
    let setup = setup();
    let slow = linkspan(
        &setup,
        &["keys", "add", "slow", "--scope", "read", "--rate", "1"],
    );
    let quick = setup.key("quick", &["read"]);
    let gateway = setup.serve();
    let (slow, quick) = (gateway.client(&slow), gateway.client(&quick));
    let mut limited = None;
    for _ in 0..20 {
        let answer = slow.get("/v1/jobs").await;
        if answer.status != 200 {
            limited = Some(answer);
            break;
        }
    }
    let answer = limited.expect("twenty requests are more than one a second");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (429, "rate-limited")
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["retryable"], true);
    for _ in 0..5 {
        assert_eq!(quick.get("/v1/jobs").await.status, 200);
    }
    let lines = audit_of(&setup).await;
    let said = lines.iter().find(|line| line.outcome == "rate-limited");
    assert_eq!(said.expect("an audit line").actor.name, "slow");
}

async fn audit_of(setup: &Setup) -> Vec<AuditLine> {
    let store = SqliteStore::open_beside(setup.folder().join("data/linkspan.db")).unwrap();
    let page = store.list_audit(AuditQuery::newest(1000)).await.unwrap();
    store.close().await;
    page.lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_and_every_change_leaves_an_audit_line() {
    let setup = setup();
    let key = setup.key("crm", &["invoke:letters", "read"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    let refused = [
        (
            gateway.client("").get("/v1/jobs").await,
            "unknown",
            "GET /v1/jobs",
            "unauthenticated",
        ),
        (
            client.text("feedback", "x").await,
            "crm",
            "POST /v1/integrations/{name}/invocations",
            "forbidden",
        ),
        (
            Answer::of(client.invocation("letters").json(&json!({ "txt": 1 }))).await,
            "crm",
            "POST /v1/integrations/{name}/invocations",
            "bad-request",
        ),
    ];
    let job = job(&client).await;
    client.result(&job).await;
    let erased = Answer::of(client.request(Method::DELETE, &format!("/v1/jobs/{job}"))).await;
    assert_eq!(erased.status, 204);
    linkspan(&setup, &["keys", "revoke", "crm"]);
    let lines = audit_of(&setup).await;
    for (answer, actor, target, outcome) in refused {
        let id = answer.header("x-request-id").map(str::to_owned);
        let line = lines.iter().find(|line| line.actor.request_id == id);
        let line = line.unwrap_or_else(|| panic!("{target} {outcome} left no line"));
        assert_eq!(line.action, "request.refused");
        assert_eq!(
            (
                line.actor.name.as_str(),
                line.target.as_str(),
                line.outcome.as_str()
            ),
            (actor, target, outcome)
        );
        assert_eq!(line.actor.remote.as_deref(), Some("127.0.0.1"));
    }
    let has = |action: &str, target: &str, actor: &str| {
        lines
            .iter()
            .any(|line| line.action == action && line.target == target && line.actor.name == actor)
    };
    assert!(has("job.delete", &job, "crm"), "{lines:?}");
    let named = format!("crm ({})", id_of(&key));
    assert!(has("key.add", &named, "command line"), "{lines:?}");
    assert!(has("key.revoke", &named, "command line"), "{lines:?}");
}

/// Words that stand for what must not be seen; each is in one place of a request only.
const SECRETS: [&str; 9] = [
    "s3cret-text",
    "s3cret-param",
    "s3cret-claim",
    "s3cret-document",
    "s3cret-damaged",
    "s3cret-member",
    "s3cret-file",
    "s3cret-wrong-key",
    "s3cret-path",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_log_holds_no_secret_no_text_and_no_parameter_even_at_its_finest() {
    let setup = setup().env("LINKSPAN_LOG", "trace");
    let key = setup.key("crm", &["admin"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    let body = json!({ "text": "s3cret-text", "params": { "password": "s3cret-param" }, "claim": { "name": "s3cret-claim" } });
    for integration in ["feedback", "letters"] {
        let answer = Answer::of(client.invocation(integration).json(&body)).await;
        assert_eq!(answer.code(), "invalid-parameter");
        assert!(!answer.body.contains("s3cret-param"), "{}", answer.body);
        let mut allowed = body.clone();
        allowed.as_object_mut().unwrap().remove("params");
        let answer = Answer::of(client.invocation(integration).json(&allowed)).await;
        assert!(answer.status < 500, "{}", answer.body);
        let plain = client
            .invocation(integration)
            .header("content-type", "text/plain");
        Answer::of(plain.body("s3cret-document")).await;
        let damaged = client
            .invocation(integration)
            .header("content-type", "text/plain");
        Answer::of(damaged.body(b"s3cret-damaged \xff\xfe".to_vec())).await;
        let unknown = client
            .invocation(integration)
            .json(&json!({ "text": "x", "s3cret-member": "s3cret-text" }));
        assert_eq!(Answer::of(unknown).await.status, 400);
        let broken = client
            .invocation(integration)
            .header("content-type", "application/json");
        let broken = Answer::of(broken.body("{\"text\": [\"s3cret-text\"]}")).await;
        assert!(!broken.body.contains("s3cret"), "{}", broken.body);
        let part = reqwest::multipart::Part::bytes(b"s3cret-document".to_vec())
            .file_name("s3cret-file.txt");
        let form = reqwest::multipart::Form::new()
            .part("document", part)
            .text("params", "{\"s3cret-member\": 1}");
        assert_eq!(
            Answer::of(client.invocation(integration).multipart(form))
                .await
                .status,
            422
        );
    }
    with_header(&gateway, "Bearer lsk_unknown_s3cret-wrong-key").await;
    client.get("/v1/s3cret-path?s3cret-path").await;
    // The last job's end is in the log when its result is there.
    for job in listed(&client).await {
        client.result(&job).await;
    }
    let answer = client.get("/metrics").await;
    let (id, metrics) = (answer.header("x-request-id").unwrap(), &answer.body);
    crate::scripted::until(|| gateway.log().contains(id)).await;
    let log = gateway.log();
    assert!(log.lines().count() > 20, "there is a line a request: {log}");
    let (_, secret) = key["lsk_".len()..].split_once('_').unwrap();
    for word in SECRETS.iter().copied().chain([secret]) {
        let line = log.lines().find(|line| line.contains(word));
        assert_eq!(line, None, "{word}");
        assert!(!metrics.contains(word), "{word}");
    }
    gateway.kill();
    for file in files(&setup.folder().join("data")) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "the key's secret lies in {}", file.display());
    }
}

/// Every file and folder below a folder, itself included.
fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(entries(&path)),
            false => found.push(path),
        }
    }
    found
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    entries(folder)
        .into_iter()
        .filter(|path| path.is_file())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_disk_is_the_owners_alone() {
    let setup = setup();
    let key = setup.key("crm", &["invoke", "read"]);
    let gateway = setup.serve();
    let client = gateway.client(&key);
    let large = "The harbour was calm this morning and everybody was happy. ".repeat(3000);
    let job = client
        .text("letters", "A small one, in English.")
        .await
        .job();
    client.result(&job).await;
    let post = client
        .invocation("letters")
        .header("content-type", "text/plain; charset=utf-8");
    let job = Answer::of(post.body(large)).await.job();
    assert_eq!(client.result(&job).await.status, 200);
    let data = setup.folder().join("data");
    let found = entries(&data);
    assert!(
        found.contains(&data.join("linkspan.key")) && found.contains(&data.join("linkspan.db")),
        "{found:?}"
    );
    assert!(
        files(&data.join("blobs")).len() > 1,
        "the large document is a file of its own: {found:?}"
    );
    for path in found {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        let most = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode & !most, 0, "{} has the mode {mode:o}", path.display());
    }
}

#[test]
fn an_address_that_others_reach_is_refused_unless_it_is_secured() {
    let open = |server: &str| format!("[server]\n{server}\n{TOML}");
    let cases = [
        ("listen = \"0.0.0.0:0\"", "tls = {"),
        ("listen = \"[::]:0\"", "tls = {"),
        ("listen = \"[::ffff:0.0.0.0]:0\"", "tls = {"),
        ("listen = \"192.0.2.7:8080\"", "127.0.0.1"),
        (
            "listen = \"0.0.0.0:0\"\nauth = \"none\"\ntls_terminated_by_proxy = true",
            "auth = \"keys\"",
        ),
    ];
    for (server, advice) in cases {
        let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &open(server));
        for verb in ["check", "serve"] {
            let output = setup.command(&[verb]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{verb} {server}: {said}");
            assert!(said.contains(advice), "{verb} {server}: {said}");
            assert!(
                !setup.folder().join("data").exists(),
                "{verb} makes nothing"
            );
        }
    }
    for arguments in [
        ["serve", "--listen", "0.0.0.0:0"],
        ["serve", "--listen", "[::]:0"],
    ] {
        let output = setup().command(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("tls = {"), "{said}");
    }
    let behind_proxy = open("listen = \"0.0.0.0:0\"\ntls_terminated_by_proxy = true");
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &behind_proxy);
    linkspan(&setup, &["check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_no_web_page_reaches_the_gateway() {
    let scene = crate::scripted::Scene::start(
        "[integration.feedback]\npattern = \"sync\"\nsteps = [\"mood\"]\n",
    )
    .await;
    scene.engine.open();
    let body = serde_json::json!({ "text": "a fine day" });
    for (header, value) in [
        ("origin", "https://evil.example"),
        ("host", "evil.example:8080"),
    ] {
        let call = scene.client.invocation("feedback").header(header, value);
        let refused = Answer::of(call.json(&body)).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (403, "forbidden"),
            "{header}"
        );
    }
    let local = scene
        .client
        .invocation("feedback")
        .header("host", "localhost:8080");
    assert_eq!(Answer::of(local.json(&body)).await.status, 200);
    scene.stop().await;
}
