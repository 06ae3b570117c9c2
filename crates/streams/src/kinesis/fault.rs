//! The API's errors, by their names.

use std::fmt;

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which one.
    pub kind: Kind,
    /// A sentence for people.
    pub message: String,
}

macro_rules! kinds {
    ($($(#[doc = $doc:expr])+ $kind:ident = $name:literal, $status:literal;)+) => {
        /// The errors' names and statuses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            /// The name, as `__type` holds it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status,)+ }
            }
        }
    };
}

kinds! {
    /// The key may not do this.
    AccessDenied = "AccessDeniedException", 400;
    /// The iterator is older than five minutes.
    ExpiredIterator = "ExpiredIteratorException", 400;
    /// The request has no or half a signature.
    IncompleteSignature = "IncompleteSignatureException", 400;
    /// A fault of ours, or of the disk; tried again, it may pass.
    InternalFailure = "InternalFailure", 500;
    /// An argument is wrong.
    InvalidArgument = "InvalidArgumentException", 400;
    /// The signature is not that of the request, or too old.
    InvalidSignature = "InvalidSignatureException", 400;
    /// Too much of something.
    LimitExceeded = "LimitExceededException", 400;
    /// No signature at all.
    MissingAuthenticationToken = "MissingAuthenticationTokenException", 400;
    /// Too many records or bytes a second for a shard.
    ProvisionedThroughputExceeded = "ProvisionedThroughputExceededException", 400;
    /// There is such a stream already, or it is being changed.
    ResourceInUse = "ResourceInUseException", 400;
    /// There is no such stream, shard or consumer.
    ResourceNotFound = "ResourceNotFoundException", 400;
    /// The body cannot be read.
    Serialization = "SerializationException", 400;
    /// The disk is full: nothing is taken for now.
    ServiceUnavailable = "ServiceUnavailable", 503;
    /// There is no such operation.
    UnknownOperation = "UnknownOperationException", 400;
    /// There is no such access key.
    UnrecognizedClient = "UnrecognizedClientException", 400;
    /// An argument is not as it must be.
    Validation = "ValidationException", 400;
}

impl Fault {
    /// An error of that kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// A member of the request that is not as it must be, in the API's words.
    pub(super) fn validation(value: impl fmt::Display, member: &str, constraint: &str) -> Self {
        Self::new(
            Kind::Validation,
            format!(
                "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
            ),
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}
