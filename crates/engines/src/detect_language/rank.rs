//! How likely each language is.
//!
//! whatlang gives each language of the text's script a score for its trigrams and one for its alphabet. Its own confidence says little
//! on short text (measured: single words 0.15 where 0.44 were right, three words 0.32 where 0.69 were). So the probabilities come from
//! a model with four constants over its scores and the commonest words:
//!
//! logit = (SLOPE · √letters − OFFSET) · trigram score + WORD · common words − FOREIGN · letters that the language does not have
//!
//! The constants were fitted by log loss on 11,000 single words, snippets of two to four words and sentences in the 47 languages of the
//! Latin, Cyrillic, Arabic, Devanagari and Hebrew scripts for which there was text (translated messages of free software, FLORES-101,
//! NTREX-128, Tatoeba). On 22,000 others the mean confidence is within 0.012 of the share that is right, from four letters to hundreds.

use whatlang::Lang;
pub(crate) use whatlang::dev::Script;
use whatlang::dev::{RawCombinedInfo, RawInfo, RawLangInfo, raw_detect};

use super::{languages, words};

/// A language and how likely it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// BCP 47.
    pub(crate) language: &'static str,
    pub(crate) probability: f64,
}

/// What is known of a text's language.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ranking {
    /// The languages of the text's main script, likeliest first; none where the text has no letters of a script that is known.
    pub(crate) candidates: Vec<Candidate>,
    /// The script that most letters belong to.
    pub(crate) script: Option<Script>,
    /// Whether the text has letters, of any script.
    pub(crate) has_letters: bool,
}

impl Ranking {
    /// How likely a language is.
    pub(crate) fn probability(&self, language: &str) -> f64 {
        self.candidates
            .iter()
            .find(|candidate| candidate.language == language)
            .map_or(0.0, |candidate| candidate.probability)
    }
}

/// Ranks the languages that a text may be in, out of `allowed` where that is given.
pub(crate) fn rank(text: &str, allowed: Option<&[Lang]>) -> Ranking {
    let text = beginning(text);
    let raw = raw_detect(text);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let Some((script, main)) = raw
        .script_info
        .counters
        .first()
        .copied()
        .filter(|(_, count)| *count > 0)
    else {
        return Ranking {
            has_letters: letters > 0,
            ..Ranking::default()
        };
    };

    let mut weights = weights(text, &raw, main);
    weights.retain(|(lang, _)| allowed.is_none_or(|allowed| allowed.contains(lang)));
    // In a text of two scripts the language of the greater part is as sure as that part is great.
    let own: usize = raw
        .script_info
        .counters
        .iter()
        .filter(|(other, _)| written_together(script, *other))
        .map(|(_, count)| count)
        .sum();
    let counted: usize = raw
        .script_info
        .counters
        .iter()
        .map(|(_, count)| count)
        .sum();
    let share = own as f64 / counted.max(letters) as f64;
    Ranking {
        candidates: normalise(&weights, share),
        script: Some(script),
        has_letters: true,
    }
}

/// As much of a text is judged as tells: more letters would only cost time.
const JUDGED_BYTES: usize = 32 * 1024;

/// What a trigram score counts for, by the root of the number of letters.
const SLOPE: f64 = 9.2;
/// What it counts less.
const OFFSET: f64 = 13.4;
/// What one of a language's commonest words counts for it.
const WORD: f64 = 3.6;
/// What a letter that a language does not have counts against it.
const FOREIGN: f64 = 6.2;
/// Below this number of letters the line would fall below 0.
const FEWEST_LETTERS: usize = 4;

fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(JUDGED_BYTES)]
}

/// The languages of the text's script with the logarithms of their weights.
fn weights(text: &str, raw: &RawInfo, letters: usize) -> Vec<(Lang, f64)> {
    match &raw.lang_info {
        None => Vec::new(),
        Some(RawLangInfo::OneScript(lang)) => vec![(*lang, 0.0)],
        Some(RawLangInfo::Mandarin(_)) => han(raw),
        Some(RawLangInfo::MultiScript(scores)) => by_trigrams(text, scores, letters),
    }
}

fn by_trigrams(text: &str, scores: &RawCombinedInfo, letters: usize) -> Vec<(Lang, f64)> {
    let common = words::counts(text);
    let alphabets = &scores.alphabet_raw_outcome;
    let sharpness = SLOPE * (letters.max(FEWEST_LETTERS) as f64).sqrt() - OFFSET;
    scores
        .trigram_raw_outcome
        .scores
        .iter()
        .map(|(lang, trigrams)| {
            let alphabet = alphabets
                .scores
                .iter()
                .find(|(other, _)| other == lang)
                .map_or(1.0, |(_, score)| *score);
            // An alphabet's score is the share of its own letters less the share of foreign ones.
            let foreign = (1.0 - alphabet) * alphabets.count as f64 / 2.0;
            let words = common.get(lang).copied().map_or(0.0, f64::from);
            (
                *lang,
                sharpness * trigrams + WORD * words - FOREIGN * foreign,
            )
        })
        .collect()
}

/// Chinese or Japanese, by the kana among the ideographs.
///
/// A short text of ideographs alone may be either. Of 22,000 short Japanese texts, 77 % of those of two characters had no kana, 19 %
/// of three, 11 % of four, 1.6 % of six and 0.3 % of eight: about `exp(0.8 − 0.8 · characters)`.
fn han(raw: &RawInfo) -> Vec<(Lang, f64)> {
    let ideographs = count(raw, Script::Mandarin) as f64;
    let kana = (count(raw, Script::Hiragana) + count(raw, Script::Katakana)) as f64;
    let share = kana / (kana + ideographs);
    let japanese = if kana == 0.0 {
        0.8 - 0.8 * ideographs
    } else if share < 0.05 {
        // A Chinese text that names something Japanese.
        -0.5
    } else {
        5.0
    };
    vec![(Lang::Cmn, 0.0), (Lang::Jpn, japanese)]
}

/// Whether one language writes both scripts side by side.
fn written_together(script: Script, other: Script) -> bool {
    let japanese = |script| {
        matches!(
            script,
            Script::Mandarin | Script::Hiragana | Script::Katakana
        )
    };
    script == other || (japanese(script) && japanese(other))
}

/// How many letters are of a script.
fn count(raw: &RawInfo, script: Script) -> usize {
    let counter = raw
        .script_info
        .counters
        .iter()
        .find(|(other, _)| *other == script);
    counter.map_or(0, |(_, count)| *count)
}

/// Turns logarithms of weights into probabilities that add up to `share`, likeliest first.
fn normalise(weights: &[(Lang, f64)], share: f64) -> Vec<Candidate> {
    let greatest = weights
        .iter()
        .map(|(_, weight)| *weight)
        .fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = weights
        .iter()
        .map(|(_, weight)| (weight - greatest).exp())
        .sum();
    let mut candidates: Vec<Candidate> = weights
        .iter()
        .map(|(lang, weight)| Candidate {
            language: languages::code(*lang),
            probability: (weight - greatest).exp() / total * share,
        })
        .collect();
    candidates.sort_by(|a, b| {
        b.probability
            .total_cmp(&a.probability)
            .then_with(|| a.language.cmp(b.language))
    });
    candidates
}
