//! Signing in through an identity provider: OpenID Connect Core 1.0, code flow, with PKCE (RFC 7636).
//!
//! What a sign-in under way has to remember lies in the store for ten minutes, under a hash of the `state` and of a cookie together:
//! only the browser that began it can end it, and only once. The way back always leads to `/`.

mod provider;
pub(super) mod rules;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use linkspan_model::Code;
use linkspan_model::config::Oidc;
use serde::Deserialize;
use serde_json::{Map, Value};

pub(super) use provider::Providers;
use provider::{Fault, Went};

use super::browser;
use super::signin::{audit, begin, no_store};
use super::tries::Tries;
use crate::gateway::Gateway;
use crate::http::server::Remote;
use crate::http::{docs, layers};
use crate::refusal::Refusal;
use crate::sessions::{By, Kept, SignIn, Token};
use crate::store::signed;

/// How long a sign-in may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// So many sign-ins may be begun from one address in a minute: each is a row in the store.
const MOST: u32 = 60;

/// What the sign-in through a provider keeps in memory.
pub(super) struct SignIns {
    begun: Tries,
    providers: Providers,
}

impl Default for SignIns {
    fn default() -> Self {
        Self {
            begun: Tries::new(MOST),
            providers: Providers::default(),
        }
    }
}

/// Why somebody is not signed in, for a page that people read.
struct Page {
    status: u16,
    /// For the audit log; none where nobody was refused anything.
    code: Option<Code>,
    title: &'static str,
    text: String,
}

impl Page {
    fn new(code: Code, title: &'static str, text: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code: Some(code),
            title,
            text: text.into(),
        }
    }
}

impl From<Refusal> for Page {
    fn from(refusal: Refusal) -> Self {
        Self::new(
            refusal.code(),
            "You are not signed in",
            refusal.problem.detail,
        )
    }
}

