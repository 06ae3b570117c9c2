//! Calls to others: the one way by which the gateway reaches an address that a configuration, a name server or somebody's answer gave it.
//!
//! Every address is judged after its name was resolved and right before the connection is made ([`guard`]), so that no name leads into
//! the operator's own network. Redirects are not followed: they are answers. No proxy of the environment is used. What comes back is
//! bounded in size and time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::USER_AGENT;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use linkspan_model::config;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use self::connect::Connector;
use self::guard::Guard;

pub use self::error::{CallError, CallErrorKind, OutboundError};
pub use self::guard::Refused;

mod connect;
mod error;
mod guard;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("linkspan/", env!("CARGO_PKG_VERSION")));
/// How much of an answer's headers is read.
const HEADERS: usize = 64 * 1024;
/// How many connections to one receiver are kept for the next call, and how long.
const IDLE: (usize, Duration) = (16, Duration::from_secs(30));

/// The way out. Clones share their connections.
#[derive(Clone)]
pub struct Outbound {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
    max_answer: usize,
}

/// What a receiver answered, whatever its status.
#[derive(Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or the first `outbound.max_answer` bytes of it.
    pub body: Bytes,
    /// Whether there was more.
    pub truncated: bool,
}

impl Outbound {
    /// Sets up the way out; `folder` is what the configuration's paths are relative to. Calls nobody.
    ///
    /// # Errors
    ///
    /// When the certificates of `outbound.ca` cannot be read or used.
    pub fn new(settings: &config::Outbound, folder: &Path) -> Result<Self, OutboundError> {
        let ca = settings.ca.as_ref().map(|path| folder.join(path));
        let connector = Connector::new(
            Guard::new(&settings.private_networks),
            tls(ca.as_deref())?,
            settings.connect_timeout,
        );
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE.0)
            .pool_idle_timeout(IDLE.1)
            .http1_max_buf_size(HEADERS)
            .http2_max_header_list_size(HEADERS as u32)
            .build(connector.clone());
        Ok(Self {
            client,
            connector,
            max_answer: usize::try_from(settings.max_answer.bytes()).unwrap_or(usize::MAX),
        })
    }

    /// Sends one request and reads its answer, all within `timeout`. The request's address is absolute, `http` or `https`, without a
    /// user. Any status is an answer; a redirect too. Dropping the future breaks the call off. A failed call is logged, by its host.
    ///
    /// # Errors
    ///
    /// There is no answer. [`CallError::may_pass`] says whether another try makes sense; the kind says whether the receiver may have
    /// the request all the same.
    pub async fn call(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let host = connect::shown(request.uri());
        let answer = tokio::time::timeout(timeout, self.exchange(request, &host))
            .await
            .unwrap_or_else(|_| Err(CallError::no_answer_within(&host, timeout)));
        if let Err(error) = &answer {
            tracing::warn!(
                host = error.host,
                kind = error.kind.name(),
                error = error as &dyn std::error::Error,
                "an outbound call failed"
            );
        }
        answer
    }

    /// Judges a host that is an address, or this machine's own name, without a look at any name server: for faults that a
    /// configuration shows. Other names pass; they are judged when they are called.
    ///
    /// # Errors
    ///
    /// A sentence: what it is, and how it is allowed.
    pub fn check_host(&self, host: &str) -> Result<(), String> {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let addresses = match name.parse::<IpAddr>() {
            Ok(address) => vec![address],
            // RFC 6761 section 6.3.
            Err(_) if name == "localhost" || name.ends_with(".localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Err(_) => return Ok(()),
        };
        let judge = |address| self.connector.judge(address);
        if addresses.iter().any(|address| judge(*address).is_ok()) {
            return Ok(());
        }
        let refused = addresses.iter().find_map(|address| {
            let refused = judge(*address).err()?;
            let network = IpNet::from(address.to_canonical());
            Some(format!(
                "{host} is {refused}, which is not called; where that is meant, add \"{network}\" to outbound.private_networks"
            ))
        });
        refused.map_or(Ok(()), Err)
    }

    /// The addresses of a host that may be called, judged. For protocols other than HTTP: connect to these and resolve nothing again.
    ///
    /// # Errors
    ///
    /// `Resolve`, `Forbidden`, or `Timeout` past `outbound.connect_timeout`.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, CallError> {
        let shown = format!("{host}:{port}");
        self.connector.resolve_in_time(host, port, &shown).await
    }

    /// A connection to a host, at an address that may be called. For protocols other than HTTP.
    ///
    /// # Errors
    ///
    /// `Resolve`, `Forbidden`, `Connect`, or `Timeout` past `outbound.connect_timeout`.
    pub async fn stream(&self, host: &str, port: u16) -> Result<TcpStream, CallError> {
        let shown = format!("{host}:{port}");
        self.connector.socket_in_time(host, port, &shown).await
    }

    /// TLS over such a connection, with a certificate that is the host's and of a trusted authority.
    ///
    /// # Errors
    ///
    /// `Tls`, or `Timeout` past `outbound.connect_timeout`.
    pub async fn encrypt(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, CallError> {
        self.connector.encrypt_in_time(host, stream).await
    }

    async fn exchange(&self, mut request: Request<Bytes>, host: &str) -> Result<Answer, CallError> {
        let uri = request.uri();
        if ![Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme()) {
            return Err(CallError::bad_request(
                host,
                "the address is neither http nor https",
            ));
        }
        if uri.authority().is_none_or(|it| it.as_str().contains('@')) {
            return Err(CallError::bad_request(
                host,
                "the address has no host, or a user before it",
            ));
        }
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        let response = self
            .client
            .request(request.map(Full::new))
            .await
            .map_err(|error| why(error, host))?;
        let (head, body) = response.into_parts();
        let (body, truncated) = read(body, self.max_answer)
            .await
            .map_err(|error| CallError::broken(host, error))?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            truncated,
        })
    }
}

/// The client's error as ours: the connector's own, where it made it.
fn why(error: hyper_util::client::legacy::Error, host: &str) -> CallError {
    let ours =
        std::error::Error::source(&error).and_then(|source| source.downcast_ref::<CallError>());
    match ours {
        Some(ours) => ours.clone(),
        None => CallError::broken(host, error),
    }
}

/// Reads up to `most` bytes. Dropping the rest closes an HTTP/1 connection.
async fn read(mut body: Incoming, most: usize) -> Result<(Bytes, bool), hyper::Error> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let room = most - whole.len();
        if data.len() > room {
            whole.extend_from_slice(&data[..room]);
            return Ok((whole.freeze(), true));
        }
        whole.extend_from_slice(&data);
    }
    Ok((whole.freeze(), false))
}

/// TLS that trusts the system's authorities and those of a file.
fn tls(ca: Option<&Path>) -> Result<Arc<ClientConfig>, OutboundError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    if system.certs.is_empty() {
        let error = system
            .errors
            .first()
            .map(|error| error as &dyn std::error::Error);
        tracing::warn!(
            error,
            "this machine has no trusted authorities; only those of outbound.ca are trusted"
        );
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        crate::tls::add_authorities(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never headers or body: a token's answer is a secret.
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
