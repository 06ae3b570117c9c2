//! `extract-text`: the text of a document, page by page, whatever its format.
//!
//! One format is one file here with an `extract` function and its line in [`extract`]'s match.

pub(crate) mod picture;

use linkspan_model::answer::Page;
use serde::Deserialize;

use crate::ocr::Ocr;

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
