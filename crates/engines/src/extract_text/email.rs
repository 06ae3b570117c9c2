//! Email (RFC 5322 and MIME): the header that a reader sees, the text, and the attachments as further pages.

pub(super) mod message;

use mail_parser::{Address, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use self::message::{Attachment, Content, Mail};
use super::{Extracted, Reader, html, unreadable};
use crate::engine::{Document, EngineError};

pub(super) fn extract(
    document: &Document<'_>,
    reader: &Reader<'_>,
    depth: usize,
) -> Result<Extracted, EngineError> {
    let message = MessageParser::default()
        .parse(without_separator(document.bytes))
        .filter(|message| !message.parts.is_empty())
        .ok_or_else(|| unreadable("the email is damaged: it has no header that can be read"))?;
    Ok(mail(&message).extract(reader, depth))
}

/// What a parsed message says.
pub(super) fn mail<'m>(message: &'m Message<'m>) -> Mail<'m> {
    let mut header = Vec::new();
    for (name, address) in [
        ("From", message.from()),
        ("To", message.to()),
        ("Cc", message.cc()),
    ] {
        if let Some(address) = address {
            header.push((name, addresses(address)));
        }
    }
    if let Some(date) = message.date() {
        header.push(("Date", date.to_rfc822()));
    }
    if let Some(subject) = message.subject() {
        header.push(("Subject", subject.to_owned()));
    }
    let mut body = String::new();
    let mut warnings = Vec::new();
    for part in message.text_bodies() {
        if part.is_encoding_problem {
            warnings.push("a part of the email is damaged: its encoding is broken".to_owned());
        }
        match &part.body {
            PartType::Text(text) if is_flowed(part) => body.push_str(&unflowed(text)),
            PartType::Text(text) => body.push_str(text),
            PartType::Html(text) => body.push_str(&html::to_text(text)),
            _ => continue,
        }
        body.push('\n');
    }
    // A text part that is the body in one alternative is listed as an attachment in the other.
    let bodies: Vec<u32> = message
        .text_body
        .iter()
        .chain(&message.html_body)
        .copied()
        .collect();
    let attachments = message
        .attachments
        .iter()
        .filter(|id| {
            !(message.text_body.contains(id) || bodies.contains(id) && is_text(message, **id))
        })
        .filter_map(|id| message.part(*id))
        .map(attachment)
        .collect();
    Mail {
        header,
        body,
        attachments,
        warnings,
    }
}

fn is_text(message: &Message<'_>, id: u32) -> bool {
    message
        .part(id)
        .is_some_and(|part| matches!(part.body, PartType::Text(_) | PartType::Html(_)))
}

fn attachment<'m>(part: &'m MessagePart<'m>) -> Attachment<'m> {
    let media_type = part.content_type().map(|found| {
        let subtype = found.c_subtype.as_deref().unwrap_or_default();
        format!("{}/{subtype}", found.c_type).to_ascii_lowercase()
    });
    Attachment {
        name: part.attachment_name().map(str::to_owned),
        inline: matches!(part.body, PartType::InlineBinary(_)) || part.content_id().is_some(),
        media_type,
        content: match &part.body {
            PartType::Message(message) => Content::Mail(mail(message)),
            PartType::Multipart(_) => Content::Bytes(&[]),
            _ => Content::Bytes(part.contents()),
        },
    }
}

fn addresses(address: &Address<'_>) -> String {
    let list: Vec<String> = address
        .iter()
        .map(|one| match (one.name(), one.address()) {
            (Some(name), Some(address)) => format!("{name} <{address}>"),
            (name, address) => name.or(address).unwrap_or_default().to_owned(),
        })
        .collect();
    list.join(", ")
}

/// The line that a mailbox file puts before a message.
fn without_separator(bytes: &[u8]) -> &[u8] {
    let start = bytes
        .iter()
        .position(|b| !b.is_ascii_whitespace())
        .unwrap_or(0);
    let bytes = &bytes[start..];
    match bytes.iter().position(|b| *b == b'\n') {
        Some(end) if bytes.starts_with(b"From ") => &bytes[end + 1..],
        _ => bytes,
    }
}

fn is_flowed(part: &MessagePart<'_>) -> bool {
    part.content_type()
        .and_then(|found| found.attribute("format"))
        .is_some_and(|format| format.eq_ignore_ascii_case("flowed"))
}

/// Joins the lines that end in a space (RFC 3676), within one level of quoting.
fn unflowed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open: Option<usize> = None;
    for line in text.lines() {
        let quotes = line.bytes().take_while(|b| *b == b'>').count();
        let rest = &line[quotes..];
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        if open == Some(quotes) {
            out.push_str(rest);
        } else {
            if open.is_some() {
                out.push('\n');
            }
            out.push_str(&">".repeat(quotes));
            if quotes > 0 {
                out.push(' ');
            }
            out.push_str(rest);
        }
        // The signature's separator ends in a space and is no soft break.
        if rest.ends_with(' ') && rest != "-- " {
            open = Some(quotes);
        } else {
            open = None;
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests;
