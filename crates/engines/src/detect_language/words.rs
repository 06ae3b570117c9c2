//! The commonest words of a language. Trigrams need a sentence to speak clearly; two or three function words do not.

use std::collections::HashMap;
use std::sync::LazyLock;

use whatlang::Lang;

use super::languages;

/// How many of a text's words are among the commonest of each language.
pub(super) fn counts(text: &str) -> HashMap<Lang, u32> {
    let mut counts = HashMap::new();
    for word in words(text) {
        for lang in languages_of(&word) {
            *counts.entry(*lang).or_default() += 1;
        }
    }
    counts
}

/// Whether a word (of [`words`]) is among the commonest of a language, given by its BCP 47 code.
pub(crate) fn is_common(word: &str, language: &str) -> bool {
    languages_of(word)
        .iter()
        .any(|lang| languages::code(*lang) == language)
}

/// The words of a text in lower case. A word that an apostrophe parts from the next keeps it: `c'est` gives `c'` and `est`.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c| !is_letter(c));
        let end = rest.find(|c| !is_letter(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let mut word = word.to_lowercase();
        let mut following = after.chars();
        if matches!(following.next(), Some('\'' | '’')) && following.next().is_some_and(is_letter)
        {
            word.push('\'');
        }
        (!word.is_empty()).then_some(word)
    })
}

/// A letter, or a mark that stands on one (an accent, a point of Hebrew, a vowel sign that Unicode does not call alphabetic).
fn is_letter(c: char) -> bool {
    c.is_alphabetic()
        || matches!(c, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{64b}'..='\u{65f}' | '\u{93c}' | '\u{94d}')
}

/// The languages that a word is common in. A word before an apostrophe is looked up with it first ("c'"), then without ("parents'").
fn languages_of(word: &str) -> &'static [Lang] {
    static WORDS: LazyLock<HashMap<&str, Vec<Lang>>> =
        LazyLock::new(|| read(include_str!("common_words.txt")));
    let found = WORDS
        .get(word)
        .or_else(|| WORDS.get(word.strip_suffix('\'')?));
    found.map_or(&[], Vec::as_slice)
}

fn read(lines: &'static str) -> HashMap<&'static str, Vec<Lang>> {
    let mut words: HashMap<&str, Vec<Lang>> = HashMap::new();
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split_ascii_whitespace();
        let Some(lang) = columns.next().and_then(languages::from_code) else {
            continue;
        };
        for word in columns {
            let langs = words.entry(word).or_default();
            if !langs.contains(&lang) {
                langs.push(lang);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_names_a_known_language_and_its_words_are_words() {
        for line in include_str!("common_words.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let (code, listed) = line.split_once(' ').unwrap();
            assert_eq!(languages::from_code(code).map(languages::code), Some(code));
            for word in listed.split(' ') {
                // A word before an apostrophe is found only where another word follows.
                let text = if word.ends_with('\'') {
                    format!("{word}x")
                } else {
                    word.to_owned()
                };
                assert_eq!(words(&text).next().as_deref(), Some(word), "{code}");
                assert!(is_common(word, code), "{code}: {word}");
            }
        }
    }

    #[test]
    fn an_apostrophe_parts_words() {
        let parted: Vec<String> = words("C’est l'hiver, isn't it? '90s dogs' 7").collect();
        assert_eq!(
            parted,
            ["c'", "est", "l'", "hiver", "isn'", "t", "it", "s", "dogs"]
        );
    }
}
