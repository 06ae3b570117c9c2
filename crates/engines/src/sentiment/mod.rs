//! `sentiment`: the mood of an English text, by VADER's lexicon and rules.

mod language;
mod lexicon;
mod sentences;
mod token;
mod vader;

use linkspan_model::answer::{Mood, SentenceSentiment, Sentiment, SentimentScores};
use linkspan_model::{Answer, Code, Task};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::engine::{Builtin, EngineError, Input, Isolation, Work};

/// The built-in engine. Its scores equal those of the PyPI package `vaderSentiment` 3.3.2.
///
/// It knows English; a text in another language is refused, unless the caller's parameter `language` says that it is English.
#[derive(Clone, Copy, Debug, Default)]
pub struct SentimentEngine;

impl Builtin for SentimentEngine {
    fn task(&self) -> Task {
        Task::Sentiment
    }

    fn label(&self) -> String {
        "builtin/vader 3.3.2".to_owned()
    }

    fn isolation(&self) -> Isolation {
        Isolation::InProcess
    }

    fn parameters(&self) -> &'static [&'static str] {
        &["language"]
    }

    fn check_options(&self, options: &Map<String, Value>) -> Result<(), String> {
        Options::parse(options)
            .map(drop)
            .map_err(|error| error.detail)
    }

    fn perform(&self, work: &Work<'_>) -> Result<Answer, EngineError> {
        let Input::Text(text) = work.input else {
            return Err(EngineError::new(
                Code::UnsupportedMediaType,
                "sentiment takes a text, not a file: put an extract-text step before it",
            ));
        };
        let options = Options::parse(work.options)?;
        language::check(text, work.params)?;

        let mut answer = analyse(text);
        if !options.sentences {
            answer.sentences.clear();
        }
        Ok(Answer::Sentiment(answer))
    }
}

/// The options of a `sentiment` service (`[service.NAME.options]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Whether the answer holds the mood of each sentence.
    pub sentences: bool,
}

impl Options {
    fn parse(options: &Map<String, Value>) -> Result<Self, EngineError> {
        Self::deserialize(options).map_err(|error| {
            EngineError::new(
                Code::InvalidParameter,
                format!("the options of a sentiment service are not valid: {error}"),
            )
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { sentences: true }
    }
}

/// A score from which a text is positive, and below the negative of which it is negative: VADER's own.
const MOOD: f64 = 0.05;
/// A score from which a sentence is clearly positive, and below the negative of which it is clearly negative.
const CLEAR: f64 = 0.3;
/// A text is mixed where the clear sentences of the weaker side weigh at least this share of those of the stronger: one complaint in
/// a long praise leaves it a praise.
const WEAKER_SIDE: f64 = 1.0 / 3.0;

/// Scores an English text. A text without a word or an emoticon is neutral with 0 everywhere.
fn analyse(text: &str) -> Sentiment {
    let polarity = vader::polarity(text);
    let mut sentences: Vec<SentenceSentiment> = sentences::split(text)
        .into_iter()
        .map(|sentence| SentenceSentiment {
            score: vader::polarity(&sentence).compound,
            text: sentence,
        })
        .collect();
    let label = if is_mixed(&sentences) {
        Mood::Mixed
    } else if polarity.compound >= MOOD {
        Mood::Positive
    } else if polarity.compound <= -MOOD {
        Mood::Negative
    } else {
        Mood::Neutral
    };
    if sentences.len() < 2 {
        sentences.clear();
    }
    Sentiment {
        label,
        score: polarity.compound,
        scores: SentimentScores {
            positive: polarity.positive,
            neutral: polarity.neutral,
            negative: polarity.negative,
        },
        sentences,
    }
}

fn is_mixed(sentences: &[SentenceSentiment]) -> bool {
    let weight = |side: f64| -> f64 {
        let scores = sentences.iter().map(|sentence| sentence.score * side);
        scores.filter(|score| *score >= CLEAR).sum()
    };
    let (positive, negative) = (weight(1.0), weight(-1.0));
    let (weaker, stronger) = (positive.min(negative), positive.max(negative));
    weaker > 0.0 && weaker >= stronger * WEAKER_SIDE
}

#[cfg(test)]
mod tests;
