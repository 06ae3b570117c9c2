//! The sources, by what a configuration's `source` says.

use linkspan_model::config::stream::Stream;
use linkspan_model::config::{self, Config};

/// A source's name, the same at each start: the kind, where it is, and what is read.
pub(super) fn name(source: &config::Source, config: &Config) -> String {
    match &source.stream {
        Stream::KafkaSource(kafka) => {
            let cluster = config.cluster(kafka.cluster.as_ref());
            let cluster = cluster.map_or("", |(name, _)| name.as_str());
            format!("kafka:{cluster}:{}", kafka.kafka)
        }
        Stream::KinesisSource(kinesis) => match &kinesis.aws {
            Some(aws) => format!("kinesis:{}:{}", aws.region, kinesis.kinesis),
            None => format!("kinesis:own:{}", kinesis.kinesis),
        },
    }
}
