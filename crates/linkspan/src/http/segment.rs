//! A path's one variable segment.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use linkspan_model::Code;

use crate::refusal::Refusal;

/// The segment, decoded. One that is not UTF-8 names nothing: 404, as a problem document.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(_) => Err(Refusal::new(
                Code::NotFound,
                "the path is not UTF-8 in percent-encoding; there is nothing at it",
            )),
        }
    }
}
