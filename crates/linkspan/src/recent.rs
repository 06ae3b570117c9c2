//! What an integration did in the last minute: how much, how much of it failed, and how long it took.
//!
//! Kept in memory, by this gateway for itself. A second is one slot of a ring; times go into a histogram whose bounds are an eighth of
//! a power of two apart, so a percentile is off by 6 % at most.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many seconds are looked back on.
pub const WINDOW: u64 = 60;

/// The window, and the second that is under way.
const SLOTS: usize = WINDOW as usize + 1;

/// The histogram's finest step: 2^6 microseconds.
const FINEST: u32 = 6;

/// Steps for each power of two: 2^3.
const STEPS: u32 = 3;

/// From 64 microseconds to over an hour.
const BUCKETS: usize = 27 << STEPS;

/// The last minute of one integration. Noting takes a lock for well under a microsecond; nothing else is done under it.
pub struct Recent {
    origin: Instant,
    slots: Mutex<Vec<Slot>>,
}

/// The last minute, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minute {
    /// Invocations (or attempts of a job) that ended.
    pub count: u64,
    /// Those that ended with a problem.
    pub failed: u64,
    /// Ends a second.
    pub rate: f64,
    /// The median time; none where nothing ended.
    pub p50: Option<Duration>,
    /// The time that 99 of 100 stayed within.
    pub p99: Option<Duration>,
}

#[derive(Clone)]
struct Slot {
    second: u64,
    failed: u32,
    times: [u32; BUCKETS],
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            // Made when the first invocation ends: most integrations of a gateway at rest have nothing to count.
            slots: Mutex::default(),
        }
    }
}

impl Recent {
    /// Notes the end of an invocation, or of a job's attempt.
    pub fn note(&self, took: Duration, failed: bool) {
        self.note_at(self.origin.elapsed().as_secs(), took, failed);
    }

    /// The last minute.
    #[must_use]
    pub fn minute(&self) -> Minute {
        self.minute_at(self.origin.elapsed())
    }

    fn note_at(&self, second: u64, took: Duration, failed: bool) {
        let bucket = bucket(took);
        let mut slots = self.slots();
        if slots.is_empty() {
            slots.resize(SLOTS, Slot::at(0));
        }
        let slot = &mut slots[second as usize % SLOTS];
        if slot.second != second {
            *slot = Slot::at(second);
        }
        slot.failed += u32::from(failed);
        slot.times[bucket] += 1;
    }

    fn minute_at(&self, now: Duration) -> Minute {
        let second = now.as_secs();
        let mut minute = Minute::default();
        let mut times = [0_u64; BUCKETS];
        for slot in self.slots().iter() {
            // The slots that nothing was noted in for a while are older.
            if slot.second + WINDOW <= second || slot.second > second {
                continue;
            }
            minute.failed += u64::from(slot.failed);
            for (sum, count) in times.iter_mut().zip(slot.times) {
                *sum += u64::from(count);
            }
        }
        minute.count = times.iter().sum();
        // A gateway that has just started has no whole minute behind it.
        let looked_back = now.as_secs_f64().clamp(1.0, WINDOW as f64);
        minute.rate = minute.count as f64 / looked_back;
        minute.p50 = percentile(&times, minute.count, 50);
        minute.p99 = percentile(&times, minute.count, 99);
        minute
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    const fn at(second: u64) -> Self {
        Self {
            second,
            failed: 0,
            times: [0; BUCKETS],
        }
    }
}

/// The bucket of a time: its power of two, and which eighth of that.
fn bucket(took: Duration) -> usize {
    let units = u64::try_from(took.as_micros()).unwrap_or(u64::MAX) >> FINEST;
    if units < 1 << STEPS {
        return units as usize;
    }
    let power = units.ilog2();
    let step = (units >> (power - STEPS)) & ((1 << STEPS) - 1);
    let at = (u64::from(power - STEPS + 1) << STEPS) + step;
    (at as usize).min(BUCKETS - 1)
}

/// The middle of a bucket.
fn middle(bucket: usize) -> Duration {
    let bounds = |bucket: usize| {
        let (power, step) = (bucket >> STEPS, bucket as u64 & ((1 << STEPS) - 1));
        match power {
            0 => step,
            _ => ((1 << STEPS) + step) << (power - 1),
        }
    };
    let twice = bounds(bucket) + bounds(bucket + 1);
    Duration::from_micros((twice << FINEST) / 2)
}

fn percentile(times: &[u64], count: u64, percent: u64) -> Option<Duration> {
    let rank = (count * percent).div_ceil(100).max(1);
    let mut below = 0;
    times
        .iter()
        .position(|in_bucket| {
            below += in_bucket;
            below >= rank
        })
        .map(middle)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_found_again_within_a_sixteenth(micros in 64_u64..3_600_000_000) {
            let found = middle(bucket(Duration::from_micros(micros))).as_micros() as f64;
            let off = (found - micros as f64).abs();
            prop_assert!(off <= (micros as f64 / 16.0).max(64.0), "{micros} µs was found as {found}");
        }
    }

    #[test]
    fn a_minute_holds_its_seconds_and_no_older_ones() {
        let recent = Recent::default();
        let at = Duration::from_secs;
        assert_eq!(recent.minute_at(at(5)), Minute::default());
        for second in 0..200 {
            recent.note_at(second, Duration::from_millis(10), second % 4 == 0);
        }
        let minute = recent.minute_at(at(199));
        assert_eq!((minute.count, minute.failed), (60, 15));
        assert!((minute.rate - 1.0).abs() < 1e-9);
        assert_eq!(recent.minute_at(at(229)).count, 30);
        assert_eq!(recent.minute_at(at(259)).count, 0);
        assert_eq!(recent.minute_at(at(259)).p50, None);
    }

    #[test]
    fn percentiles_tell_the_slow_from_the_usual() {
        let recent = Recent::default();
        for _ in 0..98 {
            recent.note_at(1, Duration::from_millis(20), false);
        }
        for _ in 0..2 {
            recent.note_at(1, Duration::from_secs(4), true);
        }
        let minute = recent.minute_at(Duration::from_secs(2));
        let near = |found: Option<Duration>, wanted: f64| {
            let found = found.unwrap().as_secs_f64();
            assert!((found / wanted - 1.0).abs() < 0.07, "{found} for {wanted}");
        };
        near(minute.p50, 0.020);
        near(minute.p99, 4.0);
        assert!((minute.rate - 50.0).abs() < 1e-9);
    }

    #[test]
    fn the_longest_time_has_a_bucket() {
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(bucket(Duration::ZERO), 0);
    }
}
