//! Where a store keeps its things: the addresses of `[store]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::kind::{Kind, TextKind};
use super::reader::Reader;
use super::secret::Reference;
use super::setting::Setting;
use super::text::FromText;
use super::tree::{Node, Value};

/// The database of jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStore {
    /// `sqlite:PATH`, relative to the configuration's folder.
    Sqlite(PathBuf),
    /// `postgres://…`: a database that several gateways share.
    Postgres(PostgresUrl),
}

/// The store of documents and results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobStore {
    /// `file:PATH`: a folder, relative to the configuration's folder.
    File(PathBuf),
    /// `s3://BUCKET/PREFIX`: a bucket that several gateways share.
    S3 {
        /// The bucket.
        bucket: String,
        /// What the keys of the objects begin with, without `/` at its ends; empty: the whole bucket is the gateway's.
        prefix: String,
    },
}

/// The address of a PostgreSQL database (libpq's connection URI), perhaps with a password. Neither `Debug` nor `Display` prints more
/// than its hosts and the database's name.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// The address itself, for whoever connects.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> Parts<'_> {
        Parts::of(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts {
            hosts, database, ..
        } = self.parts();
        write!(f, "postgres://{hosts}/{database}")
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for JobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for BlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

const JOBS: TextKind = TextKind {
    name: "store address",
    expected: "the address of a database such as \"sqlite:data/linkspan.db\" or \"postgres://db.internal/linkspan\"",
    pattern: "^(sqlite:.+|postgres(ql)?://.+)$",
};

impl FromStr for JobStore {
    type Err = String;

    /// Reads an address. The error is a clause that follows the address, and quotes nothing of it.
    fn from_str(text: &str) -> Result<Self, String> {
        if Parts::of(text).is_some() {
            return PostgresUrl::check(text).map(Self::Postgres);
        }
        path(text, "sqlite:", JOBS.expected).map(Self::Sqlite)
    }
}

impl Setting for JobStore {
    fn kind() -> Kind {
        Kind::Text(JOBS)
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        // The blanket implementation for texts does not know whether a text stood in the file.
        if let Value::Text(raw) = &node.value
            && Parts::of(raw).is_some_and(|parts| parts.password)
        {
            return reader.fault(
                node.line,
                "the address holds a password, which must not stand in the file: write \"${env:DATABASE_URL}\", with the whole \
                 address in that variable",
            );
        }
        reader.parse(node, JOBS.expected, str::parse)
    }
}

impl FromText for BlobStore {
    const TEXT: TextKind = TextKind {
        name: "store address",
        expected: "the address of a folder or a bucket such as \"file:data/blobs\" or \"s3://bucket/prefix\"",
        pattern: "^(file:.+|s3://.+)$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        match text.strip_prefix("s3://") {
            Some(rest) => bucket(rest),
            None => path(text, "file:", Self::TEXT.expected).map(Self::File),
        }
    }
}

impl FromStr for BlobStore {
    type Err = String;

    /// Reads an address. The error is a clause that follows the address.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_text(text)
    }
}

/// The parts of a connection URI that are looked at here; whoever connects reads the whole.
#[derive(Default)]
struct Parts<'a> {
    hosts: &'a str,
    database: &'a str,
    parameters: &'a str,
    password: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold what ends an authority; its own end is the last @.
        let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let parameter = |name: &str| {
            parameters
                .split('&')
                .any(|one| one.split('=').next() == Some(name))
        };
        Some(Self {
            hosts,
            database,
            parameters,
            password: user.contains(':') || parameter("password"),
        })
    }
}

impl PostgresUrl {
    fn check(text: &str) -> Result<Self, String> {
        let url = Self(text.to_owned());
        let parts = url.parts();
        let host = parts
            .parameters
            .split('&')
            .any(|one| one.starts_with("host="));
        if parts.hosts.is_empty() && !host {
            return Err("names no host: write \"postgres://HOST/DATABASE\"".to_owned());
        }
        if parts.database.is_empty() {
            return Err("names no database: write \"postgres://HOST/DATABASE\"".to_owned());
        }
        let blank = |char: char| char.is_control() || char.is_whitespace();
        if text.contains(blank) {
            return Err("holds a blank: write it as %20".to_owned());
        }
        Ok(url)
    }
}

impl Reference<'_> {
    /// Whether an argument of the command line is a reference, as a file's strings may be.
    ///
    /// # Errors
    ///
    /// A sentence, where it looks like one and is not.
    pub fn in_argument(text: &str) -> Result<Option<Reference<'_>>, &'static str> {
        Reference::parse(text)
    }
}

fn path(text: &str, scheme: &str, expected: &str) -> Result<PathBuf, String> {
    let Some(path) = text.strip_prefix(scheme) else {
        return Err(format!("is not {expected}"));
    };
    // `file:///var/blobs` is how a URL writes the path `/var/blobs`.
    let path = match path.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return Err(format!("names a host: write \"{scheme}PATH\"")),
        None => path,
    };
    PathBuf::from_text(path).map_err(|_| format!("names no path: write \"{scheme}PATH\""))
}

/// Bucket names are 3 to 63 small letters, digits, dots and hyphens ("Bucket naming rules" of Amazon S3); the prefix is of what
/// every store takes in a key.
fn bucket(text: &str) -> Result<BlobStore, String> {
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    let named = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-')
    };
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = bucket.as_bytes();
    if !(3..=63).contains(&bytes.len())
        || !bytes.iter().copied().all(named)
        || !end(bytes.first())
        || !end(bytes.last())
    {
        return Err(
            "names no bucket: a bucket's name is 3 to 63 small letters, digits, \".\" and \"-\""
                .to_owned(),
        );
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
    let segment = |one: &str| !matches!(one, "" | "." | "..") && one.bytes().all(plain);
    if !prefix.is_empty() && (prefix.len() > 512 || !prefix.split('/').all(segment)) {
        return Err(
            "has a prefix that is not letters, digits, \"-\", \"_\" and \".\" with \"/\" between: write \"s3://BUCKET/PREFIX\""
                .to_owned(),
        );
    }
    Ok(BlobStore::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}
