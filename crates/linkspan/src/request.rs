//! What an invocation asks, between the door and the pipeline: in memory, spooled, or stored with a job.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use linkspan_model::{Code, Problem};
use linkspan_streams::{Header, Lane, Position, Record};
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::{Content, DocumentFile};
use crate::pipeline::Request;
use crate::store::{self, Blobs, Body, DocumentRef, LocalBlob, StoreError};

/// A request whose document is spooled, but not yet durable.
#[derive(Debug, Default)]
pub struct Incoming {
    /// The document.
    pub document: Option<IncomingDocument>,
    /// Everything else.
    pub rest: Rest,
}

/// A document that has arrived.
#[derive(Debug)]
pub struct IncomingDocument {
    /// Its content.
    pub body: Body,
    /// The media type that the caller gave.
    pub media_type: Option<String>,
    /// The file name that the caller gave.
    pub file_name: Option<String>,
}

/// The request without its document: what a job keeps as JSON.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Rest {
    /// The text, where one was sent as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
    /// The caller's parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// What the caller says of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Arc<Value>>,
    /// Where the job was a stream's record: all of it but its value, which is the job's document. The request is then read from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<OfRecord>,
}

/// A stream's record without its value.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct OfRecord {
    /// Its lane.
    pub lane: String,
    /// Its position.
    pub position: String,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Written>,
    /// Its headers, in their order, names more than once where they stand so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Option<Written>)>,
    /// When it was made or taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Why nothing could be done with it. Given: its value is as it came, nothing was taken off it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defect: Option<String>,
}

/// Bytes in JSON: as text where they are text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Written {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes {
        /// In base64 (RFC 4648 section 4).
        base64: String,
    },
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the values: they may hold a text or a password.
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

impl Incoming {
    /// The request as the pipeline takes it; the spooled document must outlive the run.
    #[must_use]
    pub fn to_request(&self) -> Request {
        let document = self.document.as_ref().map(|document| DocumentFile {
            content: match (document.body.path(), document.body.inline()) {
                (Some(path), _) => Content::File(path.to_owned()),
                (None, bytes) => Content::Memory(bytes.cloned().unwrap_or_default()),
            },
            media_type: document.media_type.clone(),
            file_name: document.file_name.clone(),
        });
        self.rest.clone().with(document)
    }

    /// A SHA-256 over everything that makes it the same request: the document's content, and the text, parameters and claim
    /// whatever the order of their members. The form in which they were sent does not count.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut part = |name: &str, bytes: &[u8]| {
            context.update(name.as_bytes());
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        if let Some(document) = &self.document {
            part("document", &document.body.digest().0);
        }
        if let Some(text) = &self.rest.text {
            part("text", text.as_bytes());
        }
        part(
            "params",
            canonical(&Value::Object(self.rest.params.clone())).as_bytes(),
        );
        if let Some(claim) = &self.rest.claim {
            part("claim", canonical(claim).as_bytes());
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    /// Makes the document durable and gives what a job keeps.
    ///
    /// # Errors
    ///
    /// As [`Body::keep`]: nothing was acknowledged.
    pub async fn keep(&self) -> Result<(Option<DocumentRef>, String), StoreError> {
        let document = match &self.document {
            None => None,
            Some(document) => Some(
                document
                    .body
                    .keep(document.media_type.clone(), document.file_name.clone())
                    .await?,
            ),
        };
        Ok((document, self.rest.to_json()?))
    }
}

impl Rest {
    /// The request with a document.
    #[must_use]
    pub fn with(self, document: Option<DocumentFile>) -> Request {
        Request {
            document,
            text: self.text,
            params: self.params,
            claim: self.claim,
            traceparent: None,
        }
    }

    /// As a job keeps it.
    ///
    /// # Errors
    ///
    /// Never in practice.
    pub fn to_json(&self) -> Result<String, StoreError> {
        serde_json::to_string(self).map_err(|error| {
            StoreError::new(store::ErrorKind::Internal, "write a request").because(error)
        })
    }
}

impl OfRecord {
    /// What is kept of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let headers = record.headers.iter().map(|header| {
            let value = header.value.as_ref().map(Written::of);
            (header.name.to_string(), value)
        });
        Self {
            lane: record.lane.to_string(),
            position: record.position.to_string(),
            key: record.key.as_ref().map(Written::of),
            headers: headers.collect(),
            timestamp: record.timestamp,
            defect: record.defect.as_deref().map(str::to_owned),
        }
    }

    /// The record with a value.
    #[must_use]
    pub fn with(self, value: Option<Bytes>) -> Record {
        let headers = self.headers.into_iter().map(|(name, value)| Header {
            name: name.into(),
            value: value.map(Written::into_bytes),
        });
        Record {
            lane: Lane::new(self.lane),
            ordinal: 0,
            position: Position::new(&self.position),
            key: self.key.map(Written::into_bytes),
            value,
            headers: headers.collect(),
            timestamp: self.timestamp,
            defect: self.defect.map(Into::into),
        }
    }
}

