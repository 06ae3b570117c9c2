//! RTF 1.9.1, written here: the crates that exist lose code pages or escapes.
//!
//! Text is bytes of a code page (`\'e4`) or UTF-16 units (`\u228?`, with as many characters of fallback as `\uc` says). Groups nest;
//! a destination that holds no text of the page is skipped with its group.

mod words;

use encoding_rs::{Encoding, WINDOWS_1252};

use self::words::{Word, word};
use super::{Extracted, Reader, clean, one_page, unreadable};
use crate::engine::{Document, EngineError};

/// Groups nested deeper than this are read as if they were not nested.
const MAX_DEPTH: usize = 1000;

pub(super) fn extract(
    document: &Document<'_>,
    _reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    let start = document
        .bytes
        .windows(5)
        .position(|w| w == b"{\\rtf")
        .ok_or_else(|| unreadable("the document is no RTF: its header is missing"))?;
    let mut rtf = Rtf::new(&document.bytes[start..]);
    rtf.read();
    rtf.flush();
    let text = format!("{}\n{}", rtf.out.trim_end(), rtf.notes.trim_start());
    let mut extracted = one_page(clean::few_blank_lines(&text));
    if !rtf.groups.is_empty() {
        extracted
            .warnings
            .push("the document is cut off: groups of its RTF are not closed, text at its end may be missing".to_owned());
    }
    Ok(extracted)
}

struct Rtf<'a> {
    bytes: &'a [u8],
    at: usize,
    out: String,
    notes: String,
    /// Bytes of the current code page that are not decoded yet: a character may take two.
    pending: Vec<u8>,
    /// UTF-16 units that are not decoded yet.
    units: Vec<u16>,
    group: Group,
    groups: Vec<Group>,
    /// Open groups beyond [`MAX_DEPTH`].
    beyond: usize,
    document_encoding: &'static Encoding,
    fonts: std::collections::HashMap<i32, &'static Encoding>,
    /// The font that the font table defines.
    defined_font: i32,
}

/// What a group's end restores.
#[derive(Clone, Copy)]
struct Group {
    encoding: &'static Encoding,
    /// Characters of fallback after `\u`.
    fallback: usize,
    kind: Kind,
    /// Marked as hidden or as deleted by a tracked change.
    hidden: bool,
    /// In a footnote: these stand after the text.
    note: bool,
    /// In a table, where a paragraph's end does not end the row.
    in_table: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Skipped,
    FontTable,
}

