//! What the queries of the listings have in common: times, states, cursors.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::extract::Query;
use http::request::Parts;
use jiff::Timestamp;
use linkspan_model::Code;
use serde::de::DeserializeOwned;

use crate::refusal::Refusal;

/// A listing's query: which words it knows.
pub(super) trait Words: DeserializeOwned {
    /// The words, in a sentence, for whoever sent others.
    const WORDS: &'static str;
}

/// A query whose words are all known.
pub(super) struct Known<Q>(pub(super) Q);

impl<S: Send + Sync, Q: Words> FromRequestParts<S> for Known<Q> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match Query::<Q>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Self(query)),
            Err(_) => Err(Refusal::new(
                Code::BadRequest,
                format!("the query takes {}", Q::WORDS),
            )),
        }
    }
}

/// A time of a query.
pub(super) fn time(name: &str, given: Option<&str>) -> Result<Option<Timestamp>, Refusal> {
    parsed(
        name,
        given,
        "a time such as 2026-11-23T08:00:00Z (RFC 3339)",
    )
}

/// A cursor of a query.
pub(super) fn cursor<T: FromStr>(given: Option<&str>) -> Result<Option<T>, Refusal> {
    parsed("after", given, "a cursor; take it from the page before")
}

/// A value of a query; `expected` says what it should be.
pub(super) fn parsed<T: FromStr>(
    name: &str,
    given: Option<&str>,
    expected: &str,
) -> Result<Option<T>, Refusal> {
    given
        .map(|text| {
            text.parse().map_err(|_| {
                // Not the value itself: a mistyped query may hold anything.
                Refusal::new(Code::BadRequest, format!("{name}: not {expected}"))
            })
        })
        .transpose()
}

/// One of some states; `all` are their names.
pub(super) fn state<T: FromStr>(
    given: Option<&str>,
    all: &[&'static str],
) -> Result<Option<T>, Refusal> {
    given
        .map(|state| {
            state.parse().map_err(|_| {
                Refusal::new(
                    Code::BadRequest,
                    format!(
                        "state: {state:?} is not a state; the states are {}",
                        all.join(", ")
                    ),
                )
            })
        })
        .transpose()
}
