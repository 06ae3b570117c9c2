//! What a session tells of itself: its state, its topics, how fast it goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::State;
use super::plan::Planned;
use super::session::Session;
use super::status::{PartitionStatus, TopicState, TopicStatus, gone};

/// How fast it goes.
pub(super) struct Meter {
    begun: Instant,
    records: u64,
    bytes: u64,
}

/// Over how long a rate is taken.
const RATE: Duration = Duration::from_secs(2);

impl Session<'_> {
    /// Writes the status.
    pub(super) fn tell(&mut self, state: State) {
        let mut topics: Vec<TopicStatus> = self
            .topics
            .iter()
            .map(|topic| self.topic_status(&topic.planned, &topic.slots, TopicState::Running))
            .collect();
        for (planned, why) in &self.refused {
            topics.push(self.topic_status(planned, &[], TopicState::Stopped(why.clone())));
        }
        let stopped = self.kept.stopped.clone();
        let copied = self.progress.topics.keys();
        let missing = copied
            .filter(|name| self.settings.takes(name))
            .map(|name| (name.clone(), gone(name)));
        for (name, why) in stopped.into_iter().chain(missing) {
            if !topics.iter().any(|topic| topic.source == name) {
                topics.push(TopicStatus {
                    target: self.settings.naming.target(&name),
                    source: name,
                    state: TopicState::Stopped(why),
                    warning: None,
                    records: 0,
                    bytes: 0,
                    partitions: Vec::new(),
                });
            }
        }
        topics.sort_by(|one, other| one.source.cmp(&other.source));
        let mut told = self.shared.told();
        for topic in &mut topics {
            (topic.records, topic.bytes) =
                told.counts.get(&topic.source).copied().unwrap_or_default();
            self.log(&mut told.stops, topic);
        }
        let records = told.counts.values().map(|(records, _)| records).sum();
        let bytes = told.counts.values().map(|(_, bytes)| bytes).sum();
        drop(told);
        let mut status = self.shared.status();
        status.state = state;
        status.topics = topics;
        (status.records, status.bytes) = (records, bytes);
        if let Some((of_records, of_bytes)) = self.meter.rates(records, bytes) {
            (status.records_per_second, status.bytes_per_second) = (of_records, of_bytes);
        }
    }

    /// Says once, and loudly, that a topic stops.
    fn log(&self, stops: &mut BTreeMap<String, String>, topic: &TopicStatus) {
        let (replication, name) = (&self.settings.name, &topic.source);
        match &topic.state {
            TopicState::Stopped(why) if stops.get(name) != Some(why) => {
                tracing::error!(replication, topic = name, "the topic is not copied: {why}");
                stops.insert(name.clone(), why.clone());
            }
            TopicState::Running if stops.remove(name).is_some() => {
                tracing::info!(replication, topic = name, "the topic is copied again");
            }
            _ => {}
        }
    }

    fn topic_status(&self, planned: &Planned, slots: &[usize], state: TopicState) -> TopicStatus {
        let slots = slots.iter().filter_map(|slot| self.slots.get(*slot));
        TopicStatus {
            source: planned.source.clone(),
            target: planned.target.clone(),
            state,
            warning: planned.warning.clone(),
            records: 0,
            bytes: 0,
            partitions: slots
                .map(|slot| {
                    let (end, done) = (slot.end.max(slot.done), slot.done);
                    PartitionStatus::new(slot.partition, Some(end), Some(done), slot.last)
                })
                .collect(),
        }
    }
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            records: 0,
            bytes: 0,
        }
    }

    fn rates(&mut self, records: u64, bytes: u64) -> Option<(f64, f64)> {
        let over = self.begun.elapsed();
        if self.records == 0 && self.bytes == 0 {
            (self.records, self.bytes) = (records, bytes);
        }
        if over < RATE {
            return None;
        }
        let rate = |now: u64, before: u64| (now - before) as f64 / over.as_secs_f64();
        let rates = (rate(records, self.records), rate(bytes, self.bytes));
        (self.begun, self.records, self.bytes) = (Instant::now(), records, bytes);
        Some(rates)
    }
}
