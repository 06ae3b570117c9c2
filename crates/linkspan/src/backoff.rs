//! The wait between attempts: exponential, with jitter, and bounded.

use std::time::Duration;

/// How the waits between attempts grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Around the first wait.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// The wait after so many attempts (1 and up): `first` doubled each time up to `max`, of which `spread` (0 to 1) chooses from
    /// the upper half, so that what failed together does not come back together.
    #[must_use]
    pub fn after(self, attempts: u32, spread: f64) -> Duration {
        let doubled = self
            .first
            .saturating_mul(
                1_u32
                    .checked_shl(attempts.saturating_sub(1))
                    .unwrap_or(u32::MAX),
            )
            .min(self.max);
        doubled.mul_f64(0.5 + 0.5 * spread.clamp(0.0, 1.0))
    }

    /// The same with a spread by chance.
    #[must_use]
    pub fn jittered(self, attempts: u32) -> Duration {
        self.after(attempts, fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_bounded_and_grows(first in 1_u64..10_000, max in 1_u64..1_000_000, attempts in 1_u32..200, spread in 0.0..1.0) {
            let backoff = Backoff { first: Duration::from_millis(first), max: Duration::from_millis(max) };
            let wait = backoff.after(attempts, spread);
            prop_assert!(wait <= backoff.max);
            prop_assert!(wait >= backoff.first.min(backoff.max) / 2);
            prop_assert!(backoff.after(attempts + 1, spread) >= wait);
        }
    }
}