impl<'a> Rtf<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            out: String::new(),
            notes: String::new(),
            pending: Vec::new(),
            units: Vec::new(),
            group: Group {
                encoding: WINDOWS_1252,
                fallback: 1,
                kind: Kind::Text,
                hidden: false,
                note: false,
                in_table: false,
            },
            groups: Vec::new(),
            beyond: 0,
            document_encoding: WINDOWS_1252,
            fonts: std::collections::HashMap::new(),
            defined_font: 0,
        }
    }

    fn read(&mut self) {
        let mut opened = false;
        while let Some(byte) = self.next() {
            match byte {
                b'{' => {
                    opened = true;
                    self.open();
                }
                b'}' => {
                    self.close();
                    if opened && self.groups.is_empty() {
                        return;
                    }
                }
                b'\\' => self.control(),
                b'\r' | b'\n' | 0 => {}
                b'\t' => self.put("\t"),
                _ => self.byte(byte),
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn open(&mut self) {
        self.flush();
        if self.groups.len() < MAX_DEPTH {
            self.groups.push(self.group);
        } else {
            self.beyond += 1;
        }
    }

    fn close(&mut self) {
        self.flush();
        if self.beyond > 0 {
            self.beyond -= 1;
        } else if let Some(group) = self.groups.pop() {
            self.group = group;
        }
    }

    fn control(&mut self) {
        let Some(byte) = self.next() else { return };
        match byte {
            b'\'' => {
                if let Some(byte) = self.hex() {
                    self.byte(byte);
                }
            }
            b'*' => self.starred(),
            b'~' => self.put("\u{a0}"),
            b'_' => self.put("-"),
            b'-' => {}
            b'\r' | b'\n' => self.put("\n"),
            b'\\' | b'{' | b'}' => self.byte(byte),
            b'a'..=b'z' | b'A'..=b'Z' => self.word(),
            _ => {}
        }
    }

    fn hex(&mut self) -> Option<u8> {
        let digits = self.bytes.get(self.at..self.at + 2)?;
        let value = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        self.at += 2;
        Some(value)
    }

    /// `\*`: whoever does not know the destination skips it.
    fn starred(&mut self) {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        if !words::KNOWN_STARRED
            .iter()
            .any(|name| rest.starts_with(name))
        {
            self.group.kind = Kind::Skipped;
        }
    }

    /// A control word: letters, a number that may be negative, and one space that belongs to it.
    fn word(&mut self) {
        let start = self.at - 1;
        let letters = self.bytes[start..]
            .iter()
            .take_while(|b| b.is_ascii_alphabetic())
            .count();
        let name = &self.bytes[start..start + letters];
        let mut end = start + letters;
        let minus = self.bytes.get(end) == Some(&b'-');
        let digits_at = end + usize::from(minus);
        let digits = self.bytes.get(digits_at..).map_or(0, |rest| {
            rest.iter()
                .take(10)
                .take_while(|b| b.is_ascii_digit())
                .count()
        });
        let mut number = None;
        if digits > 0 {
            end = digits_at + digits;
            number = std::str::from_utf8(&self.bytes[start + letters..end])
                .ok()
                .and_then(|n| n.parse::<i32>().ok());
        }
        self.at = end + usize::from(self.bytes.get(end) == Some(&b' '));
        self.perform(name, number);
    }

    fn perform(&mut self, name: &[u8], number: Option<i32>) {
        let on = number != Some(0);
        match word(name) {
            Word::Text(text) => self.put(text),
            Word::Skip => self.group.kind = Kind::Skipped,
            Word::FontTable => self.group.kind = Kind::FontTable,
            Word::Unicode => self.unicode(number.unwrap_or(0)),
            Word::Fallback => {
                self.group.fallback = usize::try_from(number.unwrap_or(1)).unwrap_or(1).min(16);
            }
            Word::Hidden => {
                self.flush();
                self.group.hidden = on;
            }
            Word::Binary => {
                self.flush();
                self.at = self
                    .at
                    .saturating_add(usize::try_from(number.unwrap_or(0)).unwrap_or(0));
            }
            Word::CodePage => {
                self.document_encoding = number.and_then(words::code_page).unwrap_or(WINDOWS_1252);
                self.group.encoding = self.document_encoding;
            }
            Word::Macintosh => {
                self.document_encoding = encoding_rs::MACINTOSH;
                self.group.encoding = self.document_encoding;
            }
            Word::Font => {
                let font = number.unwrap_or(0);
                if self.group.kind == Kind::FontTable {
                    self.defined_font = font;
                } else {
                    self.flush();
                    self.group.encoding = self
                        .fonts
                        .get(&font)
                        .copied()
                        .unwrap_or(self.document_encoding);
                }
            }
            Word::FontCharset => {
                if let Some(encoding) = number.and_then(words::charset)
                    && self.fonts.len() < 10_000
                {
                    self.fonts.insert(self.defined_font, encoding);
                }
            }
            Word::Plain => {
                self.flush();
                self.group.encoding = self.document_encoding;
                self.group.hidden = false;
            }
            Word::Paragraph if self.group.in_table => self.put(" "),
            Word::Paragraph => self.put("\n"),
            Word::Note => {
                self.flush();
                self.group.note = true;
                self.group.in_table = false;
                self.put("\n");
            }
            Word::InTable => self.group.in_table = true,
            Word::ParagraphDefaults => self.group.in_table = false,
            Word::Other => {}
        }
    }

    /// `\uN`: a UTF-16 unit, as a signed number; then the fallback that readers of old wrote is skipped.
    fn unicode(&mut self, number: i32) {
        if !self.pending.is_empty() {
            self.flush();
        }
        if self.visible() {
            self.units.push((number & 0xffff) as u16);
        }
        for _ in 0..self.group.fallback {
            match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(b'\\'), Some(b'\'')) => self.at += 4,
                (Some(b'\\'), Some(b'{' | b'}' | b'\\')) => self.at += 2,
                // Another control word, or the group's end, ends the fallback.
                (Some(b'\\' | b'{' | b'}') | None, _) => return,
                _ => self.at += 1,
            }
        }
    }

    fn visible(&self) -> bool {
        self.group.kind == Kind::Text && !self.group.hidden
    }

    fn byte(&mut self, byte: u8) {
        if self.visible() {
            if !self.units.is_empty() {
                self.flush();
            }
            self.pending.push(byte);
        }
    }

    fn put(&mut self, text: &str) {
        self.flush();
        if self.visible() {
            self.out().push_str(text);
        }
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            let (text, _) = self.group.encoding.decode_without_bom_handling(&pending);
            self.out().push_str(&text);
        }
        if !self.units.is_empty() {
            let text = String::from_utf16_lossy(&std::mem::take(&mut self.units));
            self.out().push_str(&text);
        }
    }

    fn out(&mut self) -> &mut String {
        if self.group.note {
            &mut self.notes
        } else {
            &mut self.out
        }
    }
}

#[cfg(test)]
mod tests;
