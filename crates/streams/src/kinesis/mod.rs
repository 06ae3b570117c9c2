//! Kinesis Data Streams.
//!
//! - [`Service`]: the service over the embedded log.
//! - [`consumer`]: a stream of Amazon's, or of a service that speaks its protocol, as a source.
//! - [`put`]: records to such a stream.
//!
//! The API is that of Amazon Kinesis Data Streams, `Kinesis_20131202`: <https://docs.aws.amazon.com/kinesis/latest/APIReference/>.

mod amazon;
mod bounded;
mod catalogue;
pub mod consumer;
pub mod decode;
mod fault;
mod hash_key;
mod iterator;
mod operations;
pub mod put;
pub mod room;
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

pub use amazon::{Amazon, AmazonError, AmazonErrorKind};
pub use aws_sdk_kinesis::Client;
pub use fault::{Fault, Kind};
pub use service::{Access, Answer, Call, Logs, Options, Service};
pub use source::{
    Keeper, KeptLane, KnownLane, OwnLags, OwnSettings, OwnSource, OwnStart, own_whole,
};
pub use wire::Codec;
