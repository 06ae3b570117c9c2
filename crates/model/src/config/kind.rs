//! The kinds of value, as they are described to people and editors.

use super::describe::Description;

/// A kind of value, for descriptions.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text(TextKind),
    Secret,
    Bool,
    Integer,
    Choice(Vec<Word>),
    List(Box<Kind>),
    Table(Description),
    /// Named tables of one description.
    Tables(Description),
    /// A table of one of several forms, of which the first key tells it from the others, with the keys that all of them have.
    Forms(Vec<Description>, Description),
    /// A table that someone else checks.
    Free,
}

/// A kind of string.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextKind {
    /// In a word or two: `duration`.
    pub(super) name: &'static str,
    /// With an article and an example: `a duration such as "30s"`.
    pub(super) expected: &'static str,
    /// A regular expression (ECMA 262) for editors; the check itself is stricter.
    pub(super) pattern: &'static str,
}

/// One word of a choice.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) doc: String,
}

impl Kind {
    /// What is expected, with an article.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Text(text) => text.expected.to_owned(),
            Self::Secret => "a reference such as \"${env:NAME}\" or \"${file:PATH}\"".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::Choice(words) => one_of(words.iter().map(|word| word.name)),
            Self::List(of) => format!("a list, each item {}", of.expected()),
            Self::Table(_) | Self::Forms(..) | Self::Free => "a table".to_owned(),
            Self::Tables(_) => "a table of named tables".to_owned(),
        }
    }

    /// The kind in a word or two, for the reference.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Text(text) => text.name.to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Integer => "whole number".to_owned(),
            Self::Choice(words) => {
                let words: Vec<_> = words
                    .iter()
                    .map(|word| format!("`\"{}\"`", word.name))
                    .collect();
                words.join(", ")
            }
            Self::List(of) => match of.name() {
                name if name.ends_with('s') => format!("list of {name}es"),
                name => format!("list of {name}s"),
            },
            Self::Table(_) | Self::Forms(..) | Self::Free => "table".to_owned(),
            Self::Tables(_) => "named tables".to_owned(),
        }
    }
}

/// `"a", "b" or "c"`.
pub(super) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut quoted: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
    match quoted.pop() {
        Some(last) if !quoted.is_empty() => format!("{} or {last}", quoted.join(", ")),
        last => last.unwrap_or_default(),
    }
}
