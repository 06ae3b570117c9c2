//! Kinesis over HTTP, with signatures checked, and with faults on the way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use linkspan_streams::kinesis::sigv4::Signed;
use linkspan_streams::kinesis::{Amazon, Codec, Kind, Options, Service, put};
use linkspan_streams::log::{Logs, Settings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// How long anything may take on a machine under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) const STREAM: &str = "reviews";
const KEY: (&str, &str) = ("AKIDTESTS", "a secret of the tests");

/// What happens to a call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is refused by this error.
    Refused(Kind),
    /// The connection breaks before the call arrives.
    CutBefore,
    /// The call is performed, and the connection breaks before its answer arrives.
    CutAfter,
}

type Faults = Box<dyn FnMut(&str) -> Option<Trouble> + Send>;

/// The service, and what is known of the calls.
pub(crate) struct Kinesis {
    pub(crate) service: Arc<Service>,
    address: String,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
    _folder: TempDir,
}

struct Shared {
    service: Arc<Service>,
    faults: Mutex<Option<Faults>>,
    /// How often which operation was answered with what; the empty text is success.
    answers: Mutex<BTreeMap<(String, String), usize>>,
    /// The bytes of GetRecords' answers.
    given: AtomicUsize,
}

impl Kinesis {
    /// A service with a stream of so many shards.
    pub(crate) async fn with(shards: u32, throttle: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            segment_bytes: 64 << 10,
            ..Settings::default()
        };
        let path = folder.path().join("logs");
        let logs = Arc::new(Logs::open(&path, settings).await.unwrap());
        let options = Options {
            throttle,
            shard_size: None,
            shards: 5_000,
        };
        let catalogue = folder.path().join("streams.json");
        let service = Service::open(catalogue, logs, b"a secret", options);
        let service = Arc::new(service.await.unwrap());
        let shared = Arc::new(Shared {
            service: service.clone(),
            faults: Mutex::default(),
            answers: Mutex::default(),
            given: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        let kinesis = Self {
            service,
            address,
            shared,
            _accepting: AbortOnDropHandle::new(accepting),
            _folder: folder,
        };
        kinesis.create(shards).await;
        kinesis
    }

    pub(crate) async fn create(&self, shards: u32) {
        let client = self.client().await;
        let call = client.create_stream().stream_name(STREAM);
        let shards = i32::try_from(shards).unwrap();
        call.shard_count(shards).send().await.unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        self.amazon().client(None).await
    }

    /// How it is reached.
    pub(crate) fn amazon(&self) -> Amazon {
        self.amazon_with(KEY.1)
    }

    pub(crate) fn amazon_with(&self, secret: &str) -> Amazon {
        Amazon {
            region: "eu-central-1".to_owned(),
            endpoint: Some(self.address.clone()),
            access_key: Some((KEY.0.to_owned(), secret.to_owned())),
        }
    }

    /// From now on calls may be troubled: told the operation.
    pub(crate) fn trouble(&self, faults: impl FnMut(&str) -> Option<Trouble> + Send + 'static) {
        *self.shared.faults.lock().unwrap() = Some(Box::new(faults));
    }

    /// How often an operation was answered so; the empty text is success.
    pub(crate) fn answered(&self, operation: &str, with: &str) -> usize {
        let answers = self.shared.answers.lock().unwrap();
        let found = answers.get(&(operation.to_owned(), with.to_owned()));
        found.copied().unwrap_or(0)
    }

    /// Performs a call as if it had come at another time, past all faults.
    pub(crate) async fn call_at(
        &self,
        operation: &str,
        body: serde_json::Value,
        now: Timestamp,
    ) -> serde_json::Value {
        let call = linkspan_streams::kinesis::Call {
            operation,
            codec: Codec::Json,
            body: &serde_json::to_vec(&body).unwrap(),
            region: "eu-central-1",
            may: &|_, _| true,
            now,
        };
        let answer = self.service.answer(call).await;
        let value = serde_json::from_slice(&answer.body).unwrap_or_default();
        assert_eq!(answer.status, 200, "{operation}: {value}");
        value
    }

    /// Puts so many small records into a stream's only shard, as if they had come at another time. Their values count on from `first`.
    pub(crate) async fn fill_at(&self, stream: &str, first: usize, count: usize, now: Timestamp) {
        let numbers: Vec<_> = (first..first + count).collect();
        for numbers in numbers.chunks(500) {
            let record = |number: &usize| {
                let data = base64(number.to_string());
                serde_json::json!({ "PartitionKey": "key", "Data": data })
            };
            let records: Vec<_> = numbers.iter().map(record).collect();
            let body = serde_json::json!({ "StreamName": stream, "Records": records });
            let answer = self.call_at("PutRecords", body, now).await;
            assert_eq!(answer["FailedRecordCount"], 0);
        }
    }

    /// The bytes of all answers of GetRecords.
    pub(crate) fn given(&self) -> usize {
        self.shared.given.load(Ordering::Acquire)
    }

    /// Puts records, each of them exactly once; gives their sequence numbers.
    pub(crate) async fn put(&self, client: &Client, entries: &[put::Entry]) -> Vec<String> {
        let mut placed = vec![None; entries.len()];
        while placed.iter().any(Option::is_none) {
            let left: Vec<_> = (0..entries.len())
                .filter(|nth| placed[*nth].is_none())
                .collect();
            let some: Vec<_> = left.iter().map(|nth| entries[*nth].clone()).collect();
            let outcomes = put::records(client, STREAM, &some).await.unwrap();
            for (nth, outcome) in left.into_iter().zip(outcomes) {
                placed[nth] = outcome.ok().map(|placed| placed.sequence);
            }
        }
        placed.into_iter().flatten().collect()
    }
}

pub(crate) fn entry(key: &str, data: impl Into<Bytes>) -> put::Entry {
    put::Entry {
        key: key.to_owned(),
        data: data.into(),
    }
}

pub(crate) fn base64(text: String) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, shared.clone()));
            // A connection that breaks is what some of the tests are about.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|it| it.to_str().ok());
    let target = header("x-amz-target").unwrap_or_default();
    let operation = target.strip_prefix("Kinesis_20131202.").unwrap().to_owned();
    let trouble = {
        let mut faults = shared.faults.lock().unwrap();
        faults.as_mut().and_then(|faults| faults(&operation))
    };
    let cut = || std::io::Error::other("cut");
    let (status, body, kind) = match trouble {
        Some(Trouble::CutBefore) => return Err(cut()),
        Some(Trouble::Refused(kind)) => refused(kind),
        _ => {
            let headers: Vec<_> = head
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            let signed = Signed {
                method: head.method.as_str(),
                target: head.uri.path(),
                headers: &headers,
                body: &body,
            };
            let now = Timestamp::now();
            let checked = signed.claim(now).and_then(|claim| {
                assert_eq!(claim.access_key_id, KEY.0);
                signed.verify(&claim, KEY.1)
            });
            match checked {
                Err(fault) => refused(fault.kind),
                Ok(()) => {
                    let call = linkspan_streams::kinesis::Call {
                        operation: &operation,
                        codec: Codec::Json,
                        body: &body,
                        region: "eu-central-1",
                        may: &|_, _| true,
                        now,
                    };
                    let answer = shared.service.answer(call).await;
                    let kind = answer.fault.map(|kind| kind.name().to_owned());
                    (answer.status, answer.body, kind.unwrap_or_default())
                }
            }
        }
    };
    if trouble == Some(Trouble::CutAfter) {
        return Err(cut());
    }
    if operation == "GetRecords" && kind.is_empty() {
        shared.given.fetch_add(body.len(), Ordering::AcqRel);
    }
    *shared
        .answers
        .lock()
        .unwrap()
        .entry((operation, kind))
        .or_default() += 1;
    let response = Response::builder()
        .status(status)
        .header("content-type", Codec::Json.content_type())
        .body(Full::new(Bytes::from(body)));
    Ok(response.unwrap())
}

fn refused(kind: Kind) -> (u16, Vec<u8>, String) {
    let body = serde_json::json!({ "__type": kind.name(), "message": "on the way" });
    (
        kind.status(),
        body.to_string().into_bytes(),
        kind.name().to_owned(),
    )
}
