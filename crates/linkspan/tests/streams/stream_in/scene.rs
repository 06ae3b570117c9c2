//! A gateway in this process with streams of its own, a receiver of webhooks, and what the tests ask of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Json, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use linkspan::served::Served;
use linkspan::store::{Actor, Command, Commanded, Job, LabelQuery, ResultQuery, Store};
use linkspan_model::InvocationId;
use linkspan_model::config::{Config, Reference};
use linkspan_streams::kinesis::{Call, Codec};
use serde_json::{Value, json};

/// A gateway, and who its results go to.
pub(super) struct Scene {
    served: Option<Served>,
    folder: tempfile::TempDir,
    toml: String,
    seen: Seen,
    receiver: tokio::task::JoinHandle<()>,
}

type Seen = Arc<Mutex<Vec<Value>>>;

impl Scene {
    /// Starts a gateway; `configure` is given a channel to the receiver, as an item of `deliver`.
    pub(super) async fn start(configure: impl FnOnce(&str) -> String) -> Self {
        // An error says that it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seen = Seen::default();
        let (address, receiver) = receive(seen.clone()).await;
        let channel =
            format!("{{ webhook = \"http://{address}/\", secret = \"${{env:SECRET}}\" }}");
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nauth = \"none\"\n[outbound]\nprivate_networks = [\"127.0.0.0/8\"]\n{}",
            configure(&channel)
        );
        let mut scene = Self {
            served: None,
            folder: tempfile::tempdir().unwrap(),
            toml,
            seen,
            receiver,
        };
        scene.serve().await;
        scene
    }

    async fn serve(&mut self) {
        let secret = |reference: Reference<'_>| match reference {
            Reference::Env("SECRET") => Ok("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
            _ => Err("nothing else is referred to".to_owned()),
        };
        let config = Config::parse(&self.toml, "test.toml", &secret);
        let config = config.unwrap_or_else(|faults| panic!("{faults}"));
        let served = Served::start(config, self.folder.path()).await;
        self.served = Some(served.expect("the gateway starts"));
    }

    /// Stops the gateway and starts it again.
    pub(super) async fn restart(&mut self) {
        self.served.take().unwrap().stop().await;
        self.serve().await;
    }

    /// Changes the configuration, for the next start.
    pub(super) fn configure(&mut self, from: &str, to: &str) {
        assert!(self.toml.contains(from));
        self.toml = self.toml.replace(from, to);
    }

    pub(super) async fn stop(mut self) {
        self.served.take().unwrap().stop().await;
        self.receiver.abort();
    }

    pub(super) fn served(&self) -> &Served {
        self.served.as_ref().unwrap()
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.served.as_ref().unwrap().gateway.store
    }

    /// A call of the Kinesis API, without HTTP.
    pub(super) async fn call(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.try_call(operation, body).await;
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    async fn try_call(&self, operation: &str, body: Value) -> (u16, Value) {
        let streams = &self.served.as_ref().unwrap().gateway.own_streams;
        let service = streams.as_ref().expect("own streams").service();
        let answer = service
            .answer(Call {
                operation,
                codec: Codec::Json,
                body: &serde_json::to_vec(&body).unwrap(),
                region: "eu-central-1",
                may: &|_, _| true,
                now: Timestamp::now(),
            })
            .await;
        let body = serde_json::from_slice(&answer.body).unwrap_or_default();
        (answer.status, body)
    }

    /// Waits until the gateway has made a stream.
    pub(super) async fn stream(&self, name: &str) {
        until("the stream is made", async || {
            let body = json!({ "StreamName": name });
            let (status, _) = self.try_call("DescribeStreamSummary", body).await;
            (status == 200).then_some(())
        })
        .await;
    }

    /// Puts a record; gives its sequence number.
    pub(super) async fn put(&self, stream: &str, key: &str, value: &str) -> String {
        let body =
            json!({ "StreamName": stream, "PartitionKey": key, "Data": STANDARD.encode(value) });
        let answer = self.call("PutRecord", body).await;
        answer["SequenceNumber"].as_str().unwrap().to_owned()
    }

    /// Waits for that many results; there are no more, and each is of another record.
    pub(super) async fn results(&self, count: usize) -> Vec<(Job, Value)> {
        let results = until("all results", async || {
            let mut results = Vec::new();
            let mut after = None;
            loop {
                let query = ResultQuery {
                    after,
                    limit: 1_000,
                    ..ResultQuery::default()
                };
                let page = self.store().list_results(query).await.unwrap();
                results.extend(page.results);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            (results.len() >= count).then_some(results)
        })
        .await;
        assert_eq!(results.len(), count);
        let records: BTreeSet<_> = results.iter().map(|(job, _)| &job.request_id).collect();
        assert_eq!(records.len(), count, "each is of another record");
        let read = |(job, text): (Job, String)| (job, serde_json::from_str(&text).unwrap());
        results.into_iter().map(read).collect()
    }

    /// How often a service gave which label.
    pub(super) async fn labels(&self, service: &str) -> BTreeMap<String, u64> {
        let query = LabelQuery {
            integration: "reviews".to_owned(),
            from: Timestamp::UNIX_EPOCH,
            until: Timestamp::now() + jiff::SignedDuration::from_hours(1),
        };
        let mut labels = BTreeMap::new();
        for count in self.store().label_counts(query).await.unwrap() {
            if count.label.service == service {
                *labels.entry(count.label.label).or_default() += count.count;
            }
        }
        labels
    }

    /// Runs a job again and waits for its end.
    pub(super) async fn retry(&self, id: InvocationId) -> Job {
        let store = self.store();
        let done = store
            .command(id, Command::Retry, Actor::default(), Timestamp::now())
            .await;
        assert!(matches!(done, Ok(Commanded::Done(_))), "{done:?}");
        until("the job's end", async || {
            let job = store.get(id).await.unwrap().expect("the job");
            job.state.is_terminal().then_some(job)
        })
        .await
    }

    /// The jobs whose results came to the receiver.
    pub(super) fn delivered(&self) -> BTreeSet<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(subject).collect()
    }

    /// Those that came with that status.
    pub(super) fn delivered_as(&self, status: &str) -> BTreeSet<String> {
        let seen = self.seen.lock().unwrap();
        let with = seen
            .iter()
            .filter(|event| event["data"]["status"] == status);
        with.map(subject).collect()
    }
}

fn subject(event: &Value) -> String {
    event["subject"].as_str().unwrap_or_default().to_owned()
}

async fn receive(seen: Seen) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let take = async |State(seen): State<Seen>, Json(event): Json<Value>| {
        seen.lock().unwrap().push(event);
    };
    let router = Router::new()
        .fallback(axum::routing::post(take))
        .with_state(seen);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, serving)
}

/// Asks again and again until there is an answer.
pub(super) async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < end, "waited for two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
