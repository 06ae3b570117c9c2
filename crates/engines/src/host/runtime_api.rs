//! One worker's endpoint of the AWS Lambda Runtime API (2018-06-01), over HTTP/1.1 on loopback.
//!
//! Every worker has an endpoint of its own, so that a port says which worker is there. With [`Handshake::Token`] the first request
//! carries a secret; then the listener is dropped, and the endpoint is that one connection. With [`Handshake::Open`] any connection of
//! the same user is taken, as the official runtime clients open them.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::event::{
    DEADLINE_MS, ERROR_TYPE, FUNCTION_ARN, Fault, INIT_ERROR, INVOCATION, NEXT, REQUEST_ID,
    SANDBOX_HEADER, TOKEN_HEADER, TRACE_ID,
};
use super::peer::is_same_user;
use super::spec::Handshake;

/// How long a connection may take to show its secret.
const HELLO: Duration = Duration::from_secs(5);
/// Most connections at once.
const MOST_CONNECTIONS: usize = 64;

/// An endpoint; closed when it is dropped.
pub(super) struct Endpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: AbortHandle,
}

/// An invocation on its way to a worker.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The invocation's id.
    pub(super) id: String,
    /// When it must be done, in milliseconds of the Unix epoch.
    pub(super) deadline_ms: u64,
    /// The X-Ray trace header.
    pub(super) trace: String,
    /// The event, as JSON.
    pub(super) event: Bytes,
}

/// What a worker made of an invocation.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It answered.
    Answer(Bytes),
    /// It said what went wrong.
    Fault(Fault),
    /// Its answer was over the limit.
    TooLarge,
    /// It asked for other work instead.
    Abandoned,
}

/// What a worker said when it first asked for work.
pub(super) struct Hello {
    /// How well it is shut in, in its own words.
    pub(super) sandbox: Option<String>,
}

struct Shared {
    name: String,
    token: Option<String>,
    max_answer: usize,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    admitted: Notify,
}

#[derive(Default)]
struct State {
    parked: Option<oneshot::Sender<Delivery>>,
    running: Option<(String, oneshot::Sender<Outcome>)>,
    hello: Option<Result<Hello, Fault>>,
    admitted: bool,
    closed: bool,
}

impl Endpoint {
    /// Opens an endpoint on a free port of the loopback address.
    pub(super) async fn open(
        name: &str,
        handshake: Handshake,
        max_answer: usize,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let token = match handshake {
            Handshake::Token => Some(secret()?),
            Handshake::Open => None,
        };
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            token,
            max_answer,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            admitted: Notify::new(),
        });
        let server = tokio::spawn(serve(listener, shared.clone())).abort_handle();
        Ok(Self {
            address,
            shared,
            server,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The secret that the worker must show.
    pub(super) fn token(&self) -> Option<&str> {
        self.shared.token.as_deref()
    }

    /// Waits until the worker first asks for work, or says that it cannot.
    pub(super) async fn hello(&self) -> Result<Hello, Fault> {
        self.shared.wait(|state| state.hello.take()).await
    }

    /// Waits until the worker asks for work and gives it some. None when the worker is gone and did not take it.
    pub(super) async fn hand_over(&self, delivery: Delivery) -> Option<oneshot::Receiver<Outcome>> {
        let parked = self
            .shared
            .wait(|state| match state.parked.take() {
                Some(parked) => Some(Some(parked)),
                None => state.closed.then_some(None),
            })
            .await?;
        let (outcome, outcome_here) = oneshot::channel();
        self.shared.state().running = Some((delivery.id.clone(), outcome));
        if parked.send(delivery).is_err() {
            self.shared.state().running = None;
            return None;
        }
        Some(outcome_here)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = look(&mut self.state()) {
                return found;
            }
            // The sender is in `self`: there is always a next change to wait for.
            let _ = changes.changed().await;
        }
    }

    /// Whether a request may go on; the first connection that shows the secret is the worker's, and no other ever.
    fn admit(&self, connection: &AtomicBool, request: &Request<Incoming>) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        if connection.load(Relaxed) {
            return true;
        }
        let shown = request
            .headers()
            .get(TOKEN_HEADER)
            .map(HeaderValue::as_bytes);
        if !shown.is_some_and(|shown| same(shown, token.as_bytes())) {
            return false;
        }
        let mut state = self.state();
        if std::mem::replace(&mut state.admitted, true) {
            return false;
        }
        connection.store(true, Relaxed);
        self.admitted.notify_one();
        true
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let accept = async {
        loop {
            tokio::select! {
                () = shared.admitted.notified() => break,
                _ = connections.join_next(), if connections.len() >= MOST_CONNECTIONS => {}
                accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => {
                    let Ok((stream, peer)) = accepted else { continue };
                    if shared.token.is_some() || may_connect(&stream, peer).await {
                        connections.spawn(converse(stream, shared.clone()));
                    }
                    while connections.try_join_next().is_some() {}
                }
            }
        }
    };
    accept.await;
    drop(listener);
    // Connections that are not the worker's end by themselves within HELLO; the worker's tells that it is over.
    while let Some(ended) = connections.join_next().await {
        if ended.is_ok_and(|was_the_workers| was_the_workers) {
            break;
        }
    }
    shared.change(|state| {
        state.closed = true;
        state.parked = None;
        state.running = None;
    });
}

