//! What the gateway says of itself: metrics, its log, and the description of its HTTP face.

use std::collections::{BTreeMap, BTreeSet};

use linkspan_testkit::{Answer, Gateway, Setup};
use reqwest::Method;
use serde_json::{Value, json};

const TOML: &str = r#"
[server]
auth = "none"
[service.mood]
task = "sentiment"
[service.text]
task = "extract-text"
[integration.feedback]
pattern = "sync"
steps = ["mood"]
[integration.letters]
pattern = "async"
steps = ["mood"]
[integration.reading]
pattern = "sync"
steps = ["text"]
"#;

fn gateway() -> (Setup, Gateway) {
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML);
    let gateway = setup.serve();
    (setup, gateway)
}

/// Waits until an answer's line, and so every line before it, is in the log.
async fn logged(gateway: &Gateway, answer: &Answer) {
    let id = answer.header("x-request-id").unwrap();
    crate::scripted::until(|| gateway.log().contains(id)).await;
}

/// The samples of the metrics page, each under its name and labels as they stand there.
async fn metrics(gateway: &Gateway) -> BTreeMap<String, f64> {
    let answer = gateway.client("").get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(answer.body.ends_with("# EOF\n"));
    let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (
                name.to_owned(),
                value
                    .parse()
                    .unwrap_or_else(|_| panic!("no number in {line}")),
            )
        })
        .collect()
}

