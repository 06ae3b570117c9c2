//! The identity provider itself: what it publishes, the way there, and what it says of whoever comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use linkspan_model::config::Oidc;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreJwsSigningAlgorithm, CoreProviderMetadata,
};
use openidconnect::{
    AccessToken, AccessTokenHash, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, DiscoveryError, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    HttpRequest, HttpResponse, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError,
    TokenResponse as _,
};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use super::under_way::SignIn;
use crate::gateway::Gateway;
use crate::links::Links;
use crate::logging;
use crate::outbound::{CallError, Outbound};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);

/// How long what the provider publishes is used.
const FRESH: Duration = Duration::from_secs(3600);

/// How long after the provider's keys were read they may be read again for a key that is not among them.
const AGAIN: Duration = Duration::from_secs(10);

/// The signatures that are taken: by the provider's own key, never by a shared secret or by none.
const SIGNED_BY: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// How long a provider that did not answer is not asked again: those who wait for it would wait for one another.
const REST: Duration = Duration::from_secs(3);

/// What the provider publishes, read when it is needed first.
#[derive(Default)]
pub(in crate::http::console) struct Providers(Mutex<Known>);

#[derive(Default)]
struct Known {
    published: Option<Published>,
    failed: Option<Instant>,
}

#[derive(Clone)]
struct Published {
    read: Instant,
    metadata: Arc<CoreProviderMetadata>,
}

/// Why nobody is signed in. The log says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The provider does not answer, or not in the way of the standard.
    Unreachable,
    /// What it said does not prove who it is.
    Refused,
}

/// A call that gave no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the answer is larger than outbound.max_answer")]
    Truncated,
    #[error("the answer cannot be taken over")]
    Strange(#[from] http::Error),
}

impl Providers {
    /// The address at the provider to which a browser goes.
    pub(super) async fn leave(
        &self,
        gateway: &Gateway,
        oidc: &Oidc,
        sign_in: &SignIn,
    ) -> Result<Url, Fault> {
        let published = self.published(gateway, oidc, FRESH).await?;
        let client = client(gateway, oidc, &published)?;
        let verifier = PkceCodeVerifier::new(sign_in.verifier.clone());
        let state = CsrfToken::new(sign_in.state.reveal());
        let nonce = Nonce::new(sign_in.nonce.clone());
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || state,
                move || nonce,
            )
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        for scope in &oidc.request_scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (to, ..) = request.url();
        Ok(to)
    }

    /// The claims of whoever comes back with a code: those of an ID token that is the provider's, for this gateway, of this sign-in and
    /// not over (OpenID Connect Core section 3.1.3.7).
    pub(super) async fn arrive(
        &self,
        gateway: &Gateway,
        oidc: &Oidc,
        code: String,
        sign_in: &SignIn,
    ) -> Result<Map<String, Value>, Fault> {
        let mut published = self.published(gateway, oidc, FRESH).await?;
        let mut client = client(gateway, oidc, &published)?;
        let http = caller(&gateway.outbound);
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| refused("the provider publishes no token endpoint"))?
            .set_pkce_verifier(PkceCodeVerifier::new(sign_in.verifier.clone()))
            .request_async(&http)
            .await
            .map_err(|error| match error {
                RequestTokenError::ServerResponse(said) => {
                    tracing::warn!(error = %said.error(), "the identity provider refused the code");
                    Fault::Refused
                }
                RequestTokenError::Request(error) => unreachable(&error),
                RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                    tracing::warn!(
                        "the identity provider's token answer is not one of the standard"
                    );
                    Fault::Unreachable
                }
            })?;
        let Some(token) = answer.id_token() else {
            return Err(refused("the token answer holds no ID token"));
        };
        let nonce = Nonce::new(sign_in.nonce.clone());
        let mut checked = check(&client, oidc, token, answer.access_token(), &nonce);
        if matches!(checked, Err(Wrong::UnknownKey)) {
            // The provider has changed its keys.
            published = self.published(gateway, oidc, AGAIN).await?;
            client = self::client(gateway, oidc, &published)?;
            checked = check(&client, oidc, token, answer.access_token(), &nonce);
        }
        match checked {
            Ok(()) => claims(token),
            Err(Wrong::UnknownKey) => Err(refused("no key of the provider signed the ID token")),
            Err(Wrong::Claims(why)) => Err(refused(&why)),
        }
    }

    /// What the provider publishes, not older than `age`. While it is read, others wait for it.
    async fn published(
        &self,
        gateway: &Gateway,
        oidc: &Oidc,
        age: Duration,
    ) -> Result<Published, Fault> {
        let mut known = self.0.lock().await;
        if let Some(published) = &known.published
            && published.read.elapsed() < age
        {
            return Ok(published.clone());
        }
        if known.failed.is_some_and(|failed| failed.elapsed() < REST) {
            return Err(Fault::Unreachable);
        }
        match read(gateway, oidc).await {
            Ok(published) => {
                known.published = Some(published.clone());
                Ok(published)
            }
            Err(fault) => {
                known.failed = Some(Instant::now());
                Err(fault)
            }
        }
    }
}

