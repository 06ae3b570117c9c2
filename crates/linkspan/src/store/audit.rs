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

    /// A page of lines, newest first: at most `limit` (1 to 1,000) that are older than the cursor `after`.
    ///
    /// # Errors
    ///
    /// As [`JobStore::get`](super::JobStore::get).
    async fn list_audit(&self, after: Option<u64>, limit: u32) -> Result<AuditPage, StoreError>;
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
    /// On what: a job's or key's id, an integration's name.
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

/// A page of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The lines, newest first.
    pub lines: Vec<AuditLine>,
    /// The cursor of the next page; none on the last one.
    pub next: Option<u64>,
}
