//! Kinesis Data Streams: the service over the embedded log.
//!
//! The API is that of Amazon Kinesis Data Streams, `Kinesis_20131202`: <https://docs.aws.amazon.com/kinesis/latest/APIReference/>.

mod catalogue;
pub mod decode;
mod fault;
mod hash_key;
mod iterator;
mod operations;
mod sequence;
mod service;
mod shapes;
mod shard;
pub mod sigv4;
mod source;
mod throttle;
mod wire;

#[cfg(test)]
mod tests;

pub use fault::{Fault, Kind};
pub use service::{Access, Answer, Call, Logs, Options, Service};
pub use source::{Keeper, KeptLane, KnownLane, OwnLags, OwnSettings, OwnSource, OwnStart};
pub use wire::Codec;