/// The sum of the samples with this name whose labels hold all of these.
fn sum(metrics: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let fits = |key: &str| {
        key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label))
    };
    metrics
        .iter()
        .filter(|(key, _)| fits(key))
        .map(|(_, value)| value)
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_have_their_fields_names_and_move() {
    let (_setup, gateway) = gateway();
    let client = gateway.client("");
    let job = client.text("letters", "I love it.").await.job();
    assert_eq!(client.result(&job).await.status, 200);
    assert_eq!(client.text("feedback", "I love it.").await.status, 200);
    assert_eq!(
        client
            .text("reading", "The ferry leaves at nine.")
            .await
            .status,
        200
    );
    assert_eq!(client.text("nothing", "I love it.").await.status, 404);
    let first = metrics(&gateway).await;
    for (name, labels) in [
        (
            "http_server_request_duration_seconds_count",
            &[
                "http_request_method=\"POST\"",
                "http_response_status_code=\"200\"",
                "http_route=\"/v1/integrations/{name}/invocations\"",
            ][..],
        ),
        (
            "http_server_request_duration_seconds_bucket",
            &["le=\"+Inf\""],
        ),
        (
            "linkspan_step_duration_seconds_count",
            &["service=\"mood\"", "task=\"sentiment\"", "code=\"ok\""],
        ),
        (
            "linkspan_invocations_total",
            &[
                "integration=\"feedback\"",
                "pattern=\"sync\"",
                "outcome=\"succeeded\"",
            ],
        ),
        (
            "linkspan_invocations_total",
            &[
                "integration=\"letters\"",
                "pattern=\"async\"",
                "outcome=\"succeeded\"",
            ],
        ),
        (
            "linkspan_jobs",
            &["integration=\"letters\"", "state=\"succeeded\""],
        ),
        (
            "linkspan_worker_events_total",
            &["task=\"extract-text\"", "event=\"cold-start\""],
        ),
        (
            "linkspan_workers",
            &["task=\"extract-text\"", "state=\"idle\""],
        ),
        (
            "linkspan_worker_cold_start_mean_seconds",
            &["task=\"extract-text\""],
        ),
        ("linkspan_refusals_total", &["reason=\"not-found\""]),
        ("linkspan_store_accepting", &[]),
        ("linkspan_build_info", &["version=\""]),
        ("process_resident_memory_bytes", &[]),
        ("process_open_fds", &[]),
        ("process_start_time_seconds", &[]),
    ] {
        assert!(
            sum(&first, name, labels) > 0.0,
            "{name} {labels:?} in {first:#?}"
        );
    }
    for (name, labels) in [
        ("linkspan_oldest_queued_job_age_seconds", ""),
        ("linkspan_jobs", "state=\"queued\""),
    ] {
        assert!(
            first
                .keys()
                .any(|key| key.starts_with(name) && key.contains(labels)),
            "{name}"
        );
        assert_eq!(sum(&first, name, &[labels]), 0.0, "{name}");
    }
    assert!(
        first
            .keys()
            .any(|key| key.starts_with("process_cpu_seconds")),
        "{first:#?}"
    );

    client.text("feedback", "I hate it.").await;
    client
        .text(
            "feedback",
            "Das Schiff fährt um neun Uhr ab, und danach gibt es Kaffee und Kuchen.",
        )
        .await;
    let second = metrics(&gateway).await;
    let moved =
        |name: &str, labels: &[&str]| sum(&second, name, labels) - sum(&first, name, labels);
    assert_eq!(
        moved("linkspan_invocations_total", &["feedback", "succeeded"]),
        1.0
    );
    assert_eq!(
        moved("linkspan_invocations_total", &["feedback", "failed"]),
        1.0
    );
    assert_eq!(
        moved(
            "linkspan_step_duration_seconds_count",
            &["code=\"unsupported-language\""]
        ),
        1.0
    );
    assert_eq!(
        moved("linkspan_refusals_total", &["unsupported-language"]),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_makes_up_makes_no_metric_of_its_own() {
    let (_setup, gateway) = gateway();
    let client = gateway.client("");
    let before = metrics(&gateway).await.len();
    for nth in 0..20 {
        let brew = Method::from_bytes(format!("BREW{nth}").as_bytes()).unwrap();
        assert_eq!(
            Answer::of(client.request(brew, "/v1/jobs")).await.status,
            405
        );
        assert_eq!(client.get(&format!("/made-up-{nth}")).await.status, 404);
        assert_eq!(
            client.text(&format!("made-up-{nth}"), "x").await.status,
            404
        );
        assert_eq!(
            client.get(&format!("/v1/jobs/made-up-{nth}")).await.status,
            404
        );
    }
    let after = metrics(&gateway).await;
    assert!(
        !after
            .keys()
            .any(|key| key.contains("BREW") || key.contains("made-up")),
        "{after:#?}"
    );
    assert!(
        after.len() < before + 6 * 22,
        "{} samples and then {}",
        before,
        after.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_can_be_turned_off() {
    let setup = Setup::new(
        env!("CARGO_BIN_EXE_linkspan"),
        &TOML.replace("[server]", "[server]\nmetrics = false"),
    );
    let gateway = setup.serve();
    assert_eq!(gateway.client("").get("/metrics").await.code(), "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_log_line_is_json_and_a_requests_line_has_its_ids() {
    // A service that nothing uses: the warning is a line as well.
    let toml = format!("{TOML}\n[service.spare]\ntask = \"detect-language\"\n");
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &toml);
    let gateway = setup.serve();
    let client = gateway.client("");
    let answers = [
        client.text("feedback", "I love it.").await,
        client.text("nothing", "I love it.").await,
        client.get("/healthz").await,
    ];
    let job = client.text("letters", "I love it.").await.job();
    client.result(&job).await;
    logged(&gateway, &client.get("/healthz").await).await;
    let lines: Vec<Value> = gateway
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(
        lines
            .iter()
            .any(|line| line["level"] == "WARN" && line.to_string().contains("spare")),
        "{lines:#?}"
    );
    for line in &lines {
        for member in ["timestamp", "level", "message", "target"] {
            assert!(line[member].is_string(), "{member} in {line}");
        }
    }
    for answer in answers {
        let id = answer.header("x-request-id").unwrap();
        let line = lines
            .iter()
            .find(|line| line["request_id"] == id && line["target"] == "linkspan::access");
        let line = line.unwrap_or_else(|| panic!("no line of the request {id}"));
        assert_eq!(line["status"], answer.status);
        assert_eq!(line["traceparent"].as_str(), answer.header("traceparent"));
        assert!(
            line["took_ms"].is_number() && line["method"].is_string() && line["route"].is_string(),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_for_people_is_no_json_and_has_no_colours_in_a_file() {
    let setup = Setup::new(
        env!("CARGO_BIN_EXE_linkspan"),
        &TOML.replace("[server]", "[server]\nlog_format = \"human\""),
    );
    let gateway = setup.serve();
    logged(&gateway, &gateway.client("").get("/healthz").await).await;
    let log = gateway.log();
    assert!(
        log.lines().count() > 1 && log.lines().all(|line| !line.starts_with('{')),
        "{log}"
    );
    assert!(!log.contains('\u{1b}'), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_lists_every_route_and_the_page_shows_it() {
    let (_setup, gateway) = gateway();
    let client = gateway.client("");
    let answer = client.get("/openapi.json").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json"))
    );
    let description = answer.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut described = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            described.insert(format!("{} {path}", method.to_uppercase()));
            assert!(
                ids.insert(operation["operationId"].to_string()),
                "{operation}"
            );
            assert_ne!(operation["summary"], "");
            // What is described is there: nothing is refused for its method, nor for its path.
            let real = path
                .replace("{name}", "feedback")
                .replace("{code}", "internal")
                .replace("{id}", "01980000-0000-7000-8000-000000000000");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = Answer::of(
                client
                    .request(method, &real)
                    .json(&json!({ "text": "Fine." })),
            )
            .await;
            assert_ne!(answer.status, 405, "{path}");
            assert!(
                !answer.body.contains("there is nothing at this path"),
                "{path}"
            );
        }
    }
    // And every route of the HTTP face is described.
    for known in [
        "POST /v1/integrations/{name}/invocations",
        "GET /v1/jobs",
        "GET /v1/jobs/{id}",
        "DELETE /v1/jobs/{id}",
        "GET /v1/jobs/{id}/result",
        "GET /v1/jobs/{id}/events",
        "POST /v1/jobs/{id}/cancel",
        "POST /v1/jobs/{id}/retry",
        "GET /v1/jobs/{id}/document",
        "GET /v1/jobs/{id}/preview",
        "POST /v1/jobs/retry",
        "GET /v1/results",
        "GET /v1/streams",
        "GET /v1/streams/{integration}",
        "GET /v1/streams/{integration}/labels",
        "GET /v1/replications",
        "GET /v1/deliveries",
        "GET /v1/deliveries/{id}",
        "POST /v1/deliveries/{id}/replay",
        "POST /v1/deliveries/{id}/give-up",
        "POST /v1/deliveries/replay",
        "GET /v1/deliveries/{id}/content",
        "GET /v1/endpoints",
        "POST /v1/endpoints/{integration}/{channel}/pause",
        "POST /v1/endpoints/{integration}/{channel}/resume",
        "GET /v1/keys",
        "POST /v1/keys",
        "POST /v1/keys/{id}/revoke",
        "GET /v1/audit",
        "GET /v1/integrations",
        "GET /v1/services",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /openapi.json",
        "GET /docs",
        "GET /problems/{code}",
    ] {
        assert!(described.remove(known), "{known}");
    }
    assert_eq!(described, BTreeSet::new(), "the test knows every route");

    let page = client.get("/docs").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    let html = page.body.to_lowercase();
    for foreign in [
        "<script",
        "javascript:",
        "://",
        "src=",
        "@import",
        "url(",
        "onload",
        "href=\"//",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    for path in description["paths"].as_object().unwrap().keys() {
        assert!(page.body.contains(path.as_str()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problems_type_points_to_a_page() {
    let (_setup, gateway) = gateway();
    let client = gateway.client("");
    for code in linkspan_model::Code::ALL {
        let problem = linkspan_model::Problem::new(*code, "");
        let page = client.get(&problem.type_uri).await;
        assert_eq!(page.status, 200, "{code}");
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        assert!(
            page.body.contains(code.name()) && page.body.contains(code.title()),
            "{code}: {}",
            page.body
        );
    }
    for unknown in [
        "/problems/nothing",
        "/problems/%ff",
        "/problems/%3Cscript%3E",
    ] {
        assert_eq!(client.get(unknown).await.code(), "not-found", "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_says_what_is_there_with_schemas() {
    let (_setup, gateway) = gateway();
    let client = gateway.client("");
    let integrations = client.get("/v1/integrations").await.json();
    let one = |name: &str| {
        let all = integrations["integrations"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (&one("feedback")["pattern"], &one("feedback")["takes"]),
        (&json!("sync"), &json!("text"))
    );
    assert_eq!(
        (&one("letters")["pattern"], &one("reading")["takes"]),
        (&json!("async"), &json!("document"))
    );
    let services = client.get("/v1/services").await.json();
    for service in services["services"].as_array().unwrap() {
        let schema = &service["answer"];
        assert!(schema["properties"].is_object(), "{service}");
    }
}
