//! Keys over HTTP, for administrators.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;
use linkspan_model::Code;
use linkspan_model::config::parse_duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::console::no_store;
use super::segment::Segment;
use super::session::Session;
use super::{layers, small};
use crate::keys::{Action, ApiKey, Scope, check_name};
use crate::refusal::Refusal;
use crate::store::{KeyRecord, signed};

/// A key as administrators see it. Its secret is not stored.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyView {
    /// The key's public part.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// How it is shown: `bearer`, in the Authorization header; or `sigv4`, never: it signs requests of the Kinesis API.
    pub kind: KeyKind,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was made (RFC 3339).
    #[schemars(with = "String")]
    pub created: Timestamp,
    /// When it ends; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub revoked: Option<Timestamp>,
    /// Its own rate limit, in requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
}

/// Every key.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeysPage {
    /// The keys, oldest first.
    pub keys: Vec<KeyView>,
}

/// A new key, with what is shown this once.
#[derive(Serialize, JsonSchema)]
pub struct NewKey {
    /// The key as it is listed from now on.
    #[serde(flatten)]
    pub view: KeyView,
    /// The whole key; it is not stored and cannot be shown again.
    pub key: String,
}

/// How a key is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// In the Authorization header (RFC 6750).
    Bearer,
    /// Never: it signs requests (AWS Signature Version 4).
    SigV4,
}

impl KeyKind {
    /// A key's.
    #[must_use]
    pub const fn of(record: &KeyRecord) -> Self {
        match record.sealed {
            None => Self::Bearer,
            Some(_) => Self::SigV4,
        }
    }

    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::SigV4 => "sigv4",
        }
    }
}

impl From<KeyRecord> for KeyView {
    fn from(record: KeyRecord) -> Self {
        Self {
            scopes: serde_json::from_str(&record.scopes).unwrap_or_default(),
            kind: KeyKind::of(&record),
            id: record.id,
            name: record.name,
            created: record.created,
            expires: record.expires,
            revoked: record.revoked,
            rate: record.rate,
        }
    }
}

pub(super) async fn list(session: Session) -> Result<Response, Refusal> {
    session.must_everywhere(Action::Admin)?;
    let keys = session.gateway.store.list_keys().await?;
    let keys = keys.into_iter().map(KeyView::from).collect();
    Ok(no_store(axum::Json(KeysPage { keys }).into_response()))
}

/// A key to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Whose it is; jobs belong to this name.
    pub name: String,
    /// What it allows: `invoke`, `read` or `admin`, each alone or for one integration (`invoke:onboarding`).
    pub scopes: Vec<String>,
    /// How long it holds (`90d`, `12h`); absent: for ever.
    pub expires_in: Option<String>,
    /// Requests a second, instead of `server.rate_limit`.
    pub rate: Option<u32>,
}

pub(super) async fn add(session: Session, body: Body) -> Result<Response, Refusal> {
    session.must_everywhere(Action::Admin)?;
    let gateway = &session.gateway;
    let form = "{\"name\": …, \"scopes\": [\"invoke\", …], \"expires_in\": \"90d\", \"rate\": 10}";
    let body: KeyRequest = small::json(gateway, body, form).await?;
    let now = Timestamp::now();
    check_name(&body.name).map_err(|clause| bad(format!("name: {clause}")))?;
    let scopes = scopes(&session, &body.scopes)?;
    let expires = match body.expires_in.as_deref() {
        None => None,
        Some(text) => {
            let life = parse_duration(text).map_err(|_| {
                bad("expires_in: not a duration such as \"90d\" or \"12h\"".to_owned())
            })?;
            let end = now.checked_add(signed(life));
            Some(end.map_err(|_| bad("expires_in: too far away".to_owned()))?)
        }
    };
    if expires.is_some_and(|end| end <= now) {
        return Err(bad(
            "expires_in: the key would have ended already".to_owned()
        ));
    }
    if body.rate == Some(0) {
        return Err(bad("rate: at least 1 request a second".to_owned()));
    }
    let unlucky = |_| Refusal::new(Code::Internal, "the system gives no random bytes");
    let key = ApiKey::generate().map_err(unlucky)?;
    let hash = gateway.auth.hash(&key.secret).ok_or_else(|| {
        Refusal::new(
            Code::WrongState,
            "authentication is off (server.auth = \"none\"): keys are not looked at",
        )
    })?;
    let record = KeyRecord {
        id: key.id.clone(),
        name: body.name,
        hash,
        sealed: None,
        scopes: serde_json::Value::from(scopes).to_string(),
        rate: body.rate,
        created: now,
        expires,
        revoked: None,
    };
    if !gateway
        .store
        .insert_key(record.clone(), layers::actor())
        .await?
    {
        return Err(Refusal::new(
            Code::Internal,
            "a key with the same id exists; try again",
        ));
    }
    let made = NewKey {
        view: record.into(),
        key: key.reveal(),
    };
    let response = (StatusCode::CREATED, axum::Json(made)).into_response();
    Ok(no_store(response))
}

pub(super) async fn revoke(session: Session, Segment(id): Segment) -> Result<Response, Refusal> {
    session.must_everywhere(Action::Admin)?;
    let store = &session.gateway.store;
    let not_found = || {
        Refusal::new(
            Code::NotFound,
            "no key has this id; GET /v1/keys lists them",
        )
    };
    if store.find_key(&id).await?.is_none() {
        return Err(not_found());
    }
    // One that is revoked already stays as it is.
    store
        .revoke_key(&id, layers::actor(), Timestamp::now())
        .await?;
    let record = store.find_key(&id).await?.ok_or_else(not_found)?;
    Ok(no_store(axum::Json(KeyView::from(record)).into_response()))
}

/// Scopes that are some, and whose integrations are there.
fn scopes(session: &Session, given: &[String]) -> Result<Vec<String>, Refusal> {
    if given.is_empty() {
        return Err(bad(
            "scopes: give at least one of invoke, read and admin".to_owned()
        ));
    }
    given
        .iter()
        .map(|text| {
            let scope: Scope = text
                .parse()
                .map_err(|sentence| bad(format!("scopes: {sentence}")))?;
            match &scope.integration {
                Some(name) if !session.gateway.integrations.contains_key(name) => {
                    Err(bad(format!(
                        "scopes: there is no integration {name:?}, which the scope {scope} names"
                    )))
                }
                _ => Ok(scope.to_string()),
            }
        })
        .collect()
}

fn bad(detail: String) -> Refusal {
    Refusal::new(Code::InvalidParameter, detail)
}
