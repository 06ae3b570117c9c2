//! For tests: a receiver on loopback that answers by a script and remembers what it was sent, and a way out that may call it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use linkspan_model::config::{self, Size};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::Outbound;

/// Receives on a free port of 127.0.0.1 until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepting: AbortHandle,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// An answer of the script.
pub(crate) fn answer(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

impl Receiver {
    /// Answers each request by the script.
    pub(crate) async fn start(
        script: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(None, move |seen| std::future::ready(script(&seen))).await
    }

    /// The same behind TLS, with HTTP/2 where the caller speaks it.
    pub(crate) async fn start_tls(
        tls: TlsAcceptor,
        script: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(tls), move |seen| std::future::ready(script(&seen))).await
    }

    /// Takes requests and never answers.
    pub(crate) async fn silent() -> Self {
        Self::listen(None, |_| std::future::pending()).await
    }

    /// What came, oldest first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// An address below its origin.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn listen<F: Future<Output = Response<Bytes>> + Send + 'static>(
        tls: Option<TlsAcceptor>,
        script: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script);
        let remembered = seen.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (seen, script, tls) = (remembered.clone(), script.clone(), tls.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (seen, script) = (seen.clone(), script.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        let one = Seen {
                            method: head.method,
                            uri: head.uri,
                            version: head.version,
                            headers: head.headers,
                            body,
                        };
                        seen.lock().unwrap().push(one.clone());
                        Ok::<_, hyper::Error>(script(one).await.map(Full::new))
                    }
                });
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    match tls {
                        None => drop(server.serve_connection(TokioIo::new(socket), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(socket).await {
                                drop(server.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            accepting: accepting.abort_handle(),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Settings that let these networks through.
pub(crate) fn settings(networks: &[&str]) -> config::Outbound {
    config::Outbound {
        private_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
        ca: None,
        connect_timeout: Duration::from_secs(10),
        max_answer: Size::from_bytes(64 * 1024),
    }
}

/// A way out that may call this machine by IPv4.
pub(crate) fn to_loopback() -> Outbound {
    Outbound::new(&settings(&["127.0.0.0/8"]), Path::new(".")).unwrap()
}
