//! Records of a Kafka topic, with what producers wrapped them in taken off.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use linkspan_streams::flow::Progress;
use linkspan_streams::kinesis::decode::Decoder;
use linkspan_streams::kinesis::room::BATCH_BYTES;
use linkspan_streams::{Event, Lane, Position, Record, Source, SourceError};

/// The bits of an ordinal that count the records within a message. The rest is the message's offset.
const PARTS: u32 = 24;
const LAST_PART: u64 = (1 << PARTS) - 1;

/// How far the lanes are done, in ordinals of records that were unwrapped: shared with whoever tells the source where to begin.
#[derive(Clone, Default)]
pub(super) struct Done(Arc<Mutex<HashMap<Lane, Progress>>>);

/// A source of messages, each of which can hold several records. Their ordinals are the message's offset and the place within it.
///
/// A message is unwrapped when there is room for its records, and not before: a small one can become very large.
pub(super) struct Unwrapped<S> {
    source: S,
    decoder: Decoder,
    done: Done,
    /// The messages that were read and not unwrapped, all of one lane.
    waiting: VecDeque<Record>,
    /// Up to where the parts of a lane's messages were done before.
    passed: HashMap<Lane, u64>,
}

impl Done {
    /// Takes note of how far a lane is done, and gives how far its messages are: from the next one on they are to be read.
    pub(super) fn note(&self, lane: &Lane, progress: Option<Progress>) -> Option<Progress> {
        let mut done = self.locked();
        let Some(progress) = progress else {
            done.remove(lane);
            return None;
        };
        let messages = messages(&progress);
        done.insert(lane.clone(), in_parts(progress));
        Some(messages)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Lane, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far messages are done, whatever their records were counted by. What is done beyond is for the flow to know.
pub(super) fn messages(progress: &Progress) -> Progress {
    let last = progress.last.as_ref().and_then(|(_, position)| {
        let (offset, is_part) = offset(position)?;
        offset.checked_sub(u64::from(is_part))
    });
    Progress {
        last: last.map(|last| (last, Position::number(last))),
        beyond: Vec::new(),
    }
}

impl<S> Unwrapped<S> {
    pub(super) fn new(source: S, decoder: Decoder, done: Done) -> Self {
        Self {
            source,
            decoder,
            done,
            waiting: VecDeque::new(),
            passed: HashMap::new(),
        }
    }

    /// The records of the next messages; empty where nothing waits, or all of it was done before.
    fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(message) = self.waiting.pop_front()
        {
            let before = records.len();
            records.extend(self.parts(message));
            bytes += records[before..].iter().map(Record::size).sum::<usize>();
        }
        records
    }

    /// Of these lanes nothing more is given that was read before.
    fn forget<'l>(&mut self, lanes: impl IntoIterator<Item = &'l Lane>) {
        let waits_of = self.waiting.front().map(|message| &message.lane);
        if waits_of.is_some_and(|lane| lanes.into_iter().any(|gone| gone == lane)) {
            self.waiting.clear();
        }
    }

    fn parts(&self, message: Record) -> impl Iterator<Item = Record> + use<'_, S> {
        let offset = message.ordinal;
        let passed = self.passed.get(&message.lane).copied();
        let parts = match message.value {
            Some(_) => self.decoder.decode(message, None),
            None => vec![message],
        };
        let parts = parts.into_iter().zip(0..=LAST_PART);
        parts
            .map(move |(part, nth)| Record {
                ordinal: offset << PARTS | nth,
                ..part
            })
            .filter(move |part| passed.is_none_or(|passed| part.ordinal > passed))
    }
}

#[async_trait]
impl<S: Source> Source for Unwrapped<S> {
    async fn next(&mut self, room: bool) -> Result<Event, SourceError> {
        loop {
            if room && !self.waiting.is_empty() {
                let records = self.records();
                if !records.is_empty() {
                    return Ok(Event::Records(records));
                }
            }
            let room = room && self.waiting.is_empty();
            return match self.source.next(room).await? {
                Event::Gained(mut gained) => {
                    self.forget(gained.iter().map(|gained| &gained.lane));
                    for gained in &mut gained {
                        let done = self.done.locked().get(&gained.lane).cloned();
                        gained.progress = done.unwrap_or_else(|| in_parts(gained.progress.clone()));
                        match &gained.progress.last {
                            Some((last, _)) => self.passed.insert(gained.lane.clone(), *last),
                            None => self.passed.remove(&gained.lane),
                        };
                    }
                    Ok(Event::Gained(gained))
                }
                Event::Records(messages) => {
                    self.waiting = messages.into();
                    continue;
                }
                Event::Revoked { lanes, release } => {
                    self.forget(&lanes);
                    Ok(Event::Revoked { lanes, release })
                }
                Event::Lost(lanes) => {
                    self.forget(&lanes);
                    Ok(Event::Lost(lanes))
                }
                // Partitions do not end.
                ended @ Event::Ended { .. } => Ok(ended),
            };
        }
    }
}

/// Progress counted by parts: that of whole messages, where it was counted by those.
fn in_parts(progress: Progress) -> Progress {
    match progress.last {
        Some((ordinal, position)) if position.as_number() == Some(ordinal) => Progress {
            last: Some((ordinal << PARTS | LAST_PART, position)),
            beyond: Vec::new(),
        },
        last => Progress { last, ..progress },
    }
}

