//! What a handler knows of its request: who asks, and what is allowed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::uri::Authority;
use http::{Method, header};
use linkspan_model::{Code, DeliveryId, InvocationId};
use tokio::time::Instant;

use super::console::browser;
use super::trace::RequestIds;
use super::{layers, origin};
use crate::auth;
use crate::gateway::Gateway;
use crate::integration::Integration;
use crate::keys::{Action, Caller};
use crate::refusal::Refusal;
use crate::sessions;
use crate::store::{Change, Delivery, Job, Sight};

/// How often it is asked whether what a waiting caller proved still holds.
const PROOF_EVERY: Duration = Duration::from_secs(5);

/// An authenticated request. A handler that takes one cannot be reached without a valid key, or the cookie of a person who is signed
/// in; nor, with the cookie, can another site's page make it change anything.
pub(super) struct Session {
    pub(super) gateway: Arc<Gateway>,
    pub(super) caller: Caller,
    pub(super) ids: RequestIds,
    pub(super) proof: Proof,
}

/// Whether a job's caller is a stream: a record became the job, and it is nobody's own. No key has such a name.
pub(super) fn is_stream(caller: &str) -> bool {
    caller.starts_with("stream:")
}

/// How the caller proved who it is.
pub(super) enum Proof {
    /// Nobody has to.
    Off,
    /// By a key with this id.
    Key(String),
    /// By the console's cookie.
    Cookie {
        /// What the store knows the session by.
        hash: [u8; 32],
        /// What the page shows with each change.
        csrf: String,
        /// Who it is, for the audit log.
        target: String,
    },
}

