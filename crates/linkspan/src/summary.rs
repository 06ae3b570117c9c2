//! A result in few words, for tables and messages.

use linkspan_model::answer::Mood;
use linkspan_model::{Answer, ResultDocument, Status};

/// Most characters of a summary.
const LONGEST: usize = 90;

/// What a result says in few words, and how sure it is (the least sure of its answers).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    /// In few words.
    pub(crate) words: String,
    /// 0 to 1; none where nothing was answered.
    pub(crate) confidence: Option<f64>,
}

impl Summary {
    /// Sums up a result document.
    pub(crate) fn of(result: &ResultDocument) -> Self {
        if result.status == Status::Failed {
            let words = result.error.as_ref().map_or_else(
                || "failed".to_owned(),
                |problem| format!("{}: {}", problem.code, problem.detail),
            );
            // Whole: its end says what to do.
            return Self {
                words: harmless(&words),
                confidence: None,
            };
        }
        let parts = Self::of_answers(result);
        Self {
            words: shorten(
                &parts
                    .iter()
                    .map(|(_, part)| part.words.as_str())
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
            confidence: parts
                .iter()
                .filter_map(|(_, part)| part.confidence)
                .reduce(f64::min),
        }
    }

    /// Sums up each answer, with its service, in the order of the steps.
    pub(crate) fn of_answers(result: &ResultDocument) -> Vec<(&str, Self)> {
        let steps = result.steps.iter().filter_map(|step| {
            let json = result.answers.get(&step.service)?.clone();
            let answer = Answer::from_json(step.task, json).ok()?;
            Some((step.service.as_str(), Self::of_answer(&answer)))
        });
        steps.collect()
    }

    fn of_answer(answer: &Answer) -> Self {
        match answer {
            Answer::ExtractText(text) => {
                let pages = text.pages.len();
                let words = text.text.split_whitespace();
                let (count, start) = (
                    words.clone().count(),
                    words.take(8).collect::<Vec<_>>().join(" "),
                );
                let confidences = text
                    .pages
                    .iter()
                    .filter(|page| !page.text.is_empty())
                    .map(|page| page.confidence);
                Self {
                    words: format!(
                        "{pages} page{}, {count} words: {start} …",
                        if pages == 1 { "" } else { "s" }
                    ),
                    confidence: confidences.reduce(f64::min),
                }
            }
            Answer::ProofOfIdentity(identity) => {
                let field =
                    |name: &str| identity.fields.get(name).map(|field| field.value.as_str());
                let passed = identity.checks.iter().filter(|check| check.passed).count();
                let kind = serde_json::to_value(identity.document).ok();
                let verdict = serde_json::to_value(identity.verdict).ok();
                let word = |value: &Option<serde_json::Value>| {
                    value
                        .as_ref()
                        .and_then(|value| value.as_str())
                        .unwrap_or("?")
                        .to_owned()
                };
                let mut words = format!("{}: {}", word(&kind), word(&verdict));
                for part in [field("name"), field("document-number"), field("birth-date")]
                    .into_iter()
                    .flatten()
                {
                    words.push_str(", ");
                    words.push_str(part);
                }
                words.push_str(&format!(" ({passed}/{} checks)", identity.checks.len()));
                Self {
                    words,
                    confidence: identity
                        .fields
                        .values()
                        .map(|field| field.confidence)
                        .reduce(f64::min),
                }
            }
            Answer::DetectLanguage(found) => Self {
                words: format!("language {}", found.language),
                confidence: Some(found.confidence),
            },
            Answer::Sentiment(sentiment) => {
                let label = match sentiment.label {
                    Mood::Positive => "positive",
                    Mood::Negative => "negative",
                    Mood::Neutral => "neutral",
                    Mood::Mixed => "mixed",
                };
                Self {
                    words: format!("{label} ({:+.2})", sentiment.score),
                    confidence: None,
                }
            }
        }
    }
}

/// What came out of a document must not steer the terminal.
fn harmless(words: &str) -> String {
    words
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn shorten(words: &str) -> String {
    let clean = harmless(words);
    if clean.chars().count() <= LONGEST {
        return clean;
    }
    clean.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn a_summary_is_short_and_holds_no_control_characters() {
        assert_eq!(shorten("a\u{1b}[31mb"), "a [31mb");
        assert_eq!(shorten(&"x".repeat(200)).chars().count(), super::LONGEST);
    }
}
