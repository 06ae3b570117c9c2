//! A mail server's replies: their lines, and what of them may be shown.

/// The most characters of a server's text that are kept.
const LONGEST: usize = 120;

/// Code, whether more lines follow, and text of a reply's line without its line feed (RFC 5321 section 4.2).
pub(super) fn line(line: &str) -> Option<(u16, bool, &str)> {
    let line = line.trim_end_matches('\r');
    let code = line.get(..3)?;
    if !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let code = code.parse().ok()?;
    match line.as_bytes().get(3) {
        None => Some((code, false, "")),
        Some(b' ') => Some((code, false, line.get(4..)?)),
        Some(b'-') => Some((code, true, line.get(4..)?)),
        Some(_) => None,
    }
}

/// A short, printable part of what a server said, without the part of an address that names a person. `names` are such parts that are
/// known: a server may quote them alone.
pub(super) fn short(text: &str, names: &[&str]) -> String {
    let printable: String = text
        .chars()
        .map(|char| if char.is_ascii_graphic() { char } else { ' ' })
        .collect();
    let words: Vec<String> = printable
        .split_whitespace()
        .map(|word| match word.rsplit_once('@') {
            Some((_, domain)) => format!("…@{domain}"),
            None if names.iter().any(|name| holds_name(word, name)) => "…".to_owned(),
            None => word.to_owned(),
        })
        .collect();
    let line = words.join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    line.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// Whether a word is a name, but for the marks around it.
fn holds_name(word: &str, name: &str) -> bool {
    word.trim_matches(|char: char| char.is_ascii_punctuation())
        .eq_ignore_ascii_case(name.trim_matches(|char: char| char.is_ascii_punctuation()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_code_and_says_whether_more_follow() {
        for (text, expected) in [
            ("250-STARTTLS\r", Some((250, true, "STARTTLS"))),
            ("220 ready", Some((220, false, "ready"))),
            ("354", Some((354, false, ""))),
            ("25", None),
            ("abc hello", None),
            ("250_x", None),
            ("2é0 x", None),
            ("HTTP/1.1 400 Bad Request", None),
        ] {
            assert_eq!(line(text), expected, "{text}");
        }
    }

    #[test]
    fn a_servers_words_are_short_and_name_nobody() {
        for (text, expected) in [
            ("2.0.0 Ok: queued as 4F1A", "2.0.0 Ok: queued as 4F1A"),
            (
                "5.1.1 <ann.lee@example.com>: no such user",
                "5.1.1 …@example.com>: no such user",
            ),
            ("5.1.1 User 'ann.lee' unknown", "5.1.1 User … unknown"),
            ("a\r\nb\u{1b}[31m\u{202e}c", "a b [31m c"),
        ] {
            assert_eq!(short(text, &["ann.lee"]), expected, "{text}");
        }
        assert_eq!(short(&"x".repeat(500), &[]).chars().count(), LONGEST);
    }
}
