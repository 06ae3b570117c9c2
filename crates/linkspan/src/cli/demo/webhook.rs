//! The demo's webhook receiver: what a receiver does with a Standard Webhooks event, from the specification alone. It shares no code
//! with the sender, so that one fault cannot be in both.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use jiff::Timestamp;
use ring::hmac;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The largest event that it takes.
const LARGEST: usize = 16 * 1024 * 1024;
/// How old an event may be, or how far ahead: the specification's word against replays.
const TOLERANCE: i64 = 5 * 60;

/// An event that came.
#[derive(Debug)]
pub(super) struct Received {
    /// `webhook-id`.
    pub(super) id: String,
    /// The CloudEvent's type.
    pub(super) kind: String,
    /// Its body's length in bytes.
    pub(super) bytes: usize,
    /// Whether the signature is of our secret and of now, or why not.
    pub(super) signature: Result<(), &'static str>,
}

/// Listens on a free port of 127.0.0.1 until the returned receiver is dropped. `secret` is `whsec_…`; an event with a wrong signature
/// is answered 401.
pub(super) async fn start(secret: &str) -> io::Result<(SocketAddr, UnboundedReceiver<Received>)> {
    let bytes = secret.strip_prefix("whsec_").unwrap_or(secret);
    let bytes = STANDARD.decode(bytes).map_err(io::Error::other)?;
    let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let (key, sender) = (key.clone(), sender.clone());
            let service = service_fn(move |request| {
                let (key, sender) = (key.clone(), sender.clone());
                async move { Ok::<_, Infallible>(receive(request, &key, &sender).await) }
            });
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok((address, receiver))
}

async fn receive(
    request: Request<Incoming>,
    key: &hmac::Key,
    sender: &UnboundedSender<Received>,
) -> Response<Empty<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let body = body.to_bytes();
    let signature = check(&head.headers, &body, key, Timestamp::now());
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let _ = sender.send(Received {
        id: header(&head.headers, "webhook-id").to_owned(),
        kind: event["type"].as_str().unwrap_or("no CloudEvent").to_owned(),
        bytes: body.len(),
        signature,
    });
    status(match signature {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::UNAUTHORIZED,
    })
}

/// Standard Webhooks 1.0: `webhook-signature` holds `v1,BASE64` of HMAC-SHA256 over `id.timestamp.body`, once for each secret.
fn check(
    headers: &HeaderMap,
    body: &[u8],
    key: &hmac::Key,
    now: Timestamp,
) -> Result<(), &'static str> {
    let (id, time) = (
        header(headers, "webhook-id"),
        header(headers, "webhook-timestamp"),
    );
    let sent: i64 = time.parse().map_err(|_| "no webhook-timestamp")?;
    if id.is_empty() {
        return Err("no webhook-id");
    }
    if now.as_second().abs_diff(sent) > TOLERANCE.unsigned_abs() {
        return Err("the timestamp is not of now");
    }
    let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
    let ours = header(headers, "webhook-signature")
        .split(' ')
        .filter_map(|one| one.strip_prefix("v1,"))
        .filter_map(|one| STANDARD.decode(one).ok())
        .any(|one| hmac::verify(key, &signed, &one).is_ok());
    if ours {
        Ok(())
    } else {
        Err("no signature fits")
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

fn status(code: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::testing::to_loopback;

    /// The specification's own example.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_specifications_example_is_valid_and_nothing_else_is() {
        let key = hmac::Key::new(
            hmac::HMAC_SHA256,
            &STANDARD
                .decode(SECRET.strip_prefix("whsec_").unwrap())
                .unwrap(),
        );
        let other = format!("v1a,xyz {SIGNATURE}");
        for (id, signature, body, late, valid) in [
            (ID, SIGNATURE, BODY, 0, true),
            (ID, other.as_str(), BODY, 299, true),
            (ID, SIGNATURE, BODY, 301, false),
            (ID, SIGNATURE, BODY, -301, false),
            ("msg_other", SIGNATURE, BODY, 0, false),
            (ID, SIGNATURE, b"{}", 0, false),
            (ID, "", BODY, 0, false),
            ("", SIGNATURE, BODY, 0, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("webhook-id", id.parse().unwrap());
            headers.insert("webhook-timestamp", TIME.into());
            headers.insert("webhook-signature", signature.parse().unwrap());
            let now = Timestamp::from_second(TIME + late).unwrap();
            let checked = check(&headers, body, &key, now);
            assert_eq!(
                checked.is_ok(),
                valid,
                "{id} {signature} {late}: {checked:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_forged_event_is_told_of_and_refused() {
        let (address, mut came) = start(SECRET).await.unwrap();
        let request = Request::post(format!("http://{address}/hook"))
            .header("webhook-id", "x")
            .body(Bytes::from_static(br#"{"type": "a.b"}"#))
            .unwrap();
        let patience = std::time::Duration::from_secs(10);
        let answer = to_loopback().call(request, patience).await.unwrap();
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let received = came.recv().await.unwrap();
        assert_eq!(
            (received.id.as_str(), received.kind.as_str(), received.bytes),
            ("x", "a.b", 15)
        );
        assert!(received.signature.is_err());
    }
}
