//! CSV (RFC 4180): one row a result.
//!
//! The columns are those of the file's header line; where there is none yet, the keys of the first content, or the result document's
//! own keys where nothing maps it. A row with a value that has no column is refused: nothing is left out in silence.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};

use csv::ReaderBuilder;
use serde_json::{Map, Value};

use super::append::{Appender, End};
use super::lines::{begun, news, verdicts};
use crate::channels::{Parcel, Verdict};

/// The keys of a result document, with those that only some have.
const RESULT: [&str; 6] = ["id", "integration", "status", "answers", "steps", "error"];

/// Adds a row for each parcel whose content is an object that the columns have room for. `map` is the filter that made the contents.
pub(super) fn add(
    writer: &mut Appender,
    name: &str,
    parcels: &[Parcel],
    map: Option<&str>,
) -> io::Result<Vec<Verdict>> {
    let Some(first) = parcels.iter().find_map(|parcel| parcel.content.as_object()) else {
        return Ok(parcels.iter().map(|_| no_object()).collect());
    };
    let mut opened = writer.open()?;
    let (columns, header) = if opened.length > 0 {
        (columns(&mut opened.file)?, String::new())
    } else {
        let columns: Vec<String> = match map {
            Some(_) => first.keys().map(|key| harmless(key)).collect(),
            None => RESULT.map(str::to_owned).to_vec(),
        };
        let header = row(columns.iter().cloned());
        (columns, header)
    };
    let (mut rows, mut sent, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for parcel in parcels {
        let fits = match parcel.content.as_object() {
            None => Err(no_object()),
            Some(object) => lacking(&columns, object, map).map_or(Ok(object), Err),
        };
        refused.push(fits.map(|object| {
            rows.push(row(columns
                .iter()
                .map(|column| cell(value(column, object)))));
            sent.push(parcel.clone());
        }));
    }
    let mut written = Vec::new();
    if !rows.is_empty() {
        opened.mend(begun(&rows, &sent), judge)?;
        let news = news(&rows, &sent, |adding| opened.tail(adding))?;
        let lines = news
            .iter()
            .map(|(row, there)| if *there { "" } else { *row });
        let adding: String = std::iter::once(header.as_str()).chain(lines).collect();
        opened.add(adding.as_bytes())?;
        written = verdicts(name, news.iter().map(|(_, there)| *there));
    }
    let mut written = written.into_iter();
    Ok(refused
        .into_iter()
        .filter_map(|refused| match refused {
            Ok(()) => written.next(),
            Err(verdict) => Some(verdict),
        })
        .collect())
}

fn no_object() -> Verdict {
    Verdict::dead(
        None,
        "a row needs an object; let map make one, such as {id, status}",
    )
}

/// The refusal of a content that has values without a column. Names only keys that the configuration knows: others may be part of an
/// answer.
fn lacking(columns: &[String], content: &Map<String, Value>, map: Option<&str>) -> Option<Verdict> {
    let has_column = |key: &str| columns.iter().any(|column| stands_for(column, key));
    let lacking: Vec<&str> = content
        .iter()
        .filter(|(key, value)| !value.is_null() && !has_column(key))
        .map(|(key, _)| key.as_str())
        .collect();
    if lacking.is_empty() {
        return None;
    }
    let known = |key: &&str| RESULT.contains(key) || map.is_some_and(|map| map.contains(*key));
    let (named, others): (Vec<&str>, Vec<&str>) = lacking.into_iter().partition(known);
    let mut keys = named.join(", ");
    if !others.is_empty() {
        let and = if named.is_empty() { "" } else { " and " };
        keys = format!("{keys}{and}{} that map takes from the result", others.len());
    }
    let sentence = format!(
        "the row has keys that the header lacks: {keys}; use a new file, or give it these columns"
    );
    Some(Verdict::dead(None, sentence))
}

/// A row. Also quoted is what only other readers take for the end of a cell.
fn row(cells: impl Iterator<Item = String>) -> String {
    let mut row = String::new();
    for (nth, cell) in cells.enumerate() {
        if nth > 0 {
            row.push(',');
        }
        if cell.contains([',', ';', '\t', '"', '\r', '\n']) {
            row.push('"');
            row.push_str(&cell.replace('"', "\"\""));
            row.push('"');
        } else {
            row.push_str(&cell);
        }
    }
    if row.is_empty() {
        row.push_str("\"\""); // one empty cell, which an empty line is not
    }
    row.push_str("\r\n");
    row
}

/// What an object has for a column.
fn value<'v>(column: &str, object: &'v Map<String, Value>) -> Option<&'v Value> {
    object.get(column).or_else(|| {
        let mut pairs = object.iter();
        pairs.find_map(|(key, value)| stands_for(column, key).then_some(value))
    })
}

/// Whether a column of the header line is that of a key.
fn stands_for(column: &str, key: &str) -> bool {
    column == key || column == harmless(key)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => harmless(text),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        Some(value) => harmless(&value.to_string()),
    }
}

/// A text that no spreadsheet takes for a formula, nor a part of it where one splits the line at other separators than commas: those
/// follow the machine's region, and a quote within a cell does not stop them.
fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len() + 1);
    if text.starts_with(['\t', '\r', '\n']) {
        harmless.push('\'');
    }
    let mut begins = true;
    for char in text.chars() {
        if begins && matches!(char, '=' | '+' | '-' | '@') {
            harmless.push('\'');
        }
        begins = match char {
            ';' | '\t' | '\r' | '\n' => true,
            _ => begins && (char.is_whitespace() || char == '"'),
        };
        harmless.push(char);
    }
    harmless
}

/// The columns of the file's header line.
fn columns(file: &mut File) -> io::Result<Vec<String>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(&*file);
    let columns = reader.headers()?.iter();
    Ok(columns
        .map(|column| column.trim_start_matches('\u{feff}').to_owned())
        .collect())
}

/// Where in a row a byte stands. A quote opens only at a cell's start: elsewhere it is a character as any other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Plain,
    Quoted,
    /// After a quote within quotes: their end, unless another follows.
    Closed,
}

/// Whether the last row is whole: its line ending is outside of quotes. Nothing is cut here, because any row may be somebody's whole one.
/// An open quote is closed, so that what follows is a row again.
fn judge(file: &mut File, from: u64) -> io::Result<End> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(64 * 1024, &*file);
    let (mut at, mut last, mut byte_order_mark) = (At::Start, b'\n', from == 0);
    loop {
        let bytes = reader.fill_buf()?;
        let Some(end) = bytes.last() else {
            break;
        };
        last = *end;
        let skipped = if byte_order_mark && bytes.starts_with(b"\xef\xbb\xbf") {
            3
        } else {
            0
        };
        byte_order_mark = false;
        at = bytes[skipped..]
            .iter()
            .fold(at, |at, byte| match (at, byte) {
                (At::Start | At::Closed, b'"') => At::Quoted,
                (At::Quoted, b'"') => At::Closed,
                (At::Quoted, _) => At::Quoted,
                (_, b',' | b'\r' | b'\n') => At::Start,
                _ => At::Plain,
            });
        let read = bytes.len();
        reader.consume(read);
    }
    Ok(match (at, last) {
        (At::Quoted, _) => End::Unended(b"\"\n"),
        (_, b'\n') => End::Whole,
        _ => End::Unended(b"\n"),
    })
}
