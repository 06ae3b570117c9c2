//! Amazon's limits of a shard: 1 MiB and 1,000 records a second in, 2 MiB and 5 calls a second out.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::fault::{Fault, Kind};

/// What one second of a shard allows.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    calls: u64,
    bytes: u64,
}

const IN: Allowance = Allowance {
    calls: 1000,
    bytes: 1 << 20,
};
const OUT: Allowance = Allowance {
    calls: 5,
    bytes: 2 << 20,
};

/// What a shard took and gave in this second.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<[Second; 2]>);

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    second: i64,
    calls: u64,
    bytes: u64,
}

impl Throttle {
    /// Takes in `records` of together `bytes`, or refuses.
    pub(super) fn take_in(&self, records: u64, bytes: u64, now: Timestamp) -> Result<(), Fault> {
        self.pass(0, IN, records, bytes, now)
    }

    /// Gives out `bytes` in a call, or refuses. Bytes above what a second allows are let through once, and then held against it.
    pub(super) fn give_out(&self, now: Timestamp) -> Result<(), Fault> {
        self.pass(1, OUT, 1, 0, now)
    }

    /// Counts what was given.
    pub(super) fn gave(&self, bytes: u64) {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seconds[1].bytes += bytes;
    }

    fn pass(
        &self,
        way: usize,
        allowance: Allowance,
        calls: u64,
        bytes: u64,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let second = &mut seconds[way];
        if second.second != now.as_second() {
            let elapsed = u64::try_from(now.as_second() - second.second).unwrap_or(u64::MAX);
            *second = Second {
                second: now.as_second(),
                calls: 0,
                bytes: second
                    .bytes
                    .saturating_sub(allowance.bytes.saturating_mul(elapsed)),
            };
        }
        if second.calls + calls > allowance.calls
            || second.bytes + bytes > allowance.bytes
            || second.bytes == allowance.bytes
        {
            return Err(Fault::new(
                Kind::ProvisionedThroughputExceeded,
                "Rate exceeded for the shard. Wait a moment, or split it.",
            ));
        }
        second.calls += calls;
        second.bytes += bytes;
        Ok(())
    }
}
