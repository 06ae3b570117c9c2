//! A gateway in this process whose engines do what the test tells them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use linkspan::engine::{Call, CallInput, Engine, Performed};
use linkspan::engines::Engines;
use linkspan::keys::ApiKey;
use linkspan::served::Served;
use linkspan::store::{Actor, KeyRecord};
use linkspan_engines::EngineError;
use linkspan_model::answer::{DetectedLanguage, Mood, Sentiment, SentimentScores};
use linkspan_model::config::{Config, Reference};
use linkspan_model::{Answer, Code, Task};
use linkspan_testkit::Client;
use tokio::sync::Semaphore;

/// What `${env:WEBHOOK_SECRET}` stands for.
const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An engine of the task `sentiment` that waits at a gate, counts, and fails on demand: a text `fail:CODE` fails with that code,
/// any other is answered once the gate lets it through.
pub(crate) struct Scripted {
    /// Lets calls through: one permit, one answer.
    pub(crate) gate: Semaphore,
    /// Calls that have begun.
    pub(crate) begun: AtomicUsize,
    /// Calls that were dropped before their end.
    pub(crate) dropped: AtomicUsize,
}

impl Scripted {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
        })
    }

    /// Lets every call through from now on.
    pub(crate) fn open(&self) {
        self.gate.add_permits(1_000_000);
    }

    /// Waits until so many calls have begun.
    pub(crate) async fn begun(&self, calls: usize) {
        until(|| self.begun.load(Ordering::SeqCst) >= calls).await;
    }
}

struct Dropped<'a>(Option<&'a AtomicUsize>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.0 {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Engine for Scripted {
    async fn perform(&self, call: Call) -> Result<Performed, EngineError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut dropped = Dropped(Some(&self.dropped));
        let permit = self.gate.acquire().await;
        permit.expect("the gate stays open").forget();
        dropped.0 = None;
        let CallInput::Text(text) = &call.input else {
            return Err(EngineError::new(
                Code::UnsupportedMediaType,
                "a text is needed",
            ));
        };
        if let Some(name) = text.strip_prefix("fail:") {
            let code = Code::ALL.iter().copied().find(|code| code.name() == name);
            return Err(EngineError::new(code.expect("a code"), "as the test asked"));
        }
        Ok(Performed {
            answer: Answer::Sentiment(Sentiment {
                label: Mood::Neutral,
                score: 0.0,
                scores: SentimentScores {
                    positive: 0.0,
                    neutral: 1.0,
                    negative: 0.0,
                },
                sentences: Vec::new(),
            }),
            engine: "scripted".to_owned(),
        })
    }
}

/// An engine of the task `detect-language` that always answers at once.
struct Prompt;

#[async_trait]
impl Engine for Prompt {
    async fn perform(&self, _: Call) -> Result<Performed, EngineError> {
        Ok(Performed {
            answer: Answer::DetectLanguage(DetectedLanguage {
                language: "en".to_owned(),
                confidence: 1.0,
                alternatives: Vec::new(),
            }),
            engine: "prompt".to_owned(),
        })
    }
}

/// A running gateway without authentication, and what steers its engine. The services are `mood` (scripted) and `language`.
pub(crate) struct Scene {
    pub(crate) engine: Arc<Scripted>,
    pub(crate) client: Client,
    pub(crate) served: Served,
    pub(crate) folder: tempfile::TempDir,
}

impl Scene {
    /// Starts a gateway with these integrations.
    pub(crate) async fn start(integrations: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), integrations).await
    }

    /// The same in a folder that another gateway has used.
    pub(crate) async fn start_in(folder: tempfile::TempDir, integrations: &str) -> Self {
        Self::start_as(folder, "auth = \"none\"", integrations).await
    }

    /// A gateway that wants keys ([`Scene::key`] makes them), with these further lines in its section `server`.
    pub(crate) async fn start_keyed(server: &str, integrations: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_as(folder, server, integrations).await
    }

    /// The same with these lines in the section `server`.
    pub(crate) async fn start_as(
        folder: tempfile::TempDir,
        server: &str,
        integrations: &str,
    ) -> Self {
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{server}\n\
             [service.mood]\ntask = \"sentiment\"\n[service.language]\ntask = \"detect-language\"\n{integrations}"
        );
        let nothing = |reference: Reference<'_>| match reference {
            Reference::Env("WEBHOOK_SECRET") => Ok(WEBHOOK_SECRET.to_owned()),
            _ => Err("nothing is referred to".to_owned()),
        };
        let config =
            Config::parse(&toml, "test.toml", &nothing).unwrap_or_else(|faults| panic!("{faults}"));
        let engine = Scripted::new();
        let engines = Engines::of(vec![
            (Task::Sentiment, engine.clone() as Arc<dyn Engine>),
            (Task::DetectLanguage, Arc::new(Prompt)),
        ]);
        let served = Served::start_with(config, folder.path(), engines)
            .await
            .expect("the gateway starts");
        let client = Client::new(&format!("http://{}", served.address), "");
        Self {
            engine,
            client,
            served,
            folder,
        }
    }

    /// Makes a key.
    pub(crate) async fn key(&self, name: &str, scopes: &[&str]) -> String {
        let key = ApiKey::generate().expect("random bytes");
        let record = KeyRecord {
            id: key.id.clone(),
            name: name.to_owned(),
            hash: self
                .served
                .gateway
                .auth
                .hash(&key.secret)
                .expect("keys are looked at"),
            sealed: None,
            scopes: serde_json::json!(scopes).to_string(),
            rate: None,
            created: Timestamp::now(),
            expires: None,
            revoked: None,
        };
        let store = &self.served.gateway.store;
        assert!(
            store
                .insert_key(record, Actor::default())
                .await
                .expect("it is stored")
        );
        key.reveal()
    }

    /// A client with a key.
    pub(crate) fn with_key(&self, key: &str) -> Client {
        Client::new(&self.url(), key)
    }

    /// Where the gateway is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.served.address)
    }

    /// Stops the gateway; gives its folder back.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.engine.open();
        self.served.stop().await;
        self.folder
    }
}

/// Waits until a condition holds; fails the test after a minute.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("the condition holds in time");
}
