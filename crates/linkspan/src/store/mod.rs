//! The durable store: jobs, documents, results, deliveries, API keys, sessions and the audit log.
//!
//! What holds, whatever the implementation:
//! - A call that changes something returns `Ok` only after the change is on disk. An error means that nothing was changed, with one
//!   exception: after [`ErrorKind::Io`] it is unknown whether the change will be seen after a restart. Nothing was acknowledged, so
//!   nothing acknowledged is lost.
//! - Dropping the future of a call never undoes the change: it may or may not have happened. So a caller that must know (an
//!   attempt's end, an acceptance) runs the call in a task of its own.
//! - The store reads no clock: every call that depends on time is told it. `now` must come from one clock.
//! - A job's attempt is named by its [`Attempt`]: the token is a fencing token, never given twice for one job, so that an attempt that
//!   was taken for dead changes nothing when it comes back.
//! - A job is kept by [`JobState`]'s rules, and its `version` grows at each change.
//!
//! The traits are small and by role: [`JobStore`] for the door, [`JobQueue`] for the runner, [`Upkeep`] for the sweeper and the
//! health page, [`StreamStore`] for streams, [`DeliveryQueue`] for the sender, [`DeliveryStore`] for who looks at deliveries, [`KeyStore`],
//! [`SessionStore`] and [`AuditLog`]. [`Store`] is all of them. [`Blobs`] holds the documents that are too big for a row.
//! Every implementation passes the cases of `conformance`.
//!
//! [`JobState`]: linkspan_model::JobState

pub mod audit;
pub mod blobs;
#[cfg(test)]
mod conformance;
pub mod copy;
pub mod deliveries;
mod error;
mod gauge;
pub mod jobs;
pub mod keys;
mod lock;
mod open;
pub mod postgres;
pub mod queue;
pub mod sessions;
pub mod sqlite;
pub mod streams;
pub mod upkeep;
pub mod watch;

use std::time::Duration;

use jiff::SignedDuration;

pub use audit::{Actor, AuditLine, AuditLog, AuditPage, AuditQuery, name_and_id};
pub use blobs::{
    BlobRef, Blobs, Body, Content, Digest, DocumentRef, FileBlobs, Intake, IntakeError, LocalBlob,
};
pub use deliveries::{
    ClaimedDelivery, DeliveriesCommanded, Delivery, DeliveryAttempt, DeliveryClaim, DeliveryClaims,
    DeliveryCommand, DeliveryEnd, DeliveryOutcome, DeliveryPage, DeliveryQuery, DeliveryQueue,
    DeliveryStore, Endpoint, EndpointStatus, NewDelivery, Pause, Try, TryOutcome,
};
pub use error::{ErrorKind, StoreError};
pub use jobs::{
    AttemptOutcome, AttemptRecord, Command, Commanded, Enqueued, Filter, Idempotency, Job,
    JobStore, NewJob, Page, Sight, Start,
};
pub use keys::{KeyRecord, KeyStore};
pub use open::{blobs_beside, blobs_of, migrate, open, open_beside};
pub use postgres::{Migrated, PostgresOptions, PostgresStore};
pub use queue::{
    Attempt, AttemptEnd, Claim, Claimed, Claims, Detach, Finished, JobQueue, Outbox, Outcome,
    Places, Recover, Recovered,
};
pub use sessions::{SessionRecord, SessionStore};
pub use sqlite::{SqliteOptions, SqliteStore};
pub(crate) use streams::id_made;
pub use streams::{
    Hold, Label, LabelCount, LabelQuery, LaneProgress, LaneStatus, RecordOutcome, ResultPage,
    ResultQuery, StreamCommit, StreamCommitted, StreamStore, TakeLanes, Takeable, TakenLane,
};
pub use upkeep::{Counts, Health, Retention, Swept, Tally, Upkeep};
pub use watch::{Change, Event, Watch, Watchers};

/// Lists the roles of a store: [`Store`] is all of them.
macro_rules! roles {
    ($first:ident $(+ $role:ident)+) => {
        /// Everything that a gateway's store does.
        pub trait Store: $first $(+ $role)+ + std::fmt::Debug + Send + Sync {}

        impl<T: $first $(+ $role)+ + std::fmt::Debug + Send + Sync> Store for T {}
    };
}

roles!(
    JobStore
        + JobQueue
        + StreamStore
        + DeliveryQueue
        + DeliveryStore
        + Upkeep
        + KeyStore
        + SessionStore
        + AuditLog
);

/// A duration as the store takes it.
#[must_use]
pub fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
