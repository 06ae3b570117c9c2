//! Why a call failed.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;

use super::guard::Refused;
use crate::tls::TlsError;

/// Why the gateway cannot call anybody.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The file of `outbound.ca` cannot be used.
    #[error("cannot use the authorities of outbound.ca")]
    Ca(#[from] TlsError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS for outbound calls")]
    Tls(#[from] rustls::Error),
}

/// Why a call failed. `Display` names the receiver's host and what can be done, and is fit for whoever may see the receiver's name;
/// the source is for the log.
#[derive(Clone, Debug)]
pub struct CallError {
    /// What kind of failure it is.
    pub kind: CallErrorKind,
    /// The host, with its port where that is not the scheme's own.
    pub host: String,
    reason: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// Every address of the host is one that must not be called. Nothing was sent.
    Forbidden,
    /// The host's name has no address. Nothing was sent.
    Resolve,
    /// No address took the connection. Nothing was sent.
    Connect,
    /// The encrypted connection could not be made. Nothing was sent.
    Tls,
    /// It took too long; the receiver may have the request.
    Timeout,
    /// The connection broke, or the answer is not HTTP; the receiver may have the request.
    Broken,
    /// The request cannot be sent as it is.
    BadRequest,
}

impl CallError {
    /// Whether the same call may succeed later, with nothing changed here.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        !matches!(
            self.kind,
            CallErrorKind::Forbidden | CallErrorKind::BadRequest
        )
    }

    pub(super) fn forbidden(host: &str, address: IpAddr, refused: Refused) -> Self {
        let allow = match (refused, address) {
            // Only its own address lets a metadata service through.
            (Refused::Metadata, IpAddr::V4(_)) => format!("{address}/32"),
            (Refused::Metadata, IpAddr::V6(_)) => format!("{address}/128"),
            _ => "its network".to_owned(),
        };
        let reason = format!(
            "it is at {address}, {refused}; where that is meant, add {allow} to outbound.private_networks"
        );
        Self::new(CallErrorKind::Forbidden, host, reason, None)
    }

    pub(super) fn resolve(host: &str, source: Option<io::Error>) -> Self {
        let reason = "its name has no address; check the name and the DNS of this machine";
        Self::new(CallErrorKind::Resolve, host, reason, source.map(arc))
    }

    pub(super) fn connect(host: &str, source: io::Error) -> Self {
        let reason = format!("no connection: {}", source.kind());
        Self::new(CallErrorKind::Connect, host, reason, Some(arc(source)))
    }

    pub(super) fn no_connection_within(host: &str, limit: Duration) -> Self {
        let reason = format!("no connection within {limit:?}");
        Self::new(CallErrorKind::Timeout, host, reason, None)
    }

    pub(super) fn tls(host: &str, source: io::Error) -> Self {
        let fault = source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let reason = match fault {
            Some(rustls::Error::InvalidCertificate(fault)) => match fault {
                CertificateError::UnknownIssuer => {
                    "its certificate is of an authority that is not trusted; where that is a company's own, name it in outbound.ca"
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "its certificate has expired"
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    "its certificate is for another name"
                }
                _ => "its certificate is not valid",
            },
            _ => "the TLS handshake failed; it may not speak TLS on this port",
        };
        Self::new(CallErrorKind::Tls, host, reason, Some(arc(source)))
    }

    pub(super) fn no_answer_within(host: &str, limit: Duration) -> Self {
        let reason = format!("no whole answer within {limit:?}");
        Self::new(CallErrorKind::Timeout, host, reason, None)
    }

    pub(super) fn broken(host: &str, source: impl Error + Send + Sync + 'static) -> Self {
        let reason = "the connection broke off, or the answer was not HTTP";
        Self::new(CallErrorKind::Broken, host, reason, Some(arc(source)))
    }

    pub(super) fn bad_request(host: &str, reason: &str) -> Self {
        Self::new(CallErrorKind::BadRequest, host, reason, None)
    }

    fn new(
        kind: CallErrorKind,
        host: &str,
        reason: impl Into<String>,
        source: Option<Arc<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            host: host.to_owned(),
            reason: reason.into(),
            source,
        }
    }
}

impl CallErrorKind {
    /// The kind's name, for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::BadRequest => "bad-request",
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot call {}: {}", self.host, self.reason)
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn Error + 'static))
    }
}

fn arc(source: impl Error + Send + Sync + 'static) -> Arc<dyn Error + Send + Sync> {
    Arc::new(source)
}
