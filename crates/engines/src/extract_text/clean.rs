//! The form that every text leaves in: NFC, `\n` line ends, no control characters, no trailing spaces.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// A page's text. Blank lines at its start and end go, too.
pub(super) fn text(raw: &str) -> String {
    let visible: String = raw
        .replace("\r\n", "\n")
        .chars()
        .map(|c| if is_line_end(c) { '\n' } else { c })
        .filter(|c| *c == '\n' || is_visible(*c))
        .collect();
    let normal = normal(&visible);
    let mut out = String::with_capacity(normal.len());
    for line in normal.split('\n') {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let end = out.trim_end().len();
    out.truncate(end);
    let start = out.len() - out.trim_start_matches('\n').len();
    out.drain(..start);
    out
}

/// A text that must stay on one line.
pub(super) fn line(raw: &str) -> String {
    let visible: String = raw
        .chars()
        .map(|c| if is_line_end(c) { ' ' } else { c })
        .filter(|c| is_visible(*c))
        .collect();
    normal(&visible).trim_end().to_owned()
}

/// Every run of white space as one space, none at the ends.
pub(super) fn squeezed(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for word in raw.split(|c: char| c.is_whitespace() && c != '\u{a0}') {
        if !word.is_empty() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(word);
        }
    }
    out
}

/// At most one blank line in a row: for formats whose empty paragraphs are layout.
pub(super) fn few_blank_lines(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut blanks = 0;
    for line in raw.lines() {
        if line.trim().is_empty() {
            blanks += 1;
        } else {
            if blanks > 0 && !out.is_empty() {
                out.push('\n');
            }
            blanks = 0;
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn normal(raw: &str) -> std::borrow::Cow<'_, str> {
    match is_nfc_quick(raw.chars()) {
        IsNormalized::Yes => raw.into(),
        IsNormalized::No | IsNormalized::Maybe => raw.nfc().collect::<String>().into(),
    }
}

fn is_line_end(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// A byte order mark or a soft hyphen inside a text carries nothing for its reader.
fn is_visible(c: char) -> bool {
    c == '\t' || !(c.is_control() || c == '\u{feff}' || c == '\u{ad}')
}

/// A table cell's paragraphs, and the rows of a table in it, on one line.
pub(super) fn one_line(cell: &str) -> String {
    let lines: Vec<&str> = cell
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(" ").replace('\t', " ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_normal_and_free_of_controls() {
        let cases = [
            ("a\r\nb\rc\n", "a\nb\nc"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("nul\0 bell\u{7} tab\tkept", "nul bell tab\tkept"),
            ("trailing  \t\nspaces \n\n\n", "trailing\nspaces"),
            ("\n\n  indented\n\nlines", "  indented\n\nlines"),
            ("\u{feff}mark", "mark"),
            ("page\u{c}break", "page\nbreak"),
            ("", ""),
        ];
        for (raw, expected) in cases {
            assert_eq!(text(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn empty_paragraphs_leave_one_blank_line() {
        assert_eq!(few_blank_lines("\n\na\n\n \n\nb\nc\n\n"), "a\n\nb\nc\n");
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing(raw in ".*") {
            let once = text(&raw);
            prop_assert_eq!(text(&once), once);
        }

        #[test]
        fn no_control_character_survives(raw in proptest::collection::vec(any::<char>(), 0..60)) {
            let raw: String = raw.into_iter().collect();
            prop_assert!(text(&raw).chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
        }
    }
}
