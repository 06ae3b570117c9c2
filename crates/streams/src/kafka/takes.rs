//! What a topic takes of a record, and what it refuses.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

/// What a batch of one record has beside the record.
const BATCH: usize = 512;

/// The most that clocks are taken to differ. A tenth of a bound where that is less.
const CLOCKS: Duration = Duration::from_secs(60);

/// The properties by which a topic says what it takes.
const LARGEST: &str = "max.message.bytes";
const CLEANUP: &str = "cleanup.policy";
const TIMES: &str = "message.timestamp.type";
const OLDER: &str = "message.timestamp.before.max.ms";
const NEWER: &str = "message.timestamp.after.max.ms";
/// Both of them, for brokers before 4.0 (KIP-937).
const EITHER: &str = "message.timestamp.difference.max.ms";

/// What a topic takes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takes {
    /// The largest record, in bytes: less than the topic's largest batch, for the batch's own bytes.
    pub largest: usize,
    /// The topic is compacted: each record must have a key.
    pub keyed: bool,
    /// How much older than now a record's time may be; none: as old as it likes.
    pub older: Option<Duration>,
    /// How much newer.
    pub newer: Option<Duration>,
}

/// Why a topic does not take a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The code of the dead letter.
    pub(super) code: &'static str,
    /// A sentence, without content of the record.
    pub(super) reason: String,
}

impl Takes {
    /// What brokers' topics take where nothing is set.
    pub const USUAL: Self = Self {
        largest: 1_000_000,
        keyed: false,
        older: None,
        newer: None,
    };

    /// What a topic takes by its properties. What is not among them is as nobody has told.
    pub(super) fn of<'p>(properties: impl Fn(&str) -> Option<&'p str>) -> Self {
        let number = |name: &str| properties(name)?.parse::<u64>().ok();
        // Without a bound it is the greatest number that there is.
        let time = |name: &str| number(name).filter(|bound| *bound < i64::MAX.unsigned_abs());
        let bound = |name: &str| {
            let bound = [time(name), time(EITHER)].into_iter().flatten().min();
            bound.map(Duration::from_millis)
        };
        // The broker writes its own time over the record's.
        let is_bound = properties(TIMES) != Some("LogAppendTime");
        let largest = number(LARGEST).map(|largest| usize::try_from(largest).unwrap_or(usize::MAX));
        Self {
            largest: largest.map_or(Self::USUAL.largest, |it| it.saturating_sub(BATCH)),
            keyed: properties(CLEANUP).is_some_and(|policy| policy.contains("compact")),
            older: bound(OLDER).filter(|_| is_bound),
            newer: bound(NEWER).filter(|_| is_bound),
        }
    }

    /// Whether a record can have that time; none: it gets the time at which it is written.
    pub(super) fn takes_time(&self, time: Option<Timestamp>, now: Timestamp) -> bool {
        // librdkafka writes now for 0 too.
        let Some(time) = time.filter(|time| time.as_millisecond() != 0) else {
            return true;
        };
        let within = |bound: Option<Duration>, by: SignedDuration| {
            let Some(bound) =
                bound.and_then(|it| SignedDuration::try_from(it - CLOCKS.min(it / 10)).ok())
            else {
                return true;
            };
            by <= bound
        };
        within(self.older, now.duration_since(time)) && within(self.newer, time.duration_since(now))
    }

    /// Why the topic does not take an output of so many bytes; none where it does.
    pub(super) fn refuses(
        &self,
        topic: &str,
        size: usize,
        key: Option<&Bytes>,
        time: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Refusal> {
        if size > self.largest {
            return Some(Refusal {
                code: "output-too-large",
                reason: format!(
                    "the output is larger than the {} bytes that a record of the topic {topic} may have",
                    self.largest
                ),
            });
        }
        if self.keyed && key.is_none() {
            return Some(Refusal {
                code: "output-without-key",
                reason: format!(
                    "the topic {topic} is compacted and takes no record without a key: give its channel a key, or the record one"
                ),
            });
        }
        if !self.takes_time(time, now) {
            return Some(Refusal {
                code: "output-out-of-time",
                reason: format!(
                    "the record's time is further from now than the topic {topic} takes ({OLDER}, {NEWER})"
                ),
            });
        }
        None
    }
}

impl Default for Takes {
    fn default() -> Self {
        Self::USUAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(properties: &[(&str, &'static str)]) -> Takes {
        let value = |name: &str| {
            let found = properties.iter().find(|(property, _)| *property == name);
            found.map(|(_, value)| *value)
        };
        Takes::of(value)
    }

    #[test]
    fn a_topics_properties_say_what_it_takes() {
        let usual = Takes::USUAL;
        let hour = Some(Duration::from_secs(3600));
        let unbound = "9223372036854775807";
        for (properties, expected) in [
            (&[][..], usual.clone()),
            (
                &[
                    (LARGEST, "10512"),
                    (CLEANUP, "delete"),
                    (OLDER, unbound),
                    (NEWER, "3600000"),
                ],
                Takes {
                    largest: 10_000,
                    newer: hour,
                    ..usual.clone()
                },
            ),
            (
                &[(CLEANUP, "compact,delete")],
                Takes {
                    keyed: true,
                    ..usual.clone()
                },
            ),
            (
                &[(EITHER, "3600000"), (OLDER, unbound)],
                Takes {
                    older: hour,
                    newer: hour,
                    ..usual.clone()
                },
            ),
            (
                &[(TIMES, "LogAppendTime"), (OLDER, "1"), (NEWER, "1")],
                usual,
            ),
        ] {
            assert_eq!(takes(properties), expected, "{properties:?}");
        }
    }

    #[test]
    fn a_record_that_the_topic_refuses_is_known_before_it_is_sent() {
        let takes = Takes {
            largest: 100,
            keyed: true,
            older: Some(Duration::from_secs(3600)),
            newer: Some(Duration::from_secs(60)),
        };
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let at = |seconds: i64| Some(now + SignedDuration::from_secs(seconds));
        let key = Bytes::from_static(b"key");
        for (size, key, time, code) in [
            (100, Some(&key), at(0), None),
            (101, Some(&key), at(0), Some("output-too-large")),
            (1, None, at(0), Some("output-without-key")),
            (1, Some(&Bytes::new()), None, None),
            (1, Some(&key), at(-3500), None),
            // Clocks differ: nearer than a minute to the bound is not tried.
            (1, Some(&key), at(-3570), Some("output-out-of-time")),
            (1, Some(&key), at(50), None),
            (1, Some(&key), at(58), Some("output-out-of-time")),
            (1, Some(&key), Some(Timestamp::UNIX_EPOCH), None),
        ] {
            let refusal = takes.refuses("topic", size, key, time, now);
            assert_eq!(refusal.map(|it| it.code), code, "{size} {time:?}");
        }
    }
}
