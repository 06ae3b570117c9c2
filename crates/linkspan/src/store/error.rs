//! What can go wrong with a store: a kind, a source and a hint when to try again.

use std::time::Duration;

/// Why a store did not do what it was asked. Callers match on the kind; the source is for the log.
#[derive(Debug, thiserror::Error)]
#[error("the store could not {doing}: {kind}")]
pub struct StoreError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What was attempted, as it follows "could not": `enqueue a job`.
    pub doing: &'static str,
    /// What the layer below said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of failure, each with what the caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ErrorKind {
    /// The disk, or the limit on the store's size, is reached. Nothing was changed. Answer 503 and try later: the store finds out by
    /// itself when there is space again.
    #[error("there is no space left; free some, or raise the limit on its size")]
    Full,
    /// A read, a write or an fsync failed. The store is poisoned: it refuses every later change at once, because what a failed fsync
    /// left behind is unknown. Answer 503 until the restart.
    #[error("the disk failed; restart the gateway after the disk is repaired")]
    Io,
    /// Another process held the store for too long, or too much waits. Nothing was changed. Try again soon.
    #[error("it is busy")]
    Busy,
    /// The store's server does not answer, or was lost while a change was under way: then it is unknown whether the change was made,
    /// as after [`ErrorKind::Io`], but nothing is poisoned. Answer 503 and try again: the store connects again by itself.
    #[error("its server does not answer; it is tried again by itself")]
    Unreachable,
    /// The store's content is damaged, or not what this program wrote. Poisoned like [`ErrorKind::Io`].
    #[error("its content is damaged; restore it from a backup")]
    Corrupt,
    /// Another gateway has the store open. Only on opening.
    #[error("another gateway has it open; stop that one, or give this one a store of its own")]
    Locked,
    /// The store was written by a later linkspan. Only on opening.
    #[error("it was written by a later version of linkspan; use that version")]
    Newer,
    /// The folder, file or database cannot be opened or made, or lacks what is needed. Only on opening, or where a server's rights or
    /// passwords change under a running gateway.
    #[error("it cannot be opened; see the log for the path and the reason")]
    Unusable,
    /// The store holds what is not this caller's to change. Only where a history is copied into it.
    #[error("it holds what a copy must not change")]
    Foreign,
    /// The store has been closed: the gateway is stopping.
    #[error("it is closed")]
    Closed,
    /// A fault of this program. Nothing was changed.
    #[error("of a fault in linkspan; see the log")]
    Internal,
}

impl ErrorKind {
    /// When the same call can be tried again; none where only a person can help.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Busy => Some(Duration::from_secs(1)),
            Self::Unreachable => Some(Duration::from_secs(5)),
            Self::Full => Some(Duration::from_secs(10)),
            Self::Io
            | Self::Corrupt
            | Self::Locked
            | Self::Newer
            | Self::Unusable
            | Self::Foreign
            | Self::Closed
            | Self::Internal => None,
        }
    }
}

impl StoreError {
    /// An error without a source.
    #[must_use]
    pub const fn new(kind: ErrorKind, doing: &'static str) -> Self {
        Self {
            kind,
            doing,
            source: None,
        }
    }

    /// The same with what the layer below said.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
