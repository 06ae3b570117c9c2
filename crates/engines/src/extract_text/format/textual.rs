//! Documents that are characters: told by structure first, then by what the caller says.

use encoding_rs::Encoding;

use super::{Format, OpenKind, container};
use crate::engine::{Document, EngineError};
use crate::extract_text::{csv, text};

/// What the caller says that a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Html,
    Email,
    Csv,
    Text,
    /// A spreadsheet's old format: exports of tables and of HTML often carry its name.
    OldSpreadsheet,
    /// A format that is never plain text.
    Binary(&'static str),
    Nothing,
}

pub(super) fn sniff(document: &Document<'_>) -> Result<Format, EngineError> {
    let decoded;
    // The first characters are enough for all but JSON and tables.
    let start = &document.bytes[..document.bytes.len().min(16 * 1024)];
    let head = if Encoding::for_bom(start).is_some() || start.contains(&0) {
        decoded = text::decode(start, None).text;
        decoded.as_str()
    } else {
        decoded = String::from_utf8_lossy(start).into_owned();
        decoded.as_str()
    };
    let head = head.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    let claim = claim(document);
    if head.starts_with("{\\rtf") {
        return Ok(Format::Rtf);
    }
    if let Some(format) = markup(head) {
        return Ok(format);
    }
    if starts_like_email(head.as_bytes())
        || (claim == Claim::Email && header_lines(head.as_bytes()).0 > 0)
    {
        return Ok(Format::Email);
    }
    if head.starts_with(['{', '['])
        && serde_json::from_slice::<serde::de::IgnoredAny>(document.bytes).is_ok()
    {
        return Ok(Format::Json);
    }
    match claim {
        Claim::Html => Ok(Format::Html),
        Claim::Csv => Ok(Format::Csv),
        Claim::OldSpreadsheet if csv::is_table(head, 2) => Ok(Format::Csv),
        Claim::OldSpreadsheet => Err(text::not_what_it_claims("an Excel workbook")),
        Claim::Binary(name) => Err(text::not_what_it_claims(name)),
        Claim::Nothing if csv::is_table(head, 4) => Ok(Format::Csv),
        Claim::Text | Claim::Email | Claim::Nothing => Ok(Format::Text),
    }
}

/// Whether the lines at the start are the header of a message: at least two of RFC 5322's names before anything else.
pub(super) fn starts_like_email(head: &[u8]) -> bool {
    let (known, all_headers) = header_lines(head);
    known >= 2 && all_headers
}

/// How many of the first lines are well-known header fields, and whether all of them are header fields.
fn header_lines(head: &[u8]) -> (usize, bool) {
    const KNOWN: [&str; 20] = [
        "from",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "sender",
        "reply-to",
        "message-id",
        "mime-version",
        "received",
        "return-path",
        "delivered-to",
        "content-type",
        "content-transfer-encoding",
        "in-reply-to",
        "references",
        "dkim-signature",
        "x-mailer",
        "authentication-results",
    ];
    let mut known = 0;
    for (number, line) in head.split(|b| *b == b'\n').take(200).enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        // A mailbox file's separator, or a folded line.
        if (number == 0 && line.starts_with(b"From "))
            || (number > 0 && line.starts_with(b" "))
            || line.starts_with(b"\t")
        {
            continue;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return (known, known > 3);
        };
        let name = &line[..colon];
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return (known, known > 3);
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        known += usize::from(KNOWN.contains(&name.as_str()));
    }
    (known, true)
}

fn markup(head: &str) -> Option<Format> {
    if !head.starts_with('<') {
        return None;
    }
    let lower: String = head
        .chars()
        .take(4096)
        .collect::<String>()
        .to_ascii_lowercase();
    if lower.starts_with("<!doctype html")
        || lower.starts_with("<html")
        || lower.starts_with("<head")
        || lower.starts_with("<body")
    {
        return Some(Format::Html);
    }
    if !lower.starts_with("<?xml") {
        let after_comment = lower.starts_with("<!--")
            && (lower.contains("<html") || lower.contains("<!doctype html"));
        return after_comment.then_some(Format::Html);
    }
    if lower.contains("<html")
        && (lower.contains("http://www.w3.org/1999/xhtml") || lower.contains("<!doctype html"))
    {
        return Some(Format::Html);
    }
    if lower.contains("<office:document") {
        let kind = head
            .split(['"', '\''])
            .find_map(container::open_kind)
            .unwrap_or(OpenKind::Text);
        return Some(Format::OpenDocument(kind));
    }
    Some(Format::Xml)
}

fn claim(document: &Document<'_>) -> Claim {
    let media_type = document
        .media_type
        .map(|m| {
            m.split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase()
        })
        .unwrap_or_default();
    match by_media_type(&media_type) {
        Claim::Nothing => document.file_name.map_or(Claim::Nothing, by_name),
        claim => claim,
    }
}

fn by_media_type(media_type: &str) -> Claim {
    match media_type {
        "text/html" | "application/xhtml+xml" => Claim::Html,
        "message/rfc822" | "message/global" => Claim::Email,
        "text/csv" | "text/tab-separated-values" | "application/csv" => Claim::Csv,
        "text/plain" | "text/markdown" => Claim::Text,
        "application/vnd.ms-excel" => Claim::OldSpreadsheet,
        "application/pdf" => Claim::Binary("a PDF document"),
        "image/svg+xml" => Claim::Text,
        picture if picture.starts_with("image/") => Claim::Binary("a picture"),
        office
            if office.starts_with("application/vnd.openxmlformats")
                || office.starts_with("application/vnd.oasis.opendocument") =>
        {
            Claim::Binary("an office file")
        }
        _ => Claim::Nothing,
    }
}

fn by_name(file_name: &str) -> Claim {
    let extension = file_name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default();
    match extension.as_str() {
        "html" | "htm" | "xhtml" => Claim::Html,
        "eml" | "mbox" => Claim::Email,
        "csv" | "tsv" | "tab" => Claim::Csv,
        "txt" | "md" | "log" => Claim::Text,
        "xls" => Claim::OldSpreadsheet,
        "pdf" => Claim::Binary("a PDF document"),
        "png" | "jpg" | "jpeg" | "tif" | "tiff" | "webp" | "gif" | "bmp" => {
            Claim::Binary("a picture")
        }
        "docx" | "docm" => Claim::Binary("a Word document"),
        "xlsx" | "xlsm" => Claim::Binary("an Excel workbook"),
        "pptx" | "pptm" => Claim::Binary("a PowerPoint presentation"),
        "odt" | "ods" | "odp" => Claim::Binary("an OpenDocument file"),
        _ => Claim::Nothing,
    }
}
