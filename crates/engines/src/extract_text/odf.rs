//! `OpenDocument` text, spreadsheets, presentations and drawings (ISO/IEC 26300), packed or flat.

mod elements;
mod walk;

use linkspan_model::Code;

use self::walk::Walk;
use super::package::Package;
use super::{Extracted, Reader, clean, text_page, unreadable};
use crate::engine::{Document, EngineError};

pub(super) fn extract(
    document: &Document<'_>,
    reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    let max = reader.options.max_unpacked;
    let mut warnings = Vec::new();
    let mut walk = Walk::new(max);
    if document.bytes.starts_with(b"PK") {
        let mut package = Package::open(document.bytes, max)?;
        let manifest = package
            .text_part("META-INF/manifest.xml")
            .ok()
            .flatten()
            .unwrap_or_default();
        if manifest.contains("encryption-data") {
            return Err(EngineError::new(
                Code::PasswordRequired,
                "the OpenDocument file is encrypted, and linkspan does not decrypt this format: save it without a password and send it again",
            ));
        }
        let content = package.text_part("content.xml")?.ok_or_else(|| {
            unreadable("the OpenDocument file is damaged: its part content.xml is missing")
        })?;
        walk.read(&content)?;
        // Headers and footers stand with the styles.
        match package.text_part("styles.xml") {
            Ok(Some(styles)) => walk.read(&styles)?,
            Ok(None) => {}
            Err(error) if error.code == Code::DocumentTooComplex => return Err(error),
            Err(_) => warnings.push(
                "the part styles.xml is damaged: headers and footers may be missing".to_owned(),
            ),
        }
    } else {
        let flat =
            super::text::decode(document.bytes, super::text::declared_in_xml(document.bytes));
        warnings.extend(flat.warning);
        walk.read(&flat.text)?;
    }
    let (texts, damaged) = walk.finish();
    if damaged {
        if texts.iter().all(|text| text.trim().is_empty()) {
            return Err(unreadable(
                "the OpenDocument file is damaged: its content is not well-formed XML",
            ));
        }
        warnings.push("the document's XML is damaged: text after the damage is missing".to_owned());
    }
    let pages = (1..)
        .zip(texts)
        .map(|(number, text)| text_page(number, clean::few_blank_lines(&text)))
        .collect();
    Ok(Extracted { pages, warnings })
}

#[cfg(test)]
mod tests {
    use linkspan_model::Code;

    use crate::extract_text::testing::{self, read, text_of};

