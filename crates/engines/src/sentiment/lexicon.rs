//! VADER's lexicon and emoji table (MIT, see `vader_data/LICENSE.txt`), read once.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The words and emoticons that carry a mood, and the emoji that stand for words.
pub(super) struct Lexicon {
    valences: HashMap<&'static str, f64>,
    emoji: HashMap<char, &'static str>,
}

impl Lexicon {
    /// The lexicon of the published implementation.
    pub(super) fn get() -> &'static Self {
        static LEXICON: LazyLock<Lexicon> = LazyLock::new(Lexicon::read);
        &LEXICON
    }

    /// The mean rating of a lower-case word or emoticon, −4 to 4.
    pub(super) fn valence(&self, word: &str) -> Option<f64> {
        self.valences.get(word).copied()
    }

    /// The words that an emoji stands for.
    pub(super) fn words_of(&self, emoji: char) -> Option<&'static str> {
        self.emoji.get(&emoji).copied()
    }

    fn read() -> Self {
        // A word that is listed twice has its last rating: a later entry replaces an earlier one.
        let valences = columns(include_str!("vader_data/lexicon.tsv"))
            .filter_map(|(word, valence)| Some((word, valence.parse().ok()?)))
            .collect();
        let emoji = columns(include_str!("vader_data/emoji.tsv"))
            .filter_map(|(emoji, words)| Some((emoji.chars().next()?, words)))
            .collect();
        Self { valences, emoji }
    }
}

fn columns(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.lines().filter_map(|line| line.split_once('\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_both_tables_is_read() {
        let lexicon = Lexicon::get();
        // 7,520 lines, 14 of which repeat a word.
        assert_eq!(lexicon.valences.len(), 7506);
        assert_eq!(lexicon.emoji.len(), 1212);
        assert_eq!(lexicon.valence("good"), Some(1.9));
        assert_eq!(lexicon.valence(":)"), Some(2.0));
        assert_eq!(
            lexicon.words_of('😁'),
            Some("beaming face with smiling eyes")
        );
    }

    #[test]
    fn a_word_that_is_listed_twice_has_its_last_rating() {
        assert_eq!(Lexicon::get().valence("ok"), Some(1.2));
    }
}