impl From<crate::store::StoreError> for Page {
    fn from(error: crate::store::StoreError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Fault> for Page {
    fn from(fault: Fault) -> Self {
        const TITLE: &str = "You are not signed in";
        match fault {
            Fault::Unreachable => Self {
                status: 502,
                code: None,
                title: TITLE,
                text: "The identity provider does not answer, or not as it should. Try again in a moment. Whoever runs the gateway \
                       finds the reason in its log."
                    .to_owned(),
            },
            Fault::Refused => Self::new(
                Code::Unauthenticated,
                TITLE,
                "The identity provider did not confirm who you are. Sign in again from the start. Whoever runs the gateway finds \
                 the reason in its log.",
            ),
        }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let body = format!(
            "<h1>{}</h1><p>{}</p><p><a href=\"/\">To the sign-in</a></p>",
            docs::escape(self.title),
            docs::escape(&self.text)
        );
        let mut response = no_store(docs::html(&body));
        let status = StatusCode::from_u16(self.status);
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(code) = self.code {
            response.extensions_mut().insert(code);
        }
        response
    }
}

/// Sends somebody to the provider.
pub(super) async fn login(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let remote = request.extensions().get::<Remote>();
    match leave(&gateway, remote).await {
        Ok(response) => response,
        Err(page) => page.into_response(),
    }
}

async fn leave(gateway: &Gateway, remote: Option<&Remote>) -> Result<Response, Page> {
    let oidc = configured(gateway)?;
    let sign_ins = &gateway.console.sign_ins;
    // It stays counted: nobody can tell yet whether it will succeed.
    let _ = sign_ins.begun.take(remote.map(|remote| remote.0.ip()))?;
    let (state, browser_token) = (Token::generate()?, Token::generate()?);
    let Went {
        to,
        nonce,
        verifier,
    } = sign_ins
        .providers
        .leave(gateway, oidc, &state.reveal())
        .await?;
    let record = Kept::SignIn(SignIn { nonce, verifier }).record(
        state.hash_with(&browser_token),
        Timestamp::now(),
        signed(PATIENCE),
    )?;
    gateway.store.insert_session(record).await?;
    let cookie = browser::sign_in_cookie(gateway, &browser_token, PATIENCE);
    Ok(see_other(to.as_str(), [cookie]))
}

/// What the provider sends a browser back with (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Deserialize)]
struct Back {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Takes somebody back from the provider.
pub(super) async fn callback(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    match arrive(&gateway, request).await {
        Ok(response) => response,
        Err(page) => {
            let mut response = page.into_response();
            if let Some(cookie) = browser::no_sign_in_cookie(&gateway) {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
    }
}

async fn arrive(gateway: &Gateway, request: Request) -> Result<Response, Page> {
    let oidc = configured(gateway)?;
    let (parts, _) = request.into_parts();
    let Query(back) = Query::<Back>::try_from_uri(&parts.uri).map_err(|_| strayed())?;
    let sign_in = remembered(gateway, &parts.headers, back.state.as_deref()).await?;
    if back.iss.is_some_and(|iss| iss != oidc.issuer.as_str()) {
        return Err(Fault::Refused.into());
    }
    let code = match (back.code, back.error) {
        (Some(code), None) => code,
        (_, error) => return Err(turned_away(error.as_deref())),
    };
    let claims = gateway
        .console
        .sign_ins
        .providers
        .arrive(gateway, oidc, code, &sign_in)
        .await?;
    let subject = rules::text(claims.get("sub"))
        .ok_or(Fault::Refused)?
        .to_owned();
    let name = name(oidc, &claims)?;
    layers::set_caller(&rules::caller(&name));
    let values = rules::values(oidc, &claims);
    if rules::scopes(oidc, &name, &values).is_empty() {
        return Err(Page::new(
            Code::Forbidden,
            "You may not use this gateway",
            format!(
                "The identity provider knows you as {name}, but no rule of this gateway lets you in. Whoever runs it can add you to \
                 console.oidc.admin, or give scopes to one of your groups in console.oidc.scopes."
            ),
        ));
    }
    let by = By::Oidc {
        subject: subject.clone(),
        issuer: oidc.issuer.as_str().to_owned(),
        name,
        values,
    };
    let (cookie, _) = begin(gateway, &parts, by).await?;
    audit(gateway, "session.sign-in", &format!("oidc:{subject}")).await;
    Ok(see_other(
        "/",
        [Some(cookie), browser::no_sign_in_cookie(gateway)],
    ))
}

/// What the sign-in under way remembers: asked for once, and by the browser that began it.
async fn remembered(
    gateway: &Gateway,
    headers: &http::HeaderMap,
    state: Option<&str>,
) -> Result<SignIn, Page> {
    let token = browser::sign_in_token(gateway, headers);
    let (Some(token), Some(state)) = (token, state.and_then(Token::parse)) else {
        return Err(strayed());
    };
    let record = gateway
        .store
        .remove_session(state.hash_with(&token))
        .await?;
    match record {
        Some(record) if record.expires > Timestamp::now() => match Kept::of(&record) {
            Some(Kept::SignIn(sign_in)) => Ok(sign_in),
            Some(Kept::Person(_)) | None => Err(strayed()),
        },
        _ => Err(strayed()),
    }
}

fn configured(gateway: &Gateway) -> Result<&Oidc, Page> {
    gateway.config.console.oidc.as_ref().ok_or_else(|| {
        Page::new(
            Code::NotFound,
            "There is no identity provider",
            "This gateway signs people in with keys. Whoever runs it can name an identity provider in console.oidc.",
        )
    })
}

fn strayed() -> Page {
    Page::new(
        Code::BadRequest,
        "This sign-in cannot be ended",
        "It was not begun in this browser, took longer than ten minutes, or was ended already. Sign in again from the start, with \
         cookies allowed.",
    )
}

/// The provider says no. Its word is shown where it is one of the words that it may say.
fn turned_away(error: Option<&str>) -> Page {
    let known = [
        "access_denied",
        "login_required",
        "consent_required",
        "interaction_required",
        "account_selection_required",
        "unauthorized_client",
        "invalid_scope",
        "invalid_request",
        "server_error",
        "temporarily_unavailable",
    ];
    let word = known.into_iter().find(|known| Some(*known) == error);
    Page::new(
        Code::Unauthenticated,
        "The identity provider let you not in",
        format!(
            "It says: {}. Sign in again, or ask whoever runs it.",
            word.unwrap_or("no reason")
        ),
    )
}

/// The person's name, from the claim that the configuration names.
fn name(oidc: &Oidc, claims: &Map<String, Value>) -> Result<String, Page> {
    let claim = &oidc.name_claim;
    let unverified = claim == "email" && claims.get("email_verified") == Some(&Value::Bool(false));
    if unverified {
        return Err(Page::new(
            Code::Forbidden,
            "Your email address is not confirmed",
            "The identity provider has not confirmed your email address, by which this gateway knows people. Confirm it there first.",
        ));
    }
    rules::text(rules::find(claims, claim))
        .filter(|name| !name.is_empty() && name.len() <= 200 && !name.chars().any(char::is_control))
        .map(str::to_owned)
        .ok_or_else(|| {
            Page::new(
                Code::Forbidden,
                "The identity provider does not say who you are",
                format!(
                    "Its ID token has no claim {claim:?} that could be a name. Whoever runs the gateway can name another one in \
                     console.oidc.name_claim, or ask for more in request_scopes."
                ),
            )
        })
}

fn see_other<const N: usize>(to: &str, cookies: [Option<HeaderValue>; N]) -> Response {
    let mut response = no_store(StatusCode::SEE_OTHER.into_response());
    let headers = response.headers_mut();
    if let Ok(to) = HeaderValue::from_str(to) {
        headers.insert(header::LOCATION, to);
    }
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    for cookie in cookies.into_iter().flatten() {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}
