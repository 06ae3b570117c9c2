//! How much goes to one endpoint: so many calls at once, so many a second, and none for a while when it keeps failing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use std::num::NonZeroU32;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::store::signed;

/// After how many failures without a success between them the breaker opens.
const FAILURES: u32 = 5;

/// How long it is open at first; each failed probe doubles it.
const FIRST_REST: Duration = Duration::from_secs(5);

/// How long it is open at most.
const LONGEST_REST: Duration = Duration::from_secs(5 * 60);

/// The longest rest that a receiver can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 60 * 60);

/// The limits of one endpoint.
#[derive(Debug)]
pub(super) struct Limits {
    places: Arc<Semaphore>,
    concurrency: usize,
    rate: Option<DefaultDirectRateLimiter>,
    breaker: Arc<Mutex<Breaker>>,
}

/// What may start now.
#[derive(Debug)]
pub(super) struct Free {
    /// A place for each call.
    pub(super) places: Vec<Place>,
    /// Whether the one place is that of a probe: for one call only.
    pub(super) probe: bool,
    /// When to look again, where the breaker is open.
    pub(super) again: Option<Timestamp>,
}

/// A place for one call; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    breaker: Arc<Mutex<Breaker>>,
    probe: bool,
    /// Told when the place is free again; none until it is used.
    freed: Option<Arc<Notify>>,
}

impl Limits {
    /// So many calls at once, and so many a second (0: no limit).
    pub(super) fn new(concurrency: u32, rate: u32) -> Self {
        let concurrency = concurrency.max(1) as usize;
        Self {
            places: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            rate: NonZeroU32::new(rate).map(|rate| RateLimiter::direct(Quota::per_second(rate))),
            breaker: Arc::default(),
        }
    }

    /// The places that are free now. Each is to be used or dropped soon.
    pub(super) fn free(&self, now: Timestamp) -> Free {
        let (most, probe, again) = match lock(&self.breaker).admit(now) {
            Admitted::All => (self.concurrency, false, None),
            Admitted::Probe => (1, true, None),
            Admitted::NoneUntil(time) => (0, false, time),
        };
        let permits = std::iter::from_fn(|| self.places.clone().try_acquire_owned().ok());
        let places = permits.take(most).map(|permit| Place {
            permit: Some(permit),
            breaker: self.breaker.clone(),
            probe,
            freed: None,
        });
        let places: Vec<_> = places.collect();
        if probe && places.is_empty() {
            lock(&self.breaker).give_up_probe();
        }
        Free {
            places,
            probe,
            again,
        }
    }

    /// Waits until one more call is within the rate.
    pub(super) async fn pace(&self) {
        let Some(rate) = &self.rate else { return };
        let clock = DefaultClock::default();
        while let Err(early) = rate.check() {
            tokio::time::sleep(early.wait_time_from(clock.now())).await;
        }
    }

    /// How the breaker stands.
    pub(super) fn breaker(&self) -> BreakerState {
        lock(&self.breaker).state()
    }
}

impl Place {
    /// Says that the place is used; `freed` is told when it is free again.
    pub(super) fn occupy(&mut self, freed: Arc<Notify>) {
        self.freed = Some(freed);
    }

    /// Tells the breaker how the call ended, and for how long a rest the receiver asked. Gives how it stands then, where that is new.
    pub(super) fn record(
        &mut self,
        success: bool,
        asked: Option<Duration>,
        now: Timestamp,
    ) -> Option<BreakerState> {
        let mut breaker = lock(&self.breaker);
        let before = breaker.state();
        match (asked, success) {
            (Some(asked), _) => breaker.rest(self.probe, asked, now),
            (None, true) => breaker.succeed(self.probe),
            (None, false) => breaker.fail(self.probe, now),
        }
        self.probe = false;
        let after = breaker.state();
        (before != after).then_some(after)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.probe {
            lock(&self.breaker).give_up_probe();
        }
        self.permit = None;
        if let Some(freed) = &self.freed {
            freed.notify_one();
        }
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything is sent.
    Closed,
    /// One delivery is sent, to see whether the receiver is back.
    HalfOpen,
    /// Nothing is sent.
    Open,
}

/// A circuit breaker, as a pure state machine.
#[derive(Debug, Default)]
struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// Since it opened: how long it rests, and until when.
    rest: Option<(Duration, Timestamp)>,
    /// The receiver itself asked for the rest.
    asked: bool,
    probing: bool,
}

enum Admitted {
    All,
    Probe,
    NoneUntil(Option<Timestamp>),
}

impl Breaker {
    fn state(&self) -> BreakerState {
        match (self.rest, self.probing) {
            (None, _) => BreakerState::Closed,
            (Some(_), true) => BreakerState::HalfOpen,
            (Some(_), false) => BreakerState::Open,
        }
    }

    /// What may start. After [`Admitted::Probe`] nothing more does until the probe has ended or was given up.
    fn admit(&mut self, now: Timestamp) -> Admitted {
        match self.rest {
            None => Admitted::All,
            Some(_) if self.probing => Admitted::NoneUntil(None),
            Some((_, until)) if now < until => Admitted::NoneUntil(Some(until)),
            Some(_) => {
                self.probing = true;
                Admitted::Probe
            }
        }
    }

    /// A call succeeded. Of a rest that the receiver asked for, only a probe is the end: others were under way before.
    fn succeed(&mut self, probe: bool) {
        if probe || !self.asked {
            *self = Self::default();
        }
    }

