//! Streams, seen from outside: real clients write to the gateway, real clusters are read and written.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod amazon;
mod full_stream;
mod kinesis;
mod replicate;
mod seed;
mod stream_in;
mod view;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_linkspan");
