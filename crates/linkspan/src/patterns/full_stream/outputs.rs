//! What a record becomes: a message in each topic that wants it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use linkspan_model::config::deliver::{Channel, Deliver, channel_names};
use linkspan_streams::flow::{Failure, Process};
use linkspan_streams::kafka::{KafkaMessage, KafkaOutput};
use linkspan_streams::{Header, Record};
use serde_json::Value;

use super::unwrapping::Unwrapping;
use crate::channels::kafka::{CONTENT_TYPE, key};
use crate::jq::{Filter, FilterError};
use crate::streaming::{Processed, TRACEPARENT, Work, header};

/// The code of a record of which a filter cannot be told.
const FILTER_FAILED: &str = "filter-failed";

/// The pipeline, and the topics for what comes of it.
pub(super) struct Outputs {
    work: Work,
    unwrap: Option<Unwrapping>,
    topics: Vec<Topic>,
    names: Names,
}

/// One item of `deliver`.
struct Topic {
    /// The channel's name.
    name: String,
    topic: Arc<str>,
    when: Option<Filter>,
    map: Option<Filter>,
    key: Option<Filter>,
}

/// The headers' names and the values that are always the same: shared by all messages.
struct Names {
    id: Arc<str>,
    traceparent: Arc<str>,
    /// Those that are the same for all.
    constant: Vec<Header>,
}

/// A record that went through the steps, on its way to the topics.
struct Made {
    document: Value,
    headers: Vec<Header>,
    output: KafkaOutput,
}

impl Outputs {
    /// The outputs of an integration.
    ///
    /// # Errors
    ///
    /// A filter that cannot be used, as a sentence with its channel and key.
    pub(super) fn open(
        integration: &str,
        deliver: &[Deliver],
        work: Work,
        unwrap: Option<Unwrapping>,
    ) -> Result<Self, String> {
        let mut topics = Vec::new();
        for (item, name) in deliver.iter().zip(channel_names(deliver)) {
            let Channel::Kafka(kafka) = &item.channel else {
                return Err(format!("{name} cannot be part of a Kafka transaction"));
            };
            let fault = |key: &str, error: String| format!("{name}: {key}: {error}");
            let compile = |key, filter: &Option<_>| match filter {
                None => Ok(None),
                Some(filter) => compiled(filter).map_err(|error| fault(key, error)),
            };
            let when = item.common.when.as_ref();
            let when = when.map(|when| Filter::compile_condition(when.as_str()));
            topics.push(Topic {
                topic: kafka.kafka.as_str().into(),
                when: when.transpose().map_err(|error| fault("when", error))?,
                map: compile("map", &item.common.map)?,
                key: compile("key", &kafka.key)?,
                name,
            });
        }
        let constant = [
            ("linkspan-integration", integration.to_owned()),
            ("linkspan-status", "succeeded".to_owned()),
            ("content-type", CONTENT_TYPE.to_owned()),
        ];
        let constant = constant.map(|(name, value)| of_text(&name.into(), value));
        Ok(Self {
            work,
            unwrap,
            topics,
            names: Names {
                id: "linkspan-id".into(),
                traceparent: TRACEPARENT.into(),
                constant: constant.into(),
            },
        })
    }

    /// The topics' names.
    pub(super) fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| &*topic.topic)
    }

    /// The work on records, without what producers wrapped them in.
    async fn work(&self, records: &[Arc<Record>]) -> Vec<Result<Processed, Failure>> {
        let Some(unwrap) = &self.unwrap else {
            return self.work.process(records).await;
        };
        let mut done = Vec::with_capacity(records.len());
        while let Some(rest) = records.get(done.len()..).filter(|rest| !rest.is_empty()) {
            let (unwrapped, _room) = unwrap.some(rest).await;
            done.extend(self.work.process(&unwrapped).await);
        }
        done
    }

    fn made(&self, record: &Record, processed: Processed) -> Result<Made, Failure> {
        let document = serde_json::to_value(&processed.result)
            .map_err(|_| failure("the result cannot be written as JSON".to_owned()))?;
        let mut headers = Vec::with_capacity(self.names.constant.len() + 2);
        headers.push(of_text(&self.names.id, processed.result.id.to_string()));
        headers.extend(self.names.constant.iter().cloned());
        let trace = processed.traceparent;
        let trace = trace.filter(|trace| header(record, TRACEPARENT) != Some(trace));
        headers.extend(trace.map(|trace| of_text(&self.names.traceparent, trace)));
        Ok(Made {
            document,
            headers,
            output: KafkaOutput::default(),
        })
    }
}

