//! Opening a PDF: its password, and what is damaged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hayro::hayro_syntax::content::ops::TypedInstruction;
use hayro::hayro_syntax::object::{Array, Dict, Stream};
use hayro::hayro_syntax::page::Page;
use hayro::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use linkspan_model::Code;
use unicode_normalization::UnicodeNormalization as _;

use crate::engine::EngineError;

/// An open document.
pub(super) struct Opened {
    /// The document.
    pub(super) pdf: Pdf,
    /// What is damaged, and was repaired as far as possible.
    pub(super) warnings: Vec<String>,
}

/// Opens a document; an encrypted one with the empty password, else with the caller's (the user's or, for AES-256, the owner's).
///
/// # Errors
///
/// `password-required`, or `unreadable-document` with what is wrong.
pub(super) fn open(bytes: &[u8], password: Option<&str>) -> Result<Opened, EngineError> {
    let shared: Arc<Vec<u8>> = Arc::new(bytes.to_vec());
    let pdf = match load(&shared, "") {
        Err(LoadPdfError::Decryption(DecryptionError::PasswordProtected)) => {
            with_password(&shared, password)
        }
        other => other.map_err(|error| refusal(error, bytes)),
    }?;
    if pdf.pages().is_empty() {
        return Err(EngineError::new(
            Code::UnreadableDocument,
            "the PDF is damaged: no page can be found in it",
        ));
    }
    let warnings = damage(&pdf, bytes);
    Ok(Opened { pdf, warnings })
}

/// Whether a page that shows nothing has content all the same, of which nothing can be made out.
pub(super) fn content_is_lost(page: &Page<'_>) -> bool {
    let mut operations = page.typed_operations();
    while let Some(operation) = operations.next() {
        if !matches!(operation, TypedInstruction::Fallback(_)) {
            return false;
        }
    }
    let contents = page.raw();
    if let Some(stream) = contents.get::<Stream<'_>>(CONTENTS) {
        return stream.raw_data().len() > EMPTY_STREAM;
    }
    match contents.get::<Array<'_>>(CONTENTS) {
        Some(parts) => parts
            .iter::<Stream<'_>>()
            .any(|part| part.raw_data().len() > EMPTY_STREAM),
        // The entry is there, and what it points to is not.
        None => contents.contains_key(CONTENTS),
    }
}

fn with_password(shared: &Arc<Vec<u8>>, password: Option<&str>) -> Result<Pdf, EngineError> {
    let Some(password) = password else {
        return Err(EngineError::new(
            Code::PasswordRequired,
            "the document is encrypted: send its password in params.password",
        ));
    };
    // ISO 32000-2 normalises passwords (SASLprep, RFC 4013); older writers took what was typed.
    let normalised: String = password.nfkc().collect();
    match load(shared, password).or_else(|_| load(shared, &normalised)) {
        Err(LoadPdfError::Decryption(DecryptionError::PasswordProtected)) => Err(EngineError::new(
            Code::PasswordRequired,
            "the password does not open the document",
        )),
        other => other.map_err(|error| refusal(error, shared)),
    }
}

fn load(shared: &Arc<Vec<u8>>, password: &str) -> Result<Pdf, LoadPdfError> {
    catch_unwind(AssertUnwindSafe(|| {
        Pdf::new_with_password(Arc::clone(shared), password)
    }))
    .unwrap_or(Err(LoadPdfError::Invalid))
}

fn refusal(error: LoadPdfError, bytes: &[u8]) -> EngineError {
    let detail = match error {
        LoadPdfError::Decryption(DecryptionError::UnsupportedAlgorithm) => {
            "the PDF is encrypted in a way that is not supported (supported: RC4, AES-128 and AES-256 with a password)"
        }
        LoadPdfError::Decryption(_) => "the PDF is damaged: its encryption dictionary is not valid",
        LoadPdfError::Invalid if !contains(bytes, b"%PDF-") => {
            "the file is not a PDF: its %PDF header is missing"
        }
        LoadPdfError::Invalid => {
            "the PDF is damaged: neither its cross-reference table nor a page tree can be found"
        }
    };
    EngineError::new(Code::UnreadableDocument, detail)
}

/// What shows that a document is not whole.
fn damage(pdf: &Pdf, bytes: &[u8]) -> Vec<String> {
    let mut warnings = Vec::new();
    let tail = bytes
        .get(bytes.len().saturating_sub(TAIL)..)
        .unwrap_or(bytes);
    if !contains(tail, b"%%EOF") {
        warnings.push(
            "the PDF is damaged: its end is missing, so pages or parts of them may be missing too"
                .to_owned(),
        );
    }
    let promised = pdf
        .xref()
        .get::<Dict<'_>>(pdf.xref().root_id())
        .and_then(|catalog| catalog.get::<Dict<'_>>(PAGES))
        .and_then(|pages| pages.get::<u32>(COUNT));
    let found = pdf.pages().len();
    if let Some(promised) = promised.filter(|&promised| promised as usize > found) {
        warnings.push(format!(
            "the PDF is damaged: it says that it has {promised} pages, and {found} were found"
        ));
    }
    warnings
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The end of the file in which its end mark must be.
const TAIL: usize = 2048;
/// A compressed stream of nothing but white space is at most this long.
const EMPTY_STREAM: usize = 16;
const CONTENTS: &[u8] = b"Contents";
const PAGES: &[u8] = b"Pages";
const COUNT: &[u8] = b"Count";
