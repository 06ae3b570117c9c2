//! What a document is, found from its content.
//!
//! The media type and the file name are hints from outside: they decide only between formats that the content cannot tell apart
//! (a table and a text are both characters), and what to say where the content is none that we read.

mod container;
mod foreign;
mod textual;

use linkspan_model::Code;

use super::unreadable;
use crate::engine::{Document, EngineError};

/// A format that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Pdf,
    /// The media type tells which kind.
    Picture(&'static str),
    Office(OfficeKind),
    /// An office file of any kind in an encrypted package.
    Encrypted,
    OpenDocument(OpenKind),
    Html,
    Email,
    Outlook,
    Rtf,
    Csv,
    Xml,
    Json,
    Text,
}

/// A Microsoft Office format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfficeKind {
    Docx,
    Xlsx,
    Pptx,
    Doc,
    Xls,
    Ppt,
}

/// An `OpenDocument` format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenKind {
    Text,
    Spreadsheet,
    Presentation,
    Drawing,
}

/// The formats, as error texts list them.
pub(super) const SUPPORTED: &str = "PDF, PNG, JPEG, TIFF, WebP, GIF and BMP pictures, Word, Excel and PowerPoint files, OpenDocument files, \
HTML, email (.eml, .msg), RTF, CSV and plain text";

impl Format {
    /// The media type as IANA registers it.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Picture(media_type) => media_type,
            Self::Office(OfficeKind::Docx) => {
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
            }
            Self::Office(OfficeKind::Xlsx) => {
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
            }
            Self::Office(OfficeKind::Pptx) => {
                "application/vnd.openxmlformats-officedocument.presentationml.presentation"
            }
            Self::Office(OfficeKind::Doc) => "application/msword",
            Self::Office(OfficeKind::Xls) => "application/vnd.ms-excel",
            Self::Office(OfficeKind::Ppt) => "application/vnd.ms-powerpoint",
            Self::Encrypted => "application/x-ole-storage",
            Self::OpenDocument(OpenKind::Text) => "application/vnd.oasis.opendocument.text",
            Self::OpenDocument(OpenKind::Spreadsheet) => {
                "application/vnd.oasis.opendocument.spreadsheet"
            }
            Self::OpenDocument(OpenKind::Presentation) => {
                "application/vnd.oasis.opendocument.presentation"
            }
            Self::OpenDocument(OpenKind::Drawing) => "application/vnd.oasis.opendocument.graphics",
            Self::Html => "text/html",
            Self::Email => "message/rfc822",
            Self::Outlook => "application/vnd.ms-outlook",
            Self::Rtf => "application/rtf",
            Self::Csv => "text/csv",
            Self::Xml => "application/xml",
            Self::Json => "application/json",
            Self::Text => "text/plain",
        }
    }
}

/// Finds a document's format.
///
/// # Errors
///
/// `unreadable-document` for an empty or damaged file, `unsupported-media-type` for a format that no reader knows, naming what was
/// found.
pub(super) fn sniff(document: &Document<'_>, max_unpacked: u64) -> Result<Format, EngineError> {
    let bytes = document.bytes;
    if bytes.is_empty() {
        return Err(unreadable("the document is empty"));
    }
    if let Some(format) = picture(bytes) {
        return Ok(format);
    }
    if starts_like_pdf(bytes) {
        return Ok(Format::Pdf);
    }
    // RTF may hold binary data.
    if bytes.trim_ascii_start().starts_with(b"{\\rtf") {
        return Ok(Format::Rtf);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return container::zip(bytes, max_unpacked);
    }
    if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]) {
        return container::compound_file(bytes);
    }
    if let Some((found, advice)) = foreign::foreign(bytes) {
        return Err(unsupported(found, advice));
    }
    if super::text::looks_like_text(bytes) {
        return textual::sniff(document);
    }
    if bytes.iter().all(|b| *b == 0) {
        return Err(unreadable("the document holds nothing but zero bytes"));
    }
    Err(unsupported("binary data of an unknown kind", ""))
}

fn unsupported(found: &str, advice: &str) -> EngineError {
    let advice = if advice.is_empty() {
        String::new()
    } else {
        format!("; {advice}")
    };
    EngineError::new(
        Code::UnsupportedMediaType,
        format!(
            "the document is {found}, which extract-text does not read{advice}. It reads {SUPPORTED}"
        ),
    )
}

/// Readers of PDF allow bytes before the header.
fn starts_like_pdf(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1024)];
    let Some(at) = head.windows(5).position(|w| w == b"%PDF-") else {
        return false;
    };
    // A text or an email may speak of "%PDF-" (its attachment, in plain): a PDF's header starts a line.
    let tail = &bytes[bytes.len() - bytes.len().min(1024)..];
    let ends_like_pdf = tail.windows(5).any(|window| window == b"%%EOF");
    at == 0
        || ends_like_pdf
        || (matches!(head[at - 1], b'\n' | b'\r' | b' ' | 0 | 0xbf)
            && !textual::starts_like_email(head))
}

