//! OCR by Tesseract, through its own library.
//!
//! The library is opened on the first call, not linked: a machine without it starts linkspan all the same, and [`status`] says what is
//! missing. A worker should be started with `OMP_THREAD_LIMIT=1` in its environment, because Tesseract's threads make it several
//! times slower on few cores; where OpenMP is GNU's, the library is told so at run time too. `TESSDATA_PREFIX` names another folder of
//! language data. A sandbox must let it read the shared libraries, that folder, and write `/dev/null`.

mod library;
mod page;

use std::sync::{Mutex, MutexGuard, PoisonError};

use image::GrayImage;
use linkspan_model::Code;
use serde::Serialize;

use self::library::{Handle, Library, NotStarted, Segmentation};
use super::{Ocr, OcrPage};
use crate::engine::EngineError;

/// Tesseract. Making one opens nothing.
#[derive(Default)]
pub struct Tesseract {
    state: Mutex<State>,
}

/// What is installed, for `linkspan doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The library's version.
    pub version: String,
    /// The folder that holds the language data.
    pub data_path: String,
    /// The languages whose data is there, by their Tesseract names, sorted.
    pub languages: Vec<String>,
}

/// Opens the library and looks what is installed.
///
/// # Errors
///
/// `engine-unavailable` when the library cannot be opened, with the package to install.
pub fn status() -> Result<Status, EngineError> {
    let library = open()?;
    let (data_path, languages) = match library.start("osd", &[]) {
        Ok(handle) => (handle.data_path(), handle.languages()),
        Err(NotStarted {
            data_path,
            languages,
        }) => (data_path, languages),
    };
    Ok(Status {
        version: library.version(),
        data_path,
        languages,
    })
}

impl Tesseract {
    /// Nothing is opened before the first call.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic between two calls leaves no half-made handle: each is put back only when it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ocr for Tesseract {
    fn label(&self) -> String {
        match &self.state().library {
            Some(library) => format!("tesseract {}", library.version()),
            None => "tesseract".to_owned(),
        }
    }

    fn languages(&self) -> Result<Vec<String>, EngineError> {
        self.state().installed().map(<[String]>::to_vec)
    }

    fn read_page(&self, picture: &GrayImage, languages: &[String]) -> Result<OcrPage, EngineError> {
        page::read(&mut self.state(), picture, languages)
    }

    fn read_block(
        &self,
        picture: &GrayImage,
        language: &str,
        characters: &str,
    ) -> Result<OcrPage, EngineError> {
        if picture.width() < page::SMALLEST || picture.height() < page::SMALLEST {
            return Ok(OcrPage::default());
        }
        let mut state = self.state();
        let characters = std::ffi::CString::new(characters).unwrap_or_default();
        let handle = state.handle(language, Kind::Block)?;
        handle.set(c"tessedit_char_whitelist", &characters);
        let words = handle.recognise(picture, page::DOTS_PER_INCH, Segmentation::Block);
        Ok(page::compose(&words, 1.0))
    }
}

/// What a handle is for: the variables that it was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Pages of text.
    Page,
    /// Blocks of codes: no dictionary.
    Block,
    /// Orientation only.
    Orientation,
}

/// The opened library and the instances kept warm.
#[derive(Default)]
struct State {
    library: Option<Library>,
    installed: Option<Vec<String>>,
    /// The least recently used first.
    warm: Vec<(String, Kind, Handle)>,
}

/// Instances kept warm: one for pages, one for orientation, one for codes. Each holds its languages' data.
const MOST_WARM: usize = 3;

impl State {
    fn library(&mut self) -> Result<Library, EngineError> {
        if self.library.is_none() {
            self.library = Some(open()?);
        }
        self.library
            .clone()
            .ok_or_else(|| missing_library("it is not open"))
    }

    fn installed(&mut self) -> Result<&[String], EngineError> {
        if self.installed.is_none() {
            let library = self.library()?;
            self.installed = Some(match library.start("osd", &[]) {
                Ok(handle) => {
                    let languages = handle.languages();
                    self.keep("osd".to_owned(), Kind::Orientation, handle);
                    languages
                }
                Err(not_started) => not_started.languages,
            });
        }
        Ok(self.installed.as_deref().unwrap_or_default())
    }

    /// A warm instance, or a new one.
    fn handle(&mut self, languages: &str, kind: Kind) -> Result<&mut Handle, EngineError> {
        let warm = self
            .warm
            .iter()
            .position(|(name, purpose, _)| name == languages && *purpose == kind);
        if let Some(index) = warm {
            let used = self.warm.remove(index);
            self.warm.push(used);
        } else {
            let handle = self.start(languages, kind)?;
            self.keep(languages.to_owned(), kind, handle);
        }
        match self.warm.last_mut() {
            Some((_, _, handle)) => Ok(handle),
            None => Err(EngineError::new(
                Code::Internal,
                "The OCR engine lost its instance.",
            )),
        }
    }

    fn keep(&mut self, languages: String, kind: Kind, handle: Handle) {
        if self.warm.len() >= MOST_WARM {
            self.warm.remove(0);
        }
        self.warm.push((languages, kind, handle));
    }

    fn start(&mut self, languages: &str, kind: Kind) -> Result<Handle, EngineError> {
        let installed = self.installed()?.to_vec();
        for language in languages.split('+') {
            let plausible = !language.is_empty()
                && language
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/'));
            if !plausible {
                return Err(EngineError::new(
                    Code::InvalidParameter,
                    format!(
                        "`{}` is not the name of an OCR language: names are like `eng`, `deu` or `chi_sim`.",
                        language.escape_debug()
                    ),
                ));
            }
            if !installed.iter().any(|name| name == language) {
                return Err(missing_language(language));
            }
        }
        let variables = match kind {
            Kind::Block => [
                (c"load_system_dawg", c"0"),
                (c"load_freq_dawg", c"0"),
                (c"load_number_dawg", c"0"),
            ]
            .as_slice(),
            Kind::Page | Kind::Orientation => &[],
        };
        self.library()?.start(languages, variables).map_err(|not_started| {
            EngineError::new(
                Code::EngineUnavailable,
                format!(
                    "Tesseract could not load the data of `{languages}` in {}: it is damaged or of another version. Reinstall its package.",
                    not_started.data_path
                ),
            )
        })
    }
}

fn open() -> Result<Library, EngineError> {
    Library::open().map_err(|error| missing_library("it cannot be opened").because(error))
}

fn missing_library(why: &str) -> EngineError {
    EngineError::new(
        Code::EngineUnavailable,
        format!(
            "OCR needs the library libtesseract.so.5, and {why}: install the package tesseract-ocr (libtesseract5)."
        ),
    )
}

fn missing_language(language: &str) -> EngineError {
    // Debian names the packages so: chi_sim is in tesseract-ocr-chi-sim.
    let package = language.to_ascii_lowercase().replace('_', "-");
    let package = match package.strip_prefix("script/") {
        Some(script) => format!("tesseract-ocr-script-{script}"),
        None => format!("tesseract-ocr-{package}"),
    };
    EngineError::new(
        Code::EngineUnavailable,
        format!("OCR has no data for the language `{language}`: install the package {package}."),
    )
}

#[cfg(test)]
mod tests;
