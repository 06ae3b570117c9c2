//! A text's sentences, by the rules of Unicode (UAX #29).

use unicode_segmentation::UnicodeSegmentation;

/// The sentences of a text, white space made single. Marks, emoticons and emoji that stand alone belong to the sentence before.
///
/// Unicode ends a sentence at every line break. Here a single one before a small letter is a wrapped line, as in an email or on a
/// page, and ends none.
pub(super) fn split(text: &str) -> Vec<String> {
    let unwrapped = unwrap_lines(text);
    let mut sentences: Vec<String> = Vec::new();
    for piece in unwrapped.split_sentence_bounds() {
        let piece = piece.split_whitespace().collect::<Vec<_>>().join(" ");
        if piece.is_empty() {
            continue;
        }
        match sentences.last_mut() {
            Some(before) if !piece.chars().any(char::is_alphanumeric) => {
                before.push(' ');
                before.push_str(&piece);
            }
            _ => sentences.push(piece),
        }
    }
    sentences
}

fn unwrap_lines(text: &str) -> String {
    let mut unwrapped = String::with_capacity(text.len());
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        unwrapped.push_str(line);
        let goes_on = lines.peek().is_some_and(|next| {
            !line.is_empty() && next.chars().next().is_some_and(char::is_lowercase)
        });
        unwrapped.push(if goes_on { ' ' } else { '\n' });
    }
    unwrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_unicode_says_and_at_line_breaks_that_are_not_wraps() {
        for (text, sentences) in [
            ("", &[][..]),
            ("One.", &["One."]),
            ("One. Two! Three?", &["One.", "Two!", "Three?"]),
            (
                "It cost 3.50 at example.com. Fine.",
                &["It cost 3.50 at example.com.", "Fine."],
            ),
            (
                "A line\nwrapped  here. Next\n\nparagraph",
                &["A line wrapped here.", "Next", "paragraph"],
            ),
            ("First line\r\nSecond line", &["First line", "Second line"]),
            ("Great! :-) Thanks. 😀", &["Great! :-)", "Thanks. 😀"]),
            (":-)", &[":-)"]),
        ] {
            assert_eq!(split(text), sentences, "{text:?}");
        }
    }
}
