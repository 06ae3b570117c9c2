//! Kinesis Data Streams: the service over the embedded log, and the consumer of a real stream.
//!
//! The API is that of Amazon Kinesis Data Streams, `Kinesis_20131202`: <https://docs.aws.amazon.com/kinesis/latest/APIReference/>.
