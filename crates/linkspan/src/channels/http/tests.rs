//! Calls of a real receiver and a real token server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::channels::testing::{context, opened, parcel, result, send};
use crate::channels::{Channel, VerdictKind};
use crate::outbound::testing::{Receiver, answer};

const RETRY: VerdictKind = VerdictKind::Retry { after: None };

/// A channel to a receiver, with more keys.
fn channel(receiver: &Receiver, more: &str) -> Arc<dyn Channel> {
    let item = format!(r#"{{ http = "{}", {more} }}"#, receiver.url("/cases?v=1"));
    opened(&item, &context()).unwrap()
}

async fn taking() -> Receiver {
    Receiver::start(|_| answer(200, &[], "ok")).await
}

#[tokio::test]
async fn a_call_carries_the_content_its_stable_id_and_the_trace() {
    let receiver = taking().await;
    let channel = channel(
        &receiver,
        r#"method = "PUT", headers = { authorization = "Bearer abc", x-tenant = "acme" }"#,
    );
    let mut parcel = parcel(result());
    parcel.content = json!({ "label": "negative" });
    for _ in 0..2 {
        assert_eq!(
            send(&channel, parcel.clone()).await.kind,
            VerdictKind::Delivered
        );
    }
    for seen in receiver.seen() {
        assert_eq!(
            (seen.method.as_str(), seen.uri.to_string()),
            ("PUT", "/cases?v=1".to_owned())
        );
        assert_eq!(seen.json(), json!({ "label": "negative" }));
        for (name, value) in [
            ("content-type", "application/json"),
            ("authorization", "Bearer abc"),
            ("x-tenant", "acme"),
            ("idempotency-key", &parcel.id.to_string()),
            ("traceparent", parcel.traceparent.as_deref().unwrap()),
        ] {
            assert_eq!(seen.header(name), Some(value), "{name}");
        }
    }
}

#[tokio::test]
async fn a_filter_shapes_the_request_and_the_origin_stays() {
    let receiver = taking().await;
    let cases: &[(&str, &str, &str, &str, Option<&str>)] = &[
        // filter, method, path and query, body, content type
        (
            r#"{}"#,
            "POST",
            "/cases?v=1",
            "whole",
            Some("application/json"),
        ),
        (
            r#"{method: "PATCH", path: "/cases/a b?c#d", body: .answers.mood.label}"#,
            "PATCH",
            "/cases/a%20b%3Fc%23d?v=1",
            "\"negative\"",
            Some("application/json"),
        ),
        (
            r#"{path: "/x", query: {q: "ä&=", n: 1, yes: true, no: null, list: ["a", 2]}, body: null}"#,
            "POST",
            "/x?q=%C3%A4%26%3D&n=1&yes=true&list=a&list=2",
            "",
            None,
        ),
        (
            r#"{query: {}, headers: {"content-type": "text/plain"}, body: "plain text"}"#,
            "POST",
            "/cases",
            "plain text",
            Some("text/plain"),
        ),
        (
            r#"{method: "GET", path: "/ping"}"#,
            "GET",
            "/ping?v=1",
            "",
            None,
        ),
        (
            r#"{headers: {"content-type": "application/merge-patch+json; charset=utf-8", "X-Tenant": "other"}, body: [1]}"#,
            "POST",
            "/cases?v=1",
            "[1]",
            Some("application/merge-patch+json; charset=utf-8"),
        ),
    ];
    for (filter, method, target, body, content_type) in cases {
        let channel = channel(
            &receiver,
            &format!("request = '{filter}', headers = {{ x-tenant = \"acme\" }}"),
        );
        let parcel = parcel(result());
        let verdict = send(&channel, parcel.clone()).await;
        assert_eq!(
            verdict.kind,
            VerdictKind::Delivered,
            "{filter}: {}",
            verdict.detail
        );
        let seen = receiver.seen().pop().unwrap();
        assert_eq!(
            (seen.method.as_str(), seen.uri.to_string().as_str()),
            (*method, *target),
            "{filter}"
        );
        match *body {
            "whole" => assert_eq!(seen.json(), parcel.content),
            body => assert_eq!(seen.body, body.as_bytes(), "{filter}"),
        }
        assert_eq!(seen.header("content-type"), *content_type, "{filter}");
        let tenant = if filter.contains("X-Tenant") {
            "other"
        } else {
            "acme"
        };
        assert_eq!(seen.header("x-tenant"), Some(tenant));
    }
}

#[tokio::test]
async fn a_filter_that_gives_no_request_makes_a_dead_letter_that_tells_nothing_of_the_result() {
    let receiver = taking().await;
    for (filter, told) in [
        ("empty", "gave no object"),
        (".status", "gave no object"),
        (r#"error(.status)"#, "failed"),
        (r#"{(.status): 1}"#, "gave a key other than"),
        (r#"{method: "TRACE"}"#, "gave a method other than"),
        (r#"{method: "post"}"#, "gave a method other than"),
        (r#"{path: "//evil.example.com/"}"#, "one slash"),
        (r#"{path: "https://evil.example.com/"}"#, "one slash"),
        (r#"{path: "/\\evil.example.com"}"#, "backslash"),
        (r#"{path: "/a/../../admin"}"#, "segment . or .."),
        (r#"{path: "/a/%2E%2e/admin"}"#, "segment . or .."),
        (r#"{path: "/a\u0000"}"#, "control character"),
        (r#"{path: 1}"#, "not a text"),
        (r#"{query: "a=b"}"#, "not an object"),
        (r#"{query: {a: {}}}"#, "query whose values"),
        (
            r#"{headers: {Host: "evil.example.com"}}"#,
            "only the gateway sets",
        ),
        (
            r#"{headers: {"content-length": "0"}}"#,
            "only the gateway sets",
        ),
        (
            r#"{headers: {"transfer-encoding": "chunked"}}"#,
            "only the gateway sets",
        ),
        (r#"{headers: {Authorization: "Bearer x"}}"#, "credentials"),
        (r#"{headers: {"a b": "x"}}"#, "a name that no header has"),
        (r#"{headers: {a: "x\r\nb: c"}}"#, "no header may hold"),
        (r#"{headers: {a: 1}}"#, "not a text"),
        (
            r#"{headers: {"content-type": "text/plain"}, body: {}}"#,
            "not a text",
        ),
    ] {
        // A literal string of TOML keeps the backslashes.
        let channel = channel(&receiver, &format!("request = '{filter}'"));
        let verdict = send(&channel, parcel(result())).await;
        assert_eq!(
            verdict.kind,
            VerdictKind::Dead,
            "{filter}: {}",
            verdict.detail
        );
        assert!(
            verdict.detail.contains(told),
            "{filter}: {}",
            verdict.detail
        );
        assert!(
            !verdict.detail.contains("succeeded") && !verdict.detail.contains("evil"),
            "{}",
            verdict.detail
        );
    }
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn only_what_is_expected_is_success() {
    for (expect, status, kind) in [
        (r#"["2xx"]"#, 200, VerdictKind::Delivered),
        (r#"["2xx"]"#, 302, RETRY),
        (r#"["201", "409"]"#, 409, VerdictKind::Delivered),
        (r#"["201"]"#, 200, RETRY),
        (r#"["200-204"]"#, 205, RETRY),
        (r#"["2xx"]"#, 401, RETRY),
        (r#"["2xx"]"#, 404, RETRY),
        (r#"["2xx"]"#, 410, RETRY),
        (r#"["2xx"]"#, 429, RETRY),
        (r#"["2xx"]"#, 503, RETRY),
        (r#"["2xx"]"#, 400, VerdictKind::Dead),
        (r#"["2xx"]"#, 422, VerdictKind::Dead),
    ] {
        let receiver = Receiver::start(move |_| answer(status, &[], "")).await;
        let channel = channel(&receiver, &format!("expect = {expect}"));
        let verdict = send(&channel, parcel(result())).await;
        assert_eq!(
            (verdict.kind, verdict.status),
            (kind, Some(status)),
            "{expect} {status}"
        );
    }
}

/// A server that gives a token after the other: `token-1`, `token-2`, …
async fn token_server(expires_in: Value) -> Receiver {
    let count = AtomicUsize::new(0);
    Receiver::start(move |seen| {
        // linkspan:c%2Bret%2F+1 in base64.
        if seen.header("authorization") != Some("Basic bGlua3NwYW46YyUyQnJldCUyRisx") {
            return answer(401, &[], r#"{"error": "invalid_client", "error_description": "c+ret/ 1 is wrong"}"#);
        }
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let token = json!({ "access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": expires_in });
        answer(200, &[("content-type", "application/json")], token.to_string())
    })
    .await
}

fn oauth2(server: &Receiver, secret: &str) -> String {
    format!(
        r#"oauth2 = {{ token_url = "{}", client_id = "linkspan", client_secret = "${{env:{secret}}}", scope = "cases.write cases.read", audience = "https://api.example.com" }}"#,
        server.url("/token")
    )
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all_calls_until_it_is_about_to_expire() {
    let tokens = token_server(json!(3600)).await;
    let receiver = taking().await;
    let calls = channel(&receiver, &oauth2(&tokens, "c+ret/ 1"));
    let sent: Vec<_> = (0..8).map(|_| send(&calls, parcel(result()))).collect();
    for verdict in futures_util::future::join_all(sent).await {
        assert_eq!(verdict.kind, VerdictKind::Delivered, "{}", verdict.detail);
    }
    assert!(
        receiver
            .seen()
            .iter()
            .all(|seen| seen.header("authorization") == Some("Bearer token-1"))
    );
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(
        asked[0].body,
        "grant_type=client_credentials&scope=cases.write+cases.read&audience=https%3A%2F%2Fapi.example.com"
    );

    // One that has expired by the time it is there is fetched for each call.
    let tokens = token_server(json!("0")).await;
    let receiver = taking().await;
    let calls = channel(&receiver, &oauth2(&tokens, "c+ret/ 1"));
    for _ in 0..2 {
        send(&calls, parcel(result())).await;
    }
    assert_eq!(tokens.seen().len(), 2);
}

#[tokio::test]
async fn a_token_that_is_turned_down_is_fetched_anew_once() {
    let tokens = token_server(json!(3600)).await;
    let receiver = Receiver::start(|seen| match seen.header("authorization") {
        Some("Bearer token-1") => answer(401, &[], ""),
        Some("Bearer token-2") => answer(200, &[], ""),
        _ => answer(500, &[], ""),
    })
    .await;
    let calls = channel(&receiver, &oauth2(&tokens, "c+ret/ 1"));
    for _ in 0..2 {
        assert_eq!(
            send(&calls, parcel(result())).await.kind,
            VerdictKind::Delivered
        );
    }
    assert_eq!((tokens.seen().len(), receiver.seen().len()), (2, 3));

    // Where the next one is turned down too, that is the answer.
    let receiver = Receiver::start(|seen| {
        answer(401, &[], format!("bad {:?}", seen.headers["authorization"]))
    })
    .await;
    let calls = channel(&receiver, &oauth2(&tokens, "c+ret/ 1"));
    let verdict = send(&calls, parcel(result())).await;
    assert_eq!((verdict.kind, verdict.status), (RETRY, Some(401)));
    assert_eq!(receiver.seen().len(), 2);
    assert!(!verdict.detail.contains("token-"), "{}", verdict.detail);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_reason_holds_no_secret() {
    let receiver = taking().await;
    let tokens = token_server(json!(3600)).await;
    let wrong = channel(&receiver, &oauth2(&tokens, "wrong-secret"));
    let verdict = send(&wrong, parcel(result())).await;
    assert_eq!((verdict.kind, verdict.status), (RETRY, None));
    let expected = format!(
        "the token server {} answered 401 (invalid_client)",
        tokens.url("")
    );
    assert_eq!(verdict.detail, expected);
    assert!(!format!("{wrong:?}").contains("wrong-secret"));
    type Script = fn() -> Response<Bytes>;
    let scripts: [(Script, &str); 4] = [
        (|| answer(200, &[], "<html>"), "answered no token"),
        (
            || answer(200, &[], r#"{"access_token": "t", "token_type": "mac"}"#),
            "not of the type bearer",
        ),
        (
            || {
                answer(
                    200,
                    &[],
                    r#"{"access_token": "t\n", "token_type": "bearer"}"#,
                )
            },
            "no header can hold",
        ),
        (
            || answer(307, &[("location", "http://169.254.169.254/")], ""),
            "answered 307",
        ),
    ];
    for (script, told) in scripts {
        let tokens = Receiver::start(move |_| script()).await;
        let verdict = send(
            &channel(&receiver, &oauth2(&tokens, "c+ret/ 1")),
            parcel(result()),
        )
        .await;
        assert_eq!(verdict.kind, RETRY);
        assert!(verdict.detail.contains(told), "{}", verdict.detail);
    }
    assert!(receiver.seen().is_empty());
}

#[test]
fn every_fault_of_an_item_is_told_by_its_key() {
    let faults = opened(
        r#"{ http = "https://api.example.com/", request = '{', headers = { authorization = "Bearer x", connection = "close" }, oauth2 = { token_url = "https://id.example.com/", client_id = "a", client_secret = "${env:b}" } }"#,
        &context(),
    )
    .unwrap_err();
    let starts = [
        "headers.authorization: is set",
        "headers.connection: is set",
        "request: ",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}");
    }
}

/// A result whose texts are hostile to every place that they could stand in.
fn hostile() -> Value {
    let mut hostile = result();
    hostile["answers"] = json!({ "text": {
        "text": "<!channel> & <http://evil.example.com|click> [x](http://evil.example.com) \u{202e}*gnp.exe*\n*error*: none",
        "pages": [],
        "media_type": "text/plain",
    } });
    hostile["steps"] =
        json!([{ "service": "text", "task": "extract-text", "engine": "builtin", "took_ms": 1.0 }]);
    hostile
}

async fn message(
    shape: &str,
    more: &str,
    change: impl FnOnce(&mut crate::channels::Parcel),
) -> (Value, String) {
    let receiver = taking().await;
    let channel = channel(&receiver, &format!("shape = \"{shape}\"{more}"));
    let mut parcel = parcel(hostile());
    change(&mut parcel);
    let verdict = send(&channel, parcel.clone()).await;
    assert_eq!(verdict.kind, VerdictKind::Delivered, "{}", verdict.detail);
    let page = format!("https://linkspan.example.com/#/jobs/{}", parcel.job);
    (receiver.seen()[0].json(), page)
}

#[tokio::test]
async fn a_slack_message_shows_hostile_text_as_text() {
    let (message, page) = message("slack", "", |_| {}).await;
    assert_eq!(
        message,
        json!({
            "text": "calls: succeeded (text: 0 pages, 7 words: &lt;!channel&gt; &amp; &lt;http://evil.example.com|click&gt; [x](http://evil.example.com) *gnp.exe* *error*: none …)",
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": "✅ calls: succeeded", "emoji": true } },
                { "type": "section", "fields": [{
                    "type": "mrkdwn", "verbatim": true,
                    "text": "*text*\n0 pages, 7 words: &lt;!channel&gt; &amp; &lt;http://evil.example.com|click&gt; [x](http://evil.example.com) *gnp.exe* *error*: none …",
                }] },
                { "type": "context", "elements": [{ "type": "mrkdwn", "text": format!("<{page}|Open the job>"), "verbatim": true }] },
            ],
        })
    );
}

#[tokio::test]
async fn a_teams_message_keeps_hostile_text_out_of_markdown() {
    let (message, page) = message("teams", "", |_| {}).await;
    assert_eq!(
        message,
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        { "type": "RichTextBlock", "inlines": [
                            { "type": "TextRun", "text": "calls: succeeded", "weight": "bolder", "size": "medium", "color": "good" },
                        ] },
                        { "type": "RichTextBlock", "inlines": [
                            { "type": "TextRun", "text": "text: ", "weight": "bolder" },
                            { "type": "TextRun", "text": "0 pages, 7 words: <!channel> & <http://evil.example.com|click> [x](http://evil.example.com) *gnp.exe* *error*: none …", "weight": "default" },
                        ] },
                    ],
                    "actions": [{ "type": "Action.OpenUrl", "title": "Open the job", "url": page }],
                },
            }],
        })
    );
}

#[tokio::test]
async fn messages_show_what_map_made_and_stay_within_their_limits() {
    let large: serde_json::Map<_, _> = (0..500)
        .map(|number| {
            (
                format!("<{number}>{}", "&".repeat(200)),
                json!("&<>\u{1F600}".repeat(1000)),
            )
        })
        .collect();
    for content in [
        json!(large),
        json!("&<>\n".repeat(5000)),
        json!("&".repeat(50_000)),
        json!(vec![large; 3]),
    ] {
        let (slack, _) = message("slack", ", map = \".\"", |parcel| {
            parcel.content = content.clone()
        })
        .await;
        let blocks = slack["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        let texts = blocks
            .iter()
            .filter_map(|block| block["text"]["text"].as_str());
        assert!(
            texts
                .chain(slack["text"].as_str())
                .all(|text| text.chars().count() <= 3000)
        );
        let fields = blocks.iter().filter_map(|block| block["fields"].as_array());
        for fields in fields {
            assert!(fields.len() <= 10);
            assert!(
                fields
                    .iter()
                    .all(|field| field["text"].as_str().unwrap().chars().count() <= 2000)
            );
        }
        let (teams, _) = message("teams", ", map = \".\"", |parcel| {
            parcel.content = content.clone()
        })
        .await;
        assert!(
            teams.to_string().len() <= 28 * 1024,
            "{}",
            teams.to_string().len()
        );
    }
    let (slack, _) = message("slack", ", map = \".\"", |parcel| {
        parcel.result["status"] = json!("failed");
        parcel.content = json!({ "case": 7, "tags": ["a", "b"], "more": { "x": 1 } });
    })
    .await;
    assert_eq!(slack["blocks"][0]["text"]["text"], "❌ calls: failed");
    let fields: Vec<_> = slack["blocks"][1]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["text"].clone())
        .collect();
    assert_eq!(
        json!(fields),
        json!(["*case*\n7", "*tags*\na, b", "*more*\n{\"x\":1}"])
    );
}
