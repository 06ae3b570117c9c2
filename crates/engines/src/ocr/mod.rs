//! Reading text from pictures.

pub mod tesseract;

pub(crate) mod raster;

use image::GrayImage;
use linkspan_model::answer::Line;

use crate::engine::EngineError;

/// An OCR engine.
///
/// Called from one thread at a time. Opening the library and its language data happens on the first call and is kept.
pub trait Ocr: Send + Sync {
    /// The engine and its version: `tesseract 5.3.0`.
    fn label(&self) -> String;

    /// The languages whose data is installed, by the names that the other methods take; none where the engine cannot say.
    ///
    /// # Errors
    ///
    /// `engine-unavailable` when the library is missing.
    fn languages(&self) -> Result<Vec<String>, EngineError> {
        Ok(Vec::new())
    }

    /// Reads a whole page: finds its orientation, straightens its skew, and reads its lines in reading order.
    ///
    /// # Errors
    ///
    /// `engine-unavailable` when the library or a language's data is missing, with the package to install.
    fn read_page(&self, picture: &GrayImage, languages: &[String]) -> Result<OcrPage, EngineError>;

    /// Reads a picture as it stands, as one block of text, with only the characters given.
    ///
    /// # Errors
    ///
    /// As [`Ocr::read_page`].
    fn read_block(
        &self,
        picture: &GrayImage,
        language: &str,
        characters: &str,
    ) -> Result<OcrPage, EngineError>;
}

/// What was read from a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OcrPage {
    /// The lines, in reading order; paragraphs are set apart in [`OcrPage::text`].
    pub lines: Vec<Line>,
    /// The text, lines ended by `\n`, a blank line between paragraphs; right-to-left text in logical order.
    pub text: String,
    /// The mean of the words' confidences, 0 to 1; 0 where nothing was read.
    pub confidence: f64,
    /// The degrees (0, 90, 180, 270) by which the picture was turned clockwise to stand upright.
    pub rotated: u16,
}
