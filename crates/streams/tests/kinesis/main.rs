//! A Kinesis stream as a source, by Amazon's client, against this project's own Kinesis behind a real HTTP server.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod aggregates;
mod faults;
mod leases;
mod reader;
mod server;
mod shards;
mod sharing;
