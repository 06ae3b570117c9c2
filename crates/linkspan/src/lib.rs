//! The gateway and its command line, as a library, so that tests and benchmarks reach its parts.

pub mod store;
