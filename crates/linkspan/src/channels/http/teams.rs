//! A message for a Microsoft Teams workflow ("When a Teams webhook request is received"): an Adaptive Card 1.4 in its envelope.
//!
//! Teams reads the texts of most elements as Markdown, links included. Those of a `TextRun` it does not, so what comes from a document
//! stands in these alone. A message may have 28 KB.

use serde_json::{Value, json};

use super::facts::Facts;

/// What the card's texts may take together, in bytes of JSON.
const TEXTS: usize = 16 * 1024;

/// The message.
pub(super) fn message(facts: &Facts) -> Value {
    let color = if facts.succeeded { "good" } else { "attention" };
    let title = json!({
        "type": "TextRun", "text": facts.title, "weight": "bolder", "size": "medium", "color": color,
    });
    let mut body = vec![rich(&[title])];
    let lines = facts.lines.iter().map(|line| rich(&[run(line, "default")]));
    let facts_told = facts
        .facts
        .iter()
        .map(|(name, value)| rich(&[run(&format!("{name}: "), "bolder"), run(value, "default")]));
    let mut left = TEXTS;
    for block in lines.chain(facts_told) {
        let size = block.to_string().len();
        if size > left {
            body.push(rich(&[run("…", "default")]));
            break;
        }
        left -= size;
        body.push(block);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body,
                "actions": [{ "type": "Action.OpenUrl", "title": "Open the job", "url": facts.link }],
            },
        }],
    })
}

fn rich(runs: &[Value]) -> Value {
    json!({ "type": "RichTextBlock", "inlines": runs })
}

fn run(text: &str, weight: &str) -> Value {
    json!({ "type": "TextRun", "text": text, "weight": weight })
}
