//! The lines of a page: white space, blocks and tables.

use crate::extract_text::clean::one_line;

/// Deeper tables are read as lines.
const MAX_TABLES: usize = 32;

/// Text that is being laid out.
#[derive(Default)]
pub(super) struct Layout {
    flow: Flow,
    tables: Vec<Table>,
    /// Tables opened beyond [`MAX_TABLES`] and not closed.
    flattened: usize,
    pre: usize,
}

/// Lines in one column: the page's own, or a cell's.
#[derive(Default)]
struct Flow {
    out: String,
    /// A space is due before the next word.
    space: bool,
    /// How many line ends are due before the next text.
    breaks: usize,
    /// A list mark was just written.
    marked: bool,
}

#[derive(Default)]
struct Table {
    /// What stood before the table.
    outer: Flow,
    out: String,
    row: Vec<String>,
    in_cell: bool,
    holds_table: bool,
}

impl Layout {
    pub(super) fn text(&mut self, text: &str) {
        let pre = self.pre > 0;
        let flow = &mut self.flow;
        for c in text.chars() {
            match c {
                '\n' if pre => flow.breaks += 1,
                ' ' | '\t' if pre => {
                    flow.settle();
                    flow.out.push(c);
                }
                ' ' | '\t' | '\n' | '\r' | '\u{c}' => flow.space = true,
                '\u{200b}' | '\u{200c}' if flow.out.is_empty() => {}
                _ => {
                    flow.settle();
                    flow.out.push(c);
                }
            }
        }
    }

    /// `br`.
    pub(super) fn newline(&mut self) {
        self.flow.breaks += 1;
        self.flow.space = false;
    }

    /// A new line, unless one was just begun.
    pub(super) fn block(&mut self) {
        self.flow.break_at_least(1);
    }

    /// A new line after a blank one.
    pub(super) fn paragraph(&mut self) {
        self.flow.break_at_least(2);
    }

    /// The mark of a list's item; the item's first block stays beside it.
    pub(super) fn mark(&mut self, mark: &str) {
        self.flow.settle();
        self.flow.out.push_str(mark);
        self.flow.marked = true;
    }

    pub(super) fn open_pre(&mut self) {
        self.paragraph();
        self.pre += 1;
    }

    pub(super) fn close_pre(&mut self) {
        self.pre = self.pre.saturating_sub(1);
        self.paragraph();
    }

    pub(super) fn open_table(&mut self) {
        if self.tables.len() == MAX_TABLES {
            self.flattened += 1;
            self.block();
            return;
        }
        if let Some(table) = self.tables.last_mut() {
            table.holds_table = true;
        }
        self.tables.push(Table {
            outer: std::mem::take(&mut self.flow),
            ..Table::default()
        });
    }

    pub(super) fn row(&mut self) {
        if self.flattened > 0 || self.tables.is_empty() {
            self.block();
        } else {
            self.end_row();
        }
    }

    pub(super) fn cell(&mut self) {
        if self.flattened > 0 || self.tables.is_empty() {
            self.flow.space = true;
            return;
        }
        self.end_cell();
        if let Some(table) = self.tables.last_mut() {
            table.in_cell = true;
        }
    }

    pub(super) fn close_table(&mut self) {
        if self.flattened > 0 {
            self.flattened -= 1;
            self.block();
            return;
        }
        self.end_row();
        let Some(table) = self.tables.pop() else {
            return;
        };
        self.flow = table.outer;
        let rows = table.out.trim_end_matches('\n');
        if !rows.is_empty() {
            self.flow.break_at_least(2);
            self.flow.settle();
            self.flow.out.push_str(rows);
            self.flow.break_at_least(2);
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.flattened = 0;
        while !self.tables.is_empty() {
            self.close_table();
        }
        self.flow.out
    }

    fn end_cell(&mut self) {
        let Some(table) = self.tables.last_mut() else {
            return;
        };
        let flow = std::mem::take(&mut self.flow);
        if table.in_cell {
            table.row.push(flow.out);
        } else if !flow.out.trim().is_empty() {
            // A caption, or text that stands in no cell.
            table.out.push_str(flow.out.trim());
            table.out.push('\n');
        }
        table.in_cell = false;
    }

    /// A cell of one line is a column; a cell of several lines in a table that arranges tables is a part of the page.
    fn end_row(&mut self) {
        self.end_cell();
        let Some(table) = self.tables.last_mut() else {
            return;
        };
        let cells = std::mem::take(&mut table.row);
        if cells.iter().all(|cell| cell.trim().is_empty()) {
            return;
        }
        if table.holds_table && cells.iter().any(|cell| cell.trim().contains('\n')) {
            for cell in cells.iter().filter(|cell| !cell.trim().is_empty()) {
                table.out.push_str(cell.trim_end());
                table.out.push('\n');
            }
        } else {
            let cells: Vec<String> = cells.iter().map(|cell| one_line(cell)).collect();
            table.out.push_str(cells.join("\t").trim_end());
            table.out.push('\n');
        }
    }
}

impl Flow {
    fn break_at_least(&mut self, breaks: usize) {
        if !self.marked {
            self.breaks = self.breaks.max(breaks);
        }
        self.space = false;
    }

    /// Writes what is due before text.
    fn settle(&mut self) {
        if self.out.is_empty() {
            // Nothing is due at the start.
        } else if self.breaks > 0 {
            let end = self.out.trim_end_matches(' ').len();
            self.out.truncate(end);
            self.out
                .extend(std::iter::repeat_n('\n', self.breaks.min(3)));
        } else if self.space && !self.marked && !self.out.ends_with(char::is_whitespace) {
            self.out.push(' ');
        }
        self.breaks = 0;
        self.space = false;
        self.marked = false;
    }
}
