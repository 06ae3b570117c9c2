//! Tests that need the library and the languages eng and osd: packages tesseract-ocr, tesseract-ocr-eng, tesseract-ocr-osd.

use super::*;

const PACKAGES: &str =
    "install the packages tesseract-ocr, tesseract-ocr-eng and tesseract-ocr-osd";

fn picture(file: &str) -> GrayImage {
    let path = format!("{}/../../fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
    image::open(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .into_luma8()
}

fn read(picture: &GrayImage) -> OcrPage {
    Tesseract::new()
        .read_page(picture, &["eng".to_owned()])
        .expect(PACKAGES)
}

#[test]
fn status_names_the_library_and_its_languages() {
    let status = status().expect(PACKAGES);
    assert!(
        status
            .version
            .starts_with(|first: char| first.is_ascii_digit()),
        "{status:?}"
    );
    for language in ["eng", "osd"] {
        assert!(
            status.languages.iter().any(|name| name == language),
            "{PACKAGES}: {status:?}"
        );
    }
}

#[test]
fn the_version_is_in_the_label_once_the_library_is_open() {
    let tesseract = Tesseract::new();
    assert_eq!(tesseract.label(), "tesseract");
    tesseract.languages().expect(PACKAGES);
    assert!(
        tesseract.label().starts_with("tesseract "),
        "{}",
        tesseract.label()
    );
}

#[test]
fn a_page_is_read_whichever_way_it_lies() {
    for (file, rotation) in [
        ("images/photo-rotated-0.jpg", 0),
        ("images/photo-rotated-90.jpg", 90),
        ("images/photo-rotated-180.jpg", 180),
        ("images/photo-rotated-270.jpg", 270),
        ("images/skewed-minus-5.jpg", 0),
    ] {
        let page = read(&picture(file));
        assert!(
            page.text.starts_with("Notice to passengers\n\n"),
            "{file}: {}",
            page.text
        );
        // The files' names say how far clockwise each must be turned.
        assert_eq!(page.rotated, rotation, "{file}");
        assert!(page.confidence > 0.85, "{file}: {}", page.confidence);
    }
}

#[test]
fn lines_come_with_their_boxes_and_the_text_is_made_of_them() {
    let picture = picture("images/notice.png");
    let page = read(&picture);
    let joined: Vec<&str> = page.lines.iter().map(|line| line.text.as_str()).collect();
    let spoken: Vec<&str> = page.text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(joined, spoken);
    let mut below = 0.0;
    for line in &page.lines {
        let [x, y, width, height] = line.bounds.expect("every line has a box");
        assert!(
            x >= 0.0 && x + width <= f64::from(picture.width()) + 2.0,
            "{line:?}"
        );
        assert!(
            y >= below - 20.0 && y + height <= f64::from(picture.height()) + 2.0,
            "{line:?}"
        );
        below = y;
    }
}

#[test]
fn a_picture_without_text_gives_no_text() {
    for file in [
        "images/blank.png",
        "images/landscape.jpg",
        "images/tiny.png",
    ] {
        let page = read(&picture(file));
        assert_eq!(page.text, "", "{file}");
        assert_eq!(page.confidence.to_bits(), 0.0_f64.to_bits(), "{file}");
        assert!(page.lines.is_empty(), "{file}");
    }
    assert_eq!(read(&GrayImage::new(1, 1)), OcrPage::default());
}

#[test]
fn the_same_picture_gives_the_same_page() {
    let tesseract = Tesseract::new();
    let picture = picture("images/notice-120-dpi.jpg");
    let read = || {
        tesseract
            .read_page(&picture, &["eng".to_owned()])
            .expect(PACKAGES)
    };
    assert_eq!(read(), read());
}

#[test]
fn a_missing_language_names_its_package() {
    for (language, package) in [
        ("xyz_sim", "tesseract-ocr-xyz-sim"),
        ("script/Xyz", "tesseract-ocr-script-xyz"),
    ] {
        let error = Tesseract::new()
            .read_page(&GrayImage::new(100, 100), &[language.to_owned()])
            .expect_err("there is no such language");
        assert_eq!(error.code, Code::EngineUnavailable);
        assert!(error.detail.contains(package), "{}", error.detail);
    }
    for language in ["", "../eng", "eng deu"] {
        let error = Tesseract::new()
            .read_page(&GrayImage::new(100, 100), &[language.to_owned()])
            .expect_err("that is no name");
        assert_eq!(error.code, Code::InvalidParameter, "{language}");
    }
}

#[test]
fn a_block_holds_only_the_characters_asked_for() {
    let digits = Tesseract::new()
        .read_block(&picture("images/notice.png"), "eng", "0123456789")
        .expect(PACKAGES);
    assert!(!digits.text.is_empty());
    assert!(
        digits
            .text
            .chars()
            .all(|letter| letter.is_ascii_digit() || letter.is_whitespace()),
        "{}",
        digits.text
    );
}
