//! Whether a store accepts: yes, not until there is space or it can be reached, or not until the restart.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::error::ErrorKind;
use super::upkeep::Health;

/// So long after a probe the next one may be made.
const PROBE_EVERY: Duration = Duration::from_secs(1);

const ACCEPTING: u8 = 0;
const FULL: u8 = 1;
const IO: u8 = 2;
const CORRUPT: u8 = 3;
const CLOSED: u8 = 4;
const UNREACHABLE: u8 = 5;

/// The state of one store, shared by the threads that use it. It only gets worse, except that space can be
/// found and a far store be reached again.
#[derive(Debug)]
pub(super) struct Gauge {
    state: AtomicU8,
    /// When the last probe was made, in milliseconds since `origin`.
    probed: AtomicU64,
    origin: Instant,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(ACCEPTING),
            probed: AtomicU64::new(0),
            origin: Instant::now(),
        }
    }
}

impl Gauge {
    pub(super) fn health(&self) -> Health {
        match self.state.load(Ordering::Acquire) {
            ACCEPTING => Health::Accepting,
            FULL => Health::Refusing(ErrorKind::Full),
            CORRUPT => Health::Refusing(ErrorKind::Corrupt),
            CLOSED => Health::Refusing(ErrorKind::Closed),
            UNREACHABLE => Health::Refusing(ErrorKind::Unreachable),
            _ => Health::Refusing(ErrorKind::Io),
        }
    }

    /// There is no space left. The next probe is a while away.
    pub(super) fn full(&self) {
        if self.change(ACCEPTING, FULL) {
            self.probed.store(self.now(), Ordering::Release);
        }
    }

    /// A probe found space.
    pub(super) fn has_space(&self) {
        self.change(FULL, ACCEPTING);
    }

    /// The store cannot be reached. The next probe is a while away. True where it was reached until now.
    pub(super) fn unreachable(&self) -> bool {
        let news = self.change(ACCEPTING, UNREACHABLE);
        if news {
            self.probed.store(self.now(), Ordering::Release);
        }
        news
    }

    /// The store was reached. True where that is new.
    pub(super) fn reached(&self) -> bool {
        self.change(UNREACHABLE, ACCEPTING)
    }

    /// What is on the disk is unknown or damaged: refuse until the restart.
    pub(super) fn poison(&self, kind: ErrorKind) {
        let worse = if kind == ErrorKind::Corrupt {
            CORRUPT
        } else {
            IO
        };
        self.end_as(worse);
    }

    /// The store is closed.
    pub(super) fn close(&self) {
        self.end_as(CLOSED);
    }

    /// Whether a probe is due now. Says yes to one caller; that one makes it.
    pub(super) fn probe_is_due(&self) -> bool {
        if !matches!(self.state.load(Ordering::Acquire), FULL | UNREACHABLE) {
            return false;
        }
        let (last, now) = (self.probed.load(Ordering::Acquire), self.now());
        now.saturating_sub(last) >= PROBE_EVERY.as_millis() as u64
            && self
                .probed
                .compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// Goes to a state that is never left, unless it is in one.
    fn end_as(&self, state: u8) {
        for passing in [ACCEPTING, FULL, UNREACHABLE] {
            if self.change(passing, state) {
                return;
            }
        }
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_comes_back_and_a_failed_disk_does_not() {
        let gauge = Gauge::default();
        gauge.full();
        assert_eq!(gauge.health(), Health::Refusing(ErrorKind::Full));
        assert!(!gauge.probe_is_due(), "the failure itself was the probe");
        gauge.has_space();
        assert_eq!(gauge.health(), Health::Accepting);
        gauge.full();
        gauge.poison(ErrorKind::Io);
        gauge.has_space();
        gauge.close();
        assert_eq!(gauge.health(), Health::Refusing(ErrorKind::Io));
    }

    #[test]
    fn a_far_store_is_lost_once_and_found_again() {
        let gauge = Gauge::default();
        assert!(!gauge.reached());
        assert!(gauge.unreachable());
        assert!(!gauge.unreachable(), "known already");
        assert_eq!(gauge.health(), Health::Refusing(ErrorKind::Unreachable));
        assert!(gauge.reached());
        assert_eq!(gauge.health(), Health::Accepting);
        gauge.unreachable();
        gauge.close();
        assert!(!gauge.reached());
        assert_eq!(gauge.health(), Health::Refusing(ErrorKind::Closed));
    }
}