    /// The receiver asked for a rest.
    fn rest(&mut self, probe: bool, asked: Duration, now: Timestamp) {
        let asked = signed(asked.min(LONGEST_ASKED));
        let until = now.saturating_add(asked).unwrap_or(Timestamp::MAX);
        self.failures = self.failures.saturating_add(1);
        self.rest = Some(match self.rest {
            Some((rest, before)) => (rest, until.max(before)),
            None => (FIRST_REST, until),
        });
        self.asked = true;
        if probe {
            self.probing = false;
        }
    }

    /// A call failed. What was under way when the breaker opened changes nothing; a failed probe doubles the rest.
    fn fail(&mut self, probe: bool, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let rest = match self.rest {
            None if self.failures >= FAILURES => FIRST_REST,
            Some((rest, _)) if probe => (rest * 2).min(LONGEST_REST),
            _ => return,
        };
        let until = now.saturating_add(signed(rest)).unwrap_or(Timestamp::MAX);
        self.rest = Some((rest, until));
        self.asked = false;
        if probe {
            self.probing = false;
        }
    }

    fn give_up_probe(&mut self) {
        self.probing = false;
    }
}

fn lock(breaker: &Mutex<Breaker>) -> MutexGuard<'_, Breaker> {
    breaker.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_breaker_opens_after_five_failures_and_rests_twice_as_long_after_each_probe() {
        let limits = Limits::new(2, 0);
        for nth in 0..5 {
            let mut free = limits.free(at(nth));
            assert_eq!((free.places.len(), free.probe), (2, false), "failure {nth}");
            let opened = free.places[0].record(false, None, at(nth));
            assert_eq!(opened, (nth == 4).then_some(BreakerState::Open));
        }
        let mut now = 4;
        for rest in [5, 10, 20, 40, 80, 160, 300, 300] {
            let free = limits.free(at(now + rest - 1));
            assert!(free.places.is_empty());
            assert_eq!(free.again, Some(at(now + rest)), "rest of {rest}");
            now += rest;
            let mut probe = limits.free(at(now));
            assert_eq!((probe.places.len(), probe.probe), (1, true));
            assert_eq!(limits.breaker(), BreakerState::HalfOpen);
            assert!(
                limits.free(at(now)).places.is_empty(),
                "one probe at a time"
            );
            probe.places[0].record(false, None, at(now));
        }
        now += 300;
        let mut probe = limits.free(at(now));
        assert_eq!(
            probe.places[0].record(true, None, at(now)),
            Some(BreakerState::Closed)
        );
        drop(probe);
        assert_eq!(limits.free(at(now)).places.len(), 2);
    }

    #[test]
    fn a_success_between_failures_keeps_the_breaker_closed() {
        let limits = Limits::new(1, 0);
        for nth in 0..20 {
            let mut free = limits.free(at(nth));
            free.places[0].record(nth % 5 == 4, None, at(nth));
        }
        assert_eq!(limits.breaker(), BreakerState::Closed);
    }

    #[test]
    fn a_rest_that_the_receiver_asked_for_ends_at_its_time_with_a_probe_and_not_before() {
        let limits = Limits::new(3, 0);
        let mut under_way = limits.free(at(0)).places;
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            under_way[0].record(false, asked(90), at(1)),
            Some(BreakerState::Open)
        );
        assert_eq!(under_way[1].record(true, None, at(2)), None);
        assert_eq!(under_way[2].record(false, asked(10), at(3)), None);
        drop(under_way);
        assert_eq!(limits.free(at(90)).again, Some(at(91)));
        let mut probe = limits.free(at(91));
        assert_eq!((probe.places.len(), probe.probe), (1, true));
        probe.places[0].record(false, asked(1 << 40), at(91));
        drop(probe);
        assert_eq!(
            limits.free(at(92)).again,
            Some(at(91 + 86_400)),
            "a day at most"
        );
        let mut probe = limits.free(at(91 + 86_400));
        let state = probe.places[0].record(true, None, at(91 + 86_400));
        assert_eq!(state, Some(BreakerState::Closed));
    }

    #[test]
    fn a_probe_that_came_to_nothing_is_made_again() {
        let limits = Limits::new(1, 0);
        for _ in 0..5 {
            limits.free(at(0)).places[0].record(false, None, at(0));
        }
        drop(limits.free(at(5)));
        assert_eq!(limits.breaker(), BreakerState::Open);
        assert!(limits.free(at(5)).probe);
    }

    #[tokio::test]
    async fn a_used_place_is_told_when_it_is_free() {
        let limits = Limits::new(2, 0);
        let freed = Arc::new(Notify::new());
        let mut free = limits.free(at(0));
        free.places[0].occupy(freed.clone());
        let used = free.places.remove(0);
        drop(free);
        assert!(freed.notified().now_or_never().is_none());
        assert_eq!(limits.free(at(0)).places.len(), 1);
        drop(used);
        freed.notified().await;
        assert_eq!(limits.free(at(0)).places.len(), 2);
    }

    #[tokio::test]
    async fn calls_beyond_the_rate_wait() {
        let limits = Limits::new(1, 2);
        for _ in 0..2 {
            assert!(limits.pace().now_or_never().is_some());
        }
        assert!(limits.pace().now_or_never().is_none());
    }
}
