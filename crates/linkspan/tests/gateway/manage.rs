//! What people do beside invoking: look at deliveries and send them again, make keys, read the audit log, fetch documents and results
//! by links. Above all: what they may not.

use jiff::{SignedDuration, Timestamp};
use linkspan_model::InvocationId;
use linkspan_testkit::{Answer, Client};
use reqwest::Method;
use serde_json::{Value, json};

use crate::scripted::Scene;

/// `letters` delivers to a file, and by a filter that fails makes a dead letter; `notes` delivers nothing.
const INTEGRATIONS: &str = "[integration.letters]\npattern = \"async\"\nsteps = [\"mood\"]\nattempts = 1\n\
    deliver = [{ file = \"out.jsonl\", name = \"file\" }, { file = \"never.jsonl\", name = \"odd\", when = '.answers.mood.label | keys' }]\n\
    [integration.notes]\npattern = \"async\"\nsteps = [\"mood\"]\nattempts = 1\n";

async fn scene() -> Scene {
    let scene = Scene::start_keyed("", INTEGRATIONS).await;
    scene.engine.open();
    scene
}

async fn client(scene: &Scene, name: &str, scopes: &[&str]) -> Client {
    scene.with_key(&scene.key(name, scopes).await)
}

async fn post(client: &Client, path: &str, body: &Value) -> Answer {
    Answer::of(client.request(Method::POST, path).json(body)).await
}

