//! A message for a Slack incoming webhook (Block Kit). At most 50 blocks, 10 fields a section, 2,000 characters a field, 3,000 a text.

use serde_json::{Value, json};

use super::facts::Facts;

const TEXT: usize = 3000;
const FIELD: usize = 2000;
const FIELDS: usize = 10;

/// The message. Whatever comes from a document is text: it can neither mention people nor hide a link.
pub(super) fn message(facts: &Facts) -> Value {
    let mark = if facts.succeeded { "✅" } else { "❌" };
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": format!("{mark} {}", facts.title), "emoji": true },
    })];
    if !facts.lines.is_empty() {
        let text = escaped(&facts.lines.join("\n"), TEXT);
        blocks.push(json!({ "type": "section", "text": markdown(&text) }));
    }
    for group in facts.facts.chunks(FIELDS) {
        let fields: Vec<Value> = group
            .iter()
            .map(|(name, value)| {
                let name = escaped(name, FIELD / 4);
                let value = escaped(value, FIELD / 2);
                markdown(&format!("*{name}*\n{value}"))
            })
            .collect();
        blocks.push(json!({ "type": "section", "fields": fields }));
    }
    let link = format!("<{}|Open the job>", escaped(&facts.link, TEXT / 2));
    blocks.push(json!({ "type": "context", "elements": [markdown(&link)] }));
    json!({ "text": escaped(&facts.line(), TEXT), "blocks": blocks })
}

/// `verbatim`: Slack makes no links and mentions of what looks like one.
fn markdown(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// The three characters that control Slack's text, as its documentation escapes them; at most so many characters, none cut in two.
fn escaped(text: &str, most: usize) -> String {
    let mut whole = String::new();
    let mut count = 0;
    for char in text.chars() {
        let piece = match char {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            other => {
                if count == most {
                    break;
                }
                count += 1;
                whole.push(other);
                continue;
            }
        };
        if count + piece.len() > most {
            break;
        }
        count += piece.len();
        whole.push_str(piece);
    }
    whole
}
