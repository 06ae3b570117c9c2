//! A delivery's life, as a pure function: one result on its way through one channel.
//!
//! ```text
//! pending → sending → delivered | dead
//!    ↑ ↓      │  ↓
//!    │ paused ←──┘ (the endpoint was paused)
//!    └────────┘    (the attempt failed and another follows)
//! ```
//! A delivered or dead one becomes pending again by a replay, with the same id; one that is pending is tried at once.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Durable, and waiting for its first or its next attempt.
    Pending,
    /// An attempt is under way.
    Sending,
    /// The receiver has it.
    Delivered,
    /// A dead letter: it is not tried again by itself.
    Dead,
    /// Held back because its endpoint is paused.
    Paused,
}

/// What happens to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryEvent {
    /// An attempt starts.
    Start,
    /// The receiver has taken it.
    Deliver,
    /// The attempt failed, or was given back, and another will follow.
    Postpone,
    /// It is given up.
    GiveUp,
    /// Its endpoint is paused.
    Pause,
    /// Its endpoint goes on.
    Resume,
    /// Somebody has it sent again, or now.
    Replay,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Sending,
        Self::Delivered,
        Self::Dead,
        Self::Paused,
    ];

    /// The state's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Paused => "paused",
        }
    }

    /// Whether it still has to arrive: its result must be kept for it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Sending | Self::Paused)
    }

    /// The state after an event, or none where the event does not fit the state.
    #[must_use]
    pub const fn after(self, event: DeliveryEvent) -> Option<Self> {
        use DeliveryEvent as E;
        Some(match (self, event) {
            (Self::Pending, E::Start) => Self::Sending,
            (Self::Sending, E::Deliver) => Self::Delivered,
            (Self::Sending, E::Postpone) | (Self::Paused, E::Resume) => Self::Pending,
            (Self::Pending | Self::Sending | Self::Paused, E::GiveUp) => Self::Dead,
            (Self::Pending | Self::Sending, E::Pause) => Self::Paused,
            (Self::Pending | Self::Delivered | Self::Dead, E::Replay) => Self::Pending,
            _ => return None,
        })
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeliveryState {
    type Err = UnknownDeliveryState;

    fn from_str(name: &str) -> Result<Self, UnknownDeliveryState> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or(UnknownDeliveryState)
    }
}

/// The name is no state's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a delivery state")]
pub struct UnknownDeliveryState;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use DeliveryEvent as E;

    const EVENTS: [E; 7] = [
        E::Start,
        E::Deliver,
        E::Postpone,
        E::GiveUp,
        E::Pause,
        E::Resume,
        E::Replay,
    ];

    proptest! {
        #[test]
        fn what_has_arrived_or_was_given_up_moves_only_by_a_replay(events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..40)) {
            let mut state = DeliveryState::Pending;
            for event in events {
                let Some(next) = state.after(event) else { continue };
                if !state.is_open() {
                    prop_assert_eq!(event, E::Replay);
                }
                if next == DeliveryState::Delivered {
                    prop_assert_eq!(state, DeliveryState::Sending);
                }
                state = next;
            }
        }
    }

    #[test]
    fn names_read_back() {
        for state in DeliveryState::ALL {
            assert_eq!(state.name().parse(), Ok(state));
        }
    }
}