/// Reads what the provider publishes.
async fn read(gateway: &Gateway, oidc: &Oidc) -> Result<Published, Fault> {
    let issuer = IssuerUrl::new(oidc.issuer.as_str().to_owned())
        .map_err(|_| refused("the issuer is not an address"))?;
    let http = caller(&gateway.outbound);
    let metadata = CoreProviderMetadata::discover_async(issuer, &http)
        .await
        .map_err(|error| match error {
            DiscoveryError::Request(error) => unreachable(&error),
            DiscoveryError::Response(status, ..) => {
                tracing::warn!(%status, "the identity provider does not publish what it should");
                Fault::Unreachable
            }
            DiscoveryError::Validation(why) => {
                tracing::warn!(
                    why,
                    "the identity provider publishes another issuer than its own"
                );
                Fault::Unreachable
            }
            _ => {
                tracing::warn!(
                    "what the identity provider publishes is not of the standard's form"
                );
                Fault::Unreachable
            }
        })?;
    if !by_tls(oidc, &metadata) {
        tracing::warn!(
            "the identity provider is reached by TLS, but publishes addresses that are not"
        );
        return Err(Fault::Unreachable);
    }
    Ok(Published {
        read: Instant::now(),
        metadata: Arc::new(metadata),
    })
}

/// What is wrong with an ID token.
enum Wrong {
    UnknownKey,
    Claims(String),
}

/// Signature, issuer, audience, time and nonce are the crate's; `azp` and `at_hash` are checked here.
fn check(
    client: &Client,
    oidc: &Oidc,
    token: &CoreIdToken,
    access: &AccessToken,
    nonce: &Nonce,
) -> Result<(), Wrong> {
    let verifier = client.id_token_verifier().set_allowed_algs(SIGNED_BY);
    let claims = token
        .claims(&verifier, nonce)
        .map_err(|error| match error {
            ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            ) => Wrong::UnknownKey,
            error => Wrong::Claims(error.to_string()),
        })?;
    let other = |party: &ClientId| party.as_str() != oidc.client_id;
    if claims.authorized_party().is_some_and(other) {
        return Err(Wrong::Claims("azp names another client".to_owned()));
    }
    if let Some(expected) = claims.access_token_hash() {
        let strange = |_| Wrong::Claims("at_hash cannot be checked".to_owned());
        let algorithm = token.signing_alg().map_err(strange)?;
        let key = token
            .signing_key(&verifier)
            .map_err(|_| Wrong::UnknownKey)?;
        let actual = AccessTokenHash::from_token(access, algorithm, key)
            .map_err(|_| Wrong::Claims("at_hash cannot be checked".to_owned()))?;
        if actual != *expected {
            return Err(Wrong::Claims(
                "at_hash is of another access token".to_owned(),
            ));
        }
    }
    Ok(())
}

/// The claims of an ID token that was checked, as they stand in it: the configuration names the ones that count.
fn claims(token: &CoreIdToken) -> Result<Map<String, Value>, Fault> {
    let token = token.to_string();
    token
        .split('.')
        .nth(1)
        .and_then(|payload| URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok())
        .and_then(|payload| serde_json::from_slice(&payload).ok())
        .ok_or_else(|| refused("the ID token's claims are no object"))
}

fn client(gateway: &Gateway, oidc: &Oidc, published: &Published) -> Result<Client, Fault> {
    let back = format!("{}/console/oidc/callback", Links::base_of(&gateway.config));
    let back = RedirectUrl::new(back).map_err(|_| refused("the way back is not an address"))?;
    let secret = oidc.client_secret.as_ref();
    Ok(CoreClient::from_provider_metadata(
        (*published.metadata).clone(),
        ClientId::new(oidc.client_id.clone()),
        secret.map(|secret| ClientSecret::new(secret.reveal().to_owned())),
    )
    .set_redirect_uri(back))
}

/// Whether everything that the provider publishes is reached as safely as itself: a code or a secret must not go out in the open.
fn by_tls(oidc: &Oidc, metadata: &CoreProviderMetadata) -> bool {
    if !oidc.issuer.as_str().starts_with("https:") {
        return true;
    }
    let tls = |url: &Url| url.scheme() == "https";
    tls(metadata.authorization_endpoint().url())
        && tls(metadata.jwks_uri().url())
        && metadata.token_endpoint().is_none_or(|url| tls(url.url()))
}

/// How the crate calls out: through the guarded client.
fn caller(
    outbound: &Outbound,
) -> impl Fn(
    HttpRequest,
) -> std::pin::Pin<Box<dyn Future<Output = Result<HttpResponse, Unanswered>> + Send>>
+ Send
+ Sync
+ use<> {
    let outbound = outbound.clone();
    move |request| {
        let outbound = outbound.clone();
        Box::pin(async move {
            let answer = outbound.call(request.map(Bytes::from), CALL).await?;
            if answer.truncated {
                return Err(Unanswered::Truncated);
            }
            let mut response = HttpResponse::new(answer.body.to_vec());
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> Fault {
    tracing::warn!(
        error = logging::chain(error),
        "the identity provider cannot be asked"
    );
    Fault::Unreachable
}

fn refused(why: &str) -> Fault {
    tracing::warn!(why, "the identity provider's answer proves nobody");
    Fault::Refused
}
