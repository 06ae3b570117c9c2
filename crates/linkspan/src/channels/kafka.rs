//! Messages to a Kafka topic, at least once: the result document, or what `map` made of it, as JSON.
//!
//! The producer is idempotent and waits for all replicas that are in step; what became of a message is librdkafka's report on it. A
//! message carries `linkspan-id` (the invocation), `linkspan-delivery-id` (the same at each attempt: by it a reader leaves out what it
//! had already), `linkspan-integration`, `linkspan-status`, `traceparent` and `content-type`.
//!
//! The brokers are the operator's own, as the store's database is: their addresses are not judged by `outbound/`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use linkspan_model::config::deliver;
use linkspan_streams::Header;
use linkspan_streams::kafka::{ErrorKind, Sender, Sending};
use serde_json::Value;

use super::{Channel, Context, Parcel, Verdict};
use crate::jq::Filter;

/// The most messages of one call.
const BATCH: usize = 500;

/// What every message's value is.
pub(crate) const CONTENT_TYPE: &str = "application/json";

/// A topic.
#[derive(Debug)]
pub(super) struct Kafka {
    topic: Arc<str>,
    receiver: String,
    key: Option<Filter>,
    /// None where the cluster's settings cannot be used: no gateway starts with those.
    sender: Option<Arc<Sender>>,
}

impl Kafka {
    /// Opens it. Calls nobody.
    pub(super) fn open(given: &deliver::Kafka, context: &Context) -> Result<Self, String> {
        let key = given.key.as_ref().map(|key| Filter::compile(key.as_str()));
        let key = key
            .transpose()
            .map_err(|error| format!("key: is no jq filter that can be used: {error}"))?;
        let cluster = context.kafka.get(given.cluster.as_ref());
        Ok(Self {
            topic: given.kafka.as_str().into(),
            receiver: match cluster {
                Some((name, _)) => format!("{name}/{}", given.kafka),
                None => given.kafka.to_string(),
            },
            key,
            sender: cluster.map(|(_, sender)| sender.clone()),
        })
    }

    /// The messages' keys: what the filter gives, or else the invocation's id.
    async fn keys(&self, parcels: &[Parcel]) -> Vec<Result<Bytes, String>> {
        let of_job = |parcel: &Parcel| Bytes::from(parcel.job.to_string());
        let Some(filter) = &self.key else {
            return parcels.iter().map(|parcel| Ok(of_job(parcel))).collect();
        };
        let results: Vec<_> = parcels.iter().map(|parcel| &parcel.result).collect();
        let found = filter.run_each(&results).await;
        let keys = found.into_iter().zip(parcels).map(|(found, parcel)| {
            let found = found.map_err(|error| format!("key: {error}"))?;
            Ok(key(found).unwrap_or_else(|| of_job(parcel)))
        });
        keys.collect()
    }

    async fn deliver(
        &self,
        sender: &Sender,
        parcel: &Parcel,
        key: Result<Bytes, String>,
    ) -> Verdict {
        let key = match key {
            Ok(key) => key,
            Err(sentence) => return Verdict::dead(None, sentence),
        };
        let Ok(value) = serde_json::to_vec(&parcel.content).map(Bytes::from) else {
            return Verdict::dead(None, "what is to be sent cannot be written as JSON");
        };
        let headers = headers(parcel);
        let sent = sender.send(Sending {
            topic: &self.topic,
            key: Some(&key),
            value: Some(&value),
            headers: &headers,
        });
        match sent.await {
            Ok(placed) => Verdict::delivered(
                None,
                format!("partition {}, offset {}", placed.partition, placed.offset),
            ),
            Err(error) => match error.kind {
                // The same message would be refused again.
                ErrorKind::TooLarge
                | ErrorKind::Unfit
                | ErrorKind::Absent
                | ErrorKind::Settings => Verdict::dead(None, error.to_string()),
                ErrorKind::Unreachable
                | ErrorKind::Refused
                | ErrorKind::Fenced
                | ErrorKind::Generation
                | ErrorKind::OutOfRange
                | ErrorKind::Other => Verdict::retry(None, error.to_string()),
            },
        }
    }
}

