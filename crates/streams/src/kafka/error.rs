//! What can go wrong with a cluster, by what is to be done about it.

use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use thiserror::Error;

/// What was attempted, and what kind of failure it was. The text holds no content of a record and no secret.
#[derive(Debug, Error)]
#[error("{attempted}: {}", .kind.text())]
pub struct KafkaError {
    /// The kind.
    pub kind: ErrorKind,
    /// What was attempted, and on what.
    pub attempted: String,
    /// What librdkafka said, where it was asked.
    #[source]
    pub source: Option<Native>,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No broker answers, or one is busy, moving or starting: it can pass.
    Unreachable,
    /// The cluster does not let us in, or not do this.
    Refused,
    /// A topic or a partition is not there.
    Absent,
    /// The settings are wrong: librdkafka, or the cluster, does not take them.
    Settings,
    /// Another one has taken our place: the same transactional id, or the same instance of the group.
    Fenced,
    /// The group has gone on without us: a new generation has the partitions.
    Generation,
    /// The offset that was asked for is not in the partition.
    OutOfRange,
    /// A record is larger than the cluster takes.
    TooLarge,
    /// A topic does not take such a record: it is compacted and the record has no key, or the record's time is out of its bounds.
    Unfit,
    /// Anything else.
    Other,
}

impl KafkaError {
    pub(super) fn new(attempted: impl Into<String>, source: Native) -> Self {
        let kind = match &source {
            Native::ClientConfig(..) | Native::ClientCreation(_) => ErrorKind::Settings,
            other => other
                .rdkafka_error_code()
                .map_or(ErrorKind::Other, ErrorKind::of),
        };
        Self {
            kind,
            attempted: attempted.into(),
            source: Some(source),
        }
    }

    pub(super) fn of_kind(attempted: impl Into<String>, kind: ErrorKind) -> Self {
        Self {
            kind,
            attempted: attempted.into(),
            source: None,
        }
    }
}

impl ErrorKind {
    /// The kind of one of librdkafka's codes.
    #[must_use]
    pub fn of(code: Code) -> Self {
        match code {
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::WaitingForCoordinator
            | Code::UnstableOffsetCommit
            | Code::ConcurrentTransactions
            | Code::RebalanceInProgress => Self::Unreachable,
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::IllegalSASLState
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => Self::Refused,
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                Self::Absent
            }
            Code::InvalidArgument
            | Code::InvalidConfig
            | Code::InvalidTransactionTimeout
            | Code::InvalidSessionTimeout
            | Code::InconsistentGroupProtocol
            | Code::UnsupportedSASLMechanism
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedForMessageFormat
            | Code::OffsetMetadataTooLarge
            | Code::InvalidTopic
            | Code::PolicyViolation => Self::Settings,
            Code::Fenced
            | Code::FencedInstanceId
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch => Self::Fenced,
            Code::IllegalGeneration | Code::UnknownMemberId => Self::Generation,
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                Self::OutOfRange
            }
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
                Self::TooLarge
            }
            Code::InvalidRecord | Code::InvalidTimestamp => Self::Unfit,
            _ => Self::Other,
        }
    }

    /// Whether it can pass without anybody doing something.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Self::Unreachable | Self::Generation | Self::Other)
    }

    /// The kind as the end of a sentence.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Unreachable => "the cluster does not answer, or not in time",
            Self::Refused => {
                "the cluster refuses it: look at the login, the certificates and the ACLs"
            }
            Self::Absent => "the topic or the partition is not there",
            Self::Settings => "the settings are not accepted",
            Self::Fenced => {
                "another process has taken this place: each gateway needs an instance name of its own"
            }
            Self::Generation => "the group has gone on without this member",
            Self::OutOfRange => "the offset is not in the partition",
            Self::TooLarge => "a record is larger than the topic takes",
            Self::Unfit => {
                "the topic does not take such a record: it is compacted (cleanup.policy) and the record has no key, or the record's time is out of its bounds (message.timestamp.*)"
            }
            Self::Other => "it failed",
        }
    }
}
