//! Digests: the results of one stretch of time in one message. The stretches are counted from the Unix epoch, so every gateway and
//! every restart cuts time at the same places.

use std::time::Duration;

use jiff::Timestamp;

/// One stretch of time: its first moment and the first after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Window {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Window {
    /// The window of a length that holds a moment.
    pub(super) fn holding(moment: Timestamp, length: Duration) -> Self {
        let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
        let start = moment.as_millisecond().div_euclid(length) * length;
        let at = |millisecond| Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::MAX);
        Self {
            from: at(start),
            until: at(start.saturating_add(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_moment_lies_in_one_window_which_ends_after_it(second in -1_000_000_i64..4_000_000_000, length in 60_u64..604_800) {
            let (moment, length) = (Timestamp::from_second(second).unwrap(), Duration::from_secs(length));
            let window = Window::holding(moment, length);
            prop_assert!(window.from <= moment && moment < window.until);
            prop_assert_eq!(Window::holding(window.from, length), window);
            prop_assert_eq!(Window::holding(window.until, length).from, window.until);
        }
    }

    #[test]
    fn an_hour_begins_when_the_clock_strikes() {
        let window = Window::holding(
            "2026-03-01T10:59:59.999Z".parse().unwrap(),
            Duration::from_secs(3600),
        );
        assert_eq!(window.from, "2026-03-01T10:00:00Z".parse().unwrap());
        assert_eq!(window.until, "2026-03-01T11:00:00Z".parse().unwrap());
    }
}
