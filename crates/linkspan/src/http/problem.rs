//! Problems as responses: `application/problem+json`, with `Retry-After` where the standard asks for it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use linkspan_model::Code;

use super::layers;
use crate::refusal::Refusal;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut problem = *self.problem;
        problem.request_id = layers::request_id();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(wait) = self.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64),
            );
        }
        if problem.code == Code::Unauthenticated {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"linkspan\""),
            );
        }
        response.extensions_mut().insert(problem.code);
        response
    }
}
