//! Messages for Slack and Teams, of hostile texts and of far too much.

use serde_json::{Value, json};

use super::{channel, taking};
use crate::channels::testing::{parcel, result, send};
use crate::channels::{Parcel, VerdictKind};

/// A result whose texts are hostile to every place that they could stand in.
fn hostile() -> Value {
    let mut hostile = result();
    hostile["answers"] = json!({ "text": {
        "text": "<!channel> & <http://evil.example.com|click> [x](http://evil.example.com) \u{202e}*gnp.exe*\n*error*: none",
        "pages": [],
        "media_type": "text/plain",
    } });
    hostile["steps"] =
        json!([{ "service": "text", "task": "extract-text", "engine": "builtin", "took_ms": 1.0 }]);
    hostile
}

async fn message(shape: &str, more: &str, change: impl FnOnce(&mut Parcel)) -> (Value, String) {
    let receiver = taking().await;
    let channel = channel(&receiver, &format!("shape = \"{shape}\"{more}"));
    let mut parcel = parcel(hostile());
    parcel.mapped = more.contains("map");
    change(&mut parcel);
    let verdict = send(&channel, parcel.clone()).await;
    assert_eq!(verdict.kind, VerdictKind::Delivered, "{}", verdict.detail);
    let page = format!("https://linkspan.example.com/#/jobs/{}", parcel.job);
    (receiver.seen()[0].json(), page)
}

#[tokio::test]
async fn a_slack_message_shows_hostile_text_as_text() {
    let (message, page) = message("slack", "", |_| {}).await;
    assert_eq!(
        message,
        json!({
            "text": "calls: succeeded (text: 0 pages, 7 words: &lt;!channel&gt; &amp; &lt;http://evil.example.com|click&gt; [x](http://evil.example.com) *gnp.exe* *error*: none …)",
            "blocks": [
                { "type": "header", "text": { "type": "plain_text", "text": "✅ calls: succeeded", "emoji": true } },
                { "type": "section", "fields": [{
                    "type": "mrkdwn", "verbatim": true,
                    "text": "*text*\n0 pages, 7 words: &lt;!channel&gt; &amp; &lt;http://evil.example.com|click&gt; [x](http://evil.example.com) *gnp.exe* *error*: none …",
                }] },
                { "type": "context", "elements": [{ "type": "mrkdwn", "text": format!("<{page}|Open the job>"), "verbatim": true }] },
            ],
        })
    );
}

#[tokio::test]
async fn a_teams_message_keeps_hostile_text_out_of_markdown() {
    let (message, page) = message("teams", "", |_| {}).await;
    assert_eq!(
        message,
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": [
                        { "type": "RichTextBlock", "inlines": [
                            { "type": "TextRun", "text": "calls: succeeded", "weight": "bolder", "size": "medium", "color": "good" },
                        ] },
                        { "type": "RichTextBlock", "inlines": [
                            { "type": "TextRun", "text": "text: ", "weight": "bolder" },
                            { "type": "TextRun", "text": "0 pages, 7 words: <!channel> & <http://evil.example.com|click> [x](http://evil.example.com) *gnp.exe* *error*: none …", "weight": "default" },
                        ] },
                    ],
                    "actions": [{ "type": "Action.OpenUrl", "title": "Open the job", "url": page }],
                },
            }],
        })
    );
}

#[tokio::test]
async fn messages_show_what_map_made_and_stay_within_their_limits() {
    let large: serde_json::Map<_, _> = (0..500)
        .map(|number| {
            (
                format!("<{number}>{}", "&".repeat(200)),
                json!("&<>\u{1F600}".repeat(1000)),
            )
        })
        .collect();
    for content in [
        json!(large),
        json!("&<>\n".repeat(5000)),
        json!("&".repeat(50_000)),
        json!(vec![large; 3]),
    ] {
        let (slack, _) = message("slack", ", map = \".\"", |parcel| {
            parcel.content = content.clone();
        })
        .await;
        let blocks = slack["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        let texts = blocks
            .iter()
            .filter_map(|block| block["text"]["text"].as_str());
        assert!(
            texts
                .chain(slack["text"].as_str())
                .all(|text| text.chars().count() <= 3000)
        );
        let fields = blocks.iter().filter_map(|block| block["fields"].as_array());
        for fields in fields {
            assert!(fields.len() <= 10);
            assert!(
                fields
                    .iter()
                    .all(|field| field["text"].as_str().unwrap().chars().count() <= 2000)
            );
        }
        let (teams, _) = message("teams", ", map = \".\"", |parcel| {
            parcel.content = content.clone();
        })
        .await;
        assert!(
            teams.to_string().len() <= 28 * 1024,
            "{}",
            teams.to_string().len()
        );
    }
    let (slack, _) = message("slack", ", map = \".\"", |parcel| {
        parcel.result["status"] = json!("failed");
        parcel.content = json!({ "case": 7, "tags": ["a", "b"], "more": { "x": 1 } });
    })
    .await;
    assert_eq!(slack["blocks"][0]["text"]["text"], "❌ calls: failed");
    let fields: Vec<_> = slack["blocks"][1]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["text"].clone())
        .collect();
    assert_eq!(
        json!(fields),
        json!(["*case*\n7", "*tags*\na, b", "*more*\n{\"x\":1}"])
    );
}
