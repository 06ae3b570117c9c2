//! One pass over the XML of an `OpenDocument` file.

use linkspan_model::Code;
use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::elements::{End, Sink, add_once, attribute, is_left_out, number};
use crate::engine::EngineError;

/// Elements nested deeper than this are not a document that a person wrote.
const MAX_DEPTH: usize = 500;
/// The columns of the widest spreadsheet.
const MAX_COLUMNS: usize = 16_384;

/// What was read so far.
pub(super) struct Walk {
    pages: Vec<String>,
    /// Whether the document is a text: only its headers and footers are on its pages as they stand.
    is_text: bool,
    header: String,
    footer: String,
    notes: String,
    /// Where text goes: the innermost of these.
    sinks: Vec<Sink>,
    /// Open elements, by what their end does.
    open: Vec<End>,
    /// The tables at the top are sheets.
    spreadsheet: bool,
    max_text: u64,
    written: u64,
    damaged: bool,
}

impl Walk {
    pub(super) fn new(max_text: u64) -> Self {
        Self {
            pages: Vec::new(),
            is_text: false,
            header: String::new(),
            footer: String::new(),
            notes: String::new(),
            sinks: vec![Sink::default()],
            open: Vec::new(),
            spreadsheet: false,
            max_text,
            written: 0,
            damaged: false,
        }
    }

    /// The pages' texts, and whether the XML was damaged.
    pub(super) fn finish(mut self) -> (Vec<String>, bool) {
        while self.sinks.len() > 1 {
            self.fold();
        }
        let rest = self.sinks.pop().map(|sink| sink.text).unwrap_or_default();
        if self.pages.is_empty() || !rest.trim().is_empty() {
            self.pages.push(rest);
        }
        if !self.is_text {
            self.header.clear();
            self.footer.clear();
        }
        if self.pages.len() == 1 {
            let body = self.pages[0].trim_end_matches('\n');
            self.pages[0] = format!("{}{body}\n{}{}", self.header, self.notes, self.footer);
        }
        (self.pages, self.damaged)
    }

    /// Reads one part.
    ///
    /// # Errors
    ///
    /// `document-too-complex` where elements nest, or cells repeat, beyond the limits.
    pub(super) fn read(&mut self, xml: &str) -> Result<(), EngineError> {
        let mut reader = Reader::from_str(xml);
        let before = self.open.len();
        let mut empty = true;
        loop {
            match reader.read_event() {
                Ok(Event::Start(element)) => {
                    empty = false;
                    if let Some(end) = self.start(&element) {
                        if self.open.len() >= MAX_DEPTH {
                            return Err(EngineError::new(
                                Code::DocumentTooComplex,
                                format!("the document nests more than {MAX_DEPTH} elements"),
                            ));
                        }
                        self.open.push(end);
                    } else if reader.read_to_end(element.name()).is_err() {
                        self.damaged = true;
                        break;
                    }
                }
                Ok(Event::Empty(element)) => {
                    if let Some(end) = self.start(&element) {
                        self.end(end)?;
                    }
                }
                Ok(Event::End(_)) => {
                    if let Some(end) = self.open.pop() {
                        self.end(end)?;
                    }
                }
                Ok(Event::Text(text)) => self.text(&text.xml10_content()),
                Ok(Event::CData(text)) => self.text(&text.xml10_content()),
                Ok(Event::GeneralRef(reference)) => self.reference(&reference),
                Ok(Event::Eof) => {
                    self.damaged |= empty || self.open.len() > before;
                    break;
                }
                Ok(_) => {}
                Err(_) => {
                    self.damaged = true;
                    break;
                }
            }
        }
        while self.open.len() > before {
            if let Some(end) = self.open.pop() {
                self.end(end)?;
            }
        }
        Ok(())
    }

    /// None where the element is left out with all that it holds.
    fn start(&mut self, element: &BytesStart<'_>) -> Option<End> {
        let name = element.name();
        Some(match name.into_inner() {
            left_out if is_left_out(left_out) => return None,
            "text:p" | "text:h" => {
                self.line_start();
                End::Paragraph
            }
            "text:s" => {
                let count = number(element, "c").unwrap_or(1).min(1000);
                self.push(&" ".repeat(count));
                End::Nothing
            }
            "text:tab" => {
                self.push("\t");
                End::Nothing
            }
            "text:line-break" => {
                self.push("\n");
                End::Nothing
            }
            "draw:page" => self.open_sink(End::Page),
            "table:table" => {
                let sheet = self.spreadsheet && self.sinks.len() == 1;
                let name = attribute(element, "name").unwrap_or_default();
                let end = self.open_sink(if sheet { End::Page } else { End::Table });
                if sheet {
                    self.push(&name);
                    self.push("\n");
                }
                end
            }
            "table:table-row" => {
                let repeat = number(element, "number-rows-repeated").unwrap_or(1);
                if let Some(sink) = self.sinks.last_mut() {
                    sink.row.clear();
                }
                End::Row { repeat }
            }
            "table:table-cell" | "table:covered-table-cell" => {
                let repeat = number(element, "number-columns-repeated")
                    .unwrap_or(1)
                    .min(MAX_COLUMNS);
                let date = attribute(element, "date-value");
                self.open_sink(End::Cell { repeat, date })
            }
            "text:note-body" => self.open_sink(End::Note),
            "office:annotation" => self.open_sink(End::Annotation),
            "dc:creator" => self.open_sink(End::Author),
            "text:note-citation" => self.open_sink(End::Citation),
            "style:header" | "style:header-first" | "style:header-left" => {
                self.open_sink(End::Header)
            }
            "style:footer" | "style:footer-first" | "style:footer-left" => {
                self.open_sink(End::Footer)
            }
            "style:master-page" => self.open_sink(End::Discard),
            "office:text" => {
                self.is_text = true;
                End::Nothing
            }
            "office:spreadsheet" => {
                self.spreadsheet = true;
                End::Nothing
            }
            _ => End::Nothing,
        })
    }

