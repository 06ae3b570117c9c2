//! A text's sentences, by the rules of Unicode (UAX #29) and two of our own.

use unicode_segmentation::UnicodeSegmentation;

use super::lexicon::Lexicon;

/// The sentences of a text, white space made single.
///
/// - Unicode ends a sentence at every line break. Here a single one before a small letter is a wrapped line, as in an email or on a
///   page, and ends none.
/// - Marks, emoticons and emoji behind a sentence belong to it, and an emoticon before a capital ends one.
pub(super) fn split(text: &str) -> Vec<String> {
    let unwrapped = unwrap_lines(text);
    let mut sentences: Vec<String> = Vec::new();
    let mut after_face = false;
    for piece in unwrapped.split_sentence_bounds() {
        let only_marks = !piece.chars().any(char::is_alphanumeric);
        for (i, word) in piece.split_whitespace().enumerate() {
            let face = is_face(word);
            let begins = if i == 0 {
                !face && !only_marks
            } else {
                after_face && word.starts_with(char::is_uppercase)
            };
            match sentences.last_mut() {
                Some(sentence) if !begins => {
                    sentence.push(' ');
                    sentence.push_str(word);
                }
                _ => sentences.push(word.to_owned()),
            }
            after_face = face;
        }
    }
    sentences
}

/// An emoji or an emoticon.
fn is_face(word: &str) -> bool {
    let lexicon = Lexicon::get();
    word.chars()
        .next()
        .is_some_and(|first| !first.is_alphanumeric() && lexicon.words_of(first).is_some())
        || (!word.starts_with(char::is_alphanumeric)
            && lexicon.valence(&word.to_lowercase()).is_some())
}

fn unwrap_lines(text: &str) -> String {
    let mut unwrapped = String::with_capacity(text.len());
    let mut lines = text.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        unwrapped.push_str(line);
        let goes_on = lines
            .peek()
            .is_some_and(|next| !line.is_empty() && next.starts_with(char::is_lowercase));
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
        ] {
            assert_eq!(split(text), sentences, "{text:?}");
        }
    }

    #[test]
    fn emoticons_and_emoji_belong_to_the_sentence_before() {
        for (text, sentences) in [
            ("Great! :-) Thanks. 😀", &["Great! :-)", "Thanks. 😀"][..]),
            ("Great! 😀 Thanks. ...", &["Great! 😀", "Thanks. ..."]),
            ("Great :) thanks", &["Great :) thanks"]),
            ("- one\n- two", &["- one", "- two"]),
            (":-)", &[":-)"]),
        ] {
            assert_eq!(split(text), sentences, "{text:?}");
        }
    }
}
