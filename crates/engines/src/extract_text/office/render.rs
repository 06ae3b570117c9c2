//! The text of Word documents and of slides, from the library's tree.

use office_oxide::ir::{
    DocumentIR, Element, HeaderFooter, InlineContent, List, ListItem, Section, Table,
    inline_to_text,
};

use super::damage_warning;
use crate::extract_text::clean::one_line;
use crate::extract_text::format::OfficeKind;

/// The library bounds its tree; this is for the stack's sake.
const MAX_DEPTH: usize = 100;

/// One page a slide, one for a whole Word document.
pub(super) fn pages(ir: &DocumentIR, kind: OfficeKind, warnings: &mut Vec<String>) -> Vec<String> {
    warnings.extend(damage_warning(
        ir.metadata.warnings.len(),
        ir.metadata.text_truncated,
    ));
    if matches!(kind, OfficeKind::Pptx | OfficeKind::Ppt) {
        (1..)
            .zip(&ir.sections)
            .map(|(number, section)| slide(number, section))
            .collect()
    } else {
        vec![word(&ir.sections)]
    }
}

fn slide(number: usize, section: &Section) -> String {
    let mut text = Text::default();
    // The library names a slide that has no title.
    if let Some(title) = &section.title
        && *title != format!("Slide {number}")
        && !says(&section.elements, title)
    {
        text.line(title);
    }
    text.elements(&section.elements, 0);
    if let Some(notes) = &section.speaker_notes {
        text.elements(notes, 0);
    }
    text.out
}

/// Headers, text, notes, footers: a header that every section repeats is written once.
fn word(sections: &[Section]) -> String {
    let mut text = Text::default();
    let mut seen: Vec<String> = Vec::new();
    for section in sections {
        let (headers, footers) = (
            [
                &section.first_page_header,
                &section.header,
                &section.even_page_header,
            ],
            [
                &section.first_page_footer,
                &section.footer,
                &section.even_page_footer,
            ],
        );
        text.once(&headers, &mut seen);
        let (notes, body): (Vec<&Element>, Vec<&Element>) = section
            .elements
            .iter()
            .partition(|element| matches!(element, Element::Footnote(_) | Element::Endnote(_)));
        for element in body.into_iter().chain(notes) {
            text.element(element, 0);
        }
        text.once(&footers, &mut seen);
    }
    text.out
}

/// Whether an element near the start already is this title.
fn says(elements: &[Element], title: &str) -> bool {
    elements.iter().any(|element| match element {
        Element::Heading(heading) => inline_to_text(&heading.content).trim() == title.trim(),
        Element::Paragraph(paragraph) => inline_to_text(&paragraph.content).trim() == title.trim(),
        Element::TextBox(text_box) => says(&text_box.content, title),
        _ => false,
    })
}

#[derive(Default)]
struct Text {
    out: String,
}

impl Text {
    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn inline(&mut self, content: &[InlineContent]) {
        self.line(&inline_to_text(content));
    }

    fn once(&mut self, parts: &[&Option<HeaderFooter>], seen: &mut Vec<String>) {
        for part in parts.iter().filter_map(|part| part.as_ref()) {
            let mut text = Self::default();
            text.elements(&part.content, 0);
            if !seen.contains(&text.out) {
                self.out.push_str(&text.out);
                seen.push(text.out);
            }
        }
    }

    fn elements(&mut self, elements: &[Element], depth: usize) {
        for element in elements {
            self.element(element, depth);
        }
    }

    fn element(&mut self, element: &Element, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        match element {
            Element::Heading(heading) => self.inline(&heading.content),
            Element::Paragraph(paragraph) => self.inline(&paragraph.content),
            Element::Table(table) => self.table(table, depth),
            Element::List(list) => self.list(list, depth),
            Element::TextBox(text_box) => self.elements(&text_box.content, depth + 1),
            Element::Footnote(note) | Element::Endnote(note) => {
                if let Some(marker) = &note.marker {
                    self.out.push_str(marker);
                    self.out.push_str(": ");
                }
                let mut text = Self::default();
                text.elements(&note.content, depth + 1);
                self.out.push_str(text.out.trim_start());
            }
            Element::CodeBlock(code) => self.line(&code.content),
            _ => {}
        }
    }

    fn table(&mut self, table: &Table, depth: usize) {
        if let Some(caption) = &table.caption {
            self.line(caption);
        }
        for row in &table.rows {
            let mut cells: Vec<String> = Vec::with_capacity(row.cells.len());
            for cell in &row.cells {
                let mut text = Self::default();
                text.elements(&cell.content, depth + 1);
                cells.push(one_line(&text.out));
            }
            self.line(cells.join("\t").trim_end());
        }
    }

    fn list(&mut self, list: &List, depth: usize) {
        let mut number = list.start_number.unwrap_or(1);
        for item in &list.items {
            let mark = if list.ordered {
                format!("{number}{} ", list.ordered_delimiter())
            } else {
                "- ".to_owned()
            };
            number = number.saturating_add(1);
            self.item(&mark, item, depth);
        }
    }

    fn item(&mut self, mark: &str, item: &ListItem, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let mut text = Self::default();
        text.elements(&item.content, depth + 1);
        if !text.out.trim().is_empty() {
            self.out.push_str(mark);
            self.out.push_str(&text.out);
        }
        if let Some(nested) = &item.nested {
            self.list(nested, depth + 1);
        }
    }
}
