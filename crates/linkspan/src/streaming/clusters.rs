//! The Kafka clusters of a configuration.

use std::path::Path;

use linkspan_model::config::KafkaCluster;
use linkspan_model::config::stream::SaslMechanism;
use linkspan_streams::kafka::{Cluster, KafkaError, Mechanism, Sasl, Tls};
use serde_json::Value;

/// A cluster, as it is configured. `folder` is what the configuration's paths are relative to. Calls nobody.
///
/// # Errors
///
/// A property that librdkafka does not take, or that is ours to set; a password that would go over the wire in clear text.
pub fn cluster(given: &KafkaCluster, folder: &Path) -> Result<Cluster, KafkaError> {
    let join = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| folder.join(path));
    let tls = given.tls.as_ref().map(|tls| Tls {
        ca: join(&tls.ca),
        certificate: join(&tls.cert),
        key: join(&tls.key),
    });
    let sasl = given.sasl.as_ref().map(|sasl| Sasl {
        mechanism: match sasl.mechanism {
            SaslMechanism::Plain => Mechanism::Plain,
            SaslMechanism::ScramSha256 => Mechanism::ScramSha256,
            SaslMechanism::ScramSha512 => Mechanism::ScramSha512,
        },
        user: sasl.username.clone(),
        password: sasl.password.reveal().to_owned(),
    });
    let properties = given.properties.as_map().iter().map(|(name, value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (name.clone(), value)
    });
    Cluster::new(&given.brokers, tls, sasl, properties.collect())
}
