//! How many bytes one transaction may take: no more than the link carries in a few seconds. A transaction that is long on its way looks
//! to the target like one whose process is dead, and to those that stand by like a place that is free.

use std::time::Duration;

/// How long the last records of a transaction should be on their way, at most.
const FLUSH: Duration = Duration::from_secs(3);

/// Before anything was measured.
const FIRST: u64 = 4 << 20;

/// Over the slowest link.
const LEAST: u64 = 64 << 10;

/// Beyond this other limits come first.
const MOST: u64 = 4 << 30;

/// Bytes of keys and values, by what the link has carried.
#[derive(Debug)]
pub(super) struct Allowance {
    bytes: u64,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { bytes: FIRST }
    }

    /// Whether a transaction has as many bytes as it may have.
    pub(super) fn is_spent(&self, bytes: u64) -> bool {
        bytes >= self.bytes
    }

    /// A transaction of so many bytes has arrived, so long after its last record was given to the producer.
    pub(super) fn arrived(&mut self, bytes: u64, waited: Duration) {
        if waited > FLUSH {
            let part = FLUSH.as_secs_f64() / waited.as_secs_f64();
            self.bytes = ((bytes.min(self.bytes) as f64 * part) as u64).max(LEAST);
        } else if waited < FLUSH / 2 && bytes >= self.bytes / 2 {
            self.bytes = (self.bytes * 2).min(MOST);
        }
    }

    /// A transaction did not arrive in time.
    pub(super) fn failed(&mut self) {
        self.bytes = (self.bytes / 4).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends transaction after transaction as large as they may be over a link of so many bytes a second: the last wait.
    fn settles(rate: u64, patience: Duration) -> Duration {
        let mut allowance = Allowance::new();
        let mut waited = Duration::ZERO;
        for _ in 0..40 {
            let bytes = allowance.bytes;
            waited = Duration::from_secs_f64(bytes as f64 / rate as f64);
            if waited > patience {
                allowance.failed();
            } else {
                allowance.arrived(bytes, waited);
            }
        }
        waited
    }

    #[test]
    fn however_slow_the_link_a_transaction_soon_arrives_in_seconds() {
        for rate in [30_000, 200_000, 1_000_000, 50_000_000] {
            let waited = settles(rate, Duration::from_secs(45));
            assert!(waited <= FLUSH * 2, "{rate}: {waited:?}");
        }
    }

    #[test]
    fn a_fast_link_is_not_held_up_and_small_transactions_say_nothing() {
        let mut allowance = Allowance::new();
        for _ in 0..100 {
            allowance.arrived(1_000, Duration::from_millis(1));
        }
        assert_eq!(allowance.bytes, FIRST);
        for _ in 0..20 {
            allowance.arrived(allowance.bytes, Duration::from_millis(100));
        }
        assert_eq!(allowance.bytes, MOST);
        assert!(!allowance.is_spent(1 << 30) && allowance.is_spent(MOST));
        for _ in 0..40 {
            allowance.failed();
        }
        assert_eq!(allowance.bytes, LEAST);
    }
}
