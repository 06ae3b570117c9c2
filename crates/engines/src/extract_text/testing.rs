//! What the tests of the formats share: small documents, made in memory, and a reader without OCR.

use std::io::Write;

use image::GrayImage;
use linkspan_model::Code;
use linkspan_model::answer::ExtractedText;

use super::{Options, Reader};
use crate::engine::{Document, EngineError};
use crate::ocr::{Ocr, OcrPage};

/// An OCR engine that is not installed.
pub(super) struct NoOcr;

impl Ocr for NoOcr {
    fn label(&self) -> String {
        "no-ocr".to_owned()
    }

    fn read_page(&self, _: &GrayImage, _: &[String]) -> Result<OcrPage, EngineError> {
        Err(EngineError::new(
            Code::EngineUnavailable,
            "no OCR in this test",
        ))
    }

    fn read_block(&self, _: &GrayImage, _: &str, _: &str) -> Result<OcrPage, EngineError> {
        Err(EngineError::new(
            Code::EngineUnavailable,
            "no OCR in this test",
        ))
    }
}

pub(super) fn document(bytes: &[u8]) -> Document<'_> {
    Document {
        bytes,
        media_type: None,
        file_name: None,
    }
}

pub(super) fn read_with(
    document: &Document<'_>,
    options: &Options,
    password: Option<&str>,
) -> Result<ExtractedText, EngineError> {
    super::read(
        document,
        &Reader {
            ocr: &NoOcr,
            options,
            password,
        },
    )
}

pub(super) fn read(bytes: &[u8]) -> Result<ExtractedText, EngineError> {
    read_with(&document(bytes), &Options::default(), None)
}

pub(super) fn read_within(bytes: &[u8], max_unpacked: u64) -> Result<ExtractedText, EngineError> {
    let options = Options {
        max_unpacked,
        ..Options::default()
    };
    read_with(&document(bytes), &options, None)
}

pub(super) fn hinted(bytes: &[u8], media_type: &str) -> Result<ExtractedText, EngineError> {
    let document = Document {
        media_type: Some(media_type),
        ..document(bytes)
    };
    read_with(&document, &Options::default(), None)
}

pub(super) fn text_of(bytes: &[u8], media_type: &str) -> String {
    hinted(bytes, media_type).unwrap().text
}

