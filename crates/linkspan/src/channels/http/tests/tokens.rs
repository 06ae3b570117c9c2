//! Tokens: fetched once, kept, and fetched anew.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::{RETRY, channel, taking};
use crate::channels::VerdictKind;
use crate::channels::testing::{parcel, result, send};
use crate::outbound::testing::{Receiver, answer};

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
