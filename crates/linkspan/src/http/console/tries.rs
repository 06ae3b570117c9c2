//! How often an address may fail to sign in. Only failures count, and only a failure is refused: a right key always lets in. For behind
//! a proxy all people have one address, and who fails there must not shut out the others.

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

/// The failures of all addresses. Each gateway counts for itself.
pub(super) struct Tries {
    most: u32,
    counts: Mutex<HashMap<IpAddr, Count>>,
}

#[derive(Clone, Copy)]
struct Count {
    since: Instant,
    failures: u32,
}

impl Tries {
    /// So many failures a minute.
    pub(super) fn new(most: u32) -> Self {
        Self {
            most,
            counts: Mutex::default(),
        }
    }

    /// Counts a failure.
    ///
    /// # Errors
    ///
    /// 429, with the time until failures count anew: there were too many, and this one is told nothing.
    pub(super) fn failed(&self, remote: Option<IpAddr>) -> Result<(), Refusal> {
        self.failed_at(remote, Instant::now())
    }

    fn failed_at(&self, remote: Option<IpAddr>, now: Instant) -> Result<(), Refusal> {
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
            failures: 0,
        };
        let count = counts.entry(address).or_insert(fresh);
        if now.duration_since(count.since) >= WINDOW {
            *count = fresh;
        }
        if count.failures >= self.most {
            let wait = WINDOW.saturating_sub(now.duration_since(count.since));
            return Err(Refusal::new(
                Code::RateLimited,
                "too many tries to sign in failed from this address, and this one as well; wait a minute",
            )
            .retry_after(wait));
        }
        count.failures += 1;
        Ok(())
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
    fn failures_are_bounded_for_each_address_and_count_anew_after_a_while() {
        let tries = Tries::new(10);
        let now = Instant::now();
        let (one, other) = ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok());
        for _ in 0..10 {
            assert!(tries.failed_at(one, now).is_ok());
        }
        let refused = tries.failed_at(one, now).err().unwrap();
        assert_eq!(refused.code(), Code::RateLimited);
        assert!(tries.failed_at(other, now).is_ok());
        assert!(tries.failed_at(one, now + WINDOW).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let tries = Tries::new(10);
        let now = Instant::now();
        for host in 0..10 {
            let address = format!("2001:db8::{host:x}").parse().ok();
            assert!(tries.failed_at(address, now).is_ok());
        }
        assert!(tries.failed_at("2001:db8::ffff".parse().ok(), now).is_err());
        assert!(tries.failed_at("2001:db8:0:1::1".parse().ok(), now).is_ok());
    }

    #[test]
    fn a_flood_of_addresses_is_remembered_up_to_a_bound() {
        let tries = Tries::new(10);
        let now = Instant::now();
        for address in 0..u32::try_from(ADDRESSES).unwrap() + 500 {
            let _ = tries.failed_at(Some(IpAddr::V4(address.into())), now);
        }
        assert!(tries.counts.lock().unwrap().len() <= ADDRESSES + 1);
    }
}
