//! PDFs made by hand, read with an OCR engine that notes its calls.

mod fixture;

use linkspan_model::Code;
use linkspan_model::answer::TextSource;
use proptest::prelude::*;

use self::fixture::{FakeOcr, Font, Sheet, document, pdf, read, read_with, text_at};
use crate::extract_text::Options;

const PROSE: &str = "The harbour board met on Tuesday and agreed to renew the lease of the north berth for five years.";

#[test]
fn a_text_layer_is_read_in_lines_with_their_places_and_without_ocr() {
    let content = [
        text_at(72.0, 700.0, "Lease agreement"),
        text_at(72.0, 680.0, "Berth 7, north quay"),
    ]
    .concat();
    let ocr = FakeOcr::saying("never asked");
    let page = read(&pdf(&[Sheet::with(&content)]), &ocr)
        .unwrap()
        .pages
        .remove(0);
    assert_eq!(page.text, "Lease agreement\nBerth 7, north quay\n");
    assert_eq!(
        (page.number, page.source, page.confidence),
        (1, TextSource::TextLayer, 1.0)
    );
    let [x, y, width, height] = page.lines[0].bounds.unwrap();
    // The baseline is 792 - 700 points below the top; the font is 12 points high.
    assert!(
        (x - 72.0).abs() < 0.1
            && (y + height - 92.0 - 2.4).abs() < 0.1
            && (height - 12.0).abs() < 0.1
    );
    assert!((70.0..100.0).contains(&width), "{width}");
    assert_eq!(ocr.calls(), []);
}

#[test]
fn paragraphs_stand_apart_by_a_blank_line() {
    let content: String = [700.0, 686.0, 672.0, 640.0, 626.0]
        .iter()
        .map(|y| text_at(72.0, *y, "One line of a paragraph"))
        .collect();
    let text = &read(&pdf(&[Sheet::with(&content)]), &FakeOcr::silent())
        .unwrap()
        .pages[0]
        .text;
    let line = "One line of a paragraph\n";
    assert_eq!(text, &format!("{line}{line}{line}\n{line}{line}"));
}

#[test]
fn a_page_without_text_is_rendered_at_the_dpi_and_read_by_ocr() {
    let options = Options {
        dpi: 144,
        ..Options::default()
    };
    let ocr = FakeOcr::saying("read from the picture");
    let page = read_with(&pdf(&[Sheet::scan()]), &ocr, &options, None)
        .unwrap()
        .pages
        .remove(0);
    assert_eq!(ocr.calls(), [(1224, 1584)]);
    assert_eq!(
        (page.source, page.text.as_str()),
        (TextSource::Ocr, "read from the picture\n")
    );
    assert_eq!(page.confidence, 0.9);
}

#[test]
fn a_mixed_file_is_read_page_by_page() {
    let ocr = FakeOcr::saying("scanned");
    let file = pdf(&[
        Sheet::with(&text_at(72.0, 700.0, "typed")),
        Sheet::scan(),
        Sheet::with(&text_at(72.0, 700.0, "typed again")),
    ]);
    let pages = read(&file, &ocr).unwrap().pages;
    let found: Vec<_> = pages
        .iter()
        .map(|page| (page.number, page.source, page.text.trim()))
        .collect();
    assert_eq!(
        found,
        [
            (1, TextSource::TextLayer, "typed"),
            (2, TextSource::Ocr, "scanned"),
            (3, TextSource::TextLayer, "typed again")
        ]
    );
    assert_eq!(ocr.calls().len(), 1);
}

#[test]
fn an_empty_page_has_empty_text_and_needs_neither_ocr_nor_warning() {
    let ocr = FakeOcr::saying("never asked");
    let white = "1 1 1 rg 0 0 612 792 re f";
    let extracted = read(&pdf(&[Sheet::with(""), Sheet::with(white)]), &ocr).unwrap();
    assert!(
        extracted
            .pages
            .iter()
            .all(|page| page.text.is_empty() && page.confidence == 0.0)
    );
    assert_eq!((extracted.warnings, ocr.calls()), (vec![], vec![]));
}

