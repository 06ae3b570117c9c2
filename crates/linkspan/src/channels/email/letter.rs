//! One message: headers, text, HTML and attachments (RFC 5322, MIME).

use std::time::SystemTime;

use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, To};
use lettre::message::{Attachment, Mailbox, MultiPart};
use linkspan_model::DeliveryId;
use ring::digest::{Context, SHA256};

use super::digest::Window;
use super::templates::Rendered;
use crate::store::Endpoint;

/// What every message of a channel has.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) from: Mailbox,
    pub(super) to: Vec<Mailbox>,
}

/// A file that comes along.
pub(super) struct Enclosed {
    pub(super) name: String,
    pub(super) json: String,
}

impl Envelope {
    /// The message.
    ///
    /// # Errors
    ///
    /// When the addresses or the parts make no message.
    pub(super) fn message(
        &self,
        id: &str,
        rendered: Rendered,
        enclosed: Vec<Enclosed>,
        date: SystemTime,
    ) -> Result<Message, lettre::error::Error> {
        let id = format!("<{id}@{}>", self.from.email.domain());
        let builder = Message::builder()
            .from(self.from.clone())
            .mailbox(To::from(
                self.to
                    .iter()
                    .cloned()
                    .collect::<lettre::message::Mailboxes>(),
            ))
            .subject(rendered.subject)
            .date(date)
            .message_id(Some(id))
            // RFC 3834, and what Exchange understands: no out-of-office answers.
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("X-Auto-Response-Suppress", "All"));
        let body = MultiPart::alternative_plain_html(rendered.text, rendered.html);
        if enclosed.is_empty() {
            return builder.multipart(body);
        }
        let all = enclosed
            .into_iter()
            .fold(MultiPart::mixed().multipart(body), |all, file| {
                all.singlepart(Attachment::new(file.name).body(file.json.into_bytes(), json_type()))
            });
        builder.multipart(all)
    }
}

/// The local part of a digest's Message-ID: the same for the same results of the same window, at each attempt.
pub(super) fn digest_id(endpoint: &Endpoint, window: Window, part: &[DeliveryId]) -> String {
    let mut hash = Context::new(&SHA256);
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(endpoint.integration.as_bytes());
    add(endpoint.channel.as_bytes());
    add(&window.from.as_millisecond().to_be_bytes());
    add(&window.until.as_millisecond().to_be_bytes());
    let mut part = part.to_vec();
    part.sort();
    for id in part {
        add(id.as_bytes());
    }
    let digest = hash.finish();
    digest
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

fn json_type() -> ContentType {
    ContentType::parse("application/json").unwrap_or(ContentType::TEXT_PLAIN)
}
