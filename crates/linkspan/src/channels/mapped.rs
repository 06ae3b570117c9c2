//! What `map` made of a result, in a few lines for people: in messages and emails.

use serde_json::Value;

use super::printable::printable;

/// The most facts of one message, and the most characters of a name and a value.
const FACTS: usize = 40;
const NAME: usize = 60;
const VALUE: usize = 300;
/// The most lines and characters of a text that `map` made.
const LINES: usize = 40;
const LINE: usize = 500;

/// Lines of text, and names with values.
pub(super) type Told = (Vec<String>, Vec<(String, String)>);

/// A content in lines, or as names and values where it is an object. Values are whole; [`short`] cuts them.
pub(super) fn mapped(content: &Value) -> Told {
    match content {
        Value::String(text) => (lines(text), Vec::new()),
        Value::Object(object) => {
            let facts = object
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)));
            (Vec::new(), facts.collect())
        }
        other => (lines(&plain(other)), Vec::new()),
    }
}

/// Printable names and values, of which there are only so many.
pub(super) fn short(facts: Vec<(String, String)>) -> Vec<(String, String)> {
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
