//! `deliver`: the channels by which an integration's results leave, a section a channel.
//!
//! An item is one table: the channel's own keys, of which the first names the channel, and those that every channel has.

use std::path::PathBuf;
use std::time::Duration;

use super::describe::section;
use super::forms::{self, forms};
use super::kind::Kind;
use super::name::{ChannelName, ClusterName};
use super::outside::{Headers, HttpUrl, Jq, Mailboxes, StatusRange};
use super::reader::Reader;
use super::secret::Secret;
use super::setting::Setting;
use super::stream::{Aws, StreamName, Topic};
use super::tree::Node;
use super::units::Size;
use super::words::{EmailContent, FileFormat, Method, Shape};

/// One item of `deliver`.
#[derive(Clone, Debug)]
pub struct Deliver {
    /// What every channel has.
    pub common: Delivery,
    /// The channel.
    pub channel: Channel,
}

section! {
    /// What every channel has.
    pub struct Delivery {
        /// The channel's name within its integration, by which its deliveries are known; absent: the kind of channel. Where the
        /// integration has two of a kind, each needs one.
        name: Option<ChannelName>, like r#""crm""#;
        /// A jq filter over the result document: the result is delivered where it gives true, and not where it gives false or null;
        /// anything else is a dead letter. Absent: every result, of failed jobs too.
        when: Option<Jq>, like r#"'.status == "succeeded"'"#;
        /// A jq filter over the result document whose (first) output is sent in its place.
        map: Option<Jq>, like r#"'{id, label: .answers.mood.label}'"#;
        /// The waits before each further attempt, each lengthened by a random part of up to a fifth; after the last one the delivery is
        /// a dead letter.
        retry: Vec<Duration> = ["5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"];
        /// The most deliveries that are on their way to the receiver at once.
        concurrency: u32 = 4, in 1 to 1000;
        /// The most deliveries a second, over time; 0: no limit.
        rate_limit: u32 = 0, in 0 to 100000;
        /// How long one attempt may take.
        timeout: Duration = "15s", in "100ms" to "10m";
    }
}

section! {
    /// A webhook after Standard Webhooks 1.0: a signed CloudEvents 1.0 event with the result document as its `data`.
    pub struct Webhook {
        /// The receiver's address. A reference where the address itself is a secret.
        webhook: HttpUrl, like r#""https://crm.example.com/hooks/calls""#;
        /// What the events are signed with: `whsec_…` (HMAC-SHA256) or `whsk_…` (ed25519), both with base64 after the prefix.
        secret: Secret, like r#""${env:CRM_SECRET}""#;
        /// While the secret is rotated: the one before, with which the events are signed as well.
        previous_secret: Option<Secret>, like r#""${env:CRM_OLD_SECRET}""#;
        /// Headers to send as well.
        headers: Option<Headers>, like r#"{ x-tenant = "acme" }"#;
        /// The largest event that is sent whole; a larger one holds a signed link to the same data instead.
        max_size: Size = "256 KiB", in "1 KiB" to "64 MiB";
        /// How long such a link holds; it ends with the result's retention where that comes first.
        link_ttl: Duration = "7d", in "1m" to "365d";
    }
}

section! {
    /// A message by email, through the server of `[email]`.
    pub struct Email {
        /// The recipients' addresses, with commas between them.
        email: Mailboxes, like r#""support@example.com""#;
        /// The subject; `{{ result }}` and `{{ delivery }}` are known in it.
        subject: Option<String>, like r#""{{ result.integration }}: {{ result.status }}""#;
        /// How the result document comes along.
        content: EmailContent = "link";
        /// How long the link to what is sent holds; it ends with the result's retention where that comes first.
        link_ttl: Duration = "7d", in "1m" to "365d";
        /// The results of so long a time in one message.
        digest: Option<Duration>, in "1m" to "7d", like r#""1h""#;
        /// A template (Jinja) of the message's text in place of the built-in one.
        text_template: Option<PathBuf>, like r#""templates/result.txt""#;
        /// A template (Jinja, autoescaped) of the message's HTML in place of the built-in one.
        html_template: Option<PathBuf>, like r#""templates/result.html""#;
    }
}

