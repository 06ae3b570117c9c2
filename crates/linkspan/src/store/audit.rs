//! The audit log: who did, or was refused, what. It holds no document's content and no secret.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;

/// The audit log.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Writes a line. Called for each refusal and each change that the store does not write by itself.
    ///
    /// # Errors
    ///
    /// The line was not written; log it, and go on with the refusal.
    async fn append_audit(&self, line: AuditLine) -> Result<(), StoreError>;

    /// A page of lines, newest first.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn list_audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError>;
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// When.
    pub at: Timestamp,
    /// Who, and from where.
    pub actor: Actor,
    /// What: `job.cancel`, `job.retry`, `job.delete`, `key.add`, `key.revoke`, `key.expire`, `request.refused` …
    pub action: String,
    /// On what: a job's id, a key or a person as [`name_and_id`], an endpoint, an integration's name.
    pub target: String,
    /// How it ended: `done`, or a problem's code.
    pub outcome: String,
}

/// Who does something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The caller's name; `command line` for the command line beside the gateway.
    pub name: String,
    /// The request.
    pub request_id: Option<String>,
    /// The address that it came from.
    pub remote: Option<String>,
}

/// Which lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only what this one did.
    pub actor: Option<String>,
    /// Only this that was done.
    pub action: Option<String>,
    /// Only what was done at this time or later.
    pub from: Option<Timestamp>,
    /// Only what was done before this time.
    pub until: Option<Timestamp>,
    /// Only lines older than this cursor: the `next` of the page before.
    pub after: Option<u64>,
    /// At most so many; 0 counts as 1, and more than 1,000 as 1,000.
    pub limit: u32,
}

impl AuditQuery {
    /// The newest lines, so many.
    #[must_use]
    pub fn newest(limit: u32) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }
}

/// How a line names a key, or a person whom an identity provider knows: `NAME (ID)`. The name is for people; the id says which one.
#[must_use]
pub fn name_and_id(name: &str, id: &str) -> String {
    format!("{name} ({id})")
}

/// A page of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The lines, newest first.
    pub lines: Vec<AuditLine>,
    /// The cursor of the next page; none on the last one.
    pub next: Option<u64>,
}
