//! What went wrong at the server, and what that means.
//!
//! PostgreSQL's own details may quote a row's values, so only its code and its message are kept; both go to the log as a source.

use deadpool_postgres::PoolError;

use crate::store::error::{ErrorKind, StoreError};

/// Why a read or a change did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server refused a statement.
    #[error("the server says {code}: {message}")]
    Server {
        /// The SQLSTATE.
        code: String,
        /// Its message, without the detail.
        message: String,
    },
    /// The connection was lost, or never there.
    #[error("no connection to the server")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server did not answer, and the connection did not break either.
    #[error("the server did not answer in time")]
    Late,
    /// Every connection is in use for too long.
    #[error("every connection to the server is in use")]
    Crowded,
    /// A column holds what this program never writes.
    #[error("a column holds what linkspan never writes")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A fault of this program.
    #[error("a value cannot be written")]
    Value(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was found forbids it.
    #[error("{1}")]
    Kind(ErrorKind, &'static str),
}

/// What may be done after a fault, before it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing: tell it.
    No,
    /// The same once more: another transaction was in the way, or the connection was an old one.
    Yes,
    /// The same once more, with the partitions looked at anew.
    Partitions,
}

impl Fault {
    /// A column that holds what this program never writes.
    pub(super) fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Damaged(error.into())
    }

    /// The fault as the store's error.
    pub(super) fn at(self, doing: &'static str) -> StoreError {
        StoreError::new(self.kind(), doing).because(self)
    }

    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Server { code, .. } => kind_of(code),
            Self::Connection(_) | Self::Late => ErrorKind::Unreachable,
            Self::Crowded => ErrorKind::Busy,
            Self::Damaged(_) => ErrorKind::Corrupt,
            Self::Value(_) => ErrorKind::Internal,
            Self::Kind(kind, _) => *kind,
        }
    }

    pub(super) fn again(&self) -> Again {
        match self {
            Self::Connection(_) => Again::Yes,
            Self::Server { code, .. } => match code.as_str() {
                // A deadlock, a serialization failure: the other one has gone on.
                "40001" | "40P01" => Again::Yes,
                // Shut down, crashed, or become a standby; a transaction that somebody left behind: on a new connection.
                "57P01" | "57P02" | "25006" | "25P02" => Again::Yes,
                // No partition for the row, or a table that is gone: a partition was dropped, or is not there yet.
                "23514" | "42P01" => Again::Partitions,
                _ => Again::No,
            },
            _ => Again::No,
        }
    }

    /// Whether the connection, and those that were made before it, are of no use any more though they may be open.
    pub(super) fn spoils(&self) -> bool {
        match self {
            Self::Late => true,
            Self::Server { code, .. } => {
                code.starts_with("57P") || matches!(code.as_str(), "25006" | "25P02")
            }
            _ => false,
        }
    }
}

/// What an SQLSTATE means.
fn kind_of(code: &str) -> ErrorKind {
    match code {
        // Disk full, and the project's own limits.
        "53100" => ErrorKind::Full,
        "XX001" | "XX002" => ErrorKind::Corrupt,
        // Invalid password, no such role, no such database, insufficient rights.
        "28P01" | "28000" | "3D000" | "42501" => ErrorKind::Unusable,
        // A standby: nothing can be written here, another server took over.
        "25006" => ErrorKind::Unreachable,
        // A transaction that somebody left behind, too many connections, no memory, a lock or a statement that took too long, an I/O error that undid the transaction.
        "25P02" | "55P03" | "57014" | "40001" | "40P01" | "58030" => ErrorKind::Busy,
        code if code.starts_with("53") => ErrorKind::Busy,
        // Shutting down, starting, connection exceptions.
        code if code.starts_with("57P") || code.starts_with("08") => ErrorKind::Unreachable,
        _ => ErrorKind::Internal,
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(server) = error.as_db_error() {
            return Self::Server {
                code: server.code().code().to_owned(),
                message: server.message().to_owned(),
            };
        }
        if error.is_closed() {
            return Self::Connection(error.into());
        }
        // The kinds are private: a connection that broke shows by its source.
        if std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
        {
            Self::Connection(error.into())
        } else {
            Self::Value(error.into())
        }
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => match Self::from(error) {
                Self::Value(source) => Self::Connection(source),
                fault => fault,
            },
            PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => Self::Crowded,
            other => Self::Connection(other.into()),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Value(error.into())
    }
}
