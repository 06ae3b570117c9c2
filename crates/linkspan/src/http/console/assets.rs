//! The console's page and what belongs to it, from the binary.

use axum::response::{IntoResponse, Response};
use http::header;
use linkspan_model::Code;

use crate::http::segment::Segment;
use crate::refusal::Refusal;

/// Nothing from anywhere else, no inline script or style, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const ASSETS: &[(&str, &str, &[u8])] = &[
    (
        "app.css",
        "text/css; charset=utf-8",
        include_bytes!("assets/app.css"),
    ),
    (
        "app.js",
        "text/javascript; charset=utf-8",
        include_bytes!("assets/app.js"),
    ),
];

pub(super) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, include_str!("assets/index.html")).into_response()
}

pub(super) async fn asset(Segment(name): Segment) -> Result<Response, Refusal> {
    let found = ASSETS.iter().find(|(known, _, _)| *known == name);
    let (_, media_type, bytes) =
        found.ok_or_else(|| Refusal::new(Code::NotFound, "the console has no such file"))?;
    let headers = [
        (header::CONTENT_TYPE, *media_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, *bytes).into_response())
}
