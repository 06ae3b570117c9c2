//! JSON lines: one line of compact JSON a result.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use serde_json::Value;

use super::append::{Appender, End};
use crate::channels::{Parcel, Verdict};

/// Adds a line for each parcel.
pub(super) fn add(
    writer: &mut Appender,
    name: &str,
    parcels: &[Parcel],
) -> io::Result<Vec<Verdict>> {
    let mut opened = writer.open()?;
    let lines: Vec<String> = parcels
        .iter()
        .map(|parcel| format!("{}\n", parcel.content))
        .collect();
    opened.mend(begun(&lines, parcels), judge)?;
    let news = news(&lines, parcels, |adding| opened.tail(adding))?;
    let adding: String = news
        .iter()
        .map(|(line, there)| if *there { "" } else { *line })
        .collect();
    opened.add(adding.as_bytes())?;
    Ok(verdicts(name, news.iter().map(|(_, there)| *there)))
}

/// The lines that an earlier attempt may have begun.
pub(super) fn begun<'l>(lines: &'l [String], parcels: &[Parcel]) -> impl Iterator<Item = &'l str> {
    let again = parcels.iter().map(|parcel| parcel.attempt > 1);
    let lines = lines.iter().zip(again);
    lines.filter_map(|(line, again)| again.then_some(line.as_str()))
}

/// Each line, and whether an earlier attempt has added it already. Only a line that holds the invocation's id can be told from
/// another delivery's.
pub(super) fn news<'a>(
    lines: &'a [String],
    parcels: &[Parcel],
    tail: impl FnOnce(usize) -> io::Result<String>,
) -> io::Result<Vec<(&'a str, bool)>> {
    let again =
        |parcel: &Parcel, line: &str| parcel.attempt > 1 && line.contains(&parcel.job.to_string());
    let mut found = String::new();
    if lines
        .iter()
        .zip(parcels)
        .any(|(line, parcel)| again(parcel, line))
    {
        found = tail(lines.iter().map(String::len).sum())?;
    }
    Ok(lines
        .iter()
        .zip(parcels)
        .map(|(line, parcel)| {
            let there = again(parcel, line) && found.contains(&format!("\n{line}"));
            (line.as_str(), there)
        })
        .collect())
}

/// What became of lines that are there now.
pub(super) fn verdicts(name: &str, there: impl Iterator<Item = bool>) -> Vec<Verdict> {
    there
        .map(|there| {
            let how = if there { "was in" } else { "added to" };
            Verdict::delivered(None, format!("{how} {name}"))
        })
        .collect()
}

/// Whether the last line is whole. Half of one is cut off only where it is the start of JSON and no JSON by itself: nothing else is
/// surely nobody's whole line.
fn judge(file: &mut File, from: u64) -> io::Result<End> {
    let start = last_line(file, from)?;
    let mut line = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut line)?;
    if line.is_empty() {
        return Ok(End::Whole);
    }
    Ok(match serde_json::from_slice::<Value>(&line) {
        Err(error) if error.is_eof() => End::Torn(start),
        // Also a number, though it may be the start of a longer one.
        Ok(_) | Err(_) => End::Unended(b"\n"),
    })
}

/// Where the line starts that has no ending: the file's length where there is none such.
fn last_line(file: &mut File, from: u64) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let mut end = file.metadata()?.len();
    while end > from {
        let start = end.saturating_sub(STEP).max(from);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&*file).take(end - start).read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(from)
}
