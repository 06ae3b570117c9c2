//! PDF (ISO 32000): the text layer where a page has a sound one, else OCR of the rendered page.

mod direction;
mod garble;
mod glyphs;
mod layout;
mod open;
mod render;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use hayro::hayro_interpret::InterpreterCache;
use hayro::hayro_syntax::page::Page as Sheet;
use image::{GrayImage, RgbaImage};
use linkspan_model::Code;
use linkspan_model::answer::{Page, TextSource};

use self::garble::Layer;
use self::layout::Text;
use super::{Extracted, Reader, from_ocr, no_such_page};
use crate::engine::{Document, EngineError};

/// Resolution at which an identity document is rendered, in dots an inch: the lines of its zone are then some 30 pixels high.
const IDENTITY_DPI: u32 = 300;

/// Whether a file is a PDF: its header stands in the first kilobyte, where readers look for it.
pub(crate) fn is_pdf(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(1024)]
        .windows(5)
        .any(|window| window == b"%PDF-")
}

/// The first pages as pictures, for `proof-of-identity`.
///
/// # Errors
///
/// As [`extract`], and `unreadable-document` when no page can be rendered.
pub(crate) fn pictures(
    bytes: &[u8],
    password: Option<&str>,
    max_pages: usize,
    max_pixels: u64,
) -> Result<Vec<GrayImage>, EngineError> {
    let opened = open::open(bytes, password)?;
    let pages = opened.pdf.pages();
    let pictures: Vec<_> = pages
        .iter()
        .take(max_pages)
        .filter_map(|page| {
            // A panic of the renderer costs its page.
            catch_unwind(AssertUnwindSafe(|| {
                render::render(page, IDENTITY_DPI, max_pixels)
            }))
            .ok()
            .flatten()
        })
        .map(|rendered| rendered.picture)
        .collect();
    if pictures.is_empty() {
        return Err(EngineError::new(
            Code::UnreadableDocument,
            "no page of the PDF can be rendered",
        ));
    }
    Ok(pictures)
}

/// One page as a picture in colour whose longer side is at most so long, with its number of pages and its size in points.
///
/// # Errors
///
/// As [`extract`]; `bad-request` where there is no such page, `unreadable-document` where it cannot be rendered.
pub(crate) fn picture_of(
    bytes: &[u8],
    password: Option<&str>,
    number: u32,
    longest: u32,
) -> Result<(RgbaImage, usize, [f64; 2]), EngineError> {
    let opened = open::open(bytes, password)?;
    let pages = opened.pdf.pages();
    let page = (number as usize)
        .checked_sub(1)
        .and_then(|nth| pages.get(nth))
        .ok_or_else(|| no_such_page(number, pages.len()))?;
    let rendered = catch_unwind(AssertUnwindSafe(|| render::in_colour(page, longest)));
    let picture = rendered.ok().flatten().ok_or_else(|| {
        EngineError::new(
            Code::UnreadableDocument,
            format!("page {number} of the PDF cannot be rendered"),
        )
    })?;
    let (width, height) = page.render_dimensions();
    Ok((picture, pages.len(), [width.into(), height.into()]))
}

/// Reads a PDF page by page.
///
/// # Errors
///
/// `password-required` without the right password, `unreadable-document` when no page can be found, `document-too-complex` beyond
/// the options' limit of pages, and what the OCR engine answers.
pub(super) fn extract(
    document: &Document<'_>,
    reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    let opened = open::open(document.bytes, reader.password)?;
    let sheets = opened.pdf.pages();
    if sheets.len() > reader.options.max_pages as usize {
        return Err(EngineError::new(
            Code::DocumentTooComplex,
            format!(
                "the document has {} pages and the service reads {} at most (option max_pages)",
                sheets.len(),
                reader.options.max_pages
            ),
        ));
    }
    let mut run = Run {
        reader,
        warnings: opened.warnings,
        cache: InterpreterCache::new(),
    };
    let mut pages = Vec::with_capacity(sheets.len());
    for (number, sheet) in (1..).zip(sheets.iter()) {
        pages.push(run.page(number, sheet)?);
    }
    Ok(Extracted {
        pages,
        warnings: run.warnings,
    })
}

/// One document's reading.
struct Run<'r, 'pdf> {
    reader: &'r Reader<'r>,
    warnings: Vec<String>,
    /// The fonts that were read so far.
    cache: InterpreterCache<'pdf>,
}

