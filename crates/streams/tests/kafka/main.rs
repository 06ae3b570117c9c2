//! Kafka as a source and as a sink, against a real Apache Kafka.

mod broker;
mod common;
mod group;
mod records;
mod transactions;
