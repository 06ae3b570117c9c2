//! What a shard gives out in a second: 5 calls and 2 MiB, for all of its readers together.
//!
//! <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>

use std::time::Duration;

use tokio::time::Instant;

/// The least time between two calls: a little more than a fifth of a second, since calls do not take equally long to arrive.
const BETWEEN: Duration = Duration::from_millis(210);
const BYTES_A_SECOND: f64 = (2 << 20) as f64;

/// The waits after so many failures in a row: the first, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// When a shard may be asked next.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
    failures: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: now,
            failures: 0,
        }
    }

    /// When the next call may be made.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// A call was begun at `begun` and gave so many bytes; where there is nothing more for now, the next one may rest.
    pub(super) fn gave(&mut self, begun: Instant, bytes: usize, rest: Duration) {
        self.failures = 0;
        let bytes = Duration::from_secs_f64(bytes as f64 / BYTES_A_SECOND);
        self.next = begun + BETWEEN.max(bytes).max(rest);
    }

    /// A call failed: the wait doubles each time, and up to a half of it is left off by `chance` (0 to 1). Gives how often in a row.
    pub(super) fn failed(&mut self, now: Instant, chance: f64) -> u32 {
        self.failures += 1;
        let doubled = WAITS.0.saturating_mul(1 << (self.failures - 1).min(16));
        self.next = now + doubled.min(WAITS.1).mul_f64(1.0 - chance / 2.0);
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_holds_more_than_five_calls_or_two_mebibytes() {
        let start = Instant::now();
        for (bytes, calls) in [(0, 5), (100 << 10, 5), (1 << 20, 2), (10 << 20, 1)] {
            let mut pace = Pace::new(start);
            let mut begun = Vec::new();
            for _ in 0..40 {
                begun.push(pace.next());
                pace.gave(pace.next(), bytes, Duration::ZERO);
            }
            for (nth, first) in begun.iter().enumerate() {
                let within = begun[nth..]
                    .iter()
                    .take_while(|call| **call - *first < Duration::from_secs(1));
                assert!(within.count() <= calls, "{bytes}");
            }
            let whole = (begun[39] - start).as_secs_f64();
            assert!(
                39.0 * bytes as f64 <= whole * BYTES_A_SECOND + 1.0,
                "{bytes}"
            );
        }
    }

    #[test]
    fn failures_are_answered_with_longer_waits_until_a_call_succeeds() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut waits = Vec::new();
        for nth in 1..=12 {
            assert_eq!(pace.failed(start, 0.0), nth);
            waits.push(pace.next() - start);
        }
        assert_eq!(waits[0], WAITS.0);
        assert_eq!(waits[1], WAITS.0 * 2);
        assert_eq!(waits[11], WAITS.1);
        pace.failed(start, 1.0);
        assert_eq!(pace.next() - start, WAITS.1 / 2);
        pace.gave(start, 0, Duration::ZERO);
        assert_eq!(pace.failed(start, 0.0), 1);
    }
}
