//! TOML as a tree in which every value knows its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and the line where it stands; for a table's entry, the line of its key.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What stands there.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// A whole number; one beyond `i128` is held at its end.
    Integer(i128),
    Float(f64),
    Bool(bool),
    Time(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) node: Node,
}

impl Node {
    /// The entries of a table, in the order of the file; none of anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a table's key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let found = self.entries().iter().find(|entry| entry.key == key);
        found.map(|entry| &entry.node)
    }

    /// The value's type, in a reader's words.
    pub(super) fn type_name(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a string",
            Value::Integer(_) => "a number",
            Value::Float(_) => "a number with a decimal point",
            Value::Bool(_) => "a boolean",
            Value::Time(_) => "a date or time",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// Reads TOML as far as it goes: the tree, and the first thing on each line that is not TOML.
pub(super) fn parse(text: &str) -> (Node, Vec<(usize, String)>) {
    let lines = LineStarts::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faults: Vec<_> = errors
        .iter()
        .map(|error| {
            let line = error.span().map_or(1, |span| lines.line_at(span.start));
            (line, format!("not valid TOML: {}", error.message()))
        })
        .collect();
    // What follows on the same line is mostly the first fault's own echo.
    faults.sort_by_key(|(line, _)| *line);
    faults.dedup_by_key(|(line, _)| *line);
    let root = Node {
        line: 1,
        value: Value::Table(entries(table.get_ref(), &lines)),
    };
    (root, faults)
}

fn entries(table: &DeTable<'_>, lines: &LineStarts) -> Vec<Entry> {
    let mut by_place: Vec<_> = table.iter().collect();
    by_place.sort_by_key(|(key, _)| key.span().start);
    by_place
        .into_iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            node: Node {
                line: lines.line_at(key.span().start),
                value: convert(value.get_ref(), lines),
            },
        })
        .collect()
}

fn convert(value: &DeValue<'_>, lines: &LineStarts) -> Value {
    let item = |value: &Spanned<DeValue<'_>>| Node {
        line: lines.line_at(value.span().start),
        value: convert(value.get_ref(), lines),
    };
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => {
            let held = if integer.as_str().starts_with('-') {
                i128::MIN
            } else {
                i128::MAX
            };
            Value::Integer(i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(held))
        }
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(list) => Value::List(list.iter().map(item).collect()),
        DeValue::Table(table) => Value::Table(entries(table, lines)),
    }
}

/// Where each line begins.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let after = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after).collect())
    }

    /// The line, from 1, of a byte offset.
    fn line_at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}
