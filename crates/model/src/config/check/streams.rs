//! What sources, clusters, channels of streams and replications must be to each other.

use super::super::deliver::{Channel, Deliver};
use super::super::fault::Fault;
use super::super::lines::Lines;
use super::super::name::ClusterName;
use super::super::reader::nearest;
use super::super::sections::Sections;
use super::super::store::JobStore;
use super::super::stream::{Aws, Replication, Source, Stream, Topic, Wrapping};
use super::super::words::Pattern;
use super::super::{Integration, IntegrationName, ReplicationName};

/// The cluster that is meant: the named one, or the only one.
///
/// # Errors
///
/// A sentence.
fn cluster<'s>(
    named: Option<&'s ClusterName>,
    sections: &'s Sections,
) -> Result<&'s ClusterName, String> {
    let mut all = sections.kafka.keys();
    match (named, all.next(), all.next()) {
        (Some(name), _, _) if sections.kafka.contains_key(name) => Ok(name),
        (Some(name), _, _) => {
            let known = sections.kafka.keys().map(ClusterName::as_str);
            Err(match nearest(name.as_str(), known) {
                Some(near) => {
                    format!("there is no Kafka cluster \"{name}\"; did you mean \"{near}\"?")
                }
                None => format!(
                    "there is no Kafka cluster \"{name}\": declare [kafka.{name}] with its brokers"
                ),
            })
        }
        (None, Some(only), None) => Ok(only),
        (None, None, _) => {
            Err("needs a Kafka cluster: declare [kafka.NAME] with its brokers".to_owned())
        }
        (None, Some(_), Some(_)) => {
            Err("there are several Kafka clusters: name one in cluster".to_owned())
        }
    }
}

/// An integration's source, and the channels that lead to streams.
pub(super) fn integration(
    name: &IntegrationName,
    integration: &Integration,
    sections: &Sections,
    lines: &Lines,
) -> Vec<Fault> {
    let at = |key: &str| format!("integration.{name}.{key}");
    let mut faults = Vec::new();
    let streams = matches!(integration.pattern, Pattern::StreamIn | Pattern::FullStream);
    if streams && integration.source.is_none() && !lines.has(&at("source")) {
        let message = format!(
            "\"{}\" reads records: say where from, such as source = {{ {} }}",
            integration.pattern,
            if integration.pattern == Pattern::FullStream {
                "kafka = \"TOPIC\""
            } else {
                "kinesis = \"STREAM\""
            }
        );
        faults.push(lines.fault(&at("pattern"), message));
    }
    let from = integration
        .source
        .as_ref()
        .and_then(|it| source(&at("source"), it, sections, lines, &mut faults));
    let exactly_once = integration.pattern == Pattern::FullStream;
    if exactly_once {
        faults.extend(full_stream(name, integration, lines));
    }
    for (nth, deliver) in integration.deliver.iter().enumerate() {
        let at = format!("integration.{name}.deliver[{nth}]");
        match &deliver.channel {
            Channel::Kafka(kafka) => {
                let default = from.filter(|_| exactly_once);
                let found = match (&kafka.cluster, default) {
                    (None, Some(from)) => Ok(from),
                    (named, _) => cluster(named.as_ref(), sections),
                };
                match (found, default) {
                    (Err(why), _) => faults.push(lines.fault(&key_or(&at, "cluster", lines), why)),
                    (Ok(to), Some(from)) if to != from => {
                        let message = format!(
                            "the records come from the cluster \"{from}\", and one transaction cannot span two clusters: deliver to \
                             a topic of \"{from}\" and copy it by [replicate.NAME], or use pattern = \"stream-in\""
                        );
                        faults.push(lines.fault(&format!("{at}.cluster"), message));
                    }
                    (Ok(to), _) if from == Some(to) && reads(integration, kafka.kafka.as_str()) => {
                        let message = "the records come from this topic: the integration would read its own results again, for ever";
                        faults.push(lines.fault(&format!("{at}.kafka"), message));
                    }
                    _ => {}
                }
            }
            Channel::Kinesis(kinesis) => match &kinesis.aws {
                Some(aws) => credentials(&format!("{at}.aws"), aws, lines, &mut faults),
                None if sections.streams.enabled == Some(false) => {
                    let message = "the gateway's own streams are off (streams.enabled): say in aws where Amazon's are";
                    faults.push(lines.fault(&format!("{at}.kinesis"), message));
                }
                None => {}
            },
            _ => {}
        }
    }
    faults
}

