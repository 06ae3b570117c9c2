//! When a delivery is tried again, as a pure function.

use std::time::Duration;

use jiff::Timestamp;

use crate::store::signed;

/// The longest wait that a receiver may ask for, where the configuration has no longer one.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 60 * 60);

/// The waits between attempts.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    waits: Vec<Duration>,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one, then.
    Due(Timestamp),
    /// None: that was the last.
    Dead,
}

impl Schedule {
    /// These waits: after the first attempt, after the second, and so on.
    pub(super) fn new(waits: Vec<Duration>) -> Self {
        Self { waits }
    }

    /// What follows the attempt of this number (from 1, of those that were not cut off) that failed now. Each wait is lengthened by up to a fifth, of which `spread`
    /// (0 to 1) chooses, so that what failed together does not come back together; it is never shorter than the receiver asked for.
    pub(super) fn after(
        &self,
        attempt: u32,
        asked: Option<Duration>,
        spread: f64,
        now: Timestamp,
    ) -> Next {
        let nth = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(wait) = self.waits.get(nth) else {
            return Next::Dead;
        };
        let longest = self
            .waits
            .iter()
            .copied()
            .fold(LONGEST_ASKED, Duration::max);
        let least = (*wait).max(asked.unwrap_or_default().min(longest));
        let wait = least + wait.mul_f64(0.2 * spread.clamp(0.0, 1.0));
        Next::Due(now.saturating_add(signed(wait)).unwrap_or(Timestamp::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_wait_is_kept_within_a_fifth_and_the_receivers_wish_is_heard(
            waits in prop::collection::vec(1_u64..100_000, 0..12),
            attempt in 1_u32..14,
            asked in prop::option::of(0_u64..200_000),
            spread in 0.0..=1.0,
        ) {
            let schedule = Schedule::new(waits.iter().copied().map(Duration::from_secs).collect());
            let now = Timestamp::from_second(1_790_000_000).unwrap();
            let next = schedule.after(attempt, asked.map(Duration::from_secs), spread, now);
            let Some(wait) = waits.get(attempt as usize - 1) else {
                prop_assert_eq!(next, Next::Dead);
                return Ok(());
            };
            let Next::Due(due) = next else { return Err(TestCaseError::fail("dead too early")) };
            let waited = due.duration_since(now).as_secs_f64();
            let asked = asked.unwrap_or(0).min(86_400.max(waits.iter().copied().max().unwrap_or(0)));
            let least = asked.max(*wait) as f64;
            prop_assert!(waited >= least - 0.001 && waited <= least + *wait as f64 * 0.2 + 0.001);
        }
    }
}
