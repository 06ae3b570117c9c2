//! What a handler knows of its request: who asks, and what is allowed.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header;
use http::request::Parts;
use linkspan_model::{Code, InvocationId};

use super::layers;
use super::problem::Refusal;
use super::trace::RequestIds;
use crate::gateway::{Gateway, Integration};
use crate::keys::{Action, Caller};
use crate::logging;
use crate::store::{ErrorKind, Job, StoreError};

/// An authenticated request. A handler that takes one cannot be reached without a valid key.
pub(super) struct Session {
    pub(super) gateway: Arc<Gateway>,
    pub(super) caller: Caller,
    pub(super) ids: RequestIds,
}

impl FromRequestParts<Arc<Gateway>> for Session {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        gateway: &Arc<Gateway>,
    ) -> Result<Self, Refusal> {
        let authorization = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let caller = gateway.auth.check(&*gateway.store, authorization).await?;
        layers::set_caller(&caller.name);
        Ok(Self {
            gateway: gateway.clone(),
            caller,
            ids: layers::request_ids().unwrap_or_else(|| RequestIds::of(&parts.headers)),
        })
    }
}

impl Session {
    /// Refuses what no scope of the caller allows.
    pub(super) fn must(&self, action: Action) -> Result<(), Refusal> {
        if self.caller.may_somewhere(action) {
            return Ok(());
        }
        Err(lacks(action, None))
    }

    /// Refuses what a scope for one integration does not allow.
    pub(super) fn must_everywhere(&self, action: Action) -> Result<(), Refusal> {
        if self.caller.may_everywhere(action) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Forbidden,
            format!("the key lacks the scope {action} for all integrations"),
        ))
    }

    /// An integration that the caller may use.
    pub(super) fn integration(&self, name: &str) -> Result<&Arc<Integration>, Refusal> {
        // Who may not use it does not learn whether it is there.
        if !self.caller.may(Action::Invoke, name) {
            return Err(lacks(Action::Invoke, Some(name)));
        }
        self.gateway.integrations.get(name).ok_or_else(|| {
            let known: Vec<_> = self
                .gateway
                .integrations
                .keys()
                .filter(|name| self.caller.may(Action::Invoke, name))
                .map(String::as_str)
                .collect();
            Refusal::new(
                Code::NotFound,
                format!(
                    "no integration is called {name:?}; there are: {}",
                    known.join(", ")
                ),
            )
        })
    }

    /// A job of the caller's own, or anybody's for an administrator.
    pub(super) async fn job(&self, id: &str) -> Result<Job, Refusal> {
        self.must(Action::Read)?;
        let not_found = || Refusal::new(Code::NotFound, "no such job, or it is not yours");
        let id: InvocationId = id.parse().map_err(|_| not_found())?;
        let job = self.gateway.store.get(id).await?.ok_or_else(not_found)?;
        let own = job.caller == self.caller.name && self.caller.may(Action::Read, &job.integration);
        if own || self.caller.may(Action::Admin, &job.integration) {
            Ok(job)
        } else {
            layers::deny();
            Err(not_found())
        }
    }
}

fn lacks(action: Action, integration: Option<&str>) -> Refusal {
    let scope = match integration {
        Some(integration) => format!("{action} or {action}:{integration}"),
        None => action.to_string(),
    };
    Refusal::new(Code::Forbidden, format!("the key lacks the scope {scope}"))
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = logging::chain(&error), "the store refused");
        let code = match error.kind {
            ErrorKind::Closed => Code::ShuttingDown,
            ErrorKind::Internal => Code::Internal,
            ErrorKind::Full
            | ErrorKind::Io
            | ErrorKind::Busy
            | ErrorKind::Corrupt
            | ErrorKind::Locked
            | ErrorKind::Newer
            | ErrorKind::Unusable => Code::StoreUnavailable,
        };
        let refusal = Self::new(code, error.to_string());
        match error.kind.retry_after() {
            Some(wait) => refusal.retry_after(wait),
            None => refusal,
        }
    }
}
