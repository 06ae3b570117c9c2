//! RTF, written out.

use proptest::prelude::*;

use crate::extract_text::testing::{hinted, text_of};

#[test]
fn rtf_is_read() {
    let cases = [
        (
            r"{\rtf1\ansi Hello \b bold\b0  text.\par Next\line line\par}",
            "Hello bold text.\nNext\nline",
        ),
        (
            r"{\rtf1\ansi\ansicpg1252 Stra\'dfe f\'fcr \'80 5\par}",
            "Straße für € 5",
        ),
        (
            r"{\rtf1\ansi\ansicpg1251 \'cf\'f0\'e8\'e2\'e5\'f2}",
            "Привет",
        ),
        (r"{\rtf1\ansi\uc1 \u1055?\u1088?\u1080?}", "При"),
        (
            r"{\rtf1\ansi\uc2 \u8364\'80\'80 x {\uc0 \u228 b}\u252ueu}",
            "€ x äbüu",
        ),
        (r"{\rtf1\ansi\u-10179?\u-8704?!}", "😀!"),
        (
            r"{\rtf1\ansi{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Times;}}\f1 \'ef\'f0\f0 \'e4}",
            "прä",
        ),
        (
            r"{\rtf1\ansi{\fonttbl{\f0\fnil Arial;}}{\colortbl;\red0;}{\*\generator X;}{\info{\title T}}Body}",
            "Body",
        ),
        (
            r"{\rtf1 {\pict\pngblip 89504e47}seen {\v hidden}{\deleted gone}end}",
            "seen end",
        ),
        (
            r"{\rtf1 a\~b \{c\} \\d \emdash  \lquote e\rquote}",
            "a\u{a0}b {c} \\d — ‘e’",
        ),
        (
            r"{\rtf1\trowd\cellx100\cellx200 A1\cell B1\cell\row\trowd A2\cell B2\cell\row\pard After\par}",
            "A1\tB1\nA2\tB2\nAfter",
        ),
        (
            r#"{\rtf1 {\field{\*\fldinst HYPERLINK "http://example.com"}{\fldrslt the link}} x}"#,
            "the link x",
        ),
        ("{\\rtf1 {\\bin5 }}}}}kept}}", "kept"),
        (
            r"{\rtf1{\header Head\par}{\footnote note} Text{\footnote Note}}",
            "Head\n Text\nnote\nNote",
        ),
        (
            r"{\rtf1\trowd\cellx1\cellx2\pard\intbl one\par two\cell three\cell\row\pard End\par}",
            "one two\tthree\nEnd",
        ),
    ];
    for (rtf, expected) in cases {
        let read = hinted(rtf.as_bytes(), "application/rtf").unwrap();
        assert_eq!(read.text, expected, "{rtf}");
        assert_eq!(read.warnings, Vec::<String>::new(), "{rtf}");
    }
}

#[test]
fn double_byte_code_pages_are_read() {
    let rtf = r"{\rtf1\ansi\ansicpg932 \'93\'fa\'96\'7b\'8c\'ea}";
    assert_eq!(text_of(rtf.as_bytes(), ""), "日本語");
}

#[test]
fn a_cut_document_is_read_with_a_warning() {
    let read = hinted(br"{\rtf1\ansi First\par Second {\b bo", "").unwrap();
    assert_eq!(read.text, "First\nSecond bo");
    assert!(read.warnings[0].contains("cut off"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_input_panics(tail in proptest::collection::vec(
        prop_oneof![Just(b'\\'), Just(b'{'), Just(b'}'), Just(b'\''), Just(b'u'), Just(b'c'), Just(b'9'), Just(b'-'), any::<u8>()], 0..80)) {
        let rtf = [b"{\\rtf1 ".as_slice(), &tail].concat();
        prop_assert!(hinted(&rtf, "application/rtf").is_ok());
    }
}
