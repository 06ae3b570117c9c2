//! Shard iterators: a place in a shard, signed, good for five minutes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;
use uuid::Uuid;

use super::fault::{Fault, Kind};

/// How long an iterator may be used, in milliseconds.
const LIFE: i64 = 300_000;
const SIGNATURE: usize = 16;
const BODY: usize = 16 + 4 + 8 + 8;

/// A place in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShardIterator {
    /// The stream, which is another one when it is made anew under its old name.
    pub(super) stream: Uuid,
    /// Which of the stream's shards.
    pub(super) shard: u32,
    /// The next offset to read.
    pub(super) offset: u64,
}

impl ShardIterator {
    /// The iterator as clients carry it.
    pub(super) fn seal(self, key: &hmac::Key, now: Timestamp) -> String {
        let mut token = Vec::with_capacity(BODY + SIGNATURE);
        token.extend(self.stream.as_bytes());
        token.extend(self.shard.to_be_bytes());
        token.extend(self.offset.to_be_bytes());
        token.extend(now.as_millisecond().to_be_bytes());
        let signature = hmac::sign(key, &token);
        token.extend(&signature.as_ref()[..SIGNATURE]);
        STANDARD.encode(token)
    }

    /// Reads an iterator that a client brings.
    pub(super) fn open(token: &str, key: &hmac::Key, now: Timestamp) -> Result<Self, Fault> {
        let invalid = || Fault::new(Kind::InvalidArgument, "Invalid ShardIterator.");
        let token = STANDARD.decode(token).map_err(|_| invalid())?;
        let (body, signature) = token.split_at_checked(BODY).ok_or_else(invalid)?;
        let right = hmac::sign(key, body);
        // The signature is short, so it is compared as a whole, in constant time.
        let differs = right.as_ref()[..SIGNATURE]
            .iter()
            .zip(signature)
            .fold(0, |differs, (right, given)| differs | (right ^ given));
        if signature.len() != SIGNATURE || differs != 0 {
            return Err(invalid());
        }
        let mut rest = body;
        let mut next = |length: usize| {
            let (part, after) = rest.split_at(length);
            rest = after;
            part
        };
        let stream = Uuid::from_slice(next(16)).map_err(|_| invalid())?;
        let number = |part: &[u8]| {
            part.iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let shard = number(next(4)) as u32;
        let offset = number(next(8));
        let made = number(next(8)).cast_signed();
        if now.as_millisecond() - made > LIFE {
            return Err(Fault::new(
                Kind::ExpiredIterator,
                format!(
                    "Iterator expired: it was made more than {} minutes ago. Get another one.",
                    LIFE / 60_000
                ),
            ));
        }
        Ok(Self {
            stream,
            shard,
            offset,
        })
    }
}
