//! Problems as responses: `application/problem+json`, with `Retry-After` where the standard asks for it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use linkspan_model::{Code, Problem};

use super::layers;

/// A request that gets a problem for an answer.
#[derive(Debug)]
pub struct Refusal {
    problem: Box<Problem>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with what is wrong, for the caller's eyes.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// The same with the time after which it is worth trying again.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// What kind of problem it is.
    #[must_use]
    pub fn code(&self) -> Code {
        self.problem.code
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        // 429 and 503 always carry Retry-After (DESIGN: the HTTP face); a 409 that passes by itself as well.
        let retry_after = match problem.code {
            Code::NotReady | Code::InProgress => Some(Duration::from_secs(1)),
            Code::Overloaded | Code::RateLimited => Some(Duration::from_secs(1)),
            _ if problem.status == 503 => Some(Duration::from_secs(5)),
            _ => None,
        };
        Self {
            problem: Box::new(problem),
            retry_after,
        }
    }
}

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
