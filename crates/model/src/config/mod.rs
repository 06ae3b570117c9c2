//! `linkspan.toml`, checked: one file is the whole gateway.
//!
//! [`Config::parse`] takes the file's text and finds every fault at once. The sections and keys stand in `sections.rs`, a line a
//! key; the checks, the defaults, [`schema`], [`reference`] and [`annotated_example`] all come from these lines.
//!
//! Paths are kept as they stand in the file. They are relative to the folder of the file; whoever opens them joins the two.

mod check;
pub mod deliver;
mod describe;
mod example;
mod fault;
mod forms;
mod kind;
mod lines;
mod name;
mod outside;
mod reader;
mod reference;
mod schema;
mod secret;
mod sections;
mod setting;
mod store;
pub mod stream;
mod text;
mod tree;
mod units;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lines::Lines;
use reader::Reader;
use setting::Setting;

pub use deliver::Deliver;
pub use example::annotated_example;
pub use fault::{Fault, Faults};
pub use name::{
    BadName, ChannelName, ClusterName, IntegrationName, MAX_NAME, ReplicationName, ServiceName,
};
pub use outside::{Grants, Headers, HttpUrl, Issuer, Jq, Mailboxes, StatusRange};
pub use reference::reference;
pub use schema::schema;
pub use secret::{Reference, Resolve, Secret};
pub use sections::{
    Backoff, Console, Integration, Limits, Oidc, Outbound, S3, Server, Service, Smtp, Store, Tls,
    Worker,
};
pub use setting::Options;
pub use store::{BlobStore, JobStore, PostgresUrl};
pub use stream::{KafkaCluster, Replication, Source, Streams};
pub use units::{Size, format_duration, parse_duration, parse_size};
pub use words::{
    Auth, EmailContent, Engine, FileFormat, LogFormat, Method, Origin, Overflow, Pattern, Shape,
    SmtpTls,
};

use crate::Task;
use crate::task::Takes;

