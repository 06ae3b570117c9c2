//! Kafka by librdkafka: a source, and the sink that commits outputs and offsets in one transaction.
//!
//! - [`Cluster`]: how a cluster is reached.
//! - [`KafkaSource`]: topics read as a member of a group, [`Group`].
//! - [`KafkaCommitter`]: outputs, dead letters and the group's offsets in one transaction: exactly once on the output topics.
//! - [`Sender`]: a producer outside of transactions, at least once.
//! - [`Topics`]: what a cluster has of topics, and making them.
//! - [`Transactions`]: a transactional producer with librdkafka's errors sorted by what is to be done about them.
//!
//! librdkafka's calls block. They are made on threads of their own, never on a thread of the runtime.

mod cluster;
mod committer;
mod error;
mod group;
mod letter;
mod producer;
mod queue;
pub(crate) mod ranges;
mod reader;
mod record;
mod source;
mod takes;
mod topics;
mod transactions;

pub use cluster::{Cluster, Mechanism, Sasl, Tls};
pub use committer::{
    CommitterSettings, KafkaCommitter, KafkaMessage, KafkaOutput, transactional_id,
};
pub use error::{ErrorKind, KafkaError};
pub use group::Group;
pub use producer::{Placed, Sender, Sending};
pub use record::{lane, partition_of};
pub use source::{Checkpoints, KafkaSource, SourceSettings, Start};
pub use takes::Takes;
pub use topics::{Topic, Topics};
pub use transactions::{Outgoing, Sizes, Transactions, Trouble};
