//! A request that gets a problem for an answer, whatever door it came in by.

use std::time::Duration;

use linkspan_model::{Code, Problem};

use crate::logging;
use crate::store::{ErrorKind, StoreError};

/// A request that gets a problem for an answer.
#[derive(Debug)]
pub struct Refusal {
    /// What is wrong.
    pub problem: Box<Problem>,
    /// When it is worth trying again, where that is known.
    pub retry_after: Option<Duration>,
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
        // 429 and 503 always say when to come back; so does a 409 that passes by itself.
        let retry_after = match problem.code {
            Code::NotReady | Code::InProgress | Code::Overloaded | Code::RateLimited => {
                Some(Duration::from_secs(1))
            }
            _ if problem.status == 503 => Some(Duration::from_secs(5)),
            _ => None,
        };
        Self {
            problem: Box::new(problem),
            retry_after,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = logging::chain(&error), "the store refused");
        let code = match error.kind {
            ErrorKind::Closed => Code::ShuttingDown,
            ErrorKind::Internal => Code::Internal,
            ErrorKind::Full
            | ErrorKind::Io
            | ErrorKind::Busy
            | ErrorKind::Unreachable
            | ErrorKind::Corrupt
            | ErrorKind::Locked
            | ErrorKind::Newer
            | ErrorKind::Unusable
            | ErrorKind::Foreign => Code::StoreUnavailable,
        };
        let refusal = Self::new(code, error.to_string());
        match error.kind.retry_after() {
            Some(wait) => refusal.retry_after(wait),
            None => refusal,
        }
    }
}
