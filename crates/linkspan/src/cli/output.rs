//! Printing data: a table for people, JSON lines or CSV for programs.

use std::io::Write as _;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

use super::Failure;

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// A table.
    Table,
    /// One JSON document a line.
    Json,
    /// CSV with a header.
    Csv,
}

/// Something that is printed as rows: its columns for tables and CSV, itself for JSON.
pub(super) trait Row: Serialize {
    /// The columns' names.
    const COLUMNS: &'static [&'static str];

    /// The columns' values.
    fn cells(&self) -> Vec<String>;
}

/// Prints what was looked for; says so on standard error where there is none.
pub(super) fn list<R: Row>(output: Output, rows: &[R], what: &str) -> Result<(), Failure> {
    if rows.is_empty() {
        eprintln!("no {what} found");
    }
    print(output, rows)
}

/// Prints rows to standard output.
pub(super) fn print<R: Row>(output: Output, rows: &[R]) -> Result<(), Failure> {
    head::<R>(output)?;
    for row in rows {
        line(output, row)?;
    }
    tail(output, rows)
}

/// Prints what comes before the first row: the header of CSV.
pub(super) fn head<R: Row>(output: Output) -> Result<(), Failure> {
    match output {
        Output::Csv => write(&csv_record(R::COLUMNS.iter().copied())?),
        Output::Table | Output::Json => Ok(()),
    }
}

/// Prints one row as soon as it is there; a table waits for its last row, see [`tail`].
pub(super) fn line<R: Row>(output: Output, row: &R) -> Result<(), Failure> {
    match output {
        Output::Table => Ok(()),
        Output::Json => {
            let mut text = serde_json::to_string(row).map_err(|error| Failure::of(&error))?;
            text.push('\n');
            write(text.as_bytes())
        }
        Output::Csv => write(&csv_record(row.cells().iter().map(|cell| harmless(cell)))?),
    }
}

/// Prints what comes after the last row: the whole table, whose widths need every row.
pub(super) fn tail<R: Row>(output: Output, rows: &[R]) -> Result<(), Failure> {
    match output {
        Output::Table if rows.is_empty() => Ok(()),
        Output::Table => {
            let mut text = table(R::COLUMNS, rows.iter().map(Row::cells)).to_string();
            text.push('\n');
            write(text.as_bytes())
        }
        Output::Json | Output::Csv => Ok(()),
    }
}

/// Writes to standard output. A reader that went away (`| head`) is no fault.
pub(super) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::work(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

fn csv_record<C: AsRef<[u8]>>(cells: impl Iterator<Item = C>) -> Result<Vec<u8>, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record(cells)
        .map_err(|error| Failure::of(&error))?;
    writer
        .into_inner()
        .map_err(|error| Failure::work(error.to_string()))
}

/// A plain table that fits the terminal, and is as wide as it needs to be elsewhere. An id is never broken: it is there to be copied.
pub(super) fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns);
    if let Some(width) = terminal_width() {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
    table.add_rows(rows);
    for (column, name) in table.column_iter_mut().zip(columns) {
        if *name == "id" {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

fn terminal_width() -> Option<u16> {
    use std::io::IsTerminal as _;
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(out)
        .ok()
        .map(|size| size.ws_col)
        .filter(|width| *width >= 40)
}

/// A cell that a spreadsheet does not take for a formula: what came out of a document must not run in one.
fn harmless(cell: &str) -> String {
    let is_number = cell.parse::<f64>().is_ok();
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{harmless, table};

    #[test]
    fn a_table_that_no_terminal_shows_has_a_line_a_row() {
        let id = "0198f2e0-0000-7000-8000-000000000000";
        let row = vec![id.to_owned(), "why ".repeat(100)];
        let text = table(&["id", "reason"], [row].into_iter()).to_string();
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.contains(id));
    }

    #[test]
    fn a_formula_is_made_harmless_and_a_number_stays() {
        assert_eq!(harmless("=1+1"), "'=1+1");
        assert_eq!(harmless("-0.5"), "-0.5");
        assert_eq!(harmless("plain"), "plain");
    }
}
