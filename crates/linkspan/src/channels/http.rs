//! Calls of anybody's HTTP API, and messages for Slack and Microsoft Teams.
//!
//! Each call carries `Idempotency-Key`, the delivery's id, the same at each attempt, and the invocation's `traceparent`. The receiver's
//! origin is the configuration's alone: no result can turn a call elsewhere.

mod facts;
mod oauth2;
mod request;
mod slack;
mod teams;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use linkspan_model::config::deliver::{self, Deliver};
use linkspan_model::config::{HttpUrl, Method, Shape, StatusRange};

use self::facts::Facts;
use self::oauth2::{Token, TokenError, Tokens};
use self::request::Call;
use super::hidden::Hidden;
use super::{Channel, Context, Parcel, Verdict, headers, reply};
use crate::jq::Filter;
use crate::links::Links;
use crate::outbound::{Answer, Outbound};

/// The HTTP channel of one integration.
#[derive(Debug)]
pub(super) struct Http {
    outbound: Outbound,
    links: Links,
    address: HttpUrl,
    method: http::Method,
    shape: Shape,
    headers: HeaderMap,
    request: Option<Filter>,
    expect: Vec<StatusRange>,
    tokens: Option<Tokens>,
    timeout: Duration,
    hidden: Hidden,
}

impl Http {
    /// Opens the channel; calls nobody.
    ///
    /// # Errors
    ///
    /// Every fault, as a sentence that begins with its key.
    pub(super) fn open(
        item: &Deliver,
        settings: &deliver::Http,
        context: &Context,
    ) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut hidden = Hidden::of(&settings.http);
        let ours: &[&str] = match settings.oauth2 {
            Some(_) => &["authorization"],
            None => &[],
        };
        let headers = headers::configured(settings.headers.as_ref(), ours, &mut hidden)
            .unwrap_or_else(|sentences| {
                faults.extend(sentences);
                HeaderMap::new()
            });
        let request = settings.request.as_ref().and_then(|filter| {
            Filter::compile(filter.as_str())
                .map_err(|sentence| faults.push(format!("request: {sentence}")))
                .ok()
        });
        if settings
            .http
            .reveal()
            .as_str()
            .parse::<http::Uri>()
            .is_err()
        {
            faults.push(format!("http: {}", reply::NOT_CALLABLE));
        }
        if let Err(sentence) = reply::allowed(&settings.http, &context.outbound) {
            faults.push(format!("http: {sentence}"));
        }
        if let Some(oauth2) = &settings.oauth2
            && let Err(sentence) = reply::allowed(&oauth2.token_url, &context.outbound)
        {
            faults.push(format!("oauth2.token_url: {sentence}"));
        }
        let timeout = item.common.timeout;
        let tokens = settings.oauth2.as_ref().and_then(|oauth2| {
            hidden.add(oauth2.client_secret.reveal());
            Tokens::new(oauth2, context.outbound.clone(), timeout)
                .map_err(|sentence| faults.push(format!("oauth2.{sentence}")))
                .ok()
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            outbound: context.outbound.clone(),
            links: context.links.clone(),
            address: settings.http.clone(),
            method: method(settings.method),
            shape: settings.shape,
            headers,
            request,
            expect: settings.expect.clone(),
            tokens,
            timeout,
            hidden,
        })
    }

    async fn deliver(&self, parcel: &Parcel) -> Result<Verdict, Verdict> {
        let mut call = self.call(parcel).await?;
        let mut hidden = self.hidden.clone();
        let Some(tokens) = &self.tokens else {
            let answer = self.send_once(&call).await?;
            return Ok(self.judge(&answer, &hidden));
        };
        let token = tokens.get(None).await?;
        authorise(&mut call, &token, &mut hidden);
        let mut answer = self.send_once(&call).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // Taken back before its time. With a new one, once.
            let token = tokens.get(Some(&token)).await?;
            authorise(&mut call, &token, &mut hidden);
            answer = self.send_once(&call).await?;
        }
        Ok(self.judge(&answer, &hidden))
    }

    /// What is to be sent, but for a token.
    async fn call(&self, parcel: &Parcel) -> Result<Call, Verdict> {
        let content = match self.shape {
            Shape::Json => parcel.content.clone(),
            Shape::Slack => slack::message(&Facts::of(parcel, &self.links)),
            Shape::Teams => teams::message(&Facts::of(parcel, &self.links)),
        };
        let url = self.address.reveal().clone();
        let mut call = Call::new(self.method.clone(), url, self.headers.clone(), content);
        if let Some(filter) = &self.request {
            let fault = |sentence: String| {
                Verdict::dead(
                    None,
                    format!("the filter `request` of this channel {sentence}"),
                )
            };
            let output = filter
                .run_limited(&parcel.result)
                .await
                .map_err(|sentence| fault(format!("failed: {sentence}")))?;
            call.change(output.unwrap_or_default())
                .map_err(|sentence| fault(sentence.to_owned()))?;
        }
        let id = HeaderValue::try_from(parcel.id.to_string());
        call.preset("idempotency-key", id.ok());
        let trace = parcel.traceparent.as_deref();
        call.preset("traceparent", trace.and_then(|trace| trace.parse().ok()));
        Ok(call)
    }

    async fn send_once(&self, call: &Call) -> Result<Answer, Verdict> {
        let request = call
            .request()
            .map_err(|sentence| Verdict::dead(None, sentence))?;
        self.outbound
            .call(request, self.timeout)
            .await
            .map_err(|error| reply::unanswered(&error))
    }

    fn judge(&self, answer: &Answer, hidden: &Hidden) -> Verdict {
        let (status, now) = (answer.status.as_u16(), Timestamp::now());
        let expected = |range: &StatusRange| (range.first..=range.last).contains(&status);
        if self.expect.iter().any(expected) {
            return reply::taken(answer, now);
        }
        let verdict = reply::refused(answer, &self.address, hidden, now);
        if refused_as_it_is(answer.status) {
            return Verdict::dead(Some(status), verdict.detail);
        }
        verdict
    }
}

#[async_trait]
impl Channel for Http {
    fn receiver(&self) -> String {
        self.address.origin()
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            verdicts.push(self.deliver(parcel).await.unwrap_or_else(|failed| failed));
        }
        verdicts
    }
}

/// Statuses that say of the request itself that it will not do: the same one again would be refused again.
fn refused_as_it_is(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        400 | 405 | 406 | 411 | 413 | 414 | 415 | 422 | 431
    )
}

fn authorise(call: &mut Call, token: &Token, hidden: &mut Hidden) {
    hidden.add(token.reveal());
    call.set(AUTHORIZATION, token.header());
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
        Method::Get => http::Method::GET,
    }
}

impl From<TokenError> for Verdict {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Call(error) => reply::unanswered(&error),
            TokenError::Refused(verdict) => verdict,
        }
    }
}