impl Written {
    fn of(bytes: &Bytes) -> Self {
        match str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes {
                base64: STANDARD.encode(bytes),
            },
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            // It was written here; what is not base64 was changed by hand.
            Self::Bytes { base64 } => STANDARD.decode(base64).unwrap_or_default().into(),
        }
    }
}

/// A job's request as the pipeline takes it, and the record that it was, where it came by a stream. The document's file is there for as long as the last part of the answer.
///
/// # Errors
///
/// `Unfit` when the stored request cannot be read: it was written by something else. `Store` when the document is not to be had.
pub async fn of_job(
    request: &str,
    document: Option<&DocumentRef>,
    blobs: &dyn Blobs,
) -> Result<(Request, Option<OfRecord>, Option<LocalBlob>), OfJobError> {
    let mut rest: Rest = serde_json::from_str(request).map_err(|error| {
        // Not what serde says: it quotes values.
        tracing::error!(kind = ?error.classify(), column = error.column(), "a stored request cannot be read");
        Problem::new(
            Code::UnreadableDocument,
            "the stored request cannot be read; send it again",
        )
    })?;
    let record = rest.record.take();
    let Some(document) = document else {
        return Ok((rest.with(None), record, None));
    };
    let (content, local) = match &document.content {
        store::Content::Inline(bytes) => (Content::Memory(bytes.clone()), None),
        store::Content::Blob(blob) => {
            let local = blobs.local(blob).await?;
            (Content::File(local.path().to_owned()), Some(local))
        }
    };
    let document = DocumentFile {
        content,
        media_type: document.media_type.clone(),
        file_name: document.file_name.clone(),
    };
    Ok((rest.with(Some(document)), record, local))
}

/// Why a job's request cannot be worked on.
#[derive(Debug)]
pub enum OfJobError {
    /// It never can.
    Unfit(Problem),
    /// The store failed; its kind says whether it can be asked again.
    Store(StoreError),
}

impl From<Problem> for OfJobError {
    fn from(problem: Problem) -> Self {
        Self::Unfit(problem)
    }
}

impl From<StoreError> for OfJobError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// JSON text with the members of every object in the order of their names.
fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let mut names: Vec<_> = members.keys().collect();
                names.sort();
                names
                    .into_iter()
                    .map(|name| (name.clone(), sorted(&members[name])))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Value::Array(items) => items.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(text: &str, params: &Value) -> Incoming {
        Incoming {
            document: None,
            rest: Rest {
                text: Some(text.into()),
                params: params.as_object().cloned().unwrap_or_default(),
                ..Rest::default()
            },
        }
    }

    #[test]
    fn a_record_reads_back_whole_from_its_job() {
        let header = |name: &str, value: Option<&'static [u8]>| Header {
            name: name.into(),
            value: value.map(Bytes::from_static),
        };
        let record = Record {
            lane: Lane::new("reviews/3"),
            ordinal: 0,
            position: Position::new("7/2"),
            key: Some(Bytes::from_static(b"\xff\x00key")),
            value: Some(Bytes::from_static(b"value")),
            headers: vec![
                header("a", Some(b"one")),
                header("a", Some(b"\xfe")),
                header("b", None),
            ],
            timestamp: Some(Timestamp::from_millisecond(1_790_000_000_123).unwrap()),
            defect: Some("torn".into()),
        };
        let kept = Rest {
            record: Some(OfRecord::of(&record)),
            ..Rest::default()
        };
        let json = kept.to_json().unwrap();
        assert!(!json.contains("value"), "{json}");
        let read: Rest = serde_json::from_str(&json).unwrap();
        let again = read.record.unwrap().with(record.value.clone());
        assert_eq!(again.lane, record.lane);
        assert_eq!(again.position, record.position);
        assert_eq!(again.key, record.key);
        assert_eq!(again.value, record.value);
        assert!(again.headers == record.headers);
        assert_eq!(again.timestamp, record.timestamp);
        assert_eq!(again.defect, record.defect);
    }

    #[test]
    fn the_same_request_has_the_same_fingerprint_whatever_its_form() {
        let one = text("a", &json!({"x": 1, "y": {"b": 2, "a": [3]}})).fingerprint();
        assert_eq!(
            one,
            text("a", &json!({"y": {"a": [3], "b": 2}, "x": 1})).fingerprint()
        );
        for other in [
            text("b", &json!({"x": 1, "y": {"b": 2, "a": [3]}})),
            text("a", &json!({"x": 1, "y": {"b": 2, "a": [4]}})),
            text("a", &json!({})),
        ] {
            assert_ne!(one, other.fingerprint());
        }
    }

    #[test]
    fn a_request_reads_back_from_its_job_and_shows_nothing_of_itself() {
        let incoming = text("secret words", &json!({"password": "harbour"}));
        let json = incoming.rest.to_json().unwrap();
        let rest: Rest = serde_json::from_str(&json).unwrap();
        assert_eq!(rest.text.as_deref(), Some("secret words"));
        let shown = format!("{incoming:?}");
        assert!(
            !shown.contains("secret") && !shown.contains("harbour"),
            "{shown}"
        );
    }
}
