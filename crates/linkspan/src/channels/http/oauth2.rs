//! OAuth 2 client credentials (RFC 6749 section 4.4): a token is fetched when there is none, kept until shortly before it expires, and
//! fetched by one caller at a time.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Uri};
use jiff::Timestamp;
use linkspan_model::config::HttpUrl;
use linkspan_model::config::deliver::Oauth2;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::form_urlencoded;

use crate::channels::hidden::Hidden;
use crate::channels::{Verdict, VerdictKind, reply};
use crate::outbound::{Answer, CallError, Outbound};

/// How long a token is used whose server does not say.
const UNSAID: Duration = Duration::from_secs(60);
/// How long before its end a token is no longer used; of a short one, a tenth.
const MARGIN: Duration = Duration::from_secs(30);

/// The tokens of one client.
pub(super) struct Tokens {
    outbound: Outbound,
    address: HttpUrl,
    uri: Uri,
    basic: HeaderValue,
    form: Bytes,
    timeout: Duration,
    kept: Mutex<Option<(Token, Instant)>>,
}

/// A bearer token.
#[derive(Clone)]
pub(super) struct Token(Arc<(String, HeaderValue)>);

/// Why there is no token.
pub(super) enum TokenError {
    /// The server gave no answer.
    Call(CallError),
    /// It gave none that is a token.
    Refused(Verdict),
}

impl Tokens {
    /// # Errors
    ///
    /// What is wrong with a setting, beginning with its key.
    pub(super) fn new(
        settings: &Oauth2,
        outbound: Outbound,
        timeout: Duration,
    ) -> Result<Self, String> {
        let uri = settings.token_url.reveal().as_str().parse();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let optional = [("scope", &settings.scope), ("audience", &settings.audience)];
        for (name, value) in optional {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        Ok(Self {
            outbound,
            address: settings.token_url.clone(),
            uri: uri.map_err(|_| format!("token_url: {}", reply::NOT_CALLABLE))?,
            basic: basic(&settings.client_id, settings.client_secret.reveal())
                .ok_or("client_secret: cannot be sent in a header")?,
            form: form.finish().into(),
            timeout,
            kept: Mutex::new(None),
        })
    }

    /// A token; not `refused`, which a receiver has just turned down. Waits while another caller fetches one.
    pub(super) async fn get(&self, refused: Option<&Token>) -> Result<Token, TokenError> {
        let mut kept = self.kept.lock().await;
        if let Some((token, end)) = &*kept
            && Instant::now() < *end
            && refused.is_none_or(|refused| !Arc::ptr_eq(&refused.0, &token.0))
        {
            return Ok(token.clone());
        }
        *kept = None;
        let asked = Instant::now();
        let (token, lifetime) = self.fetch().await?;
        let margin = MARGIN.min(lifetime / 10);
        *kept = Some((token.clone(), asked + lifetime.saturating_sub(margin)));
        Ok(token)
    }

    async fn fetch(&self) -> Result<(Token, Duration), TokenError> {
        let mut request = Request::post(self.uri.clone());
        if let Some(headers) = request.headers_mut() {
            headers.insert(AUTHORIZATION, self.basic.clone());
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
        }
        let request = request
            .body(self.form.clone())
            .map_err(|_| self.refused("cannot be called"))?;
        let answer = self
            .outbound
            .call(request, self.timeout)
            .await
            .map_err(TokenError::Call)?;
        if !answer.status.is_success() {
            return Err(self.turned_down(&answer));
        }
        let said: Said = serde_json::from_slice(&answer.body)
            .map_err(|_| self.refused("answered no token (RFC 6749 section 5.1)"))?;
        if !said.token_type.eq_ignore_ascii_case("bearer") {
            return Err(self.refused("answered a token that is not of the type bearer"));
        }
        let lifetime = said.lifetime();
        let token = Token::new(said.access_token)
            .ok_or_else(|| self.refused("answered a token that no header can hold"))?;
        Ok((token, lifetime))
    }

    /// An error answer, by its code (RFC 6749 section 5.2) and nothing else of it.
    fn turned_down(&self, answer: &Answer) -> TokenError {
        let said: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let code = said
            .as_ref()
            .and_then(|said| said["error"].as_str())
            .filter(|code| {
                code.len() <= 40
                    && code
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            })
            .map_or_else(String::new, |code| format!(" ({code})"));
        let mut verdict =
            reply::refused(answer, &self.address, &Hidden::default(), Timestamp::now());
        let status = answer.status.as_u16();
        verdict.detail = format!("the token server {} answered {status}{code}", self.address);
        // The status is the token server's, not the receiver's.
        verdict.status = None;
        TokenError::Refused(verdict)
    }

    fn refused(&self, what: &str) -> TokenError {
        TokenError::Refused(Verdict {
            kind: VerdictKind::Retry { after: None },
            status: None,
            detail: format!("the token server {} {what}", self.address),
        })
    }
}

impl Token {
    fn new(text: String) -> Option<Self> {
        let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok()?;
        header.set_sensitive(true);
        Some(Self(Arc::new((text, header))))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0.0
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.1.clone()
    }
}

/// A token server's answer (RFC 6749 section 5.1).
#[derive(Deserialize)]
struct Said {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Option<Value>,
}

impl Said {
    /// Some servers write the number as a text.
    fn lifetime(&self) -> Duration {
        let seconds = match &self.expires_in {
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        };
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map_or(UNSAID, |lifetime| {
                lifetime.min(Duration::from_secs(24 * 60 * 60))
            })
    }
}

/// `client_secret_basic`: both parts form-encoded before they are joined (RFC 6749 section 2.3.1).
fn basic(id: &str, secret: &str) -> Option<HeaderValue> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
    let mut header = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
