//! The words and small values of the sections.

use std::fmt;

use super::describe::choice;
use super::kind::{Kind, TextKind, Word};
use super::reader::Reader;
use super::setting::Setting;
use super::text::FromText;
use super::tree::{Node, Value};

choice! {
    /// How callers prove who they are.
    pub enum Auth {
        /// By an API key, `Authorization: Bearer lsk_…`.
        Keys = "keys",
        /// Not at all: everyone who reaches the address may do everything. On loopback only.
        None = "none",
    }
}

choice! {
    /// The form of the log.
    pub enum LogFormat {
        /// `human` on a terminal, else `json`.
        Auto = "auto",
        /// Lines for people.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// How an integration's answer comes back.
    pub enum Pattern {
        /// The response holds the answer (pattern 1).
        Sync = "sync",
        /// The response is 202 and a job, once the job is on disk (pattern 2).
        Async = "async",
        /// Records of a stream come in; their results are stored, delivered and can be searched (pattern 3).
        StreamIn = "stream-in",
        /// Records of a Kafka topic come in, and their results go out to Kafka topics, exactly once (pattern 4).
        FullStream = "full-stream",
    }
}

impl Pattern {
    /// Whether records of a stream are worked on.
    #[must_use]
    pub const fn reads_stream(self) -> bool {
        matches!(self, Self::StreamIn | Self::FullStream)
    }
}

choice! {
    /// What a caller gets when the deadline passes.
    pub enum Overflow {
        /// A problem document with status 504.
        Error = "error",
        /// 202 and a job that goes on.
        Async = "async",
    }
}

/// What performs a service's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The engine that comes with linkspan.
    Builtin,
}

impl Setting for Engine {
    fn kind() -> Kind {
        Kind::Choice(vec![Word {
            name: "builtin",
            doc: "The engine that comes with linkspan.".to_owned(),
        }])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if matches!(node.value, Value::Table(_)) {
            return reader.fault(
                node.line,
                "providers come in a later release; this one knows \"builtin\"",
            );
        }
        reader.choice(node, &[("builtin", Self::Builtin)], &[])
    }
}

choice! {
    /// How the result document comes along with an email.
    pub enum EmailContent {
        /// A signed link to it, which holds for a while.
        Link = "link",
        /// The document as an attachment.
        Attachment = "attachment",
    }
}

choice! {
    /// The method of a call.
    pub enum Method {
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// PATCH.
        Patch = "PATCH",
        /// DELETE.
        Delete = "DELETE",
        /// GET, without a body.
        Get = "GET",
    }
}

choice! {
    /// The form of a call's body.
    pub enum Shape {
        /// The result document, or what `map` makes of it, as JSON.
        Json = "json",
        /// A message for a Slack incoming webhook (Block Kit).
        Slack = "slack",
        /// A message for a Microsoft Teams workflow (an Adaptive Card).
        Teams = "teams",
    }
}

choice! {
    /// What a file channel writes.
    pub enum FileFormat {
        /// One line of JSON a result, added to one file.
        JsonLines = "json-lines",
        /// One row of CSV (RFC 4180) a result, added to one file; the columns are those of its header line, or the keys of the first
        /// result. One with a key that the header lacks is a dead letter: after a change of `map` use a new file.
        Csv = "csv",
        /// One JSON file a result in a folder, named by the delivery's id.
        FilePerResult = "file-per-result",
    }
}

choice! {
    /// How a connection to the mail server is encrypted.
    pub enum SmtpTls {
        /// TLS after STARTTLS; a server without it is refused.
        Starttls = "starttls",
        /// TLS from the first byte.
        Implicit = "implicit",
        /// None: for a relay on this machine only.
        None = "none",
    }
}

/// A web origin (RFC 6454): scheme, host and perhaps a port, as browsers send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The origin as a browser sends it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromText for Origin {
    const TEXT: TextKind = TextKind {
        name: "origin",
        expected: "a web origin such as \"https://portal.example.com\"",
        pattern: "^https?://[^/*@ ]+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Err("would let every web page call the gateway: name each origin".to_owned());
        }
        let host = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let part = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]_".contains(&byte)
        };
        match host {
            Some(host) if !host.is_empty() && host.bytes().all(part) => Ok(Self(text.to_owned())),
            _ => Err(format!(
                "is not {}, in small letters and without a path",
                Self::TEXT.expected
            )),
        }
    }
}
