//! `GET /v1/audit`: who did, or was refused, what; for administrators.

use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::console::no_store;
use super::query::{self, Known, Words};
use super::session::Session;
use crate::keys::Action;
use crate::refusal::Refusal;
use crate::store::{AuditLine, AuditQuery};

/// A line of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditLineView {
    /// When (RFC 3339).
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Who: a caller's name; `command line` for the command line beside the gateway.
    pub actor: String,
    /// The request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The address that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// What.
    pub action: String,
    /// On what: a job's or delivery's id, an endpoint, a key or a person as `NAME (ID)`, a request's method and path.
    pub target: String,
    /// How it ended: `done`, or a problem's code.
    pub outcome: String,
}

/// A page of lines.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditLines {
    /// The lines, newest first.
    pub lines: Vec<AuditLineView>,
    /// The value of `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl From<AuditLine> for AuditLineView {
    fn from(line: AuditLine) -> Self {
        Self {
            at: line.at,
            actor: line.actor.name,
            request_id: line.actor.request_id,
            remote: line.actor.remote,
            action: line.action,
            target: line.target,
            outcome: line.outcome,
        }
    }
}

/// The query of the listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    actor: Option<String>,
    action: Option<String>,
    from: Option<String>,
    until: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

impl Words for ListQuery {
    const WORDS: &'static str = "actor, action, from, until, after and limit (a number)";
}

pub(super) async fn list(
    session: Session,
    Known(query): Known<ListQuery>,
) -> Result<Response, Refusal> {
    session.must_everywhere(Action::Admin)?;
    let most = session.gateway.config.limits.max_page.min(1000);
    let query = AuditQuery {
        actor: query.actor,
        action: query.action,
        from: query::time("from", query.from.as_deref())?,
        until: query::time("until", query.until.as_deref())?,
        after: query::cursor(query.after.as_deref())?,
        limit: query.limit.unwrap_or(100).clamp(1, most),
    };
    let page = session.gateway.store.list_audit(query).await?;
    let lines = AuditLines {
        lines: page.lines.into_iter().map(AuditLineView::from).collect(),
        next: page.next,
    };
    Ok(no_store(axum::Json(lines).into_response()))
}
