//! A text as VADER sees it: emoji spelled out, words and emoticons apart, and what each word does to its neighbours.

use std::borrow::Cow;

use super::lexicon::Lexicon;

/// A word or an emoticon.
pub(super) struct Token {
    /// In lower case.
    pub(super) lower: String,
    /// Written in capitals throughout.
    pub(super) shouted: bool,
    /// Its rating in the lexicon.
    pub(super) valence: Option<f64>,
    /// How much it strengthens (above 0) or weakens (below 0) what follows.
    pub(super) boost: Option<f64>,
    /// Whether it turns what follows around.
    pub(super) negates: bool,
}

impl Token {
    fn new(word: &str, lexicon: &Lexicon) -> Self {
        let lower = word.to_lowercase();
        Self {
            shouted: is_shouted(word),
            valence: lexicon.valence(&lower),
            boost: boost(&lower),
            negates: negates(&lower),
            lower,
        }
    }

    /// Whether the token is this word.
    pub(super) fn is(&self, word: &str) -> bool {
        self.lower == word
    }

    /// Whether the token is one of these words.
    pub(super) fn is_any(&self, words: &[&str]) -> bool {
        words.contains(&self.lower.as_str())
    }
}

/// The tokens of a text whose emoji are spelled out.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let lexicon = Lexicon::get();
    text.split(is_space)
        .filter(|piece| !piece.is_empty())
        .map(|piece| Token::new(without_punctuation(piece), lexicon))
        .collect()
}

/// The text with every emoji that the table knows replaced by its words. A space is put before the words, none behind them.
pub(super) fn spell_out_emoji(text: &str) -> Cow<'_, str> {
    let lexicon = Lexicon::get();
    if text.is_ascii() || !text.chars().any(|c| lexicon.words_of(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut spelled = String::with_capacity(text.len() * 2);
    let mut after_space = true;
    for c in text.chars() {
        if let Some(words) = lexicon.words_of(c) {
            if !after_space {
                spelled.push(' ');
            }
            spelled.push_str(words);
            after_space = false;
        } else {
            spelled.push(c);
            after_space = c == ' ';
        }
    }
    Cow::Owned(spelled)
}

/// How much a "very" strengthens, and a "slightly" weakens.
pub(super) const BOOST: f64 = 0.293;

/// White space as the published implementation knows it: Unicode's, and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The word without the punctuation around it; an emoticon (which would leave at most two characters) as it stands.
fn without_punctuation(piece: &str) -> &str {
    let word = piece.trim_matches(|c: char| c.is_ascii_punctuation());
    if word.chars().nth(2).is_some() {
        word
    } else {
        piece
    }
}

/// Whether there are capitals and no other case.
fn is_shouted(word: &str) -> bool {
    let mut capitals = false;
    for c in word.chars() {
        if c.is_lowercase() || is_titlecase(c) {
            return false;
        }
        capitals |= c.is_uppercase();
    }
    capitals
}

/// The few letters that are a capital and a small letter in one (Unicode's category Lt).
fn is_titlecase(c: char) -> bool {
    matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | 'ᾈ'..='ᾏ' | 'ᾘ'..='ᾟ' | 'ᾨ'..='ᾯ' | 'ᾼ' | 'ῌ' | 'ῼ')
}

#[rustfmt::skip]
fn boost(word: &str) -> Option<f64> {
    match word {
        "absolutely" | "amazingly" | "awfully" | "completely" | "considerable" | "considerably" | "decidedly" | "deeply"
        | "effing" | "enormous" | "enormously" | "entirely" | "especially" | "exceptional" | "exceptionally" | "extreme"
        | "extremely" | "fabulously" | "flippin" | "flipping" | "frackin" | "fracking" | "frickin" | "fricking" | "friggin"
        | "frigging" | "fuckin" | "fucking" | "fuggin" | "fugging" | "fully" | "greatly" | "hella" | "highly" | "hugely"
        | "incredible" | "incredibly" | "intensely" | "major" | "majorly" | "more" | "most" | "particularly" | "purely"
        | "quite" | "really" | "remarkably" | "so" | "substantially" | "thoroughly" | "total" | "totally" | "tremendous"
        | "tremendously" | "uber" | "unbelievably" | "unusually" | "utter" | "utterly" | "very" => Some(BOOST),
        "almost" | "barely" | "hardly" | "kind-of" | "kinda" | "kindof" | "less" | "little" | "marginal" | "marginally"
        | "occasional" | "occasionally" | "partly" | "scarce" | "scarcely" | "slight" | "slightly" | "somewhat" | "sort-of"
        | "sorta" | "sortof" => Some(-BOOST),
        _ => None,
    }
}

#[rustfmt::skip]
fn negates(word: &str) -> bool {
    word.contains("n't")
        || matches!(
            word,
            "aint" | "arent" | "cannot" | "cant" | "couldnt" | "darent" | "despite" | "didnt" | "doesnt" | "dont" | "hadnt"
            | "hasnt" | "havent" | "isnt" | "mightnt" | "mustnt" | "neednt" | "neither" | "never" | "none" | "nope" | "nor"
            | "not" | "nothing" | "nowhere" | "oughtnt" | "rarely" | "seldom" | "shant" | "shouldnt" | "uh-uh" | "uhuh"
            | "wasnt" | "werent" | "without" | "wont" | "wouldnt"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|token| token.lower).collect()
    }

    #[test]
    fn punctuation_falls_off_words_and_stays_on_emoticons() {
        assert_eq!(
            words("\"Well, (really) :-) it's #1!"),
            ["well", "really", ":-)", "it's", "#1!"]
        );
    }

    #[test]
    fn a_word_that_would_keep_two_letters_keeps_its_punctuation() {
        assert_eq!(words("OK! no, yes!"), ["ok!", "no,", "yes"]);
    }

    #[test]
    fn the_separators_of_ascii_part_words_too() {
        assert_eq!(
            words("one\u{1f}two\u{a0}three\u{3000}four"),
            ["one", "two", "three", "four"]
        );
    }

    #[test]
    fn an_emoji_becomes_words_with_a_space_before_and_none_behind() {
        assert_eq!(
            spell_out_emoji("so😀good 😀 end"),
            "so grinning facegood grinning face end"
        );
        assert_eq!(spell_out_emoji("naïve"), "naïve");
    }

    #[test]
    fn only_capitals_are_shouting() {
        for (word, shouted) in [
            ("GREAT", true),
            ("GREAT1", true),
            ("GReAT", false),
            ("123", false),
            ("ǅ", false),
            ("ÄRGER", true),
        ] {
            assert_eq!(is_shouted(word), shouted, "{word}");
        }
    }
}
