//! What came from outside, made fit for one line on a screen.

use std::borrow::Cow;

/// The start of a text on one line, at most so many characters: without control characters, characters that turn or hide what stands
/// beside them, and runs of space.
pub(super) fn printable(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split(|char: char| char.is_whitespace() || char.is_control()) {
        let word: Cow<'_, str> = if word.contains(hides) {
            word.chars()
                .filter(|char| !hides(*char))
                .collect::<String>()
                .into()
        } else {
            word.into()
        };
        if word.is_empty() {
            continue;
        }
        let gap = usize::from(!line.is_empty());
        let length = word.chars().count();
        if count + gap + length > most {
            let room = most.saturating_sub(count + gap + 1);
            line.extend(std::iter::repeat_n(' ', gap.min(room)));
            line.extend(word.chars().take(room));
            line.push('…');
            break;
        }
        line.extend(std::iter::repeat_n(' ', gap));
        line.push_str(&word);
        count += gap + length;
    }
    line
}

/// Marks of direction (UAX #9), joiners and the like, and what is no character at all.
fn hides(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_screen_is_left_out_and_what_is_long_is_cut() {
        for (text, most, expected) in [
            ("plain", 10, "plain"),
            ("  two \r\n\t words ", 20, "two words"),
            ("\u{1b}[31mred\u{7}", 20, "[31mred"),
            ("a\u{202e}b\u{2066}c\u{200b}d", 20, "abcd"),
            ("\u{202e}", 20, ""),
            ("exactly ten", 11, "exactly ten"),
            ("one word too many", 10, "one word…"),
            ("endlessword", 5, "endl…"),
            ("größer als", 7, "größer…"),
        ] {
            let line = printable(text, most);
            assert_eq!(line, expected, "{text:?}");
            assert!(line.chars().count() <= most, "{text:?}");
        }
    }
}
