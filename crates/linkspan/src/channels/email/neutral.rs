//! Texts out of documents, made harmless for people's eyes: nothing that steers a terminal, breaks a line out of its place, or turns
//! the direction in which the rest is read.

/// The text without control characters (but tab and line feed) and without what overrides the direction of writing (the embeddings,
/// overrides and isolates of Unicode's UAX #9); each leaves a U+FFFD, so that people see that something was there.
pub(super) fn neutral(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(tame).collect()
}

/// The same on one line, of at most so many characters.
pub(super) fn one_line(text: &str, longest: usize) -> String {
    let words: Vec<String> = text.split_whitespace().map(neutral).collect();
    let line = words.join(" ");
    if line.chars().count() <= longest {
        return line;
    }
    line.chars().take(longest - 1).chain(['…']).collect()
}

fn tame(char: char) -> char {
    match char {
        '\t' | '\n' => char,
        // Ends of lines and pages.
        '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        // Invisible letters of old language tags.
        '\u{e0000}'..='\u{e007f}' => char::REPLACEMENT_CHARACTER,
        _ if char.is_control() => char::REPLACEMENT_CHARACTER,
        _ => char,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_shown_as_a_mark() {
        for (text, expected) in [
            ("invoice\u{202e}fdp.exe", "invoice\u{fffd}fdp.exe"),
            ("a\u{1b}[31mb\u{7}", "a\u{fffd}[31mb\u{fffd}"),
            ("one\r\ntwo\u{c}three", "one\ntwo\nthree"),
            ("\u{2067}x\u{2069}", "\u{fffd}x\u{fffd}"),
            ("שלום مرحبا", "שלום مرحبا"),
        ] {
            assert_eq!(neutral(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_is_one_line_and_short() {
        assert_eq!(one_line("a\r\nBcc: b@c\u{2028}d", 40), "a Bcc: b@c d");
        assert_eq!(
            one_line(&"x".repeat(300), 10),
            format!("{}…", "x".repeat(9))
        );
    }
}
