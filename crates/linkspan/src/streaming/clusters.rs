//! The Kafka clusters of a configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use linkspan_model::config::deliver::Channel;
use linkspan_model::config::stream::SaslMechanism;
use linkspan_model::config::{ClusterName, Config, Fault, KafkaCluster, Pattern};
use linkspan_streams::kafka::{Cluster, KafkaError, Mechanism, Sasl, Sender, Tls};
use serde_json::Value;

/// The clusters of a configuration, each with the one producer that all channels to it share. Calls nobody before it is used.
#[derive(Clone, Debug, Default)]
pub struct Clusters(Arc<BTreeMap<ClusterName, Arc<Sender>>>);

impl Clusters {
    /// The clusters of a configuration; those that [`check_clusters`] finds fault with are left out.
    #[must_use]
    pub fn of(config: &Config, folder: &Path) -> Self {
        let opened = config.kafka.iter().filter_map(|(name, given)| {
            let cluster = cluster(given, folder).ok()?;
            let sender = Sender::new(cluster, patience(config, name));
            Some((name.clone(), Arc::new(sender)))
        });
        Self(Arc::new(opened.collect()))
    }

    /// The named cluster, or the only one.
    #[must_use]
    pub fn get(&self, named: Option<&ClusterName>) -> Option<(&ClusterName, &Arc<Sender>)> {
        match named {
            Some(name) => self.0.get_key_value(name),
            None => self.0.iter().next(),
        }
    }

    /// Ends the producers. Nothing may be on its way any more.
    pub async fn close(&self) {
        for sender in self.0.values() {
            sender.close().await;
        }
    }
}

/// How long a producer tries to write a record: a little less than the shortest attempt of a delivery, so that the attempt knows how it
/// ended.
fn patience(config: &Config, cluster: &ClusterName) -> Duration {
    let integrations = config.integrations.values();
    let items = integrations
        .filter(|integration| integration.pattern != Pattern::FullStream)
        .flat_map(|integration| &integration.deliver);
    let timeouts = items.filter_map(|item| match &item.channel {
        Channel::Kafka(kafka) if config.cluster(kafka.cluster.as_ref())?.0 == cluster => {
            Some(item.common.timeout)
        }
        _ => None,
    });
    timeouts
        .min()
        .unwrap_or(Duration::from_secs(15))
        .mul_f64(0.8)
}

/// What is wrong with the clusters of a configuration, as far as that shows without calling anybody.
#[must_use]
pub fn check_clusters(config: &Config, folder: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, given) in &config.kafka {
        let at = format!("kafka.{name}");
        if let Err(error) = cluster(given, folder) {
            // The error names a property; a password that would be seen is the login's fault.
            let names = given.properties.as_map().keys();
            let of_property = names
                .into_iter()
                .any(|property| error.attempted.contains(property.as_str()));
            let key = match (of_property, &given.sasl) {
                (false, Some(_)) => format!("{at}.sasl"),
                (true, _) => format!("{at}.properties"),
                _ => at.clone(),
            };
            faults.push(config.fault(&key, error.attempted));
        }
        let Some(tls) = &given.tls else { continue };
        let files = [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)];
        for (key, path) in files {
            if let Some(path) = path
                && let Err(error) = std::fs::File::open(folder.join(path))
            {
                let message = format!("cannot read {}: {error}", path.display());
                faults.push(config.fault(&format!("{at}.tls.{key}"), message));
            }
        }
    }
    faults
}

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

#[cfg(test)]
mod tests {
    use linkspan_model::config::Reference;

    use super::*;

    #[test]
    fn what_cannot_be_used_is_told_at_its_key_and_without_its_value() {
        for (given, expected) in [
            ("", None),
            ("properties = { \"client.rack\" = \"a\" }", None),
            (
                "properties = { \"isolation.level\" = \"s3cret\" }",
                Some("linkspan.toml:3: kafka.estate.properties: the property isolation.level"),
            ),
            (
                "properties = { \"no.such.thing\" = \"s3cret\" }",
                Some(
                    "linkspan.toml:3: kafka.estate.properties: librdkafka does not take the property no.such.thing",
                ),
            ),
            (
                "sasl = { mechanism = \"plain\", username = \"mira\", password = \"${env:s3cret}\" }",
                Some("linkspan.toml:3: kafka.estate.sasl: SASL PLAIN without TLS"),
            ),
            (
                "tls = { ca = \"no/such.pem\" }",
                Some("linkspan.toml:3: kafka.estate.tls.ca: cannot read no/such.pem"),
            ),
        ] {
            let toml = format!("[kafka.estate]\nbrokers = \"127.0.0.1:1\"\n{given}\n");
            let itself = |reference: Reference<'_>| match reference {
                Reference::Env(name) => Ok(name.to_owned()),
                Reference::File(_) => Err("no files here".to_owned()),
            };
            let config = Config::parse(&toml, "linkspan.toml", &itself).unwrap();
            let faults = check_clusters(&config, Path::new("."));
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            match expected {
                None => assert_eq!(faults, Vec::<String>::new(), "{given}"),
                Some(expected) => {
                    assert!(
                        faults.len() == 1 && faults[0].starts_with(expected),
                        "{faults:?}"
                    );
                }
            }
            assert!(!faults.concat().contains("s3cret"), "{faults:?}");
        }
    }
}
