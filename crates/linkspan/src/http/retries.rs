//! `POST /v1/jobs/retry`: failed jobs run again, many at once. For streams that is the replay of dead letters.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use linkspan_model::config::IntegrationName;
use linkspan_model::{Code, JobState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::session::Session;
use super::{layers, small};
use crate::keys::Action;
use crate::refusal::Refusal;
use crate::store::{Command, Commanded, Filter, Job, Sight, StoreError};

/// So many jobs are listed at once; so many of them are retried together, in as few transactions as the store makes of them.
const PAGE: u32 = 200;
const TOGETHER: usize = 50;

/// Which jobs to run again: at least one of `integration`, `from` and `until` is given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryMany {
    /// Only this integration's.
    pub integration: Option<String>,
    /// `failed` (the default) or `cancelled`.
    pub state: Option<String>,
    /// Only those made then or later (RFC 3339).
    pub from: Option<String>,
    /// Only those made before then (RFC 3339).
    pub until: Option<String>,
}

/// What became of it.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Retried {
    /// How many are queued again.
    pub retried: u64,
    /// How many could not be: what they came with is gone, or they changed meanwhile.
    pub left: u64,
}

/// Each job's retry has its own audit line. Jobs that fail again while this goes on are not retried again.
pub(super) async fn retry_many(session: Session, body: Body) -> Result<Response, Refusal> {
    session.must(Action::Admin)?;
    let form = "{\"integration\": …, \"state\": \"failed\", \"from\": …, \"until\": …}";
    let body: RetryMany = small::json(&session.gateway, body, form).await?;
    let mut filter = filter(&session, body)?;
    let mut sum = Retried::default();
    loop {
        let page = session.gateway.store.list(filter.clone()).await?;
        let mut retries = stream::iter(page.jobs.into_iter().map(|job| retry(&session, job)))
            .buffer_unordered(TOGETHER);
        while let Some(done) = retries.next().await {
            match done? {
                true => sum.retried += 1,
                false => sum.left += 1,
            }
        }
        drop(retries);
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(axum::Json(sum).into_response()),
        }
    }
}

async fn retry(session: &Session, job: Job) -> Result<bool, StoreError> {
    let store = &session.gateway.store;
    let done = store
        .command(job.id, Command::Retry, layers::actor(), Timestamp::now())
        .await?;
    Ok(matches!(done, Commanded::Done(_)))
}

fn filter(session: &Session, body: RetryMany) -> Result<Filter, Refusal> {
    let bad = |message: &str| Refusal::new(Code::BadRequest, message);
    if body.integration.is_none() && body.from.is_none() && body.until.is_none() {
        return Err(bad(
            "give at least one of integration, from and until: this would retry everything that failed",
        ));
    }
    if let Some(integration) = &body.integration {
        if !session.caller.may(Action::Admin, integration) {
            let message = format!("the key lacks the scope admin or admin:{integration}");
            return Err(Refusal::new(Code::Forbidden, message));
        }
        let configured = session.gateway.config.integrations.keys();
        if !configured
            .map(IntegrationName::as_str)
            .any(|name| name == integration)
        {
            let message =
                format!("there is no integration {integration:?}: nobody would run its jobs");
            return Err(Refusal::new(Code::NotFound, message));
        }
    }
    let state = match body.state.as_deref() {
        None | Some("failed") => JobState::Failed,
        Some("cancelled") => JobState::Cancelled,
        Some(_) => {
            return Err(bad(
                "state: \"failed\" or \"cancelled\"; only these can be retried",
            ));
        }
    };
    Ok(Filter {
        sight: match body.integration {
            Some(_) => None,
            // Only what it administers, not what is its own elsewhere.
            None => session.caller.sight().map(|sight| Sight {
                own: Some(Vec::new()),
                ..sight
            }),
        },
        integration: body.integration,
        state: Some(state),
        from: super::query::time("from", body.from.as_deref())?,
        until: super::query::time("until", body.until.as_deref())?,
        limit: PAGE,
        ..Filter::default()
    })
}
