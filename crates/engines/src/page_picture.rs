//! Pictures of a document's pages for people: what a console shows beside the answer.
//!
//! Documents are parsed here too, so it runs in a worker process like the engines, as `linkspan worker page-picture`.

use std::io::Cursor;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat};
use linkspan_model::Code;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::{Document, EngineError};
use crate::extract_text::picture::Most;
use crate::extract_text::{no_such_page, pdf, picture};
use crate::host::event::{Event, Performed};
use crate::worker::Performs;

/// What the worker is called, and the argument that starts it.
pub const PAGE_PICTURE: &str = "page-picture";

/// The longer side of a picture, in pixels; what is smaller stays as it is.
pub const LONGEST: u32 = 1600;

/// What the worker does.
#[derive(Clone, Copy, Debug)]
pub struct PagePictures;

/// What page is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageRequest {
    /// The page's number, from 1.
    pub page: u32,
    /// The degrees (0, 90, 180, 270) by which it is turned clockwise.
    #[serde(default)]
    pub turn: u16,
    /// The document's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// A page as a picture.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct PagePicture {
    /// How many pages the document has.
    pub pages: usize,
    /// The page's width and height before it is turned: points of a PDF, pixels of a picture.
    pub size: [f64; 2],
    /// The picture, PNG (ISO/IEC 15948), in Base64.
    pub png: String,
}

/// The picture of a page.
///
/// # Errors
///
/// `unsupported-media-type` for what is neither a PDF nor a picture, `bad-request` where there is no such page, `password-required`,
/// `unreadable-document`, `document-too-complex`.
pub fn page_picture(
    document: &Document<'_>,
    params: &Map<String, Value>,
) -> Result<PagePicture, EngineError> {
    // The parser's words are left out: they may quote the password.
    let request: PageRequest = serde_json::from_value(Value::Object(params.clone()))
        .map_err(|_| EngineError::new(Code::BadRequest, "page must be a number from 1"))?;
    let (picture, pages, size) = if pdf::is_pdf(document.bytes) {
        let password = request.password.as_deref();
        let (picture, pages, size) =
            pdf::picture_of(document.bytes, password, request.page, LONGEST)?;
        (DynamicImage::ImageRgba8(picture), pages, size)
    } else {
        of_picture(document, request.page)?
    };
    let turned = match request.turn {
        90 => picture.rotate90(),
        180 => picture.rotate180(),
        270 => picture.rotate270(),
        _ => picture,
    };
    let mut png = Cursor::new(Vec::new());
    turned
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|error| {
            EngineError::new(Code::Internal, "the page's picture cannot be written").because(error)
        })?;
    Ok(PagePicture {
        pages,
        size,
        png: BASE64_STANDARD.encode(png.get_ref()),
    })
}

/// A page of a picture file, with the number of its pages and its size.
fn of_picture(
    document: &Document<'_>,
    wanted: u32,
) -> Result<(DynamicImage, usize, [f64; 2]), EngineError> {
    let most = Most {
        pixels: MAX_PIXELS,
        pages: MAX_PAGES,
    };
    let mut pages = 0_u32;
    let mut found = None;
    picture::each_page(document, most, &mut |page| {
        pages += 1;
        if pages == wanted {
            found = Some(page);
        }
        Ok(())
    })?;
    let page = found.ok_or_else(|| no_such_page(wanted, pages as usize))?;
    let (width, height) = page.dimensions();
    let size = [width.into(), height.into()];
    let page = DynamicImage::ImageLuma8(page);
    let page = if width.max(height) > LONGEST {
        page.resize(LONGEST, LONGEST, FilterType::Triangle)
    } else {
        page
    };
    Ok((page, pages as usize, size))
}

/// As the defaults of `extract-text`.
const MAX_PIXELS: u64 = 100_000_000;
const MAX_PAGES: u32 = 500;

impl Performs for PagePictures {
    fn perform(&self, event: &Event, file: &[u8]) -> Result<Performed, EngineError> {
        let document = event
            .document(file)
            .ok_or_else(|| EngineError::new(Code::Internal, "The worker was given no document."))?;
        let picture = page_picture(&document, &event.params)?;
        let answer = serde_json::to_value(picture).map_err(|_| {
            EngineError::new(Code::Internal, "the picture cannot be written as JSON")
        })?;
        Ok(Performed {
            engine: PAGE_PICTURE.to_owned(),
            answer,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    const SPECIMENS: [&str; 4] = [
        "bills/bill-scan.pdf",
        "identity/passport-rotated-90.png",
        "images/notice-exif-6.jpg",
        "images/log-3-pages-g4.tiff",
    ];

    fn picture(file: &str, params: &Value) -> Result<(PagePicture, DynamicImage), Code> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures")
            .join(file);
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let document = Document {
            bytes: &bytes,
            media_type: None,
            file_name: None,
        };
        let page =
            page_picture(&document, params.as_object().unwrap()).map_err(|error| error.code)?;
        let png = BASE64_STANDARD.decode(&page.png).unwrap();
        let shown = image::load_from_memory_with_format(&png, ImageFormat::Png).unwrap();
        Ok((page, shown))
    }

    #[test]
    fn a_page_is_shown_in_its_proportions_and_turned_as_asked() {
        for file in SPECIMENS {
            let (upright, shown) = picture(file, &json!({ "page": 1 })).unwrap();
            let [width, height] = upright.size;
            let (columns, rows) = (f64::from(shown.width()), f64::from(shown.height()));
            assert!((width / height - columns / rows).abs() < 0.01, "{file}");
            assert!(columns.max(rows) <= f64::from(LONGEST) + 1.0, "{file}");
            let (_, turned) = picture(file, &json!({ "page": 1, "turn": 90 })).unwrap();
            assert_eq!(
                (turned.width(), turned.height()),
                (shown.height(), shown.width()),
                "{file}"
            );
            let grey = shown.to_luma8();
            assert!(
                grey.pixels().any(|pixel| pixel.0[0] < 96),
                "{file}: nothing is drawn on it"
            );
        }
    }

    #[test]
    fn what_cannot_be_shown_is_refused_by_its_reason() {
        for (file, params, code) in [
            (SPECIMENS[0], json!({ "page": 99 }), Code::BadRequest),
            (SPECIMENS[0], json!({ "page": 0 }), Code::BadRequest),
            (SPECIMENS[0], json!({}), Code::BadRequest),
            (
                "truth.json",
                json!({ "page": 1 }),
                Code::UnsupportedMediaType,
            ),
        ] {
            assert_eq!(picture(file, &params).err(), Some(code), "{file} {params}");
        }
    }
}
