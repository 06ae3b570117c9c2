//! How requests come in: forms, limits, hints, ids, and what is said of a request that cannot be taken.

use std::time::Duration;

use linkspan_testkit::{Answer, Client, Gateway, Setup};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TOML: &str = r#"
[service.mood]
task = "sentiment"
[service.language]
task = "detect-language"
[service.text]
task = "extract-text"
[integration.feedback]
pattern = "sync"
steps = ["mood"]
[integration.brief]
pattern = "sync"
steps = ["mood"]
max_body = "1 KiB"
[integration.letters]
pattern = "async"
steps = ["language"]
[integration.reading]
pattern = "sync"
steps = ["text"]
"#;

const HAPPY: &str = "What a wonderful, happy day!";

/// A gateway without authentication, with these further keys of its section `server`.
fn gateway(server: &str) -> (Setup, Gateway) {
    let toml = format!("[server]\nauth = \"none\"\n{server}\n{TOML}");
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &toml);
    let gateway = setup.serve();
    (setup, gateway)
}

async fn send(client: &Client, media_type: &str, body: impl Into<Body>) -> Answer {
    let request = client
        .invocation("feedback")
        .header("content-type", media_type);
    Answer::of(request.body(body)).await
}

async fn form(client: &Client, form: Form) -> Answer {
    Answer::of(client.invocation("feedback").multipart(form)).await
}

/// A body in chunks, without a Content-Length.
fn chunked(pieces: Vec<Vec<u8>>) -> Body {
    let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
    Body::wrap_stream(futures_util::stream::iter(pieces))
}

