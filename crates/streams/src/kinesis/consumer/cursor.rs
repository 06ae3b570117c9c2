//! How far the reading of a shard is, and what its records are when they are unwrapped.

use std::time::Duration;
use std::vec::IntoIter;

use jiff::Timestamp;
use tokio::time::Instant;

use super::pace::Pace;
use super::place::{At, Place, Sequence};
use crate::kinesis::decode::{Decoder, Range};
use crate::kinesis::room::BATCH_BYTES;
use crate::record::{Lane, Position, Record};

/// The most bytes that one answer brings, and that a shard takes in a second.
const MOST_BYTES: usize = 10 << 20;
const BYTES_A_SECOND: usize = 1 << 20;

/// How far it is.
pub(super) struct Cursor {
    /// Where it began.
    pub(super) from: Place,
    /// The record at which it is to go on was seen, or there is none.
    pub(super) is_proven: bool,
    /// The flow knows of the lane.
    pub(super) is_gained: bool,
    /// The last record that was fetched.
    pub(super) fetched: Option<Sequence>,
    /// The last record that was given, or where reading began, as the flow commits it.
    pub(super) given: (u64, Position),
    /// The next record's ordinal.
    pub(super) ordinal: u64,
    /// All that arrived before was fetched.
    pub(super) until: Option<Timestamp>,
    pub(super) behind: Option<Duration>,
    /// When it was last fetched.
    pub(super) asked: Instant,
    /// When to note that all is settled, where it is.
    pub(super) note: Timestamp,
    pub(super) pace: Pace,
}

impl Cursor {
    /// Nothing is fetched yet of a lane that is done up to there. `note` is when to note that all is settled, for the first time.
    pub(super) fn new(from: Place, ordinal: u64, now: Instant, note: Timestamp) -> Self {
        Self {
            is_proven: from.sequence().is_none(),
            is_gained: false,
            fetched: None,
            given: (ordinal, from.position()),
            ordinal: ordinal + 1,
            until: from.settled.filter(|_| from.sequence().is_none()),
            behind: None,
            asked: now,
            note,
            pace: Pace::new(now),
            from,
        }
    }

    /// How many bytes the next answer may bring: what waits, or what a shard takes in the time since the last one.
    pub(super) fn expected(&self) -> usize {
        if self.behind != Some(Duration::ZERO) {
            return MOST_BYTES;
        }
        let seconds = self.asked.elapsed().as_secs_f64();
        let bytes = (seconds * BYTES_A_SECOND as f64) as usize;
        bytes.saturating_add(64 << 10).min(MOST_BYTES)
    }
}

/// The next of the records that were fetched, unwrapped one by one as far as a batch goes, without those that are committed already:
/// reading began there, where they are the first.
pub(super) fn unwrapped(
    fetched: &mut IntoIter<aws_sdk_kinesis::types::Record>,
    lane: &Lane,
    decoder: &Decoder,
    range: Option<Range>,
    from: Option<&At>,
) -> Vec<Record> {
    let unwrap = |record: aws_sdk_kinesis::types::Record| {
        let arrived = record.approximate_arrival_timestamp;
        let arrived = arrived.and_then(|at| at.to_millis().ok());
        let record = Record {
            lane: lane.clone(),
            ordinal: 0,
            position: Position::new(&record.sequence_number),
            key: record.partition_key.map(Into::into),
            value: Some(record.data.into_inner().into()),
            headers: Vec::new(),
            timestamp: arrived.and_then(|at| Timestamp::from_millisecond(at).ok()),
            defect: None,
        };
        decoder.decode(record, range)
    };
    let is_new = |record: &Record| match (from, Place::of(&record.position)) {
        (Some(from), Some(place)) => match (from, &place.at) {
            (At::After(done, path), At::After(sequence, here)) => {
                sequence != done || !path.is_empty() && here > path
            }
            _ => true,
        },
        _ => true,
    };
    let mut records = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES
        && let Some(record) = fetched.next()
    {
        let before = records.len();
        records.extend(unwrap(record).into_iter().filter(is_new));
        bytes += records[before..].iter().map(Record::size).sum::<usize>();
    }
    records
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::primitives::Blob;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::kinesis::decode::Wrapping;

    #[test]
    fn an_answer_is_unwrapped_as_far_as_a_batch_goes() {
        let record = |number: usize, size: usize| {
            let record = aws_sdk_kinesis::types::Record::builder()
                .sequence_number(number.to_string())
                .partition_key("key")
                .data(Blob::new(STANDARD.encode(vec![7; size])));
            record.build().unwrap()
        };
        let sizes = [BATCH_BYTES / 2, BATCH_BYTES / 2, BATCH_BYTES, 10, 10];
        let fetched = sizes.iter().enumerate().map(|(at, size)| record(at, *size));
        let mut fetched = fetched.collect::<Vec<_>>().into_iter();
        let decoder = Decoder::new(vec![Wrapping::Base64], 2 * BATCH_BYTES);
        let lane = Lane::new("shardId-000000000000");
        let mut next = || {
            let records = unwrapped(&mut fetched, &lane, &decoder, None, None);
            let sizes = records
                .iter()
                .map(|record| record.value.as_ref().unwrap().len());
            sizes.collect::<Vec<_>>()
        };
        assert_eq!(next(), sizes[..2]);
        assert_eq!(next(), sizes[2..3]);
        assert_eq!(next(), sizes[3..]);
        assert!(next().is_empty());
    }
}