#[test]
fn a_turned_page_is_read_as_it_is_displayed() {
    // The text runs upwards on the page; /Rotate 90 turns it upright.
    let content = "BT /F1 12 Tf 0 1 -1 0 100 200 Tm (Turned text) Tj ET".to_owned();
    let sheet = || Sheet {
        rotate: 90,
        ..Sheet::with(&content)
    };
    let page = read(&pdf(&[sheet()]), &FakeOcr::silent())
        .unwrap()
        .pages
        .remove(0);
    assert_eq!(page.text, "Turned text\n");
    let [x, y, width, height] = page.lines[0].bounds.unwrap();
    assert!(
        (x - 200.0).abs() < 0.1 && (y + height - 102.4).abs() < 0.1 && width > 4.0 * height,
        "{x} {y} {width} {height}"
    );

    let ocr = FakeOcr::saying("scan");
    let scan = Sheet {
        rotate: 90,
        ..Sheet::scan()
    };
    let options = Options {
        dpi: 72,
        ..Options::default()
    };
    read_with(&pdf(&[scan]), &ocr, &options, None).unwrap();
    assert_eq!(ocr.calls(), [(792, 612)]);
}

#[test]
fn a_stamp_over_a_scan_does_not_pass_for_the_pages_text() {
    let mut sheet = Sheet::scan();
    sheet
        .content
        .push_str(&text_at(20.0, 20.0, "Scanned 2024-05-03"));
    let ocr = FakeOcr::saying(PROSE);
    let page = read(&pdf(&[sheet.clone()]), &ocr).unwrap().pages.remove(0);
    assert_eq!((page.source, page.text.trim()), (TextSource::Ocr, PROSE));
    // A picture page on which OCR finds no more than the layer holds keeps its layer.
    let page = read(&pdf(&[sheet]), &FakeOcr::saying("Scanned"))
        .unwrap()
        .pages
        .remove(0);
    assert_eq!(
        (page.source, page.text.trim()),
        (TextSource::TextLayer, "Scanned 2024-05-03")
    );
}

#[test]
fn a_garbled_layer_gives_way_to_ocr_with_a_warning() {
    let private: Vec<(u8, String)> = (b' '..=b'~')
        .map(|code| {
            (
                code,
                char::from_u32(0xe000 + u32::from(code))
                    .unwrap()
                    .to_string(),
            )
        })
        .collect();
    let shifted: Vec<(u8, String)> = (b'A'..=b'z')
        .map(|code| (code, char::from(code - 29).to_string()))
        .collect();
    for (map, warning) in [(private, "is garbled"), (shifted, "looks garbled")] {
        let sheet = Sheet {
            font: Font::mapped(&map),
            ..Sheet::with(&[text_at(40.0, 700.0, PROSE), text_at(40.0, 680.0, PROSE)].concat())
        };
        let ocr = FakeOcr::saying(PROSE);
        let extracted = read(&pdf(&[sheet]), &ocr).unwrap();
        assert_eq!(
            (extracted.pages[0].source, extracted.pages[0].text.trim()),
            (TextSource::Ocr, PROSE)
        );
        assert!(
            extracted.warnings[0].starts_with("page 1: ")
                && extracted.warnings[0].contains(warning),
            "{:?}",
            extracted.warnings
        );
    }
}

#[test]
fn part_numbers_keep_their_text_layer() {
    let codes = "XKCD-4471 BRKT-99 QWZ/7718 PCBX-2211 MNTG-004 GSKT-17";
    let content: String = (0..20)
        .map(|row| text_at(40.0, 740.0 - 20.0 * f64::from(row), codes))
        .collect();
    let page = read(&pdf(&[Sheet::with(&content)]), &FakeOcr::saying(codes))
        .unwrap()
        .pages
        .remove(0);
    assert_eq!(page.source, TextSource::TextLayer);
    assert!(page.text.starts_with(codes));
}

