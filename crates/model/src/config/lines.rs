//! The line of each key, for the checks that look at more than one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::Fault;
use super::reader::step_down;
use super::tree::{Node, Value};

/// The line of each key.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    file: Arc<str>,
    by_path: BTreeMap<String, usize>,
}

impl Lines {
    pub(super) fn of(file: Arc<str>, root: &Node) -> Self {
        let mut by_path = BTreeMap::new();
        collect(root, &mut String::new(), &mut by_path);
        Self { file, by_path }
    }

    /// A fault of a key; its line is that of the key or of the nearest table around it.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        let mut around = key;
        let line = loop {
            if let Some(line) = self.by_path.get(around) {
                break *line;
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => break 1,
            }
        };
        Fault {
            file: Arc::clone(&self.file),
            line,
            key: key.to_owned(),
            message: message.into(),
        }
    }

    /// Whether the file holds the key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.by_path.contains_key(key)
    }

    /// The names that the file gives in a section, those of faulty tables too.
    pub(super) fn names<'l>(&'l self, section: &'l str) -> impl Iterator<Item = &'l str> {
        let inside = move |path: &'l String| path.strip_prefix(section)?.strip_prefix('.');
        self.by_path
            .keys()
            .filter_map(inside)
            .filter(|name| !name.contains(['.', '[']))
    }
}

fn collect(node: &Node, path: &mut String, lines: &mut BTreeMap<String, usize>) {
    let mut inside = |step: &str, node: &Node| {
        let length = path.len();
        step_down(path, step);
        lines.insert(path.clone(), node.line);
        collect(node, path, lines);
        path.truncate(length);
    };
    match &node.value {
        Value::Table(entries) => entries
            .iter()
            .for_each(|entry| inside(&entry.key, &entry.node)),
        Value::List(items) => items
            .iter()
            .enumerate()
            .for_each(|(nth, item)| inside(&format!("[{nth}]"), item)),
        _ => {}
    }
}