#[async_trait]
impl Process for Outputs {
    type Output = KafkaOutput;

    fn batch(&self) -> usize {
        self.work.batch()
    }

    async fn process(&self, records: &[Arc<Record>]) -> Vec<Result<KafkaOutput, Failure>> {
        let done = self.work(records).await;
        let made = done.into_iter().zip(records);
        let mut all: Vec<_> = made
            .map(|(done, record)| done.and_then(|processed| self.made(record, processed)))
            .collect();
        for topic in &self.topics {
            topic.add(&mut all).await;
        }
        all.into_iter()
            .map(|made| made.map(|made| made.output))
            .collect()
    }
}

impl Topic {
    /// Adds this topic's message to the records that it wants. A filter that fails of a record makes it a dead letter.
    async fn add(&self, all: &mut [Result<Made, Failure>]) {
        let mut wanted: Vec<_> = (0..all.len()).filter(|at| all[*at].is_ok()).collect();
        if let Some(when) = &self.when {
            let truths = when.are_true(&documents(all, &wanted)).await;
            wanted = self.settle(all, &wanted, truths, "when", |_, truth| truth);
        }
        let mut values = Vec::new();
        if let Some(map) = &self.map {
            let mapped = map.run_each(&documents(all, &wanted)).await;
            let mapped = mapped.into_iter().map(|mapped| {
                mapped?.ok_or_else(|| "the filter gives no output".to_owned().into())
            });
            wanted = self.settle(all, &wanted, mapped, "map", |at, value| {
                values.push((at, value));
                true
            });
        }
        let mut keys = Vec::new();
        if let Some(filter) = &self.key {
            let found = filter.run_each(&documents(all, &wanted)).await;
            wanted = self.settle(all, &wanted, found, "key", |at, found| {
                keys.push((at, key(found)));
                true
            });
        }
        let (mut values, mut keys) = (values.into_iter().peekable(), keys.into_iter());
        for at in wanted {
            let Ok(made) = &mut all[at] else { continue };
            // A record whose key failed has a value that nobody wants any more.
            while values.next_if(|(of, _)| *of < at).is_some() {}
            let value = match values.next_if(|(of, _)| *of == at) {
                Some((_, value)) => serde_json::to_vec(&value),
                None => serde_json::to_vec(&made.document),
            };
            let key = keys.find(|(of, _)| *of == at).and_then(|(_, key)| key);
            match value {
                Ok(value) => made.output.messages.push(KafkaMessage {
                    topic: self.topic.clone(),
                    key,
                    value: Some(value.into()),
                    headers: made.headers.clone(),
                }),
                Err(_) => {
                    all[at] = Err(failure("the result cannot be written as JSON".to_owned()));
                }
            }
        }
    }

    /// Goes through a filter's answers for these records: what `keep` says of an answer decides whether its record stays in the list, a
    /// failure makes it a dead letter, or has it tried again where the filter could not be evaluated just now.
    fn settle<T>(
        &self,
        all: &mut [Result<Made, Failure>],
        of: &[usize],
        answers: impl IntoIterator<Item = Result<T, FilterError>>,
        key: &str,
        mut keep: impl FnMut(usize, T) -> bool,
    ) -> Vec<usize> {
        let mut kept = Vec::with_capacity(of.len());
        for (at, answer) in of.iter().copied().zip(answers) {
            match answer {
                Ok(answer) => {
                    if keep(at, answer) {
                        kept.push(at);
                    }
                }
                Err(error) => {
                    all[at] = Err(Failure {
                        retryable: error.passes,
                        ..failure(format!("{}: {key}: {error}", self.name))
                    });
                }
            }
        }
        kept
    }
}

fn documents<'m>(all: &'m [Result<Made, Failure>], of: &[usize]) -> Vec<&'m Value> {
    let made = of.iter().filter_map(|at| all[*at].as_ref().ok());
    made.map(|made| &made.document).collect()
}

fn compiled(filter: &linkspan_model::config::Jq) -> Result<Option<Filter>, String> {
    Filter::compile(filter.as_str()).map(Some)
}

fn of_text(name: &Arc<str>, value: String) -> Header {
    Header {
        name: name.clone(),
        value: Some(Bytes::from(value)),
    }
}

/// A record of which nothing can be made, however often it is tried.
fn failure(reason: String) -> Failure {
    Failure {
        code: FILTER_FAILED.to_owned(),
        reason,
        retryable: false,
        after: None,
        overloaded: false,
    }
}
