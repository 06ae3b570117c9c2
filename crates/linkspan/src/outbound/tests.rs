//! Calls over real sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::testing::{Receiver, answer, settings, to_loopback};
use super::*;

const LONG: Duration = Duration::from_secs(20);

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

async fn fails(outbound: &Outbound, url: &str) -> CallError {
    outbound
        .call(get(url), LONG)
        .await
        .map(|answer| answer.status)
        .unwrap_err()
}

fn closed() -> Outbound {
    Outbound::new(&settings(&[]), Path::new(".")).unwrap()
}

/// Certificate and key of a server at 127.0.0.1, and the PEM of their authority.
fn certificate() -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(cert.der().to_vec())],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

#[tokio::test]
async fn a_call_brings_back_the_answer_and_names_who_calls() {
    let receiver =
        Receiver::start(|seen| answer(201, &[("x-echo", "yes")], seen.body.clone())).await;
    let request = Request::post(receiver.url("/hooks?a=1"))
        .body(Bytes::from_static(b"hello"))
        .unwrap();
    let came = to_loopback().call(request, LONG).await.unwrap();
    assert_eq!(came.status, StatusCode::CREATED);
    assert_eq!(came.headers["x-echo"], "yes");
    assert_eq!((&came.body[..], came.truncated), (&b"hello"[..], false));
    let seen = &receiver.seen()[0];
    assert_eq!(seen.uri, "/hooks?a=1");
    assert_eq!(
        seen.header("host"),
        Some(receiver.address.to_string().as_str())
    );
    assert!(seen.header("user-agent").unwrap().starts_with("linkspan/"));
}

#[tokio::test]
async fn this_machine_is_refused_in_every_spelling_and_never_connected_to() {
    let receiver = Receiver::start(|_| answer(200, &[], "")).await;
    let port = receiver.address.port();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "0",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
    ] {
        let error = fails(
            &closed(),
            &format!("http://{host}:{port}/secret?token=open"),
        )
        .await;
        assert_eq!(error.kind, CallErrorKind::Forbidden, "{host}: {error}");
        assert!(!error.may_pass(), "{host}");
        let shown = error.to_string();
        assert!(shown.contains("outbound.private_networks"), "{shown}");
        assert!(
            !shown.contains("secret") && !shown.contains("open"),
            "{shown}"
        );
    }
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn a_name_leads_only_to_the_addresses_of_its_that_are_allowed() {
    let receiver = Receiver::start(|_| answer(204, &[], "")).await;
    let port = receiver.address.port();
    // localhost may be ::1 first; only 127.0.0.1 is allowed, and it is reached.
    let came = to_loopback()
        .call(get(&format!("http://localhost:{port}/")), LONG)
        .await;
    assert_eq!(came.unwrap().status, StatusCode::NO_CONTENT);
    let resolved = to_loopback().resolve("localhost", 25).await.unwrap();
    assert_eq!(resolved, ["127.0.0.1:25".parse().unwrap()]);
    let refused = closed().resolve("0x7f.1", 25).await.unwrap_err();
    assert_eq!(refused.kind, CallErrorKind::Forbidden);
}