/// Whether an integration reads that Kafka topic.
fn reads(integration: &Integration, topic: &str) -> bool {
    let source = integration.source.as_ref().map(|source| &source.stream);
    matches!(source, Some(Stream::KafkaSource(kafka)) if kafka.kafka.as_str() == topic)
}

/// The key within a table, where it stands there; else the table.
fn key_or(at: &str, key: &str, lines: &Lines) -> String {
    let key = format!("{at}.{key}");
    if lines.has(&key) { key } else { at.to_owned() }
}

/// Checks a source; gives the cluster that it is on.
fn source<'s>(
    at: &str,
    source: &'s Source,
    sections: &'s Sections,
    lines: &Lines,
    faults: &mut Vec<Fault>,
) -> Option<&'s ClusterName> {
    match &source.stream {
        Stream::KafkaSource(kafka) => match cluster(kafka.cluster.as_ref(), sections) {
            Ok(name) => return Some(name),
            Err(why) => faults.push(lines.fault(&key_or(at, "cluster", lines), why)),
        },
        Stream::KinesisSource(kinesis) => match &kinesis.aws {
            Some(aws) => credentials(&format!("{at}.aws"), aws, lines, faults),
            None if sections.streams.enabled == Some(false) => {
                let message = "the gateway's own streams are off (streams.enabled): say in aws where Amazon's are";
                faults.push(lines.fault(&format!("{at}.kinesis"), message));
            }
            None => {}
        },
    }
    None
}

/// What a transaction can hold: topics of the cluster from which the records come.
fn full_stream(name: &IntegrationName, integration: &Integration, lines: &Lines) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(Source {
        stream: Stream::KinesisSource(_),
        ..
    }) = &integration.source
    {
        let message = "results and progress are one Kafka transaction with \"full-stream\": read a Kafka topic, or use pattern = \"stream-in\"";
        faults.push(lines.fault(&format!("integration.{name}.source"), message));
    }
    if let Some(source) = &integration.source {
        faults.extend(full_stream_source(
            &format!("integration.{name}.source"),
            source,
            lines,
        ));
    }
    let to_kafka = |deliver: &Deliver| matches!(deliver.channel, Channel::Kafka(_));
    if !integration.deliver.iter().any(to_kafka) {
        let message = "\"full-stream\" writes its results to Kafka topics: add deliver = [{ kafka = \"TOPIC\" }]";
        faults.push(lines.fault(&format!("integration.{name}.deliver"), message));
    }
    for (nth, deliver) in integration.deliver.iter().enumerate() {
        if !to_kafka(deliver) {
            let message = format!(
                "a {} cannot be part of a Kafka transaction: use pattern = \"stream-in\", or read the output topic by another integration",
                deliver.channel.kind()
            );
            let key = format!("integration.{name}.deliver[{nth}]");
            faults.push(lines.fault(&key, message));
        }
    }
    faults
}

/// What a source must be, so that each record becomes one result or one dead letter.
fn full_stream_source(at: &str, source: &Source, lines: &Lines) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Stream::KafkaSource(kafka) = &source.stream {
        let dead = kafka.dead_letters();
        let key = key_or(at, "dead_letters", lines);
        if dead == kafka.kafka.as_str() {
            let message = "the records come from this topic: the integration would read its own dead letters again, for ever";
            faults.push(lines.fault(&key, message));
        }
        if dead.len() > Topic::LONGEST {
            let message = format!(
                "the topic of dead letters, \"{dead}\", is longer than {} characters: name another one in dead_letters",
                Topic::LONGEST
            );
            faults.push(lines.fault(&key, message));
        }
    }
    let splits =
        |wrapping: &&Wrapping| matches!(wrapping, Wrapping::Kpl | Wrapping::CloudWatchLogs);
    if let Some(wrapping) = source.common.unwrap.iter().find(splits) {
        let message = format!(
            "\"{wrapping}\" makes several records of one, and with \"full-stream\" each record is one result or one dead letter: use \
             pattern = \"stream-in\""
        );
        faults.push(lines.fault(&format!("{at}.unwrap"), message));
    }
    faults
}