fn refused(answer: &Answer, status: u16, code: &str, words: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{}",
        answer.body
    );
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(words), "{detail:?} does not say {words:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_comes_as_the_body_as_json_or_as_a_part_of_a_form() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let part = || Part::bytes(HAPPY.as_bytes().to_vec());
    let answers = [
        client.text("feedback", HAPPY).await,
        send(&client, "text/plain", HAPPY).await,
        send(&client, "Text/Plain; Charset=\"UTF-8\"", HAPPY).await,
        send(
            &client,
            "application/json; charset=utf-8",
            json!({ "text": HAPPY, "params": {}, "claim": null }).to_string(),
        )
        .await,
        form(&client, Form::new().text("text", HAPPY)).await,
        form(
            &client,
            Form::new().part("document", part().mime_str("text/plain").unwrap()),
        )
        .await,
        form(
            &client,
            Form::new()
                .text("claim", "{\"name\": \"Ada Quill\"}")
                .text("params", "{}")
                .part(
                    "document",
                    part().mime_str("text/plain").unwrap().file_name("note.txt"),
                ),
        )
        .await,
    ];
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["answers"]["mood"]["label"], "positive");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_read_is_400_and_names_what_is_wrong() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let deep = format!(
        "{{\"text\": \"x\", \"claim\": {}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let wrong_json = [
        ("{\"text\": \"x\", \"parms\": {}}", "parms"),
        ("{\"params\": {}}", "text"),
        ("{\"text\": \"x\", \"text\": \"y\"}", "text"),
        ("{\"text\": 7}", "line 1"),
        ("{\"text\": \"x\", \"params\": []}", "line 1"),
        ("{\"text\": \"x\"", "ends early"),
        ("{\"text\": \"x\"} {}", "not JSON"),
        ("", "ends early"),
        (deep.as_str(), "not JSON"),
    ];
    for (body, words) in wrong_json {
        refused(
            &send(&client, "application/json", body.to_owned()).await,
            400,
            "bad-request",
            words,
        );
    }
    refused(
        &send(
            &client,
            "application/json",
            b"{\"text\": \"\xff\"}".to_vec(),
        )
        .await,
        400,
        "bad-request",
        "not JSON",
    );
    let wrong_forms = [
        (
            Form::new().text("text", "x").text("document2", "y"),
            "document2",
        ),
        (
            Form::new().text("text", "x").text("text", "y"),
            "more than one part",
        ),
        (Form::new().text("text", "x").text("params", "[]"), "params"),
        (Form::new().text("text", "x").text("params", "{"), "params"),
        (
            Form::new().text("text", "x").text("claim", "no JSON"),
            "claim",
        ),
        (
            Form::new().text("params", "{}"),
            "neither a document nor a text",
        ),
        (Form::new().part("text", Part::bytes(vec![0xff])), "UTF-8"),
        (Form::new().text("", "x"), "part named"),
    ];
    for (wrong, words) in wrong_forms {
        refused(&form(&client, wrong).await, 400, "bad-request", words);
    }
    for (media_type, body) in [
        ("multipart/form-data", "--x\r\n"),
        (
            "multipart/form-data; boundary=x",
            "--x\r\ncontent-disposition: form-data; name=text\r\n\r\ncut off",
        ),
        (
            "multipart/form-data; boundary=x",
            "there is no part in this",
        ),
        ("multipart/form-data; boundary=x", ""),
    ] {
        refused(
            &send(&client, media_type, body).await,
            400,
            "bad-request",
            "",
        );
    }
    refused(
        &send(&client, "text/plain", "").await,
        400,
        "bad-request",
        "empty",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charset_is_believed_and_a_wrong_one_is_said() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let latin = b"What a lovely caf\xe9, and what a wonderful, happy day!";
    assert_eq!(
        send(&client, "text/plain; charset=iso-8859-1", latin.to_vec())
            .await
            .status,
        200
    );
    assert_eq!(
        send(
            &client,
            "text/plain; format=flowed; Charset=\"windows-1252\"",
            latin.to_vec()
        )
        .await
        .status,
        200
    );
    refused(
        &send(&client, "text/plain", latin.to_vec()).await,
        422,
        "unreadable-document",
        "UTF-8",
    );
    refused(
        &send(&client, "text/plain; charset=klingon", HAPPY).await,
        415,
        "unsupported-media-type",
        "klingon",
    );
    refused(
        &send(&client, "image/png", HAPPY).await,
        415,
        "unsupported-media-type",
        "image/png",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_curl_and_others_say_of_a_document_is_a_hint_only() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let page = "<html><body><p>The ferry leaves at nine.</p></body></html>";
    for media_type in [
        "text/html",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
    ] {
        let request = client
            .invocation("reading")
            .header("content-type", media_type);
        let answer = Answer::of(request.body(page)).await;
        assert_eq!(answer.status, 200, "{media_type}: {}", answer.body);
        let text = answer.json()["answers"]["text"]["text"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            text.contains("The ferry leaves at nine."),
            "{media_type}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_no_step_takes_is_named() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let body = json!({ "text": HAPPY, "params": { "pasword": "x" } });
    for integration in ["feedback", "letters", "reading"] {
        let answer = Answer::of(client.invocation(integration).json(&body)).await;
        refused(&answer, 422, "invalid-parameter", "pasword");
    }
    assert_eq!(
        client.get("/v1/jobs").await.json()["jobs"],
        json!([]),
        "nothing was accepted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_its_limit_is_413_in_every_form() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let brief = || client.invocation("brief");
    let long = "x".repeat(2000);
    let half = || vec![b'x'; 700];
    let requests = [
        brief()
            .header("content-type", "text/plain")
            .body(long.clone()),
        brief()
            .header("content-type", "text/plain")
            .body(chunked(vec![half(), half()])),
        brief().json(&json!({ "text": long })),
        brief()
            .header("content-type", "application/json")
            .body(chunked(vec![b"{\"text\": \"".to_vec(), half(), half()])),
        brief().multipart(Form::new().text("text", long.clone())),
        brief()
            .multipart(Form::new().part("document", Part::stream(chunked(vec![half(), half()])))),
        brief().multipart(
            Form::new()
                .part("text", Part::stream(chunked(vec![half()])))
                .text("params", format!("{{\"a\": \"{}\"}}", "x".repeat(600))),
        ),
    ];
    for request in requests {
        refused(
            &Answer::of(request).await,
            413,
            "body-too-large",
            "1024 bytes",
        );
    }
    let fits = brief()
        .header("content-type", "text/plain")
        .body(format!("{HAPPY:1024}"));
    assert_eq!(
        Answer::of(fits).await.status,
        200,
        "exactly the limit is not over it"
    );

    let claim = "x".repeat(70_000);
    let in_json = client
        .invocation("feedback")
        .json(&json!({ "text": HAPPY, "claim": { "name": claim } }));
    refused(&Answer::of(in_json).await, 413, "body-too-large", "claim");
    let in_form = Form::new()
        .text("text", HAPPY)
        .text("claim", format!("{{\"name\": \"{claim}\"}}"));
    refused(
        &form(&client, in_form).await,
        413,
        "body-too-large",
        "claim",
    );
}

/// Sends the start of a request and reads the whole answer: status and body.
async fn raw(gateway: &Gateway, request: &[u8]) -> (u16, String) {
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    let read =
        tokio::time::timeout(Duration::from_secs(90), connection.read_to_end(&mut bytes)).await;
    read.expect("the gateway answers and closes").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let (_setup, gateway) = gateway("");
    let request = "POST /v1/integrations/brief/invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n";
    let (status, body) = raw(&gateway, request.as_bytes()).await;
    assert_eq!(status, 413);
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["code"],
        "body-too-large"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_on_after_its_refusal_still_gets_it() {
    let (_setup, gateway) = gateway("max_header_bytes = \"8 KiB\"");
    let head = "POST /v1/integrations/brief/invocations HTTP/1.1\r\nhost: localhost\r\n";
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let chunked = format!(
        "{head}content-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        piece.repeat(64)
    );
    let (status, body) = raw(&gateway, chunked.as_bytes()).await;
    assert_eq!(status, 413, "{body}");
    let long_header = format!("{head}x-long: {}\r\n\r\n", "x".repeat(1_000_000));
    let (status, body) = raw(&gateway, long_header.as_bytes()).await;
    assert_eq!(status, 431, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_coming_is_408() {
    let (_setup, gateway) = gateway("body_idle_timeout = \"1s\"");
    let begun = |media_type: &str, body: &str| {
        format!(
            "POST /v1/integrations/feedback/invocations HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: {media_type}\r\ncontent-length: 500\r\n\r\n{body}"
        )
    };
    let requests = [
        begun("text/plain", "half of it"),
        begun("application/json", "{\"text\": \""),
        begun(
            "multipart/form-data; boundary=x",
            "--x\r\ncontent-disposition: form-",
        ),
        begun(
            "multipart/form-data; boundary=x",
            "--x\r\ncontent-disposition: form-data; name=\"document\"\r\n\r\nhalf",
        ),
    ];
    let answers = requests
        .iter()
        .map(|request| raw(&gateway, request.as_bytes()));
    for (status, body) in futures_util::future::join_all(answers).await {
        assert_eq!(status, 408, "{body}");
        assert_eq!(
            serde_json::from_str::<Value>(&body).unwrap()["code"],
            "request-timeout"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_loses_its_slot() {
    let (_setup, gateway) = gateway("header_timeout = \"1s\"\nmax_connections = 2");
    let address = gateway.url.strip_prefix("http://").unwrap();
    let silent = ["", "PRI * HTTP/2"].map(|said| async move {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(said.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let read = connection.read_to_end(&mut bytes);
        let read = tokio::time::timeout(Duration::from_secs(90), read).await;
        // A reset is an end too.
        read.expect("the gateway closes the connection").ok();
        assert!(bytes.is_empty());
    });
    futures_util::future::join_all(silent).await;
    assert_eq!(gateway.client("").get("/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_to_who_begins_with_it_even_in_pieces() {
    let (_setup, gateway) = gateway("");
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.set_nodelay(true).unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for piece in [&b"PRI * HTT"[..], b"P/2.0\r\n\r\nSM\r\n\r\n", &settings] {
        connection.write_all(piece).await.unwrap();
        connection.flush().await.unwrap();
    }
    let mut frame = [0; 9];
    connection.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "a SETTINGS frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_body_is_refused_with_what_to_do() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let send = |encoding: &str| {
        let request = client
            .invocation("feedback")
            .header("content-encoding", encoding);
        Answer::of(request.header("content-type", "text/plain").body(HAPPY))
    };
    refused(
        &send("gzip").await,
        415,
        "unsupported-media-type",
        "without one",
    );
    assert_eq!(send("identity").await.status, 200);
}

/// The most memory that a process has had, in bytes.
fn peak(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_goes_to_disk_and_not_to_memory() {
    const SIZE: usize = 40_000_000;
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    // Not one byte of it is looked at: the step takes text, and this is said to be none.
    let post = || client.invocation("feedback");
    let warm = Answer::of(
        post()
            .header("content-type", "image/png")
            .body(vec![b'x'; 300_000]),
    )
    .await;
    refused(&warm, 415, "unsupported-media-type", "image/png");
    let before = peak(&gateway);
    let pieces = || chunked((0..SIZE / 100_000).map(|_| vec![b'\r'; 100_000]).collect());
    let document = |part: Part| Form::new().part("document", part.mime_str("image/png").unwrap());
    let requests = [
        post()
            .header("content-type", "image/png")
            .body(vec![b'x'; SIZE]),
        post().header("content-type", "image/png").body(pieces()),
        post().multipart(document(Part::bytes(vec![b'x'; SIZE]))),
        post().multipart(document(Part::stream(pieces()))),
    ];
    for request in requests {
        refused(
            &Answer::of(request).await,
            415,
            "unsupported-media-type",
            "image/png",
        );
        let grown = peak(&gateway).saturating_sub(before);
        assert!(
            grown < SIZE as u64 / 3,
            "a body of {SIZE} bytes took {grown} bytes of memory"
        );
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_never_comes_to_a_part_is_refused_early() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let before = peak(&gateway);
    for start in [
        "",
        "--x\r\n",
        "--x\r\ncontent-disposition: form-data; name=\"document\"; a=\"",
    ] {
        let endless = (0..400).map(|nth| match nth {
            0 => start.as_bytes().to_vec(),
            _ => vec![b'a'; 100_000],
        });
        let request = client
            .invocation("feedback")
            .header("content-type", "multipart/form-data; boundary=x");
        let answer = Answer::of(request.body(chunked(endless.collect()))).await;
        refused(&answer, 400, "bad-request", "too long");
    }
    let grown = peak(&gateway).saturating_sub(before);
    assert!(grown < 10_000_000, "{grown} bytes of memory for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_has_a_least_and_a_greatest_length() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let with_key = |key: Vec<u8>| {
        let value = reqwest::header::HeaderValue::from_bytes(&key).unwrap();
        Answer::of(
            client
                .invocation("feedback")
                .header("idempotency-key", value)
                .json(&json!({ "text": HAPPY })),
        )
    };
    for wrong in [
        vec![],
        b"  ".to_vec(),
        vec![b'k'; 256],
        "clé".as_bytes().to_vec(),
    ] {
        refused(&with_key(wrong).await, 400, "bad-request", "1 to 255");
    }
    assert_eq!(with_key(vec![b'k'; 255]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_or_method_that_is_not_there_is_a_problem_document_too() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let missing = [
        (Method::GET, "/v2/jobs"),
        (Method::POST, "/v1/integrations/nothing/invocations"),
        (Method::POST, "/v1/integrations/%ff/invocations"),
        (Method::POST, "/v1/integrations/..%2f..%2fetc/invocations"),
        (Method::GET, "/v1/jobs/1"),
        (Method::GET, "/v1/jobs/%ff"),
        (Method::GET, "/v1/jobs/%ff/events"),
        (Method::POST, "/v1/jobs/x/cancel"),
    ];
    for (method, path) in missing {
        let answer = Answer::of(client.request(method, path)).await;
        refused(&answer, 404, "not-found", "");
        assert_eq!(
            answer.json()["request_id"].as_str(),
            answer.header("x-request-id"),
            "{path}"
        );
    }
    let known = client.text("nothing", HAPPY).await.json()["detail"].to_string();
    assert!(
        known.contains("feedback") && known.contains("letters"),
        "{known}"
    );
    for (method, path, allowed) in [
        (Method::PUT, "/v1/jobs", "GET"),
        (Method::GET, "/v1/integrations/feedback/invocations", "POST"),
        (Method::PATCH, "/v1/jobs/1", "DELETE"),
        (Method::OPTIONS, "/v1/jobs", "GET"),
        (Method::POST, "/healthz", "GET"),
    ] {
        let answer = Answer::of(client.request(method.clone(), path)).await;
        refused(&answer, 405, "method-not-allowed", "");
        let allow = answer.header("allow").unwrap_or_default();
        assert!(
            allow.contains(allowed),
            "{method} {path} allows {allow:?} (RFC 9110 section 15.5.6)"
        );
    }
    for query in [
        "stat=queued",
        "state=asleep",
        "after=yesterday",
        "limit=many",
    ] {
        let answer = client.get(&format!("/v1/jobs?{query}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "bad-request"),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_its_ids_on_the_whole_way() {
    let (_setup, gateway) = gateway("");
    let client = gateway.client("");
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = client
        .invocation("letters")
        .header("x-request-id", "order-17")
        .header("traceparent", parent);
    let answer = Answer::of(request.json(&json!({ "text": "Good morning to all of you." }))).await;
    assert_eq!(answer.header("x-request-id"), Some("order-17"));
    let child = answer.header("traceparent").unwrap();
    assert_eq!(child[..36], parent[..36], "the trace goes on");
    assert_ne!(child, parent, "with a span of its own");
    assert_eq!(
        answer.json()["traceparent"].as_str(),
        Some(child),
        "and the job belongs to it"
    );
    let job = answer.job();
    let log_has = |words: &str| {
        gateway
            .log()
            .lines()
            .any(|line| line.contains(words) && line.contains("order-17"))
    };
    crate::scripted::until(|| log_has("4bf92f3577b34da6a3ce929d0e0e4736")).await;
    assert_eq!(
        client.result(&job).await.json()["id"].as_str(),
        Some(job.as_str()),
        "one id everywhere"
    );

    let missing = client.get("/nothing").await;
    let made = missing.json()["request_id"].as_str().unwrap().to_owned();
    assert_eq!(missing.header("x-request-id"), Some(made.as_str()));
    assert_eq!(made.len(), 36);
    let wild = client
        .request(Method::GET, "/healthz")
        .header("x-request-id", "a b")
        .header("traceparent", "nonsense");
    let wild = Answer::of(wild).await;
    assert_eq!(
        wild.header("x-request-id").map(str::len),
        Some(36),
        "a malformed id is replaced"
    );
    assert_eq!(
        wild.header("traceparent").map(str::len),
        Some(55),
        "a malformed trace starts anew"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_origins_pages_are_kept_out_unless_they_are_named() {
    let preflight = |client: &Client, origin: &str| {
        let request = client.request(Method::OPTIONS, "/v1/integrations/feedback/invocations");
        Answer::of(
            request
                .header("origin", origin.to_owned())
                .header("access-control-request-method", "POST")
                .header(
                    "access-control-request-headers",
                    "authorization,content-type,idempotency-key",
                ),
        )
    };
    const NAMED: &str = "https://desk.example";
    let (_setup, closed) = gateway("");
    let answer = preflight(&closed.client(""), NAMED).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (405, None)
    );

    let (_setup, open) = gateway("cors_origins = [\"https://desk.example\"]");
    let client = open.client("");
    let answer = preflight(&client, NAMED).await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some(NAMED))
    );
    assert!(
        answer
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    let headers = answer
        .header("access-control-allow-headers")
        .unwrap()
        .to_ascii_lowercase();
    assert!(
        headers.contains("idempotency-key") && headers.contains("authorization"),
        "{headers}"
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let stranger = preflight(&client, "https://desk.example.evil.example").await;
    assert_eq!(stranger.header("access-control-allow-origin"), None);
    let real = client
        .invocation("feedback")
        .header("origin", NAMED)
        .json(&json!({ "text": HAPPY }));
    let real = Answer::of(real).await;
    assert_eq!(
        (real.status, real.header("access-control-allow-origin")),
        (200, Some(NAMED))
    );
    assert!(
        real.header("access-control-expose-headers")
            .unwrap()
            .contains("linkspan-invocation-id")
    );
    let refused = client
        .request(Method::GET, "/nothing")
        .header("origin", NAMED);
    assert_eq!(
        Answer::of(refused)
            .await
            .header("access-control-allow-origin"),
        Some(NAMED),
        "a problem is readable as well"
    );
}