    fn end(&mut self, end: End) -> Result<(), EngineError> {
        match end {
            End::Nothing => {}
            End::Paragraph => self.push("\n"),
            End::Page => {
                let text = self.close_sink().text;
                self.pages.push(text);
            }
            End::Table => {
                let text = self.close_sink().text;
                self.line_start();
                self.push(&text);
            }
            End::Row { repeat } => self.end_row(repeat)?,
            End::Cell { repeat, date } => {
                let text = self.close_sink().text;
                // A date as the cell shows it depends on its format; the file holds it in ISO 8601.
                let text = match date {
                    Some(date) if !text.trim().is_empty() => {
                        date.trim_end_matches("T00:00:00").replacen('T', " ", 1)
                    }
                    _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
                };
                if let Some(sink) = self.sinks.last_mut() {
                    let room = MAX_COLUMNS.saturating_sub(sink.row.len());
                    sink.row.extend(std::iter::repeat_n(text, repeat.min(room)));
                }
            }
            End::Note => {
                let text = self.close_sink().text;
                self.notes.push_str(text.trim_start());
                self.notes.push('\n');
            }
            End::Citation => {
                let text = self.close_sink().text;
                self.notes.push_str(text.trim());
                self.notes.push(' ');
            }
            End::Author => {
                let text = self.close_sink().text;
                self.push(&format!("Comment ({}): ", text.trim()));
            }
            End::Annotation => {
                let text = self.close_sink().text;
                self.notes
                    .push_str(&text.split_whitespace().collect::<Vec<_>>().join(" "));
                self.notes.push('\n');
            }
            End::Header => {
                let text = self.close_sink().text;
                add_once(&mut self.header, &text);
            }
            End::Footer => {
                let text = self.close_sink().text;
                add_once(&mut self.footer, &text);
            }
            End::Discard => {
                self.close_sink();
            }
        }
        Ok(())
    }

    fn end_row(&mut self, repeat: usize) -> Result<(), EngineError> {
        let Some(sink) = self.sinks.last_mut() else {
            return Ok(());
        };
        let row = std::mem::take(&mut sink.row);
        let line = row.join("\t");
        let line = line.trim_end_matches('\t');
        if line.is_empty() {
            sink.text.push('\n');
            return Ok(());
        }
        self.written = self
            .written
            .saturating_add((line.len() as u64 + 1).saturating_mul(repeat as u64));
        if self.written > self.max_text {
            return Err(EngineError::new(
                Code::DocumentTooComplex,
                format!(
                    "the document's repeated cells unpack to more than {} bytes (option `max_unpacked`)",
                    self.max_text
                ),
            ));
        }
        for _ in 0..repeat {
            sink.text.push_str(line);
            sink.text.push('\n');
        }
        Ok(())
    }

    fn open_sink(&mut self, end: End) -> End {
        self.sinks.push(Sink::default());
        end
    }

    fn close_sink(&mut self) -> Sink {
        if self.sinks.len() > 1 {
            self.sinks.pop().unwrap_or_default()
        } else {
            Sink::default()
        }
    }

    /// Keeps what an element that was cut off had.
    fn fold(&mut self) {
        let text = self.close_sink().text;
        self.push(&text);
    }

    fn push(&mut self, text: &str) {
        if let Some(sink) = self.sinks.last_mut() {
            sink.text.push_str(text);
        }
    }

    fn line_start(&mut self) {
        if let Some(sink) = self.sinks.last_mut()
            && !sink.text.is_empty()
            && !sink.text.ends_with('\n')
        {
            sink.text.push('\n');
        }
    }

    /// Only paragraphs hold text; runs of white space are one space (ODF 1.2, 6.1.2).
    fn text(&mut self, text: &str) {
        if !self
            .open
            .iter()
            .rev()
            .any(|end| matches!(end, End::Paragraph | End::Citation | End::Author))
        {
            return;
        }
        let Some(sink) = self.sinks.last_mut() else {
            return;
        };
        for c in text.chars() {
            if !matches!(c, ' ' | '\t' | '\r' | '\n') {
                sink.text.push(c);
            } else if !sink.text.is_empty() && !sink.text.ends_with([' ', '\n', '\t']) {
                sink.text.push(' ');
            }
        }
    }

    /// Character references and the five entities of XML; others stand for nothing, so that none can multiply.
    fn reference(&mut self, reference: &BytesRef<'_>) {
        if let Ok(Some(c)) = reference.resolve_char_ref() {
            self.text(c.encode_utf8(&mut [0; 4]));
        } else if let Some(text) = quick_xml::escape::resolve_xml_entity(&reference.xml10_content())
        {
            self.text(text);
        }
    }
}
