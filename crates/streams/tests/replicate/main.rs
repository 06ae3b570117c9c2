//! Replication between two real clusters.

mod clusters;
mod exact;
mod faults;
mod groups;
mod topics;
