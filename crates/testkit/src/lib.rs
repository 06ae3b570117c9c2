//! What linkspan's tests share: a gateway process to start, kill and start again, a client that speaks to it
//! with a ledger of what it was answered, and faults.
//!
//! Everything listens on port 0 of loopback, lives in a temporary folder and ends with the test.

mod browser;
mod client;
pub mod faults;
pub mod kafka;
pub mod ledger;
mod ports;
mod postgres;
mod process;
mod s3;
pub mod smtp;
pub mod topics;

pub use browser::Browser;
pub use client::{Answer, Client};
pub use kafka::KafkaCluster;
pub use postgres::PostgresServer;
pub use process::{Gateway, Setup};
pub use s3::S3Server;

/// The text of a fixture's path, whatever the test's working folder.
#[must_use]
pub fn fixture(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(path)
}
