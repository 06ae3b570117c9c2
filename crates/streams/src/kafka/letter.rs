//! A dead letter: a record as it came, with why it is one; less of it where its topic does not take all.

use bytes::Bytes;
use jiff::Timestamp;

use super::takes::Takes;
use crate::flow::Failure;
use crate::record::{Header, Lane, Record};

/// What a record costs beside its key, value and headers, and a header beside its name and value.
const ENVELOPE: usize = 128;
const HEADER: usize = 8;

/// A dead letter on its way out.
pub(super) struct Letter<'r> {
    pub(super) key: Option<&'r Bytes>,
    pub(super) value: Option<&'r Bytes>,
    /// The record's own headers.
    pub(super) headers: &'r [Header],
    /// Why it is one, and what is left out.
    pub(super) reasons: Vec<Header>,
    pub(super) timestamp: Option<Timestamp>,
}

impl<'r> Letter<'r> {
    /// The dead letter of a record, as its topic takes it.
    pub(super) fn of(
        lane: &Lane,
        record: &'r Record,
        failure: &Failure,
        attempts: u32,
        takes: &Takes,
        now: Timestamp,
    ) -> Self {
        let mut letter = Self {
            key: record.key.as_ref(),
            value: record.value.as_ref(),
            headers: &record.headers,
            reasons: reasons(lane, record, failure, attempts),
            timestamp: record.timestamp,
        };
        if !takes.takes_time(letter.timestamp, now)
            && let Some(time) = letter.timestamp.take()
        {
            letter.left_out("timestamp", &time.as_millisecond());
        }
        while letter.size() > takes.largest && letter.lighten() {}
        letter
    }

    /// Leaves the largest part out; false where nothing is left.
    fn lighten(&mut self) -> bool {
        let length = |bytes: Option<&Bytes>| bytes.map_or(0, |bytes| bytes.len() + 1);
        let (value, key) = (length(self.value), length(self.key));
        let headers: usize = self.headers.iter().map(weight).sum();
        if value.max(key).max(headers) == 0 {
            return false;
        }
        if value >= headers.max(key) {
            self.value = None;
            self.left_out("value", &(value - 1));
        } else if headers >= key {
            let headers = std::mem::take(&mut self.headers);
            self.left_out("headers", &headers.len());
        } else {
            self.key = None;
            self.left_out("key", &(key - 1));
        }
        true
    }

    fn left_out(&mut self, what: &str, how_much: &dyn ToString) {
        let name = format!("linkspan-{what}-left-out");
        self.reasons.push(header(&name, how_much.to_string()));
    }

    fn size(&self) -> usize {
        size(self.key, self.value, [self.headers, &self.reasons])
    }
}

/// About how large a record is in its topic, in bytes; rather more than less.
pub(super) fn size(key: Option<&Bytes>, value: Option<&Bytes>, headers: [&[Header]; 2]) -> usize {
    let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    let headers: usize = headers.into_iter().flatten().map(weight).sum();
    ENVELOPE + length(key) + length(value) + headers
}

fn weight(header: &Header) -> usize {
    HEADER + header.name.len() + header.value.as_ref().map_or(0, Bytes::len)
}

fn reasons(lane: &Lane, record: &Record, failure: &Failure, attempts: u32) -> Vec<Header> {
    [
        ("linkspan-error-code", failure.code.clone()),
        ("linkspan-error-reason", failure.reason.clone()),
        ("linkspan-attempts", attempts.to_string()),
        ("linkspan-source", lane.to_string()),
        ("linkspan-offset", record.position.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| header(name, value))
    .collect()
}

fn header(name: &str, value: String) -> Header {
    Header {
        name: name.into(),
        value: Some(Bytes::from(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Position;

    #[test]
    fn what_its_topic_does_not_take_is_left_out_of_a_dead_letter_and_said() {
        let lane = Lane::new("contracts.in/0");
        let bytes = |length| Some(Bytes::from(vec![b'x'; length]));
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let failure = Failure {
            code: "engine-failed".to_owned(),
            reason: "it failed".to_owned(),
            retryable: false,
            after: None,
            overloaded: false,
        };
        let takes = Takes {
            largest: 5_000,
            older: Some(std::time::Duration::from_secs(3600)),
            ..Takes::default()
        };
        let names = |headers: &[Header]| {
            let names = headers.iter().map(|header| header.name.to_string());
            names.collect::<Vec<_>>()
        };
        // The lengths of key, value and the one header; what stays of key, value and headers; what is said to be left out.
        for (key, value, header, stays, said) in [
            (10, 10, 10, (true, true, 1), &[][..]),
            (10, 9_000, 10, (true, false, 1), &[("value", "9000")]),
            (10, 10, 9_000, (true, true, 0), &[("headers", "1")]),
            (9_000, 10, 10, (false, true, 1), &[("key", "9000")]),
            (
                9_000,
                9_000,
                9_000,
                (false, false, 0),
                &[("headers", "1"), ("value", "9000"), ("key", "9000")],
            ),
        ] {
            let record = Record {
                lane: lane.clone(),
                ordinal: 7,
                position: Position::number(7),
                key: bytes(key),
                value: bytes(value),
                headers: vec![super::header("colour", "x".repeat(header))],
                timestamp: Some(now),
                defect: None,
            };
            let letter = Letter::of(&lane, &record, &failure, 3, &takes, now);
            let stayed = (
                letter.key.is_some(),
                letter.value.is_some(),
                letter.headers.len(),
            );
            assert_eq!(stayed, stays, "{key} {value} {header}");
            assert!(letter.size() <= takes.largest);
            let markers = letter.reasons[5..].iter().map(|header| {
                let value = header.value.as_deref().unwrap();
                (
                    header.name.to_string(),
                    String::from_utf8(value.to_vec()).unwrap(),
                )
            });
            let markers: Vec<_> = markers.collect();
            let expected = said.iter().map(|(what, how_much)| {
                (format!("linkspan-{what}-left-out"), (*how_much).to_owned())
            });
            assert_eq!(markers, expected.collect::<Vec<_>>());
            assert_eq!(letter.timestamp, Some(now));
        }
        let old = Record {
            lane: lane.clone(),
            ordinal: 7,
            position: Position::number(7),
            key: None,
            value: bytes(10),
            headers: Vec::new(),
            timestamp: Some(Timestamp::from_second(1_500_000_000).unwrap()),
            defect: None,
        };
        let letter = Letter::of(&lane, &old, &failure, 3, &takes, now);
        assert_eq!((letter.timestamp, letter.value), (None, old.value.as_ref()));
        assert_eq!(names(&letter.reasons[5..]), ["linkspan-timestamp-left-out"]);
    }
}
