//! Room for records that are unwrapped: a small record can become a very large one, and many of them at once more than there is memory.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which room is counted.
const UNIT: usize = 1 << 10;

/// So many bytes of unwrapped records are made and handed on at once; at least those of one record.
pub const BATCH_BYTES: usize = 1 << 20;

/// Bounds what is unwrapped and not taken yet. Whoever unwraps first takes room for the most that can come of it, and then gives back
/// what it did not need. Nobody who holds some waits for more.
pub struct Room {
    permits: Arc<Semaphore>,
    most: u32,
}

/// Room that was taken; given back when it is dropped.
#[derive(Default)]
pub struct Taken(Option<OwnedSemaphorePermit>);

impl Room {
    /// Room for `more` bytes beside a batch that is being unwrapped, of which each record becomes at most `most` bytes.
    #[must_use]
    pub fn new(most: usize, more: usize) -> Self {
        let most = u32::try_from(units(most.saturating_add(BATCH_BYTES))).unwrap_or(u32::MAX);
        let all = units(more).saturating_add(most as usize);
        Self {
            permits: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            most,
        }
    }

    /// Room for a batch whatever comes of it, as soon as there is; in turn.
    pub async fn take(&self) -> Taken {
        // The semaphore is never closed.
        Taken(
            self.permits
                .clone()
                .acquire_many_owned(self.most)
                .await
                .ok(),
        )
    }
}

impl Taken {
    /// Room for so many bytes of it; all of it where that is less. The rest stays.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let part = |permit: &mut OwnedSemaphorePermit| {
            permit.split(units(bytes).min(permit.num_permits()))
        };
        Self(self.0.as_mut().and_then(part))
    }
}

const fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taken")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn room_for_the_most_is_taken_and_what_is_not_needed_is_given_back() {
        let room = Room::new(4 * BATCH_BYTES, BATCH_BYTES);
        let mut whole = room.take().await;
        assert!(room.take().now_or_never().is_none());
        let needed = whole.split(BATCH_BYTES);
        drop(whole);
        let mut other = room.take().await;
        let all = other.split(usize::MAX);
        assert!(other.split(UNIT).0.is_some_and(|it| it.num_permits() == 0));
        drop(all);
        let more = room.take().now_or_never().unwrap();
        drop((needed, more));
        assert!(room.take().now_or_never().is_some());
    }
}
