//! The engine as a service calls it, and its answers on the specimens in `fixtures/`.

use std::path::Path;

use linkspan_model::answer::TextSource;
use linkspan_model::{Answer, Code};
use serde_json::{Map, Value, json};

use super::testing::{self, NoOcr};
use super::{ExtractText, Options};
use crate::engine::{Builtin, Document, EngineError, Input, Isolation, Work};

fn perform(input: Input<'_>, options: &Value, params: &Value) -> Result<Answer, EngineError> {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_else(Map::new);
    ExtractText::new(Box::new(NoOcr)).perform(&Work {
        input,
        options: &object(options),
        params: &object(params),
        claim: None,
    })
}

#[test]
fn an_unknown_option_or_parameter_is_named() {
    let text = Input::Text("x");
    for (options, params, word) in [
        (json!({"langauges": ["eng"]}), json!({}), "langauges"),
        (json!({"languages": []}), json!({}), "languages"),
        (json!({"languages": ["../eng"]}), json!({}), "languages"),
        (json!({"dpi": 5}), json!({}), "dpi"),
        (json!({"max_pages": 0}), json!({}), "max_pages"),
        (json!({}), json!({"pasword": "x"}), "pasword"),
        (json!({}), json!({"password": 7}), "password"),
    ] {
        let error = perform(text, &options, &params).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter);
        assert!(error.detail.contains(word), "{error}");
    }
    assert!(
        perform(
            text,
            &json!({"languages": ["eng", "deu_frak"], "dpi": 200}),
            &json!({"password": "x"})
        )
        .is_ok()
    );
}

#[test]
fn a_text_is_its_own_answer() {
    let Answer::ExtractText(answer) =
        perform(Input::Text("Gru\u{308}n\r\n"), &json!({}), &json!({})).unwrap()
    else {
        panic!("another task's answer");
    };
    assert_eq!(answer.text, "Grün");
    assert_eq!(answer.media_type, "text/plain");
    assert_eq!(answer.pages.len(), 1);
    assert!((answer.pages[0].confidence - 1.0).abs() < f64::EPSILON);
}

#[test]
fn the_label_names_the_engine_and_the_engine_runs_in_a_worker() {
    let engine = ExtractText::new(Box::new(NoOcr));
    assert_eq!(engine.isolation(), Isolation::Worker);
    assert!(engine.label().starts_with("builtin/extract-text "));
}

#[test]
fn pages_are_joined_by_a_form_feed_on_a_line_of_its_own() {
    let message = b"From: a@example.com\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nbody\n--b\nContent-Type: text/plain\nContent-Disposition: attachment; filename=n.txt\n\nnote\n--b--\n";
    let read = testing::read(message).unwrap();
    assert_eq!(
        read.text,
        "From: a@example.com\nSubject: x\n\nbody\n\u{c}\nAttachment: n.txt\n\nnote"
    );
}

/// Pictures and PDF documents have their own tests, with an OCR engine.
#[test]
fn the_specimens_are_read() {
    const READ_HERE: [&str; 18] = [
        "docx", "xlsx", "pptx", "doc", "xls", "ppt", "odt", "ods", "odp", "html", "htm", "eml",
        "rtf", "csv", "tsv", "txt", "json", "xml",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let truth = std::fs::read_to_string(root.join("truth.json")).unwrap();
    let truth: Vec<Value> = serde_json::from_str(&truth).unwrap();
    let mut count = 0;
    for entry in &truth {
        let name = entry["file"].as_str().unwrap();
        if !READ_HERE
            .iter()
            .any(|extension| name.ends_with(&format!(".{extension}")))
        {
            continue;
        }
        count += 1;
        let bytes = std::fs::read(root.join(name)).unwrap();
        let document = Document {
            bytes: &bytes,
            media_type: None,
            file_name: Some(name),
        };
        let found = testing::read_with(&document, &Options::default(), entry["password"].as_str());
        let refusals: &[Code] = match entry["expect"].as_str() {
            Some("unreadable" | "partial-or-unreadable") => &[Code::UnreadableDocument],
            Some("encrypted") => &[Code::PasswordRequired],
            Some("refused" | "refused-or-within-limits") => {
                &[Code::DocumentTooComplex, Code::UnreadableDocument]
            }
            _ => &[],
        };
        match (&found, entry["expect"].as_str()) {
            (Err(error), _) => {
                assert!(refusals.contains(&error.code), "{name}: {error}");
                continue;
            }
            (Ok(_), Some("unreadable" | "encrypted" | "refused")) => panic!("{name} is read"),
            _ => {}
        }
        let found = found.unwrap();
        for phrase in strings(&entry["phrases"]) {
            assert!(
                says(&found.text, phrase),
                "{name} lacks {phrase:?}:\n{}",
                found.text
            );
        }
        for phrase in strings(&entry["attachment_phrases"]) {
            assert!(
                says(&found.text, phrase),
                "{name} lacks {phrase:?}:\n{}",
                found.text
            );
        }
        for phrase in strings(&entry["absent"]) {
            assert!(
                !found.text.contains(phrase),
                "{name} shows {phrase:?}:\n{}",
                found.text
            );
        }
        if let Some(pages) = entry["pages"].as_u64() {
            assert_eq!(found.pages.len() as u64, pages, "{name}");
        }
        for (page, phrases) in found
            .pages
            .iter()
            .zip(entry["page_phrases"].as_array().into_iter().flatten())
        {
            for phrase in strings(phrases) {
                assert!(
                    says(&page.text, phrase),
                    "{name}, page {}: {phrase:?}",
                    page.number
                );
            }
        }
        assert_eq!(found.pages[0].source, TextSource::TextLayer, "{name}");
    }
    assert!(count >= 30, "only {count} specimens were found");
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Whether the text holds the phrase; a number may be written with its thousands set apart.
fn says(text: &str, phrase: &str) -> bool {
    let text = squeezed(text);
    text.contains(&squeezed(phrase))
        || (phrase.parse::<f64>().is_ok() && text.replace(',', "").contains(phrase))
}

/// Cells and words alike set apart by one space.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
