//! Tables in text: the delimiter is found, cells are joined by tabs, one row a line.

use super::{Extracted, Reader, clean, one_page, text};
use crate::engine::{Document, EngineError};

/// What tables are delimited by, the likeliest first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// How much of a table is looked at to find its delimiter.
const SAMPLE: usize = 64 * 1024;

pub(super) fn extract(
    document: &Document<'_>,
    _reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    let decoded = text::decode(document.bytes, document.media_type.and_then(text::charset));
    let content = decoded.text.trim_start_matches('\u{feff}');
    let (content, delimiter) = match declared_delimiter(content) {
        Some((delimiter, rest)) => (rest, delimiter),
        None => (content, delimiter(content)),
    };
    let mut rows = ::csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(content.as_bytes());
    let mut out = String::with_capacity(content.len());
    let mut widths: Vec<usize> = Vec::new();
    let mut damaged = 0usize;
    for row in rows.byte_records() {
        let Ok(row) = row else {
            damaged += 1;
            continue;
        };
        widths.push(row.len());
        let cells: Vec<String> = row
            .iter()
            .map(|cell| clean::squeezed(&String::from_utf8_lossy(cell)))
            .collect();
        out.push_str(&cells.join("\t"));
        out.push('\n');
    }
    let mut extracted = one_page(out);
    extracted.warnings.extend(decoded.warning);
    if damaged > 0 {
        extracted.warnings.push(format!(
            "{damaged} rows of the table could not be read and are left out"
        ));
    }
    extracted.warnings.extend(uneven(&widths));
    if quotes_left_open(content, delimiter) {
        extracted.warnings.push(
            "a quoted cell of the table is never closed: the rows after it are read as one cell"
                .to_owned(),
        );
    }
    Ok(extracted)
}

/// Whether a text is a table: at least `rows` rows of the same two or more columns, by some delimiter.
pub(super) fn is_table(head: &str, rows: usize) -> bool {
    DELIMITERS.into_iter().any(|delimiter| {
        let widths = widths(head, delimiter);
        widths.len() >= rows && widths[0] >= 2 && widths.iter().all(|width| *width == widths[0])
    })
}

/// Excel's own first line: `sep=;`.
fn declared_delimiter(content: &str) -> Option<(u8, &str)> {
    let (first, rest) = content.split_once('\n')?;
    match first
        .trim_end_matches('\r')
        .strip_prefix("sep=")?
        .as_bytes()
    {
        [delimiter] => Some((*delimiter, rest)),
        _ => None,
    }
}

/// The delimiter under which the rows are most even, and then widest.
fn delimiter(content: &str) -> u8 {
    let score = |delimiter: u8| {
        let widths = widths(content, delimiter);
        let Some(usual) = usual(&widths) else {
            return 0.0;
        };
        let even =
            widths.iter().filter(|width| **width == usual).count() as f64 / widths.len() as f64;
        if usual < 2 {
            0.0
        } else {
            even + (usual as f64).ln() / 100.0
        }
    };
    let mut best = (DELIMITERS[0], 0.0);
    for delimiter in DELIMITERS {
        let score = score(delimiter);
        if score > best.1 {
            best = (delimiter, score);
        }
    }
    best.0
}

/// The number of cells of each row at the start; the last row may be cut.
fn widths(content: &str, delimiter: u8) -> Vec<usize> {
    let mut end = content.len().min(SAMPLE);
    while !content.is_char_boundary(end) {
        end -= 1;
    }
    let mut rows: Vec<usize> = ::csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(&content.as_bytes()[..end])
        .byte_records()
        .filter_map(Result::ok)
        .map(|row| row.len())
        .collect();
    if rows.len() > 2 && (end < content.len() || !content.ends_with('\n')) {
        rows.pop();
    }
    rows
}

/// The most frequent width.
fn usual(widths: &[usize]) -> Option<usize> {
    let mut counts = std::collections::BTreeMap::new();
    for width in widths {
        *counts.entry(*width).or_insert(0usize) += 1;
    }
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(width, _)| width)
}

fn uneven(widths: &[usize]) -> Option<String> {
    let usual = usual(widths)?;
    let odd: Vec<usize> = (1..)
        .zip(widths)
        .filter(|(_, w)| **w != usual)
        .map(|(n, _)| n)
        .collect();
    let first = odd.first()?;
    Some(format!(
        "{} of {} rows of the table have another number of cells than the usual {usual}; the first is row {first}",
        odd.len(),
        widths.len()
    ))
}

/// Whether the text ends inside quotes.
fn quotes_left_open(content: &str, delimiter: u8) -> bool {
    let mut quoted = false;
    let mut at_start = true;
    let mut bytes = content.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if quoted {
            if byte == b'"' {
                if bytes.peek() == Some(&b'"') {
                    bytes.next();
                } else {
                    quoted = false;
                }
            }
        } else if byte == b'"' && at_start {
            quoted = true;
        } else {
            at_start = byte == delimiter || byte == b'\n' || byte == b'\r';
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use crate::extract_text::testing::{hinted, text_of};

    #[test]
    fn the_delimiter_is_found() {
        let expected = "name\tcity\tamount\nAnna Muster\tBern\t1,50\nPiet Jansen\tDelft\t2,75";
        for table in [
            "name;city;amount\nAnna Muster;Bern;1,50\nPiet Jansen;Delft;2,75\n",
            "name\tcity\tamount\r\nAnna Muster\tBern\t1,50\r\nPiet Jansen\tDelft\t2,75\r\n",
            "name|city|amount\nAnna Muster|Bern|1,50\nPiet Jansen|Delft|2,75",
            "name,city,amount\n\"Anna Muster\",Bern,\"1,50\"\nPiet Jansen,Delft,\"2,75\"\n",
            "sep=;\nname;city;amount\nAnna Muster;Bern;1,50\nPiet Jansen;Delft;2,75\n",
        ] {
            let read = hinted(table.as_bytes(), "text/csv").unwrap();
            assert_eq!(read.text, expected);
            assert_eq!(read.media_type, "text/csv");
            assert_eq!(read.warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn a_newline_in_quotes_stays_in_its_cell() {
        assert_eq!(
            text_of(
                "a,b\n\"first\nsecond \"\"x\"\"\",c\n".as_bytes(),
                "text/csv"
            ),
            "a\tb\nfirst second \"x\"\tc"
        );
    }

    #[test]
    fn damage_is_read_and_reported() {
        let read = hinted(b"a,b\n1,2\n3\n4,5\n", "text/csv").unwrap();
        assert_eq!(read.text, "a\tb\n1\t2\n3\n4\t5");
        assert!(read.warnings[0].contains("row 3"), "{:?}", read.warnings);
        let read = hinted(b"a,b\n\"1,2\n3,4\n", "text/csv").unwrap();
        assert!(
            read.warnings.iter().any(|w| w.contains("never closed")),
            "{:?}",
            read.warnings
        );
    }

    #[test]
    fn eight_bit_encodings_are_read() {
        let latin = encoding_rs::WINDOWS_1252
            .encode("Größe;Straße\nklein;Hauptstraße\ngroß;Römerweg\n")
            .0
            .into_owned();
        assert_eq!(
            text_of(&latin, "text/csv"),
            "Größe\tStraße\nklein\tHauptstraße\ngroß\tRömerweg"
        );
    }
}
