//! Webhooks to a real receiver.

use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use jiff::Timestamp;
use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::json;

use crate::channels::testing::{context, opened, parcel, result, send};
use crate::channels::{Verdict, VerdictKind};
use crate::outbound::testing::{Receiver, Seen, answer};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_b2xkLXNlY3JldC1vZi10d2VudHktZm91ci1ieXRlcw==";

/// What the standard says a signature is, computed apart from the channel.
fn expected(secret: &str, seen: &Seen) -> String {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let id = seen.header("webhook-id").unwrap();
    let timestamp = seen.header("webhook-timestamp").unwrap();
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(&seen.body);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed);
    format!("v1,{}", STANDARD.encode(tag))
}

#[tokio::test]
async fn a_result_arrives_as_a_signed_cloud_event() {
    let receiver = Receiver::start(|_| answer(204, &[], "")).await;
    let item = format!(
        r#"{{ webhook = "{}", secret = "${{env:{SECRET}}}", headers = {{ x-tenant = "acme" }} }}"#,
        receiver.url("/hooks/calls?v=2")
    );
    let channel = opened(&item, &context()).unwrap();
    assert_eq!(channel.receiver(), receiver.url(""));
    let parcel = parcel(result());
    let verdict = send(&channel, parcel.clone()).await;
    assert_eq!(
        (verdict.kind, verdict.status),
        (VerdictKind::Delivered, Some(204))
    );
    assert!(
        verdict
            .detail
            .starts_with("accepted with 204 No Content at 20"),
        "{}",
        verdict.detail
    );

    let seen = &receiver.seen()[0];
    assert_eq!(
        (&seen.method, seen.uri.to_string()),
        (&Method::POST, "/hooks/calls?v=2".to_owned())
    );
    assert_eq!(
        seen.header("content-type"),
        Some("application/cloudevents+json")
    );
    assert_eq!(seen.header("x-tenant"), Some("acme"));
    assert_eq!(
        seen.header("webhook-id"),
        Some(parcel.id.to_string().as_str())
    );
    assert_eq!(
        seen.header("webhook-signature"),
        Some(expected(SECRET, seen).as_str())
    );
    let timestamp: i64 = seen.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((Timestamp::now().as_second() - timestamp).abs() < 60);
    assert_eq!(
        seen.json(),
        json!({
            "specversion": "1.0",
            "id": parcel.id,
            "source": "https://linkspan.example.com/v1/integrations/calls",
            "type": "linkspan.result.succeeded",
            "subject": parcel.job,
            "time": "2026-11-23T08:00:00Z",
            "datacontenttype": "application/json",
            "traceparent": parcel.traceparent,
            "data": parcel.content,
        })
    );
}

#[tokio::test]
async fn a_further_attempt_has_the_same_id_and_a_failed_result_its_own_type() {
    let receiver = Receiver::start(|_| answer(500, &[], "")).await;
    let item = format!(
        r#"{{ webhook = "{}", secret = "${{env:{SECRET}}}" }}"#,
        receiver.url("/")
    );
    let mut context = context();
    context.public_url = String::new();
    let channel = opened(&item, &context).unwrap();
    let mut failed = result();
    failed["status"] = json!("failed");
    let mut parcel = parcel(failed);
    parcel.content = json!({ "mapped": true });
    send(&channel, parcel.clone()).await;
    parcel.attempt = 2;
    send(&channel, parcel.clone()).await;
    let [first, second] = &receiver.seen()[..] else {
        panic!()
    };
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(first.body, second.body);
    let event = second.json();
    assert_eq!(event["type"], "linkspan.result.failed");
    assert_eq!(event["source"], "/v1/integrations/calls");
    assert_eq!(event["data"], json!({ "mapped": true }));
}

#[tokio::test]
async fn while_a_secret_is_rotated_both_sign_and_an_ed25519_key_signs_for_its_public_key() {
    let receiver = Receiver::start(|_| answer(200, &[], "")).await;
    let seed = [7; 32];
    let asymmetric = format!("whsk_{}", STANDARD.encode(seed));
    for (secret, previous) in [(SECRET, OLD), (SECRET, asymmetric.as_str())] {
        let item = format!(
            r#"{{ webhook = "{}", secret = "${{env:{secret}}}", previous_secret = "${{env:{previous}}}" }}"#,
            receiver.url("/")
        );
        let channel = opened(&item, &context()).unwrap();
        let verdict = send(&channel, parcel(result())).await;
        assert_eq!(verdict.kind, VerdictKind::Delivered);
    }
    let [two, both] = &receiver.seen()[..] else {
        panic!()
    };
    let signatures = format!("{} {}", expected(SECRET, two), expected(OLD, two));
    assert_eq!(two.header("webhook-signature"), Some(signatures.as_str()));

    let (first, second) = both
        .header("webhook-signature")
        .unwrap()
        .split_once(' ')
        .unwrap();
    assert_eq!(first, expected(SECRET, both));
    let signature = STANDARD
        .decode(second.strip_prefix("v1a,").unwrap())
        .unwrap();
    let mut signed = format!(
        "{}.{}.",
        both.header("webhook-id").unwrap(),
        both.header("webhook-timestamp").unwrap()
    )
    .into_bytes();
    signed.extend_from_slice(&both.body);
    let public = Ed25519KeyPair::from_seed_unchecked(&seed)
        .unwrap()
        .public_key()
        .as_ref()
        .to_vec();
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&signed, &signature)
        .unwrap();
}

