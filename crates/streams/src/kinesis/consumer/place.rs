//! Where reading a shard goes on: the text of a position, read and written.
//!
//! ```text
//! SEQUENCE         after this record
//! SEQUENCE/N       after the part N of this record (an aggregate), and so on with deeper parts
//! =SEQUENCE        with this record
//! @MILLISECONDS    with the first record that arrived at this time
//! ^                with the oldest record that is there
//! $                behind the newest record that is there
//! ```
//!
//! The first three and `^` may have `@MILLISECONDS` behind them: everything that arrived before that time was read and committed, also
//! where there was nothing. With the last two a lane is written down that nobody has begun to read.

use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;

use crate::flow::Progress;
use crate::record::Position;

/// What of progress holds whatever the records were unwrapped to: whole records. One that is done in part comes again, and so does what
/// was done beyond the prefix.
#[must_use]
pub fn whole(progress: Progress) -> Progress {
    let last = progress.last.map(|(ordinal, position)| {
        let whole = match Place::of(&position) {
            Some(Place {
                at: At::After(sequence, path),
                settled,
            }) if !path.is_empty() => {
                let at = At::With(sequence);
                Place { at, settled }.position()
            }
            _ => position,
        };
        (ordinal, whole)
    });
    Progress {
        last,
        beyond: Vec::new(),
    }
}

/// A sequence number: decimal digits without a leading zero, more than fit in 128 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence(String);

/// Where reading goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: At,
    /// Everything that arrived before this time was read and committed.
    pub(super) settled: Option<Timestamp>,
}

/// A place in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// After a record, or after one of its parts.
    After(Sequence, Vec<u64>),
    /// With a record.
    With(Sequence),
    /// With the first record that arrived at [`Place::settled`].
    Time,
    /// With the oldest record.
    Oldest,
    /// Behind the newest record.
    Newest,
}

impl Sequence {
    /// Reads a sequence number.
    pub(super) fn new(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let text = text.trim_start_matches('0');
        digits.then(|| Self(if text.is_empty() { "0" } else { text }.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Place {
    /// Reads a position; none where it is no place in a shard.
    pub(super) fn of(position: &Position) -> Option<Self> {
        let text = position.to_string();
        let (at, settled) = match text.split_once('@') {
            Some((at, time)) => {
                let time = Timestamp::from_millisecond(time.parse().ok()?).ok()?;
                (at, Some(time))
            }
            None => (&*text, None),
        };
        let at = match at {
            "" => {
                settled?;
                At::Time
            }
            "^" => At::Oldest,
            "$" if settled.is_none() => At::Newest,
            at => match at.strip_prefix('=') {
                Some(sequence) => At::With(Sequence::new(sequence)?),
                None => {
                    let mut parts = at.split('/');
                    let sequence = Sequence::new(parts.next()?)?;
                    let path = parts.map(|part| part.parse().ok());
                    At::After(sequence, path.collect::<Option<_>>()?)
                }
            },
        };
        Some(Self { at, settled })
    }

    /// The first place of a shard that is read from a time on.
    pub(super) const fn time(time: Timestamp) -> Self {
        Self {
            at: At::Time,
            settled: Some(time),
        }
    }

    /// The first place of a shard that is read whole. Before the time, where there is one, nothing had arrived in it.
    pub(super) const fn oldest(before: Option<Timestamp>) -> Self {
        Self {
            at: At::Oldest,
            settled: before,
        }
    }

    /// The first place of a shard of which only what is new is read.
    pub(super) const fn newest() -> Self {
        Self {
            at: At::Newest,
            settled: None,
        }
    }

    /// The place with a record.
    pub(super) const fn with(sequence: Sequence) -> Self {
        Self {
            at: At::With(sequence),
            settled: None,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position::new(&self.to_string())
    }

    /// The sequence number, where there is one.
    pub(super) const fn sequence(&self) -> Option<&Sequence> {
        match &self.at {
            At::After(sequence, _) | At::With(sequence) => Some(sequence),
            At::Time | At::Oldest | At::Newest => None,
        }
    }

    /// The sequence number, where there is one.
    pub(super) fn into_sequence(self) -> Option<Sequence> {
        match self.at {
            At::After(sequence, _) | At::With(sequence) => Some(sequence),
            At::Time | At::Oldest | At::Newest => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::After(sequence, path) => {
                f.write_str(&sequence.0)?;
                for part in path {
                    write!(f, "/{part}")?;
                }
            }
            At::With(sequence) => write!(f, "={}", sequence.0)?,
            At::Time => {}
            At::Oldest => f.write_str("^")?,
            At::Newest => f.write_str("$")?,
        }
        match self.settled {
            Some(time) => write!(f, "@{}", time.as_millisecond()),
            None => Ok(()),
        }
    }
}

impl Ord for Sequence {
    fn cmp(&self, other: &Self) -> Ordering {
        let length = self.0.len().cmp(&other.0.len());
        length.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Sequence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_they_are_read() {
        for text in [
            "49590338271490256608559692538361571095921575989136588898",
            "495903382714902566085596925383615710959215759891365/3",
            "7/3/12",
            "7",
            "=49590338271490256608559692538361571095921575989136588898",
            "@1790000000123",
            "7/0@1790000000123",
            "=7@1790000000123",
            "^",
            "^@1790000000123",
            "$",
        ] {
            let place = Place::of(&Position::new(text)).unwrap();
            assert_eq!(place.to_string(), text);
        }
        for text in [
            "", "@", "=", "a", "7/", "7/a", "=7/1", "7@", "7@x", "-7", "^7", "$@7",
        ] {
            assert_eq!(Place::of(&Position::new(text)), None, "{text:?}");
        }
    }

    #[test]
    fn a_record_that_is_done_in_part_is_not_done_where_its_parts_are_others() {
        for (done, expected) in [
            ("7/3", "=7"),
            ("7/3/1@1790000000123", "=7@1790000000123"),
            ("7", "7"),
            ("=7", "=7"),
            ("^", "^"),
            ("@1790000000123", "@1790000000123"),
        ] {
            let progress = Progress {
                last: Some((12, Position::new(done))),
                beyond: vec![(14, 19)],
            };
            let expected = Progress {
                last: Some((12, Position::new(expected))),
                beyond: Vec::new(),
            };
            assert_eq!(whole(progress), expected, "{done}");
        }
    }

    #[test]
    fn sequence_numbers_are_numbers() {
        let new = |text| Sequence::new(text).unwrap();
        assert!(new("9") < new("10"));
        assert!(new("49590338271490256608559692538361571095921575989136588898") > new("5"));
        assert_eq!(new("007"), new("7"));
        assert_eq!(new("00").as_str(), "0");
    }
}
