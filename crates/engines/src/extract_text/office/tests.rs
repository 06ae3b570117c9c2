//! Office files, made part by part.

use linkspan_model::Code;

use crate::extract_text::testing::{self, WORD, opc, read, read_within, rels, text_of};

fn paragraph(text: &str) -> String {
    format!("<w:p><w:r><w:t xml:space=\"preserve\">{text}</w:t></w:r></w:p>")
}

#[test]
fn word_text_is_what_its_reader_sees() {
    let cell = |text: &str| format!("<w:tc>{}</w:tc>", paragraph(text));
    let cases = [
        (format!("{}{}", paragraph("One"), paragraph("Two &amp; три")), "One\nTwo & три"),
        (
            "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>".to_owned(),
            "a\tb\nc",
        ),
        (
            "<w:p><w:ins w:id='1'><w:r><w:t>new </w:t></w:r></w:ins><w:del w:id='2'><w:r><w:delText>old</w:delText></w:r></w:del><w:r><w:t>text</w:t></w:r></w:p>".to_owned(),
            "new text",
        ),
        (
            "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:t>seen</w:t></w:r></w:p>".to_owned(),
            "seen",
        ),
        (
            format!("<w:tbl><w:tr>{}{}</w:tr><w:tr>{}{}</w:tr></w:tbl>{}", cell("A"), cell("B"), cell("C"), cell("D"), paragraph("after")),
            "A\tB\nC\tD\nafter",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(text_of(&testing::docx(&body), ""), expected, "{body}");
    }
}

#[test]
fn word_headers_footers_and_footnotes_are_read() {
    let main = format!(
        r#"<w:document {WORD}><w:body><w:p><w:r><w:t>Body</w:t><w:footnoteReference w:id="2"/></w:r></w:p><w:sectPr><w:headerReference w:type="default" r:id="h"/><w:footerReference w:type="default" r:id="f"/></w:sectPr></w:body></w:document>"#
    );
    let header = format!("<w:hdr {WORD}>{}</w:hdr>", paragraph("Top"));
    let footer = format!("<w:ftr {WORD}>{}</w:ftr>", paragraph("Bottom"));
    let footnotes = format!(
        "<w:footnotes {WORD}><w:footnote w:type='separator' w:id='0'><w:p/></w:footnote><w:footnote w:id='2'>{}</w:footnote></w:footnotes>",
        paragraph("The note")
    );
    let relations = rels(&[
        ("h", "header", "header1.xml"),
        ("f", "footer", "footer1.xml"),
        ("n", "footnotes", "footnotes.xml"),
    ]);
    let file = opc(
        "word/document.xml",
        &[
            ("word/document.xml", "wordprocessingml.document.main", &main),
            ("word/header1.xml", "wordprocessingml.header", &header),
            ("word/footer1.xml", "wordprocessingml.footer", &footer),
            (
                "word/footnotes.xml",
                "wordprocessingml.footnotes",
                &footnotes,
            ),
            ("word/_rels/document.xml.rels", "", &relations),
        ],
    );
    assert_eq!(text_of(&file, ""), "Top\nBody\nThe note\nBottom");
}

const SHEET: &str = r#"xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships""#;

fn workbook(sheets: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut list = String::new();
    let mut relations: Vec<(String, String)> = Vec::new();
    for (number, (name, state, _)) in (1..).zip(sheets) {
        list.push_str(&format!(
            "<sheet name='{name}' sheetId='{number}' state='{state}' r:id='s{number}'/>"
        ));
        relations.push((
            format!("s{number}"),
            format!("worksheets/sheet{number}.xml"),
        ));
    }
    let main = format!("<workbook {SHEET}><sheets>{list}</sheets></workbook>");
    let mut links: Vec<(&str, &str, &str)> = relations
        .iter()
        .map(|(id, target)| (id.as_str(), "worksheet", target.as_str()))
        .collect();
    links.push(("st", "styles", "styles.xml"));
    links.push(("ss", "sharedStrings", "sharedStrings.xml"));
    let links = rels(&links);
    let styles = format!(
        "<styleSheet {SHEET}><numFmts count='1'><numFmt numFmtId='164' formatCode='#,##0.00\\ &quot;€&quot;'/></numFmts><cellXfs count='3'><xf numFmtId='0'/><xf numFmtId='14' applyNumberFormat='1'/><xf numFmtId='164' applyNumberFormat='1'/></cellXfs></styleSheet>"
    );
    let strings = format!(
        "<sst {SHEET}><si><t>Due</t></si><si><r><t>Am</t></r><r><t>ount</t></r></si></sst>"
    );
    let files: Vec<(String, String)> = (1..)
        .zip(sheets)
        .map(|(number, (_, _, rows))| {
            (
                format!("xl/worksheets/sheet{number}.xml"),
                format!("<worksheet {SHEET}><sheetData>{rows}</sheetData></worksheet>"),
            )
        })
        .collect();
    let mut parts = vec![
        ("xl/workbook.xml", "spreadsheetml.sheet.main", main.as_str()),
        ("xl/styles.xml", "spreadsheetml.styles", styles.as_str()),
        (
            "xl/sharedStrings.xml",
            "spreadsheetml.sharedStrings",
            strings.as_str(),
        ),
        ("xl/_rels/workbook.xml.rels", "", links.as_str()),
    ];
    parts.extend(
        files
            .iter()
            .map(|(name, xml)| (name.as_str(), "spreadsheetml.worksheet", xml.as_str())),
    );
    opc("xl/workbook.xml", &parts)
}

#[test]
fn a_workbook_is_a_page_a_sheet_with_values_as_displayed() {
    let rows = "<row r='1'><c r='A1' t='s'><v>0</v></c><c r='B1' t='s'><v>1</v></c></row>\
        <row r='2'><c r='A2' s='1'><v>45356</v></c><c r='B2' s='2'><v>1234.5</v></c></row>\
        <row r='3'><c r='A3' t='b'><v>1</v></c><c r='C3'><f>1+1</f><v>2</v></c></row>\
        <row r='4'><c r='A4' t='inlineStr'><is><t>inline</t></is></c></row>";
    let file = workbook(&[
        ("Plan", "visible", rows),
        ("Lookup", "hidden", rows),
        ("Empty", "visible", ""),
    ]);
    let found = read(&file).unwrap();
    let pages: Vec<(u32, &str)> = found
        .pages
        .iter()
        .map(|page| (page.number, page.text.as_str()))
        .collect();
    assert_eq!(
        pages,
        [
            (
                1,
                "Plan\nDue\tAmount\n2024-03-05\t1,234.50 €\nTRUE\t\t2\ninline"
            ),
            (2, "Empty")
        ]
    );
    assert_eq!(
        found.warnings,
        ["1 hidden sheets of the workbook are left out"]
    );
}

const SLIDE: &str = r#"xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships""#;

#[test]
fn a_presentation_is_a_page_a_slide_with_its_notes() {
    let shape = |kind: &str, text: &str| {
        format!(
            "<p:sp><p:nvSpPr><p:cNvPr id='2' name='x'/><p:cNvSpPr/><p:nvPr><p:ph type='{kind}'/></p:nvPr></p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
        )
    };
    let slide = |element: &str, shapes: &str| {
        format!(
            "<p:{element} {SLIDE}><p:cSld><p:spTree><p:nvGrpSpPr><p:cNvPr id='1' name=''/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>{shapes}</p:spTree></p:cSld></p:{element}>"
        )
    };
    let main = format!(
        "<p:presentation {SLIDE}><p:sldIdLst><p:sldId id='256' r:id='a'/><p:sldId id='257' r:id='b'/></p:sldIdLst></p:presentation>"
    );
    let file = opc(
        "ppt/presentation.xml",
        &[
            (
                "ppt/presentation.xml",
                "presentationml.presentation.main",
                &main,
            ),
            (
                "ppt/_rels/presentation.xml.rels",
                "",
                &rels(&[
                    ("a", "slide", "slides/slide1.xml"),
                    ("b", "slide", "slides/slide2.xml"),
                ]),
            ),
            (
                "ppt/slides/slide1.xml",
                "presentationml.slide",
                &slide(
                    "sld",
                    &[shape("title", "Plan"), shape("body", "First point")].concat(),
                ),
            ),
            (
                "ppt/slides/_rels/slide1.xml.rels",
                "",
                &rels(&[("n", "notesSlide", "../notesSlides/notesSlide1.xml")]),
            ),
            (
                "ppt/notesSlides/notesSlide1.xml",
                "presentationml.notesSlide",
                &slide("notes", &shape("body", "Say hello")),
            ),
            (
                "ppt/slides/slide2.xml",
                "presentationml.slide",
                &slide("sld", &shape("title", "End")),
            ),
        ],
    );
    let found = read(&file).unwrap();
    let pages: Vec<&str> = found.pages.iter().map(|page| page.text.as_str()).collect();
    assert_eq!(pages, ["Plan\nFirst point\nSay hello", "End"]);
}

#[test]
fn damage_is_named() {
    let cut = format!(
        "<w:document {WORD}><w:body>{}<w:p><w:r><w:t>cut of",
        paragraph("whole")
    );
    let cut = opc(
        "word/document.xml",
        &[("word/document.xml", "wordprocessingml.document.main", &cut)],
    );
    let found = read(&cut).unwrap();
    assert_eq!(found.text, "whole");
    assert_eq!(found.warnings.len(), 1);
    let empty = opc(
        "word/document.xml",
        &[("word/other.xml", "wordprocessingml.document.main", "<x/>")],
    );
    let error = read(&empty).unwrap_err();
    assert_eq!(error.code, Code::UnreadableDocument);
    assert!(error.detail.contains("Word document is damaged"), "{error}");
}

#[test]
fn a_bomb_is_refused_before_it_unpacks() {
    let bomb = testing::docx(&paragraph(&" ".repeat(3 << 20)));
    let error = read_within(&bomb, 1 << 20).unwrap_err();
    assert_eq!(error.code, Code::DocumentTooComplex);
    assert!(error.detail.contains("max_unpacked"), "{error}");
}

#[test]
fn more_sheets_than_pages_are_refused() {
    let file = workbook(&[("A", "visible", ""), ("B", "visible", "")]);
    let options = crate::extract_text::Options {
        max_pages: 1,
        ..Default::default()
    };
    let error = testing::read_with(&testing::document(&file), &options, None).unwrap_err();
    assert_eq!(error.code, Code::DocumentTooComplex);
}
