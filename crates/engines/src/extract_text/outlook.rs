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

#[cfg(test)]
mod tests {
    use linkspan_model::Code;

    use crate::extract_text::testing::{compound_file, read};

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn an_outlook_message_is_read_with_its_attachments() {
        // 2024-03-05T09:15:00Z in 100 ns since 1601.
        let sent = (1_709_630_100u64 + 11_644_473_600) * 10_000_000;
        let properties = [
            &[0; 32][..],
            &0x0039_0040u32.to_le_bytes(),
            &[6, 0, 0, 0],
            &sent.to_le_bytes(),
        ]
        .concat();
        let message = compound_file(&[
            ("__properties_version1.0", &properties),
            ("__substg1.0_0037001F", &utf16("Grüße")),
            ("__substg1.0_0C1A001F", &utf16("Anna Muster")),
            ("__substg1.0_0C1F001E", b"anna@example.com"),
            ("__substg1.0_0E04001F", &utf16("Piet Jansen")),
            (
                "__substg1.0_1000001F",
                &utf16("The text.\r\nTwo lines.\r\n"),
            ),
            (
                "__attach_version1.0_#00000000/__substg1.0_37010102",
                b"a;b\n1;2\n",
            ),
            (
                "__attach_version1.0_#00000000/__substg1.0_3707001F",
                &utf16("list.csv"),
            ),
            ("__attach_version1.0_#00000001/__substg1.0_3701000D", b"x"),
        ]);
        let found = read(&message).unwrap();
        assert_eq!(found.media_type, "application/vnd.ms-outlook");
        let pages: Vec<&str> = found.pages.iter().map(|page| page.text.as_str()).collect();
        assert_eq!(
            pages,
            [
                "From: Anna Muster <anna@example.com>\nTo: Piet Jansen\nDate: Tue, 5 Mar 2024 09:15:00 +0000\nSubject: Grüße\n\nThe text.\nTwo lines.",
                "Attachment: list.csv\n\na\tb\n1\t2"
            ]
        );
        assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
    }

    #[test]
    fn html_is_read_where_there_is_no_plain_text() {
        let message = compound_file(&[
            ("__properties_version1.0", &[0; 32]),
            (
                "__substg1.0_10130102",
                b"<html><body><p>Rich <b>text</b></p></body></html>",
            ),
        ]);
        assert_eq!(read(&message).unwrap().text, "Rich text");
    }

    #[test]
    fn other_compound_files_are_told_apart() {
        let encrypted = compound_file(&[("EncryptionInfo", b"x"), ("EncryptedPackage", b"y")]);
        assert_eq!(read(&encrypted).unwrap_err().code, Code::PasswordRequired);
        let other = compound_file(&[("Contents", b"x")]);
        assert_eq!(read(&other).unwrap_err().code, Code::UnsupportedMediaType);
        let empty_word = compound_file(&[("WordDocument", b"x")]);
        assert_eq!(
            read(&empty_word).unwrap_err().code,
            Code::UnreadableDocument
        );
    }
}