#[tokio::test]
async fn an_event_over_the_limit_holds_a_link_in_place_of_its_data() {
    let receiver = Receiver::start(|_| answer(200, &[], "")).await;
    let item = format!(
        r#"{{ webhook = "{}", secret = "${{env:{SECRET}}}", max_size = "2 KiB", link_ttl = "1h" }}"#,
        receiver.url("/")
    );
    let context = context();
    let channel = opened(&item, &context).unwrap();
    let mut large = result();
    large["answers"]["mood"]["text"] = json!("x".repeat(2048));
    let parcel = parcel(large);
    let before = Timestamp::now();
    send(&channel, parcel.clone()).await;
    let event = receiver.seen()[0].json();
    assert!(event.get("data").is_none());
    let link = event["dataref"].as_str().unwrap();
    let (path, query) = link.split_once("?expires=").unwrap();
    assert_eq!(
        path,
        format!("https://linkspan.example.com/v1/jobs/{}/result", parcel.job)
    );
    let (expires, signature) = query.split_once("&signature=").unwrap();
    let expires: i64 = expires.parse().unwrap();
    assert!((expires - before.as_second() - 3600).abs() < 60);
    assert_eq!(
        context.links.check(parcel.job, expires, signature, before),
        Ok(())
    );
    // What `map` made is behind a link of its own, which ends with the result's retention.
    let mut mapped = parcel.clone();
    mapped.mapped = true;
    let kept = before + jiff::SignedDuration::from_mins(10);
    mapped.kept_until = Some(kept);
    send(&channel, mapped).await;
    let event = receiver.seen()[1].json();
    let link = event["dataref"].as_str().unwrap();
    let start = format!(
        "https://linkspan.example.com/v1/deliveries/{}/content?expires={}&signature=",
        parcel.id,
        kept.as_second()
    );
    let signature = link.strip_prefix(&start).expect(link);
    let checked = context
        .links
        .check(parcel.id, kept.as_second(), signature, before);
    assert_eq!(checked, Ok(()));
}

#[tokio::test]
async fn each_status_has_its_verdict() {
    let retry = |after| VerdictKind::Retry { after };
    let wait = |seconds| retry(Some(Duration::from_secs(seconds)));
    let rest = |seconds| VerdictKind::Rest {
        asked: Duration::from_secs(seconds),
    };
    let long = format!("{}\u{202e}{}", "no ".repeat(40), "never ".repeat(100));
    type Case<'a> = (u16, &'a [(&'a str, &'a str)], &'a str, VerdictKind, &'a str);
    let cases: &[Case<'_>] = &[
        (
            200,
            &[],
            "ok",
            VerdictKind::Delivered,
            "accepted with 200 OK at ",
        ),
        (
            202,
            &[],
            "",
            VerdictKind::Delivered,
            "accepted with 202 Accepted at ",
        ),
        (
            299,
            &[],
            "",
            VerdictKind::Delivered,
            "accepted with 299 at ",
        ),
        (
            301,
            &[(
                "location",
                "https://new.example.com/hooks/secret-path?token=open",
            )],
            "",
            retry(None),
            "answered 301 Moved Permanently; redirects are not followed: set the address to where it points to, at https://new.example.com",
        ),
        (
            307,
            &[("location", "/elsewhere")],
            "",
            retry(None),
            "another path of http://127.0.0.1:",
        ),
        (
            302,
            &[],
            "",
            retry(None),
            "set the address to where the receiver is now",
        ),
        (
            400,
            &[],
            "bad",
            retry(None),
            "answered 400 Bad Request: bad",
        ),
        (401, &[], "", retry(None), "answered 401 Unauthorized"),
        (404, &[], "", retry(None), "answered 404 Not Found"),
        (
            410,
            &[],
            "gone fishing",
            VerdictKind::Gone,
            "answered 410 Gone: gone fishing",
        ),
        (
            429,
            &[("retry-after", "120")],
            "",
            rest(120),
            "answered 429 Too Many Requests",
        ),
        (
            429,
            &[("retry-after", "9999999")],
            "",
            rest(86_400),
            "answered 429",
        ),
        (409, &[("retry-after", "7")], "", wait(7), "answered 409"),
        (
            500,
            &[],
            "\u{1b}[31mbroken\r\n\0line",
            retry(None),
            "answered 500 Internal Server Error: [31mbroken line",
        ),
        (
            503,
            &[("retry-after", "Fri, 31 Dec 2999 23:59:59 GMT")],
            "",
            retry(None),
            "",
        ),
        (
            503,
            &[("retry-after", "Tue, 31 Dec 2999 23:59:59 GMT")],
            "",
            rest(86_400),
            "answered 503",
        ),
        (
            503,
            &[("retry-after", "soon")],
            &long,
            retry(None),
            "answered 503 Service Unavailable: no no",
        ),
    ];
    let current = std::sync::Arc::new(Mutex::new((200, Vec::new(), String::new())));
    let script = current.clone();
    let receiver = Receiver::start(move |_| {
        let (status, headers, body): (u16, Vec<(String, String)>, String) =
            script.lock().unwrap().clone();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        answer(status, &headers, body)
    })
    .await;
    let item = format!(
        r#"{{ webhook = "{}", secret = "${{env:{SECRET}}}" }}"#,
        receiver.url("/hooks")
    );
    let channel = opened(&item, &context()).unwrap();
    for (status, headers, body, kind, detail) in cases {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        *current.lock().unwrap() = (*status, headers.collect(), (*body).to_owned());
        let verdict = send(&channel, parcel(result())).await;
        assert_eq!(
            (verdict.kind, verdict.status),
            (*kind, Some(*status)),
            "{}",
            verdict.detail
        );
        assert!(verdict.detail.contains(detail), "{}", verdict.detail);
        assert!(verdict.detail.chars().count() <= 260, "{}", verdict.detail);
        assert!(
            !verdict.detail.contains(['\u{1b}', '\0', '\n', '\u{202e}']),
            "{:?}",
            verdict.detail
        );
        assert!(!verdict.detail.contains("secret-path") && !verdict.detail.contains("token"));
    }
    assert_eq!(receiver.seen().len(), cases.len());
}

