//! `proof-of-identity`, first form: passports, cards and visas by their machine-readable zone (ICAO 9303).
//!
//! The zone is found and read ([`search`]), put into its format ([`zone`]) and judged ([`judge`]). Check digits guard numbers and dates, and
//! not names: a name that was not read the same way several times makes a person look.

mod cells;
mod dates;
mod judge;
mod names;
mod repair;
mod search;
mod zone;

use image::GrayImage;
use jiff::civil::Date;
use linkspan_model::{Answer, Code, Task};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::judge::Claim;
use self::search::Outcome;
use crate::engine::{Builtin, Document, EngineError, Input, Isolation, Work};
use crate::extract_text::pdf;
use crate::extract_text::picture::{self, Most};
use crate::ocr::Ocr;
use crate::ocr::tesseract::Tesseract;

/// The built-in `proof-of-identity` engine.
pub struct IdentityByZone {
    ocr: Box<dyn Ocr>,
}

/// The options of a `proof-of-identity` service (`[service.NAME.options]`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Most pixels of one page's picture; beyond it `document-too-complex`.
    pub max_pixels: u64,
    /// Pages that are searched; later ones are left alone.
    pub max_pages: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_pages: 4,
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
        let wrong = |what: &str| {
            EngineError::new(
                Code::InvalidParameter,
                format!("the service's options: {what}"),
            )
        };
        let parsed: Self = serde_json::from_value(Value::Object(options.clone()))
            .map_err(|error| wrong(&error.to_string()))?;
        if parsed.max_pixels == 0 || parsed.max_pages == 0 {
            return Err(wrong("`max_pixels` and `max_pages` must be at least 1"));
        }
        Ok(parsed)
    }
}

// === impl IdentityByZone ===

impl IdentityByZone {
    /// The engine over Tesseract.
    #[must_use]
    pub fn new() -> Self {
        Self::with_ocr(Box::new(Tesseract::new()))
    }

    /// The engine over another OCR.
    #[must_use]
    pub fn with_ocr(ocr: Box<dyn Ocr>) -> Self {
        Self { ocr }
    }

    fn pictures(
        &self,
        document: &Document<'_>,
        password: Option<&str>,
        options: &Options,
    ) -> Result<Vec<GrayImage>, EngineError> {
        if picture::is_picture(document.bytes) {
            let mut pictures = Vec::new();
            let most = Most {
                pixels: options.max_pixels,
                pages: u32::MAX,
            };
            // Later pages of a long TIFF are not kept.
            picture::each_page(document, most, &mut |page| {
                if pictures.len() < options.max_pages as usize {
                    pictures.push(page);
                }
                Ok(())
            })?;
            return Ok(pictures);
        }
        if pdf::is_pdf(document.bytes) {
            return pdf::pictures(
                document.bytes,
                password,
                options.max_pages as usize,
                options.max_pixels,
            );
        }
        Err(EngineError::new(
            Code::UnsupportedMediaType,
            "an identity document must be a picture: send a scan or photo as PNG, JPEG, WebP, TIFF or PDF",
        ))
    }
}

impl Default for IdentityByZone {
    fn default() -> Self {
        Self::new()
    }
}

impl Builtin for IdentityByZone {
    fn task(&self) -> Task {
        Task::ProofOfIdentity
    }

    fn label(&self) -> String {
        format!("builtin/{}", self.ocr.label())
    }

    fn isolation(&self) -> Isolation {
        Isolation::Worker
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["as-of", "password"]
    }

    fn check_options(&self, options: &Map<String, Value>) -> Result<(), String> {
        Options::parse(options)
            .map(drop)
            .map_err(|error| error.detail)
    }

    /// Takes a picture; of the parameters, `as-of` (`YYYY-MM-DD`, today where absent): the day on which the document must be valid.
    fn perform(&self, work: &Work<'_>) -> Result<Answer, EngineError> {
        let Input::Document(document) = work.input else {
            return Err(EngineError::new(
                Code::UnsupportedMediaType,
                "proof-of-identity takes a picture of a document, not a text.",
            ));
        };
        let options = Options::parse(work.options)?;
        let as_of = as_of(work.params)?;
        let claim = work.claim.map(Claim::parse).transpose()?;
        let password = work.params.get("password").and_then(Value::as_str);
        let mut outcome = Outcome::Nothing;
        for picture in self.pictures(&document, password, &options)? {
            match search::search(self.ocr.as_ref(), &picture)? {
                Outcome::Nothing => {}
                Outcome::Unreadable => outcome = Outcome::Unreadable,
                found @ Outcome::Zone(_) => {
                    outcome = found;
                    break;
                }
            }
        }
        Ok(Answer::ProofOfIdentity(judge::judge(
            &outcome,
            as_of,
            claim.as_ref(),
        )))
    }
}

fn as_of(params: &Map<String, Value>) -> Result<Date, EngineError> {
    match params.get("as-of") {
        None => Ok(jiff::Zoned::now().date()),
        Some(value) => value
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| {
                EngineError::new(
                    Code::InvalidParameter,
                    "The parameter `as-of` must be a date like \"2026-07-31\".",
                )
            }),
    }
}

#[cfg(test)]
mod tests;
