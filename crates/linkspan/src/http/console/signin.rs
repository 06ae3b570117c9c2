//! `/console/session`: who is signed in; signing in with a key, and out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use linkspan_model::Code;
use serde::{Deserialize, Serialize};

use super::browser;
use crate::gateway::Gateway;
use crate::http::server::Remote;
use crate::http::session::{Proof, Session};
use crate::http::{layers, origin};
use crate::keys::Caller;
use crate::logging;
use crate::refusal::Refusal;
use crate::sessions::{By, Kept, Person, Token};
use crate::store::{AuditLine, name_and_id, signed};

/// The largest request to sign in.
const MAX_BODY: usize = 4096;

/// Who is signed in, as the page sees it.
#[derive(Debug, Serialize)]
struct SessionView {
    signed_in: bool,
    name: String,
    scopes: Vec<String>,
    /// What the page shows with each change; empty where no cookie is needed.
    csrf: String,
    auth: &'static str,
    oidc: bool,
    version: &'static str,
}

impl SessionView {
    fn of(gateway: &Gateway, caller: Option<&Caller>, csrf: &str) -> Self {
        Self {
            signed_in: caller.is_some(),
            name: caller.map_or_else(String::new, |caller| caller.name.clone()),
            scopes: caller.map_or_else(Vec::new, |caller| {
                caller.scopes.iter().map(ToString::to_string).collect()
            }),
            csrf: csrf.to_owned(),
            auth: gateway.config.server.auth.name(),
            oidc: gateway.config.console.oidc.is_some(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Who is signed in; also where nobody is.
pub(super) async fn show(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Refusal> {
    use axum::extract::FromRequestParts as _;
    let (mut parts, _) = request.into_parts();
    let view = match Session::from_request_parts(&mut parts, &gateway).await {
        Ok(session) => {
            let csrf = match &session.proof {
                Proof::Cookie { csrf, .. } => csrf,
                Proof::Key(_) | Proof::Off => "",
            };
            SessionView::of(&gateway, Some(&session.caller), csrf)
        }
        Err(refusal) if refusal.code() == Code::Unauthenticated => {
            SessionView::of(&gateway, None, "")
        }
        Err(refusal) => return Err(refusal),
    };
    Ok(no_store(Json(view).into_response()))
}

/// Signs in with a key. A cookie that came along is never taken over: its session ends, and the new one has a token of its own.
pub(super) async fn sign_in(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shown {
        key: String,
    }
    let (parts, body) = request.into_parts();
    from_the_console(&parts, &gateway)?;
    let remote = parts.extensions.get::<Remote>().map(|remote| remote.0.ip());
    let body = tokio::time::timeout(
        gateway.config.server.body_idle_timeout,
        axum::body::to_bytes(body, MAX_BODY),
    )
    .await
    .map_err(|_| Refusal::new(Code::RequestTimeout, "the body did not come"))?
    .map_err(|_| Refusal::new(Code::BodyTooLarge, "the body is no request to sign in"))?;
    // Not what serde says: it may quote the key.
    let Shown { key } = serde_json::from_slice(&body).map_err(|_| {
        Refusal::new(
            Code::BadRequest,
            "the body is not JSON of the form {\"key\": \"lsk_…\"}",
        )
    })?;
    let caller = gateway
        .auth
        .holder(&*gateway.store, &key, layers::set_caller)
        .await
        .or_else(|refusal| {
            // A store that cannot be asked is no failure of whoever shows the key.
            if refusal.code() == Code::Unauthenticated {
                gateway.console.tries.failed(remote)?;
            }
            Err(refusal)
        })?;
    let Some(id) = caller.key_id.clone() else {
        // Without authentication nobody signs in.
        let view = SessionView::of(&gateway, Some(&caller), "");
        return Ok(no_store(Json(view).into_response()));
    };
    let (cookie, csrf) = begin(&gateway, &parts, By::Key { id: id.clone() }).await?;
    audit(&gateway, "session.sign-in", &name_and_id(&caller.name, &id)).await;
    let view = SessionView::of(&gateway, Some(&caller), &csrf);
    let mut response = no_store(Json(view).into_response());
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Signs out: the session is gone on every gateway of the store.
pub(super) async fn sign_out(session: Session) -> Result<Response, Refusal> {
    let gateway = &session.gateway;
    if let Proof::Cookie { hash, target, .. } = &session.proof {
        gateway.store.remove_session(*hash).await?;
        audit(gateway, "session.sign-out", target).await;
    }
    let mut response = no_store(StatusCode::NO_CONTENT.into_response());
    if let Some(cookie) = browser::no_session_cookie(gateway) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Begins a session, and ends the one whose cookie came along. Gives the cookie and what the page shows with each change.
pub(super) async fn begin(
    gateway: &Gateway,
    parts: &Parts,
    by: By,
) -> Result<(HeaderValue, String), Refusal> {
    let (token, csrf) = (Token::generate()?, Token::generate()?.reveal());
    let kept = Kept::Person(Person {
        csrf: csrf.clone(),
        by,
    });
    let ttl = signed(gateway.config.console.session_ttl);
    let record = kept.record(token.hash(), Timestamp::now(), ttl)?;
    if let Some(old) = browser::session_token(gateway, &parts.headers) {
        gateway.store.remove_session(old.hash()).await?;
    }
    gateway.store.insert_session(record).await?;
    let cookie = browser::session_cookie(gateway, &token)
        .ok_or_else(|| Refusal::new(Code::Internal, "the cookie cannot be written"))?;
    Ok((cookie, csrf))
}

/// Writes that somebody has signed in or out.
pub(super) async fn audit(gateway: &Gateway, action: &str, target: &str) {
    let line = AuditLine {
        at: Timestamp::now(),
        actor: layers::actor(),
        action: action.to_owned(),
        target: target.to_owned(),
        outcome: "done".to_owned(),
    };
    tracing::info!(target: "linkspan::audit", actor = line.actor.name, remote = line.actor.remote, action, on = target, "done");
    if let Err(error) = gateway.store.append_audit(line).await {
        tracing::warn!(
            error = logging::chain(&error),
            "an audit line was not stored; it is in this log"
        );
    }
}

/// The same, never kept by a cache.
pub(in crate::http) fn no_store(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}

/// A page of another site must not sign anybody in, as somebody else: its requests carry its origin, and it cannot send JSON without
/// asking first.
fn from_the_console(parts: &Parts, gateway: &Gateway) -> Result<(), Refusal> {
    if origin::of(parts).is_some_and(|origin| !origin::is_own(origin, parts, gateway)) {
        return Err(Refusal::new(
            Code::Forbidden,
            "only the console's own page signs people in",
        ));
    }
    let media_type = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok()?.split(';').next())
        .unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(
            Code::UnsupportedMediaType,
            "a sign-in is JSON: Content-Type: application/json",
        ));
    }
    Ok(())
}
