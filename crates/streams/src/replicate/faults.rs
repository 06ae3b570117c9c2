//! What can go wrong while copying, and what becomes of it: a topic that stops, or the session that ends.

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::clients::ANSWER;
use super::error::kind;
use super::replicator::End;
use super::session::Session;
use super::status::{gone, made_anew, truncated};
use super::{ReplicateError, State, describe};
use crate::kafka::ErrorKind;

impl Session<'_> {
    /// The target has not taken a record.
    pub(super) fn refused(&mut self, slot: Option<usize>, code: Code) -> End {
        let fault = Native::MessageProduction(code);
        let Some(slot) = slot.and_then(|slot| self.slots.get(slot)) else {
            return self.lost("write to the target", &fault);
        };
        let why = match code {
            Code::MessageSizeTooLarge => {
                "it is larger than max.message.bytes allows there (with a `compression` it is smaller)"
            }
            Code::InvalidRecord | Code::InvalidMessage => {
                "it does not fit the topic's settings there: a compacted topic takes no record without a key"
            }
            Code::InvalidTimestamp => "its timestamp is outside of what the topic takes there",
            Code::PolicyViolation => "a policy there refuses it",
            Code::TopicAuthorizationFailed => "we may not write to the topic there",
            _ => return self.lost("write to the target", &fault),
        };
        let index = slot.topic;
        let name = self
            .topics
            .get(index)
            .map(|topic| topic.planned.source.clone());
        let name = name.unwrap_or_default();
        let first = slot.base;
        let why = format!(
            "the target refuses a record of {name}/{} at or behind offset {first}: {why}; change the topic on the target, and start the replication again",
            slot.partition
        );
        self.stop_topic(index, why)
    }

    /// Something failed on the target. The session ends; the next one finds out what was committed.
    pub(super) fn lost(&self, attempted: &str, fault: &Native) -> End {
        // A producer that was fenced says so once, and then only that it is of no use.
        let code = self.producer.client().fatal_error().map(|(code, _)| code);
        let kind = code.map_or_else(|| kind(fault), ErrorKind::of);
        tracing::debug!(%fault, ?kind, "{attempted}");
        ReplicateError::of_kind(attempted, kind).into()
    }

    pub(super) fn source_fault(&mut self, fault: &Native) -> Result<(), End> {
        let Some(code) = fault.rdkafka_error_code() else {
            return Ok(());
        };
        tracing::debug!(%fault, "read from the source");
        if code == Code::LogTruncation {
            return Err(End::Lasting(format!(
                "the source has lost records that were read already (an unclean election of a leader): the target holds records that the source does not; compare them with `linkspan replicate verify {}`",
                self.settings.name
            )));
        }
        match ErrorKind::of(code) {
            ErrorKind::OutOfRange => Err(self.out_of_range()),
            ErrorKind::Absent => {
                self.watch.hurry();
                Ok(())
            }
            _ if matches!(fault, Native::MessageConsumptionFatal(_)) => {
                Err(ReplicateError::new("read from the source", fault).into())
            }
            kind => {
                let text = ReplicateError::of_kind("read from the source", kind).to_string();
                self.trouble(text);
                Ok(())
            }
        }
    }

    /// Tells what hinders, while it is tried on.
    pub(super) fn trouble(&self, why: String) {
        let mut status = self.shared.status();
        if status.state == State::Running {
            tracing::warn!(replication = self.settings.name, "{why}");
            status.state = State::Waiting(why);
        }
    }

    /// A position is not in its partition. librdkafka does not say which.
    fn out_of_range(&mut self) -> End {
        let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        let Ok(ids) = describe::topics(self.consumer.client(), &names, ANSWER) else {
            return End::Passing("ask the source for its topics: it does not answer".to_owned());
        };
        let mut found = false;
        for index in 0..self.topics.len() {
            if let Some(why) = self.out_of_range_of(index, &ids) {
                found = true;
                self.stop_topic(index, why);
            }
        }
        if found {
            End::Again
        } else {
            End::Passing(
                "the source says that an offset is not there, but holds all that we need"
                    .to_owned(),
            )
        }
    }

    fn out_of_range_of(
        &self,
        index: usize,
        ids: &std::collections::HashMap<String, describe::Described>,
    ) -> Option<String> {
        let topic = self.topics.get(index)?;
        let name = &topic.planned.source;
        match ids.get(name) {
            None => return Some(gone(name)),
            Some(known) if known.id != topic.planned.source_id => {
                return Some(made_anew(self.settings, name, "source"));
            }
            Some(_) => {}
        }
        for slot in topic.slots.iter().filter_map(|slot| self.slots.get(*slot)) {
            let Some(next) = slot.next else { continue };
            let partition = slot.partition;
            let Ok((low, end)) = self.consumer.fetch_watermarks(name, partition, ANSWER) else {
                continue;
            };
            if let Some(why) = truncated(self.settings, name, partition, next, low..end) {
                return Some(why);
            }
        }
        None
    }
}
