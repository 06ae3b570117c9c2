//! An entry on the disk: a header of 36 bytes, then the payload. All numbers are little-endian.
//!
//! | at | bytes | holds |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32 of the header's other bytes, begun with the segment's salt |
//! | 4 | 4 | the payload's length |
//! | 8 | 4 | the payload's CRC-32 |
//! | 12 | 4 | how many entries of the same append follow: an append is whole when its last, with 0, is there |
//! | 16 | 8 | the offset |
//! | 24 | 8 | when it came: microseconds since 1970 |
//! | 32 | 4 | where in the segment the write began that brought it: everything before was on the disk by then |
//!
//! The last field tells damage from a torn write: where a frame reads well that was written *after* a broken place was on the disk,
//! that place was damaged later. The salt is random and never leaves the disk, so nobody can send a payload that looks like a frame.

use crc32fast::Hasher;

/// Bytes before the payload.
pub(super) const HEADER: usize = 36;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The payload's length.
    pub(super) length: u32,
    /// The payload's CRC-32.
    pub(super) payload_crc: u32,
    /// Entries of the same append that follow.
    pub(super) left: u32,
    /// The offset.
    pub(super) offset: u64,
    /// Microseconds since 1970.
    pub(super) arrived: i64,
    /// Where the write began.
    pub(super) group: u32,
}

/// What is known only when frames are written.
pub(super) struct Stamp {
    /// The segment's.
    pub(super) salt: u32,
    /// The first frame's offset; the next ones follow.
    pub(super) offset: u64,
    /// When they came.
    pub(super) arrived: i64,
    /// Where the write begins.
    pub(super) group: u32,
}

/// Adds a frame that has yet to be stamped. `payload` is shorter than 4 GiB.
pub(super) fn push(frames: &mut Vec<u8>, payload: &[u8], left: u32) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    frames.extend_from_slice(&[0; 4]);
    frames.extend_from_slice(&length.to_le_bytes());
    frames.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    frames.extend_from_slice(&left.to_le_bytes());
    frames.extend_from_slice(&[0; 20]);
    frames.extend_from_slice(payload);
}

/// Stamps pushed frames, and tells where each one begins.
pub(super) fn stamp(frames: &mut [u8], stamp: &Stamp, mut each: impl FnMut(u64, usize)) {
    let (mut at, mut offset) = (0, stamp.offset);
    while at + HEADER <= frames.len() {
        let header = &mut frames[at..at + HEADER];
        header[16..24].copy_from_slice(&offset.to_le_bytes());
        header[24..32].copy_from_slice(&stamp.arrived.to_le_bytes());
        header[32..36].copy_from_slice(&stamp.group.to_le_bytes());
        let crc = crc(stamp.salt, &header[4..]);
        header[..4].copy_from_slice(&crc.to_le_bytes());
        each(offset, at);
        at += HEADER + u32_at(header, 4) as usize;
        offset += 1;
    }
}

impl Head {
    /// Reads a header; none where it is not one of this segment.
    pub(super) fn read(salt: u32, header: &[u8]) -> Option<Self> {
        let header = header.get(..HEADER)?;
        (crc(salt, &header[4..]) == u32_at(header, 0)).then(|| Self {
            length: u32_at(header, 4),
            payload_crc: u32_at(header, 8),
            left: u32_at(header, 12),
            offset: u64_at(header, 16),
            arrived: u64_at(header, 24).cast_signed(),
            group: u32_at(header, 32),
        })
    }

    /// Bytes of the whole frame.
    pub(super) fn size(&self) -> u64 {
        HEADER as u64 + u64::from(self.length)
    }
}

/// Four bytes as a number; 0 beyond the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map_or(0, u32::from_le_bytes)
}

/// Eight bytes as a number; 0 beyond the end.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes
        .get(at..at + 8)
        .and_then(|eight| eight.try_into().ok());
    eight.map_or(0, u64::from_le_bytes)
}

fn crc(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}
