//! What a message tells of a result: a title, a few facts, and where the rest is.

use linkspan_model::{ResultDocument, Status};
use serde_json::Value;

use crate::channels::Parcel;
use crate::channels::printable::printable;
use crate::links::Links;
use crate::summary::Summary;

/// The most facts of one message, and the most characters of a name and a value.
const FACTS: usize = 40;
const NAME: usize = 60;
const VALUE: usize = 300;
/// The most lines and characters of a text that `map` made.
const LINES: usize = 40;
const LINE: usize = 500;

/// What a message tells. All texts are printable, each on one line, and escaped for nothing.
pub(super) struct Facts {
    /// The integration and how it ended.
    pub(super) title: String,
    /// Whether it succeeded.
    pub(super) succeeded: bool,
    /// Lines of text, where `map` made a text.
    pub(super) lines: Vec<String>,
    /// Names and values.
    pub(super) facts: Vec<(String, String)>,
    /// The job's page.
    pub(super) link: String,
}

impl Facts {
    /// The facts of what `map` made, or else of the result document.
    pub(super) fn of(parcel: &Parcel, mapped: bool, links: &Links) -> Self {
        let result: Option<ResultDocument> = serde_json::from_value(parcel.result.clone()).ok();
        let succeeded = parcel.result["status"] == "succeeded";
        let ended = if succeeded { "succeeded" } else { "failed" };
        let (lines, facts) = match (&parcel.content, result) {
            (Value::String(text), _) if mapped => (lines(text), Vec::new()),
            (Value::Object(object), _) if mapped => {
                let facts = object
                    .iter()
                    .map(|(name, value)| (name.clone(), plain(value)));
                (Vec::new(), facts.collect())
            }
            (other, _) if mapped => (lines(&plain(other)), Vec::new()),
            (_, Some(result)) => (Vec::new(), told(&result)),
            (_, None) => (Vec::new(), Vec::new()),
        };
        Self {
            title: printable(&format!("{}: {ended}", parcel.endpoint.integration), 140),
            succeeded,
            lines,
            facts: short(facts),
            link: links.page(parcel.job),
        }
    }

    /// The message in one line, for notifications.
    pub(super) fn line(&self) -> String {
        let first = match (self.lines.first(), self.facts.first()) {
            (Some(line), _) => line.clone(),
            (None, Some((name, value))) => format!("{name}: {value}"),
            (None, None) => return self.title.clone(),
        };
        format!("{} ({first})", self.title)
    }
}

/// Each answer in few words, or why there is none.
fn told(result: &ResultDocument) -> Vec<(String, String)> {
    let summaries = Summary::of_answers(result).into_iter();
    let mut facts: Vec<_> = summaries
        .map(|(service, summary)| {
            let sure = summary.confidence.map_or_else(String::new, |confidence| {
                format!(" ({:.0} % sure)", confidence * 100.0)
            });
            (service.to_owned(), format!("{}{sure}", summary.words))
        })
        .collect();
    if result.status == Status::Failed {
        facts.push(("error".to_owned(), Summary::of(result).words));
    }
    facts
}

fn short(facts: Vec<(String, String)>) -> Vec<(String, String)> {
    let more = facts.len().saturating_sub(FACTS);
    let mut shown: Vec<_> = facts
        .into_iter()
        .take(FACTS)
        .map(|(name, value)| (printable(&name, NAME), printable(&value, VALUE)))
        .collect();
    if more > 0 {
        shown.push(("…".to_owned(), format!("and {more} more")));
    }
    shown
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .take(LINES)
        .map(|line| printable(line, LINE))
        .collect()
}

/// A value in one line: texts and numbers as they are, lists of them with commas, everything else as JSON.
fn plain(value: &Value) -> String {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) => values
            .iter()
            .map(one)
            .collect::<Option<Vec<_>>>()
            .map_or_else(|| value.to_string(), |values| values.join(", ")),
        _ => one(value).unwrap_or_else(|| value.to_string()),
    }
}