#[tokio::test]
async fn a_metadata_service_stays_refused_inside_an_allowed_network() {
    let outbound = Outbound::new(&settings(&["169.254.0.0/16"]), Path::new(".")).unwrap();
    let error = fails(&outbound, "http://169.254.169.254/latest/meta-data/").await;
    assert_eq!(error.kind, CallErrorKind::Forbidden);
    assert!(error.to_string().contains("169.254.169.254/32"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let receiver = Receiver::start(|seen| match seen.uri.path() {
        "/" => answer(307, &[("location", "/elsewhere")], ""),
        _ => answer(200, &[], ""),
    })
    .await;
    let came = to_loopback()
        .call(get(&receiver.url("/")), LONG)
        .await
        .unwrap();
    assert_eq!(came.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_past_the_limit_is_cut_there() {
    let receiver = Receiver::start(|_| answer(200, &[], vec![b'x'; 64 * 1024 + 1])).await;
    let came = to_loopback()
        .call(get(&receiver.url("/")), LONG)
        .await
        .unwrap();
    assert_eq!((came.body.len(), came.truncated), (64 * 1024, true));
    let receiver = Receiver::start(|_| answer(200, &[], vec![b'x'; 64 * 1024])).await;
    let came = to_loopback()
        .call(get(&receiver.url("/")), LONG)
        .await
        .unwrap();
    assert_eq!((came.body.len(), came.truncated), (64 * 1024, false));
}

/// Takes one connection, reads a request's head, sends this and keeps the connection.
async fn raw(reply: Vec<u8>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(socket.read(&mut head).await.unwrap() > 0);
        drop(socket.write_all(&reply).await);
        // Until the other side closes.
        while matches!(socket.read(&mut head).await, Ok(more) if more > 0) {}
    });
    url
}

#[tokio::test]
async fn a_receiver_that_never_ends_its_answer_costs_no_more_than_the_time_out() {
    let short = Duration::from_millis(200);
    let stuck = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".to_vec()).await;
    let silent = Receiver::silent().await;
    for url in [stuck, silent.url("/")] {
        let error = to_loopback().call(get(&url), short).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Timeout);
        assert!(
            error.may_pass() && error.to_string().contains("200ms"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn headers_past_the_limit_and_what_is_not_http_break_the_call_off() {
    let mut endless = b"HTTP/1.1 200 OK\r\nx-long: ".to_vec();
    endless.resize(1024 * 1024, b'x');
    for reply in [endless, b"220 mail.example.com ESMTP\r\n".to_vec()] {
        let error = fails(&to_loopback(), &raw(reply).await).await;
        assert_eq!(error.kind, CallErrorKind::Broken, "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_by_its_kind() {
    let free = TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = fails(&to_loopback(), &format!("http://{free}/")).await;
    assert_eq!(error.kind, CallErrorKind::Connect);
    assert!(error.to_string().contains("connection refused"), "{error}");
    // RFC 6761: no name below .invalid exists.
    let error = fails(&to_loopback(), "http://nobody.invalid/").await;
    assert_eq!(error.kind, CallErrorKind::Resolve, "{error}");
    for url in ["ftp://example.com/", "http://user:open@example.com/"] {
        let error = fails(&to_loopback(), url).await;
        assert_eq!(error.kind, CallErrorKind::BadRequest);
        assert!(!error.to_string().contains("open"), "{error}");
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_where_it_is_named() {
    let (tls, authority) = certificate();
    let receiver = Receiver::start_tls(tls, |_| answer(200, &[], "")).await;
    let url = format!("https://{}/", receiver.address);
    let error = fails(&to_loopback(), &url).await;
    assert_eq!(error.kind, CallErrorKind::Tls);
    assert!(error.to_string().contains("outbound.ca"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority).unwrap();
    let mut trusting = settings(&["127.0.0.0/8"]);
    trusting.ca = Some("ca.pem".into());
    let outbound = Outbound::new(&trusting, folder.path()).unwrap();
    assert_eq!(
        outbound.call(get(&url), LONG).await.unwrap().status,
        StatusCode::OK
    );
    assert_eq!(receiver.seen()[0].version, Version::HTTP_2);
    let other_name = url.replace("127.0.0.1", "localhost");
    let error = fails(&outbound, &other_name).await;
    assert!(error.to_string().contains("another name"), "{error}");

    std::fs::write(folder.path().join("ca.pem"), "nothing").unwrap();
    let error = Outbound::new(&trusting, folder.path()).unwrap_err();
    assert!(crate::logging::chain(&error).contains("ca.pem"), "{error}");
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_ignored() {
    const PROXY: &str = "http://127.0.0.1:1";
    if std::env::var("HTTP_PROXY").as_deref() != Ok(PROXY) {
        // The environment is the process's, so the test runs itself again in one that has a proxy.
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args([
            "--exact",
            "outbound::tests::a_proxy_of_the_environment_is_ignored",
        ]);
        for name in [
            "HTTP_PROXY",
            "http_proxy",
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            again.env(name, PROXY);
        }
        let output = again
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && told.contains("1 passed"),
            "{told}"
        );
        return;
    }
    let receiver = Receiver::start(|_| answer(200, &[], "")).await;
    to_loopback()
        .call(get(&receiver.url("/")), LONG)
        .await
        .unwrap();
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn connections_are_kept_for_the_next_call() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let outbound = to_loopback();
    let calls = tokio::spawn(async move {
        for _ in 0..3 {
            outbound.clone().call(get(&url), LONG).await.unwrap();
        }
    });
    // One connection is taken, and all three calls are answered on it.
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut head = [0; 4096];
    for _ in 0..3 {
        assert!(socket.read(&mut head).await.unwrap() > 0);
        socket
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
    }
    calls.await.unwrap();
}