pub(super) fn zip(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in parts {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// An OPC package: its main part, that part's content type, and further parts with their types.
pub(super) fn opc(main: &str, parts: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut types = String::from(
        r#"<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>"#,
    );
    for (name, content_type, _) in parts {
        if !content_type.is_empty() {
            types.push_str(&format!(
                r#"<Override PartName="/{name}" ContentType="application/vnd.openxmlformats-officedocument.{content_type}+xml"/>"#
            ));
        }
    }
    types.push_str("</Types>");
    let rels = format!(
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="{main}"/></Relationships>"#
    );
    let mut files: Vec<(&str, &[u8])> = vec![
        ("[Content_Types].xml", types.as_bytes()),
        ("_rels/.rels", rels.as_bytes()),
    ];
    files.extend(
        parts
            .iter()
            .map(|(name, _, content)| (*name, content.as_bytes())),
    );
    zip(&files)
}

/// Relationships of a part: id, last word of the type, target.
pub(super) fn rels(relationships: &[(&str, &str, &str)]) -> String {
    let mut xml = String::from(
        r#"<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">"#,
    );
    for (id, kind, target) in relationships {
        xml.push_str(&format!(
            r#"<Relationship Id="{id}" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}" Target="{target}"/>"#
        ));
    }
    xml.push_str("</Relationships>");
    xml
}

pub(super) const WORD: &str = r#"xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships""#;

pub(super) fn docx(body: &str) -> Vec<u8> {
    let main =
        format!(r#"<?xml version="1.0"?><w:document {WORD}><w:body>{body}</w:body></w:document>"#);
    opc(
        "word/document.xml",
        &[("word/document.xml", "wordprocessingml.document.main", &main)],
    )
}

const ODF: &str = r#"xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0""#;

fn odf(kind: &str, element: &str, body: &str) -> Vec<u8> {
    let content = format!(
        r#"<?xml version="1.0"?><office:document-content {ODF}><office:body><office:{element}>{body}</office:{element}></office:body></office:document-content>"#
    );
    let media_type = format!("application/vnd.oasis.opendocument.{kind}");
    zip(&[
        ("mimetype", media_type.as_bytes()),
        ("content.xml", content.as_bytes()),
    ])
}

pub(super) fn odt_content(body: &str) -> String {
    format!(
        r#"<?xml version="1.0"?><office:document-content {ODF}><office:body><office:text>{body}</office:text></office:body></office:document-content>"#
    )
}

pub(super) fn odt(body: &str) -> Vec<u8> {
    odf("text", "text", body)
}

pub(super) fn ods(body: &str) -> Vec<u8> {
    odf("spreadsheet", "spreadsheet", body)
}

pub(super) fn odp(body: &str) -> Vec<u8> {
    odf("presentation", "presentation", body)
}

/// A compound file (MS-CFB, version 3) of streams, in at most one level of storages. Its cutoff of 0 keeps every stream out of the
/// mini stream; siblings form a list.
pub(super) fn compound_file(streams: &[(&str, &[u8])]) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    const END: u32 = u32::MAX - 1;
    struct Entry {
        name: String,
        kind: u8,
        right: u32,
        child: u32,
        start: u32,
        size: usize,
    }
    let entry = |name: &str, kind, start, size| Entry {
        name: name.to_owned(),
        kind,
        right: NONE,
        child: NONE,
        start,
        size,
    };
    let mut fat: Vec<u32> = Vec::new();
    let mut data: Vec<u8> = Vec::new();
    let mut append = |content: &[u8]| {
        let start = fat.len() as u32;
        let sectors = content.len().div_ceil(512).max(1);
        fat.extend((1..sectors as u32).map(|next| start + next));
        fat.push(END);
        data.extend_from_slice(content);
        data.resize(fat.len() * 512, 0);
        start
    };
    let mut entries = vec![entry("Root Entry", 5, END, 0)];
    let link = |entries: &mut Vec<Entry>, parent: usize, child: Entry| {
        let id = entries.len();
        let mut child = child;
        child.right = entries[parent].child;
        entries[parent].child = id as u32;
        entries.push(child);
        id
    };
    for (path, content) in streams {
        let start = append(content);
        let (parent, name) = match path.split_once('/') {
            None => (0, *path),
            Some((storage, name)) => {
                let known = entries.iter().position(|e| e.name == storage);
                (
                    known.unwrap_or_else(|| link(&mut entries, 0, entry(storage, 1, 0, 0))),
                    name,
                )
            }
        };
        link(&mut entries, parent, entry(name, 2, start, content.len()));
    }
    let mut directory = Vec::new();
    for e in &entries {
        let mut record = [0; 128];
        for (at, unit) in e.name.encode_utf16().enumerate() {
            record[at * 2..at * 2 + 2].copy_from_slice(&unit.to_le_bytes());
        }
        record[0x40] = (e.name.len() * 2 + 2) as u8;
        record[0x42] = e.kind;
        record[0x43] = 1;
        for (at, id) in [
            (0x44, NONE),
            (0x48, e.right),
            (0x4c, e.child),
            (0x74, e.start),
        ] {
            record[at..at + 4].copy_from_slice(&id.to_le_bytes());
        }
        record[0x78..0x7c].copy_from_slice(&(e.size as u32).to_le_bytes());
        directory.extend_from_slice(&record);
    }
    let directory_start = append(&directory);
    let fat_start = fat.len() as u32;
    fat.push(u32::MAX - 2);
    assert!(fat.len() <= 128, "one FAT sector");
    fat.resize(128, NONE);
    data.extend(fat.iter().flat_map(|next| next.to_le_bytes()));
    let mut header = vec![0; 512];
    header[..8].copy_from_slice(&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]);
    for (at, half) in [
        (0x18, 0x3e),
        (0x1a, 3),
        (0x1c, 0xfffe),
        (0x1e, 9),
        (0x20, 6u16),
    ] {
        header[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    for (at, word) in [
        (0x2c, 1),
        (0x30, directory_start),
        (0x3c, END),
        (0x44, END),
        (0x4c, fat_start),
    ] {
        header[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    header[0x50..].fill(0xff);
    [header, data].concat()
}
