//! A writer of small PDFs, and an OCR engine that says the same of every picture.

use std::sync::Mutex;

use image::GrayImage;
use linkspan_model::Code;
use linkspan_model::answer::Line;

use crate::engine::{Document, EngineError};
use crate::extract_text::{Extracted, Options, Reader};
use crate::ocr::{Ocr, OcrPage};

/// An OCR engine that gives one answer and notes the sizes of the pictures it is shown.
pub(super) struct FakeOcr {
    answer: Option<String>,
    calls: Mutex<Vec<(u32, u32)>>,
}

impl FakeOcr {
    pub(super) fn saying(text: &str) -> Self {
        Self {
            answer: Some(text.to_owned()),
            calls: Mutex::default(),
        }
    }

    pub(super) fn silent() -> Self {
        Self::saying("")
    }

    pub(super) fn missing() -> Self {
        Self {
            answer: None,
            calls: Mutex::default(),
        }
    }

    pub(super) fn calls(&self) -> Vec<(u32, u32)> {
        self.calls.lock().unwrap().clone()
    }
}

impl Ocr for FakeOcr {
    fn label(&self) -> String {
        "fake".to_owned()
    }

    fn read_page(&self, picture: &GrayImage, _: &[String]) -> Result<OcrPage, EngineError> {
        self.calls.lock().unwrap().push(picture.dimensions());
        let Some(answer) = &self.answer else {
            return Err(EngineError::new(
                Code::EngineUnavailable,
                "OCR is not installed",
            ));
        };
        if answer.is_empty() {
            return Ok(OcrPage::default());
        }
        Ok(OcrPage {
            lines: vec![Line {
                text: answer.clone(),
                confidence: 0.9,
                bounds: Some([1.0, 1.0, 2.0, 2.0]),
            }],
            text: format!("{answer}\n"),
            confidence: 0.9,
            rotated: 0,
        })
    }

    fn read_block(
        &self,
        picture: &GrayImage,
        language: &str,
        _: &str,
    ) -> Result<OcrPage, EngineError> {
        self.read_page(picture, &[language.to_owned()])
    }
}

pub(super) fn document(bytes: &[u8]) -> Document<'_> {
    Document {
        bytes,
        media_type: None,
        file_name: None,
    }
}

pub(super) fn read(bytes: &[u8], ocr: &FakeOcr) -> Result<Extracted, EngineError> {
    read_with(bytes, ocr, &Options::default(), None)
}

pub(super) fn read_with(
    bytes: &[u8],
    ocr: &FakeOcr,
    options: &Options,
    password: Option<&str>,
) -> Result<Extracted, EngineError> {
    super::super::extract(
        &document(bytes),
        &Reader {
            ocr,
            options,
            password,
        },
    )
}

/// A page of 612 by 792 points.
#[derive(Clone)]
pub(super) struct Sheet {
    pub(super) content: String,
    pub(super) rotate: u32,
    pub(super) font: Font,
    pub(super) filter: Option<&'static str>,
}

impl Sheet {
    pub(super) fn with(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            rotate: 0,
            font: Font::default(),
            filter: None,
        }
    }

    /// A page filled by a picture of two by two pixels.
    pub(super) fn scan() -> Self {
        Self::with("q 612 0 0 792 0 0 cm BI /W 2 /H 2 /CS /G /BPC 8 /F /AHx ID 00FFFF00> EI Q\n")
    }
}

/// The font F1 of a page: Helvetica, or one that maps codes to other characters.
#[derive(Clone, Default)]
pub(super) struct Font {
    to_unicode: Option<String>,
    fixed: bool,
}

impl Font {
    /// Helvetica whose codes are said to stand for these texts.
    pub(super) fn mapped(map: &[(u8, String)]) -> Self {
        let lines: String = map
            .iter()
            .map(|(code, text)| {
                let units: String = text
                    .encode_utf16()
                    .map(|unit| format!("{unit:04X}"))
                    .collect();
                format!("<{code:02X}> <{units}>\n")
            })
            .collect();
        let cmap = format!(
            "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /M def /CMapType 2 def\n\
             1 begincodespacerange <00> <FF> endcodespacerange\n{} beginbfchar\n{lines}endbfchar endcmap end end",
            map.len()
        );
        Self {
            to_unicode: Some(cmap),
            fixed: false,
        }
    }

    /// The same with all letters of one width.
    pub(super) fn fixed(map: &[(u8, String)]) -> Self {
        Self {
            fixed: true,
            ..Self::mapped(map)
        }
    }
}

/// Content that shows a text in 12 points.
pub(super) fn text_at(x: f64, y: f64, text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('(', "\\(")
        .replace(')', "\\)");
    format!("BT /F1 12 Tf {x} {y} Td ({escaped}) Tj ET\n")
}

/// A whole document.
pub(super) fn pdf(sheets: &[Sheet]) -> Vec<u8> {
    let kids: String = (0..sheets.len())
        .map(|index| format!("{} 0 R ", 3 + 4 * index))
        .collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{kids}] /Count {} >>", sheets.len()),
    ];
    for (index, sheet) in sheets.iter().enumerate() {
        let first = 3 + 4 * index;
        let (content, font, map) = (first + 1, first + 2, first + 3);
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Rotate {} /Contents {content} 0 R \
             /Resources << /Font << /F1 {font} 0 R >> >> >>",
            sheet.rotate
        ));
        let filter = sheet
            .filter
            .map(|name| format!("/Filter /{name}"))
            .unwrap_or_default();
        objects.push(format!(
            "<< /Length {} {filter} >>\nstream\n{}\nendstream",
            sheet.content.len(),
            sheet.content
        ));
        let base = if sheet.font.fixed {
            "Courier"
        } else {
            "Helvetica"
        };
        let mapping = sheet
            .font
            .to_unicode
            .as_ref()
            .map(|_| format!("/ToUnicode {map} 0 R"))
            .unwrap_or_default();
        objects.push(format!("<< /Type /Font /Subtype /Type1 /BaseFont /{base} /Encoding /WinAnsiEncoding {mapping} >>"));
        let cmap = sheet.font.to_unicode.clone().unwrap_or_default();
        objects.push(format!(
            "<< /Length {} >>\nstream\n{cmap}\nendstream",
            cmap.len()
        ));
    }
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(&objects) {
        places.push(file.len());
        file.extend(format!("{number} 0 obj\n{object}\nendobj\n").bytes());
    }
    let table = file.len();
    file.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for place in places {
        file.extend(format!("{place:010} 00000 n \n").bytes());
    }
    file.extend(
        format!(
            "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n",
            objects.len() + 1
        )
        .bytes(),
    );
    file
}
