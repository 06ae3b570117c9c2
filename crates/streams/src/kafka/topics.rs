//! Topics: whether they are there, what they take, and making them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};

use super::cluster::{self, Cluster};
use super::error::{ErrorKind, KafkaError};
use super::takes::Takes;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked whether a new topic is known everywhere.
const PAUSE: Duration = Duration::from_millis(50);

/// The properties that a topic made [like](Topics::make_like) another one takes over, where they were set there.
const TAKEN_OVER: &[&str] = &["retention.ms", "retention.bytes", "max.message.bytes"];

/// What is asked of a cluster about its topics. Asking never makes a topic.
#[derive(Clone)]
pub struct Topics {
    brokers: String,
    clients: Arc<Clients>,
}

/// A topic, as its cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// What it takes of a record. Where the cluster does not show us its properties, what is usual.
    pub takes: Takes,
    /// Those of its properties that a topic made like it takes over.
    taken_over: Vec<(String, String)>,
}

struct Clients {
    /// A consumer asks: a producer's question makes a topic where the brokers allow that.
    asks: Option<BaseConsumer<Quiet>>,
    makes: Option<AdminClient<Quiet>>,
}

/// librdkafka's words go to the log.
struct Quiet;

impl Topics {
    /// The topics of a cluster. Calls nobody.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`].
    pub fn open(cluster: &Cluster) -> Result<Self, KafkaError> {
        let client = cluster.client();
        let failed = |fault| KafkaError::new(format!("reach {}", cluster.brokers()), fault);
        let asks = client.create_with_context(Quiet).map_err(failed)?;
        let makes = client.create_with_context(Quiet).map_err(failed)?;
        Ok(Self {
            brokers: cluster.brokers().to_owned(),
            clients: Arc::new(Clients {
                asks: Some(asks),
                makes: Some(makes),
            }),
        })
    }

    /// A topic; none where it is not there.
    ///
    /// # Errors
    ///
    /// By kind: the cluster does not answer, or does not show us the topic.
    pub async fn find(&self, name: &str) -> Result<Option<Topic>, KafkaError> {
        let Some(partitions) = self.partitions(name).await? else {
            return Ok(None);
        };
        let properties = self.properties(name).await;
        let property = |name: &str| {
            let found = properties.iter().find(|(property, ..)| property == name);
            found.map(|(_, value, _)| value.as_str())
        };
        Ok(Some(Topic {
            name: name.to_owned(),
            partitions,
            takes: Takes::of(property),
            taken_over: properties
                .into_iter()
                .filter(|(name, _, own)| *own && TAKEN_OVER.contains(&name.as_str()))
                .map(|(name, value, _)| (name, value))
                .collect(),
        }))
    }

    /// Makes a topic with the partitions, the retention and the largest record of another one, and as many replicas as is usual on the
    /// cluster. Gives it when the cluster knows it. One that is there meanwhile is given as it is.
    ///
    /// # Errors
    ///
    /// By kind; [`ErrorKind::Refused`] where we may not make topics.
    pub async fn make_like(&self, name: &str, other: &Topic) -> Result<Topic, KafkaError> {
        let attempted = || format!("make the topic {name} on {}", self.brokers);
        // The brokers' default, by KIP-464.
        let mut new = NewTopic::new(name, other.partitions, TopicReplication::Fixed(-1));
        for (property, value) in &other.taken_over {
            new = new.set(property, value);
        }
        let options = AdminOptions::new()
            .request_timeout(Some(PATIENCE))
            .operation_timeout(Some(PATIENCE));
        let made = self.clients.makes()?.create_topics([&new], &options).await;
        let made = made.map_err(|fault| KafkaError::new(attempted(), fault))?;
        for result in made {
            match result {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((_, code)) => {
                    return Err(KafkaError::new(attempted(), Native::AdminOp(code)));
                }
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(topic) = self.find(name).await? {
                return Ok(topic);
            }
            if Instant::now() >= end {
                return Err(KafkaError::of_kind(attempted(), ErrorKind::Unreachable));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn partitions(&self, name: &str) -> Result<Option<i32>, KafkaError> {
        let attempted = format!("look for the topic {name} on {}", self.brokers);
        let (clients, name) = (self.clients.clone(), name.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = clients
                .asks()?
                .fetch_metadata(Some(&name), PATIENCE)
                .map_err(|fault| KafkaError::new(attempted.clone(), fault))?;
            let topics = metadata.topics().iter();
            let Some(found) = topics.into_iter().find(|found| found.name() == name) else {
                return Ok(None);
            };
            match found.error().map(Code::from) {
                Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => Ok(None),
                Some(code) => Err(KafkaError::new(attempted, Native::MetadataFetch(code))),
                None if found.partitions().is_empty() => Ok(None),
                None => Ok(Some(
                    i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
                )),
            }
        });
        asked.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The properties of a topic, with whether they were set for it. Who may not see them gets none: they are a help, not a need.
    async fn properties(&self, name: &str) -> Vec<(String, String, bool)> {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let Ok(admin) = self.clients.makes() else {
            return Vec::new();
        };
        let resource = ResourceSpecifier::Topic(name);
        let described = admin.describe_configs([&resource], &options);
        let described = match described.await {
            Ok(described) => described,
            Err(error) => {
                tracing::debug!(topic = name, %error, "the topic's properties cannot be seen");
                return Vec::new();
            }
        };
        let resources = described.into_iter().filter_map(Result::ok);
        let entries = resources.flat_map(|resource| resource.entries);
        entries
            .filter_map(|entry| {
                let own = entry.source == ConfigSource::DynamicTopic;
                Some((entry.name, entry.value?, own))
            })
            .collect()
    }
}

impl Clients {
    fn asks(&self) -> Result<&BaseConsumer<Quiet>, KafkaError> {
        self.asks.as_ref().ok_or_else(ended)
    }

    fn makes(&self) -> Result<&AdminClient<Quiet>, KafkaError> {
        self.makes.as_ref().ok_or_else(ended)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // It can take a second.
        let clients = (self.asks.take(), self.makes.take());
        let _ = std::thread::Builder::new()
            .name("kafka-drop".to_owned())
            .spawn(move || drop(clients));
    }
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        cluster::log(level, facility, message);
    }

    fn error(&self, error: Native, _: &str) {
        tracing::debug!(%error, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Topics").field(&self.brokers).finish()
    }
}

fn ended() -> KafkaError {
    KafkaError::of_kind("ask for topics while the gateway stops", ErrorKind::Other)
}
