//! A message of any source, and its pages.

use linkspan_model::Code;

use crate::engine::Document;
use crate::extract_text::{Extracted, Reader, clean, extract, format, text_page};

/// Messages in messages are read to this depth.
const MAX_DEPTH: usize = 3;
/// Most attachments of one message that are read.
const MAX_ATTACHMENTS: usize = 100;
/// Smaller pictures in a message's text are logos and tracking pixels.
const SMALL_PICTURE: usize = 8 * 1024;

/// What a message says.
pub(in crate::extract_text) struct Mail<'m> {
    /// Field names and values, in the order in which they are written.
    pub(in crate::extract_text) header: Vec<(&'static str, String)>,
    pub(in crate::extract_text) body: String,
    pub(in crate::extract_text) attachments: Vec<Attachment<'m>>,
    pub(in crate::extract_text) warnings: Vec<String>,
}

pub(in crate::extract_text) struct Attachment<'m> {
    pub(in crate::extract_text) name: Option<String>,
    pub(in crate::extract_text) media_type: Option<String>,
    /// Shown in the text, like a logo.
    pub(in crate::extract_text) inline: bool,
    pub(in crate::extract_text) content: Content<'m>,
}

pub(in crate::extract_text) enum Content<'m> {
    Bytes(&'m [u8]),
    Owned(Vec<u8>),
    Mail(Mail<'m>),
}

impl Mail<'_> {
    /// The message is the first page; each attachment that can be read adds its own. What cannot be read is a warning.
    pub(in crate::extract_text) fn extract(self, reader: &Reader<'_>, depth: usize) -> Extracted {
        let mut text = String::new();
        for (name, value) in &self.header {
            text.push_str(&format!("{name}: {}\n", clean::squeezed(value)));
        }
        text.push('\n');
        text.push_str(self.body.trim_start_matches(['\r', '\n']));
        let mut extracted = Extracted {
            pages: vec![text_page(1, text)],
            warnings: self.warnings,
        };
        let count = self.attachments.len();
        for (number, attachment) in (1..).zip(self.attachments) {
            let room = (reader.options.max_pages as usize).saturating_sub(extracted.pages.len());
            if number > MAX_ATTACHMENTS || room == 0 {
                extracted
                    .warnings
                    .push(format!("the attachments from number {number} to {count} are left out: there are too many"));
                break;
            }
            match attachment.extract(reader, depth) {
                Ok(Some(found)) if found.pages.len() > room => extracted.warnings.push(format!(
                    "attachment {number} is left out: with its {} pages the email has more than the service reads (option `max_pages`)",
                    found.pages.len()
                )),
                Ok(Some(found)) => {
                    for mut page in found.pages {
                        page.number = u32::try_from(extracted.pages.len() + 1).unwrap_or(u32::MAX);
                        extracted.pages.push(page);
                    }
                    let warnings = found.warnings.iter();
                    extracted
                        .warnings
                        .extend(warnings.map(|warning| format!("attachment {number}: {warning}")));
                }
                Ok(None) => {}
                Err(reason) => extracted
                    .warnings
                    .push(format!("attachment {number} could not be read: {reason}")),
            }
        }
        extracted
    }
}

impl Attachment<'_> {
    /// None where there is nothing to read: a signature, a logo, an empty part.
    fn extract(self, reader: &Reader<'_>, depth: usize) -> Result<Option<Extracted>, String> {
        let media_type = self.media_type.as_deref().unwrap_or_default();
        if matches!(
            media_type,
            "application/pkcs7-signature"
                | "application/x-pkcs7-signature"
                | "application/pgp-signature"
                | "application/pgp-keys"
        ) {
            return Ok(None);
        }
        let too_deep = || format!("messages are read {MAX_DEPTH} deep");
        let bytes = match self.content {
            Content::Mail(_) if depth + 1 > MAX_DEPTH => return Err(too_deep()),
            Content::Mail(mail) => {
                return Ok(Some(named(
                    self.name.as_deref(),
                    mail.extract(reader, depth + 1),
                )));
            }
            Content::Bytes(bytes) => bytes,
            Content::Owned(ref bytes) => bytes,
        };
        let document = Document {
            bytes,
            media_type: self.media_type.as_deref(),
            file_name: self.name.as_deref(),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let sentence = |error: crate::engine::EngineError| match error.code {
            // The list of all that is supported is for whoever sent the document.
            Code::UnsupportedMediaType => "this kind of file is not supported".to_owned(),
            _ => error.detail,
        };
        let found = format::sniff(&document, reader.options.max_unpacked).map_err(sentence)?;
        if matches!(found, format::Format::Picture(_)) && self.inline && bytes.len() < SMALL_PICTURE
        {
            return Ok(None);
        }
        if matches!(found, format::Format::Email | format::Format::Outlook) && depth + 1 > MAX_DEPTH
        {
            return Err(too_deep());
        }
        let extracted = extract(found, &document, reader, depth + 1).map_err(sentence)?;
        Ok(Some(named(self.name.as_deref(), extracted)))
    }
}

/// Puts the attachment's name before its first page.
fn named(name: Option<&str>, mut extracted: Extracted) -> Extracted {
    if let (Some(name), Some(page)) = (name, extracted.pages.first_mut()) {
        page.text = format!("Attachment: {}\n\n{}", clean::squeezed(name), page.text);
    }
    extracted
}
