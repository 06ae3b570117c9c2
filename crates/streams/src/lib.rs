//! Records that flow.
//!
//! - [`record`]: a record, and where it stands in its stream.
//! - [`source`]: where records come from, and what a source promises.
//! - [`flow`]: records processed at once and out of order, committed in order.
//! - [`log`]: the embedded, durable log.
//! - [`kinesis`]: the Kinesis API as a service over that log.
//! - [`kafka`]: Kafka as a source, and as the sink that commits outputs and offsets in one transaction.
//! - [`replicate`]: topics of one cluster copied to another.
//!
//! Nothing here knows of integrations, engines, HTTP servers or the job store: the gateway brings them together.

pub mod flow;
pub mod kafka;
pub mod kinesis;
pub mod log;
pub mod record;
pub mod replicate;
pub mod source;

pub use record::{Header, Lane, Position, Record};
pub use source::{Claimed, Event, Gained, Release, Source, SourceError, Term};
