//! VADER's rules: what a text's words, their neighbours and its punctuation say of its mood.
//!
//! The scores equal those of the PyPI package `vaderSentiment` 3.3.2, its oddities included: the rules below say where they look odd.
//! Hutto, C.J. and Gilbert, E.E. (2014), VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text.

use std::collections::{BTreeSet, HashMap};

use super::token::{BOOST, Token, spell_out_emoji, tokens};

/// What VADER says of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Polarity {
    /// The share of positive words, to three places.
    pub(super) positive: f64,
    /// The share of words without a mood, to three places.
    pub(super) neutral: f64,
    /// The share of negative words, to three places.
    pub(super) negative: f64,
    /// The whole, −1 to 1, to four places.
    pub(super) compound: f64,
}

/// Scores an English text. A text without a word or an emoticon has 0 everywhere.
pub(super) fn polarity(text: &str) -> Polarity {
    let text = spell_out_emoji(text);
    let tokens = tokens(&text);
    let words = Words {
        shouting_stands_out: shouting_stands_out(&tokens),
        tokens: &tokens,
    };
    let mut valences: Vec<f64> = (0..tokens.len()).map(|i| words.valence(i)).collect();
    if let Some(but) = tokens.iter().position(|token| token.is("but")) {
        weigh_around(but, &mut valences);
    }
    summarise(&valences, emphasis(&text))
}

/// What shouting adds when the rest of the text does not shout.
const SHOUT: f64 = 0.733;
/// What a negation leaves of a word's mood, turned around.
const NEGATION: f64 = -0.74;
/// What "never so" and "never this" make of it.
const NEVER_SO: f64 = 1.25;
/// How much a booster counts at a distance of one, two and three words.
const DAMPING: [f64; 3] = [1.0, 0.95, 0.9];

/// The words of a text.
struct Words<'a> {
    tokens: &'a [Token],
    shouting_stands_out: bool,
}

impl Words<'_> {
    /// The mood of the word at `i` with what the words around do to it.
    fn valence(&self, i: usize) -> f64 {
        let word = &self.tokens[i];
        let next = self.tokens.get(i + 1);
        if word.boost.is_some() || (word.is("kind") && next.is_some_and(|next| next.is("of"))) {
            return 0.0;
        }
        let Some(rating) = word.valence else {
            return 0.0;
        };
        let mut valence = rating;
        // "no" turns the next word around instead of speaking for itself.
        if word.is("no") && next.is_some_and(|next| next.valence.is_some()) {
            valence = 0.0;
        }
        if self.follows_no(i) {
            valence = rating * NEGATION;
        }
        if word.shouted && self.shouting_stands_out {
            valence += if valence > 0.0 { SHOUT } else { -SHOUT };
        }
        for distance in 1..=3.min(i) {
            let before = &self.tokens[i - distance];
            // A word with a mood of its own changes no other's.
            if before.valence.is_some() {
                continue;
            }
            valence += self.boost(before, valence) * DAMPING[distance - 1];
            valence *= self.negation(i, distance);
            if distance == 3 {
                valence = self.phrases(i, valence);
            }
        }
        self.after_least(i, valence)
    }

    /// The word `distance` words before the one at `i`.
    fn before(&self, i: usize, distance: usize) -> Option<&Token> {
        self.tokens.get(i.checked_sub(distance)?)
    }

    fn is_before(&self, i: usize, distance: usize, words: &[&str]) -> bool {
        self.before(i, distance)
            .is_some_and(|token| token.is_any(words))
    }

    /// "no good", "no very good", "no joy or fun".
    fn follows_no(&self, i: usize) -> bool {
        let no = |distance| self.is_before(i, distance, &["no"]);
        no(1) || no(2) || (no(3) && self.is_before(i, 1, &["or", "nor"]))
    }

    /// What a word before adds to a mood: away from 0 or towards it.
    fn boost(&self, before: &Token, valence: f64) -> f64 {
        let Some(boost) = before.boost else {
            return 0.0;
        };
        let boost = if valence < 0.0 { -boost } else { boost };
        if before.shouted && self.shouting_stands_out {
            return boost + if valence > 0.0 { SHOUT } else { -SHOUT };
        }
        boost
    }

    /// The factor by which the word `distance` words before the one at `i` turns it around.
    fn negation(&self, i: usize, distance: usize) -> f64 {
        const SO: &[&str] = &["so", "this"];
        let is = |distance, words| self.is_before(i, distance, words);
        // At a distance of three, a "so" or "this" just before strengthens whether or not there is a "never".
        let never_so = match distance {
            2 => is(2, &["never"]) && is(1, SO),
            3 => (is(3, &["never"]) && is(2, SO)) || is(1, SO),
            _ => false,
        };
        let without_doubt = match distance {
            2 => is(2, &["without"]) && is(1, &["doubt"]),
            3 => is(3, &["without"]) && (is(2, &["doubt"]) || is(1, &["doubt"])),
            _ => false,
        };
        if never_so {
            NEVER_SO
        } else if without_doubt {
            1.0
        } else if self.before(i, distance).is_some_and(|token| token.negates) {
            NEGATION
        } else {
            1.0
        }
    }

    /// Phrases whose mood is not that of their words, and boosters of two words. Looked for only where three words stand before the
    /// one at `i` and the first of them is not in the lexicon.
    fn phrases(&self, i: usize, valence: f64) -> f64 {
        let phrase = |from: usize, to: usize| -> Option<f64> {
            let words: Vec<&str> = self
                .tokens
                .get(from..=to)?
                .iter()
                .map(|token| token.lower.as_str())
                .collect();
            phrase_valence(&words)
        };
        let ending_here = [
            (i - 1, i),
            (i - 2, i),
            (i - 2, i - 1),
            (i - 3, i - 1),
            (i - 3, i - 2),
        ];
        let starting_here = [(i, i + 2), (i, i + 1)];
        let mut valence = starting_here
            .into_iter()
            .chain(ending_here)
            .find_map(|(from, to)| phrase(from, to))
            .unwrap_or(valence);
        for (first, second) in [(3, 2), (2, 1)] {
            let weakens = (self.is_before(i, first, &["kind", "sort"])
                && self.is_before(i, second, &["of"]))
                || (self.is_before(i, first, &["just"]) && self.is_before(i, second, &["enough"]));
            if weakens {
                valence -= BOOST;
            }
        }
        valence
    }

    /// "least good" turns around; "at least good" and "very least good" do not.
    fn after_least(&self, i: usize, valence: f64) -> f64 {
        if self.is_before(i, 1, &["least"]) && !self.is_before(i, 2, &["at", "very"]) {
            valence * NEGATION
        } else {
            valence
        }
    }
}

