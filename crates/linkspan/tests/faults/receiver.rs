//! A receiver of webhooks that can be killed: an HTTP server in a thread of its own, with its listener and its connections. What it
//! has taken survives it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::serve::ListenerExt as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// An address of loopback of its own, where the system has one: while the receiver is down nobody else takes its port.
const HOST: Ipv4Addr = if cfg!(target_os = "linux") {
    Ipv4Addr::new(127, 0, 0, 2)
} else {
    Ipv4Addr::LOCALHOST
};

/// What is signed with for `/hmac` and for `/ed25519`.
const HMAC_KEY: &[u8; 32] = b"thirty-two bytes for the webhook";
const ED25519_SEED: &[u8; 32] = b"thirty-two bytes, and not chosen";

/// A receiver. It is down until [`Receiver::start`].
pub(crate) struct Receiver {
    address: SocketAddr,
    kept: Arc<Kept>,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

/// What came for one job to one path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived {
    /// The ids under which it came.
    pub(crate) ids: BTreeSet<String>,
    /// The bodies with which it came.
    pub(crate) bodies: BTreeSet<String>,
    /// How often it came.
    pub(crate) times: u32,
    /// How often the receiver has decided to answer 200. An answer may be lost on its way.
    pub(crate) taken: u32,
}

struct Kept {
    arrived: Mutex<BTreeMap<(String, String), Arrived>>,
    faults: Mutex<Vec<String>>,
    /// Chooses what is refused, kept waiting and left without an answer; none: everything is taken at once.
    whims: Mutex<Option<Rng>>,
    hmac: hmac::Key,
    ed25519: UnparsedPublicKey<Vec<u8>>,
}

impl Receiver {
    /// A receiver with a free port.
    pub(crate) async fn new() -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(ED25519_SEED).expect("a seed");
        let found = TcpListener::bind((HOST, 0)).await.expect("a free port");
        Self {
            address: found.local_addr().expect("its address"),
            kept: Arc::new(Kept {
                arrived: Mutex::default(),
                faults: Mutex::default(),
                whims: Mutex::new(None),
                hmac: hmac::Key::new(hmac::HMAC_SHA256, HMAC_KEY),
                ed25519: UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref().to_vec()),
            }),
            running: Mutex::new(None),
        }
    }

    /// The environment in which the channels find their secrets.
    pub(crate) fn secrets() -> [(&'static str, String); 2] {
        [
            (
                "HMAC_SECRET",
                format!("whsec_{}", STANDARD.encode(HMAC_KEY)),
            ),
            (
                "ED25519_SECRET",
                format!("whsk_{}", STANDARD.encode(ED25519_SEED)),
            ),
        ]
    }

    /// A channel to this receiver, as an item of `deliver`: `hmac` or `ed25519`, with further keys.
    pub(crate) fn channel(&self, kind: &str, rest: &str) -> String {
        format!(
            "{{ webhook = \"http://{}/{kind}\", name = \"{kind}\", secret = \"${{env:{}_SECRET}}\", {rest} }}",
            self.address,
            kind.to_uppercase(),
        )
    }

    /// Listens, on the same port each time.
    pub(crate) async fn start(&self) {
        let listener = crate::until("the receiver's port", || async {
            let listener = std::net::TcpListener::bind(self.address).ok()?;
            listener.set_nonblocking(true).ok()?;
            Some(listener)
        })
        .await;
        let (stop, stopped) = oneshot::channel();
        let kept = self.kept.clone();
        let thread = std::thread::spawn(move || serve(listener, kept, stopped));
        *locked(&self.running) = Some((stop, thread));
    }

    /// The server ends at once: its connections are reset, and what was under way is never answered.
    pub(crate) fn kill(&self) {
        let running = locked(&self.running).take();
        let (stop, thread) = running.expect("the receiver runs");
        let _ = stop.send(());
        thread
            .join()
            .expect("the receiver has not failed by itself");
    }

    /// From now on some are refused, some wait and some get no answer.
    pub(crate) fn be_moody(&self, random: Rng) {
        *locked(&self.kept.whims) = Some(random);
    }

    /// From now on everything is taken at once.
    pub(crate) fn be_calm(&self) {
        *locked(&self.kept.whims) = None;
    }

    /// What came, by path and job.
    pub(crate) fn arrived(&self) -> BTreeMap<(String, String), Arrived> {
        locked(&self.kept.arrived).clone()
    }

    /// How many jobs' results were taken at a path.
    pub(crate) fn taken(&self, path: &str) -> usize {
        let arrived = locked(&self.kept.arrived);
        let there = arrived
            .iter()
            .filter(|((at, _), arrived)| at == path && arrived.taken > 0);
        there.count()
    }

    /// What should never have come.
    pub(crate) fn faults(&self) -> Vec<String> {
        locked(&self.kept.faults).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some((stop, thread)) = locked(&self.running).take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

impl Arrived {
    /// The result document that it brought.
    pub(crate) fn result(&self) -> Value {
        let body = self.bodies.first().expect("a body");
        let event: Value = serde_json::from_str(body).expect("an event");
        event["data"].clone()
    }
}

/// Serves until it is told to stop, and then lets go of everything that is open.
fn serve(listener: std::net::TcpListener, kept: Arc<Kept>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("a listener");
        // A connection that is closed is reset, as that of a process that dies with unread data is.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_zero_linger();
        });
        let router = Router::new().fallback(receive).with_state(kept);
        let serving = async { axum::serve(listener, router).await };
        tokio::select! {
            ended = serving => ended.expect("the receiver serves"),
            _ = stopped => {}
        }
    });
    // Dropping the runtime drops the connections' tasks.
}