#[test]
fn right_to_left_text_comes_out_in_logical_order_however_it_is_stored() {
    // Codes A to E stand for the letters of SHALOM, X for a space; 4, 2 are digits.
    let map: Vec<(u8, String)> = [
        (b'A', "ש"),
        (b'B', "ל"),
        (b'C', "ו"),
        (b'D', "ם"),
        (b'E', "ע"),
        (b'X', " "),
    ]
    .iter()
    .map(|(code, text)| (*code, (*text).to_owned()))
    .chain((b'0'..=b'9').map(|code| (code, char::from(code).to_string())))
    .collect();
    let logical = "שלום עולם 42";
    // Drawn from left to right as it looks.
    let visual = text_at(100.0, 700.0, "42XDBCEXDCBA");
    // Drawn letter by letter in reading order, each to the left of the one before; the number from left to right.
    let mut stepwise = String::new();
    let mut x = 300.0;
    for letter in ["A", "B", "C", "D", "X", "E", "C", "B", "D", "X"] {
        x -= 12.0;
        stepwise.push_str(&text_at(x, 700.0, letter));
    }
    stepwise.push_str(&text_at(x - 14.0, 700.0, "42"));
    for (name, content) in [("visual", visual), ("stepwise", stepwise)] {
        let sheet = Sheet {
            font: Font::fixed(&map),
            ..Sheet::with(&content)
        };
        let text = read(&pdf(&[sheet]), &FakeOcr::silent())
            .unwrap()
            .pages
            .remove(0)
            .text;
        assert_eq!(text.trim(), logical, "{name}");
    }
}

#[test]
fn columns_of_prose_are_read_one_after_the_other_and_tables_row_by_row() {
    let column = |x: f64, name: &str| -> String {
        (0..6)
            .map(|row| {
                text_at(
                    x,
                    700.0 - 14.0 * f64::from(row),
                    &format!("{name} line {row} of some running prose"),
                )
            })
            .collect()
    };
    let page = [
        text_at(
            72.0,
            740.0,
            "A heading over both columns of this page, as wide as they are together",
        ),
        column(72.0, "left"),
        column(330.0, "right"),
    ]
    .concat();
    let text = read(&pdf(&[Sheet::with(&page)]), &FakeOcr::silent())
        .unwrap()
        .pages
        .remove(0)
        .text;
    let order: Vec<usize> = [
        "A heading",
        "left line 0",
        "left line 5",
        "right line 0",
        "right line 5",
    ]
    .iter()
    .map(|part| text.find(part).unwrap())
    .collect();
    assert!(order.is_sorted(), "{text}");

    let table: String = (0..6)
        .map(|row| {
            let y = 700.0 - 14.0 * f64::from(row);
            [
                text_at(72.0, y, &format!("item {row}")),
                text_at(250.0, y, "3 pieces"),
                text_at(400.0, y, "12.50"),
            ]
            .concat()
        })
        .collect();
    let text = read(&pdf(&[Sheet::with(&table)]), &FakeOcr::silent())
        .unwrap()
        .pages
        .remove(0)
        .text;
    assert!(
        text.starts_with("item 0 3 pieces 12.50\nitem 1 3 pieces 12.50\n"),
        "{text}"
    );
}

#[test]
fn overprinted_bold_is_read_once_and_spaced_out_print_as_words() {
    let twice = [text_at(72.0, 700.0, "Total"), text_at(72.3, 700.0, "Total")].concat();
    let spaced = format!(
        "BT /F1 12 Tf 3 Tc 72 660 Td (GRAND TOTAL) Tj 0 Tc ET {}",
        text_at(72.0, 640.0, "end")
    );
    let text = read(
        &pdf(&[Sheet::with(&[twice, spaced].concat())]),
        &FakeOcr::silent(),
    )
    .unwrap()
    .pages
    .remove(0)
    .text;
    assert_eq!(text, "Total\n\nGRAND TOTAL\nend\n");
}

#[test]
fn an_encrypted_document_opens_with_its_password_only() {
    let files: [(&str, &[u8]); 4] = [
        ("rc4-40", include_bytes!("tests/rc4-40.pdf")),
        ("rc4-128", include_bytes!("tests/rc4-128.pdf")),
        ("aes-128", include_bytes!("tests/aes-128.pdf")),
        ("aes-256", include_bytes!("tests/aes-256.pdf")),
    ];
    for (name, bytes) in files {
        let open = |password| read_with(bytes, &FakeOcr::silent(), &Options::default(), password);
        assert_eq!(
            open(Some("harbour-7")).unwrap().pages[0].text,
            "Lease of the north berth\n",
            "{name}"
        );
        let none = open(None).unwrap_err();
        assert_eq!(none.code, Code::PasswordRequired, "{name}");
        assert!(none.detail.contains("params.password"));
        let wrong = open(Some("harbor-7")).unwrap_err();
        assert_eq!(wrong.code, Code::PasswordRequired, "{name}");
        assert_eq!(wrong.detail, "the password does not open the document");
    }
}

