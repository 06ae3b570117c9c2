//! The rate limit of each key: so many requests a second over time, and so many at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use linkspan_model::Code;

use crate::refusal::Refusal;

/// The limits of all keys, by their ids. Each gateway counts for itself.
pub struct RateLimit {
    default: Option<Quota>,
    limiters: Mutex<HashMap<String, Arc<DefaultDirectRateLimiter>>>,
    clock: DefaultClock,
}

impl RateLimit {
    /// For keys without a limit of their own: `rate` requests a second (0: no limit), and `burst` at once.
    #[must_use]
    pub fn new(rate: u32, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        Self {
            default: NonZeroU32::new(rate).map(|rate| Quota::per_second(rate).allow_burst(burst)),
            limiters: Mutex::default(),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request of a key; `own` is the key's own rate. Only for keys that the store has, so that their number is bounded.
    ///
    /// # Errors
    ///
    /// 429, with the time after which one more request is within the rate.
    pub fn check(&self, key: &str, own: Option<u32>) -> Result<(), Refusal> {
        let own = own.and_then(NonZeroU32::new).map(Quota::per_second);
        let Some(quota) = own.or(self.default) else {
            return Ok(());
        };
        let limiter = self
            .limiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key.to_owned())
            .or_insert_with(|| Arc::new(RateLimiter::direct(quota)))
            .clone();
        limiter.check().map_err(|early| {
            let wait = early
                .wait_time_from(self.clock.now())
                .max(Duration::from_millis(1));
            Refusal::new(Code::RateLimited, "the key is over its rate limit").retry_after(wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_burst_and_no_other_keys() {
        let limit = RateLimit::new(1, 2);
        assert!(limit.check("a", None).is_ok() && limit.check("a", None).is_ok());
        let refused = limit.check("a", None).unwrap_err();
        assert_eq!(refused.code(), Code::RateLimited);
        assert!(refused.retry_after.is_some());
        assert!(limit.check("b", None).is_ok());
        assert!((0..5).all(|_| limit.check("c", Some(5)).is_ok()));
        assert!(limit.check("c", Some(5)).is_err());
        assert!((0..100).all(|_| RateLimit::new(0, 1).check("d", None).is_ok()));
    }
}