    #[test]
    fn paragraphs_keep_their_spaces_tabs_and_breaks() {
        let cases = [
            (
                "<text:h text:outline-level='1'>Head</text:h><text:p>One  \n two</text:p>",
                "Head\nOne two",
            ),
            (
                "<text:p>a<text:s text:c='3'/>b<text:s/>c<text:tab/>d<text:line-break/>e</text:p>",
                "a   b c\td\ne",
            ),
            (
                "<text:p>x <text:span>y <text:a>z</text:a></text:span>&amp;&#233;&lt;</text:p>",
                "x y z&é<",
            ),
            (
                "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p></text:deletion></text:changed-region></text:tracked-changes><text:p>kept<text:change text:change-id='1'/></text:p>",
                "kept",
            ),
            (
                "<text:p>Text<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>The note.</text:p></text:note-body></text:note> goes on.</text:p><text:p>Next</text:p>",
                "Text goes on.\nNext\n1 The note.",
            ),
            (
                "<text:p>seen<office:annotation><dc:creator>Anna</dc:creator><dc:date>2024-03-05T10:00:00</dc:date><text:p>remark</text:p></office:annotation> text</text:p><text:p>next</text:p>",
                "seen text\nnext\nComment (Anna): remark",
            ),
            (
                "<text:list><text:list-item><text:p>one</text:p></text:list-item><text:list-item><text:p>two</text:p></text:list-item></text:list>",
                "one\ntwo",
            ),
            (
                "<table:table><table:table-row><table:table-cell><text:p>A</text:p><text:p>a</text:p></table:table-cell><table:table-cell><text:p>B</text:p></table:table-cell></table:table-row><table:table-row><table:covered-table-cell/><table:table-cell><text:p>D</text:p></table:table-cell></table:table-row></table:table><text:p>after</text:p>",
                "A a\tB\n\tD\nafter",
            ),
            (
                "<text:p>before<draw:frame><draw:text-box><text:p>boxed</text:p></draw:text-box><svg:desc>alt</svg:desc></draw:frame></text:p>",
                "before\nboxed",
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(text_of(&testing::odt(body), ""), expected, "{body}");
        }
    }

    #[test]
    fn a_spreadsheet_is_a_page_a_sheet() {
        let sheet = |name: &str, rows: &str| {
            format!("<table:table table:name='{name}'><table:table-column/>{rows}</table:table>")
        };
        let cell = |attributes: &str, text: &str| {
            format!("<table:table-cell {attributes}><text:p>{text}</text:p></table:table-cell>")
        };
        let row = |cells: &str| format!("<table:table-row>{cells}</table:table-row>");
        let empty = "<table:table-cell table:number-columns-repeated='16382'/>";
        let rows = [
            row(&[cell("", "Day"), cell("", "Amount"), empty.to_owned()].concat()),
            row(&[
                cell("office:value-type='date' office:date-value='2024-03-05'", "05.03.24"),
                cell("office:value-type='currency' office:value='12.5'", "12,50 €"),
            ]
            .concat()),
            row(&[cell("table:number-columns-repeated='2'", "x"), "<table:table-cell/>".to_owned(), cell("", "y")].concat()),
            "<table:table-row table:number-rows-repeated='1048000'><table:table-cell table:number-columns-repeated='16384'/></table:table-row>".to_owned(),
        ]
        .concat();
        let read = read(&testing::ods(
            &[sheet("First", &rows), sheet("Second", "")].concat(),
        ))
        .unwrap();
        assert_eq!(
            read.media_type,
            "application/vnd.oasis.opendocument.spreadsheet"
        );
        assert_eq!(read.pages.len(), 2);
        assert_eq!(
            read.pages[0].text,
            "First\nDay\tAmount\n2024-03-05\t12,50 €\nx\tx\t\ty"
        );
        assert_eq!(read.pages[1].text, "Second");
    }

    #[test]
    fn a_presentation_is_a_page_a_slide_with_its_notes() {
        let slide = |text: &str| {
            format!(
                "<draw:page><draw:frame><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame><presentation:notes><draw:frame><draw:text-box><text:p>say {text}</text:p></draw:text-box></draw:frame></presentation:notes></draw:page>"
            )
        };
        let read = read(&testing::odp(&[slide("one"), slide("two")].concat())).unwrap();
        let texts: Vec<&str> = read.pages.iter().map(|page| page.text.as_str()).collect();
        assert_eq!(texts, ["one\nsay one", "two\nsay two"]);
        assert_eq!(read.text, "one\nsay one\n\u{c}\ntwo\nsay two");
    }

    #[test]
    fn headers_and_footers_are_read_from_the_styles() {
        let styles = "<office:document-styles><office:automatic-styles/><office:master-styles><style:master-page><draw:frame><text:p>placeholder</text:p></draw:frame><style:header><text:p>Top</text:p></style:header><style:footer><text:p>Bottom</text:p></style:footer></style:master-page></office:master-styles></office:document-styles>";
        let content = testing::odt_content("<text:p>Middle</text:p>");
        let zip = testing::zip(&[
            ("mimetype", b"application/vnd.oasis.opendocument.text"),
            ("content.xml", content.as_bytes()),
            ("styles.xml", styles.as_bytes()),
        ]);
        assert_eq!(text_of(&zip, ""), "Top\nMiddle\nBottom");
    }

    #[test]
    fn repeated_cells_cannot_multiply_beyond_the_limit() {
        let bomb = "<table:table><table:table-row table:number-rows-repeated='1000000'><table:table-cell table:number-columns-repeated='16384'><text:p>x</text:p></table:table-cell></table:table-row></table:table>";
        let error = testing::read_within(&testing::ods(bomb), 1 << 20).unwrap_err();
        assert_eq!(error.code, Code::DocumentTooComplex);
    }

    #[test]
    fn entities_are_not_expanded() {
        let content = testing::odt_content("<text:p>a&lol;b</text:p>").replacen(
            "<office:document-content",
            "<!DOCTYPE x [<!ENTITY lol 'lollollol'>]><office:document-content",
            1,
        );
        let zip = testing::zip(&[
            ("mimetype", b"application/vnd.oasis.opendocument.text"),
            ("content.xml", content.as_bytes()),
        ]);
        assert_eq!(text_of(&zip, ""), "ab");
    }

    #[test]
    fn damage_is_read_as_far_as_it_goes() {
        let zip = |content: &str| {
            testing::zip(&[
                ("mimetype", b"application/vnd.oasis.opendocument.text"),
                ("content.xml", content.as_bytes()),
            ])
        };
        let content = testing::odt_content("<text:p>first</text:p><text:p>second</text:p>");
        let cut = content.find("second").unwrap();
        let found = read(&zip(&content[..cut + 3])).unwrap();
        assert_eq!(found.text, "first\nsec");
        assert_eq!(found.warnings.len(), 1);
        assert_eq!(
            read(&zip("<office:document-content><<<")).unwrap_err().code,
            Code::UnreadableDocument
        );
        assert_eq!(read(&zip("")).unwrap_err().code, Code::UnreadableDocument);
    }

    #[test]
    fn an_encrypted_file_asks_for_its_password() {
        let zip = testing::zip(&[
            ("mimetype", b"application/vnd.oasis.opendocument.text"),
            ("content.xml", b"\x01\x02\x03"),
            ("META-INF/manifest.xml", b"<manifest:encryption-data/>"),
        ]);
        assert_eq!(read(&zip).unwrap_err().code, Code::PasswordRequired);
    }
}
