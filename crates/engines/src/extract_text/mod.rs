//! `extract-text`: the text of a document, page by page, whatever its format.
//!
//! One format is one file here with an `extract` function, its variant in [`format::Format`] and its line in [`extract`]'s match.

mod clean;
mod csv;
mod email;
mod format;
mod html;
mod odf;
mod office;
mod outlook;
mod package;
pub(crate) mod pdf;
pub(crate) mod picture;
mod rtf;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;

use std::sync::atomic::{AtomicBool, Ordering};

use image::GrayImage;
use linkspan_model::answer::{ExtractedText, Page, TextSource};
use linkspan_model::{Answer, Code, Task};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::format::Format;
use crate::engine::{Builtin, Document, EngineError, Input, Isolation, Work};
use crate::ocr::{Ocr, OcrPage};

/// What one format's reader found.
#[derive(Debug, Default)]
pub struct Extracted {
    /// The pages, numbered from 1.
    pub pages: Vec<Page>,
    /// What could not be read, or was read with doubt, in sentences for the caller (no document content).
    pub warnings: Vec<String>,
}

/// What the readers of all formats share.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Reads pictures.
    pub ocr: &'a dyn Ocr,
    /// The service's options.
    pub options: &'a Options,
    /// The password that the caller gave.
    pub password: Option<&'a str>,
}

/// The options of an `extract-text` service (`[service.NAME.options]`).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// OCR languages by their Tesseract names, the likeliest first.
    pub languages: Vec<String>,
    /// Resolution at which pages without text are rendered, in dots an inch.
    pub dpi: u32,
    /// Most pages of one document; beyond it `document-too-complex`.
    pub max_pages: u32,
    /// Most pixels of one page's picture; beyond it `document-too-complex`.
    pub max_pixels: u64,
    /// Most bytes that a compressed document may unpack to; beyond it `document-too-complex`.
    pub max_unpacked: u64,
}

/// The built-in `extract-text` engine.
pub struct ExtractText {
    ocr: Box<dyn Ocr>,
    used_ocr: AtomicBool,
}

/// Reads a document: finds its format from its content, and its text.
///
/// # Errors
///
/// `unsupported-media-type` for a format that no reader knows, `unreadable-document` for a damaged file, `password-required`,
/// `document-too-complex` beyond a limit of the options, and what the format's reader says.
pub fn read(document: &Document<'_>, reader: &Reader<'_>) -> Result<ExtractedText, EngineError> {
    let format = format::sniff(document, reader.options.max_unpacked)?;
    let extracted = extract(format, document, reader, 0)?;
    answer(format, extracted, reader.options)
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            languages: vec!["eng".to_owned()],
            dpi: 300,
            max_pages: 500,
            max_pixels: 100_000_000,
            max_unpacked: 512 * 1024 * 1024,
        }
    }
}

impl Options {
    /// Reads and checks the options of a service.
    ///
    /// # Errors
    ///
    /// `invalid-parameter`, naming the option that is unknown or out of range.
    pub fn parse(options: &Map<String, Value>) -> Result<Self, EngineError> {
        let wrong = |what: String| {
            EngineError::new(
                Code::InvalidParameter,
                format!("the service's options: {what}"),
            )
        };
        let parsed: Self = serde_json::from_value(Value::Object(options.clone()))
            .map_err(|error| wrong(error.to_string()))?;
        let tesseract_name = |name: &String| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if parsed.languages.is_empty() || !parsed.languages.iter().all(tesseract_name) {
            return Err(wrong(
                "`languages` must list at least one Tesseract language name, like \"eng\""
                    .to_owned(),
            ));
        }
        if !(50..=1200).contains(&parsed.dpi) {
            return Err(wrong("`dpi` must be from 50 to 1200".to_owned()));
        }
        if parsed.max_pages == 0 || parsed.max_pixels == 0 || parsed.max_unpacked == 0 {
            return Err(wrong(
                "`max_pages`, `max_pixels` and `max_unpacked` must be at least 1".to_owned(),
            ));
        }
        Ok(parsed)
    }
}

// === impl ExtractText ===

impl ExtractText {
    /// An engine that reads pictures with `ocr`.
    #[must_use]
    pub fn new(ocr: Box<dyn Ocr>) -> Self {
        Self {
            ocr,
            used_ocr: AtomicBool::new(false),
        }
    }
}

impl Builtin for ExtractText {
    fn task(&self) -> Task {
        Task::ExtractText
    }

    /// The OCR library where the last document needed it, else the engine's own name.
    fn label(&self) -> String {
        if self.used_ocr.load(Ordering::Relaxed) {
            format!("builtin/{}", self.ocr.label())
        } else {
            concat!("builtin/extract-text ", env!("CARGO_PKG_VERSION")).to_owned()
        }
    }

    fn isolation(&self) -> Isolation {
        Isolation::Worker
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["password"]
    }

    fn check_options(&self, options: &Map<String, Value>) -> Result<(), String> {
        Options::parse(options)
            .map(drop)
            .map_err(|error| error.detail)
    }

