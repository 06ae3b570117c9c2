//! Streams: sources, Kafka clusters, the gateway's own Kinesis streams, replication between clusters.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::describe::{TABLE, choice, section};
use super::forms::{self, forms};
use super::kind::{Kind, TextKind};
use super::name::ClusterName;
use super::outside::{HttpUrl, Jq};
use super::reader::Reader;
use super::secret::Secret;
use super::setting::{Options, Setting};
use super::text::FromText;
use super::tree::Node;
use super::units::Size;

/// `source`: where an integration's records come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// What every source has.
    pub common: Reading,
    /// The stream.
    pub stream: Stream,
}

section! {
    /// How records are read, whatever the source.
    pub struct Reading {
        /// Where reading begins when nothing was read before.
        start: Start = "earliest";
        /// What producers wrap their records in, from the outermost.
        unwrap: Vec<Wrapping> = [], like r#"["gzip"]"#;
        /// A jq filter over the record's value as JSON that gives the text to work on. Absent: JSON with a `text` is taken as a call's
        /// body is, and everything else is the document itself, or the text.
        text: Option<Jq>, like r#"'.review.body'"#;
        /// The order in which results are given on.
        order: Order = "partition";
        /// The most records that were read and are not committed.
        in_flight: u32 = 1000, in 1 to 1000000;
        /// The most bytes of them.
        in_flight_size: Size = "64 MiB", in "1 MiB" to "64 GiB";
        /// How long the first record that is not done may hold up its partition: then it is a dead letter.
        deadline: Duration = "5m", in "100ms" to "1d";
        /// How long results are gathered for one commit.
        linger: Duration = "20ms", in "0s" to "10s";
    }
}

section! {
    /// A Kafka topic.
    pub struct KafkaSource {
        /// The topic.
        kafka: Topic, like r#""contracts.in""#;
        /// The cluster, `[kafka.NAME]`; absent: the only one.
        cluster: Option<ClusterName>, like r#""estate""#;
        /// The consumer group; absent: `linkspan.` and the integration's name.
        group: Option<String>, like r#""contracts""#;
        /// The topic of dead letters (`full-stream`); absent: the source's topic with `.dead` behind it.
        dead_letters: Option<Topic>, like r#""contracts.dead""#;
    }
}

impl KafkaSource {
    /// The topic of dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        match &self.dead_letters {
            Some(topic) => topic.to_string(),
            None => format!("{}.dead", self.kafka),
        }
    }
}

section! {
    /// A Kinesis stream: one of the gateway's own, which producers reach at the gateway's address, or one of Amazon's.
    pub struct KinesisSource {
        /// The stream. One of the gateway's own is made where it is not there.
        kinesis: StreamName, like r#""reviews""#;
        /// Where Amazon Kinesis is reached; absent: the gateway's own streams.
        aws: Option<Aws>, like r#"{ region = "eu-central-1" }"#;
        /// How many shards one of the gateway's own streams is made with.
        shards: u32 = 1, in 1 to 1000;
    }
}

forms! {
    /// A stream of records.
    pub enum Stream: "source", "give one", with Reading {
        /// A Kafka topic.
        KafkaSource = "kafka";
        /// A Kinesis stream.
        KinesisSource = "kinesis";
    }
}

impl Setting for Source {
    fn kind() -> Kind {
        forms::kind::<Stream>()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (common, stream) = forms::read::<Stream>(node, reader)?;
        Some(Self { common, stream })
    }
}

section! {
    /// How Amazon Kinesis, or a service that speaks its protocol, is reached.
    pub struct Aws {
        /// The region.
        region: String, like r#""eu-central-1""#;
        /// The service's address; absent: Amazon's in the region.
        endpoint: Option<HttpUrl>, like r#""https://kinesis.example.com""#;
        /// The access key's id; absent: the environment's `AWS_…` variables, the profile, web identity, or the instance's metadata, as
        /// the AWS tools do.
        access_key_id: Option<Secret>, like r#""${env:KINESIS_ACCESS_KEY_ID}""#;
        /// The access key's secret; given with `access_key_id` only.
        secret_access_key: Option<Secret>, like r#""${env:KINESIS_SECRET_ACCESS_KEY}""#;
    }
}

section! {
    /// A Kafka cluster.
    pub struct KafkaCluster {
        /// Some of its brokers, `HOST:PORT`, with commas between them.
        brokers: String, like r#""kafka-1.example.com:9092,kafka-2.example.com:9092""#;
        /// TLS to the brokers; `{}` trusts the system's authorities. Absent: none.
        tls: Option<KafkaTls>, like r#"{ ca = "tls/kafka-ca.pem" }"#;
        /// The login, by user and password.
        sasl: Option<KafkaSasl>, like r#"{ username = "linkspan", password = "${env:KAFKA_PASSWORD}" }"#;
        /// Other properties of librdkafka, by their names.
        properties: Options = TABLE, like r#"{ "client.rack" = "eu-central-1a" }"#;
    }
}

section! {
    /// TLS to Kafka's brokers.
    pub struct KafkaTls {
        /// Certificates of the authorities that are trusted, PEM; absent: the system's.
        ca: Option<PathBuf>, like r#""tls/kafka-ca.pem""#;
        /// The gateway's own certificate, PEM, where the brokers want one.
        cert: Option<PathBuf>, like r#""tls/kafka.pem""#;
        /// The certificate's private key, PEM.
        key: Option<PathBuf>, like r#""tls/kafka-key.pem""#;
    }
}

