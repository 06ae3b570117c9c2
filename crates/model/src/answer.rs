//! The typed answers, by task. Every confidence is from 0 to 1; languages are BCP 47 codes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Task;

/// What a step answered. The JSON is the answer itself; which task made it stands in the step's
/// report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Answer {
    /// `extract-text`.
    ExtractText(ExtractedText),
    /// `proof-of-identity`.
    ProofOfIdentity(ProofOfIdentity),
    /// `sentiment`.
    Sentiment(Sentiment),
    /// `detect-language`.
    DetectLanguage(DetectedLanguage),
}

impl Answer {
    /// The answer's text, where a later step can take one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::ExtractText(answer) => Some(&answer.text),
            Self::ProofOfIdentity(_) | Self::Sentiment(_) | Self::DetectLanguage(_) => None,
        }
    }

    /// Reads an answer's JSON as the type of its task, so that a fault names the field.
    ///
    /// # Errors
    ///
    /// When the JSON is not of the task's shape, or the task has no answer type yet.
    pub fn from_json(task: Task, json: serde_json::Value) -> Result<Self, serde_json::Error> {
        use serde::de::Error as _;
        match task {
            Task::ExtractText => serde_json::from_value(json).map(Self::ExtractText),
            Task::ProofOfIdentity => serde_json::from_value(json).map(Self::ProofOfIdentity),
            Task::Sentiment => serde_json::from_value(json).map(Self::Sentiment),
            Task::DetectLanguage => serde_json::from_value(json).map(Self::DetectLanguage),
            Task::Transcribe | Task::Classify | Task::Translate | Task::Forecast => Err(
                serde_json::Error::custom(format_args!("the task {task} has no answer type")),
            ),
        }
    }
}

/// The answer of `extract-text`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExtractedText {
    /// The whole text, pages joined by a form feed (U+000C) on a line of its own.
    pub text: String,
    /// The pages; formats without pages (email, HTML, text) have one, a workbook one a sheet, a presentation one a slide.
    pub pages: Vec<Page>,
    /// The media type that was read, found from the content.
    pub media_type: String,
    /// What could not be read, or was read with doubt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One page of a document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The page's number, from 1.
    pub number: u32,
    /// The page's text, lines ended by `\n`, in logical order.
    pub text: String,
    /// How sure the reading is: 1 for a text layer, the mean of its words for OCR, 0 for a page on which nothing was read.
    pub confidence: f64,
    /// Where the text came from.
    pub source: TextSource,
    /// The degrees (0, 90, 180, 270) by which the page was turned clockwise to stand upright.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rotated: u16,
    /// The upright page's width and height, in the unit of its lines' boxes. Absent where the format has no layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[f64; 2]>,
    /// The page's lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
}

fn is_zero(degrees: &u16) -> bool {
    *degrees == 0
}

/// Where a page's text came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TextSource {
    /// The file held the text.
    #[default]
    TextLayer,
    /// The text was read from a picture.
    Ocr,
}

/// One line of a page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// The line's text, without a line ending.
    pub text: String,
    /// How sure the reading is.
    pub confidence: f64,
    /// `[x, y, width, height]` from the top left corner of the upright page: pixels of the picture for OCR, points (1/72 inch) for a
    /// PDF's text layer. Absent where the format has no layout.
    #[serde(default, rename = "box", skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[f64; 4]>,
}

/// The answer of `detect-language`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DetectedLanguage {
    /// The likeliest language, BCP 47; `und` where the text holds no letters to judge by.
    pub language: String,
    /// How likely it is.
    pub confidence: f64,
    /// Further candidates, likeliest first: at most five, none below 0.01.
    pub alternatives: Vec<LanguageCandidate>,
}

/// A language that a text may be in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LanguageCandidate {
    /// BCP 47.
    pub language: String,
    /// How likely it is.
    pub confidence: f64,
}

/// The answer of `sentiment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sentiment {
    /// The mood in a word.
    pub label: Mood,
    /// From −1 (most negative) to 1 (most positive).
    pub score: f64,
    /// The shares of the text that speak each way.
    pub scores: SentimentScores,
    /// The mood of each sentence, where there is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sentences: Vec<SentenceSentiment>,
}

/// The mood in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mood {
    /// Score of 0.05 and above.
    Positive,
    /// Score of −0.05 and below.
    Negative,
    /// Neither.
    Neutral,
    /// Clearly positive and clearly negative sentences together (the built-in engine: beyond ±0.3, and the weaker side weighs at least
    /// a third of the stronger).
    Mixed,
}

/// The shares of a text that speak each way; they add up to 1, or are all 0 where the text holds no word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SentimentScores {
    /// Share of positive words.
    pub positive: f64,
    /// Share of neutral words.
    pub neutral: f64,
    /// Share of negative words.
    pub negative: f64,
}

/// One sentence's mood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SentenceSentiment {
    /// The sentence.
    pub text: String,
    /// From −1 to 1.
    pub score: f64,
}

/// The answer of `proof-of-identity`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProofOfIdentity {
    /// What the document is.
    pub document: DocumentKind,
    /// What was read, by field: `document-number`, `surname`, `given-names`, `name`, `birth-date` (ISO 8601), `expiry-date`, `sex`,
    /// `nationality` and `issuer` (ICAO 9303 part 3 codes), `personal-number`, …
    pub fields: BTreeMap<String, Field>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// The outcome.
    pub verdict: Verdict,
    /// Why the verdict is not `accepted`, in sentences; empty when it is.
    pub reasons: Vec<String>,
}

/// The kinds of document that `proof-of-identity` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentKind {
    /// ICAO 9303 part 4.
    Passport,
    /// ICAO 9303 parts 5 and 6.
    IdCard,
    /// ICAO 9303 part 7.
    Visa,
    /// A bill that shows a name and an address.
    UtilityBill,
    /// None of these was found.
    Unknown,
}

/// One field of an identity document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// The value.
    pub value: String,
    /// How sure the reading is.
    pub confidence: f64,
    /// Where it was read: `mrz`.
    pub source: String,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// The check's name: `mrz-document-number-check-digit`, `expiry`, …
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What was compared with what.
    pub detail: String,
}

/// The outcome of a proof of identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was read and every check passed.
    Accepted,
    /// A person should look.
    Review,
    /// A check that must pass did not.
    Rejected,
}
