//! Connections to checked addresses: the name is resolved, every address judged, and the socket connects to exactly the address that
//! was judged. There is no second resolution that could answer otherwise.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::CallError;
use super::guard::{Guard, Refused};

/// How many addresses of one name are tried.
const MOST_ADDRESSES: usize = 8;

/// Makes connections for the HTTP client.
#[derive(Clone)]
pub(super) struct Connector {
    guard: Arc<Guard>,
    tls: TlsConnector,
    limit: Duration,
}

/// A connection, encrypted or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connector {
    pub(super) fn new(guard: Guard, tls: Arc<rustls::ClientConfig>, limit: Duration) -> Self {
        Self {
            guard: Arc::new(guard),
            tls: TlsConnector::from(tls),
            limit,
        }
    }

    /// Whether an address may be called.
    pub(super) fn judge(&self, address: IpAddr) -> Result<IpAddr, Refused> {
        self.guard.judge(address)
    }

    /// The addresses of a host that may be called, in the system's order. `shown` is the host as errors name it.
    async fn resolve(
        &self,
        host: &str,
        port: u16,
        shown: &str,
    ) -> Result<Vec<SocketAddr>, CallError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| CallError::resolve(shown, Some(error)))?;
        let mut checked = Vec::new();
        let mut refused = None;
        for address in found {
            match self.guard.judge(address.ip()) {
                Ok(ip) => checked.push(same_scope(address, ip)),
                Err(why) => {
                    refused.get_or_insert((address.ip(), why));
                }
            }
        }
        checked.truncate(MOST_ADDRESSES);
        match refused {
            _ if !checked.is_empty() => Ok(checked),
            Some((address, why)) => Err(CallError::forbidden(shown, address, why)),
            None => Err(CallError::resolve(shown, None)),
        }
    }

    /// [`Connector::resolve`], within the time that a connection may take.
    pub(super) async fn resolve_in_time(
        &self,
        host: &str,
        port: u16,
        shown: &str,
    ) -> Result<Vec<SocketAddr>, CallError> {
        tokio::time::timeout(self.limit, self.resolve(host, port, shown))
            .await
            .unwrap_or_else(|_| Err(CallError::no_connection_within(shown, self.limit)))
    }

    async fn connect(self, target: Uri) -> Result<TokioIo<Stream>, CallError> {
        let shown = shown(&target);
        let limit = self.limit;
        tokio::time::timeout(limit, self.open(&target, &shown))
            .await
            .unwrap_or_else(|_| Err(CallError::no_connection_within(&shown, limit)))
            .map(TokioIo::new)
    }

    async fn open(&self, target: &Uri, shown: &str) -> Result<Stream, CallError> {
        let host = target
            .host()
            .ok_or_else(|| CallError::bad_request(shown, "the address has no host"))?;
        let https = target.scheme_str() == Some("https");
        let port = target.port_u16().unwrap_or(if https { 443 } else { 80 });
        let socket = self.socket(host, port, shown).await?;
        if !https {
            return Ok(Stream::Plain(socket));
        }
        self.tls
            .connect(certified(host, shown)?, socket)
            .await
            .map(|stream| Stream::Tls(Box::new(stream)))
            .map_err(|error| CallError::tls(shown, error))
    }

    /// A connection to a judged address, for protocols other than HTTP.
    pub(super) async fn socket_in_time(
        &self,
        host: &str,
        port: u16,
        shown: &str,
    ) -> Result<TcpStream, CallError> {
        tokio::time::timeout(self.limit, self.socket(host, port, shown))
            .await
            .unwrap_or_else(|_| Err(CallError::no_connection_within(shown, self.limit)))
    }

    /// TLS over such a connection, without a word on the protocol inside (ALPN).
    pub(super) async fn encrypt_in_time(
        &self,
        host: &str,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, CallError> {
        let name = certified(host, host)?;
        let handshake = self.tls.with_alpn(Vec::new()).connect(name, socket);
        match tokio::time::timeout(self.limit, handshake).await {
            Ok(done) => done.map_err(|error| CallError::tls(host, error)),
            Err(_) => Err(CallError::no_connection_within(host, self.limit)),
        }
    }

    async fn socket(&self, host: &str, port: u16, shown: &str) -> Result<TcpStream, CallError> {
        let end = Instant::now() + self.limit;
        let addresses = self.resolve(host, port, shown).await?;
        first_that_takes(&addresses, end)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => CallError::no_connection_within(shown, self.limit),
                _ => CallError::connect(shown, error),
            })
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, CallError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().connect(target))
    }
}

/// Host and port as the address has them, for people.
pub(super) fn shown(target: &Uri) -> String {
    match (target.host(), target.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "a host without a name".to_owned(),
    }
}

/// The name that the host's certificate must be for.
fn certified(host: &str, shown: &str) -> Result<ServerName<'static>, CallError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned())
        .map_err(|_| CallError::bad_request(shown, "the host's name cannot be in a certificate"))
}

/// Tries the addresses in turn. Each has an equal part of the time that is left, so that a dead one leaves time for the next.
async fn first_that_takes(addresses: &[SocketAddr], end: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let part = end.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        match tokio::time::timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

/// The judged address with the port, and for IPv6 the interface, that the resolver gave.
fn same_scope(found: SocketAddr, judged: IpAddr) -> SocketAddr {
    let mut address = found;
    address.set_ip(judged);
    address
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
