//! Replication: topics of one cluster copied to another, exactly once.
//!
//! - [`Replicator`]: copies until it is stopped. It survives a cut link, a restarted broker and its own death at any moment.
//! - [`translate`]: the offsets of a consumer group on the other side, exactly.
//! - [`verify`]: compares both sides, range by range.
//! - [`look`]: what a process that is not the replicator can tell of it.
//!
//! **How it is exactly once.** The records and the progress are written to the target in one transaction. The progress is a topic of the
//! target, `linkspan.offsets.NAME`: for each partition the source's position and, run by run, which source offset became which target
//! offset. The target's offsets are those that the brokers acknowledged, so the map is exact whatever lies between: markers of
//! transactions, aborted records, what compaction has removed, records of others. Whoever begins (after a kill, a cut, an error) takes
//! the transactional id `linkspan.replicate.NAME`, which ends the transaction of whoever was there before, and goes on where the
//! progress stands. Nothing is kept anywhere else. Of several processes under one name the latest copies, and the others stand by.
//!
//! **What is kept.** Key, value, headers (their order, duplicates, nulls, and names that are not UTF-8), timestamp and partition. One
//! exception: librdkafka takes the timestamp 0 for "now", so 0 becomes 1.
//!
//! **What stops a topic.** A source topic that was truncated or made anew, a target topic that was made anew, and a record that the
//! target refuses. The topic stops with a sentence; the others go on. [`reset`] begins such a topic anew.

mod allowance;
mod announce;
mod clients;
mod copy;
mod cycle;
mod describe;
mod error;
mod faults;
mod in_step;
mod map;
mod owner;
mod plan;
mod positions;
mod progress;
mod replicator;
mod reports;
mod session;
mod settings;
mod standing;
mod status;
mod telling;
mod transaction;
mod translate;
mod verify;
mod watch;

pub use error::ReplicateError;
pub use map::OffsetMap;
pub use progress::reset;
pub use replicator::Replicator;
pub use settings::{Compression, Naming, Settings};
pub use status::{PartitionStatus, State, Status, TopicState, TopicStatus, look};
pub use translate::{Direction, Outcome, Translated, apply, translate};
pub use verify::{Difference, Range, Seen, Verified, verify};
