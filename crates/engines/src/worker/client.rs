//! A client of the Runtime API over one kept-alive connection.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::host::event::{
    DEADLINE_MS, ERROR_TYPE, Fault, INVOCATION, NEXT, REQUEST_ID, RUNTIME_API, SANDBOX_HEADER,
    TOKEN, TOKEN_HEADER,
};
use crate::sandbox::Enforcement;

/// A worker's connection.
pub(super) struct Client {
    runtime: Runtime,
    connection: SendRequest<Full<Bytes>>,
    host: String,
    token: Option<String>,
}

/// One invocation.
pub(super) struct Next {
    /// Its id.
    pub(super) id: String,
    /// When it must be done, in milliseconds of the Unix epoch.
    pub(super) deadline_ms: u64,
    /// The event, as JSON.
    pub(super) event: Bytes,
}

/// The connection is over.
pub(super) enum Lost {
    /// The host closed it.
    Ended,
    /// The host does not speak the Runtime API.
    Failed(String),
}

impl Client {
    /// Connects to the host that the environment names.
    pub(super) fn connect() -> Result<Self, String> {
        let host = std::env::var(RUNTIME_API)
            .map_err(|_| format!("{RUNTIME_API} is not set: a worker is started by `linkspan serve` or `run`, not by hand"))?;
        // The whole runtime is this thread: the sandbox wants a process with one thread.
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let connection = runtime.block_on(async {
            let stream = TcpStream::connect(&host)
                .await
                .map_err(|error| format!("no connection to the host: {error}"))?;
            let _ = stream.set_nodelay(true);
            let (requests, connection) = handshake(TokioIo::new(stream))
                .await
                .map_err(|error| format!("no connection to the host: {error}"))?;
            tokio::spawn(connection);
            Ok::<_, String>(requests)
        })?;
        Ok(Self {
            runtime,
            connection,
            host,
            token: std::env::var(TOKEN).ok(),
        })
    }

    /// Waits for the next invocation. The first call says who and how well shut in the worker is.
    pub(super) fn next(&mut self, enforcement: &Enforcement) -> Result<Next, Lost> {
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(NEXT)
            .header(HOST, &self.host);
        if let Some(token) = self.token.take() {
            let enforcement = serde_json::to_string(enforcement).unwrap_or_default();
            request = request
                .header(TOKEN_HEADER, token)
                .header(SANDBOX_HEADER, enforcement);
        }
        let request = request
            .body(Full::default())
            .map_err(|error| Lost::Failed(error.to_string()))?;
        let (status, headers, event) = self.send(request)?;
        if status != StatusCode::OK {
            return Err(Lost::Failed(format!("the host answered {status}")));
        }
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = header(REQUEST_ID)
            .ok_or_else(|| Lost::Failed("an invocation without an id".to_owned()))?
            .to_owned();
        let deadline_ms = header(DEADLINE_MS)
            .and_then(|value| value.parse().ok())
            .unwrap_or(u64::MAX);
        Ok(Next {
            id,
            deadline_ms,
            event,
        })
    }

    /// Sends an answer.
    pub(super) fn respond(&mut self, id: &str, answer: Vec<u8>) -> Result<(), Lost> {
        self.post(&format!("{INVOCATION}{id}/response"), None, answer)
    }

    /// Says what went wrong.
    pub(super) fn fail(&mut self, id: &str, fault: &Fault) -> Result<(), Lost> {
        let body = serde_json::to_vec(fault).map_err(|error| Lost::Failed(error.to_string()))?;
        self.post(&format!("{INVOCATION}{id}/error"), Some(&fault.kind), body)
    }

    fn post(&mut self, path: &str, kind: Option<&str>, body: Vec<u8>) -> Result<(), Lost> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, body.len());
        if let Some(kind) = kind {
            request = request.header(ERROR_TYPE, kind);
        }
        let request = request
            .body(Full::from(body))
            .map_err(|error| Lost::Failed(error.to_string()))?;
        match self.send(request)? {
            (StatusCode::ACCEPTED, ..) => Ok(()),
            (status, ..) => Err(Lost::Failed(format!("the host answered {status}"))),
        }
    }

    fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Lost> {
        let connection = &mut self.connection;
        self.runtime.block_on(async move {
            connection.ready().await.map_err(|_| Lost::Ended)?;
            let response = connection
                .send_request(request)
                .await
                .map_err(|_| Lost::Ended)?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| Lost::Ended)?.to_bytes();
            Ok((head.status, head.headers, body))
        })
    }
}
