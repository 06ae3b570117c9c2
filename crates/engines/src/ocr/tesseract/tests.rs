//! Tests that need the library, the languages eng and osd.

use super::*;

#[test]
fn status_names_the_library_and_its_languages() {
    let status = status()
        .expect("install the packages tesseract-ocr, tesseract-ocr-eng and tesseract-ocr-osd");
    assert!(
        status
            .version
            .starts_with(|first: char| first.is_ascii_digit()),
        "{status:?}"
    );
    assert!(
        status.languages.iter().any(|language| language == "eng"),
        "{status:?}"
    );
    assert!(
        status.languages.iter().any(|language| language == "osd"),
        "{status:?}"
    );
}