#[async_trait]
impl Channel for Kafka {
    fn receiver(&self) -> String {
        self.receiver.clone()
    }

    fn batch(&self) -> usize {
        BATCH
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let Some(sender) = &self.sender else {
            let verdict = |_| Verdict::retry(None, "the cluster's settings cannot be used");
            return parcels.iter().map(verdict).collect();
        };
        let keys = self.keys(parcels).await;
        let sends = parcels.iter().zip(keys);
        join_all(sends.map(|(parcel, key)| self.deliver(sender, parcel, key))).await
    }
}

fn headers(parcel: &Parcel) -> Vec<Header> {
    let text = |name: &str| parcel.result.get(name).and_then(Value::as_str);
    let mut headers = vec![
        header("linkspan-id", parcel.job.to_string()),
        header("linkspan-delivery-id", parcel.id.to_string()),
        header("linkspan-integration", parcel.endpoint.integration.clone()),
    ];
    headers.extend(text("status").map(|status| header("linkspan-status", status.to_owned())));
    let trace = parcel.traceparent.as_ref();
    headers.extend(trace.map(|trace| header("traceparent", trace.clone())));
    headers.push(header("content-type", CONTENT_TYPE.to_owned()));
    headers
}

/// A header of text.
pub(crate) fn header(name: &str, value: String) -> Header {
    Header {
        name: name.into(),
        value: Some(value.into()),
    }
}

/// What a `key` filter gave, as a message's key: text as it is, anything else as JSON; none for null and for no output.
pub(crate) fn key(found: Option<Value>) -> Option<Bytes> {
    match found {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.into()),
        Some(other) => Some(other.to_string().into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use linkspan_model::config::{Config, Reference};
    use serde_json::json;

    use super::*;
    use crate::channels::VerdictKind;
    use crate::channels::testing::{context, parcel, result};
    use crate::streaming::Clusters;

    #[test]
    fn a_key_is_text_as_it_is_and_anything_else_as_json() {
        for (found, expected) in [
            (Some(json!("crm")), Some("crm")),
            (Some(json!(17)), Some("17")),
            (Some(json!(["a", 1])), Some("[\"a\",1]")),
            (Some(json!("")), Some("")),
            (Some(Value::Null), None),
            (None, None),
        ] {
            let name = format!("{found:?}");
            assert_eq!(key(found), expected.map(Bytes::from), "{name}");
        }
    }

    #[test]
    fn a_message_says_whose_it_is() {
        let parcel = parcel(result());
        let headers = headers(&parcel);
        let value = |name: &str| {
            let found = headers.iter().find(|header| &*header.name == name).unwrap();
            String::from_utf8(found.value.clone().unwrap().into()).unwrap()
        };
        assert_eq!(value("linkspan-id"), parcel.job.to_string());
        assert_eq!(value("linkspan-delivery-id"), parcel.id.to_string());
        assert_eq!(value("linkspan-status"), "succeeded");
        assert_eq!(Some(value("traceparent")), parcel.traceparent);
        assert_eq!(value("content-type"), "application/json");
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_told_is_a_dead_letter() {
        let mut context = context();
        let toml = "[kafka.estate]\nbrokers = \"127.0.0.1:1\"";
        let nothing = |_: Reference<'_>| Err(String::new());
        let config = Config::parse(toml, "linkspan.toml", &nothing).unwrap();
        context.kafka = Clusters::of(&config, Path::new("."));
        let sender = context.kafka.get(None).unwrap().1.clone();
        let channel = Kafka {
            topic: "scored".into(),
            receiver: String::new(),
            key: Some(Filter::compile(".answers | error").unwrap()),
            sender: Some(sender),
        };
        let verdicts = channel.send(&[parcel(result())]).await;
        assert_eq!(verdicts[0].kind, VerdictKind::Dead);
        assert!(
            verdicts[0].detail.starts_with("key: "),
            "{}",
            verdicts[0].detail
        );
        assert!(
            !verdicts[0].detail.contains("negative"),
            "{}",
            verdicts[0].detail
        );
    }
}