#[tokio::test]
async fn an_address_that_must_not_be_called_is_a_dead_letter_and_nobody_there_is_tried_again() {
    let item =
        |address: &str| format!(r#"{{ webhook = "{address}", secret = "${{env:{SECRET}}}" }}"#);
    let verdict = async |address: &str| -> Verdict {
        send(
            &opened(&item(address), &context()).unwrap(),
            parcel(result()),
        )
        .await
    };
    let faults = opened(&item("http://10.20.30.40/hooks/hidden-part"), &context()).unwrap_err();
    let expected = "webhook: 10.20.30.40 is an address of a private network, which is not called; where that is meant, add \
                    \"10.20.30.40/32\" to outbound.private_networks";
    assert_eq!(faults, [expected]);
    // A name is judged when it is called.
    let name = context().outbound.resolve("10.20.30.40", 80).await;
    let dead = crate::channels::reply::unanswered(&name.unwrap_err());
    assert_eq!((dead.kind, dead.status), (VerdictKind::Dead, None));
    assert!(
        dead.detail.contains("outbound.private_networks"),
        "{}",
        dead.detail
    );
    let nobody = verdict("http://127.0.0.1:1/hooks/hidden-part").await;
    assert_eq!(nobody.kind, VerdictKind::Retry { after: None });
    assert!(
        nobody.detail.contains("connection refused"),
        "{}",
        nobody.detail
    );
    assert!(!format!("{dead:?}{nobody:?}").contains("hidden-part"));
}

#[tokio::test]
async fn what_is_secret_is_shown_nowhere_even_where_the_receiver_says_it_back() {
    let receiver = Receiver::start(|seen| {
        let told = format!(
            "no {} here: {SECRET} https:\\/\\/x\\/services\\/T0123456 {:?}",
            seen.uri, seen.headers
        );
        answer(404, &[], told)
    })
    .await;
    let item = format!(
        r#"{{ webhook = "{}", secret = "${{env:{SECRET}}}", previous_secret = "${{env:{OLD}}}", headers = {{ authorization = "Bearer open-sesame-1" }} }}"#,
        receiver.url("/services/T0123456/XYZZYPLUGH?key=tiger-lily")
    );
    let channel = opened(&item, &context()).unwrap();
    let verdict = send(&channel, parcel(result())).await;
    assert_eq!(
        receiver.seen()[0].header("authorization"),
        Some("Bearer open-sesame-1")
    );
    let shown = format!("{verdict:?} {channel:?} {}", channel.receiver());
    assert!(
        shown.contains("answered 404 Not Found: no … here"),
        "{shown}"
    );
    for secret in [
        &SECRET[6..],
        &OLD[6..],
        "open-sesame-1",
        "T0123456",
        "XYZZYPLUGH",
        "tiger-lily",
        "services",
    ] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn every_fault_of_an_item_is_told_at_once_by_its_key_and_without_a_secret() {
    let item = r#"{ webhook = "https://crm.example.com/hooks", secret = "${env:hunter2}", previous_secret = "${env:whsec_c2hvcnQ=}", headers = { webhook-id = "1", host = "x", x-fine = "y" } }"#;
    let faults = opened(item, &context()).unwrap_err();
    let starts = [
        "secret: must begin with",
        "previous_secret: holds 5 bytes",
        "headers.webhook-id: is set",
        "headers.host: is set",
    ];
    assert_eq!(faults.len(), starts.len(), "{faults:?}");
    for (fault, start) in faults.iter().zip(starts) {
        assert!(fault.starts_with(start), "{fault}");
        assert!(
            !fault.contains("hunter2") && !fault.contains("c2hvcnQ"),
            "{fault}"
        );
    }
}
