//! What a key's type must be able to do, and the types that are no strings.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Map;

use super::BUILTIN_TASKS;
use super::describe::{Description, Literal, Presence};
use super::kind::{Kind, Word};
use super::name::BadName;
use super::reader::Reader;
use super::secret::Secret;
use super::tree::{Node, Value};
use crate::Task;

/// A value of a key.
pub(super) trait Setting: Sized {
    /// How the value is described.
    fn kind() -> Kind;

    /// Reads it, or tells the reader what is wrong with it.
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    /// What holds where the key is absent and has no default.
    fn absent() -> Option<Self> {
        None
    }

    /// A value that stands in for one whose fault is told, so that what is around it is checked too.
    fn stand_in() -> Option<Self> {
        Self::absent()
    }

    /// The value as a number, for limits.
    fn measure(&self) -> Option<u128> {
        None
    }

    /// Whether a key of this type, with this default, must stand in the file.
    fn presence(default: Option<Literal>) -> Presence {
        match default {
            Some(default) => Presence::Default(default),
            None if Self::absent().is_some() => Presence::Optional,
            None => Presence::Required,
        }
    }
}

/// A table with known keys.
pub(super) trait Section: Sized {
    fn describe() -> Description;

    /// Reads a node that is known to be a table.
    fn read_entries(table: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    /// Reads its own keys of such a node; others may stand there.
    fn read_keys(table: &Node, reader: &mut Reader<'_>) -> Option<Self>;
}

impl Setting for Secret {
    fn kind() -> Kind {
        Kind::Secret
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.secret(node)
    }
}

impl Setting for bool {
    fn kind() -> Kind {
        Kind::Bool
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            Value::Bool(truth) => Some(truth),
            _ => reader.mismatch(node, &Self::kind()),
        }
    }
}

impl Setting for u32 {
    fn kind() -> Kind {
        Kind::Integer
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            Value::Integer(number) if number < 0 => reader.fault(node.line, "must not be negative"),
            // A number beyond the type is beyond every limit: the limit's own fault says so.
            Value::Integer(number) => Some(Self::try_from(number).unwrap_or(Self::MAX)),
            _ => reader.mismatch(node, &Self::kind()),
        }
    }

    fn measure(&self) -> Option<u128> {
        Some((*self).into())
    }
}

impl Setting for Task {
    fn kind() -> Kind {
        let word = |task: Task| Word {
            name: task.name(),
            doc: String::new(),
        };
        Kind::Choice(BUILTIN_TASKS.into_iter().map(word).collect())
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let later: Vec<_> = Self::ALL
            .into_iter()
            .filter(|task| !BUILTIN_TASKS.contains(task))
            .map(Self::name)
            .collect();
        reader.choice(node, &BUILTIN_TASKS.map(|task| (task.name(), task)), &later)
    }
}

impl<T: Setting> Setting for Option<T> {
    fn kind() -> Kind {
        T::kind()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(node, reader).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn measure(&self) -> Option<u128> {
        self.as_ref().and_then(Setting::measure)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn kind() -> Kind {
        Kind::List(Box::new(T::kind()))
    }

    fn stand_in() -> Option<Self> {
        Some(Self::new())
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return reader.mismatch(node, &Self::kind());
        };
        let read: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(nth, item)| reader.at(&format!("[{nth}]"), |reader| T::read(item, reader)))
            .collect();
        read.into_iter().collect()
    }
}

impl<N: Ord + FromStr<Err = BadName>, S: Section> Setting for BTreeMap<N, S> {
    fn kind() -> Kind {
        Kind::Tables(S::describe())
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.table(node)?;
        let mut named = Self::new();
        for entry in node.entries() {
            reader.at(&entry.key, |reader| {
                let name = match N::from_str(&entry.key) {
                    Ok(name) => Some(name),
                    Err(bad) => reader.fault(entry.node.line, &bad.to_string()),
                };
                let read = reader
                    .table(&entry.node)
                    .and_then(|()| S::read_entries(&entry.node, reader));
                named.extend(name.zip(read));
            });
        }
        Some(named)
    }
}

/// Options that the engine checks. `Debug` prints their names only: a value may have come from a reference.
#[derive(Clone, Default)]
pub struct Options(Map<String, serde_json::Value>);

impl Options {
    /// The options as JSON.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, serde_json::Value> {
        &self.0
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Setting for Options {
    fn kind() -> Kind {
        Kind::Free
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.table(node)?;
        match reader.json(node)? {
            serde_json::Value::Object(map) => Some(Self(map)),
            _ => None,
        }
    }
}
