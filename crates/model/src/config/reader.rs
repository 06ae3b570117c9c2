//! Reads settings from a tree, keeps the path, and gathers every fault instead of stopping at the first.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::describe::{Description, Key, Presence};
use super::fault::Fault;
use super::kind::{Kind, one_of};
use super::secret::{Reference, Resolve, Secret};
use super::setting::Setting;
use super::tree::{Node, Value};

/// Reads one file.
pub(super) struct Reader<'a> {
    file: Arc<str>,
    resolve: &'a dyn Resolve,
    /// The key at which the reader stands.
    path: String,
    /// Whether the whole file was TOML. Where it was not, a key may be missing only because its line could not be read.
    whole: bool,
    faults: Vec<Fault>,
}

/// A string and where it came from.
struct Text<'n> {
    text: std::borrow::Cow<'n, str>,
    reference: Option<Reference<'n>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: Arc<str>, resolve: &'a dyn Resolve, whole: bool) -> Self {
        Self {
            file,
            resolve,
            path: String::new(),
            whole,
            faults: Vec::new(),
        }
    }

    /// The faults that were found.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// Tells a fault of the key at which the reader stands. Returns none, for the caller to return.
    pub(super) fn fault<T>(&mut self, line: usize, message: &str) -> Option<T> {
        self.faults.push(Fault {
            file: Arc::clone(&self.file),
            line,
            key: self.path.clone(),
            message: message.to_owned(),
        });
        None
    }

    /// Tells that a value is of another kind.
    pub(super) fn mismatch<T>(&mut self, node: &Node, kind: &Kind) -> Option<T> {
        self.fault(
            node.line,
            &format!("must be {}, not {}", kind.expected(), node.type_name()),
        )
    }

    /// Does something one step down the path: a key, or `[2]` for an item.
    pub(super) fn at<T>(&mut self, step: &str, then: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        step_down(&mut self.path, step);
        let done = then(self);
        self.path.truncate(length);
        done
    }

    /// Refuses what is not a table.
    pub(super) fn table(&mut self, node: &Node) -> Option<()> {
        match node.value {
            Value::Table(_) => Some(()),
            _ => self.fault(
                node.line,
                &format!("must be a table, not {}", node.type_name()),
            ),
        }
    }

    /// Refuses the keys that a table does not know.
    pub(super) fn refuse_unknown(&mut self, table: &Node, description: &Description) {
        let known: Vec<_> = description.keys.iter().map(|key| key.name).collect();
        for entry in table.entries() {
            let name = entry.key.as_str();
            if known.contains(&name) {
                continue;
            }
            let later = description.later.iter().find(|(later, _)| *later == name);
            let message = match (later, nearest(name, known.iter().copied())) {
                (Some((_, sentence)), _) => (*sentence).to_owned(),
                (None, Some(near)) => format!("unknown key; did you mean \"{near}\"?"),
                (None, None) => format!("unknown key; the keys here are {}", known.join(", ")),
            };
            self.at(name, |reader| reader.fault::<()>(entry.node.line, &message));
        }
    }

    /// Reads a table's key. A fault is told, and the default or a stand-in takes the value's place, so that the
    /// rest is checked too.
    pub(super) fn key<T: Setting>(&mut self, table: &Node, key: &Key) -> Option<T> {
        self.at(key.name, |reader| {
            let node = table.get(key.name);
            if let Some(value) = node.and_then(|node| reader.limited(node, key)) {
                return Some(value);
            }
            match &key.presence {
                Presence::Default(default) => T::read(&default.node(table.line), reader),
                Presence::Optional => T::absent(),
                Presence::Required => {
                    if node.is_none() && reader.whole {
                        reader.fault::<()>(
                            table.line,
                            &format!("is missing: give {}", key.kind.expected()),
                        );
                    }
                    T::stand_in()
                }
            }
        })
    }

    fn limited<T: Setting>(&mut self, node: &Node, key: &Key) -> Option<T> {
        let value = T::read(node, self)?;
        let Some((least, most)) = &key.limits else {
            return Some(value);
        };
        let mut limit =
            |literal: &super::describe::Literal| T::read(&literal.node(node.line), self)?.measure();
        let (low, high) = (limit(least), limit(most));
        let measure = value.measure();
        if measure >= low && measure <= high {
            return Some(value);
        }
        let (least, most) = (least.plain(), most.plain());
        self.fault(
            node.line,
            &format!("{} is out of range: from {least} to {most}", shown(node)),
        )
    }

    /// Reads one of some words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        words: &[(&'static str, T)],
        later: &[&str],
    ) -> Option<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let expected = one_of(names());
        self.parse(node, &expected, |text| {
            if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
                return Ok(*value);
            }
            if later.contains(&text) {
                return Err(format!(
                    "comes in a later release; this one knows {expected}"
                ));
            }
            Err(match nearest(text, names()) {
                Some(near) => format!("is not {expected}; did you mean \"{near}\"?"),
                None => format!("is not {expected}"),
            })
        })
    }

    /// Reads a string and what it says. `read` gives what is wrong as a clause that follows the text.
    pub(super) fn parse<T>(
        &mut self,
        node: &Node,
        expected: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let Value::Text(raw) = &node.value else {
            return self.fault(
                node.line,
                &format!("must be {expected}, not {}", node.type_name()),
            );
        };
        let text = self.text(raw, node.line)?;
        match (read(&text.text), text.reference) {
            (Ok(value), _) => Some(value),
            (Err(why), None) => self.fault(node.line, &format!("{} {why}", shown(node))),
            // What is wrong may quote the value, and nobody may see it.
            (Err(_), Some(reference)) => self.fault(
                node.line,
                &format!("the value of {reference} is not {expected}"),
            ),
        }
    }

    /// Reads a secret, which must not stand in the file itself.
    pub(super) fn secret(&mut self, node: &Node) -> Option<Secret> {
        let Value::Text(raw) = &node.value else {
            return self.mismatch(node, &Kind::Secret);
        };
        let text = self.text(raw, node.line)?;
        match text.reference {
            Some(reference) if text.text.is_empty() => {
                self.fault(node.line, &format!("the value of {reference} is empty"))
            }
            Some(_) => Some(Secret::new(text.text.into_owned())),
            None => self.fault(
                node.line,
                "a secret must not stand in the file: write \"${env:NAME}\" or \"${file:PATH}\"",
            ),
        }
    }

    /// Turns a free table's value into JSON. A date becomes its text.
    pub(super) fn json(&mut self, node: &Node) -> Option<Json> {
        Some(match &node.value {
            Value::Text(raw) => Json::String(self.text(raw, node.line)?.text.into_owned()),
            Value::Integer(number) => match i64::try_from(*number) {
                Ok(number) => number.into(),
                Err(_) => {
                    return self.fault(
                        node.line,
                        "is out of range: a whole number has at most 64 bits",
                    );
                }
            },
            Value::Float(number) if number.is_finite() => (*number).into(),
            Value::Float(_) => return self.fault(node.line, "must be a finite number"),
            Value::Bool(truth) => (*truth).into(),
            Value::Time(text) => Json::String(text.clone()),
            Value::List(items) => {
                let read = items
                    .iter()
                    .enumerate()
                    .map(|(nth, item)| self.at(&format!("[{nth}]"), |reader| reader.json(item)));
                let read: Vec<_> = read.collect();
                Json::Array(read.into_iter().collect::<Option<_>>()?)
            }
            Value::Table(entries) => {
                let read = entries.iter().map(|entry| {
                    let value = self.at(&entry.key, |reader| reader.json(&entry.node));
                    value.map(|value| (entry.key.clone(), value))
                });
                let read: Vec<_> = read.collect();
                Json::Object(read.into_iter().collect::<Option<Map<_, _>>>()?)
            }
        })
    }

    fn text<'n>(&mut self, raw: &'n str, line: usize) -> Option<Text<'n>> {
        let reference = match Reference::parse(raw) {
            Ok(reference) => reference,
            Err(why) => return self.fault(line, why),
        };
        let Some(reference) = reference else {
            return Some(Text {
                text: raw.into(),
                reference,
            });
        };
        match self.resolve.resolve(reference) {
            Ok(mut text) => {
                if matches!(reference, Reference::File(_)) {
                    text.truncate(text.trim_end_matches(['\r', '\n']).len());
                }
                Some(Text {
                    text: text.into(),
                    reference: Some(reference),
                })
            }
            Err(why) => self.fault(line, &format!("{reference}: {why}")),
        }
    }
}

/// Lengthens a path by a key or an `[index]`. A key that is not bare TOML is quoted, so that a path is always one line.
pub(super) fn step_down(path: &mut String, step: &str) {
    let bare = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let index = step
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if index.is_some_and(bare) {
        path.push_str(step);
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    if bare(step) {
        path.push_str(step);
    } else {
        path.push_str(&format!("{step:?}"));
    }
}

/// The name that was probably meant.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let name = name.to_lowercase().replace('-', "_");
    known
        .map(|known| {
            (
                strsim::damerau_levenshtein(&name, &known.replace('-', "_")),
                known,
            )
        })
        .filter(|(distance, known)| *distance <= (known.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// A value as a fault quotes it: short, and without the user and password of an address.
fn shown(node: &Node) -> String {
    match &node.value {
        Value::Text(text) if text.contains("://") && text.contains('@') => "the address".to_owned(),
        Value::Text(text) if text.starts_with("${") => format!("the value of {text}"),
        Value::Text(text) if text.chars().count() > 60 => {
            format!("{:?}…", text.chars().take(60).collect::<String>())
        }
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        _ => "the value".to_owned(),
    }
}
