//! The values that are written as strings: durations, sizes, addresses, paths, names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::kind::{Kind, TextKind};
use super::name::{
    BadName, ChannelName, ClusterName, IntegrationName, ReplicationName, ServiceName,
};
use super::reader::Reader;
use super::setting::Setting;
use super::tree::Node;
use super::units::{Size, parse_duration, parse_size};

/// A value that is written as a string.
pub(super) trait FromText: Sized {
    const TEXT: TextKind;

    /// Reads it, or says what is wrong in a clause that follows the text: `has no unit: …`.
    fn from_text(text: &str) -> Result<Self, String>;

    fn measure(&self) -> Option<u128> {
        None
    }
}

impl<T: FromText> Setting for T {
    fn kind() -> Kind {
        Kind::Text(T::TEXT)
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        reader.parse(node, T::TEXT.expected, T::from_text)
    }

    fn measure(&self) -> Option<u128> {
        FromText::measure(self)
    }
}

impl FromText for Duration {
    const TEXT: TextKind = TextKind {
        name: "duration",
        expected: "a duration such as \"30s\", \"250ms\" or \"7d\"",
        pattern: "^([0-9]+(ms|s|m|h|d))+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }

    fn measure(&self) -> Option<u128> {
        Some(self.as_millis())
    }
}

impl FromText for Size {
    const TEXT: TextKind = TextKind {
        name: "size",
        expected: "a size such as \"64 KiB\" or \"20 MB\"",
        pattern: "^[0-9]+ ?(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        parse_size(text)
    }

    fn measure(&self) -> Option<u128> {
        Some(self.bytes().into())
    }
}

impl FromText for SocketAddr {
    const TEXT: TextKind = TextKind {
        name: "address",
        expected: "an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
        pattern: "^[0-9a-fA-F.:\\[\\]]+:[0-9]+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("is not {}", Self::TEXT.expected))
    }
}

impl FromText for PathBuf {
    const TEXT: TextKind = TextKind {
        name: "path",
        expected: "a path such as \"tls/cert.pem\"",
        pattern: "^.+$",
    };

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("is not {}", Self::TEXT.expected));
        }
        Ok(text.into())
    }
}

/// The pattern of a name, for editors.
pub(super) const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9-]{0,62}$";

/// Names are texts: a line a kind of name.
macro_rules! names {
    ($($name:ident: $noun:literal, $expected:literal;)+) => {
        $(impl FromText for $name {
            const TEXT: TextKind = TextKind {
                name: $noun,
                expected: $expected,
                pattern: NAME_PATTERN,
            };

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|bad: BadName| bad.to_string())
            }
        })+
    };
}

names! {
    ServiceName: "service", "the name of a service";
    IntegrationName: "integration", "the name of an integration";
    ChannelName: "channel name", "the name of a channel";
    ClusterName: "cluster", "the name of a Kafka cluster";
    ReplicationName: "replication", "the name of a replication";
}
