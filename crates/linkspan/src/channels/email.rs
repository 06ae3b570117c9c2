//! Results by email: one message a result, or one a digest, in text and HTML, through the server of `[email]`.
//!
//! A message's id follows from the delivery, so a mail system that gets it twice can tell. Bodies may hold what an answer says; the
//! whole result document comes as a link that expires, or as an attachment.

mod digest;
mod letter;
mod neutral;
mod people;
mod reply;
mod smtp;
mod templates;
mod view;
mod wire;

use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use linkspan_model::DeliveryId;
use linkspan_model::config::{self, EmailContent, deliver};

use self::digest::Window;
use self::letter::{Enclosed, Envelope, digest_id};
use self::smtp::{Failure, Server};
use self::templates::Templates;
use self::view::{Place, View, minute};
use super::{Channel, Parcel, Verdict};
use crate::links::Links;
use crate::outbound::Outbound;

/// The most results in one digest.
const BATCH: usize = 500;
/// The most bytes of attachments in one message; what is over it comes as a link.
const MOST_ATTACHED: usize = 10 * 1024 * 1024;

/// The email channel of one integration.
#[derive(Debug)]
pub(super) struct Email {
    envelope: Envelope,
    allowed: Vec<String>,
    server: Server,
    templates: Templates,
    content: EmailContent,
    link_ttl: Duration,
    digest: Option<Duration>,
    links: Links,
}

impl Email {
    /// Opens the channel; connects to nobody.
    ///
    /// # Errors
    ///
    /// Every fault, as a sentence that begins with its key: of the channel, or of `[email]` as `email.KEY`.
    pub(super) fn open(
        settings: &deliver::Email,
        smtp: Option<&config::Smtp>,
        folder: &Path,
        outbound: Outbound,
        links: Links,
    ) -> Result<Self, Vec<String>> {
        let Some(smtp) = smtp else {
            return Err(vec![
                "email: needs the section [email], which names the mail server".to_owned(),
            ]);
        };
        let mut faults = Vec::new();
        let mut keep = |key: &str, sentence: String| faults.push(format!("{key}: {sentence}"));
        let from = people::sender(&smtp.from)
            .map_err(|sentence| keep("email.from", sentence))
            .ok();
        let to = people::recipients(&settings.email, &smtp.allowed_domains)
            .map_err(|sentence| keep("email", sentence))
            .ok();
        let server = Server::new(smtp, outbound)
            .map_err(|all| {
                all.into_iter()
                    .for_each(|(key, sentence)| keep(&format!("email.{key}"), sentence));
            })
            .ok();
        let templates = Templates::load(settings, folder)
            .map_err(|all| faults.extend(all))
            .ok();
        match (from, to, server, templates) {
            (Some(from), Some(to), Some(server), Some(templates)) => Ok(Self {
                envelope: Envelope { from, to },
                allowed: smtp.allowed_domains.clone(),
                server,
                templates,
                content: settings.content,
                link_ttl: settings.link_ttl,
                digest: settings.digest,
                links,
            }),
            _ => Err(faults),
        }
    }

    /// Sends one message in a conversation of its own.
    async fn send_one(&self, message: &lettre::Message) -> Result<Verdict, Failure> {
        let mut conversation = self.server.connect().await?;
        let sent = conversation.send(message).await;
        conversation.end();
        let receipt = sent?;
        let host = self.server.host();
        let mut text = format!("{host} answered {}", receipt.status);
        if !receipt.text.is_empty() {
            text = format!("{text}: {}", receipt.text);
        }
        if !receipt.refused.is_empty() {
            tracing::warn!(
                host,
                recipients = self.envelope.to.len(),
                refused = receipt.refused.len(),
                "a mail server took a message for some of its recipients only"
            );
            text = format!("{text}; not for all: {}", receipt.refused.join("; "));
        }
        Ok(Verdict::delivered(Some(receipt.status), text))
    }

    /// The message of some parcels; the error is why there will never be one.
    fn message(
        &self,
        parcels: &[Parcel],
        window: Option<Window>,
    ) -> Result<lettre::Message, String> {
        // Where every message goes is decided once more, right before it goes.
        people::check_domains(self.envelope.to.iter().map(|one| &one.email), &self.allowed)?;
        let first = parcels.first().ok_or("there is no result to send")?;
        let ids: Vec<DeliveryId> = parcels.iter().map(|parcel| parcel.id).collect();
        let id = match window {
            None => first.id.to_string(),
            Some(window) => digest_id(&first.endpoint, window, &ids),
        };
        let (places, enclosed) = self.places(parcels);
        let view = View::of(parcels, &places, window).ok_or("there is no result to send")?;
        let rendered = self.templates.render(&view)?;
        self.envelope
            .message(&id, rendered, enclosed, SystemTime::now())
            .map_err(|_| "the addresses and parts make no message".to_owned())
    }

    /// Where each result document is: attached as long as there is room, else behind a link.
    fn places(&self, parcels: &[Parcel]) -> (Vec<Place>, Vec<Enclosed>) {
        let mut enclosed = Vec::new();
        let mut room = MOST_ATTACHED;
        let now = Timestamp::now();
        let places = parcels.iter().map(|parcel| {
            if self.content == EmailContent::Attachment {
                let json = format!("{:#}\n", parcel.content);
                if let Some(left) = room.checked_sub(json.len()) {
                    room = left;
                    let name = format!("result-{}.json", parcel.job);
                    enclosed.push(Enclosed {
                        name: name.clone(),
                        json,
                    });
                    return Place {
                        attachment: Some(name),
                        ..Place::default()
                    };
                }
            }
            let (link, end) = parcel.link(&self.links, self.link_ttl, now);
            if end <= now {
                return Place::default(); // the result outlived its retention on its way
            }
            Place {
                link: Some(link),
                link_expires: Some(minute(end)),
                attachment: None,
            }
        });
        let places = places.collect();
        (places, enclosed)
    }
}

#[async_trait]
impl Channel for Email {
    fn receiver(&self) -> String {
        people::domains(&self.envelope.to)
    }

    fn batch(&self) -> usize {
        if self.digest.is_some() { BATCH } else { 1 }
    }

    fn group(&self, made: Timestamp) -> Option<Timestamp> {
        self.digest.map(|length| Window::holding(made, length).from)
    }

    fn due(&self, now: Timestamp) -> Timestamp {
        self.digest
            .map_or(now, |length| Window::holding(now, length).until)
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let window = self.digest.zip(parcels.first());
        let window = window.map(|(length, first)| Window::holding(first.created, length));
        let verdict = match self.message(parcels, window) {
            Err(never) => Verdict::dead(None, never),
            Ok(message) => match self.send_one(&message).await {
                Ok(verdict) => verdict,
                Err(failure) if failure.permanent => Verdict::dead(failure.status, failure.detail),
                Err(failure) => Verdict::retry(failure.status, failure.detail),
            },
        };
        vec![verdict; parcels.len()]
    }
}

#[cfg(test)]
mod tests;