async fn receive(State(kept): State<Arc<Kept>>, request: Request) -> StatusCode {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 1 << 20).await else {
        return StatusCode::BAD_REQUEST; // cut off on its way
    };
    let path = head.uri.path().trim_start_matches('/').to_owned();
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let id = header("webhook-id");
    let text = String::from_utf8_lossy(&body).into_owned();
    let event: Value = serde_json::from_str(&text).unwrap_or_default();
    let job = event["subject"].as_str().unwrap_or_default().to_owned();
    let signed = [
        format!("{id}.{}.", header("webhook-timestamp")).as_bytes(),
        &body,
    ]
    .concat();
    let right = kept.is_signed(&path, &signed, &header("webhook-signature"));
    if !right || id.is_empty() || job.is_empty() || event["id"] != id.as_str() {
        locked(&kept.faults).push(format!("{path}: {:?} {text}", head.headers));
    }
    let whim = locked(&kept.whims)
        .as_mut()
        .map(|random| (random.u8(..16), random.u64(..40)));
    let takes = !matches!(whim, Some((0 | 1, _)));
    {
        let mut all = locked(&kept.arrived);
        let arrived = all.entry((path, job)).or_default();
        arrived.ids.insert(id);
        arrived.bodies.insert(text);
        arrived.times += 1;
        arrived.taken += u32::from(takes);
    }
    match whim {
        Some((0 | 1, _)) => StatusCode::SERVICE_UNAVAILABLE,
        // Taken, and never answered: the receiver or the gateway dies first, or the channel's time is over.
        Some((2, _)) => std::future::pending().await,
        Some((3..8, wait)) => {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            StatusCode::OK
        }
        Some(_) | None => StatusCode::OK,
    }
}

impl Kept {
    fn is_signed(&self, path: &str, signed: &[u8], signature: &str) -> bool {
        let encoded = |version: &str| {
            let encoded = signature.strip_prefix(version)?;
            STANDARD.decode(encoded).ok()
        };
        let checked: Option<Result<(), ring::error::Unspecified>> = match path {
            "hmac" => encoded("v1,").map(|tag| hmac::verify(&self.hmac, signed, &tag)),
            "ed25519" => encoded("v1a,").map(|tag| self.ed25519.verify(signed, &tag)),
            _ => None,
        };
        matches!(checked, Some(Ok(())))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
