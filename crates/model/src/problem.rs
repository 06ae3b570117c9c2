//! What went wrong, as callers see it: RFC 9457 problem documents.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal, $retryable:literal, $title:literal;)+) => {
        /// Everything that can go wrong for a caller. A code never changes its meaning; callers match on it, never on text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The code's name in a problem document.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The code of that name.
            #[must_use]
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name() == name)
            }

            /// The HTTP status that says it (RFC 9110).
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Whether the same request can succeed later without a change.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)+ }
            }

            /// The problem in one short phrase.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
}

codes! {
    /// The request cannot be read.
    BadRequest = "bad-request", 400, false, "The request cannot be read";
    /// No key, or one that is not valid.
    Unauthenticated = "unauthenticated", 401, false, "A valid key is required";
    /// The key lacks the scope.
    Forbidden = "forbidden", 403, false, "This is not allowed";
    /// No such thing, or not the caller's.
    NotFound = "not-found", 404, false, "Not found";
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", 405, false, "The method is not allowed here";
    /// The client took too long to send its request.
    RequestTimeout = "request-timeout", 408, true, "The request did not arrive in time";
    /// The result is not there yet.
    NotReady = "not-ready", 409, true, "The result is not ready";
    /// The same idempotency key is being worked on.
    InProgress = "in-progress", 409, true, "A request with this idempotency key is still running";
    /// The job's state does not allow this.
    WrongState = "wrong-state", 409, false, "The job's state does not allow this";
    /// The result was there and is gone.
    Expired = "expired", 410, false, "The result has expired";
    /// The body is over the limit.
    BodyTooLarge = "body-too-large", 413, false, "The body is too large";
    /// No engine reads this kind of file.
    UnsupportedMediaType = "unsupported-media-type", 415, false, "This kind of file is not supported";
    /// The idempotency key was used with another body.
    KeyReused = "idempotency-key-reused", 422, false, "The idempotency key was used with another request";
    /// The file is damaged or not what it says.
    UnreadableDocument = "unreadable-document", 422, false, "The document cannot be read";
    /// The file is encrypted and no password came, or a wrong one.
    PasswordRequired = "password-required", 422, false, "The document needs its password";
    /// The file is within the body limit and asks for more than the engine's limits allow.
    DocumentTooComplex = "document-too-complex", 422, false, "The document is too large for the engine's limits";
    /// The engine does not know the text's language.
    UnsupportedLanguage = "unsupported-language", 422, false, "The text's language is not supported";
    /// A parameter has a wrong value.
    InvalidParameter = "invalid-parameter", 422, false, "A parameter is not valid";
    /// The engine ended on this document.
    EngineCrashed = "engine-crashed", 422, false, "The engine ended while it worked on the document";
    /// The engine needed more memory than it may have.
    MemoryLimit = "memory-limit", 422, false, "The document needs more memory than the engine may use";
    /// The caller is over its rate.
    RateLimited = "rate-limited", 429, true, "Too many requests";
    /// Something that should not happen.
    Internal = "internal", 500, true, "Something went wrong on our side";
    /// Work is waiting up to the bound.
    Overloaded = "overloaded", 503, true, "Too much work is waiting";
    /// The store does not accept.
    StoreUnavailable = "store-unavailable", 503, true, "The store does not accept new work";
    /// The engine, or a library that it needs, is not there.
    EngineUnavailable = "engine-unavailable", 503, true, "The engine is not available";
    /// The gateway is stopping.
    ShuttingDown = "shutting-down", 503, true, "The gateway is stopping";
    /// The deadline passed.
    DeadlineExceeded = "deadline-exceeded", 504, true, "The deadline passed";
    /// The engine did not end within its time limit.
    EngineTimeout = "engine-timeout", 504, false, "The engine did not finish in its time limit";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An RFC 9457 problem document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// A URI reference that names the kind of problem: `/problems/<code>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The problem in one short phrase.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and where, and what to do next. Never holds a document's content or a secret.
    pub detail: String,
    /// The problem's name.
    pub code: Code,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// The request that met the problem, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem with what is wrong, for the caller's eyes.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("/problems/{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            retryable: code.retryable(),
            request_id: None,
        }
    }
}
