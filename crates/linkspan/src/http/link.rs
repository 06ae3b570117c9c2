//! Signed links: what they open is read without a key.

use std::str::FromStr;

use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use jiff::Timestamp;
use linkspan_model::Code;
use serde::Deserialize;

use super::layers;
use crate::gateway::Gateway;
use crate::links::{LinkFault, Opens};
use crate::refusal::Refusal;

/// The parts of a signed link.
#[derive(Deserialize)]
pub(super) struct Link {
    expires: Option<String>,
    signature: Option<String>,
}

impl Link {
    /// The link's parts, where a query has any of them.
    pub(super) fn of(query: Option<&str>) -> Option<Self> {
        let uri = format!("/?{}", query?).parse().ok()?;
        let Query(link) = Query::<Self>::try_from_uri(&uri).ok()?;
        (link.expires.is_some() || link.signature.is_some()).then_some(link)
    }

    /// The id that the link opens. What is wrong with a link does not tell whether there is such a thing.
    pub(super) fn open<T>(&self, gateway: &Gateway, id: &str) -> Result<T, Refusal>
    where
        T: FromStr + Copy + Into<Opens>,
    {
        let forged = || Refusal::new(Code::Forbidden, LinkFault::Forged.to_string());
        let id: T = id.parse().map_err(|_| forged())?;
        let (Some(expires), Some(signature)) = (&self.expires, &self.signature) else {
            return Err(forged());
        };
        let expires = expires.parse().map_err(|_| forged())?;
        gateway
            .links
            .check(id, expires, signature, Timestamp::now())
            .map_err(|fault| match fault {
                LinkFault::Forged => forged(),
                LinkFault::Expired => Refusal::new(Code::Expired, fault.to_string()),
            })?;
        layers::set_caller("whoever has the link");
        Ok(id)
    }
}

/// What a link opened. The address is a secret: no cache keeps the answer, and no page that is opened from here hears of it.
pub(super) fn answered(answer: Result<Response, Refusal>) -> Response {
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let none = HeaderValue::from_static("no-referrer");
    headers.insert(header::REFERRER_POLICY, none);
    response
}