section! {
    /// A call of anybody's HTTP API.
    pub struct Http {
        /// The address. A reference where the address itself is a secret.
        http: HttpUrl, like r#""https://api.example.com/cases""#;
        /// The method.
        method: Method = "POST";
        /// The form of the body.
        shape: Shape = "json";
        /// Headers to send; a secret one is a reference, to the whole value: `API_TOKEN` holds `Bearer …`.
        headers: Option<Headers>, like r#"{ authorization = "${env:API_TOKEN}" }"#;
        /// A jq filter over the result document that gives an object with any of `method`, `path`, `query`, `headers` and `body`,
        /// each in place of what is set here. The address's origin stays. Write a value into the path with `@uri`, as here; one that
        /// holds a slash, even encoded, makes the delivery a dead letter.
        request: Option<Jq>, like r#"'{method: "PUT", path: @uri "/cases/\(.id)", body: .answers}'"#;
        /// The statuses that mean success.
        expect: Vec<StatusRange> = ["2xx"];
        /// OAuth 2 client credentials (RFC 6749 section 4.4) with which the call is authorised.
        oauth2: Option<Oauth2>, like r#"{ token_url = "https://id.example.com/token", client_id = "linkspan", client_secret = "${env:API_CLIENT_SECRET}" }"#;
    }
}

section! {
    /// OAuth 2 client credentials.
    pub struct Oauth2 {
        /// Where tokens are got.
        token_url: HttpUrl, like r#""https://id.example.com/token""#;
        /// The client's id.
        client_id: String, like r#""linkspan""#;
        /// The client's secret.
        client_secret: Secret, like r#""${env:API_CLIENT_SECRET}""#;
        /// The scopes, with spaces between them.
        scope: Option<String>, like r#""cases.write""#;
        /// The audience, where the server wants one.
        audience: Option<String>, like r#""https://api.example.com""#;
    }
}

section! {
    /// A file, or a folder of files, on the gateway's machine.
    pub struct File {
        /// The file that lines are added to, or the folder for one file a result. What is made is for the gateway's user only.
        file: PathBuf, like r#""out/results.jsonl""#;
        /// What is written.
        format: FileFormat = "json-lines";
    }
}

section! {
    /// Messages to a Kafka topic: the result document, or what `map` makes of it, as JSON. With `full-stream` each message is part of the
    /// transaction that commits its record, on the source's cluster, and keeps the record's headers, timestamp and partition (its number
    /// modulo the topic's, where that has fewer partitions); otherwise it is delivered at least once.
    pub struct Kafka {
        /// The topic.
        kafka: Topic, like r#""reviews.scored""#;
        /// The cluster, `[kafka.NAME]`; absent: the source's (`full-stream`), or the only one.
        cluster: Option<ClusterName>, like r#""estate""#;
        /// A jq filter over the result document that gives the message's key; absent, or where it gives null: that of the record
        /// (`full-stream`), or the invocation's id.
        key: Option<Jq>, like r#"'.integration'"#;
    }
}

section! {
    /// Records to a Kinesis stream: the result document, or what `map` makes of it, as JSON.
    pub struct Kinesis {
        /// The stream.
        kinesis: StreamName, like r#""reviews-scored""#;
        /// Where Amazon Kinesis is reached; absent: the gateway's own streams.
        aws: Option<Aws>, like r#"{ region = "eu-central-1" }"#;
        /// A jq filter over the result document that gives the partition key; absent: the invocation's id.
        key: Option<Jq>, like r#"'.integration'"#;
    }
}

/// The channels' names within their integration, in order: a channel's own, or else its kind.
#[must_use]
pub fn channel_names(channels: &[Deliver]) -> Vec<String> {
    let names = channels.iter().map(|deliver| match &deliver.common.name {
        Some(name) => name.to_string(),
        None => deliver.channel.kind().to_owned(),
    });
    names.collect()
}

forms! {
    /// A channel: a way a result leaves.
    pub enum Channel: "channel", "give each an item of its own", with Delivery {
        /// A signed event to an HTTP endpoint.
        Webhook = "webhook";
        /// A message by SMTP.
        Email = "email";
        /// A call of an API.
        Http = "http";
        /// A file.
        File = "file";
        /// A Kafka topic.
        Kafka = "kafka";
        /// A Kinesis stream.
        Kinesis = "kinesis";
    }
}

impl Setting for Deliver {
    fn kind() -> Kind {
        forms::kind::<Channel>()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (common, channel) = forms::read::<Channel>(node, reader)?;
        Some(Self { common, channel })
    }
}
