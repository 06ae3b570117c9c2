//! A job's life, as a pure function.
//!
//! ```text
//! queued → running → succeeded | failed | cancelled
//!             ↓ ↑
//!          waiting → queued
//! ```
//! A terminal job becomes `expired` when its retention has passed: its result is gone, its row stays a while longer.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Durable, and not begun.
    Queued,
    /// An attempt is under way.
    Running,
    /// Between attempts.
    Waiting,
    /// Done, with a result.
    Succeeded,
    /// Done, with a problem.
    Failed,
    /// Stopped by its caller.
    Cancelled,
    /// Its result was removed by age.
    Expired,
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// An attempt starts.
    Start,
    /// The attempt succeeded.
    Succeed,
    /// The attempt failed for good.
    Fail,
    /// The attempt failed and another will follow.
    Postpone,
    /// The wait between attempts is over.
    Requeue,
    /// The caller stops it.
    Cancel,
    /// The caller has it run again.
    Retry,
    /// Its retention has passed.
    Expire,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The state's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing more happens by itself but expiry.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Expired
        )
    }

    /// The state after an event, or none where the event does not fit the state.
    #[must_use]
    pub const fn after(self, event: JobEvent) -> Option<Self> {
        use JobEvent as E;
        Some(match (self, event) {
            (Self::Queued, E::Start) => Self::Running,
            (Self::Running, E::Succeed) => Self::Succeeded,
            (Self::Running, E::Fail) => Self::Failed,
            (Self::Running, E::Postpone) => Self::Waiting,
            (Self::Waiting, E::Requeue) => Self::Queued,
            (Self::Queued | Self::Running | Self::Waiting, E::Cancel) => Self::Cancelled,
            (Self::Failed | Self::Cancelled, E::Retry) => Self::Queued,
            (Self::Succeeded | Self::Failed | Self::Cancelled, E::Expire) => Self::Expired,
            _ => return None,
        })
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for JobState {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or(UnknownState)
    }
}

/// The name is no state's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a job state")]
pub struct UnknownState;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use JobEvent as E;

    const EVENTS: [E; 8] = [
        E::Start,
        E::Succeed,
        E::Fail,
        E::Postpone,
        E::Requeue,
        E::Cancel,
        E::Retry,
        E::Expire,
    ];

    proptest! {
        #[test]
        fn a_terminal_job_leaves_its_state_only_by_retry_or_expiry(events in prop::collection::vec(prop::sample::select(&EVENTS[..]), 0..40)) {
            let mut state = JobState::Queued;
            for event in events {
                if let Some(next) = state.after(event) {
                    if state.is_terminal() {
                        prop_assert!(matches!(event, JobEvent::Retry | JobEvent::Expire));
                    }
                    if matches!(next, JobState::Succeeded | JobState::Failed | JobState::Waiting) {
                        prop_assert_eq!(state, JobState::Running);
                    }
                    state = next;
                }
            }
        }
    }

    #[test]
    fn nothing_follows_expiry() {
        for event in EVENTS {
            assert_eq!(JobState::Expired.after(event), None);
        }
    }
}
