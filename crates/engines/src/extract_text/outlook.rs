//! Outlook messages (MS-OXMSG): a compound file with a stream for each property.

use std::io::Cursor;

use office_oxide::cfb::{CfbReader, EntryType};

use super::email::message::{Attachment, Content, Mail};
use super::{Extracted, Reader, html, text, unreadable};
use crate::engine::{Document, EngineError};

type File<'a> = CfbReader<Cursor<&'a [u8]>>;

// Property ids (MS-OXPROPS).
const SUBJECT: u16 = 0x0037;
const SENDER_NAME: u16 = 0x0c1a;
const SENDER_ADDRESS: u16 = 0x5d01;
const SENDER_EMAIL: u16 = 0x0c1f;
const TO: u16 = 0x0e04;
const CC: u16 = 0x0e03;
const BODY: u16 = 0x1000;
const HTML: u16 = 0x1013;
const SUBMITTED: u16 = 0x0039;
const DELIVERED: u16 = 0x0e06;
const CONTENT: u16 = 0x3701;
const LONG_NAME: u16 = 0x3707;
const SHORT_NAME: u16 = 0x3704;
const MEDIA_TYPE: u16 = 0x370e;
const CONTENT_ID: u16 = 0x3712;

pub(super) fn extract(
    document: &Document<'_>,
    reader: &Reader<'_>,
    depth: usize,
) -> Result<Extracted, EngineError> {
    let mut file = CfbReader::new(Cursor::new(document.bytes)).map_err(|error| {
        unreadable("the Outlook message is damaged: its directory cannot be read").because(error)
    })?;
    Ok(mail(&mut file).extract(reader, depth))
}

fn mail(file: &mut File<'_>) -> Mail<'static> {
    let mut header = Vec::new();
    let name = string(file, "", SENDER_NAME);
    let address = string(file, "", SENDER_ADDRESS)
        .or_else(|| string(file, "", SENDER_EMAIL))
        .filter(|address| address.contains('@'));
    match (name, address) {
        (Some(name), Some(address)) if name != address => {
            header.push(("From", format!("{name} <{address}>")));
        }
        (name, address) => header.extend(address.or(name).map(|from| ("From", from))),
    }
    header.extend(string(file, "", TO).map(|to| ("To", to)));
    header.extend(string(file, "", CC).map(|cc| ("Cc", cc)));
    header.extend(date(file).map(|date| ("Date", date)));
    header.extend(string(file, "", SUBJECT).map(|subject| ("Subject", subject)));
    let mut warnings = Vec::new();
    let body = string(file, "", BODY)
        .filter(|body| !body.trim().is_empty())
        .or_else(|| {
            let page = stream(file, "", HTML, "0102").map(|bytes| text::decode(&bytes, None).text);
            page.or_else(|| string(file, "", HTML))
                .map(|page| html::to_text(&page))
        });
    if body.is_none() && has(file, "__substg1.0_10090102") {
        warnings.push(
            "the message's text is in compressed RTF only, which is not read: save it as .eml"
                .to_owned(),
        );
    }
    let mut storages: Vec<String> = file
        .entries()
        .iter()
        .filter(|entry| {
            entry.entry_type == EntryType::Storage
                && entry.name.starts_with("__attach_version1.0_#")
        })
        .map(|entry| entry.name.clone())
        .collect();
    storages.sort();
    storages.dedup();
    let attachments = storages
        .iter()
        .filter_map(|storage| {
            let content = stream(file, storage, CONTENT, "0102");
            if content.is_none() && has(file, &format!("{storage}/__substg1.0_3701000D")) {
                warnings.push(
                    "a message attached to the message is not read: save it as .eml".to_owned(),
                );
            }
            Some(Attachment {
                content: Content::Owned(content?),
                name: string(file, storage, LONG_NAME)
                    .or_else(|| string(file, storage, SHORT_NAME)),
                media_type: string(file, storage, MEDIA_TYPE),
                inline: string(file, storage, CONTENT_ID).is_some(),
            })
        })
        .collect();
    Mail {
        header,
        body: body.unwrap_or_default(),
        attachments,
        warnings,
    }
}

/// A property's stream; its type is `0102` for bytes, `001F` for UTF-16, `001E` for an eight-bit code page.
fn stream(file: &mut File<'_>, storage: &str, property: u16, kind: &str) -> Option<Vec<u8>> {
    let name = format!("__substg1.0_{property:04X}{kind}");
    let path = if storage.is_empty() {
        name
    } else {
        format!("{storage}/{name}")
    };
    file.open_stream_by_path(&path).ok()
}

fn string(file: &mut File<'_>, storage: &str, property: u16) -> Option<String> {
    let text = if let Some(bytes) = stream(file, storage, property, "001F") {
        encoding_rs::UTF_16LE
            .decode_without_bom_handling(&bytes)
            .0
            .into_owned()
    } else {
        text::decode(&stream(file, storage, property, "001E")?, None).text
    };
    let text = text.trim_end_matches('\0').to_owned();
    (!text.is_empty()).then_some(text)
}

fn has(file: &File<'_>, path: &str) -> bool {
    file.find_entry_by_path(path).is_some()
}

/// The time at which the message was sent: a property of fixed length, in 100 ns since 1601.
fn date(file: &mut File<'_>) -> Option<String> {
    const HEADER: usize = 32;
    const SECONDS_TO_1970: i64 = 11_644_473_600;
    let properties = file.open_stream_by_path("__properties_version1.0").ok()?;
    let time = |property: u16| {
        properties
            .get(HEADER..)?
            .chunks_exact(16)
            .find_map(|entry| {
                let tag = u32::from_le_bytes(entry[..4].try_into().ok()?);
                (tag == u32::from(property) << 16 | 0x40)
                    .then(|| u64::from_le_bytes(entry[8..].try_into().unwrap_or_default()))
            })
    };
    let seconds = i64::try_from(time(SUBMITTED).or_else(|| time(DELIVERED))? / 10_000_000).ok()?
        - SECONDS_TO_1970;
    (seconds > 0).then(|| mail_parser::DateTime::from_timestamp(seconds).to_rfc822())
}
