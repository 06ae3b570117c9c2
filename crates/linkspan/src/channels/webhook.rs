//! Webhooks after Standard Webhooks 1.0: a POST of a signed CloudEvents 1.0 event (structured mode, JSON).
//!
//! `webhook-id` is the delivery's id, the same at each attempt: a receiver that remembers it takes each event once. `webhook-timestamp`
//! is the attempt's, so that a recorded request is worth little later.

mod event;
mod signing;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use jiff::Timestamp;
use linkspan_model::config::HttpUrl;
use linkspan_model::config::deliver::{self, Deliver};

use self::signing::SigningKey;
use super::hidden::Hidden;
use super::{Channel, Context, Parcel, Verdict, VerdictKind, headers, reply};
use crate::links::Links;
use crate::outbound::Outbound;

/// The headers that only the channel sets.
const OURS: [&str; 4] = [
    "content-type",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// The webhook channel of one integration.
#[derive(Debug)]
pub(super) struct Webhook {
    outbound: Outbound,
    links: Links,
    address: HttpUrl,
    /// The key, and the one before it while it is rotated.
    keys: Vec<SigningKey>,
    headers: HeaderMap,
    /// The events' `source`.
    source: String,
    max_size: u64,
    link_ttl: Duration,
    timeout: Duration,
    hidden: Hidden,
}

impl Webhook {
    /// Opens the channel; calls nobody.
    ///
    /// # Errors
    ///
    /// Every fault, as a sentence that begins with its key.
    pub(super) fn open(
        item: &Deliver,
        settings: &deliver::Webhook,
        integration: &str,
        context: &Context,
    ) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut hidden = Hidden::of(&settings.webhook);
        let named = [
            ("secret", Some(&settings.secret)),
            ("previous_secret", settings.previous_secret.as_ref()),
        ];
        let mut keys = Vec::new();
        for (key, secret) in named {
            let Some(secret) = secret else { continue };
            hidden.add(secret.reveal());
            match SigningKey::read(secret) {
                Ok(signing) => keys.push(signing),
                Err(sentence) => faults.push(format!("{key}: {sentence}")),
            }
        }
        let headers = headers::configured(settings.headers.as_ref(), &OURS, &mut hidden)
            .unwrap_or_else(|sentences| {
                faults.extend(sentences);
                HeaderMap::new()
            });
        if settings.webhook.reveal().as_str().parse::<Uri>().is_err() {
            faults.push(format!("webhook: {}", reply::NOT_CALLABLE));
        }
        if let Err(sentence) = reply::allowed(&settings.webhook, &context.outbound) {
            faults.push(format!("webhook: {sentence}"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            outbound: context.outbound.clone(),
            links: context.links.clone(),
            address: settings.webhook.clone(),
            keys,
            headers,
            source: format!("{}/v1/integrations/{integration}", context.public_url),
            max_size: settings.max_size.bytes(),
            link_ttl: settings.link_ttl,
            timeout: item.common.timeout,
            hidden,
        })
    }

    async fn deliver(&self, parcel: &Parcel) -> Verdict {
        let now = Timestamp::now();
        let Some(request) = self.request(parcel, now) else {
            return Verdict::dead(None, "the event cannot be written as a request");
        };
        let answer = match self.outbound.call(request, self.timeout).await {
            Ok(answer) => answer,
            Err(error) => return reply::unanswered(&error),
        };
        let now = Timestamp::now();
        if answer.status.is_success() {
            return reply::taken(&answer, now);
        }
        let verdict = reply::refused(&answer, &self.address, &self.hidden, now);
        if answer.status == StatusCode::GONE {
            return Verdict {
                kind: VerdictKind::Gone,
                ..verdict
            };
        }
        verdict
    }

    fn request(&self, parcel: &Parcel, now: Timestamp) -> Option<Request<Bytes>> {
        let body = event::write(parcel, &self.source, self.max_size, || {
            parcel.link(&self.links, self.link_ttl, now).0
        });
        let id = parcel.id.to_string();
        let signatures: Vec<_> = self
            .keys
            .iter()
            .map(|key| key.sign(&id, now.as_second(), &body))
            .collect();
        let mut request = Request::post(self.address.reveal().as_str())
            .body(Bytes::from(body))
            .ok()?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(CONTENT_TYPE, event::CONTENT_TYPE);
        headers.insert("webhook-id", HeaderValue::try_from(id).ok()?);
        headers.insert("webhook-timestamp", HeaderValue::from(now.as_second()));
        headers.insert(
            "webhook-signature",
            HeaderValue::try_from(signatures.join(" ")).ok()?,
        );
        Some(request)
    }
}

#[async_trait]
impl Channel for Webhook {
    fn receiver(&self) -> String {
        self.address.origin()
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            verdicts.push(self.deliver(parcel).await);
        }
        verdicts
    }
}