/// Credentials that belong together, and go nowhere in clear text.
fn credentials(at: &str, aws: &Aws, lines: &Lines, faults: &mut Vec<Fault>) {
    if aws.access_key_id.is_some() != aws.secret_access_key.is_some() {
        let message = "access_key_id and secret_access_key belong together: give both, or neither to take them from the environment";
        faults.push(lines.fault(at, message));
    }
    if let Some(endpoint) = &aws.endpoint
        && endpoint.reveal().scheme() == "http"
        && !endpoint.is_loopback()
    {
        let message =
            "records would go there unencrypted: use https, or an address of this machine";
        faults.push(lines.fault(&format!("{at}.endpoint"), message));
    }
}

/// A replication's clusters and names.
pub(super) fn replication(
    name: &ReplicationName,
    replication: &Replication,
    sections: &Sections,
    lines: &Lines,
) -> Vec<Fault> {
    let at = |key: &str| format!("replicate.{name}.{key}");
    let mut faults = Vec::new();
    for (key, named) in [("from", &replication.from), ("to", &replication.to)] {
        if let Err(why) = cluster(Some(named), sections) {
            faults.push(lines.fault(&at(key), why));
        }
    }
    if replication.from == replication.to {
        let message = "a cluster is not copied to itself: name another one";
        faults.push(lines.fault(&at("to"), message));
    }
    if replication
        .topics
        .iter()
        .all(|topic| topic.starts_with('!'))
    {
        let message = "names no topic to copy: [\"*\"] copies all";
        faults.push(lines.fault(&at("topics"), message));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if let Some(prefix) = &replication.prefix
        && !(prefix.len() <= 100 && prefix.bytes().all(plain))
    {
        let message =
            "is part of topics' names: use up to 100 letters, digits, \".\", \"_\" and \"-\"";
        faults.push(lines.fault(&at("prefix"), message));
    }
    faults
}

/// What is allowed and yet probably not meant.
pub(super) fn warnings(sections: &Sections, lines: &Lines) -> Vec<Fault> {
    let mut warnings = Vec::new();
    for (name, integration) in &sections.integration {
        let own = matches!(
            &integration.source,
            Some(Source { stream: Stream::KinesisSource(kinesis), .. }) if kinesis.aws.is_none()
        );
        if own
            && integration.pattern == Pattern::StreamIn
            && matches!(sections.store.jobs, JobStore::Postgres(_))
        {
            let message = "the gateway's own streams are one gateway's: of several gateways on the same database each has its own; use \
                           Kafka or Amazon Kinesis for more than one";
            warnings.push(lines.fault(&format!("integration.{name}.source"), message));
        }
    }
    for (name, integration) in &sections.integration {
        if integration.pattern != Pattern::FullStream {
            continue;
        }
        for nth in 0..integration.deliver.len() {
            let at = format!("integration.{name}.deliver[{nth}]");
            let idle = ["retry", "concurrency", "rate_limit", "timeout"];
            let idle = idle.map(|key| format!("{at}.{key}"));
            warnings.extend(idle.iter().filter(|key| lines.has(key)).map(|key| {
                let message = "changes nothing with \"full-stream\": the message is part of its record's transaction";
                lines.fault(key, message)
            }));
        }
    }
    let used = |cluster: &ClusterName| {
        let integrations = sections.integration.values().any(|integration| {
            let of_source = matches!(
                &integration.source,
                Some(Source { stream: Stream::KafkaSource(kafka), .. })
                    if kafka.cluster.as_ref().is_none_or(|named| named == cluster)
            );
            of_source
                || integration.deliver.iter().any(|deliver| {
                    matches!(&deliver.channel, Channel::Kafka(kafka)
                        if kafka.cluster.as_ref().is_none_or(|named| named == cluster))
                })
        });
        integrations
            || sections
                .replicate
                .values()
                .any(|one| one.from == *cluster || one.to == *cluster)
    };
    let unused = sections.kafka.keys().filter(|cluster| !used(cluster));
    warnings.extend(
        unused.map(|cluster| lines.fault(&format!("kafka.{cluster}"), "nothing uses this cluster")),
    );
    warnings
}
