//! The JSON Schema (draft 2020-12) of `linkspan.toml`, for editors.

use serde_json::{Map, Value, json};

use super::describe::{Description, Key, Literal, Presence, prose};
use super::kind::{Kind, TextKind};
use super::sections::Sections;
use super::setting::Section;
use super::text::NAME_PATTERN;

/// What stands for a string that is fetched when the gateway starts.
const REFERENCE_PATTERN: &str = "^\\$\\{(env|file):[^${}]+\\}$";

/// The schema of the whole file.
#[must_use]
pub fn schema() -> Value {
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "linkspan.toml",
    });
    if let (Value::Object(root), Value::Object(rest)) = (&mut root, table(&Sections::describe())) {
        root.extend(rest);
    }
    root
}

fn table(description: &Description) -> Value {
    let properties: Map<_, _> = description
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let required: Vec<_> = description
        .keys
        .iter()
        .filter(|key| matches!(key.presence, Presence::Required))
        .map(|key| key.name)
        .collect();
    json!({
        "type": "object",
        "description": prose(description.about),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut schema = kind(&key.kind);
    let mut description = prose(key.doc);
    match &key.limits {
        Some((Literal::Integer(least), Literal::Integer(most))) => {
            schema["minimum"] = (*least).into();
            schema["maximum"] = (*most).into();
        }
        Some((least, most)) => {
            description.push_str(&format!(" From {} to {}.", least.plain(), most.plain()));
        }
        None => {}
    }
    schema["description"] = description.into();
    if let Presence::Default(default) = &key.presence {
        schema["default"] = default.json();
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text(text) => string(*text),
        Kind::Secret => json!({ "type": "string", "pattern": REFERENCE_PATTERN }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Integer => json!({ "type": "integer" }),
        Kind::Choice(words) => {
            let mut choices: Vec<_> = words
                .iter()
                .map(|word| json!({ "const": word.name, "description": word.doc }))
                .collect();
            choices.push(json!({ "type": "string", "pattern": REFERENCE_PATTERN }));
            json!({ "anyOf": choices })
        }
        Kind::List(of) => json!({ "type": "array", "items": self::kind(of) }),
        Kind::Table(description) => table(description),
        Kind::Tables(description) => json!({
            "type": "object",
            "propertyNames": { "pattern": NAME_PATTERN },
            "additionalProperties": table(description),
        }),
        Kind::Forms(forms, common) => {
            let forms = forms.iter().cloned().map(|mut form| {
                form.keys.extend(common.keys.iter().cloned());
                table(&form)
            });
            json!({ "oneOf": forms.collect::<Vec<_>>() })
        }
        Kind::Free => json!({ "type": "object" }),
    }
}

fn string(text: TextKind) -> Value {
    json!({ "type": "string", "pattern": format!("{}|{REFERENCE_PATTERN}", text.pattern) })
}