fn picture(bytes: &[u8]) -> Option<Format> {
    let media_type = match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "image/gif",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "image/webp",
        [b'I', b'I', 42, 0, ..]
        | [b'M', b'M', 0, 42, ..]
        | [b'I', b'I', 43, 0, ..]
        | [b'M', b'M', 0, 43, ..] => "image/tiff",
        // The reserved words of a bitmap's header are zero, which keeps a text that starts with BM out.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => "image/bmp",
        _ => return None,
    };
    Some(Format::Picture(media_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract_text::testing::{self, document};

    fn found(bytes: &[u8], media_type: Option<&str>, file_name: Option<&str>) -> Format {
        let document = Document {
            bytes,
            media_type,
            file_name,
        };
        sniff(&document, 1 << 20).unwrap()
    }

    #[test]
    fn the_content_tells_the_format() {
        let cases: [(&[u8], Format); 15] = [
            (b"%PDF-1.7\n", Format::Pdf),
            (b"\xef\xbb\xbf%PDF-1.4\n", Format::Pdf),
            (b"\x89PNG\r\n\x1a\n", Format::Picture("image/png")),
            (b"\xff\xd8\xff\xe0", Format::Picture("image/jpeg")),
            (b"RIFF\0\0\0\0WEBPVP8 ", Format::Picture("image/webp")),
            (b"II*\0", Format::Picture("image/tiff")),
            (b"{\\rtf1 x}", Format::Rtf),
            (b"<!DOCTYPE html><p>x", Format::Html),
            (b"\n <HTML><body>x", Format::Html),
            (
                b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>",
                Format::Html,
            ),
            (b"<?xml version='1.0'?><order/>", Format::Xml),
            (b"{\"a\": [1, 2]}", Format::Json),
            (
                b"From: a@example.com\nTo: b@example.com\nSubject: x\n\nBody",
                Format::Email,
            ),
            (
                b"name;city\nAnna;Bern\nPiet;Delft\nMaria;Graz\n",
                Format::Csv,
            ),
            (
                b"Just a sentence, with a comma.\nAnd one more line.\n",
                Format::Text,
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                found(bytes, None, None),
                expected,
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn hints_decide_only_where_the_content_does_not() {
        let table = b"name,city\nAnna,Bern\n";
        assert_eq!(found(table, Some("text/csv"), None), Format::Csv);
        assert_eq!(found(table, None, Some("people.CSV")), Format::Csv);
        assert_eq!(found(table, Some("text/plain"), None), Format::Text);
        assert_eq!(
            found(b"<p>x</p>", Some("text/html; charset=utf-8"), None),
            Format::Html
        );
        assert_eq!(
            found(b"%PDF-1.7\n", Some("text/csv"), Some("x.docx")),
            Format::Pdf
        );
        assert_eq!(found(b"{\\rtf1 x}", None, Some("letter.doc")), Format::Rtf);
        assert_eq!(found(b"<html>x", None, Some("report.xls")), Format::Html);
        assert_eq!(
            found(b"a\tb\n1\t2\n", None, Some("report.xls")),
            Format::Csv
        );
    }

    #[test]
    fn packages_are_told_by_their_parts() {
        assert_eq!(
            found(
                &testing::docx("<w:p><w:r><w:t>x</w:t></w:r></w:p>"),
                None,
                None
            ),
            Format::Office(OfficeKind::Docx)
        );
        assert_eq!(
            found(&testing::odt("<text:p>x</text:p>"), None, Some("x.docx")),
            Format::OpenDocument(OpenKind::Text)
        );
    }

    #[test]
    fn what_is_not_read_is_named() {
        let cases: [(&[u8], Code, &str); 8] = [
            (b"", Code::UnreadableDocument, "empty"),
            (&[0; 64], Code::UnreadableDocument, "zero bytes"),
            (
                b"\x1f\x8b\x08\0\0\0\0\0",
                Code::UnsupportedMediaType,
                "gzip",
            ),
            (
                b"RIFF\0\0\0\0WAVEfmt ",
                Code::UnsupportedMediaType,
                "transcribe",
            ),
            (
                b"\x7fELF\x02\x01\x01\0",
                Code::UnsupportedMediaType,
                "program",
            ),
            (
                &[1, 200, 0, 7, 0, 0, 250, 3, 0, 0],
                Code::UnsupportedMediaType,
                "unknown",
            ),
            (b"PK\x03\x04 cut off", Code::UnreadableDocument, "ZIP"),
            (
                &[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, 0],
                Code::UnreadableDocument,
                "compound",
            ),
        ];
        for (bytes, code, word) in cases {
            let error = sniff(&document(bytes), 1 << 20).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.detail.contains(word), "{error}");
        }
        let zip = testing::zip(&[("holiday.jpg", b"x")]);
        let error = sniff(&document(&zip), 1 << 20).unwrap_err();
        assert_eq!(error.code, Code::UnsupportedMediaType);
        assert!(
            error.detail.contains("ZIP archive") && !error.detail.contains("holiday"),
            "{error}"
        );
    }

    #[test]
    fn text_under_a_binary_name_is_refused() {
        for (media_type, file_name) in [
            (None, Some("contract.docx")),
            (Some("application/pdf"), None),
            (Some("image/png"), Some("scan.png")),
        ] {
            let document = Document {
                bytes: b"404 page not found\n",
                media_type,
                file_name,
            };
            let error = sniff(&document, 1 << 20).unwrap_err();
            assert_eq!(error.code, Code::UnreadableDocument);
            assert!(error.detail.contains("plain text"), "{error}");
        }
    }
}
