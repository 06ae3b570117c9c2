//! The templates of a message's subject, text and HTML (Jinja): built in, or the operator's own.
//!
//! Whatever a value holds, it is neutralised as it is printed, and escaped in HTML. What a value does not have prints as nothing: a
//! failed result has no answers, and its message must go out all the same.

use std::path::Path;

use linkspan_model::config::deliver;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, Output, State, UndefinedBehavior, escape_formatter};

use super::neutral::{neutral, one_line};
use super::view::View;

const SUBJECT: &str = "subject";
const TEXT: &str = "result.txt";
/// The name's end turns the escaping on, whatever the operator's file is called.
const HTML: &str = "result.html";
/// The most characters of a subject.
const LONGEST_SUBJECT: usize = 200;

/// Compiled templates.
pub(super) struct Templates {
    environment: Environment<'static>,
    shown: [String; 3],
}

/// A rendered message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// One line without control characters.
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

impl Templates {
    /// Reads and compiles the templates; paths are relative to `folder`.
    ///
    /// # Errors
    ///
    /// Every fault, with its key and, in a template, its line.
    pub(super) fn load(settings: &deliver::Email, folder: &Path) -> Result<Self, Vec<String>> {
        let digest = settings.digest.is_some();
        let subject = if digest {
            "{{ integration }}: {{ count }} result{{ \"s\" if count != 1 }}{{ \", %d failed\"|format(failed) if failed }}"
        } else {
            "{{ integration }}: {{ results[0].status }}"
        };
        let text = if digest {
            include_str!("templates/digest.txt")
        } else {
            include_str!("templates/result.txt")
        };
        let html = if digest {
            include_str!("templates/digest.html")
        } else {
            include_str!("templates/result.html")
        };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_formatter(tame);
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        if let Ok(syntax) = syntax {
            environment.set_syntax(syntax);
        }
        let mut templates = Self {
            environment,
            shown: [
                SUBJECT.to_owned(),
                "text_template".to_owned(),
                "html_template".to_owned(),
            ],
        };
        let mut faults = Vec::new();
        let own = settings
            .subject
            .clone()
            .unwrap_or_else(|| subject.to_owned());
        faults.extend(templates.add(SUBJECT, SUBJECT, own));
        for (place, key, path, built_in, name) in [
            (1, "text_template", &settings.text_template, text, TEXT),
            (2, "html_template", &settings.html_template, html, HTML),
        ] {
            let Some(path) = path else {
                faults.extend(templates.add(name, key, built_in.to_owned()));
                continue;
            };
            let shown = path.display().to_string();
            match std::fs::read_to_string(folder.join(path)) {
                Ok(source) => {
                    faults.extend(templates.add(name, &format!("{key}: {shown}"), source));
                }
                Err(error) => faults.push(format!("{key}: cannot read {shown}: {error}")),
            }
            templates.shown[place] = shown;
        }
        if faults.is_empty() {
            Ok(templates)
        } else {
            Err(faults)
        }
    }

    /// Renders a message.
    ///
    /// # Errors
    ///
    /// Which template, and at which line: never a value.
    pub(super) fn render(&self, view: &View<'_>) -> Result<Rendered, String> {
        let context =
            serde_json::to_value(view).map_err(|_| "the result cannot be shown".to_owned())?;
        let context = shown(&context);
        let [subject, text, html] = [(SUBJECT, 0), (TEXT, 1), (HTML, 2)].map(|(name, place)| {
            let rendered = self
                .environment
                .get_template(name)
                .and_then(|template| template.render(&context));
            rendered.map_err(|error| {
                let line = error
                    .line()
                    .map(|line| format!(", line {line}"))
                    .unwrap_or_default();
                format!(
                    "the template {}{line} cannot be rendered: {}",
                    self.shown[place],
                    error.kind()
                )
            })
        });
        Ok(Rendered {
            subject: one_line(&subject?, LONGEST_SUBJECT),
            text: text?,
            html: html?,
        })
    }

    fn add(&mut self, name: &'static str, shown: &str, source: String) -> Option<String> {
        let error = self.environment.add_template_owned(name, source).err()?;
        let line = error
            .line()
            .map(|line| format!(", line {line}"))
            .unwrap_or_default();
        let detail = error.detail().unwrap_or_default();
        Some(format!("{shown}{line}: {}: {detail}", error.kind()))
    }
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Templates").field(&self.shown).finish()
    }
}

/// Prints a value: neutralised, then escaped where the template's language needs it.
fn tame(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(()),
        ValueKind::Bool | ValueKind::Number => escape_formatter(out, state, value),
        _ => {
            let text = neutral(&value.to_string());
            let text = if value.is_safe() {
                Value::from_safe_string(text)
            } else {
                Value::from(text)
            };
            escape_formatter(out, state, &text)
        }
    }
}

/// JSON as a template's value.
fn shown(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(it) => Value::from(*it),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(it), ..) => Value::from(it),
            (_, Some(it), _) => Value::from(it),
            (_, _, it) => Value::from(it.unwrap_or(f64::NAN)),
        },
        Json::String(it) => Value::from(it.as_str()),
        Json::Array(list) => list.iter().map(shown).collect(),
        Json::Object(map) => {
            Value::from_pairs(map.iter().map(|(key, it)| (key.as_str(), shown(it))))
        }
    }
}
