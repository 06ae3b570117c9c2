//! CSV (RFC 4180): one row a result.
//!
//! The columns are those of the file's header line; where there is none yet, the keys of the first content, or the result document's
//! own keys where nothing maps it. A key that is no column is left out.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};

use csv::{ReaderBuilder, Terminator, WriterBuilder};
use serde_json::{Map, Value};

use super::append::{Appender, End};
use super::lines::{news, verdicts};
use crate::channels::{Parcel, Verdict};

/// The keys of a result document, with those that only some have.
const RESULT: [&str; 6] = ["id", "integration", "status", "answers", "steps", "error"];

/// Adds a row for each parcel whose content is an object.
pub(super) fn add(
    writer: &mut Appender,
    name: &str,
    parcels: &[Parcel],
    mapped: bool,
) -> io::Result<Vec<Verdict>> {
    let objects: Vec<&Map<String, Value>> = parcels
        .iter()
        .filter_map(|parcel| parcel.content.as_object())
        .collect();
    let mut written = Vec::new().into_iter();
    if let Some(first) = objects.first() {
        let mut opened = writer.open(judge)?;
        let (columns, header) = if opened.length > 0 {
            (columns(&mut opened.file)?, String::new())
        } else {
            let columns: Vec<String> = if mapped {
                first.keys().cloned().collect()
            } else {
                RESULT.map(str::to_owned).to_vec()
            };
            let header = row(columns.iter().map(|column| harmless(column)))?;
            (columns, header)
        };
        let rows = objects
            .iter()
            .map(|object| row(columns.iter().map(|column| cell(object.get(column)))))
            .collect::<io::Result<Vec<_>>>()?;
        let sent: Vec<Parcel> = parcels
            .iter()
            .filter(|parcel| parcel.content.is_object())
            .cloned()
            .collect();
        let news = news(&rows, &sent, |adding| opened.tail(adding))?;
        let rows = news
            .iter()
            .map(|(row, there)| if *there { "" } else { *row });
        let adding: String = std::iter::once(header.as_str()).chain(rows).collect();
        opened.add(adding.as_bytes())?;
        written = verdicts(name, news.iter().map(|(_, there)| *there)).into_iter();
    }
    Ok(parcels
        .iter()
        .filter_map(|parcel| {
            if parcel.content.is_object() {
                written.next()
            } else {
                let sentence = "a row needs an object; let map make one, such as {id, status}";
                Some(Verdict::dead(None, sentence))
            }
        })
        .collect())
}

fn row(cells: impl Iterator<Item = String>) -> io::Result<String> {
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    writer.write_record(cells)?;
    let bytes = writer
        .into_inner()
        .map_err(csv::IntoInnerError::into_error)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => harmless(text),
        Some(value) => value.to_string(),
    }
}

/// A text that no spreadsheet takes for a formula.
fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// The columns of the file's header line, as the keys that they stand for.
fn columns(file: &mut File) -> io::Result<Vec<String>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(&*file);
    let columns = reader.headers()?.iter().map(|column| {
        let column = column.trim_start_matches('\u{feff}');
        let guarded = column
            .strip_prefix('\'')
            .filter(|key| harmless(key) == column);
        guarded.unwrap_or(column).to_owned()
    });
    Ok(columns.collect())
}

/// Whether the last row is whole: its line ending is outside of quotes. A header without one is only ended.
fn judge(file: &mut File, from: u64) -> io::Result<End> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(64 * 1024, &*file);
    let (mut at, mut whole, mut quoted) = (from, from, false);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        for byte in bytes {
            at += 1;
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => whole = at,
                _ => {}
            }
        }
        let read = bytes.len();
        reader.consume(read);
    }
    Ok(if whole == at {
        End::Whole
    } else if whole == 0 && !quoted {
        End::Unended
    } else {
        End::Torn(whole)
    })
}