fn phrase_valence(words: &[&str]) -> Option<f64> {
    match words {
        ["the", "shit" | "bomb"] | ["to", "die", "for"] => Some(3.0),
        ["bad", "ass"] => Some(1.5),
        ["bus", "stop"] => Some(0.0),
        ["yeah", "right"] => Some(-2.0),
        ["kiss", "of", "death"] => Some(-1.5),
        ["beating", "heart"] => Some(3.5),
        _ => None,
    }
}

/// Whether some words are shouted and others are not.
fn shouting_stands_out(tokens: &[Token]) -> bool {
    let shouted = tokens.iter().filter(|token| token.shouted).count();
    0 < shouted && shouted < tokens.len()
}

/// Halves what stands before the first "but" and strengthens what stands behind it.
///
/// The published implementation walks the list while it changes it, and looks each value's place up by the first equal value. So of
/// several words with one mood the first may change twice and a later one never; which side of the "but" counts is the side of the
/// place found.
pub(super) fn weigh_around(but: usize, valences: &mut [f64]) {
    // 0 stays 0 under every weight, so only the others need a place.
    let mut places: HashMap<u64, BTreeSet<usize>> = HashMap::new();
    for (i, valence) in valences
        .iter()
        .enumerate()
        .filter(|(_, valence)| **valence != 0.0)
    {
        places.entry(valence.to_bits()).or_default().insert(i);
    }
    for i in 0..valences.len() {
        let valence = valences[i];
        let Some(place) = places
            .get(&valence.to_bits())
            .and_then(|places| places.first().copied())
        else {
            continue;
        };
        let weighed = match place.cmp(&but) {
            std::cmp::Ordering::Less => valence * 0.5,
            std::cmp::Ordering::Equal => continue,
            std::cmp::Ordering::Greater => valence * 1.5,
        };
        if let Some(places) = places.get_mut(&valence.to_bits()) {
            places.remove(&place);
        }
        places.entry(weighed.to_bits()).or_default().insert(place);
        valences[place] = weighed;
    }
}

/// What exclamation marks (up to four) and question marks (from two) add.
fn emphasis(text: &str) -> f64 {
    let count = |mark: u8| text.bytes().filter(|byte| *byte == mark).count();
    let exclamations = count(b'!').min(4) as f64 * 0.292;
    let questions = match count(b'?') {
        0 | 1 => 0.0,
        questions @ 2..=3 => questions as f64 * 0.18,
        _ => 0.96,
    };
    exclamations + questions
}

fn summarise(valences: &[f64], emphasis: f64) -> Polarity {
    if valences.is_empty() {
        return Polarity::default();
    }
    let mut sum: f64 = valences.iter().fold(0.0, |sum, valence| sum + valence);
    if sum > 0.0 {
        sum += emphasis;
    } else if sum < 0.0 {
        sum -= emphasis;
    }

    // A word without a mood counts 1, so a word with one counts 1 more than its mood.
    let (mut positive, mut negative, mut neutral) = (0.0, 0.0, 0.0);
    for &valence in valences {
        if valence > 0.0 {
            positive += valence + 1.0;
        } else if valence < 0.0 {
            negative += valence - 1.0;
        } else {
            neutral += 1.0;
        }
    }
    let mut negative = f64::abs(negative);
    if positive > negative {
        positive += emphasis;
    } else if positive < negative {
        negative += emphasis;
    }
    let total = positive + negative + neutral;

    Polarity {
        positive: round(positive / total, 3),
        neutral: round(neutral / total, 3),
        negative: round(negative / total, 3),
        compound: round(normalise(sum), 4),
    }
}

/// Brings a sum of moods into −1 to 1.
fn normalise(sum: f64) -> f64 {
    /// About the greatest sum to be expected.
    const ALPHA: f64 = 15.0;
    (sum / (sum * sum + ALPHA).sqrt()).clamp(-1.0, 1.0)
}

/// Rounds by the exact decimal value of the number, ties to even, as Python's `round` and Rust's formatting both do.
fn round(value: f64, places: usize) -> f64 {
    // Adding 0 makes a rounded −0 plain.
    format!("{value:.places$}").parse().unwrap_or(value) + 0.0
}
