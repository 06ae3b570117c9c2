//! The sheets of workbooks, from the library's cells: a sheet's tree would take a kilobyte a cell.
//!
//! Values are as displayed, formulas by their cached values, dates in ISO 8601.

use office_oxide::xls::XlsDocument;
use office_oxide::xlsx::{SheetState, XlsxDocument};

use super::damage_warning;

pub(super) fn xlsx(workbook: &XlsxDocument, warnings: &mut Vec<String>) -> Vec<String> {
    let mut pages = Vec::new();
    let (mut hidden, mut damaged) = (0, 0);
    for (index, sheet) in workbook.worksheets.iter().enumerate() {
        if sheet.state != SheetState::Visible {
            hidden += 1;
            continue;
        }
        damaged += usize::from(sheet.damage.is_some() || sheet.comments_truncated);
        let cells = workbook.sheet_plain_text(index).unwrap_or_default();
        let mut page = format!("{}\n{cells}\n", sheet.name);
        for text in &sheet.chart_text {
            page.push_str(text.trim());
            page.push('\n');
        }
        for shape in sheet.text_shapes.iter() {
            page.push_str(shape.text.trim());
            page.push('\n');
        }
        for comment in sheet.comments.iter() {
            push_comment(
                &comment.cell_ref,
                comment.author.as_deref(),
                &comment.text,
                &mut page,
            );
        }
        pages.push(page);
    }
    // The library does not say which sheet shows a chart.
    if let Some(page) = pages.last_mut() {
        for text in &workbook.chart_text {
            page.push_str(text.trim());
            page.push('\n');
        }
    }
    warn(hidden, damaged, warnings);
    pages
}

pub(super) fn xls(workbook: &XlsDocument, warnings: &mut Vec<String>) -> Vec<String> {
    let mut pages = Vec::new();
    let mut hidden = 0;
    for sheet in &workbook.sheets {
        if sheet.hidden {
            hidden += 1;
            continue;
        }
        let mut page = format!("{}\n", sheet.name);
        for (row, cells) in sheet.rows.iter().enumerate() {
            let line: Vec<_> = (0..cells.len())
                .map(|column| sheet.display_text(row, column).unwrap_or_default())
                .collect();
            page.push_str(line.join("\t").trim_end());
            page.push('\n');
        }
        for text in &sheet.chart_text {
            page.push_str(text.trim());
            page.push('\n');
        }
        pages.push(page);
    }
    let damaged =
        workbook.warnings().len() + workbook.notices().len() + usize::from(workbook.truncated());
    warn(hidden, damaged, warnings);
    pages
}

fn push_comment(cell: &str, author: Option<&str>, text: &str, page: &mut String) {
    page.push_str(cell);
    if let Some(author) = author {
        page.push_str(&format!(" ({author})"));
    }
    page.push_str(": ");
    page.push_str(text);
    page.push('\n');
}

fn warn(hidden: usize, damaged: usize, warnings: &mut Vec<String>) {
    if hidden > 0 {
        warnings.push(format!(
            "{hidden} hidden sheets of the workbook are left out"
        ));
    }
    warnings.extend(damage_warning(damaged, false));
}