impl<'pdf> Run<'_, 'pdf> {
    fn page(&mut self, number: u32, sheet: &Sheet<'pdf>) -> Result<Page, EngineError> {
        // A fault of the library costs this page only; what it may have left half done in the cache goes with it.
        let Ok(drawn) = catch_unwind(AssertUnwindSafe(|| glyphs::draw(sheet, &self.cache))) else {
            self.cache = InterpreterCache::new();
            return Ok(self.lost(number));
        };
        if drawn.glyphs.is_empty() && !drawn.graphics && open::content_is_lost(sheet) {
            return Ok(self.lost(number));
        }
        let unknown = drawn.glyphs.iter().filter(|glyph| !glyph.known).count();
        let guessed = unknown as f64 / drawn.glyphs.len().max(1) as f64;
        let Ok(layer) = catch_unwind(AssertUnwindSafe(|| layout::arrange(&drawn.glyphs))) else {
            return Ok(self.lost(number));
        };
        let letters = visible(&layer.text);
        if letters == 0 {
            if !drawn.graphics {
                return Ok(blank(number));
            }
            return Ok(match self.ocr(number, sheet)? {
                Some(read) => read,
                None => blank(number),
            });
        }
        match garble::judge(&layer.text, guessed) {
            // A scanner's or a fax machine's stamp over the picture of a page.
            Layer::Sound if letters < STAMP && drawn.picture >= MOST_OF_A_PAGE => {
                let read = self.ocr(number, sheet)?;
                Ok(
                    match read.filter(|read| {
                        visible(&read.text) * 2 > letters * 3 && read.confidence >= POOR
                    }) {
                        Some(read) => read,
                        None => from_layer(number, sheet, layer),
                    },
                )
            }
            Layer::Sound => {
                self.warn_of_unknown(number, unknown);
                Ok(from_layer(number, sheet, layer))
            }
            Layer::Garbled => {
                let read = self.ocr(number, sheet)?;
                Ok(match read.filter(|read| visible(&read.text) > 0) {
                    Some(read) if read.confidence < GOOD => {
                        self.warn(
                            number,
                            "its text layer is garbled, and OCR read the page with little confidence: \
                             are the document's languages among the service's?",
                        );
                        read
                    }
                    Some(read) => {
                        self.warn(
                            number,
                            "its text layer is garbled, so the page was read by OCR",
                        );
                        read
                    }
                    None => {
                        self.warn(
                            number,
                            "its text layer is garbled, and OCR found nothing on it",
                        );
                        from_layer(number, sheet, layer)
                    }
                })
            }
            Layer::Doubtful => Ok(self.better(number, sheet, layer, unknown)),
        }
    }

    /// Reads a page with a doubtful text layer by OCR as well and keeps what is clearly better.
    fn better(&mut self, number: u32, sheet: &Sheet<'pdf>, layer: Text, unknown: usize) -> Page {
        match self.ocr(number, sheet) {
            Ok(Some(read))
                if read.confidence >= GOOD
                    && garble::is_plausible(&read.text)
                    && !garble::is_plausible(&layer.text) =>
            {
                self.warn(
                    number,
                    "its text layer looks garbled, so the page was read by OCR",
                );
                read
            }
            Ok(_) => {
                self.warn_of_unknown(number, unknown);
                from_layer(number, sheet, layer)
            }
            Err(_) => {
                self.warn(
                    number,
                    "its text layer looks garbled, and OCR was not available to check it",
                );
                from_layer(number, sheet, layer)
            }
        }
    }

    /// Renders a page and reads it by OCR; `None` where it shows nothing.
    fn ocr(&mut self, number: u32, sheet: &Sheet<'pdf>) -> Result<Option<Page>, EngineError> {
        let options = self.reader.options;
        let rendered = catch_unwind(AssertUnwindSafe(|| {
            render::render(sheet, options.dpi, options.max_pixels)
        }));
        let Ok(Some(rendered)) = rendered else {
            self.warn(number, "the page could not be rendered for OCR");
            return Ok(None);
        };
        if let Some(dpi) = rendered.reduced_to {
            self.warn(
                number,
                &format!("the page is so large that it was read at {dpi} dots an inch"),
            );
        }
        if rendered.incomplete {
            self.warn(
                number,
                "a picture or a font on the page could not be decoded",
            );
        }
        if render::is_uniform(&rendered.picture) {
            return Ok(None);
        }
        let read = self
            .reader
            .ocr
            .read_page(&rendered.picture, &options.languages)?;
        Ok(Some(from_ocr(number, &rendered.picture, read)))
    }

    fn warn_of_unknown(&mut self, number: u32, glyphs: usize) {
        if glyphs > 0 {
            self.warn(
                number,
                "the file does not say which characters some of its glyphs stand for (U+FFFD in the text)",
            );
        }
    }

    fn lost(&mut self, number: u32) -> Page {
        self.warn(number, "the page is damaged and could not be read");
        blank(number)
    }

    fn warn(&mut self, number: u32, what: &str) {
        self.warnings.push(format!("page {number}: {what}"));
    }
}

/// A page with fewer visible characters than this, most of it a picture, may be a scan with a stamp.
const STAMP: usize = 100;
/// The share of a page from which on a picture is most of it.
const MOST_OF_A_PAGE: f64 = 0.5;
/// OCR below this confidence is no reading.
const POOR: f64 = 0.4;
/// OCR from this confidence on can replace a doubtful text layer.
const GOOD: f64 = 0.6;

fn visible(text: &str) -> usize {
    text.chars()
        .filter(|character| !character.is_whitespace())
        .count()
}

fn blank(number: u32) -> Page {
    Page {
        number,
        ..Page::default()
    }
}

fn from_layer(number: u32, sheet: &Sheet<'_>, layer: Text) -> Page {
    let (width, height) = sheet.render_dimensions();
    Page {
        number,
        text: layer.text,
        confidence: 1.0,
        source: TextSource::TextLayer,
        rotated: 0,
        size: Some([width.into(), height.into()]),
        lines: layer.lines,
    }
}