#[test]
fn a_document_with_an_owner_password_only_opens_by_itself() {
    let text = &read(include_bytes!("tests/owner-only.pdf"), &FakeOcr::silent())
        .unwrap()
        .pages[0]
        .text;
    assert_eq!(text, "Lease of the north berth\n");
}

#[test]
fn more_pages_than_the_limit_are_refused() {
    let options = Options {
        max_pages: 2,
        ..Options::default()
    };
    let file = pdf(&[Sheet::with(""), Sheet::with(""), Sheet::with("")]);
    let error = read_with(&file, &FakeOcr::silent(), &options, None).unwrap_err();
    assert_eq!(error.code, Code::DocumentTooComplex);
    assert!(
        error.detail.contains("3 pages") && error.detail.contains("max_pages"),
        "{}",
        error.detail
    );
}

#[test]
fn a_page_of_too_many_pixels_is_read_at_a_lower_resolution_with_a_warning() {
    let options = Options {
        max_pixels: 612 * 792,
        ..Options::default()
    };
    let ocr = FakeOcr::saying("large");
    let extracted = read_with(&pdf(&[Sheet::scan()]), &ocr, &options, None).unwrap();
    let (width, height) = ocr.calls()[0];
    assert!(u64::from(width) * u64::from(height) <= options.max_pixels && width > 600);
    assert!(
        extracted.warnings[0].starts_with("page 1: ") && extracted.warnings[0].contains("72 dots"),
        "{:?}",
        extracted.warnings
    );
}

#[test]
fn a_truncated_document_gives_what_is_left_and_says_so() {
    let file = pdf(&[
        Sheet::with(&text_at(72.0, 700.0, "still here")),
        Sheet::with(&text_at(72.0, 700.0, "cut off")),
    ]);
    let cut = file
        .windows(4)
        .rposition(|window| window == b"xref")
        .unwrap();
    let extracted = read(&file[..cut - 60], &FakeOcr::silent()).unwrap();
    assert_eq!(extracted.pages[0].text, "still here\n");
    assert!(
        extracted.warnings[0].contains("its end is missing"),
        "{:?}",
        extracted.warnings
    );
}

#[test]
fn a_broken_page_costs_that_page_only() {
    let broken = Sheet {
        filter: Some("FlateDecode"),
        ..Sheet::with("this is not compressed")
    };
    let extracted = read(
        &pdf(&[Sheet::with(&text_at(72.0, 700.0, "first")), broken]),
        &FakeOcr::silent(),
    )
    .unwrap();
    assert_eq!(
        (
            extracted.pages[0].text.as_str(),
            extracted.pages[1].text.as_str()
        ),
        ("first\n", "")
    );
    assert_eq!(
        extracted.warnings,
        ["page 2: the page is damaged and could not be read"]
    );
}

#[test]
fn what_is_no_pdf_is_refused_with_what_is_wrong() {
    for (bytes, part) in [
        (b"a plain note".as_slice(), "not a PDF"),
        (b"%PDF-1.7\nand then nothing".as_slice(), "damaged"),
    ] {
        let error = read(bytes, &FakeOcr::silent()).unwrap_err();
        assert_eq!(error.code, Code::UnreadableDocument);
        assert!(error.detail.contains(part), "{}", error.detail);
    }
}

#[test]
fn without_ocr_a_scan_is_an_error_and_a_text_layer_is_not() {
    assert_eq!(
        read(&pdf(&[Sheet::scan()]), &FakeOcr::missing())
            .unwrap_err()
            .code,
        Code::EngineUnavailable
    );
    assert!(
        read(
            &pdf(&[Sheet::with(&text_at(72.0, 700.0, "typed"))]),
            &FakeOcr::missing()
        )
        .is_ok()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damage_never_panics(places in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..12), kept in 0.3..1.0_f64) {
        let mut bytes = pdf(&[Sheet::with(&text_at(72.0, 700.0, PROSE)), Sheet::scan()]);
        for (place, byte) in places {
            let at = (place * (bytes.len() - 1) as f64) as usize;
            bytes[at] = byte;
        }
        bytes.truncate((kept * bytes.len() as f64) as usize);
        let options = Options { dpi: 50, ..Options::default() };
        let _ = super::extract(&document(&bytes), &super::Reader { ocr: &FakeOcr::saying("x"), options: &options, password: None });
    }
}
