//! The kinds of AI work, what each takes and what each gives.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of AI work with one typed request and one typed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The text of a document, page by page.
    ExtractText,
    /// The text of a recording.
    Transcribe,
    /// A label for a text.
    Classify,
    /// The language of a text.
    DetectLanguage,
    /// The mood of a text.
    Sentiment,
    /// A text in another language.
    Translate,
    /// Who a document speaks of, and whether it holds together.
    ProofOfIdentity,
    /// The next values of a series.
    Forecast,
}

/// What a task takes as its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A document: a file in one of the formats that the task names.
    Document,
    /// A recording.
    Audio,
    /// A text: the request's own, or the text of an earlier step's answer.
    Text,
    /// Numbers in JSON.
    Series,
}

impl Task {
    /// Every task, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::ExtractText,
        Self::Transcribe,
        Self::Classify,
        Self::DetectLanguage,
        Self::Sentiment,
        Self::Translate,
        Self::ProofOfIdentity,
        Self::Forecast,
    ];

    /// The name used in configuration, answers and documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExtractText => "extract-text",
            Self::Transcribe => "transcribe",
            Self::Classify => "classify",
            Self::DetectLanguage => "detect-language",
            Self::Sentiment => "sentiment",
            Self::Translate => "translate",
            Self::ProofOfIdentity => "proof-of-identity",
            Self::Forecast => "forecast",
        }
    }

    /// What the task takes.
    #[must_use]
    pub const fn takes(self) -> Takes {
        match self {
            Self::ExtractText | Self::ProofOfIdentity => Takes::Document,
            Self::Transcribe => Takes::Audio,
            Self::Classify | Self::DetectLanguage | Self::Sentiment | Self::Translate => {
                Takes::Text
            }
            Self::Forecast => Takes::Series,
        }
    }

    /// Whether the task's answer holds a text that a later step can take.
    #[must_use]
    pub const fn gives_text(self) -> bool {
        matches!(self, Self::ExtractText | Self::Transcribe | Self::Translate)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        Self::ALL
            .into_iter()
            .find(|task| task.name() == name)
            .ok_or(UnknownTask)
    }
}

/// The name is no task's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a task")]
pub struct UnknownTask;
