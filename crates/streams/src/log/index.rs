//! Where in a segment an offset or a time is, roughly; and the side files that keep what would else be found by reading a segment.

use super::frame::{u32_at, u64_at};

/// A point in each so many bytes. A read scans as much at most before it is where it should be.
const STEP: u64 = 128 * 1024;

const MAGIC: [u8; 4] = *b"LSPI";
const POINT: usize = 20;
const PROLOGUE: usize = 40;

/// Some of a segment's frames.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    points: Vec<Point>,
}

/// A frame: its offset, when it came, where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// The offset.
    pub(super) offset: u64,
    /// Microseconds since 1970.
    pub(super) arrived: i64,
    /// Where it begins.
    pub(super) at: u32,
}

/// What is known of a segment that gets no more entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    /// The first offset.
    pub(super) base: u64,
    /// The offset after the last.
    pub(super) end: u64,
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// When the last entry came.
    pub(super) last: i64,
}

impl Index {
    /// Takes a frame as a point if the one before is far enough back.
    pub(super) fn note(&mut self, point: Point) {
        let far = |last: &Point| u64::from(point.at) >= u64::from(last.at) + STEP;
        if self.points.last().is_none_or(far) {
            self.points.push(point);
        }
    }

    /// Forgets the points from an offset on.
    pub(super) fn end_at(&mut self, end: u64) {
        self.points.retain(|point| point.offset < end);
    }

    /// The last point at that offset or before.
    pub(super) fn before(&self, offset: u64) -> Option<u64> {
        self.place(self.points.partition_point(|point| point.offset <= offset))
    }

    /// The last point that came before that time.
    pub(super) fn earlier(&self, time: i64) -> Option<u64> {
        self.place(self.points.partition_point(|point| point.arrived < time))
    }

    /// The side file of a sealed segment.
    pub(super) fn written(&self, sealed: &Sealed) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PROLOGUE + self.points.len() * POINT + 4);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[1, 0, 0, 0]);
        bytes.extend_from_slice(&sealed.base.to_le_bytes());
        bytes.extend_from_slice(&sealed.end.to_le_bytes());
        bytes.extend_from_slice(&sealed.bytes.to_le_bytes());
        bytes.extend_from_slice(&sealed.last.to_le_bytes());
        for point in &self.points {
            bytes.extend_from_slice(&point.offset.to_le_bytes());
            bytes.extend_from_slice(&point.arrived.to_le_bytes());
            bytes.extend_from_slice(&point.at.to_le_bytes());
        }
        checked(bytes)
    }

    /// Reads a side file; none where it is not whole.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, Sealed)> {
        let bytes = verified(bytes)?;
        let points = bytes.get(PROLOGUE..)?;
        if bytes[..8] != [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], 1, 0, 0, 0] {
            return None;
        }
        let sealed = Sealed {
            base: u64_at(bytes, 8),
            end: u64_at(bytes, 16),
            bytes: u64_at(bytes, 24),
            last: u64_at(bytes, 32).cast_signed(),
        };
        let point = |bytes: &[u8]| Point {
            offset: u64_at(bytes, 0),
            arrived: u64_at(bytes, 8).cast_signed(),
            at: u32_at(bytes, 16),
        };
        let points = points.chunks_exact(POINT).map(point).collect();
        Some((Self { points }, sealed))
    }

    fn place(&self, count: usize) -> Option<u64> {
        let point = self.points.get(count.checked_sub(1)?)?;
        Some(u64::from(point.at))
    }
}

/// How far a log was on the disk the last time somebody looked. It is written after each sync and not synced itself: after a crash of
/// the process it is exact, after a loss of power it may be old, and it is never ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The segment's first offset.
    pub(super) base: u64,
    /// How many of its bytes are on the disk.
    pub(super) bytes: u64,
}

impl Mark {
    /// As it is written.
    pub(super) fn written(self) -> Vec<u8> {
        checked([self.base.to_le_bytes(), self.bytes.to_le_bytes()].concat())
    }

    /// As it is read; none where it is not whole.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = verified(bytes).filter(|bytes| bytes.len() == 16)?;
        Some(Self {
            base: u64_at(bytes, 0),
            bytes: u64_at(bytes, 8),
        })
    }
}

/// The bytes with their CRC-32 behind them.
pub(super) fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The bytes without the CRC-32 behind them; none where it is wrong.
pub(super) fn verified(bytes: &[u8]) -> Option<&[u8]> {
    let (content, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (crc32fast::hash(content) == u32_at(crc, 0)).then_some(content)
}
