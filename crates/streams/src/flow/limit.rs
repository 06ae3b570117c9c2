//! How many calls at once an engine bears, found out while it works.
//!
//! The gradient of the time a call takes now to the time it took over the long run, as in Netflix's concurrency-limits ("Gradient2"):
//! while calls take no longer than usual the limit grows by a little, when they take longer it shrinks in proportion. An engine that says
//! that it has too much to do shrinks it at once.

use std::time::Duration;

/// How many calls above what the gradient asks for are tried.
const HEADROOM: f64 = 4.0;
/// How much longer than usual a call may take before the limit shrinks.
const TOLERANCE: f64 = 2.0;
/// How fast the limit follows.
const SMOOTHING: f64 = 0.2;
/// The share that stays when the engine says that it has too much to do.
const OVERLOAD: f64 = 0.7;
/// Over how many calls the long run goes.
const LONG_RUN: f64 = 600.0;

/// The limit.
#[derive(Debug)]
pub(super) struct Limit {
    limit: f64,
    most: f64,
    /// Seconds, over the long run.
    usual: Option<f64>,
    /// Calls that must end before an overload shrinks the limit again: those that were under way have met the same one.
    pardoned: usize,
}

impl Limit {
    /// A limit below `most` calls.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        Self {
            limit: most.min(20.0),
            most,
            usual: None,
            pardoned: 0,
        }
    }

    /// The most calls at once, now.
    pub(super) fn get(&self) -> usize {
        self.limit as usize
    }

    /// A call ended.
    pub(super) fn ended(&mut self, took: Duration, under_way: usize, overloaded: bool) {
        let pardoned = self.pardoned > 0;
        self.pardoned = self.pardoned.saturating_sub(1);
        if overloaded {
            if !pardoned {
                self.limit = (self.limit * OVERLOAD).max(1.0);
                self.pardoned = under_way;
            }
            return;
        }
        let took = took.as_secs_f64().max(1e-6);
        let usual = self.usual.map_or(took, |usual| {
            let next = usual + (took - usual) / LONG_RUN;
            // After a slow spell the long run must not stay slow for long.
            if next > 2.0 * took { next * 0.95 } else { next }
        });
        self.usual = Some(usual);
        // The limit says nothing while it is not reached.
        if (under_way as f64) < self.limit / 2.0 {
            return;
        }
        let gradient = (TOLERANCE * usual / took).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + HEADROOM;
        let next = self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING;
        self.limit = next.clamp(1.0, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(limit: &mut Limit, calls: usize, took: Duration) -> usize {
        for _ in 0..calls {
            let under_way = limit.get();
            limit.ended(took, under_way, false);
        }
        limit.get()
    }

    #[test]
    fn a_quick_engine_gets_all_that_is_allowed() {
        let mut limit = Limit::new(1000);
        assert_eq!(after(&mut limit, 3000, Duration::from_millis(200)), 1000);
    }

    #[test]
    fn an_engine_that_gets_slower_gets_fewer_calls_and_later_more_again() {
        let mut limit = Limit::new(200);
        after(&mut limit, 2000, Duration::from_millis(50));
        let slow = after(&mut limit, 60, Duration::from_millis(500));
        assert!(slow < 60, "{slow}");
        let again = after(&mut limit, 2000, Duration::from_millis(50));
        assert_eq!(again, 200);
    }

    #[test]
    fn an_overload_shrinks_the_limit_once_for_the_calls_that_met_it() {
        let mut limit = Limit::new(100);
        after(&mut limit, 2000, Duration::from_millis(50));
        for _ in 0..50 {
            limit.ended(Duration::from_millis(1), 99, true);
        }
        assert_eq!(limit.get(), 70);
    }

    #[test]
    fn it_never_falls_below_one_call_nor_grows_above_the_most() {
        let mut limit = Limit::new(3);
        for _ in 0..1000 {
            limit.ended(Duration::from_secs(1), 0, true);
        }
        assert_eq!(limit.get(), 1);
        assert_eq!(after(&mut limit, 1000, Duration::from_millis(1)), 3);
    }

    #[test]
    fn what_is_not_asked_for_does_not_raise_it() {
        let mut limit = Limit::new(1000);
        let before = limit.get();
        for _ in 0..1000 {
            limit.ended(Duration::from_millis(10), 1, false);
        }
        assert_eq!(limit.get(), before);
    }
}
