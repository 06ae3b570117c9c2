//! What can go wrong while copying, and what becomes of it: a topic that stops, or the session that ends.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::clients::{self, ANSWER};
use super::error::kind;
use super::positions::{self, Edge};
use super::replicator::End;
use super::session::{Session, Slot};
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
        let (why, remedy) = match code {
            Code::MessageSizeTooLarge => (
                "it is larger than max.message.bytes allows there",
                "raise that of the topic on the target, where it stays, or set a `compression`",
            ),
            // What is set on the target alone would be brought in step again.
            Code::InvalidRecord | Code::InvalidMessage => (
                "a compacted topic takes no record without a key",
                "set the cleanup.policy of the topic on the source to delete until the record is copied: the target's follows",
            ),
            Code::InvalidTimestamp => (
                "its timestamp is outside of what the topic takes there",
                "change message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic on the target",
            ),
            Code::PolicyViolation => ("a policy there refuses it", "change the policy"),
            Code::TopicAuthorizationFailed => (
                "we may not write to the topic there",
                "change the ACLs of the target",
            ),
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
            "the target refuses a record of {name}/{} at or behind offset {first}: {why}; {remedy}, and start the replication again",
            slot.partition
        );
        self.stop_topic(index, why)
    }

    /// A record of the source is larger than all that may wait in memory.
    pub(super) fn too_large(&mut self, topic: usize, partition: i32, offset: i64) -> End {
        let name = self.topics.get(topic);
        let name = name.map_or("", |topic| &topic.planned.source);
        let why = format!(
            "the record of {name}/{partition} at offset {offset} is larger than the {} KiB that may wait in memory: raise the `buffer` of the replication, and start it again",
            self.settings.buffer_kib
        );
        self.stop_topic(topic, why)
    }

    /// Something failed on the target. The session ends; the next one finds out what was committed.
    pub(super) fn lost(&mut self, attempted: &str, fault: &Native) -> End {
        // A call that fails because a record was refused says only that the transaction is of no use.
        if let Some((slot, code)) = self.producer.context().take().failed {
            return self.refused(slot, code);
        }
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
        match ErrorKind::of(code) {
            ErrorKind::OutOfRange => {
                // What was read before is good.
                self.commit()?;
                Err(self.out_of_range())
            }
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

    /// A position is not in its partition, or what lies before it there is not what was read: the log was truncated and has grown again.
    /// librdkafka says neither which partition it is, nor which of the two.
    fn out_of_range(&mut self) -> End {
        let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        let Ok(ids) = describe::topics(self.consumer.client(), &names, ANSWER) else {
            return End::Passing("ask the source for its topics: it does not answer".to_owned());
        };
        let partitions = self.slots.iter().filter_map(|slot| {
            let topic = self.topics.get(slot.topic)?;
            let name = topic.planned.source.as_str();
            ids.contains_key(name).then_some((name, slot.partition))
        });
        let partitions: Vec<_> = partitions.collect();
        let (source, group) = (&self.settings.source, self.settings.transactional_id());
        let edges = clients::reader(source, &group, "source").and_then(|reader| {
            let begin = positions::ask(&reader, partitions.iter().copied(), Edge::Begin, "source")?;
            let end = positions::ask(&reader, partitions.iter().copied(), Edge::End, "source")?;
            Ok((begin, end))
        });
        let (begin, end) = match edges {
            Ok(edges) => edges,
            Err(fault) => return fault.into(),
        };
        self.settle();
        let mut stopped = Vec::new();
        let mut missing = None;
        for (index, topic) in self.topics.iter().enumerate() {
            let name = &topic.planned.source;
            match ids.get(name) {
                None => missing = Some(name),
                Some(known) if known.id != topic.planned.source_id => {
                    stopped.push((index, made_anew(self.settings, name, "source")));
                }
                Some(_) => {
                    let slots = topic.slots.iter().filter_map(|slot| self.slots.get(*slot));
                    let mut whys = slots.filter_map(|slot| {
                        let key = (name.clone(), slot.partition);
                        let there = *begin.get(&key)?..*end.get(&key)?;
                        self.broken_off(name, slot, there)
                    });
                    stopped.extend(whys.next().map(|why| (index, why)));
                }
            }
        }
        match missing {
            _ if !stopped.is_empty() => {
                for (index, why) in stopped {
                    self.stop_topic(index, why);
                }
                End::Again
            }
            // For now: it may be that this broker has not heard of it yet.
            Some(name) => End::Passing(gone(name)),
            None => End::Lasting(format!(
                "the source says that an offset that was read is not there, and seems to hold all of them: to go on might leave records out; compare both sides with `linkspan replicate verify {}`, and start the replication again",
                self.settings.name
            )),
        }
    }

    /// Waits for the next statistics: they tell which partitions librdkafka has given up to read. What is read meanwhile is read again
    /// by the next session.
    fn settle(&self) {
        let before = self.consumer.context().times();
        let end = Instant::now() + ANSWER;
        while self.consumer.context().times() == before
            && Instant::now() < end
            && !self.shared.stopping()
        {
            let _ = self.consumer.poll(Duration::from_millis(100));
        }
    }

    /// Why a partition cannot be read on, when the source has these offsets.
    fn broken_off(&self, topic: &str, slot: &Slot, there: std::ops::Range<i64>) -> Option<String> {
        let (name, partition, next) = (&self.settings.name, slot.partition, slot.next);
        truncated(self.settings, topic, partition, next, there).or_else(|| {
            let edges = self.consumer.context().edges(topic, partition)?;
            edges.given_up.then(|| {
                format!(
                    "{topic}/{partition} on the source was truncated to less than the {next} offsets that were copied, and has grown beyond them since (an unclean election of a leader): each side holds records that the other does not; compare them with `linkspan replicate verify {name} --topic {topic}`, and copy it anew with `linkspan replicate reset {name} --topic {topic}`"
                )
            })
        })
    }
}
