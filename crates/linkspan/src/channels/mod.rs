//! Channels: the ways a result leaves. A file a channel, and its line in [`open`].
//!
//! A channel sends and says what became of it; when it is tried again, how many at once, and what is remembered is the sender's
//! business ([`crate::deliveries`]). Nothing that a channel returns or logs holds a secret, a document or an answer.

mod email;
mod file;
mod headers;
mod hidden;
mod http;
pub(crate) mod kafka;
mod kinesis;
mod mapped;
mod printable;
mod reply;
#[cfg(test)]
mod testing;
mod webhook;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use linkspan_model::config::deliver::{self, Deliver};
use linkspan_model::config::{self, Config};
use linkspan_model::{DeliveryId, InvocationId};
use linkspan_streams::kinesis::Service;
use serde_json::Value;

use crate::links::Links;
use crate::outbound::Outbound;
use crate::store::Endpoint;
use crate::streaming::Clusters;

/// What channels are opened with: the gateway's own, the same for all of them.
#[derive(Clone, Debug)]
pub struct Context {
    /// The way out.
    pub outbound: Outbound,
    /// Makes links to what is sent.
    pub links: Links,
    /// The gateway's public address without a slash at its end; empty where none is set: names below it are then relative.
    pub public_url: String,
    /// What the configuration's paths are relative to.
    pub folder: PathBuf,
    /// The server by which emails leave.
    pub smtp: Option<config::Smtp>,
    /// The Kafka clusters.
    pub kafka: Clusters,
    /// The gateway's own Kinesis streams, where they are open.
    pub own_streams: Option<Arc<Service>>,
}

impl Context {
    /// The context of a configuration.
    #[must_use]
    pub fn of(config: &Config, folder: PathBuf, outbound: Outbound, links: Links) -> Self {
        let public_url = match config.server.public_url {
            Some(_) => links.base().to_owned(),
            None => String::new(),
        };
        Self {
            outbound,
            links,
            public_url,
            kafka: Clusters::of(config, &folder),
            folder,
            smtp: config.email.clone(),
            own_streams: None,
        }
    }

    /// The context with the gateway's own Kinesis streams.
    #[must_use]
    pub fn with_own_streams(self, own_streams: Option<Arc<Service>>) -> Self {
        Self {
            own_streams,
            ..self
        }
    }
}

/// Opens a channel of an integration. Calls nobody.
///
/// # Errors
///
/// Every fault, as a sentence that begins with its key within the item (`secret: …`), for `integration.NAME.deliver[N]`.
pub fn open(
    item: &Deliver,
    integration: &str,
    context: &Context,
) -> Result<Arc<dyn Channel>, Vec<String>> {
    Ok(match &item.channel {
        deliver::Channel::Webhook(webhook) => {
            Arc::new(webhook::Webhook::open(item, webhook, integration, context)?)
        }
        deliver::Channel::Http(http) => Arc::new(http::Http::open(item, http, context)?),
        deliver::Channel::Email(email) => Arc::new(email::Email::open(
            email,
            context.smtp.as_ref(),
            &context.folder,
            context.outbound.clone(),
            context.links.clone(),
        )?),
        deliver::Channel::Kafka(kafka) => {
            Arc::new(kafka::Kafka::open(kafka, context).map_err(|it| vec![it])?)
        }
        deliver::Channel::Kinesis(kinesis) => {
            Arc::new(kinesis::Kinesis::open(item, kinesis, context)?)
        }
        deliver::Channel::File(file) => Arc::new(
            file::File::open(item, file, &context.folder)
                .map_err(|sentence| vec![format!("file: {sentence}")])?,
        ),
    })
}

/// One channel of one integration.
#[async_trait]
pub trait Channel: fmt::Debug + Send + Sync {
    /// Where it sends to, without secrets, for lists and logs: an origin, a mail domain, a file's name.
    fn receiver(&self) -> String;

    /// How many deliveries one call of [`Channel::send`] may take. They are of one endpoint and one group, in the order in which they
    /// were made.
    fn batch(&self) -> usize {
        1
    }

    /// What groups a delivery with others by when it was made: those of different groups never share a call. None: one group for all.
    fn group(&self, _made: Timestamp) -> Option<Timestamp> {
        None
    }

    /// When a delivery that is made now may first be sent: now, or at the end of a digest's time.
    fn due(&self, now: Timestamp) -> Timestamp {
        now
    }

    /// Sends. Called for each attempt, `concurrency` of them at once, in a task of its own, and dropped when the endpoint's `timeout`
    /// is over or the gateway stops; a drop leaves open whether the receiver has any of it. Gives one verdict for each parcel, in order.
    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict>;
}

/// One delivery, as a channel takes it.
#[derive(Clone)]
pub struct Parcel {
    /// The delivery: the same at each attempt and replay.
    pub id: DeliveryId,
    /// The invocation whose result it is.
    pub job: InvocationId,
    /// Where it goes.
    pub endpoint: Endpoint,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the delivery was made: the same at each attempt and replay.
    pub created: Timestamp,
    /// The result document.
    pub result: Value,
    /// What to send: the result document, or what the channel's `map` made of it.
    pub content: Value,
    /// Whether `map` made the content: nothing else of the result is then shown.
    pub mapped: bool,
    /// Until when the store keeps the result, where that is known.
    pub kept_until: Option<Timestamp>,
    /// The W3C trace context of the invocation.
    pub traceparent: Option<String>,
}

impl Parcel {
    /// A link that opens what is sent, for so long, but not for longer than the store keeps it; and when it ends.
    pub(in crate::channels) fn link(
        &self,
        links: &Links,
        ttl: Duration,
        now: Timestamp,
    ) -> (String, Timestamp) {
        let end = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        let end = self.kept_until.map_or(end, |kept| end.min(kept));
        let link = if self.mapped {
            links.link(self.id, end)
        } else {
            links.link(self.job, end)
        };
        (link, end)
    }
}

/// What became of sending one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What follows.
    pub kind: VerdictKind,
    /// The receiver's status, where it gave one: HTTP's or SMTP's.
    pub status: Option<u16>,
    /// A sentence for people: the receipt, or why it failed.
    pub detail: String,
}

/// What follows after sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// The receiver has it.
    Delivered,
    /// It may arrive later: the next attempt follows the schedule, or comes after `after` where that is longer. It counts against the
    /// endpoint's circuit breaker.
    Retry {
        /// What the receiver asked for (`Retry-After`).
        after: Option<Duration>,
    },
    /// As a retry, and the receiver asks for time for everything that goes to it (429 or 503 with `Retry-After`): its endpoint rests.
    Rest {
        /// How long it asks for.
        asked: Duration,
    },
    /// It will never arrive as it is: a dead letter, at once.
    Dead,
    /// The receiver wants no more of anything (410): its endpoint is paused.
    Gone,
}

impl Verdict {
    /// The receiver has it; `receipt` says how we know.
    pub fn delivered(status: Option<u16>, receipt: impl Into<String>) -> Self {
        Self {
            kind: VerdictKind::Delivered,
            status,
            detail: receipt.into(),
        }
    }

    /// It may arrive later.
    pub fn retry(status: Option<u16>, detail: impl Into<String>) -> Self {
        Self {
            kind: VerdictKind::Retry { after: None },
            status,
            detail: detail.into(),
        }
    }

    /// It will never arrive as it is.
    pub fn dead(status: Option<u16>, detail: impl Into<String>) -> Self {
        Self {
            kind: VerdictKind::Dead,
            status,
            detail: detail.into(),
        }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the result.
        f.debug_struct("Parcel")
            .field("id", &self.id)
            .field("endpoint", &self.endpoint)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
