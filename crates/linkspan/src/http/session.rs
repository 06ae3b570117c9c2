//! What a handler knows of its request: who asks, and what is allowed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, header};
use linkspan_model::config::Origin;
use linkspan_model::{Code, InvocationId};

use super::layers;
use super::trace::RequestIds;
use crate::gateway::Gateway;
use crate::integration::Integration;
use crate::keys::{Action, Caller};
use crate::refusal::Refusal;
use crate::store::Job;

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
        if gateway.auth.is_off() {
            same_machine(&parts.headers, &gateway.config.server.cors_origins)?;
        }
        let authorization = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let caller = gateway
            .auth
            .check(&*gateway.store, authorization, layers::set_caller)
            .await?;
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

/// Without keys, whoever reaches the gateway may do everything; so a web page that a browser on this machine shows must not reach it.
/// Its requests carry an `Origin`, or after DNS rebinding a `Host` that is not this machine's.
fn same_machine(headers: &HeaderMap, origins: &[Origin]) -> Result<(), Refusal> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let allowed = |origin: &str| origins.iter().any(|known| known.as_str() == origin);
    if text(header::ORIGIN).is_some_and(|origin| !allowed(origin)) {
        return Err(Refusal::new(
            Code::Forbidden,
            "a web page may not call a gateway without authentication; name its origin in server.cors_origins",
        ));
    }
    if text(header::HOST).is_some_and(|host| !is_loopback(host)) {
        return Err(Refusal::new(
            Code::Forbidden,
            "a gateway without authentication is called by a loopback address or localhost only",
        ));
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

fn lacks(action: Action, integration: Option<&str>) -> Refusal {
    let scope = match integration {
        Some(integration) => format!("{action} or {action}:{integration}"),
        None => action.to_string(),
    };
    Refusal::new(Code::Forbidden, format!("the key lacks the scope {scope}"))
}
