//! The bucket that a configuration names, as a client; and what its errors mean.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use linkspan_model::config::{S3, Secret};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

use crate::store::error::{ErrorKind, StoreError};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the store may be silent: while it reads a part, and between the pieces of an answer.
const SILENCE: Duration = Duration::from_secs(60);

/// After so long a request is not tried again: the caller is told, and may come back.
const RETRIED: Duration = Duration::from_secs(15);

/// A client of the bucket. `authorities` is a PEM file of authorities that are trusted besides the system's.
///
/// # Errors
///
/// `Unusable`: what the configuration or the environment says does not fit together, or the file cannot be read.
pub fn connect(
    bucket: &str,
    settings: &S3,
    authorities: Option<&Path>,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    crate::tls::install_provider();
    let unusable = |reason: String| StoreError::new(ErrorKind::Unusable, OPENING).because(reason);
    let mut client = ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_connect_timeout(CONNECT)
        .with_read_timeout(SILENCE)
        // A large document takes as long as it takes.
        .with_timeout_disabled();
    if let Some(path) = authorities {
        let pem = std::fs::read(path)
            .map_err(|error| unusable(format!("cannot read {}: {error}", path.display())))?;
        let bundle = Certificate::from_pem_bundle(&pem)
            .map_err(|_| unusable(format!("{} holds no PEM certificates", path.display())))?;
        for certificate in bundle {
            client = client.with_root_certificate(certificate);
        }
    }
    let mut builder = match (&settings.access_key_id, &settings.secret_access_key) {
        // With a key of one's own, the environment's session token must not come along.
        (Some(id), Some(secret)) => with_key(id, secret),
        _ => AmazonS3Builder::from_env(),
    };
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &settings.endpoint {
        let mut url = endpoint.reveal().clone();
        if !settings.path_style {
            let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
            url.set_host(Some(&host))
                .map_err(|_| unusable("its endpoint takes no bucket in its host".to_owned()))?;
        }
        let url = url.as_str().trim_end_matches('/');
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, url);
    }
    let store = builder
        .with_bucket_name(bucket)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_client_options(client)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: 4,
            retry_timeout: RETRIED,
        })
        .build()
        .map_err(|error| unusable(reason(&error)))?;
    Ok(Arc::new(store))
}

/// What was attempted, for the errors of opening.
pub(super) const OPENING: &str = "open the bucket of documents";

fn with_key(id: &Secret, secret: &Secret) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new()
        .with_access_key_id(id.reveal())
        .with_secret_access_key(secret.reveal());
    if let Ok(region) = std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION"))
    {
        builder = builder.with_region(region);
    }
    builder
}

/// Whether an error means that there is no such object, in a bucket that is there.
pub(super) fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
        && !error.to_string().contains("NoSuchBucket")
}

/// Whether waiting will not help: there is no such bucket, or the key is refused.
pub(super) fn is_final(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(
        error,
        E::NotFound { .. } | E::PermissionDenied { .. } | E::Unauthenticated { .. }
    )
}

/// What an error says, without the store's own words: they may quote a key's id or what was signed.
pub(super) fn reason(error: &object_store::Error) -> String {
    let text = error.to_string();
    let told = text.find('<').map_or(text.as_str(), |end| &text[..end]);
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| code)
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let told = told.trim_end_matches([' ', ':']);
    match code {
        Some(code) => format!("{told}: {code}"),
        None => told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_cut_to_its_code() {
        let error = |text: &str| object_store::Error::Generic {
            store: "S3",
            source: text.into(),
        };
        let long = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code>\
                    <AWSAccessKeyId>sesame</AWSAccessKeyId></Error>";
        assert_eq!(
            reason(&error(long)),
            "Generic S3 error: Server returned non-2xx status code: 403 Forbidden: InvalidAccessKeyId"
        );
        assert_eq!(
            reason(&error("connection refused")),
            "Generic S3 error: connection refused"
        );
    }
}