/// The tasks that have a built-in engine in this release.
pub const BUILTIN_TASKS: [Task; 4] = [
    Task::ExtractText,
    Task::ProofOfIdentity,
    Task::DetectLanguage,
    Task::Sentiment,
];

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[store]`.
    pub store: Store,
    /// `[worker]`.
    pub worker: Worker,
    /// `[limits]`.
    pub limits: Limits,
    /// `[outbound]`.
    pub outbound: Outbound,
    /// `[console]`.
    pub console: Console,
    /// `[email]`.
    pub email: Option<Smtp>,
    /// `[streams]`.
    pub streams: Streams,
    /// `[kafka.NAME]`.
    pub kafka: BTreeMap<ClusterName, KafkaCluster>,
    /// `[replicate.NAME]`. Its clusters are there.
    pub replications: BTreeMap<ReplicationName, Replication>,
    /// `[service.NAME]`.
    pub services: BTreeMap<ServiceName, Service>,
    /// `[integration.NAME]`. Each step names a service, and each has its input.
    pub integrations: BTreeMap<IntegrationName, Integration>,
    /// What is allowed and yet probably not meant, by line.
    pub warnings: Vec<Fault>,
    lines: Lines,
}

impl Config {
    /// Reads and checks a file. `file` names it in faults; `resolve` fetches what its references refer to.
    ///
    /// # Errors
    ///
    /// Every fault of the file, by line.
    pub fn parse(text: &str, file: &str, resolve: &dyn Resolve) -> Result<Self, Faults> {
        let file: Arc<str> = file.into();
        let (root, broken) = tree::parse(text);
        let whole = broken.is_empty();
        let mut reader = Reader::new(Arc::clone(&file), resolve, whole);
        let sections = sections::Sections::read(&root, &mut reader);
        let mut faults = reader.into_faults();
        let lines = Lines::of(Arc::clone(&file), &root);
        if whole {
            if let Some(sections) = &sections {
                let more = check::check(sections, &lines, &faults);
                faults.extend(more);
            }
        } else {
            // A line that is not TOML was read as well as it could be: what else is wrong with it is not its writer's fault.
            faults.retain(|fault| broken.iter().all(|(line, _)| *line != fault.line));
            faults.extend(broken.into_iter().map(|(line, message)| Fault {
                file: Arc::clone(&file),
                line,
                key: String::new(),
                message,
            }));
        }
        Faults::check(faults)?;
        let Some(sections) = sections else {
            // A section is absent only after a fault; were it otherwise, this must not pass for a checked file.
            return Err(Faults::of(lines.fault("", "cannot be read")));
        };
        let mut warnings = check::warnings(&sections, &lines);
        fault::sort(&mut warnings);
        Ok(Self {
            server: sections.server,
            store: sections.store,
            worker: sections.worker,
            limits: sections.limits,
            outbound: sections.outbound,
            console: sections.console,
            email: sections.email,
            streams: sections.streams,
            kafka: sections.kafka,
            replications: sections.replicate,
            services: sections.service,
            integrations: sections.integration,
            warnings,
            lines,
        })
    }

    /// A fault of a key, `service.mood.options.languages`, with its line: for what only the caller can check. Join them by
    /// [`Faults::check`].
    #[must_use]
    pub fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        self.lines.fault(key, message)
    }

    /// Checks the address on which the gateway listens against the ways in which it is secured: for an address that did not come
    /// from the file.
    ///
    /// # Errors
    ///
    /// Sentences that say how to do it right.
    pub fn check_listen(&self) -> Result<(), String> {
        let faults = check::exposure(&self.server, &self.lines);
        if faults.is_empty() {
            return Ok(());
        }
        let sentences: Vec<_> = faults.into_iter().map(|fault| fault.message).collect();
        Err(sentences.join("; "))
    }

    /// The services of an integration's steps, in order.
    pub fn steps<'c>(
        &'c self,
        integration: &'c Integration,
    ) -> impl Iterator<Item = (&'c ServiceName, &'c Service)> {
        integration
            .steps
            .iter()
            .filter_map(|name| self.services.get_key_value(name))
    }

    /// The Kafka cluster that is meant: the named one, or the only one.
    #[must_use]
    pub fn cluster(&self, named: Option<&ClusterName>) -> Option<(&ClusterName, &KafkaCluster)> {
        match named {
            Some(name) => self.kafka.get_key_value(name),
            None => self.kafka.iter().next(),
        }
    }

    /// Whether the gateway answers the Kinesis API for streams of its own.
    #[must_use]
    pub fn has_own_streams(&self) -> bool {
        use deliver::Channel;
        use stream::Stream;
        let uses = |integration: &Integration| {
            let source = integration.source.as_ref().map(|source| &source.stream);
            let reads = integration.pattern.reads_stream()
                && matches!(source, Some(Stream::KinesisSource(own)) if own.aws.is_none());
            reads
                || integration
                    .deliver
                    .iter()
                    .any(|item| matches!(&item.channel, Channel::Kinesis(own) if own.aws.is_none()))
        };
        self.streams
            .enabled
            .unwrap_or_else(|| self.integrations.values().any(uses))
    }

    /// What a request to an integration brings: a document, or a text where every step takes a text.
    #[must_use]
    pub fn takes(&self, integration: &Integration) -> Takes {
        let tasks: Vec<_> = self
            .steps(integration)
            .map(|(_, service)| service.task)
            .collect();
        check::request_of(&tasks).unwrap_or(Takes::Document)
    }

    /// The largest body that an integration takes.
    #[must_use]
    pub fn max_body(&self, integration: &Integration) -> Size {
        integration.max_body.unwrap_or(self.server.max_body)
    }

    /// How long an integration's documents and results are kept after a job's end.
    #[must_use]
    pub fn retention(&self, integration: &Integration) -> Duration {
        integration.retention.unwrap_or(self.store.retention)
    }
}
