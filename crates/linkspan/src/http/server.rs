//! The accept loop: TLS or plain, bounded connections, time limits on headers, and a drain at the end.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::linger::Lingering;

/// What an HTTP/2 connection opens with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The limits of the accept loop.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Most open connections; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Most bytes of a request's headers.
    pub max_header_bytes: usize,
    /// How long a client may take to send its headers, or its TLS handshake.
    pub header_timeout: Duration,
    /// How long open requests may take once the gateway is stopping.
    pub drain_timeout: Duration,
}

/// The address of the client, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// Serves until `stop`, then lets open requests end within the drain time.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.max_header_bytes.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30));

    loop {
        let accepted = stop.run_until_cancelled(async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        });
        let (slot, stream, remote) = match accepted.await {
            None => break,
            Some((Ok(slot), Ok((stream, remote)))) => (slot, stream, remote),
            Some((_, Err(error))) => {
                // Out of file descriptors, mostly: give the others time to end rather than spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Some((Err(_), _)) => break,
        };
        let _ = stream.set_nodelay(true);
        let (builder, router, tls, watcher, stop) = (
            builder.clone(),
            router.clone(),
            tls.clone(),
            graceful.watcher(),
            stop.clone(),
        );
        tokio::spawn(async move {
            let _slot = slot;
            let serve = |io: Box<dyn Io>| async move {
                let service = hyper::service::service_fn(
                    move |request: hyper::Request<hyper::body::Incoming>| {
                        let mut request: Request = request.map(axum::body::Body::new);
                        request.extensions_mut().insert(Remote(remote));
                        router.clone().oneshot(request)
                    },
                );
                let connection = builder
                    .serve_connection(TokioIo::new(Lingering::new(io)), service)
                    .into_owned();
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "a connection ended early");
                }
            };
            // Its own limits begin only when the connection has shown which version of HTTP it speaks: one that says nothing must
            // not keep its slot, nor hold up the drain.
            let opening = tokio::time::timeout(limits.header_timeout, open(stream, tls));
            match stop.run_until_cancelled(opening).await {
                Some(Ok(Ok(io))) => serve(io).await,
                Some(Ok(Err(error))) => tracing::debug!(%error, "a connection did not open"),
                Some(Err(_)) => tracing::debug!("a connection took too long to open"),
                None => {}
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests did not end within drain_timeout and were cut off");
    }
}

/// Makes the TLS handshake, and waits for the first bytes of a request.
async fn open(stream: TcpStream, tls: Option<TlsAcceptor>) -> std::io::Result<Box<dyn Io>> {
    match tls {
        None => spoken(stream).await,
        Some(acceptor) => spoken(acceptor.accept(stream).await?).await,
    }
}

/// Waits until the client has said enough to tell HTTP/1 from HTTP/2. What it said is read again from the answer.
async fn spoken(mut io: impl Io + 'static) -> std::io::Result<Box<dyn Io>> {
    let mut said = Vec::with_capacity(PREFACE.len());
    while said.len() < PREFACE.len() && PREFACE.starts_with(&said) {
        let left = (PREFACE.len() - said.len()) as u64;
        if (&mut io).take(left).read_buf(&mut said).await? == 0 {
            break; // the client said all that it has to say
        }
    }
    let (read, write) = tokio::io::split(io);
    Ok(Box::new(tokio::io::join(
        Cursor::new(said).chain(read),
        write,
    )))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
