//! Replication between two real clusters.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "what the tests share stands outside of test functions"
)]

mod clusters;
mod exact;
mod faults;
mod groups;
mod lost;
mod topics;
