//! Signing in through an identity provider: OpenID Connect Core 1.0, code flow, with PKCE (RFC 7636).
//!
//! Of a sign-in under way nothing is stored ([`under_way`]): only the browser that began it can end it, within ten minutes, and only
//! once. The way back always leads to `/`.

mod provider;
pub(super) mod rules;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use linkspan_model::Code;
use linkspan_model::config::Oidc;
use ring::hmac;
use serde::Deserialize;
use serde_json::{Map, Value};

use provider::Fault;
pub(super) use provider::Providers;
use under_way::SignIn;

use super::browser;
use super::signin::{audit, begin, no_store};
use crate::gateway::Gateway;
use crate::http::{docs, layers};
use crate::refusal::Refusal;
use crate::sessions::{By, Kept, Token};
use crate::store::{Digest, name_and_id, signed};

/// How long a sign-in may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the key of sign-ins under way is derived for.
const PURPOSE: &str = "oidc-sign-in";

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
pub(super) async fn login(State(gateway): State<Arc<Gateway>>) -> Response {
    match leave(&gateway).await {
        Ok(response) => response,
        Err(page) => page.into_response(),
    }
}

async fn leave(gateway: &Gateway) -> Result<Response, Page> {
    let (oidc, key) = configured(gateway)?;
    let cookie = Token::generate()?;
    let end = Timestamp::now()
        .checked_add(signed(PATIENCE))
        .unwrap_or(Timestamp::MAX);
    let sign_in = SignIn::begin(&key, &cookie, end);
    let to = gateway
        .console
        .providers
        .leave(gateway, oidc, &sign_in)
        .await?;
    let cookie = browser::sign_in_cookie(gateway, &cookie, PATIENCE);
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
    let (oidc, key) = configured(gateway)?;
    let (parts, _) = request.into_parts();
    let Query(back) = Query::<Back>::try_from_uri(&parts.uri).map_err(|_| strayed())?;
    let now = Timestamp::now();
    let cookie = browser::sign_in_token(gateway, &parts.headers).ok_or_else(strayed)?;
    let state = back.state.as_deref().and_then(Token::parse);
    let state = state.ok_or_else(strayed)?;
    let sign_in = SignIn::end(&key, &cookie, &state, now).ok_or_else(strayed)?;
    let once = state.hash_with(&cookie);
    if gateway.store.find_session(once, now).await?.is_some() {
        return Err(strayed());
    }
    if back.iss.is_some_and(|iss| iss != oidc.issuer.as_str()) {
        return Err(Fault::Refused.into());
    }
    let code = match (back.code, back.error) {
        (Some(code), None) => code,
        (_, error) => return Err(turned_away(error.as_deref())),
    };
    let claims = gateway
        .console
        .providers
        .arrive(gateway, oidc, code, &sign_in)
        .await?;
    // Only now, when the provider has said who it is: strangers write nothing into the store. Of two at once, one gets in.
    let ended = Kept::Ended.record(once, now, signed(PATIENCE))?;
    gateway.store.insert_session(ended).await?;
    let subject = rules::text(claims.get("sub"))
        .ok_or(Fault::Refused)?
        .to_owned();
    confirmed(oidc, &claims)?;
    let name = name(oidc, &claims)?;
    layers::set_caller(&rules::caller(&name));
    let values = rules::values(oidc, &claims);
    if rules::scopes(oidc, &subject, &name, &values).is_empty() {
        return Err(Page::new(
            Code::Forbidden,
            "You may not use this gateway",
            format!(
                "The identity provider knows you as {name}, but no rule of this gateway lets you in. Whoever runs it can add you to \
                 console.oidc.admin, or give scopes to one of your groups in console.oidc.scopes."
            ),
        ));
    }
    same_person(gateway, oidc, &name, &subject).await?;
    let target = name_and_id(&rules::caller(&name), &subject);
    let by = By::Oidc {
        subject,
        issuer: oidc.issuer.as_str().to_owned(),
        name,
        values,
    };
    let (cookie, _) = begin(gateway, &parts, by).await?;
    audit(gateway, "session.sign-in", &target).await;
    Ok(see_other(
        "/",
        [Some(cookie), browser::no_sign_in_cookie(gateway)],
    ))
}

/// The provider, and the key of the sign-ins under way.
fn configured(gateway: &Gateway) -> Result<(&Oidc, hmac::Key), Page> {
    let oidc = gateway.config.console.oidc.as_ref();
    oidc.zip(gateway.auth.derive(PURPOSE)).ok_or_else(|| {
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

/// Refuses an email address of which the provider does not say that it is the person's, where the address decides anything: whoever may
/// write any address into their profile could be anybody (OpenID Connect Core section 5.7).
fn confirmed(oidc: &Oidc, claims: &Map<String, Value>) -> Result<(), Page> {
    let is_email = |claim: &str| claim.trim_start_matches('/') == "email";
    let decides = is_email(&oidc.name_claim) || oidc.scope_claim.as_deref().is_some_and(is_email);
    let confirmed = claims.get("email_verified") == Some(&Value::Bool(true));
    if confirmed || !decides || oidc.unverified_email {
        return Ok(());
    }
    Err(Page::new(
        Code::Forbidden,
        "Your email address is not confirmed",
        "The identity provider does not say that your email address, by which this gateway knows people, is confirmed \
         (email_verified). Confirm it there first. Where the provider never says it, whoever runs the gateway can name another claim in \
         console.oidc.name_claim, or set console.oidc.unverified_email.",
    ))
}

/// Refuses a name by which somebody else was here before: a mailbox may be given to another person, who must not find the jobs of the
/// one before. The provider's `sub` is a person's for ever (OpenID Connect Core section 5.7), and the first one that comes by a name keeps
/// it. The store holds hashes of both only.
async fn same_person(
    gateway: &Gateway,
    oidc: &Oidc,
    name: &str,
    subject: &str,
) -> Result<(), Page> {
    let whose = Digest::of(format!("{}\0{name}", oidc.issuer.as_str()).as_bytes());
    let own = Digest::of(subject.as_bytes()).0.to_vec();
    let settled = gateway
        .store
        .settle(&format!("oidc-person-{whose}"), own.clone())
        .await?;
    if settled == own || rules::names(&oidc.successors, subject) {
        return Ok(());
    }
    Err(Page::new(
        Code::Forbidden,
        "Somebody else was here by your name",
        format!(
            "The identity provider knows you as {name}, but the person who came by that name before is another one to it. Whoever runs \
             the gateway can let you take over the name and its jobs: \"sub:{subject}\" in console.oidc.successors."
        ),
    ))
}

/// The person's name, from the claim that the configuration names.
fn name(oidc: &Oidc, claims: &Map<String, Value>) -> Result<String, Page> {
    let claim = &oidc.name_claim;
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
