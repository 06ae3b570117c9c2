//! Documents that are packages of parts: ZIP (OPC and `OpenDocument`) and compound files.

use std::io::Cursor;

use office_oxide::cfb::CfbReader;

use super::{Format, OfficeKind, OpenKind, unsupported};
use crate::engine::EngineError;
use crate::extract_text::package::Package;
use crate::extract_text::unreadable;

/// Tells a ZIP file by its `mimetype` part (`OpenDocument`), its content types (OPC), or the names of its parts.
pub(super) fn zip(bytes: &[u8], max_unpacked: u64) -> Result<Format, EngineError> {
    let mut package = Package::open(bytes, max_unpacked)?;
    if let Some(media_type) = package.text_part("mimetype")? {
        let media_type = media_type.trim();
        if let Some(kind) = open_kind(media_type) {
            return Ok(Format::OpenDocument(kind));
        }
        if media_type.starts_with("application/epub") {
            return Err(unsupported("an EPUB book", "save it as PDF"));
        }
    }
    let types = package
        .text_part("[Content_Types].xml")?
        .unwrap_or_default();
    let parts = [
        (
            OfficeKind::Docx,
            "wordprocessingml",
            "ms-word.",
            "word/document.xml",
        ),
        (
            OfficeKind::Xlsx,
            "spreadsheetml",
            "ms-excel.",
            "xl/workbook.xml",
        ),
        (
            OfficeKind::Pptx,
            "presentationml",
            "ms-powerpoint.",
            "ppt/presentation.xml",
        ),
    ];
    for (kind, open_type, microsoft_type, main_part) in parts {
        if package.has(main_part) || is_main_type(&types, open_type, microsoft_type) {
            return Ok(Format::Office(kind));
        }
    }
    if package.has("content.xml") && package.has("META-INF/manifest.xml") {
        let manifest = package
            .text_part("META-INF/manifest.xml")?
            .unwrap_or_default();
        let kind = manifest
            .split('"')
            .find_map(open_kind)
            .unwrap_or(OpenKind::Text);
        return Ok(Format::OpenDocument(kind));
    }
    if !types.is_empty() {
        return Err(unsupported(
            "an Office package of another kind than Word, Excel or PowerPoint",
            "",
        ));
    }
    Err(unsupported(
        "a ZIP archive",
        "unpack it and send the files in it",
    ))
}

/// Whether an override of the content types declares a main part of this family.
fn is_main_type(types: &str, open_type: &str, microsoft_type: &str) -> bool {
    types.split('"').any(|value| {
        value.contains(".main") && (value.contains(open_type) || value.contains(microsoft_type))
    })
}

/// The kind of an `OpenDocument` media type, templates included.
pub(super) fn open_kind(media_type: &str) -> Option<OpenKind> {
    let kind = media_type.strip_prefix("application/vnd.oasis.opendocument.")?;
    Some(match kind.split('-').next()? {
        "text" => OpenKind::Text,
        "spreadsheet" => OpenKind::Spreadsheet,
        "presentation" => OpenKind::Presentation,
        "graphics" => OpenKind::Drawing,
        _ => return None,
    })
}

/// Tells a compound file (MS-CFB) by its streams.
pub(super) fn compound_file(bytes: &[u8]) -> Result<Format, EngineError> {
    let file = CfbReader::new(Cursor::new(bytes)).map_err(|error| {
        unreadable("the document is a damaged Office compound file: its directory cannot be read")
            .because(error)
    })?;
    if file.has_stream("EncryptedPackage") {
        return Ok(Format::Encrypted);
    }
    if file.has_stream("WordDocument") {
        return Ok(Format::Office(OfficeKind::Doc));
    }
    if file.has_stream("Workbook") || file.has_stream("Book") {
        return Ok(Format::Office(OfficeKind::Xls));
    }
    if file.has_stream("PowerPoint Document") {
        return Ok(Format::Office(OfficeKind::Ppt));
    }
    if file.has_stream("__properties_version1.0") {
        return Ok(Format::Outlook);
    }
    Err(unsupported(
        "a compound file of another kind than Word, Excel, PowerPoint or Outlook",
        "",
    ))
}