section! {
    /// A login to Kafka's brokers.
    pub struct KafkaSasl {
        /// How the password is shown.
        mechanism: SaslMechanism = "scram-sha-512";
        /// The user.
        username: String, like r#""linkspan""#;
        /// The password.
        password: Secret, like r#""${env:KAFKA_PASSWORD}""#;
    }
}

section! {
    /// The gateway's own Kinesis streams: it answers the API of Amazon Kinesis Data Streams at its own address.
    pub struct Streams {
        /// Whether it does; absent: where an integration reads one of them or delivers to one.
        enabled: Option<bool>, like "true";
        /// The folder of the streams' logs.
        path: PathBuf = "data/streams";
        /// Whether Amazon's limits of a shard's throughput hold (1 MiB and 1,000 records a second in, 2 MiB a second out).
        throttle: bool = false;
        /// The most open shards of all streams together.
        max_shards: u32 = 200, in 1 to 10000;
        /// The most that one shard keeps; older records go first, also before a stream's retention period is over.
        shard_size: Option<Size>, in "16 MiB" to "1024 TiB", like r#""10 GiB""#;
    }
}

section! {
    /// Topics of one Kafka cluster copied to another, exactly once.
    pub struct Replication {
        /// The cluster that is copied from, `[kafka.NAME]`.
        from: ClusterName, like r#""estate""#;
        /// The cluster that is copied to.
        to: ClusterName, like r#""cloud""#;
        /// The topics: names with `*` and `?`; one that begins with `!` leaves out what fits it.
        topics: Vec<String>, like r#"["contracts.*"]"#;
        /// What is put before the topics' names on the target; absent: the names stay.
        prefix: Option<String>, like r#""estate.""#;
        /// How the copied records are compressed.
        compression: Compression = "none";
        /// How many copies the target keeps of a topic that is made there; absent: the target's default.
        replication_factor: Option<u32>, in 1 to 100, like "3";
        /// The longest that a transaction stays open.
        commit_interval: Duration = "500ms", in "10ms" to "5s";
        /// How often new topics, partitions and settings are looked for.
        sync_interval: Duration = "30s", in "1s" to "1h";
        /// The most that waits in memory, on each side.
        buffer: Size = "32 MiB", in "1 MiB" to "2 GiB";
    }
}

choice! {
    /// Where reading begins when nothing was read before.
    pub enum Start {
        /// At the oldest record that is there.
        Earliest = "earliest",
        /// Behind the newest one.
        Latest = "latest",
    }
}

choice! {
    /// The order in which results are given on.
    pub enum Order {
        /// As the records stand in their partition or shard.
        Partition = "partition",
        /// As the records of the same key stand there; a slow one holds up its own key only.
        Key = "key",
        /// As they are done.
        None = "none",
    }
}

choice! {
    /// What producers wrap records in.
    pub enum Wrapping {
        /// Base64 (RFC 4648).
        Base64 = "base64",
        /// Gzip (RFC 1952).
        Gzip = "gzip",
        /// Aggregates of the Kinesis Producer Library; other records pass as they are. Amazon's streams are read so without being told.
        Kpl = "kpl",
        /// Envelopes of a CloudWatch Logs subscription: each log event is a record.
        CloudWatchLogs = "cloudwatch-logs",
    }
}

choice! {
    /// How a password is shown to Kafka's brokers.
    pub enum SaslMechanism {
        /// A proof that the password is known (RFC 7677), with SHA-512.
        ScramSha512 = "scram-sha-512",
        /// The same with SHA-256.
        ScramSha256 = "scram-sha-256",
        /// The password itself (RFC 4616), over TLS only.
        Plain = "plain",
    }
}

choice! {
    /// How copied records are compressed.
    pub enum Compression {
        /// Not at all.
        None = "none",
        /// LZ4: fast.
        Lz4 = "lz4",
        /// Zstandard: small.
        Zstd = "zstd",
    }
}

/// The name of a Kafka topic: 1 to 249 letters, digits, dots, underscores and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Topic(String);

/// The name of a Kinesis stream: 1 to 128 letters, digits, dots, underscores and hyphens (`StreamName` of the API reference).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct StreamName(String);

/// Names of letters, digits, dots, underscores and hyphens.
macro_rules! plain {
    ($($name:ident: $noun:literal, $most:literal, $pattern:literal;)+) => {
        $(
            impl $name {
                /// How many characters it may have.
                pub const LONGEST: usize = $most;

                /// The name as it is written.
                #[must_use]
                pub fn as_str(&self) -> &str {
                    &self.0
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }

            impl FromText for $name {
                const TEXT: TextKind = TextKind {
                    name: $noun,
                    expected: concat!("the name of a ", $noun, ": 1 to ", $most, " letters, digits, \".\", \"_\" and \"-\""),
                    pattern: $pattern,
                };

                fn from_text(text: &str) -> Result<Self, String> {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                    let dots = matches!(text, "." | "..");
                    if (1..=$most).contains(&text.len()) && text.bytes().all(plain) && !dots {
                        Ok(Self(text.to_owned()))
                    } else {
                        Err(format!("is not {}", Self::TEXT.expected))
                    }
                }
            }
        )+
    };
}

plain! {
    Topic: "topic", 249, "^[A-Za-z0-9._-]{1,249}$";
    StreamName: "stream", 128, "^[A-Za-z0-9._-]{1,128}$";
}
