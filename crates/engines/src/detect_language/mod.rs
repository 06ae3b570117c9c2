//! `detect-language`: the language that a text is in, and how sure that is.

mod languages;
mod options;
mod rank;
mod words;

use linkspan_model::answer::{DetectedLanguage, LanguageCandidate};
use linkspan_model::{Answer, Code, Task};
use serde_json::{Map, Value};

use crate::engine::{Builtin, EngineError, Input, Isolation, Work};

pub(crate) use languages::name;
pub(crate) use rank::{Ranking, Script, rank};
pub(crate) use words::{is_common, words};

/// The built-in engine: whatlang's trigrams and alphabets, the commonest words, and a calibrated confidence.
#[derive(Clone, Copy, Debug, Default)]
pub struct DetectLanguage;

impl Builtin for DetectLanguage {
    fn task(&self) -> Task {
        Task::DetectLanguage
    }

    fn label(&self) -> String {
        "builtin/whatlang 0.18".to_owned()
    }

    fn isolation(&self) -> Isolation {
        Isolation::InProcess
    }

    fn check_options(&self, options: &Map<String, Value>) -> Result<(), String> {
        options::languages(options)
            .map(drop)
            .map_err(|error| error.detail)
    }

    fn perform(&self, work: &Work<'_>) -> Result<Answer, EngineError> {
        let Input::Text(text) = work.input else {
            return Err(EngineError::new(
                Code::UnsupportedMediaType,
                "detect-language takes a text, not a file: put an extract-text step before it",
            ));
        };
        let allowed = options::languages(work.options)?;
        Ok(Answer::DetectLanguage(answer(&rank(
            text,
            allowed.as_deref(),
        ))))
    }
}

/// The language of a text.
///
/// `und` with confidence 0 where the text has no letters, or only letters of a script that is not known. At most the first 32 KiB are
/// judged.
#[must_use]
pub fn detect(text: &str) -> DetectedLanguage {
    answer(&rank(text, None))
}

/// Most alternatives that an answer names.
const MOST_ALTERNATIVES: usize = 5;
/// Less likely than this, an alternative is not named.
const LEAST_LIKELY: f64 = 0.01;

fn answer(ranking: &Ranking) -> DetectedLanguage {
    let mut candidates = ranking
        .candidates
        .iter()
        .map(|candidate| LanguageCandidate {
            language: candidate.language.to_owned(),
            confidence: (candidate.probability * 1e4).round() / 1e4,
        });
    match candidates.next() {
        Some(best) => DetectedLanguage {
            language: best.language,
            confidence: best.confidence,
            alternatives: candidates
                .take(MOST_ALTERNATIVES)
                .take_while(|candidate| candidate.confidence >= LEAST_LIKELY)
                .collect(),
        },
        None => DetectedLanguage {
            language: "und".to_owned(),
            confidence: 0.0,
            alternatives: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests;
