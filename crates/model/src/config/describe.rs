//! What a file may hold: sections, their keys, and the macros that declare them.
//!
//! [`section!`] turns one line a key into the typed field with its documentation, the check, the default, the JSON Schema, the
//! reference and the annotated file. Someone who adds a key adds that line and nothing else.

use super::kind::Kind;
use super::tree::{Entry, Node, Value};

/// A section or a table: what it is for and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Description {
    /// The documentation, a line each.
    pub(super) about: &'static [&'static str],
    pub(super) keys: Vec<Key>,
    /// Keys that a later release brings, each with the sentence that refuses it.
    pub(super) later: &'static [(&'static str, &'static str)],
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The documentation, a line each.
    pub(super) doc: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) presence: Presence,
    /// The least and the most that the value may be.
    pub(super) limits: Option<(Literal, Literal)>,
    /// A value to show, as TOML, where there is no default.
    pub(super) example: Option<&'static str>,
}

/// Whether a key must stand there, and what holds where it does not.
#[derive(Clone, Debug)]
pub(super) enum Presence {
    Default(Literal),
    Optional,
    Required,
}

/// A value in the declaration of a key.
#[derive(Clone, Debug)]
pub(super) enum Literal {
    Text(&'static str),
    Integer(i64),
    Bool(bool),
    List(Vec<&'static str>),
    /// A table whose keys all have defaults.
    Table,
}

/// A table whose keys all have defaults.
pub(super) const TABLE: Literal = Literal::Table;

impl Literal {
    /// The value as if it stood in the file.
    pub(super) fn node(&self, line: usize) -> Node {
        let text = |text: &str| Value::Text(text.to_owned());
        let value = match self {
            Self::Text(it) => text(it),
            Self::Integer(it) => Value::Integer((*it).into()),
            Self::Bool(it) => Value::Bool(*it),
            Self::List(items) => Value::List(
                items
                    .iter()
                    .map(|it| Node {
                        line,
                        value: text(it),
                    })
                    .collect(),
            ),
            Self::Table => Value::Table(Vec::<Entry>::new()),
        };
        Node { line, value }
    }

    /// The value as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(it) => (*it).into(),
            Self::Integer(it) => (*it).into(),
            Self::Bool(it) => (*it).into(),
            Self::List(items) => items.clone().into(),
            Self::Table => serde_json::json!({}),
        }
    }

    /// The value as a person reads it, without quotes.
    pub(super) fn plain(&self) -> String {
        match self {
            Self::Text(it) => (*it).to_owned(),
            other => other.json().to_string(),
        }
    }
}

impl From<&'static str> for Literal {
    fn from(it: &'static str) -> Self {
        Self::Text(it)
    }
}

impl From<i64> for Literal {
    fn from(it: i64) -> Self {
        Self::Integer(it)
    }
}

impl From<bool> for Literal {
    fn from(it: bool) -> Self {
        Self::Bool(it)
    }
}

impl<const N: usize> From<[&'static str; N]> for Literal {
    fn from(items: [&'static str; N]) -> Self {
        Self::List(items.to_vec())
    }
}

impl Key {
    /// What holds where the key is absent, as TOML: `"30s"`, `{ first = "1s", max = "5m" }`; none where it has no default.
    pub(super) fn default_toml(&self) -> Option<String> {
        let Presence::Default(literal) = &self.presence else {
            return None;
        };
        if let (Literal::Table, Kind::Table(description)) = (literal, &self.kind) {
            let parts = description
                .keys
                .iter()
                .filter_map(|key| Some(format!("{} = {}", key.name, key.default_toml()?)));
            return Some(format!("{{ {} }}", parts.collect::<Vec<_>>().join(", ")));
        }
        Some(literal.json().to_string())
    }
}

/// A documentation's lines as one text.
pub(super) fn prose(lines: &[&str]) -> String {
    let trimmed: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    trimmed.join(" ")
}

/// The one item of a list of none or one, for the macros' optional parts.
pub(super) fn only<T, const N: usize>(items: [T; N]) -> Option<T> {
    items.into_iter().next()
}

/// Declares a section: `key: Type` with a default (`= …`) or without (required, or optional where the type is an `Option`), then
/// its limits (`in … to …`) and an example in TOML (`like …`).
macro_rules! section {
    (
        $(#[doc = $about:expr])+
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:expr])+
                $key:ident: $type:ty $(= $default:expr)? $(, in $least:literal to $most:literal)? $(, like $example:literal)?;
            )*
        }
        $(later { $($later:ident: $sentence:expr;)* })?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        $vis struct $name {
            $($(#[doc = $doc])+ $vis $key: $type,)*
        }

        impl $crate::config::setting::Section for $name {
            fn describe() -> $crate::config::describe::Description {
                use $crate::config::describe::{Key, only};
                use $crate::config::setting::Setting;
                $crate::config::describe::Description {
                    about: &[$($about),+],
                    keys: vec![$(Key {
                        name: stringify!($key),
                        doc: &[$($doc),+],
                        kind: <$type as Setting>::kind(),
                        presence: <$type as Setting>::presence(only([$($crate::config::describe::Literal::from($default))?])),
                        limits: only([$(($least.into(), $most.into()))?]),
                        example: only([$($example)?]),
                    }),*],
                    later: &[$($((stringify!($later), $sentence)),*)?],
                }
            }

            fn read_entries(
                table: &$crate::config::tree::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                reader.refuse_unknown(table, &<Self as $crate::config::setting::Section>::describe());
                <Self as $crate::config::setting::Section>::read_keys(table, reader)
            }

            fn read_keys(
                table: &$crate::config::tree::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                let description = <Self as $crate::config::setting::Section>::describe();
                let mut keys = description.keys.iter();
                $(let $key = keys.next().and_then(|key| reader.key::<$type>(table, key));)*
                Some(Self { $($key: $key?),* })
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn kind() -> $crate::config::kind::Kind {
                $crate::config::kind::Kind::Table(<Self as $crate::config::setting::Section>::describe())
            }

            fn read(
                node: &$crate::config::tree::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                reader.table(node)?;
                <Self as $crate::config::setting::Section>::read_entries(node, reader)
            }
        }
    };
}

/// Declares a choice of words, with the words that a later release brings.
macro_rules! choice {
    (
        $(#[doc = $about:expr])+
        pub enum $name:ident {
            $($(#[doc = $doc:expr])+ $variant:ident = $word:literal,)+
        }
        $(later { $($later:literal),+ })?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $name {
            /// The word in the file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn kind() -> $crate::config::kind::Kind {
                $crate::config::kind::Kind::Choice(vec![$(
                    $crate::config::kind::Word { name: $word, doc: $crate::config::describe::prose(&[$($doc),+]) }
                ),+])
            }

            fn read(
                node: &$crate::config::tree::Node,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                reader.choice(node, &[$(($word, Self::$variant)),+], &[$($($later),+)?])
            }

            fn stand_in() -> Option<Self> {
                [$(Self::$variant),+].into_iter().next()
            }
        }
    };
}

pub(super) use {choice, section};
