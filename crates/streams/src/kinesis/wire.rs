//! The two forms of a body: JSON 1.1 and CBOR 1.1.
//!
//! They differ in two types: bytes are base64 in JSON and a byte string in CBOR; a time is seconds with a fraction in JSON, and whole
//! milliseconds in CBOR, with tag 1 as Amazon's Java clients write and read it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ciborium::tag::Accepted;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fault::{Fault, Kind};

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// `application/x-amz-json-1.1`.
    Json,
    /// `application/x-amz-cbor-1.1`.
    Cbor,
}

impl Codec {
    /// The form that a `Content-Type` names, with or without parameters.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        [Self::Json, Self::Cbor]
            .into_iter()
            .find(|codec| codec.content_type().eq_ignore_ascii_case(essence))
    }

    /// The form's media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    /// Reads a request.
    pub(super) fn read<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, Fault> {
        let read = match self {
            // Clients send no body at all where there is nothing to say.
            Self::Json if body.is_empty() => serde_json::from_str("{}").map_err(drop),
            Self::Json => serde_json::from_slice(body).map_err(drop),
            Self::Cbor => ciborium::from_reader(body).map_err(drop),
        };
        read.map_err(|()| {
            Fault::new(
                Kind::Serialization,
                "the body cannot be read as this operation's request",
            )
        })
    }

    /// Writes an answer.
    pub(super) fn write<T: Serialize>(self, value: &T) -> Vec<u8> {
        let mut body = Vec::new();
        let written = match self {
            Self::Json => serde_json::to_writer(&mut body, value).is_ok(),
            Self::Cbor => ciborium::into_writer(value, &mut body).is_ok(),
        };
        debug_assert!(written, "the shapes hold nothing that cannot be written");
        body
    }
}

/// Bytes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Bytes);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Blob, E> {
                let bytes = STANDARD.decode(text).map_err(|_| E::custom("no base64"))?;
                Ok(Blob(bytes.into()))
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Read)
        } else {
            deserializer.deserialize_byte_buf(Read)
        }
    }
}

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Time(pub(super) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let milliseconds = self.0.as_millisecond();
        if serializer.is_human_readable() {
            serializer.serialize_f64(milliseconds as f64 / 1000.0)
        } else {
            Accepted::<_, 1>(milliseconds).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let milliseconds = if deserializer.is_human_readable() {
            (f64::deserialize(deserializer)? * 1000.0).round() as i64
        } else {
            Accepted::<i64, 1>::deserialize(deserializer)?.0
        };
        Timestamp::from_millisecond(milliseconds)
            .map(Self)
            .map_err(|_| D::Error::custom("no time"))
    }
}