async fn may_connect(stream: &TcpStream, peer: SocketAddr) -> bool {
    let (SocketAddr::V4(peer), Ok(SocketAddr::V4(here))) = (peer, stream.local_addr()) else {
        return false;
    };
    tokio::task::spawn_blocking(move || is_same_user(peer, here))
        .await
        .unwrap_or(false)
}

/// Serves one connection; whether it was the worker's.
async fn converse(stream: TcpStream, shared: Arc<Shared>) -> bool {
    let _ = stream.set_nodelay(true);
    let is_the_workers = Arc::new(AtomicBool::new(shared.token.is_none()));
    let service = service_fn(|request| {
        let (shared, connection) = (shared.clone(), is_the_workers.clone());
        async move { Ok::<_, Infallible>(respond(&shared, &connection, request).await) }
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service)
    );
    if timeout(HELLO, &mut connection).await.is_err() && is_the_workers.load(Relaxed) {
        let _ = connection.await;
    }
    is_the_workers.load(Relaxed)
}

async fn respond(
    shared: &Shared,
    connection: &AtomicBool,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    if !shared.admit(connection, &request) {
        let mut refusal = problem(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "This endpoint belongs to another process.",
        );
        refusal
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        return refusal;
    }
    let path = request.uri().path().to_owned();
    let invocation = path
        .strip_prefix(INVOCATION)
        .and_then(|rest| rest.split_once('/'));
    match (request.method(), path.as_str(), invocation) {
        (&Method::GET, NEXT, _) => next(shared, &request).await,
        (&Method::POST, INIT_ERROR, _) => init_error(shared, request).await,
        (&Method::POST, _, Some((id, "response"))) => response(shared, id, request).await,
        (&Method::POST, _, Some((id, "error"))) => error(shared, id, request).await,
        _ => problem(
            StatusCode::NOT_FOUND,
            "NotFound",
            "The Runtime API of 2018-06-01 has no such call.",
        ),
    }
}

async fn next(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let sandbox = request
        .headers()
        .get(SANDBOX_HEADER)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let (park, delivery) = oneshot::channel();
    shared.change(|state| {
        if let Some((_, outcome)) = state.running.take() {
            let _ = outcome.send(Outcome::Abandoned);
        }
        state.parked = Some(park);
        state.hello.get_or_insert(Ok(Hello { sandbox }));
    });
    // Dropped here when the connection ends: then the hand-over fails, and the work goes to another worker.
    let Ok(delivery) = delivery.await else {
        return problem(
            StatusCode::GONE,
            "Gone",
            "Another call asks for the next invocation.",
        );
    };
    let mut answer = Response::new(Full::new(delivery.event));
    let arn = format!("arn:aws:lambda:local:000000000000:function:{}", shared.name);
    let headers = [
        (REQUEST_ID, delivery.id),
        (DEADLINE_MS, delivery.deadline_ms.to_string()),
        (FUNCTION_ARN, arn),
        (TRACE_ID, delivery.trace),
    ];
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

async fn response(shared: &Shared, id: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !is_running(shared, id) {
        return unknown_invocation();
    }
    match body(request, shared.max_answer).await {
        // A program that streams its answer tells of an error at its end.
        Ok((_, Some(kind))) => finish(
            shared,
            id,
            Outcome::Fault(Fault {
                kind,
                message: String::new(),
            }),
        ),
        Ok((answer, None)) => finish(shared, id, Outcome::Answer(answer)),
        Err(BodyError::TooLarge) => {
            finish(shared, id, Outcome::TooLarge);
            problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                "The answer is over the limit.",
            )
        }
        Err(BodyError::Broken) => problem(
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            "The body could not be read.",
        ),
    }
}

async fn error(shared: &Shared, id: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !is_running(shared, id) {
        return unknown_invocation();
    }
    match fault(request).await {
        Ok(fault) => finish(shared, id, Outcome::Fault(fault)),
        Err(refusal) => refusal,
    }
}

async fn init_error(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match fault(request).await {
        Ok(fault) => {
            shared.change(|state| {
                state.hello.get_or_insert(Err(fault));
            });
            accepted()
        }
        Err(refusal) => refusal,
    }
}

