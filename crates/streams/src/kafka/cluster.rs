//! How a cluster is reached.

use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::error::{ErrorKind, KafkaError};

/// How a cluster is reached: Apache Kafka, MSK, Redpanda.
#[derive(Clone)]
pub struct Cluster {
    brokers: String,
    tls: Option<Tls>,
    sasl: Option<Sasl>,
    properties: Vec<(String, String)>,
}

/// TLS to the brokers.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM of the authorities that are trusted; none: those of the system.
    pub ca: Option<PathBuf>,
    /// PEM of our own certificate, where the brokers want one.
    pub certificate: Option<PathBuf>,
    /// PEM of its key.
    pub key: Option<PathBuf>,
}

/// A login by user and password.
#[derive(Clone)]
pub struct Sasl {
    /// How the password is shown.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// The mechanisms that need nothing but a user and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616: the password itself. Refused without TLS.
    Plain,
    /// RFC 7677: a proof that the password is known.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

/// Properties that what we promise rests on: no setting changes them.
const OURS: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "partition.assignment.strategy",
    "isolation.level",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "transactional.id",
    "transaction.timeout.ms",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "acks",
    "request.required.acks",
    "delivery.report.only.error",
];

impl Cluster {
    /// The cluster that those brokers (`host:port, …`) lead to. `properties` are librdkafka's, beside ours.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`], with what is wrong: a property that is ours to set, or that librdkafka does not know, or whose value it
    /// does not take; a password that would go over the wire in clear text.
    pub fn new(
        brokers: &str,
        tls: Option<Tls>,
        sasl: Option<Sasl>,
        properties: Vec<(String, String)>,
    ) -> Result<Self, KafkaError> {
        let wrong = |what: String| Err(KafkaError::of_kind(what, ErrorKind::Settings));
        if let Some((name, _)) = properties
            .iter()
            .find(|(name, _)| OURS.contains(&name.trim()))
        {
            return wrong(format!(
                "the property {name} is set by linkspan itself; leave it out"
            ));
        }
        if tls.is_none()
            && sasl
                .as_ref()
                .is_some_and(|sasl| sasl.mechanism == Mechanism::Plain)
        {
            return wrong(
                "SASL PLAIN without TLS shows the password to the network; set tls, or use SCRAM"
                    .to_owned(),
            );
        }
        let cluster = Self {
            brokers: brokers.to_owned(),
            tls,
            sasl,
            properties,
        };
        // Of a wrong property librdkafka tells the name and the value. The value can be a secret.
        if let Err(fault) = cluster.client().create_native_config() {
            let what = match fault {
                rdkafka::error::KafkaError::ClientConfig(_, _, name, _) => {
                    format!("librdkafka does not take the property {name}, or its value")
                }
                _ => "librdkafka does not take the properties".to_owned(),
            };
            return wrong(what);
        }
        Ok(cluster)
    }

    /// The brokers, as they were given.
    #[must_use]
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// What every client of the cluster is made with.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.properties {
            config.set(name.trim(), value);
        }
        config.set("bootstrap.servers", &self.brokers);
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            let mut path = |name: &str, path: &Option<PathBuf>| {
                if let Some(path) = path {
                    config.set(name, path.to_string_lossy());
                }
            };
            path("ssl.certificate.location", &tls.certificate);
            path("ssl.key.location", &tls.key);
            match &tls.ca {
                Some(ca) => config.set("ssl.ca.location", ca.to_string_lossy()),
                None => config.set("ssl.ca.location", "probe"),
            };
        }
        if let Some(sasl) = &self.sasl {
            config.set("sasl.mechanism", sasl.mechanism.name());
            config.set("sasl.username", &sasl.user);
            config.set("sasl.password", &sasl.password);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }
}

impl Mechanism {
    /// The name as SASL has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("Cluster")
            .field("brokers", &self.brokers)
            .field("tls", &self.tls)
            .field("sasl", &self.sasl)
            .field("properties", &names)
            .finish()
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

/// librdkafka's own words, for the log. Addresses, topics and codes stand in them; no content of a record.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
        _ => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(properties: &[(&str, &str)]) -> Result<Cluster, KafkaError> {
        let properties = properties.iter();
        let properties = properties.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Cluster::new("127.0.0.1:1", None, None, properties.collect())
    }

    fn login(mechanism: Mechanism) -> Sasl {
        Sasl {
            mechanism,
            user: "mira".to_owned(),
            password: "s3cret-word".to_owned(),
        }
    }

    #[test]
    fn a_property_that_the_promises_rest_on_is_refused() {
        for name in ["isolation.level", "acks", "enable.auto.commit", " group.id"] {
            let fault = with(&[(name, "1")]).expect_err(name);
            assert_eq!(fault.kind, ErrorKind::Settings);
            assert!(fault.to_string().contains(name), "{fault}");
        }
    }

    #[test]
    fn a_wrong_property_is_named_without_its_value() {
        for (name, value) in [
            ("no.such.property", "s3cret"),
            ("socket.timeout.ms", "s3cret"),
        ] {
            let fault = with(&[(name, value)]).expect_err(name);
            assert!(fault.to_string().contains(name), "{fault}");
            assert!(!format!("{fault} {fault:?}").contains("s3cret"));
        }
        assert!(with(&[("socket.timeout.ms", "20000")]).is_ok());
    }

    #[test]
    fn a_password_never_goes_over_an_open_wire() {
        let plain = |tls| Cluster::new("h:1", tls, Some(login(Mechanism::Plain)), Vec::new());
        assert!(plain(None).is_err());
        assert!(plain(Some(Tls::default())).is_ok());
    }

    #[test]
    fn librdkafka_knows_every_mechanism() {
        for mechanism in [
            Mechanism::Plain,
            Mechanism::ScramSha256,
            Mechanism::ScramSha512,
        ] {
            let cluster = Cluster::new(
                "h:1",
                Some(Tls::default()),
                Some(login(mechanism)),
                Vec::new(),
            )
            .expect("a cluster");
            let client: Result<rdkafka::consumer::BaseConsumer, _> = cluster.client().create();
            assert!(client.is_ok(), "{mechanism:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let properties = vec![("ssl.key.password".to_owned(), "s3cret-key".to_owned())];
        let sasl = Some(login(Mechanism::ScramSha512));
        let cluster = Cluster::new("h:1", None, sasl, properties).expect("a cluster");
        let text = format!("{cluster:?}");
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("ssl.key.password"));
    }
}
