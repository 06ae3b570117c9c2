//! Calls of a real receiver and a real token server.

mod messages;
mod tokens;

use std::sync::Arc;

use serde_json::json;

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
            r#"{method: "PATCH", path: @uri "/cases/\("100%; ..a é")", body: 1}"#,
            "PATCH",
            "/cases/100%25%3B%20..a%20%C3%A9?v=1",
            "1",
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
        (r#"{path: "/a/..%2f..%2fadmin"}"#, "encoded slash"),
        (r#"{path: "/a/x%2Fy"}"#, "encoded slash"),
        (r#"{path: "/a/%5cadmin"}"#, "encoded slash"),
        (r#"{path: "/a/%252e%252E/admin"}"#, "segment . or .."),
        (r#"{path: "/a/x%25252Fy"}"#, "encoded slash"),
        (r#"{path: "/a/..;x/admin"}"#, "segment . or .."),
        (r#"{path: @uri "/a/\("../../admin")"}"#, "encoded slash"),
        (r#"{path: "/a%00"}"#, "control character"),
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
