//! What can go wrong, as a sentence.

use rdkafka::error::KafkaError as Native;
use thiserror::Error;

use crate::kafka::ErrorKind;

/// What was attempted, and why it did not work. No content of a record stands in it.
#[derive(Debug, Error)]
#[error("{text}")]
pub struct ReplicateError {
    /// What kind of failure it was.
    pub kind: ErrorKind,
    text: String,
}

impl ReplicateError {
    pub(super) fn new(attempted: impl AsRef<str>, fault: &Native) -> Self {
        tracing::debug!(%fault, "{}", attempted.as_ref());
        Self::of_kind(attempted, kind(fault))
    }

    pub(super) fn of_kind(attempted: impl AsRef<str>, kind: ErrorKind) -> Self {
        Self {
            kind,
            text: format!("{}: {}", attempted.as_ref(), words(kind)),
        }
    }

    pub(super) fn settings(text: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Settings,
            text: text.into(),
        }
    }

    pub(super) fn absent(text: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Absent,
            text: text.into(),
        }
    }

    pub(super) fn other(text: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Other,
            text: text.into(),
        }
    }
}

/// The kind of one of librdkafka's failures.
pub(super) fn kind(fault: &Native) -> ErrorKind {
    match fault {
        Native::ClientConfig(..) | Native::ClientCreation(_) => ErrorKind::Settings,
        other => other
            .rdkafka_error_code()
            .map_or(ErrorKind::Other, ErrorKind::of),
    }
}

/// The kind as the end of a sentence. Where a replication says it otherwise than a gateway.
pub(super) fn words(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Fenced => {
            "another process has begun under this name, or the cluster has given the transaction up"
        }
        other => other.text(),
    }
}
