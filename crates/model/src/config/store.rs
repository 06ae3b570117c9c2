//! Where a store keeps its things: the addresses of `[store]`.

use std::path::{Path, PathBuf};

use super::kind::TextKind;
use super::text::FromText;

/// The database of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStore {
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
}

/// The store of documents and results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobStore {
    /// `file:PATH`: a folder.
    File(PathBuf),
}

impl JobStore {
    /// The database's file, relative to the configuration's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        let Self::Sqlite(path) = self;
        path
    }
}

impl BlobStore {
    /// The folder, relative to the configuration's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        let Self::File(path) = self;
        path
    }
}

impl FromText for JobStore {
    const TEXT: TextKind = TextKind {
        name: "store address",
        expected: "the address of a database such as \"sqlite:data/linkspan.db\"",
        pattern: "^sqlite:.+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        let later = ["postgres://", "postgresql://"];
        address(text, "sqlite:", &later, Self::TEXT.expected).map(Self::Sqlite)
    }
}

impl FromText for BlobStore {
    const TEXT: TextKind = TextKind {
        name: "store address",
        expected: "the address of a folder such as \"file:data/blobs\"",
        pattern: "^file:.+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        address(text, "file:", &["s3://"], Self::TEXT.expected).map(Self::File)
    }
}

fn address(text: &str, scheme: &str, later: &[&str], expected: &str) -> Result<PathBuf, String> {
    if let Some(path) = text.strip_prefix(scheme) {
        // `file:///var/blobs` is how a URL writes the path `/var/blobs`.
        let path = match path.strip_prefix("//") {
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) => return Err(format!("names a host: write \"{scheme}PATH\"")),
            None => path,
        };
        return PathBuf::from_text(path)
            .map_err(|_| format!("names no path: write \"{scheme}PATH\""));
    }
    if later.iter().any(|scheme| text.starts_with(scheme)) {
        return Err(format!(
            "names a store that comes in a later release: write \"{scheme}PATH\""
        ));
    }
    Err(format!("is not {expected}"))
}