/// The offset in a position, and whether it is of a part of the message.
fn offset(position: &Position) -> Option<(u64, bool)> {
    if let Some(offset) = position.as_number() {
        return Some((offset, false));
    }
    let text = position.to_string();
    let (offset, _) = text.split_once('/')?;
    Some((offset.parse().ok()?, true))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use futures_util::FutureExt as _;
    use linkspan_streams::kinesis::decode::Wrapping;
    use linkspan_streams::{Gained, Release, Term};

    use super::*;

    /// Gives what it is told to, records only where there is room.
    struct Scripted(VecDeque<Event>);

    #[async_trait]
    impl Source for Scripted {
        async fn next(&mut self, room: bool) -> Result<Event, SourceError> {
            let at = self
                .0
                .iter()
                .position(|event| room || !matches!(event, Event::Records(_)));
            match at.and_then(|at| self.0.remove(at)) {
                Some(event) => Ok(event),
                None => std::future::pending().await,
            }
        }
    }

    fn message(lane: &Lane, offset: u64, value: Option<Vec<u8>>) -> Record {
        Record {
            lane: lane.clone(),
            ordinal: offset,
            position: Position::number(offset),
            key: None,
            value: value.map(Into::into),
            headers: Vec::new(),
            timestamp: None,
            defect: None,
        }
    }

    #[test]
    fn messages_are_unwrapped_one_by_one_as_there_is_room_and_none_of_a_lane_that_is_gone() {
        let lane = Lane::new("reviews/0");
        let large = STANDARD.encode(vec![7; BATCH_BYTES]).into_bytes();
        let messages = |offsets: std::ops::Range<u64>| {
            let messages = offsets.map(|offset| message(&lane, offset, Some(large.clone())));
            Event::Records(messages.collect())
        };
        let gained = || {
            Event::Gained(vec![Gained {
                lane: lane.clone(),
                term: Term::default(),
                progress: Progress::default(),
            }])
        };
        let decoder = Decoder::new(vec![Wrapping::Base64], BATCH_BYTES * 2);
        let script = [gained(), messages(0..3), messages(3..6)];
        let mut source = Unwrapped::new(Scripted(script.into()), decoder, Done::default());
        let next = |source: &mut Unwrapped<Scripted>, room| {
            source.next(room).now_or_never().map(Result::unwrap)
        };
        let offsets = |event: Option<Event>| match event {
            Some(Event::Records(records)) => {
                let offsets = records.iter().map(|record| record.ordinal >> PARTS);
                Some(offsets.collect::<Vec<_>>())
            }
            _ => None,
        };
        assert!(matches!(next(&mut source, true), Some(Event::Gained(_))));
        assert_eq!(offsets(next(&mut source, true)), Some(vec![0]));
        assert!(next(&mut source, false).is_none(), "there is no room");
        assert_eq!(offsets(next(&mut source, true)), Some(vec![1]));
        // What waits of the lane is another's; the same messages come again when it is back.
        source.source.0.push_front(Event::Revoked {
            lanes: vec![lane.clone()],
            release: Release::new().0,
        });
        assert!(matches!(
            next(&mut source, false),
            Some(Event::Revoked { .. })
        ));
        assert_eq!(offsets(next(&mut source, true)), Some(vec![3]));
        source.source.0.push_front(gained());
        assert!(matches!(next(&mut source, false), Some(Event::Gained(_))));
        assert!(next(&mut source, true).is_none());
    }

    fn progress(ordinal: u64, position: &str, beyond: &[(u64, u64)]) -> Progress {
        Progress {
            last: Some((ordinal, Position::new(position))),
            beyond: beyond.to_vec(),
        }
    }

    #[test]
    fn reading_goes_on_within_a_message_that_is_done_in_part() {
        let lane = Lane::new("reviews/0");
        let done = Done::default();
        let part = progress(7 << PARTS | 2, "7/2", &[(7 << PARTS | 4, 7 << PARTS | 4)]);
        let asked = done.note(&lane, Some(part.clone()));
        assert_eq!(
            asked,
            Some(progress(6, "6", &[])),
            "the message comes again"
        );
        assert_eq!(done.locked()[&lane], part);
        let whole = progress(7 << PARTS, "7", &[]);
        assert_eq!(done.note(&lane, Some(whole)), Some(progress(7, "7", &[])));
        assert_eq!(done.note(&lane, None), None);
        assert!(done.locked().is_empty());
    }

    #[test]
    fn a_message_that_is_the_first_and_done_in_part_is_read_from_the_beginning() {
        let first = messages(&progress(1, "0/1", &[]));
        assert_eq!(first.last, None);
    }

    #[test]
    fn progress_is_understood_when_unwrapping_was_begun_or_ended_meanwhile() {
        let before = progress(5, "5", &[(9, 9)]);
        assert_eq!(in_parts(before), progress(5 << PARTS | LAST_PART, "5", &[]));
        let after = progress(5 << PARTS | 1, "5/1", &[(6 << PARTS, 6 << PARTS)]);
        assert_eq!(messages(&after), progress(4, "4", &[]));
        let same = progress(5 << PARTS, "5", &[(6 << PARTS, 6 << PARTS)]);
        assert_eq!(messages(&same), progress(5, "5", &[]));
    }

    #[test]
    fn parts_have_ordinals_of_their_own_and_those_that_were_done_are_left_out() {
        let decoder = Decoder::new(vec![Wrapping::CloudWatchLogs], 1 << 20);
        let mut source = Unwrapped::new((), decoder, Done::default());
        let record = message(&Lane::new("logs/0"), 3, None);
        let ordinals = |source: &Unwrapped<()>, record: &Record| {
            let parts = source.parts(record.clone());
            parts.map(|part| part.ordinal).collect::<Vec<_>>()
        };
        assert_eq!(
            ordinals(&source, &record),
            [3 << PARTS],
            "a tombstone stays one"
        );
        source.passed.insert(record.lane.clone(), 3 << PARTS);
        assert!(ordinals(&source, &record).is_empty());
    }
}
