//! TLS: an HTTPS request answered, a certificate renewed without a restart, and clients that must show their own.

use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use linkspan_testkit::{Gateway, Setup};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const TOML: &str = r#"
[service.mood]
task = "sentiment"
[integration.feedback]
pattern = "sync"
steps = ["mood"]
"#;

/// One that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Pair {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, usage: ExtendedKeyUsagePurpose) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Pair { cert, key }
    }
}

impl Pair {
    fn write(&self, folder: &Path) {
        std::fs::write(folder.join("cert.pem"), self.cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), self.key.serialize_pem()).unwrap();
    }
}

/// A configured gateway with a certificate of this authority, and further keys of `tls`.
fn setup(authority: &Authority, more: &str) -> Setup {
    let toml =
        format!("[server]\ntls = {{ cert = \"cert.pem\", key = \"key.pem\"{more} }}\n{TOML}");
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &toml);
    authority
        .sign(ExtendedKeyUsagePurpose::ServerAuth)
        .write(setup.folder());
    setup
}

/// A client that trusts this authority and shows a certificate, or none.
fn client(trusted: &Authority, own: Option<&Pair>, protocol: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.key.serialize_der()));
            builder
                .with_client_auth_cert(vec![pair.cert.der().clone()], key)
                .unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn connect(
    gateway: &Gateway,
    client: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let address = gateway
        .url
        .strip_prefix("https://")
        .expect("the gateway speaks TLS");
    let stream = TcpStream::connect(address).await?;
    client
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

/// The status and the body of `GET /v1/jobs` over TLS. In TLS 1.3 a client learns only here that its certificate was refused.
async fn get(
    gateway: &Gateway,
    client: &TlsConnector,
    key: &str,
) -> Result<(u16, String), Box<dyn std::error::Error>> {
    let stream = connect(gateway, client).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/v1/jobs")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {key}"));
    let response = sender
        .send_request(request.body(Empty::<bytes::Bytes>::new())?)
        .await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, String::from_utf8(body.to_vec())?))
}

/// The certificate that the gateway shows.
async fn shown(gateway: &Gateway, client: &TlsConnector) -> Option<CertificateDer<'static>> {
    let stream = connect(gateway, client).await.ok()?;
    stream
        .get_ref()
        .1
        .peer_certificates()?
        .first()
        .map(|cert| cert.clone().into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_over_tls_and_only_over_tls() {
    let authority = Authority::new();
    let setup = setup(&authority, "");
    let key = setup.key("crm", &["read"]);
    let gateway = setup.serve();
    let (status, body) = get(&gateway, &client(&authority, None, "http/1.1"), &key)
        .await
        .unwrap();
    assert_eq!((status, body.as_str()), (200, "{\"jobs\":[]}"));
    let http2 = connect(&gateway, &client(&authority, None, "h2"))
        .await
        .unwrap();
    assert_eq!(
        http2.get_ref().1.alpn_protocol(),
        Some(&b"h2"[..]),
        "HTTP/2 is spoken where the client can"
    );
    let stranger = connect(&gateway, &client(&Authority::new(), None, "h2")).await;
    assert!(
        stranger.is_err(),
        "a client that does not know the authority goes away"
    );
    let plain = gateway.url.replace("https://", "http://");
    let plain = linkspan_testkit::Client::new(&plain, &key);
    let plain =
        linkspan_testkit::Answer::try_of(plain.request(reqwest::Method::GET, "/v1/jobs")).await;
    assert!(plain.is_err(), "{plain:?}");
    assert_eq!(gateway.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let authority = Authority::new();
    let setup = setup(&authority, ", reload_interval = \"1s\"");
    let gateway = setup.serve();
    let client = client(&authority, None, "http/1.1");
    let first = shown(&gateway, &client).await.expect("a certificate");
    let open = connect(&gateway, &client).await.unwrap();

    let pem = std::fs::read(setup.folder().join("cert.pem")).unwrap();
    std::fs::write(setup.folder().join("cert.pem"), &pem[..pem.len() / 2]).unwrap();
    crate::scripted::until(|| gateway.log().contains("the new certificate cannot be used")).await;
    assert_eq!(
        shown(&gateway, &client).await,
        Some(first.clone()),
        "the old one stays"
    );

    let renewed = authority.sign(ExtendedKeyUsagePurpose::ServerAuth);
    renewed.write(setup.folder());
    crate::scripted::until(|| gateway.log().contains("certificate reloaded")).await;
    let now = shown(&gateway, &client).await.expect("a certificate");
    assert_ne!(now, first);
    assert_eq!(&now, renewed.cert.der());
    assert!(!gateway.log().contains("PRIVATE KEY"));
    drop(open);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_authority_only_clients_that_it_signed_come_in() {
    let (servers, clients) = (Authority::new(), Authority::new());
    let setup = setup(&servers, ", client_ca = \"clients.pem\"");
    std::fs::write(setup.folder().join("clients.pem"), clients.0.pem()).unwrap();
    let key = setup.key("crm", &["read"]);
    let gateway = setup.serve();
    let signed = clients.sign(ExtendedKeyUsagePurpose::ClientAuth);
    let foreign = Authority::new().sign(ExtendedKeyUsagePurpose::ClientAuth);
    let server_only = clients.sign(ExtendedKeyUsagePurpose::ServerAuth);
    let known = client(&servers, Some(&signed), "http/1.1");
    assert_eq!(get(&gateway, &known, &key).await.unwrap().0, 200);
    assert_eq!(
        get(&gateway, &known, "lsk_no_key").await.unwrap().0,
        401,
        "the key is asked for all the same"
    );
    for own in [None, Some(&foreign), Some(&server_only)] {
        let refused = get(&gateway, &client(&servers, own, "http/1.1"), &key).await;
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn a_pair_that_does_not_fit_together_is_refused_before_the_start() {
    let authority = Authority::new();
    let setup = setup(&authority, "");
    let other = authority.sign(ExtendedKeyUsagePurpose::ServerAuth);
    std::fs::write(setup.folder().join("key.pem"), other.key.serialize_pem()).unwrap();
    let check = setup.command(&["check"]).output().unwrap();
    let said = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(2), "{said}");
    assert!(said.contains("cert.pem"), "{said}");
    let serve = setup
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!serve.status.success());
    assert!(
        String::from_utf8(serve.stderr)
            .unwrap()
            .contains("cert.pem")
    );
}
