//! Kafka as a source and as a sink, against a real Apache Kafka.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test fails by panicking"
)]

mod broker;
mod common;
mod group;
mod login;
mod records;
mod refused;
mod transactions;
