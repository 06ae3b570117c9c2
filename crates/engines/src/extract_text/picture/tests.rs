//! The formats, over an OCR that only looks at what it gets.

use std::sync::Mutex;

use super::*;
use crate::extract_text::Options;
use crate::ocr::{Ocr, OcrPage};

/// A picture's width and height, whether its upper left corner is light, and whether anything in it is dark.
type Look = (u32, u32, bool, bool);

/// Remembers the pictures' sizes, and whether the upper left corner is light and anything is dark.
#[derive(Default)]
struct Looks(Mutex<Vec<Look>>);

impl Ocr for Looks {
    fn label(&self) -> String {
        "looks".to_owned()
    }

    fn read_page(&self, picture: &GrayImage, _: &[String]) -> Result<OcrPage, EngineError> {
        let light = picture.get_pixel(0, 0).0[0] > 200;
        let dark = picture.pixels().any(|pixel| pixel.0[0] < 100);
        self.0
            .lock()
            .unwrap()
            .push((picture.width(), picture.height(), light, dark));
        Ok(OcrPage::default())
    }

    fn read_block(&self, _: &GrayImage, _: &str, _: &str) -> Result<OcrPage, EngineError> {
        Ok(OcrPage::default())
    }
}

fn fixture(file: &str) -> Vec<u8> {
    let path = format!(
        "{}/../../fixtures/images/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn look(bytes: &[u8], options: &Options) -> (Result<Extracted, EngineError>, Vec<Look>) {
    let ocr = Looks::default();
    let reader = Reader {
        ocr: &ocr,
        options,
        password: None,
    };
    let document = Document {
        bytes,
        media_type: None,
        file_name: None,
    };
    let extracted = extract(&document, &reader);
    (extracted, ocr.0.into_inner().unwrap())
}

#[test]
fn every_format_gives_dark_letters_on_light_paper() {
    for file in [
        "notice.png",
        "notice.jpg",
        "notice.webp",
        "notice-16-bit.png",
        "notice-cmyk.jpg",
        "notice-transparent.png",
        "notice-fax.tiff",
        "notice-exif-6.jpg",
    ] {
        let (extracted, seen) = look(&fixture(file), &Options::default());
        let extracted = extracted.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(extracted.warnings, Vec::<String>::new(), "{file}");
        assert_eq!(seen.len(), 1, "{file}");
        let (width, height, light, dark) = seen[0];
        assert!(light && dark, "{file}");
        assert!(
            width < height,
            "{file} stands upright, also where only EXIF says so: {width} × {height}"
        );
    }
}

#[test]
fn bmp_gif_and_tiff_of_many_depths_are_read() {
    let page = GrayImage::from_fn(40, 60, |x, y| {
        image::Luma([if x > 10 && y > 10 { 0 } else { 255 }])
    });
    let page = DynamicImage::ImageLuma8(page);
    let pictures = [
        (ImageFormat::Bmp, page.to_rgb8().into()),
        (ImageFormat::Gif, page.to_rgba8().into()),
        (ImageFormat::Tiff, page.clone()),
        (ImageFormat::Tiff, page.to_rgb8().into()),
        (ImageFormat::Tiff, page.to_rgba8().into()),
        (ImageFormat::Tiff, page.to_luma16().into()),
        (ImageFormat::Tiff, page.to_rgb16().into()),
        (ImageFormat::Tiff, page.to_rgb32f().into()),
        (ImageFormat::Png, DynamicImage::from(page.to_luma_alpha16())),
    ];
    for (format, picture) in pictures {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        let (extracted, seen) = look(bytes.get_ref(), &Options::default());
        extracted.unwrap_or_else(|error| panic!("{format:?} {:?}: {error}", picture.color()));
        assert_eq!(
            seen,
            [(40, 60, true, true)],
            "{format:?} {:?}",
            picture.color()
        );
    }
}

#[test]
fn a_tiff_gives_all_its_pages_up_to_the_limit() {
    for file in ["log-3-pages-g4.tiff", "log-3-pages-lzw.tiff"] {
        let (extracted, seen) = look(&fixture(file), &Options::default());
        let numbers: Vec<u32> = extracted
            .unwrap()
            .pages
            .iter()
            .map(|page| page.number)
            .collect();
        assert_eq!(numbers, [1, 2, 3], "{file}");
        assert!(
            seen.iter().all(|(.., light, dark)| *light && *dark),
            "{file}"
        );
        let (refused, _) = look(
            &fixture(file),
            &Options {
                max_pages: 2,
                ..Options::default()
            },
        );
        assert_eq!(
            refused.unwrap_err().code,
            Code::DocumentTooComplex,
            "{file}"
        );
    }
}

#[test]
fn a_picture_over_the_limit_is_refused_by_its_header() {
    for file in ["notice.png", "notice.jpg", "notice.webp", "notice-fax.tiff"] {
        let (refused, seen) = look(
            &fixture(file),
            &Options {
                max_pixels: 10_000,
                ..Options::default()
            },
        );
        let error = refused.unwrap_err();
        assert_eq!(error.code, Code::DocumentTooComplex, "{file}: {error}");
        assert!(error.detail.contains("10000"), "{file}: {error}");
        assert!(seen.is_empty(), "{file}");
    }
}

#[test]
fn what_is_left_of_a_cut_off_picture_is_read_with_a_warning() {
    for file in ["notice.png", "notice.jpg"] {
        let bytes = fixture(file);
        let (extracted, seen) = look(&bytes[..bytes.len() / 2], &Options::default());
        let extracted = extracted.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(
            extracted.warnings.len(),
            1,
            "{file}: {:?}",
            extracted.warnings
        );
        assert!(
            extracted.warnings[0].contains("cut off"),
            "{file}: {:?}",
            extracted.warnings
        );
        assert!(seen[0].3, "{file}: something dark is left");
    }
}

#[test]
fn damaged_pictures_and_other_files_are_told_apart() {
    let (unreadable, _) = look(&fixture("damaged-not-a-picture.png"), &Options::default());
    assert_eq!(unreadable.unwrap_err().code, Code::UnreadableDocument);
    for bytes in [b"%PDF-1.7".as_slice(), b"", b"Dear customer"] {
        let (other, _) = look(bytes, &Options::default());
        assert_eq!(other.unwrap_err().code, Code::UnsupportedMediaType);
        assert!(!is_picture(bytes));
    }
}

#[test]
fn cutting_or_flipping_bytes_never_panics() {
    for file in ["log-3-pages-g4.tiff", "tiny.png", "notice-120-dpi.jpg"] {
        let bytes = fixture(file);
        let options = Options {
            max_pixels: 4_000_000,
            ..Options::default()
        };
        for part in 0..24 {
            let mut broken = bytes[..bytes.len() * (part + 1) / 24].to_vec();
            let place = broken.len() * 5 / 7;
            if let Some(byte) = broken.get_mut(place) {
                *byte ^= 0x5a;
            }
            let (extracted, _) = look(&broken, &options);
            if let Err(error) = extracted {
                assert!(
                    matches!(
                        error.code,
                        Code::UnreadableDocument
                            | Code::DocumentTooComplex
                            | Code::UnsupportedMediaType
                    ),
                    "{file}: {error}"
                );
            }
        }
    }
}
