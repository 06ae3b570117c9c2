//! What keeps a blob from being removed while its row is on the way.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Digest;

/// The pins of one store of blobs, in memory: rows keep blobs across restarts. Cheap to clone; every clone is the same.
#[derive(Clone, Default)]
pub struct Pins {
    shared: Arc<Shared>,
}

/// Holds a content in place until the last clone is dropped.
#[derive(Clone)]
pub struct Pin(#[expect(dead_code, reason = "held for its drop")] Arc<Held>);

/// A content that is about to be removed; no pin of it can be made meanwhile.
pub struct Condemned {
    digest: Digest,
    shared: Arc<Shared>,
}

struct Held {
    digest: Digest,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    spared: Condvar,
}

#[derive(Default)]
struct State {
    pinned: HashMap<Digest, usize>,
    condemned: HashSet<Digest>,
}

impl Pins {
    /// Pins a content, whether it is there yet or not. Blocks while it is being removed: call it where a thread may block.
    #[must_use]
    pub fn pin(&self, digest: Digest) -> Pin {
        let mut state = self.shared.state();
        while state.condemned.contains(&digest) {
            state = self
                .shared
                .spared
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *state.pinned.entry(digest).or_default() += 1;
        Pin(Arc::new(Held {
            digest,
            shared: Arc::clone(&self.shared),
        }))
    }

    /// Condemns a content, unless it is pinned or condemned.
    #[must_use]
    pub fn condemn(&self, digest: Digest) -> Option<Condemned> {
        let mut state = self.shared.state();
        if state.pinned.contains_key(&digest) || !state.condemned.insert(digest) {
            return None;
        }
        Some(Condemned {
            digest,
            shared: Arc::clone(&self.shared),
        })
    }
}

impl Condemned {
    /// The content.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(count) = state.pinned.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.pinned.remove(&self.digest);
            }
        }
    }
}

impl Drop for Condemned {
    fn drop(&mut self) {
        self.shared.state().condemned.remove(&self.digest);
        self.shared.spared.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins")
            .field("pinned", &self.shared.state().pinned.len())
            .finish()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

impl fmt::Debug for Condemned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condemned")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_content_is_not_condemned_and_a_condemned_one_is_pinned_only_after_its_removal() {
        let pins = Pins::default();
        let digest = Digest::of(b"a bill");
        let pin = pins.pin(digest);
        let second = pin.clone();
        drop(pin);
        assert!(pins.condemn(digest).is_none());
        drop(second);
        let condemned = pins.condemn(digest).unwrap();
        assert!(pins.condemn(digest).is_none());
        let waiting = std::thread::spawn({
            let pins = pins.clone();
            move || pins.pin(digest)
        });
        assert!(pins.shared.state().pinned.is_empty());
        drop(condemned);
        let pin = waiting.join().unwrap();
        assert!(pins.condemn(digest).is_none());
        drop(pin);
        assert!(pins.condemn(digest).is_some());
    }
}
