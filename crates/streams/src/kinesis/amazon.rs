//! Amazon Kinesis, or a service that speaks its protocol, by Amazon's own client.

use std::fmt;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{Builder, Credentials, Region, SharedHttpClient};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls;
use thiserror::Error;

/// How long a connection, and how long a call may take. An answer of 10 MiB comes over a slow line.
const CONNECT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(60);

/// How it is reached.
#[derive(Clone)]
pub struct Amazon {
    /// The region.
    pub region: String,
    /// The service's address; none: Amazon's in the region.
    pub endpoint: Option<String>,
    /// The access key's id and its secret; none: what the AWS tools find (environment, profile, web identity, metadata).
    pub access_key: Option<(String, String)>,
}

/// Why a call failed. Its text holds no content of a record and no secret.
#[derive(Clone, Debug, Error)]
#[error("{attempted}: {}", .kind.text())]
pub struct AmazonError {
    /// What to do about it.
    pub kind: AmazonErrorKind,
    /// What was attempted, and on what.
    pub attempted: String,
    /// The error's name, as the service gave it.
    pub code: Option<String>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmazonErrorKind {
    /// No answer, or the service's own fault: it can pass.
    Unreachable,
    /// Too many calls or bytes: it passes after a wait.
    Throttled,
    /// The credentials are not accepted, are none, or may not do this.
    Refused,
    /// There is no such stream or shard.
    Absent,
    /// The iterator, or the token of a page, is too old.
    Expired,
    /// The service does not take an argument.
    Argument,
    /// The stream is being made or changed.
    Busy,
    /// The stream's encryption key cannot be used.
    Key,
}

impl Amazon {
    /// A client. Calls are not tried again by it. `http` makes its calls; none: a client of its own, which asks no proxy and trusts the
    /// system's authorities. Credentials are always looked for by the latter. Calls nobody but, at times, a metadata service.
    pub async fn client(&self, http: Option<SharedHttpClient>) -> Client {
        let plain = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(
                tls::rustls_provider::CryptoMode::Ring,
            ))
            .build_https();
        let region = Region::new(self.region.clone());
        let builder = match &self.access_key {
            Some((id, secret)) => Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .region(region)
                .credentials_provider(Credentials::new(id, secret, None, None, "linkspan")),
            None => {
                let found = aws_config::defaults(BehaviorVersion::latest())
                    .http_client(plain.clone())
                    .region(region)
                    .load()
                    .await;
                Builder::from(&found)
            }
        };
        let mut builder = builder
            .http_client(http.unwrap_or(plain))
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT)
                    .operation_timeout(CALL)
                    .build(),
            );
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Client::from_conf(builder.build())
    }
}

impl AmazonError {
    /// Whether another iterator, or another token, may do.
    pub(super) const fn is_of_iterator(&self) -> bool {
        matches!(
            self.kind,
            AmazonErrorKind::Expired | AmazonErrorKind::Argument
        )
    }

    /// The client's error, sorted.
    pub(super) fn of<E, R>(attempted: impl Into<String>, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata,
    {
        let code = error
            .as_service_error()
            .and_then(ProvideErrorMetadata::code);
        let kind = match (code, error) {
            (Some(code), _) => AmazonErrorKind::of(code),
            // No signature could be made: there are no credentials.
            (None, SdkError::ConstructionFailure(_)) => AmazonErrorKind::Refused,
            (None, SdkError::DispatchFailure(failure)) if failure.is_user() => {
                AmazonErrorKind::Refused
            }
            (None, _) => AmazonErrorKind::Unreachable,
        };
        Self {
            kind,
            attempted: attempted.into(),
            code: code.map(str::to_owned),
        }
    }
}

impl AmazonErrorKind {
    /// The kind of an error by its name: those of the API, and those that every service of Amazon's has.
    /// <https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html>
    #[must_use]
    pub fn of(code: &str) -> Self {
        match code {
            "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded" => Self::Throttled,
            "AccessDeniedException"
            | "AccessDenied"
            | "NotAuthorized"
            | "OptInRequired"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "ExpiredTokenException"
            | "RequestExpired" => Self::Refused,
            "ResourceNotFoundException" => Self::Absent,
            "ExpiredIteratorException" | "ExpiredNextTokenException" => Self::Expired,
            "InvalidArgumentException" | "ValidationException" | "ValidationError" => {
                Self::Argument
            }
            "ResourceInUseException" => Self::Busy,
            "KMSAccessDeniedException"
            | "KMSDisabledException"
            | "KMSInvalidStateException"
            | "KMSNotFoundException"
            | "KMSOptInRequired" => Self::Key,
            _ => Self::Unreachable,
        }
    }

    /// The kind as the end of a sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unreachable => "the service does not answer, or has a fault of its own",
            Self::Throttled => "the service asks for fewer calls",
            Self::Refused => {
                "the service refuses it: look at the access key, what it may do, and this machine's clock"
            }
            Self::Absent => "there is no such stream or shard; look at the name and the region",
            Self::Expired => "the place in the list or in the shard is too old",
            Self::Argument => "the service does not take an argument",
            Self::Busy => "the stream is being made or changed",
            Self::Key => {
                "the key with which the stream is encrypted cannot be used: look at it in AWS KMS"
            }
        }
    }
}

impl fmt::Debug for Amazon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the access key.
        f.debug_struct("Amazon")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}