    fn lacking(&self, options: &Map<String, Value>) -> Vec<String> {
        let Ok(options) = Options::parse(options) else {
            return Vec::new(); // a fault of its own
        };
        let installed = match self.ocr.languages() {
            Ok(installed) => installed,
            Err(error) => return vec![error.detail],
        };
        options
            .languages
            .into_iter()
            .filter(|language| !installed.contains(language))
            .map(|language| {
                format!("the OCR has no data for {language:?}; install the package tesseract-ocr-{language}")
            })
            .collect()
    }

    fn perform(&self, work: &Work<'_>) -> Result<Answer, EngineError> {
        let options = Options::parse(work.options)?;
        let reader = Reader {
            ocr: &*self.ocr,
            options: &options,
            password: password(work.params)?,
        };
        let read = match work.input {
            Input::Document(document) => read(&document, &reader)?,
            Input::Text(text) => answer(Format::Text, one_page(text.to_owned()), &options)?,
        };
        let used_ocr = read.pages.iter().any(|page| page.source == TextSource::Ocr);
        self.used_ocr.store(used_ocr, Ordering::Relaxed);
        Ok(Answer::ExtractText(read))
    }
}

/// The caller's password. There is no other parameter.
fn password(params: &Map<String, Value>) -> Result<Option<&str>, EngineError> {
    let mut password = None;
    for (name, value) in params {
        match (name.as_str(), value) {
            ("password", Value::String(given)) => password = Some(given.as_str()),
            ("password", Value::Null) => {}
            ("password", _) => {
                return Err(EngineError::new(
                    Code::InvalidParameter,
                    "the parameter `password` must be a string",
                ));
            }
            (unknown, _) => {
                return Err(EngineError::new(
                    Code::InvalidParameter,
                    format!("unknown parameter `{unknown}`: extract-text takes `password` only"),
                ));
            }
        }
    }
    Ok(password)
}

/// One line a format. `depth` counts the messages that the document came in.
fn extract(
    format: Format,
    document: &Document<'_>,
    reader: &Reader<'_>,
    depth: usize,
) -> Result<Extracted, EngineError> {
    match format {
        Format::Pdf => pdf::extract(document, reader),
        Format::Picture(_) => picture::extract(document, reader),
        Format::Office(kind) => office::extract(document, reader, kind),
        Format::Encrypted => office::extract_encrypted(document, reader),
        Format::OpenDocument(_) => odf::extract(document, reader),
        Format::Html => html::extract(document, reader),
        Format::Email => email::extract(document, reader, depth),
        Format::Outlook => outlook::extract(document, reader, depth),
        Format::Rtf => rtf::extract(document, reader),
        Format::Csv => csv::extract(document, reader),
        Format::Text | Format::Xml | Format::Json => text::extract(document, reader),
    }
}

/// Cleans what a reader found and joins its pages.
fn answer(
    format: Format,
    extracted: Extracted,
    options: &Options,
) -> Result<ExtractedText, EngineError> {
    let Extracted {
        mut pages,
        warnings,
    } = extracted;
    if pages.len() > options.max_pages as usize {
        return Err(too_many_pages(pages.len(), options));
    }
    for page in &mut pages {
        page.text = clean::text(&page.text);
        for line in &mut page.lines {
            line.text = clean::line(&line.text);
        }
        if page.text.is_empty() {
            page.confidence = 0.0;
        }
    }
    let texts: Vec<&str> = pages.iter().map(|page| page.text.as_str()).collect();
    Ok(ExtractedText {
        text: texts.join("\n\u{c}\n"),
        media_type: format.media_type().to_owned(),
        pages,
        warnings,
    })
}

fn too_many_pages(found: usize, options: &Options) -> EngineError {
    EngineError::new(
        Code::DocumentTooComplex,
        format!(
            "the document has {found} pages and the service reads at most {} (option `max_pages`)",
            options.max_pages
        ),
    )
}

pub(crate) fn no_such_page(number: u32, pages: usize) -> EngineError {
    EngineError::new(
        Code::BadRequest,
        format!("there is no page {number}: the document has {pages}"),
    )
}

/// A page whose text the file held.
fn text_page(number: usize, text: String) -> Page {
    Page {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        confidence: if text.trim().is_empty() { 0.0 } else { 1.0 },
        text,
        source: TextSource::TextLayer,
        ..Page::default()
    }
}

/// A page that was read from a picture.
fn from_ocr(number: u32, picture: &GrayImage, read: OcrPage) -> Page {
    let (width, height) = picture.dimensions();
    let size = match read.rotated {
        90 | 270 => [height, width],
        _ => [width, height],
    };
    Page {
        number,
        text: read.text,
        confidence: read.confidence,
        source: TextSource::Ocr,
        rotated: read.rotated,
        size: Some(size.map(f64::from)),
        lines: read.lines,
    }
}

/// A document without pages.
fn one_page(text: String) -> Extracted {
    Extracted {
        pages: vec![text_page(1, text)],
        warnings: Vec::new(),
    }
}

fn unreadable(detail: impl Into<String>) -> EngineError {
    EngineError::new(Code::UnreadableDocument, detail)
}
