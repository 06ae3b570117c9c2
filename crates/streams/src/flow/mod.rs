//! The flow: records of a source are processed concurrently and out of order, given on in order, and committed as a contiguous prefix.
//!
//! ```text
//! source ─▶ intake (bounded count and bytes) ─▶ process, many at once ─▶ order by lane or key ─▶ committer
//! ```
//!
//! What holds:
//! - A record is committed after it was processed, or was given up and is a dead letter; never both, never before.
//! - [`Commit::progress`] covers nothing that is not in this or an earlier commit.
//! - One record cannot freeze its lane: past [`Settings::deadline`] it is a dead letter.
//! - No commit is open while a [`Process`] runs for it.

mod commit;
mod lane;
mod limit;
mod meter;
mod process;
mod run;
mod settings;
#[cfg(test)]
mod tests;

pub use commit::{Commit, CommitError, Committer, LaneCommit, Output, Progress};
pub use meter::{Meter, Reading};
pub use process::{Failure, Process};
pub use run::{Flow, FlowError};
pub use settings::{Order, Settings};
