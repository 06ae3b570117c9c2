//! `GET /v1/results`: what came out, of streams and of jobs, newest first; found by what stands in it.
//!
//! One call looks at so many results at most, and holds so much of them in memory: a page may be short, even empty, and its `next`
//! goes on from there.

mod look;
mod write;

use axum::response::Response;
use http::HeaderMap;
use jiff::Timestamp;
use linkspan_model::{Code, InvocationId, JobState, ResultDocument};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::query::{self, Known, Words};
use super::session::Session;
use crate::keys::Action;
use crate::refusal::Refusal;
use crate::store::{ResultQuery, Sight};
use look::{Look, Needle, View};
use write::Form;

/// A result with where it came from.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ResultView {
    /// The invocation: of a record's work, or of a job.
    pub id: InvocationId,
    /// The integration.
    pub integration: String,
    /// `succeeded` or `failed`.
    pub status: JobState,
    /// When the work was accepted, or the record taken (RFC 3339).
    #[schemars(with = "String")]
    pub created: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub finished: Option<Timestamp>,
    /// Where the record stood in its source; absent where no record was it, but a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// The result document.
    #[schemars(with = "ResultDocument")]
    pub result: Value,
}

/// A page of results.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct ResultsPage {
    /// The results, newest first; fewer than `limit`, even none, where looking further is left to the next call.
    pub results: Vec<ResultView>,
    /// The value of `after` for the next page; absent when everything was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<InvocationId>,
}

/// The query of the listing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    integration: Option<String>,
    q: Option<String>,
    status: Option<String>,
    record: Option<String>,
    from: Option<String>,
    until: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

impl Words for ListQuery {
    const WORDS: &'static str =
        "integration, q, status, record, from, until, after and limit (a number)";
}

pub(super) async fn list(
    session: Session,
    Known(given): Known<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let sight = session.sight(given.integration.as_deref())?;
    let form = Form::of(&headers);
    let most = session.gateway.config.limits.max_page.min(1000);
    let limit = given.limit.unwrap_or(50).clamp(1, most);
    let query = ResultQuery {
        failed: failed(given.status.as_deref())?,
        record: given.record,
        from: query::time("from", given.from.as_deref())?,
        until: query::time("until", given.until.as_deref())?,
        after: query::cursor(given.after.as_deref())?,
        integration: given.integration,
        limit,
        ..ResultQuery::default()
    };
    let needle = given.q.filter(|q| !q.is_empty()).map(|q| Needle::new(&q));
    let look = Look {
        store: session.gateway.store.clone(),
        views: views(&session, sight, query.integration.as_deref()),
        query,
        needle,
    };
    let page = look.page().await?;
    form.answer(page)
}

/// What the caller sees: its own, everybody's of the integrations that it is an administrator of, and the records of each stream that it
/// may read.
fn views(session: &Session, sight: Option<Sight>, integration: Option<&str>) -> Vec<View> {
    let asked = integration.map(str::to_owned);
    let Some(sight) = sight else {
        return vec![View {
            integration: asked,
            sight: None,
        }];
    };
    let whole = sight.whole.iter().map(|one| View {
        integration: Some(one.clone()),
        sight: None,
    });
    let streams = session.gateway.streams.iter().filter(|reader| {
        let name = &reader.integration.name;
        session.caller.may(Action::Read, name) && !sight.whole.contains(name)
    });
    let records = streams.map(|reader| View {
        integration: Some(reader.integration.name.clone()),
        sight: Some(Sight {
            caller: format!("stream:{}", reader.stream),
            own: None,
            whole: Vec::new(),
        }),
    });
    let mut views: Vec<_> = whole.chain(records).collect();
    views.retain(|view| asked.is_none() || view.integration == asked);
    views.push(View {
        integration: asked,
        sight: Some(Sight {
            whole: Vec::new(),
            ..sight
        }),
    });
    views
}

fn failed(status: Option<&str>) -> Result<Option<bool>, Refusal> {
    match status {
        None => Ok(None),
        Some("succeeded") => Ok(Some(false)),
        Some("failed") => Ok(Some(true)),
        Some(_) => Err(Refusal::new(
            Code::BadRequest,
            "status: what has ended is succeeded or failed",
        )),
    }
}