/// The deliveries that a client sees, once none of them is on its way.
async fn settled(client: &Client, query: &str) -> Vec<Value> {
    let settled = tokio::time::timeout(std::time::Duration::from_secs(90), async {
        loop {
            let page = client.get(&format!("/v1/deliveries?{query}")).await;
            assert_eq!(page.status, 200, "{}", page.body);
            let deliveries = page.json()["deliveries"].as_array().unwrap().clone();
            let open = |one: &Value| one["state"] == "pending" || one["state"] == "sending";
            if !deliveries.is_empty() && !deliveries.iter().any(open) {
                return deliveries;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    settled.await.expect("the deliveries settle in time")
}

fn of<'d>(deliveries: &'d [Value], channel: &str) -> &'d Value {
    deliveries
        .iter()
        .find(|one| one["channel"] == channel)
        .unwrap()
}

fn id(one: &Value) -> &str {
    one["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_seen_and_commanded_by_whose_they_are() {
    let scene = scene().await;
    let ana = client(&scene, "ana", &["invoke", "read"]).await;
    let bo = client(&scene, "bo", &["invoke", "read"]).await;
    let other = client(&scene, "other", &["admin:notes"]).await;
    let admin = client(&scene, "root", &["admin"]).await;
    let job = ana.text("letters", "one").await.job();
    assert_eq!(ana.result(&job).await.status, 200);
    let own = settled(&ana, &format!("job={job}")).await;
    assert_eq!(own.len(), 2);
    let (file, odd) = (of(&own, "file"), of(&own, "odd"));
    assert_eq!(
        (&file["state"], &file["kind"], &file["attempts"]),
        (&json!("delivered"), &json!("file"), &json!(1))
    );
    assert_eq!(
        (&odd["state"], odd["reason"].is_string()),
        (&json!("dead"), true)
    );
    assert_eq!(file["links"]["job"], json!(format!("/v1/jobs/{job}")));
    assert_eq!(file["tries"].as_array().unwrap().len(), 1);

    for stranger in [&bo, &other] {
        let page = stranger.get("/v1/deliveries").await;
        if page.status == 200 {
            assert_eq!(page.json()["deliveries"], json!([]));
        }
        for (method, rest) in [
            (Method::GET, ""),
            (Method::POST, "/replay"),
            (Method::POST, "/give-up"),
        ] {
            let path = format!("/v1/deliveries/{}{rest}", id(file));
            let theirs = Answer::of(stranger.request(method.clone(), &path)).await;
            let path = format!("/v1/deliveries/01980000-0000-7000-8000-000000000000{rest}");
            let nobodys = Answer::of(stranger.request(method, &path)).await;
            assert_eq!((theirs.status, nobodys.status), (404, 404), "{rest}");
            assert_eq!(theirs.json()["detail"], nobodys.json()["detail"]);
        }
    }
    assert_eq!(
        admin.get("/v1/deliveries").await.json()["deliveries"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for (query, count) in [
        ("state=dead", 1),
        ("channel=odd&integration=letters", 1),
        ("integration=notes", 0),
        ("until=2020-01-01T00:00:00Z", 0),
        ("from=2020-01-01T00:00:00Z", 2),
        (&format!("id={}", id(odd)), 1),
    ] {
        let page = ana.get(&format!("/v1/deliveries?{query}")).await.json();
        assert_eq!(
            page["deliveries"].as_array().unwrap().len(),
            count,
            "{query}"
        );
    }
    for bad in [
        "state=gone",
        "from=yesterday",
        "job=7",
        "limit=many",
        "what=1",
        "after=x",
    ] {
        assert_eq!(
            ana.get(&format!("/v1/deliveries?{bad}")).await.code(),
            "bad-request",
            "{bad}"
        );
    }

    let path = format!("/v1/deliveries/{}", id(file));
    assert_eq!(
        ana.post(&format!("{path}/give-up")).await.code(),
        "wrong-state"
    );
    let again = ana.post(&format!("{path}/replay")).await;
    assert_eq!((again.status, &again.json()["id"]), (200, &file["id"]));
    let own = settled(&ana, &format!("job={job}")).await;
    assert_eq!(of(&own, "file")["tries"].as_array().unwrap().len(), 2);
    let written = std::fs::read_to_string(scene.folder.path().join("out.jsonl")).unwrap();
    assert!(written.lines().all(|line| line.contains(&job)) && written.lines().count() >= 1);

    let lines = admin.get("/v1/audit").await.json();
    let lines: Vec<_> = lines["lines"].as_array().unwrap().iter().collect();
    let replays = lines.iter().filter(|line| {
        line["actor"] == "ana"
            && line["action"].as_str().unwrap().contains("replay")
            && line["outcome"] == "done"
    });
    assert_eq!(replays.count(), 1);
    let reaches = |name: &str| {
        lines
            .iter()
            .filter(|line| line["actor"] == name && line["outcome"] == "forbidden")
            .count()
    };
    assert_eq!(
        (reaches("bo"), reaches("other")),
        (3, 3),
        "each reach for another's is audited"
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_replayed_by_administrators_who_say_which() {
    let scene = scene().await;
    let admin = client(&scene, "root", &["admin"]).await;
    let local = client(&scene, "local", &["admin:letters"]).await;
    let notes = client(&scene, "notes", &["admin:notes"]).await;
    let reader = client(&scene, "reader", &["read"]).await;
    for text in ["a", "b", "c"] {
        let job = admin.text("letters", text).await.job();
        assert_eq!(admin.result(&job).await.status, 200);
    }
    let before = settled(&admin, "").await;
    assert_eq!(before.len(), 6);
    let path = "/v1/deliveries/replay";
    let letters = json!({"integration": "letters", "state": "delivered"});
    for (who, body, code) in [
        (&reader, &letters, "forbidden"),
        (&notes, &letters, "forbidden"),
        (&admin, &json!({}), "bad-request"),
        (&admin, &json!({"state": "dead"}), "bad-request"),
        (
            &admin,
            &json!({"integration": "letters", "state": "sending"}),
            "bad-request",
        ),
        (
            &admin,
            &json!({"channel": "file", "from": "2020-01-01T00:00:00Z"}),
            "bad-request",
        ),
        (
            &admin,
            &json!({"integration": "letters", "when": "now"}),
            "bad-request",
        ),
        (&admin, &json!({"until": "soon"}), "bad-request"),
        (&admin, &json!({"integration": "nosuch"}), "not-found"),
    ] {
        assert_eq!(post(who, path, body).await.code(), code, "{body}");
    }
    let done = post(&local, path, &letters).await;
    assert_eq!(
        (done.status, done.json()),
        (200, json!({"replayed": 3, "left": 0}))
    );
    let after = settled(&admin, "channel=file&integration=letters").await;
    assert!(
        after
            .iter()
            .all(|one| one["tries"].as_array().unwrap().len() == 2)
    );
    // By time alone: an administrator of one integration replays what is of that, and nobody else's.
    let since = json!({"from": "2020-01-01T00:00:00Z", "state": "delivered"});
    for (who, replayed) in [(&notes, 0), (&local, 3)] {
        let done = post(who, path, &since).await;
        assert_eq!(done.json(), json!({"replayed": replayed, "left": 0}));
    }
    let after = settled(&local, "channel=file").await;
    assert!(
        after
            .iter()
            .all(|one| one["tries"].as_array().unwrap().len() == 3)
    );
    let lines = admin
        .get("/v1/audit?action=delivery.replay&actor=local&limit=1")
        .await
        .json();
    assert_eq!(
        (&lines["lines"][0]["target"], &lines["lines"][0]["outcome"]),
        (&json!("letters"), &json!("done"))
    );
    for (query, some) in [
        ("actor=local", true),
        ("actor=nobody", false),
        ("action=delivery.replay&from=2020-01-01T00:00:00Z", true),
        ("until=2020-01-01T00:00:00Z", false),
    ] {
        let page = admin.get(&format!("/v1/audit?{query}")).await;
        let lines = page.json()["lines"].as_array().unwrap().clone();
        assert_eq!(!lines.is_empty(), some, "{query}");
    }
    for bad in ["from=yesterday", "target=x"] {
        let page = admin.get(&format!("/v1/audit?{bad}")).await;
        assert_eq!(page.code(), "bad-request", "{bad}");
    }
    for none in [
        json!({"until": "2020-01-01T00:00:00Z"}),
        json!({"integration": "letters", "state": "pending"}),
    ] {
        let none = post(&admin, path, &none).await;
        assert_eq!(none.json(), json!({"replayed": 0, "left": 0}));
    }
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_paused_and_resumed_by_its_administrators() {
    let scene = scene().await;
    let local = client(&scene, "local", &["admin:letters"]).await;
    let reader = client(&scene, "reader", &["read", "invoke"]).await;
    let blind = client(&scene, "blind", &["read:notes"]).await;
    let shown = reader.get("/v1/endpoints").await.json();
    let shown = shown["endpoints"].as_array().unwrap();
    assert_eq!(shown.len(), 2);
    assert!(
        shown
            .iter()
            .all(|one| one["configured"] == true && one["breaker"] == "closed")
    );
    assert!(
        shown.iter().all(|one| one.get("dead").is_none()),
        "how many everybody's are is the administrators' business"
    );
    let counted = local.get("/v1/endpoints").await.json();
    let counted = counted["endpoints"].as_array().unwrap();
    assert!(counted.len() == 2 && counted.iter().all(|one| one["dead"] == 0));
    assert_eq!(
        blind.get("/v1/endpoints").await.json(),
        json!({"endpoints": []})
    );
    let path = "/v1/endpoints/letters/file";
    assert_eq!(
        reader.post(&format!("{path}/pause")).await.code(),
        "forbidden"
    );
    assert_eq!(
        local.post("/v1/endpoints/notes/file/pause").await.code(),
        "forbidden"
    );
    assert_eq!(
        local
            .post("/v1/endpoints/letters/nothing/pause")
            .await
            .code(),
        "not-found"
    );
    let bad = post(
        &local,
        &format!("{path}/pause"),
        &json!({"reason": "two\nlines"}),
    )
    .await;
    assert_eq!(bad.code(), "bad-request");
    let paused = post(
        &local,
        &format!("{path}/pause"),
        &json!({"reason": "the disk moves"}),
    )
    .await;
    assert_eq!(paused.json()["paused"]["reason"], "the disk moves");
    let job = reader.text("letters", "held").await.job();
    assert_eq!(
        reader.result(&job).await.status,
        200,
        "a job does not wait for its deliveries"
    );
    let held = settled(
        &reader,
        &format!("job={job}&channel=file&integration=letters"),
    )
    .await;
    assert_eq!(held[0]["state"], "paused");
    let resumed = local.post(&format!("{path}/resume")).await;
    assert_eq!(
        (resumed.status, &resumed.json()["paused"]),
        (200, &Value::Null)
    );
    let sent = settled(
        &reader,
        &format!("job={job}&channel=file&integration=letters"),
    )
    .await;
    assert_eq!(sent[0]["state"], "delivered");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_and_revoked_by_administrators_alone() {
    let scene = scene().await;
    let admin = client(&scene, "root", &["admin"]).await;
    let wish = json!({"name": "crm", "scopes": ["invoke:letters", "read"], "expires_in": "90d", "rate": 7});
    for stranger in [
        client(&scene, "a", &["read", "invoke"]).await,
        client(&scene, "b", &["admin:letters"]).await,
    ] {
        assert_eq!(stranger.get("/v1/keys").await.code(), "forbidden");
        assert_eq!(post(&stranger, "/v1/keys", &wish).await.code(), "forbidden");
        assert_eq!(stranger.post("/v1/keys/x/revoke").await.code(), "forbidden");
        assert_eq!(stranger.get("/v1/audit").await.code(), "forbidden");
    }
    for (member, value) in [
        ("name", json!("two words")),
        ("name", json!("")),
        ("name", json!("oidc:ana")),
        ("scopes", json!([])),
        ("scopes", json!(["write"])),
        ("scopes", json!(["read:nothing"])),
        ("expires_in", json!("soon")),
        ("expires_in", json!("0s")),
        ("rate", json!(0)),
    ] {
        let mut bad = wish.clone();
        bad[member] = value;
        assert_eq!(
            post(&admin, "/v1/keys", &bad).await.code(),
            "invalid-parameter",
            "{bad}"
        );
    }
    let made = post(&admin, "/v1/keys", &wish).await;
    assert_eq!(
        (made.status, made.header("cache-control")),
        (201, Some("no-store"))
    );
    let made = made.json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(
        (&made["rate"], &made["scopes"]),
        (&json!(7), &json!(["invoke:letters", "read"]))
    );
    assert!(made["expires"].is_string());
    let crm = scene.with_key(key);
    assert_eq!(crm.text("letters", "x").await.status, 202);
    let listed = admin.get("/v1/keys").await;
    assert!(
        listed.json()["keys"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["id"] == made["id"])
    );
    let secret = key.splitn(3, '_').nth(2).unwrap();
    assert!(!listed.body.contains(secret), "a secret is shown once");
    let path = format!("/v1/keys/{}/revoke", id(&made));
    for _ in 0..2 {
        let revoked = admin.post(&path).await;
        assert_eq!(
            (revoked.status, revoked.json()["revoked"].is_string()),
            (200, true)
        );
    }
    assert_eq!(crm.text("letters", "x").await.code(), "unauthenticated");
    assert_eq!(
        admin.post("/v1/keys/nobody/revoke").await.code(),
        "not-found"
    );

    let mut actions = Vec::new();
    let mut next = String::new();
    loop {
        let page = admin.get(&format!("/v1/audit?limit=3{next}")).await.json();
        let lines = page["lines"].as_array().unwrap();
        assert!(lines.len() <= 3);
        actions.extend(
            lines
                .iter()
                .map(|line| format!("{} {}", line["action"], line["target"])),
        );
        match page["next"].as_u64() {
            Some(after) => next = format!("&after={after}"),
            None => break,
        }
    }
    let id = made["id"].as_str().unwrap();
    let wanted = |action: &str| format!("\"{action}\" \"crm ({id})\"");
    for action in ["key.add", "key.revoke"] {
        assert_eq!(
            actions
                .iter()
                .filter(|line| **line == wanted(action))
                .count(),
            1,
            "{actions:?}"
        );
    }
    scene.stop().await;
}

/// Sends a text as a document with a file name and a media type.
async fn document(client: &Client, name: &str, kind: &str) -> String {
    let part = reqwest::multipart::Part::bytes(b"<script>alert(1)</script> fine".to_vec())
        .file_name(name.to_owned())
        .mime_str(kind)
        .unwrap();
    let form = reqwest::multipart::Form::new().part("document", part);
    Answer::of(client.invocation("letters").multipart(form))
        .await
        .job()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_comes_back_as_a_file_and_never_as_a_page() {
    let scene = scene().await;
    let ana = client(&scene, "ana", &["invoke", "read"]).await;
    let bo = client(&scene, "bo", &["read"]).await;
    for (name, kind, shown) in [
        ("bill.txt", "text/plain", ("text/plain", "bill.txt")),
        (
            "page.html",
            "text/html",
            ("application/octet-stream", "page.html"),
        ),
        (
            "x.svg",
            "image/svg+xml",
            ("application/octet-stream", "x.svg"),
        ),
        ("../../etc/passwd", "text/plain", ("text/plain", "passwd")),
        (
            "invoice\u{202E}fdp.exe",
            "image/png",
            ("image/png", "invoice_fdp.exe"),
        ),
        (
            "a; filename=evil.exe",
            "text/plain",
            ("text/plain", "a%3B%20filename%3Devil.exe"),
        ),
        (
            "<img src=x>.txt",
            "application/javascript",
            ("application/octet-stream", "_img%20src%3Dx_.txt"),
        ),
    ] {
        let job = document(&ana, name, kind).await;
        let path = format!("/v1/jobs/{job}/document");
        let answer = ana.get(&path).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "<script>alert(1)</script> fine"),
            "{name}"
        );
        assert_eq!(answer.header("content-type"), Some(shown.0), "{name}");
        assert_eq!(
            answer.header("content-disposition"),
            Some(format!("attachment; filename*=UTF-8''{}", shown.1).as_str())
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.contains("sandbox") && policy.contains("default-src 'none'"),
            "{policy}"
        );
        assert_eq!(bo.get(&path).await.code(), "not-found");
        assert_eq!(
            scene.with_key("").get(&path).await.code(),
            "unauthenticated"
        );
        let job = ana.get(&format!("/v1/jobs/{job}")).await.json();
        assert_eq!(job["document"]["size"], 30);
        assert_eq!(
            job["document"]["file_name"]
                .as_str()
                .map(|shown| !shown.is_empty()),
            Some(true)
        );
    }
    let job = ana.text("letters", "a text").await.job();
    assert_eq!(
        ana.get(&format!("/v1/jobs/{job}/document")).await.code(),
        "not-found"
    );
    assert_eq!(
        ana.get(&format!("/v1/jobs/{job}")).await.json()["document"],
        Value::Null
    );
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_found_by_their_ids_their_requests_their_callers_and_their_time() {
    let scene = scene().await;
    let ana = client(&scene, "ana", &["invoke", "read"]).await;
    let bo = client(&scene, "bo", &["invoke", "read"]).await;
    let admin = client(&scene, "root", &["admin"]).await;
    let named = ana
        .invocation("notes")
        .header("x-request-id", "order-17")
        .json(&json!({"text": "x"}));
    let first = Answer::of(named).await.job();
    let second = bo.text("letters", "y").await.job();
    for (who, query, found) in [
        (&admin, String::new(), vec![&second, &first]),
        (&admin, format!("q={first}"), vec![&first]),
        (&admin, "q=order-17".to_owned(), vec![&first]),
        (&admin, "q=order-18".to_owned(), vec![]),
        (&admin, "caller=bo".to_owned(), vec![&second]),
        (&admin, format!("q={first}&integration=letters"), vec![]),
        (
            &admin,
            "from=2020-01-01T00:00:00Z&until=2021-01-01T00:00:00Z".to_owned(),
            vec![],
        ),
        (&ana, format!("q={second}"), vec![]),
        (&ana, "caller=ana".to_owned(), vec![&first]),
    ] {
        let page = who.get(&format!("/v1/jobs?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.body);
        let page = page.json();
        let ids: Vec<_> = page["jobs"].as_array().unwrap().iter().map(id).collect();
        assert_eq!(ids, found, "{query}");
    }
    assert_eq!(ana.get("/v1/jobs?caller=bo").await.code(), "forbidden");
    let shown = admin.get(&format!("/v1/jobs/{first}")).await.json();
    assert_eq!(
        (&shown["caller"], &shown["request_id"]),
        (&json!("ana"), &json!("order-17"))
    );
    assert_eq!(
        shown["links"]["deliveries"],
        json!(format!("/v1/deliveries?job={first}"))
    );
    assert_eq!(admin.result(&first).await.status, 200);
    let shown = admin.get(&format!("/v1/jobs/{first}")).await.json();
    assert_eq!(shown["history"][0]["outcome"], "succeeded");
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_the_one_result_that_it_is_for_until_it_ends() {
    let scene = scene().await;
    let ana = client(&scene, "ana", &["invoke", "read"]).await;
    let nobody = scene.with_key("");
    let (one, other) = (
        ana.text("notes", "one").await.job(),
        ana.text("notes", "two").await.job(),
    );
    let result = ana.result(&one).await;
    assert_eq!(ana.result(&other).await.status, 200);
    let link = |job: &str, ends: i64| {
        let job: InvocationId = job.parse().unwrap();
        let link = scene
            .served
            .gateway
            .links
            .link(job, Timestamp::now() + SignedDuration::from_secs(ends));
        link.strip_prefix(&scene.url())
            .expect("it leads to where the gateway listens")
            .to_owned()
    };
    let good = link(&one, 60);
    let opened = nobody.get(&good).await;
    assert_eq!((opened.status, &opened.body), (200, &result.body));
    assert_eq!(opened.header("cache-control"), Some("no-store"));
    assert_eq!(nobody.get(&link(&one, -1)).await.code(), "expired");
    let (path, query) = good.split_once('?').unwrap();
    for forged in [
        good.replace(&one, &other),
        format!("{path}?{}", query.replace("expires=", "expires=1")),
        format!("{path}?signature=AAAA&expires=9999999999"),
        format!("{path}?signature=AAAA"),
        format!("{path}?expires=9999999999"),
        format!("{path}?expires=never&signature=AAAA"),
    ] {
        assert_eq!(nobody.get(&forged).await.code(), "forbidden", "{forged}");
    }
    assert_eq!(nobody.get(path).await.code(), "unauthenticated");
    let unknown = link("01980000-0000-7000-8000-000000000000", 60);
    assert_eq!(nobody.get(&unknown).await.code(), "expired");
    scene.stop().await;
}

/// Runs the command line against a gateway; gives exit code, standard output and standard error.
async fn linkspan(scene: &Scene, key: &str, arguments: &[&str]) -> (i32, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_linkspan"));
    command
        .args(arguments)
        .env("LINKSPAN_URL", scene.url())
        .env_remove("LINKSPAN_KEY");
    if !key.is_empty() {
        command.env("LINKSPAN_KEY", key);
    }
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    if !key.is_empty() {
        let secret = key.splitn(3, '_').nth(2).unwrap();
        assert!(!out.contains(secret) && !err.contains(secret));
    }
    (output.status.code().unwrap(), out, err)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_and_commands_jobs_and_deliveries() {
    let scene = scene().await;
    let key = scene.key("root", &["admin"]).await;
    let admin = scene.with_key(&key);
    let job = admin.text("letters", "one").await.job();
    let failed = admin
        .text("letters", "fail:unreadable-document")
        .await
        .job();
    assert_eq!(admin.result(&job).await.status, 200);
    assert_eq!(admin.result(&failed).await.status, 422);
    let all = settled(&admin, "").await;

    let (code, out, _) = linkspan(&scene, &key, &["jobs", "list", "--output", "json"]).await;
    let ids: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((code, ids.len(), id(&ids[0])), (0, 2, failed.as_str()));
    let (code, out, _) = linkspan(
        &scene,
        &key,
        &["jobs", "list", "--state", "failed", "--output", "csv"],
    )
    .await;
    assert!(
        code == 0 && out.lines().count() == 2 && out.contains("unreadable-document"),
        "{out}"
    );
    let (code, out, _) = linkspan(&scene, &key, &["jobs", "show", &job]).await;
    assert!(
        code == 0 && out.contains(&job) && out.contains("succeeded"),
        "{out}"
    );
    let (code, out, err) = linkspan(
        &scene,
        &key,
        &["jobs", "retry", &failed, &job, "--output", "json"],
    )
    .await;
    assert_eq!((code, out.lines().count()), (1, 1), "{err}");
    assert!(err.contains(&job) && err.contains("succeeded"), "{err}");

    let dead = all
        .iter()
        .find(|one| one["state"] == "dead" && one["job"] == job.as_str())
        .unwrap();
    let (code, out, _) = linkspan(
        &scene,
        &key,
        &["deliveries", "list", "--state", "dead", "--output", "json"],
    )
    .await;
    assert!(code == 0 && out.contains(id(dead)), "{out}");
    let (code, out, _) = linkspan(&scene, &key, &["deliveries", "show", id(dead)]).await;
    let reason = dead["reason"].as_str().unwrap();
    for part in [id(dead), &job, "state        dead", reason] {
        assert!(code == 0 && out.contains(part), "{part}: {out}");
    }
    let (code, out, _) = linkspan(&scene, &key, &["deliveries", "endpoints"]).await;
    for part in ["breaker", "closed", "out.jsonl", "odd"] {
        assert!(code == 0 && out.contains(part), "{part}: {out}");
    }
    let none = ["deliveries", "list", "--state", "paused"];
    let (code, out, err) = linkspan(&scene, &key, &none).await;
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.contains("no such deliveries"), "{err}");
    let (code, out, err) = linkspan(&scene, &key, &["deliveries", "give-up", id(dead)]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    let replay = [
        "deliveries",
        "replay",
        "--integration",
        "letters",
        "--state",
        "delivered",
        "--output",
        "json",
    ];
    let (_, out, err) = linkspan(&scene, &key, &replay).await;
    assert!(out.contains("\"replayed\":"), "{out}{err}");
    let (code, out, _) = linkspan(
        &scene,
        &key,
        &[
            "deliveries",
            "pause",
            "letters",
            "file",
            "--reason",
            "moves",
            "--output",
            "csv",
        ],
    )
    .await;
    assert!(code == 0 && out.contains("moves"), "{out}");
    let (code, ..) = linkspan(&scene, &key, &["deliveries", "resume", "letters", "file"]).await;
    assert_eq!(code, 0);

    for (key, arguments, wanted) in [
        ("", &["jobs", "list"][..], (2, "LINKSPAN_KEY")),
        ("lsk_nobody_wrong", &["jobs", "list"], (2, "not known")),
        (
            key.as_str(),
            &["deliveries", "replay"],
            (2, "--integration"),
        ),
        (
            key.as_str(),
            &["jobs", "list", "--state", "gone"],
            (2, "the states are"),
        ),
        (
            key.as_str(),
            &["jobs", "list", "--url", "ftp://x"],
            (2, "--url"),
        ),
        (
            key.as_str(),
            &["jobs", "list", "--url", "http://linkspan.example.com"],
            (2, "unencrypted"),
        ),
        (
            key.as_str(),
            &["jobs", "list", "--url", "http://127.0.0.1:1"],
            (1, "does not answer"),
        ),
    ] {
        let (code, out, err) = linkspan(&scene, key, arguments).await;
        assert_eq!((code, out.as_str()), (wanted.0, ""), "{arguments:?}: {err}");
        assert!(err.contains(wanted.1), "{arguments:?}: {err}");
    }
    scene.stop().await;
}
