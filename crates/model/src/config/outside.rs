//! Values that tell of what is outside: addresses, headers, filters, networks.

use std::fmt;

use ipnet::IpNet;
use url::{Host, Url};

use super::kind::{Kind, TextKind};
use super::reader::Reader;
use super::secret::Secret;
use super::setting::Setting;
use super::text::FromText;
use super::tree::{Node, Value};

/// An `http` or `https` address without user and password. Neither `Debug` nor `Display` prints more than its origin: the rest may
/// be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Url);

impl HttpUrl {
    /// The address itself, for whoever connects.
    #[must_use]
    pub const fn reveal(&self) -> &Url {
        &self.0
    }

    /// Whether the host is written as one of this machine: `localhost`, or a loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromText for HttpUrl {
    const TEXT: TextKind = TextKind {
        name: "web address",
        expected: "an address such as \"https://crm.example.com/hooks\"",
        pattern: "^https?://[^@ ]+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        let bad = || format!("is not {}", Self::TEXT.expected);
        let url = Url::parse(text).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user or a password: send them in a header".to_owned());
        }
        if url.fragment().is_some() {
            return Err("has a fragment (#…), which is never sent: remove it".to_owned());
        }
        Ok(Self(url))
    }
}

/// The issuer identifier of an OpenID provider (OpenID Connect Discovery 1.0 section 3), as it is written: it is compared as a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer(String);

impl Issuer {
    /// The identifier as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromText for Issuer {
    const TEXT: TextKind = TextKind {
        name: "issuer",
        expected: "an issuer such as \"https://id.example.com\"",
        pattern: "^https?://[^@ ?#]+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        let bad = || format!("is not {}", Self::TEXT.expected);
        let url = HttpUrl::from_text(text)?;
        let here = url.is_loopback();
        let HttpUrl(url) = url;
        if url.query().is_some() {
            return Err(bad());
        }
        if url.scheme() != "https" && !here {
            return Err("is reached without TLS: whoever stands in between could sign in as anybody; an issuer is https://".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

/// Which scopes the values of a claim give, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<(String, Vec<String>)>);

impl Grants {
    /// The values with the scopes that each gives.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0
            .iter()
            .map(|(value, scopes)| (value.as_str(), scopes.as_slice()))
    }
}

impl Setting for Grants {
    fn kind() -> Kind {
        Kind::Free
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.table(node)?;
        if node.entries().is_empty() {
            return reader.fault(
                node.line,
                "is empty: write a value of scope_claim and the scopes that it gives, such as ai-users = [\"invoke\", \"read\"]",
            );
        }
        let grants: Vec<_> = node
            .entries()
            .iter()
            .map(|entry| {
                let line = entry.node.line;
                let scopes = reader.at(&entry.key, |reader| {
                    let scopes = Vec::<String>::read(&entry.node, reader)?;
                    if scopes.is_empty() {
                        return reader.fault(
                            line,
                            "gives no scope; the scopes are invoke, read and admin",
                        );
                    }
                    Some(scopes)
                });
                scopes.map(|scopes| (entry.key.clone(), scopes))
            })
            .collect();
        grants.into_iter().collect::<Option<_>>().map(Self)
    }
}

/// A jq filter, as it is written; it is compiled where the configuration is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jq(String);

impl Jq {
    /// The filter's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromText for Jq {
    const TEXT: TextKind = TextKind {
        name: "jq filter",
        expected: "a jq filter such as '.status == \"succeeded\"'",
        pattern: "^.+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err(format!("is not {}", Self::TEXT.expected));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Email addresses with commas between them (RFC 5322's mailbox-list), as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailboxes(String);

impl Mailboxes {
    /// The list as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromText for Mailboxes {
    const TEXT: TextKind = TextKind {
        name: "email addresses",
        expected: "email addresses such as \"Support <support@example.com>\"",
        pattern: "^.+@.+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        let plain = text.chars().all(|char| !char.is_control());
        if !plain || !text.split(',').all(|one| one.contains('@')) {
            return Err(format!("is not {}", Self::TEXT.expected));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Some HTTP statuses: `2xx`, `204`, `200-299`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first of them.
    pub first: u16,
    /// The last of them.
    pub last: u16,
}

impl FromText for StatusRange {
    const TEXT: TextKind = TextKind {
        name: "status",
        expected: "a status such as \"204\", \"2xx\" or \"200-204\"",
        pattern: "^[1-5]([0-9]{2}(-[1-5][0-9]{2})?|xx)$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        let bad = || format!("is not {}", Self::TEXT.expected);
        let status = |text: &str| {
            let status: u16 = text.parse().map_err(|_| bad())?;
            (100..600)
                .contains(&status)
                .then_some(status)
                .ok_or_else(bad)
        };
        let (first, last) = match (text.strip_suffix("xx"), text.split_once('-')) {
            (Some(class), _) => (
                status(&format!("{class}00"))?,
                status(&format!("{class}99"))?,
            ),
            (None, Some((first, last))) => (status(first)?, status(last)?),
            (None, None) => (status(text)?, status(text)?),
        };
        if first > last {
            return Err(bad());
        }
        Ok(Self { first, last })
    }
}

impl FromText for IpNet {
    const TEXT: TextKind = TextKind {
        name: "network",
        expected: "a network such as \"10.20.0.0/16\" or \"fd00::/8\"",
        pattern: "^[0-9a-fA-F.:]+/[0-9]+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("is not {}", Self::TEXT.expected))
    }
}

impl FromText for String {
    const TEXT: TextKind = TextKind {
        name: "text",
        expected: "a text",
        pattern: "^.+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        Ok(text.to_owned())
    }
}

/// Headers of a request, name and value. A value may have come from a reference, so none is ever printed.
#[derive(Clone, Default)]
pub struct Headers(Vec<(String, Secret)>);

impl Headers {
    /// The headers, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Setting for Headers {
    fn kind() -> Kind {
        Kind::Free
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.table(node)?;
        let mut headers = Vec::new();
        for entry in node.entries() {
            let line = entry.node.line;
            let value = reader.at(&entry.key, |reader| {
                if !is_header_name(&entry.key) {
                    return reader.fault(line, "is not the name of a header");
                }
                if !matches!(entry.node.value, Value::Text(_)) {
                    return reader.fault(line, "must be a text");
                }
                let value = String::read(&entry.node, reader)?;
                if value.chars().any(|char| char.is_control() && char != '\t') {
                    return reader.fault(line, "holds a character that no header may hold");
                }
                Some(Secret::new(value))
            });
            headers.push((entry.key.to_lowercase(), value?));
        }
        Some(Self(headers))
    }
}

/// Whether a text is a token (RFC 9110 section 5.6.2).
fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
