//! What the console and a browser agree on: the cookies, and the session behind the one that is shown.

use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use linkspan_model::Code;
use std::time::Duration;

use super::oidc::rules;
use crate::gateway::Gateway;
use crate::keys::Caller;
use crate::refusal::Refusal;
use crate::sessions::{By, Kept, Person, Token};
use crate::store::name_and_id;

/// The cookie of who is signed in.
const SESSION: &str = "linkspan_session";

/// The cookie of who is at the identity provider.
const SIGN_IN: &str = "linkspan_signin";

/// A person whose session holds.
pub(in crate::http) struct SignedIn {
    /// What the store knows the session by.
    pub(in crate::http) hash: [u8; 32],
    /// What the page shows with each change.
    pub(in crate::http) csrf: String,
    /// Who it is.
    pub(in crate::http) caller: Caller,
    /// Who it is, for the audit log: the name, and the id of the key or at the identity provider.
    pub(in crate::http) target: String,
}

/// The token of the session cookie, where one came.
pub(in crate::http) fn session_token(gateway: &Gateway, headers: &HeaderMap) -> Option<Token> {
    token(headers, &name(gateway, SESSION))
}

/// The token of the cookie of a sign-in under way.
pub(super) fn sign_in_token(gateway: &Gateway, headers: &HeaderMap) -> Option<Token> {
    token(headers, &name(gateway, SIGN_IN))
}

/// The cookie for whoever has signed in.
pub(super) fn session_cookie(gateway: &Gateway, token: &Token) -> Option<HeaderValue> {
    let ttl = gateway.config.console.session_ttl;
    set(gateway, SESSION, &token.reveal(), ttl)
}

/// The cookie for whoever goes to the identity provider.
pub(super) fn sign_in_cookie(
    gateway: &Gateway,
    token: &Token,
    ttl: Duration,
) -> Option<HeaderValue> {
    set(gateway, SIGN_IN, &token.reveal(), ttl)
}

/// What takes the session cookie away.
pub(super) fn no_session_cookie(gateway: &Gateway) -> Option<HeaderValue> {
    set(gateway, SESSION, "", Duration::ZERO)
}

/// What takes the cookie of a sign-in away.
pub(super) fn no_sign_in_cookie(gateway: &Gateway) -> Option<HeaderValue> {
    set(gateway, SIGN_IN, "", Duration::ZERO)
}

/// Whoever is signed in behind a cookie's token. None where the session has ended, or the key or the rules that it came from do not
/// hold any more. A request of that person counts for their rate where `counts`.
pub(in crate::http) async fn signed_in(
    gateway: &Gateway,
    hash: [u8; 32],
    counts: bool,
) -> Result<Option<SignedIn>, Refusal> {
    let record = gateway.store.find_session(hash, Timestamp::now()).await?;
    let Some(Kept::Person(Person { csrf, by })) = record.as_ref().and_then(Kept::of) else {
        return Ok(None);
    };
    let (caller, id) = match by {
        By::Key { id } => {
            let caller = gateway.auth.holder_of(&*gateway.store, &id, counts).await?;
            let Some(caller) = caller else {
                return Ok(None);
            };
            (caller, id)
        }
        By::Oidc {
            subject,
            issuer,
            name,
            values,
        } => {
            // A provider, or a rule, that is no longer configured lets nobody in.
            let oidc = gateway.config.console.oidc.as_ref();
            let scopes = oidc
                .filter(|oidc| oidc.issuer.as_str() == issuer)
                .map_or_else(Vec::new, |oidc| {
                    rules::scopes(oidc, &subject, &name, &values)
                });
            if scopes.is_empty() {
                return Ok(None);
            }
            if counts {
                gateway.auth.within_rate(&format!("oidc:{subject}"), None)?;
            }
            let caller = Caller {
                name: rules::caller(&name),
                key_id: None,
                scopes,
            };
            (caller, subject)
        }
    };
    Ok(Some(SignedIn {
        hash,
        csrf,
        target: name_and_id(&caller.name, &id),
        caller,
    }))
}

/// Whether browsers reach the gateway by TLS: then its cookies go by TLS only, and no other host can set them (`__Host-`, RFC 6265bis
/// section 4.1.3).
pub(in crate::http) fn is_secure(gateway: &Gateway) -> bool {
    let server = &gateway.config.server;
    server.tls.is_some()
        || server.tls_terminated_by_proxy
        || server
            .public_url
            .as_ref()
            .is_some_and(|url| url.reveal().scheme() == "https")
}

fn name(gateway: &Gateway, name: &str) -> String {
    if is_secure(gateway) {
        format!("__Host-{name}")
    } else {
        name.to_owned()
    }
}

/// The token of a cookie. Two of one name tell of somebody who set the second one: then none counts.
fn token(headers: &HeaderMap, name: &str) -> Option<Token> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name);
    let first = found.next()?;
    if found.next().is_some() {
        return None;
    }
    Token::parse(first.1)
}

fn set(gateway: &Gateway, of: &str, value: &str, ttl: Duration) -> Option<HeaderValue> {
    let cookie = Cookie::build((name(gateway, of), value))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(is_secure(gateway))
        .max_age(cookie::time::Duration::try_from(ttl).unwrap_or(cookie::time::Duration::ZERO))
        .build();
    HeaderValue::from_str(&cookie.to_string()).ok()
}

/// The answer to a cookie that signs nobody in.
pub(in crate::http) fn ended() -> Refusal {
    Refusal::new(
        Code::Unauthenticated,
        "the session has ended, or its key was revoked: sign in again",
    )
}
