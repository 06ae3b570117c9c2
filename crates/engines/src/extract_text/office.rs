//! Word, Excel and PowerPoint files, old (MS-DOC, MS-XLS, MS-PPT) and new (OOXML), by `office_oxide`.

mod render;
mod sheets;

use std::io::Cursor;

use linkspan_model::Code;
use office_oxide::options::ParseOptions;
use office_oxide::{Document as OfficeDocument, DocumentFormat, OfficeError};

use super::format::OfficeKind;
use super::package::Package;
use super::{Extracted, Reader, clean, text_page, unreadable};
use crate::engine::{Document, EngineError};

pub(super) fn extract(
    document: &Document<'_>,
    reader: &Reader<'_>,
    kind: OfficeKind,
) -> Result<Extracted, EngineError> {
    let max_unpacked = reader.options.max_unpacked;
    if matches!(kind, OfficeKind::Docx | OfficeKind::Xlsx | OfficeKind::Pptx) {
        Package::open(document.bytes, max_unpacked)?.measure()?;
    }
    let mut options = ParseOptions::default();
    options.limits.package_bytes = max_unpacked;
    options.limits.part_bytes = max_unpacked;
    options.limits.text_chars = usize::try_from(max_unpacked).unwrap_or(usize::MAX);
    let content = Cursor::new(document.bytes.to_vec());
    let file = OfficeDocument::from_reader_with(content, format(kind), &options)
        .map_err(|error| refused(kind, error))?;
    let mut extracted = Extracted::default();
    let texts = match (file.as_xlsx(), file.as_xls()) {
        (Some(workbook), _) => sheets::xlsx(workbook, &mut extracted.warnings),
        (_, Some(workbook)) => sheets::xls(workbook, &mut extracted.warnings),
        _ => render::pages(&file.to_ir(), kind, &mut extracted.warnings),
    };
    let mut notices = 0;
    for (number, text) in (1..).zip(texts) {
        let text = without_notices(&text, &mut notices);
        extracted
            .pages
            .push(text_page(number, clean::few_blank_lines(&text)));
    }
    if extracted.warnings.is_empty() {
        extracted
            .warnings
            .extend(damage_warning(notices, notices > 0));
    }
    Ok(extracted)
}

/// A package that is encrypted as a whole (MS-OFFCRYPTO).
pub(super) fn extract_encrypted(
    _document: &Document<'_>,
    reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    Err(encrypted(reader.password.is_some()))
}

fn encrypted(password_given: bool) -> EngineError {
    let detail = if password_given {
        "the Office file is encrypted with a scheme that linkspan does not decrypt: save it without a password and send it again"
    } else {
        "the Office file is encrypted: save it without a password and send it again"
    };
    EngineError::new(Code::PasswordRequired, detail)
}

fn format(kind: OfficeKind) -> DocumentFormat {
    match kind {
        OfficeKind::Docx => DocumentFormat::Docx,
        OfficeKind::Xlsx => DocumentFormat::Xlsx,
        OfficeKind::Pptx => DocumentFormat::Pptx,
        OfficeKind::Doc => DocumentFormat::Doc,
        OfficeKind::Xls => DocumentFormat::Xls,
        OfficeKind::Ppt => DocumentFormat::Ppt,
    }
}

/// What the library's refusal means to the caller.
fn refused(kind: OfficeKind, error: OfficeError) -> EngineError {
    use office_oxide::core::Error as Core;
    use office_oxide::doc::DocError;
    use office_oxide::docx::DocxError;
    use office_oxide::ppt::PptError;
    use office_oxide::pptx::PptxError;
    use office_oxide::xls::XlsError;
    use office_oxide::xlsx::XlsxError;
    let name = match kind {
        OfficeKind::Docx | OfficeKind::Doc => "Word document",
        OfficeKind::Xlsx | OfficeKind::Xls => "Excel workbook",
        OfficeKind::Pptx | OfficeKind::Ppt => "PowerPoint presentation",
    };
    let core = match &error {
        OfficeError::Core(core)
        | OfficeError::Docx(DocxError::Core(core))
        | OfficeError::Xlsx(XlsxError::Core(core))
        | OfficeError::Pptx(PptxError::Core(core)) => Some(core),
        OfficeError::Doc(DocError::Encrypted)
        | OfficeError::Xls(XlsError::Encrypted)
        | OfficeError::Ppt(PptError::Encrypted) => return encrypted(false).because(error),
        _ => None,
    };
    let what = match core {
        Some(Core::DecompressionLimit { .. } | Core::PackageLimit(_)) => {
            return EngineError::new(
                Code::DocumentTooComplex,
                format!(
                    "the {name} unpacks to more than the service reads (option `max_unpacked`)"
                ),
            )
            .because(error);
        }
        Some(Core::MissingPart(_)) => "a part that it needs is missing",
        Some(Core::TruncatedPart(_)) => "one of its parts is cut off",
        Some(Core::Xml(_) | Core::XmlAttr(_) | Core::MalformedXml(_)) => {
            "one of its parts is not well-formed XML"
        }
        Some(Core::DuplicatePart(_)) => "it holds the same part twice",
        _ => "its structure cannot be read",
    };
    unreadable(format!("the {name} is damaged: {what}")).because(error)
}

/// The library writes what it left out into the text, as a bracketed line. That belongs to the warnings.
fn without_notices(text: &str, found: &mut usize) -> String {
    const STARTS: [&str; 16] = [
        "[skipped unreadable part ",
        "[unreadable slide ",
        "[unreadable sheet ",
        "[sheet \"",
        "[content nested too deeply ",
        "[nested table deeper ",
        "[nested tables deeper ",
        "[text box nested too deeply ",
        "[some pictures not shown: ",
        "[some merged cell ranges ",
        "[embedded package repeated: ",
        "[sheet truncated: ",
        "[workbook truncated: ",
        "[output truncated: ",
        "[comments truncated: ",
        "[pivot cache truncated: ",
    ];
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with('[')
            && line.ends_with(']')
            && STARTS.iter().any(|start| line.starts_with(start))
        {
            *found += 1;
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// One warning for all that the library repaired or left out: its own sentences quote the file.
fn damage_warning(count: usize, truncated: bool) -> Option<String> {
    (count > 0 || truncated).then(|| {
        let what = if truncated {
            "text is missing"
        } else {
            "text may be missing"
        };
        format!(
            "the file is damaged or unusual in {} places: {what}",
            count.max(1)
        )
    })
}

#[cfg(test)]
mod tests;
