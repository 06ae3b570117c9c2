//! The reading end of a log. It blocks, and sees nothing that is not on the disk.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

use super::index::{Index, Sealed};
use super::opening;
use super::pool::held;
use super::scan::Scanner;
use super::segment::{PROLOGUE, Segment, name};
use super::shard::Core;
use super::{Entry, LogError};

/// What of a log can be read.
pub(super) struct State {
    /// Segments that get no more entries, oldest first.
    pub(super) sealed: VecDeque<Sealed>,
    /// The one that does.
    pub(super) segment: Segment,
    /// What of it is on the disk.
    pub(super) durable: Sealed,
    /// Its index.
    pub(super) index: Index,
}

/// Where to begin to read.
struct Place {
    /// The segment, where it is the newest.
    segment: Option<Segment>,
    base: u64,
    end: u64,
    /// From the newest's index. A sealed one's is on the disk.
    at: Option<u64>,
}

impl Core {
    /// As [`super::Log::read`]; blocks.
    pub(super) fn read(
        &self,
        from: u64,
        entries: usize,
        bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let mut found: Vec<Entry> = Vec::new();
        let (mut next, mut room) = (from, bytes);
        while found.len() < entries {
            let place = held(&self.state).place(next);
            let Some(place) = place.filter(|place| place.end > next) else {
                break;
            };
            let before = found.len();
            let read = self.read_segment(&place, &mut next, entries, &mut room, &mut found);
            match read {
                Ok(()) if found.len() > before && next == place.end => {}
                Ok(()) => break,
                // What reads well is given first; the next read begins at what does not.
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(self.explained(from, error)),
            }
        }
        Ok(found)
    }

    /// Reads from `next` on until the segment ends or a bound is met.
    fn read_segment(
        &self,
        place: &Place,
        next: &mut u64,
        entries: usize,
        room: &mut usize,
        into: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let told = |fault| opening::told(place.base, fault);
        let (segment, at, end) = self.opened(place, |index| index.before(*next))?;
        let mut scanner = Scanner::new(&*segment.file, segment.salt, at, end);
        while into.len() < entries {
            let Some(head) = scanner.peek().map_err(told)? else {
                break;
            };
            if head.offset < *next {
                scanner.skim().map_err(told)?;
                continue;
            }
            if head.length as usize > *room && !into.is_empty() {
                break;
            }
            let Some(frame) = scanner.read().map_err(told)? else {
                break;
            };
            let arrived = Timestamp::from_microsecond(head.arrived).ok();
            let Some(arrived) = arrived.filter(|_| head.offset == *next) else {
                let (file, at) = (name(place.base), frame.at);
                return Err(LogError::Corrupt { file, at });
            };
            *room = room.saturating_sub(frame.payload.len());
            // A copy: an entry that is kept keeps nothing but itself.
            let payload = Bytes::copy_from_slice(frame.payload);
            into.push(Entry {
                offset: head.offset,
                arrived,
                payload,
            });
            *next += 1;
        }
        Ok(())
    }

    /// As [`super::Log::since`]; blocks.
    pub(super) fn since(&self, time: i64) -> Result<u64, LogError> {
        let place = held(&self.state).place_since(time);
        let Some(place) = place else {
            return Ok(held(&self.state).durable.end);
        };
        let found = self.since_in(&place, time);
        found.map_err(|error| self.explained(place.base, error))
    }

    fn since_in(&self, place: &Place, time: i64) -> Result<u64, LogError> {
        let (segment, at, end) = self.opened(place, |index| index.earlier(time))?;
        let mut scanner = Scanner::new(&*segment.file, segment.salt, at, end);
        let told = |fault| opening::told(place.base, fault);
        while let Some(found) = scanner.skim().map_err(told)? {
            if found.head.arrived >= time {
                return Ok(found.head.offset);
            }
        }
        Ok(place.end)
    }

    /// The segment of a place, where to begin in it, and where it ends.
    fn opened(
        &self,
        place: &Place,
        point: impl FnOnce(&Index) -> Option<u64>,
    ) -> Result<(Segment, u64, u64), LogError> {
        if let Some(segment) = &place.segment {
            let end = held(&self.state).bytes(place.base);
            return Ok((segment.clone(), place.at.unwrap_or(PROLOGUE), end));
        }
        let segment = Segment::open(&*self.disk, &self.folder, place.base)
            .map_err(|fault| opening::told(place.base, fault))?;
        let end = held(&self.state).bytes(place.base);
        let index = opening::index(&*self.disk, &self.folder, place.base);
        let at = index.and_then(|(index, _)| point(&index));
        Ok((segment, at.unwrap_or(PROLOGUE), end))
    }

    /// An error of a segment that was let go of meanwhile is just that.
    fn explained(&self, from: u64, error: LogError) -> LogError {
        let first = held(&self.state).bounds().start;
        match error {
            _ if from < first => LogError::Trimmed { first },
            _ if self.refuses() => LogError::Closed,
            error => error,
        }
    }
}

impl State {
    /// The first kept offset and the next one to be given.
    pub(super) fn bounds(&self) -> Range<u64> {
        let first = self.sealed.front().unwrap_or(&self.durable);
        first.base..self.durable.end
    }

    /// Bytes behind the oldest segment.
    pub(super) fn size_after_first(&self) -> u64 {
        let sealed = self.sealed.iter().skip(1).map(|sealed| sealed.bytes);
        sealed.sum::<u64>() + self.durable.bytes
    }

    /// How many bytes of a segment can be read; 0 where it is gone.
    fn bytes(&self, base: u64) -> u64 {
        if self.durable.base == base {
            return self.durable.bytes;
        }
        let place = self
            .sealed
            .binary_search_by_key(&base, |sealed| sealed.base);
        place.map_or(0, |place| self.sealed[place].bytes)
    }

    fn place(&self, offset: u64) -> Option<Place> {
        if offset >= self.durable.base {
            return Some(self.newest(self.index.before(offset)));
        }
        let after = self.sealed.partition_point(|sealed| sealed.base <= offset);
        let sealed = self.sealed.get(after.checked_sub(1)?)?;
        Some(Place::of(sealed))
    }

    fn place_since(&self, time: i64) -> Option<Place> {
        let place = self.sealed.partition_point(|sealed| sealed.last < time);
        match self.sealed.get(place) {
            Some(sealed) => Some(Place::of(sealed)),
            None if self.durable.end > self.durable.base && self.durable.last >= time => {
                Some(self.newest(self.index.earlier(time)))
            }
            None => None,
        }
    }

    fn newest(&self, at: Option<u64>) -> Place {
        Place {
            segment: Some(self.segment.clone()),
            base: self.durable.base,
            end: self.durable.end,
            at,
        }
    }
}

impl Place {
    fn of(sealed: &Sealed) -> Self {
        Self {
            segment: None,
            base: sealed.base,
            end: sealed.end,
            at: None,
        }
    }
}
