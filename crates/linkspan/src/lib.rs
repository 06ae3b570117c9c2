//! The gateway and the command line of linkspan.
//!
//! The life of the process: [`cli`] reads the arguments, [`configuration`] the file, [`gateway`] is built and runs, and drains.

pub mod access_key;
pub mod admission;
pub mod auth;
pub mod backoff;
pub mod channels;
pub mod cli;
pub mod configuration;
pub mod deliveries;
pub mod engine;
pub mod engines;
pub mod gateway;
pub mod http;
pub mod integration;
pub mod jq;
pub mod keys;
pub mod links;
pub mod logging;
pub mod metrics;
pub mod outbound;
pub mod patterns;
pub mod pipeline;
pub mod preview;
pub mod rate_limit;
pub mod recent;
pub mod refusal;
pub mod replication;
pub mod request;
pub mod runner;
pub mod served;
pub mod sessions;
pub mod store;
pub mod streaming;
mod summary;
pub mod tls;
