//! The names that a file gives to services and integrations.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The longest name: as long as a DNS label (RFC 1035), so that a name can become one.
pub const MAX_NAME: usize = 63;

macro_rules! names {
    ($($(#[$doc:meta])+ $name:ident;)+) => {
        $(
            $(#[$doc])+
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
            #[serde(transparent)]
            pub struct $name(String);

            impl $name {
                /// The name as it is written.
                #[must_use]
                pub fn as_str(&self) -> &str {
                    &self.0
                }
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(&self.0)
                }
            }

            impl std::borrow::Borrow<str> for $name {
                fn borrow(&self) -> &str {
                    &self.0
                }
            }

            impl FromStr for $name {
                type Err = BadName;

                fn from_str(text: &str) -> Result<Self, BadName> {
                    if is_name(text) { Ok(Self(text.to_owned())) } else { Err(BadName) }
                }
            }
        )+
    };
}

names! {
    /// A service's name: `[service.NAME]`.
    ServiceName;
    /// An integration's name: `[integration.NAME]`.
    IntegrationName;
    /// A channel's name within its integration: `name` in an item of `deliver`.
    ChannelName;
    /// A Kafka cluster's name: `[kafka.NAME]`.
    ClusterName;
    /// A replication's name: `[replicate.NAME]`.
    ReplicationName;
}

/// The text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a name: use 1 to {MAX_NAME} of a-z, 0-9 and -, with a letter or a digit first")]
pub struct BadName;

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
        && text.bytes().next().is_some_and(plain)
}