impl FromRequestParts<Arc<Gateway>> for Session {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        gateway: &Arc<Gateway>,
    ) -> Result<Self, Refusal> {
        if gateway.auth.is_off() {
            same_machine(parts, gateway)?;
        }
        let authorization = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        // A key in the header goes before the cookie. A proxy in front may want a password of its own from people (Basic, RFC 7617): what
        // their browsers show to it is not for the gateway.
        let cookie = browser::session_token(gateway, &parts.headers)
            .filter(|_| !authorization.is_some_and(auth::is_bearer) && !gateway.auth.is_off());
        let (caller, proof) = match cookie {
            Some(token) => {
                let signed_in = browser::signed_in(gateway, token.hash(), true)
                    .await?
                    .ok_or_else(browser::ended)?;
                layers::set_caller(&signed_in.caller.name);
                of_the_console(parts, gateway, &signed_in.csrf)?;
                let proof = Proof::Cookie {
                    hash: signed_in.hash,
                    csrf: signed_in.csrf,
                    target: signed_in.target,
                };
                (signed_in.caller, proof)
            }
            None => {
                let caller = gateway
                    .auth
                    .check(&*gateway.store, authorization, layers::set_caller)
                    .await?;
                let proof = caller.key_id.clone().map_or(Proof::Off, Proof::Key);
                (caller, proof)
            }
        };
        layers::set_caller(&caller.name);
        Ok(Self {
            gateway: gateway.clone(),
            caller,
            ids: layers::request_ids().unwrap_or_else(|| RequestIds::of(&parts.headers)),
            proof,
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

    /// Whether what the caller proved at the request's begin still holds: for answers that go on for long.
    pub(super) async fn still_holds(&self) -> bool {
        let gateway = &self.gateway;
        let caller = match &self.proof {
            Proof::Off => return true,
            Proof::Key(id) => gateway.auth.holder_of(&*gateway.store, id, false).await,
            Proof::Cookie { hash, .. } => browser::signed_in(gateway, *hash, false)
                .await
                .map(|found| found.map(|signed_in| signed_in.caller)),
        };
        match caller {
            Ok(caller) => caller.is_some_and(|caller| caller.scopes == self.caller.scopes),
            // Unknown: the store will be asked again.
            Err(_) => true,
        }
    }

    /// Waits for a job's change, as [`Gateway::waited`], and looks now and then whether what the caller proved still holds.
    ///
    /// # Errors
    ///
    /// 401 where it does not: whoever was shut out meanwhile learns nothing more.
    pub(super) async fn waited(
        &self,
        end: Instant,
        change: impl Future<Output = Change>,
    ) -> Result<bool, Refusal> {
        let mut change = std::pin::pin!(change);
        loop {
            let pause = end.min(Instant::now() + PROOF_EVERY);
            let changed = self.gateway.waited(pause, change.as_mut()).await;
            if !self.still_holds().await {
                return Err(browser::ended());
            }
            if changed || pause == end || self.gateway.stop.is_cancelled() {
                return Ok(changed);
            }
        }
    }

    /// Whether the caller may see a job: its own, what a record became, or anybody's for an administrator.
    pub(super) fn sees(&self, caller: &str, integration: &str) -> bool {
        let readable = caller == self.caller.name || is_stream(caller);
        let own = readable && self.caller.may(Action::Read, integration);
        own || self.caller.may(Action::Admin, integration)
    }

    /// Refuses a change of what a record became to all but the integration's administrators: it is nobody's own.
    pub(super) fn may_change(&self, caller: &str, integration: &str) -> Result<(), Refusal> {
        if !is_stream(caller) || self.caller.may(Action::Admin, integration) {
            return Ok(());
        }
        Err(lacks(Action::Admin, Some(integration)))
    }

    /// How far a listing looks, of one integration or of all.
    ///
    /// # Errors
    ///
    /// 403 where the caller may not read the integration.
    pub(super) fn sight(&self, integration: Option<&str>) -> Result<Option<Sight>, Refusal> {
        self.must(Action::Read)?;
        match integration {
            Some(one) if !self.caller.may(Action::Read, one) => Err(lacks(Action::Read, Some(one))),
            // Everybody's, and no condition that a database would have to look at.
            Some(one) if self.caller.may(Action::Admin, one) => Ok(None),
            _ => Ok(self.caller.sight()),
        }
    }

    /// A delivery of a job that the caller [sees](Self::sees).
    pub(super) async fn delivery(&self, id: &str) -> Result<Delivery, Refusal> {
        self.must(Action::Read)?;
        let not_found = || Refusal::new(Code::NotFound, "no such delivery, or it is not yours");
        let id: DeliveryId = id.parse().map_err(|_| not_found())?;
        let delivery = self.gateway.store.get_delivery(id).await?;
        let delivery = delivery.ok_or_else(not_found)?;
        if self.sees(&delivery.caller, &delivery.endpoint.integration) {
            Ok(delivery)
        } else {
            layers::deny();
            Err(not_found())
        }
    }

    /// A job that the caller [sees](Self::sees).
    pub(super) async fn job(&self, id: &str) -> Result<Job, Refusal> {
        self.must(Action::Read)?;
        let not_found = || Refusal::new(Code::NotFound, "no such job, or it is not yours");
        let id: InvocationId = id.parse().map_err(|_| not_found())?;
        let job = self.gateway.store.get(id).await?.ok_or_else(not_found)?;
        if self.sees(&job.caller, &job.integration) {
            Ok(job)
        } else {
            layers::deny();
            Err(not_found())
        }
    }
}

/// Without keys, whoever reaches the gateway may do everything; so a web page that a browser on this machine shows must not reach it,
/// other than the console. Its requests carry an `Origin`, or after DNS rebinding a `Host` that is not this machine's.
pub(super) fn same_machine(parts: &Parts, gateway: &Gateway) -> Result<(), Refusal> {
    if origin::host(parts).is_some_and(|host| !is_loopback(host)) {
        return Err(Refusal::new(
            Code::Forbidden,
            "a gateway without authentication is called by a loopback address or localhost only",
        ));
    }
    let origins = &gateway.config.server.cors_origins;
    let allowed = |origin: &str| {
        origins.iter().any(|known| known.as_str() == origin)
            || (gateway.config.console.enabled && origin::is_own(origin, parts, gateway))
    };
    if origin::of(parts).is_some_and(|origin| !allowed(origin)) {
        return Err(Refusal::new(
            Code::Forbidden,
            "a web page may not call a gateway without authentication; name its origin in server.cors_origins",
        ));
    }
    Ok(())
}

/// A browser sends the cookie with whatever request any page makes it send. What changes something must come from the console: it
/// shows the session's token, which no other page can read, and its origin is the gateway's own.
fn of_the_console(parts: &Parts, gateway: &Gateway, csrf: &str) -> Result<(), Refusal> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    if origin::of(parts).is_some_and(|origin| !origin::is_own(origin, parts, gateway)) {
        return Err(Refusal::new(
            Code::Forbidden,
            "the request comes from a page of another site; a page of its own calls the gateway with a key",
        ));
    }
    let shown = parts
        .headers
        .get("x-csrf-token")
        .and_then(|value| value.to_str().ok());
    if shown.is_some_and(|shown| sessions::same(shown, csrf)) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::Forbidden,
        "a request with the console's cookie needs the header x-csrf-token with the session's csrf (GET /console/session)",
    ))
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
