//! How often an address may fail to sign in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use linkspan_model::Code;

use crate::refusal::Refusal;

/// The time that is looked at.
const WINDOW: Duration = Duration::from_secs(60);

/// So many addresses are remembered at once; the rest share one count.
const ADDRESSES: usize = 10_000;

/// The tries of all addresses. Each gateway counts for itself.
pub(super) struct Tries {
    most: u32,
    counts: Mutex<HashMap<IpAddr, Count>>,
}

#[derive(Clone, Copy)]
struct Count {
    since: Instant,
    tries: u32,
}

/// A try that counts, unless it is taken back.
pub(super) struct Try<'t> {
    tries: &'t Tries,
    address: IpAddr,
}

impl Tries {
    /// So many tries a minute.
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            counts: Mutex::default(),
        }
    }

    /// Counts a try.
    ///
    /// # Errors
    ///
    /// 429, with the time until tries count anew.
    pub(super) fn take(&self, remote: Option<IpAddr>) -> Result<Try<'_>, Refusal> {
        self.take_at(remote, Instant::now())
    }

    fn take_at(&self, remote: Option<IpAddr>, now: Instant) -> Result<Try<'_>, Refusal> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = remote.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), whole);
        if counts.len() >= ADDRESSES && !counts.contains_key(&address) {
            counts.retain(|_, count| now.duration_since(count.since) < WINDOW);
            if counts.len() >= ADDRESSES {
                address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let fresh = Count {
            since: now,
            tries: 0,
        };
        let count = counts.entry(address).or_insert(fresh);
        if now.duration_since(count.since) >= WINDOW {
            *count = fresh;
        }
        if count.tries >= self.most {
            let wait = WINDOW.saturating_sub(now.duration_since(count.since));
            return Err(Refusal::new(
                Code::RateLimited,
                "too many tries to sign in from this address; wait a minute",
            )
            .retry_after(wait));
        }
        count.tries += 1;
        Ok(Try {
            tries: self,
            address,
        })
    }
}

impl Try<'_> {
    /// Takes the try back: it did not fail.
    pub(super) fn succeeded(self) {
        let mut counts = self
            .tries
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            count.tries = count.tries.saturating_sub(1);
        }
    }
}

/// The address that a person is given: in IPv6 a whole /64 network.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tries_are_bounded_for_each_address_and_count_anew_after_a_while() {
        let tries = Tries::new(10);
        let now = Instant::now();
        let (one, other) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        for _ in 0..50 {
            tries.take_at(one, now).unwrap().succeeded();
        }
        for _ in 0..10 {
            assert!(tries.take_at(one, now).is_ok());
        }
        let refused = tries.take_at(one, now).err().unwrap();
        assert_eq!(refused.code(), Code::RateLimited);
        assert!(tries.take_at(other, now).is_ok());
        assert!(tries.take_at(one, now + WINDOW).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let tries = Tries::new(10);
        let now = Instant::now();
        for host in 0..10 {
            let address = format!("2001:db8::{host:x}").parse().ok();
            assert!(tries.take_at(address, now).is_ok());
        }
        assert!(tries.take_at("2001:db8::ffff".parse().ok(), now).is_err());
        assert!(tries.take_at("2001:db8:0:1::1".parse().ok(), now).is_ok());
    }

    #[test]
    fn a_flood_of_addresses_is_remembered_up_to_a_bound() {
        let tries = Tries::new(10);
        let now = Instant::now();
        for address in 0..u32::try_from(ADDRESSES).unwrap() + 500 {
            let _ = tries.take_at(Some(IpAddr::V4(address.into())), now);
        }
        assert!(tries.counts.lock().unwrap().len() <= ADDRESSES + 1);
    }
}