/// The error that a worker reports: its body, or at least its header.
async fn fault(request: Request<Incoming>) -> Result<Fault, Response<Full<Bytes>>> {
    const LONGEST_FAULT: usize = 64 << 10;
    let header = request
        .headers()
        .get(ERROR_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let (body, _) = body(request, LONGEST_FAULT).await.map_err(|_| {
        problem(
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            "The error's body could not be read.",
        )
    })?;
    let mut fault: Fault = serde_json::from_slice(&body).unwrap_or_default();
    if fault.kind.is_empty() {
        fault.kind = header.unwrap_or_default();
    }
    Ok(fault)
}

enum BodyError {
    TooLarge,
    Broken,
}

/// A request's body, and the kind of error that its trailer tells of.
async fn body(
    request: Request<Incoming>,
    limit: usize,
) -> Result<(Bytes, Option<String>), BodyError> {
    let body = request.into_body();
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let collected = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            BodyError::TooLarge
        } else {
            BodyError::Broken
        }
    })?;
    let trailer = collected
        .trailers()
        .and_then(|trailers| trailers.get(ERROR_TYPE)?.to_str().ok())
        .map(str::to_owned);
    Ok((collected.to_bytes(), trailer))
}

fn is_running(shared: &Shared, id: &str) -> bool {
    shared
        .state()
        .running
        .as_ref()
        .is_some_and(|(running, _)| running == id)
}

fn finish(shared: &Shared, id: &str, outcome: Outcome) -> Response<Full<Bytes>> {
    match shared.state().running.take_if(|(running, _)| running == id) {
        Some((_, report)) => {
            let _ = report.send(outcome);
            accepted()
        }
        None => unknown_invocation(),
    }
}

fn accepted() -> Response<Full<Bytes>> {
    json(StatusCode::ACCEPTED, r#"{"status":"OK"}"#.to_owned())
}

fn unknown_invocation() -> Response<Full<Bytes>> {
    problem(
        StatusCode::BAD_REQUEST,
        "InvalidRequestID",
        "This invocation is not the one that you have.",
    )
}

fn problem(status: StatusCode, kind: &str, message: &str) -> Response<Full<Bytes>> {
    json(
        status,
        serde_json::json!({ "errorMessage": message, "errorType": kind }).to_string(),
    )
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 256 random bits in hexadecimal.
fn secret() -> io::Result<String> {
    use io::Read as _;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Compares in a time that does not depend on where two secrets differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: SocketAddr, token: Option<&str>) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let token = token.map_or_else(String::new, |token| format!("{TOKEN_HEADER}: {token}\r\n"));
        stream
            .write_all(format!("GET {NEXT} HTTP/1.1\r\nhost: {address}\r\n{token}\r\n").as_bytes())
            .await
            .unwrap();
        stream
    }

    async fn until_blank_line(stream: &mut TcpStream) -> String {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            read.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(read).unwrap().to_lowercase()
    }

    fn delivery() -> Delivery {
        Delivery {
            id: "id-1".to_owned(),
            deadline_ms: 7,
            trace: "Root=1".to_owned(),
            event: Bytes::from_static(b"{}"),
        }
    }

    #[tokio::test]
    async fn work_goes_only_to_the_connection_that_shows_the_secret() {
        let endpoint = Endpoint::open("test", Handshake::Token, 1024)
            .await
            .unwrap();
        for wrong in [None, Some(""), Some("a guess"), Some(&"0".repeat(64))] {
            let mut stranger = ask(endpoint.address(), wrong).await;
            let answer = until_blank_line(&mut stranger).await;
            assert!(answer.starts_with("http/1.1 403"), "{answer}");
        }
        let token = endpoint.token().unwrap().to_owned();
        let mut worker = ask(endpoint.address(), Some(&token)).await;
        assert!(endpoint.hello().await.is_ok());
        // The listener goes: not even the secret opens a second connection.
        while TcpStream::connect(endpoint.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let outcome = endpoint.hand_over(delivery()).await.unwrap();
        let head = until_blank_line(&mut worker).await;
        for header in [
            "lambda-runtime-aws-request-id: id-1",
            "lambda-runtime-deadline-ms: 7",
            "lambda-runtime-trace-id: root=1",
        ] {
            assert!(head.contains(header), "{head}");
        }
        drop(worker);
        assert!(outcome.await.is_err(), "the connection was the worker");
        assert!(
            endpoint.hand_over(delivery()).await.is_none(),
            "and no other comes"
        );
    }

    #[tokio::test]
    async fn work_that_a_dead_worker_did_not_take_stays_with_the_host() {
        let endpoint = Endpoint::open("test", Handshake::Token, 1024)
            .await
            .unwrap();
        let worker = ask(endpoint.address(), endpoint.token()).await;
        assert!(endpoint.hello().await.is_ok());
        drop(worker);
        endpoint
            .shared
            .wait(|state| state.closed.then_some(()))
            .await;
        assert!(endpoint.hand_over(delivery()).await.is_none());
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same(b"abc", b"abc"));
        for other in ["abd", "bbc", "ab", "abcd", ""] {
            assert!(!same(b"abc", other.as_bytes()));
        }
        assert_ne!(secret().unwrap(), secret().unwrap());
    }
}
