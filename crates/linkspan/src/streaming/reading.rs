//! A record, read as a request.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;
use linkspan_model::config::stream::{Order, Reading as Given, Wrapping};
use linkspan_model::{Code, Problem};
use linkspan_streams::Record;
use linkspan_streams::flow;
use linkspan_streams::kinesis::decode::{self, Decoder};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::engine::{Content, DocumentFile};
use crate::gateway::Gateway;
use crate::http::trace::TraceParent;
use crate::jq::Filter;
use crate::pipeline::Request;
use crate::request::{OfRecord, Rest};

/// The most that one record may become when it is unwrapped.
pub(super) const LARGEST: usize = 64 << 20;

/// The longest media type that is taken over.
const LONGEST_TYPE: usize = 255;

/// The header with the caller's W3C trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// How an integration reads records.
#[derive(Default)]
pub struct Reading {
    text: Option<Filter>,
    decoder: Option<Decoder>,
}

impl Reading {
    /// As the configuration says.
    ///
    /// # Errors
    ///
    /// The filter, as a sentence that begins with its key.
    pub fn of(given: &Given) -> Result<Self, String> {
        let text = match &given.text {
            None => None,
            Some(text) => {
                Some(Filter::compile(text.as_str()).map_err(|error| format!("text: {error}"))?)
            }
        };
        let decoder = decoder(given);
        Ok(Self { text, decoder })
    }

    /// What a record asks for: the text that the filter finds; or what a call with this body would ask for.
    ///
    /// # Errors
    ///
    /// What no request can be made of.
    pub async fn request(&self, record: &Record) -> Result<Request, Problem> {
        let mut requests = self.requests(std::slice::from_ref(record)).await;
        requests
            .pop()
            .unwrap_or_else(|| Err(Problem::new(Code::Internal, "the record was not read")))
    }

    /// The same for many, in order.
    pub async fn requests<R: Borrow<Record>>(
        &self,
        records: &[R],
    ) -> Vec<Result<Request, Problem>> {
        let records = records.iter().map(Borrow::borrow);
        let Some(filter) = &self.text else {
            return records.map(as_it_is).collect();
        };
        let read: Vec<_> = records.clone().map(json).collect();
        let documents: Vec<_> = read.iter().filter_map(|read| read.as_ref().ok()).collect();
        let found = filter.run_each(&documents).await;
        let mut found = found.into_iter();
        let requests = records.zip(read).map(|(record, read)| {
            read?;
            let rest = Rest {
                text: Some(text_of(found.next().unwrap_or(Ok(None)))?),
                ..Rest::default()
            };
            Ok(request(record, rest, None))
        });
        requests.collect()
    }

    /// What a record asks for that was a dead letter, when it is tried again: it is read anew, for what was wrong with the reading may be
    /// mended. `is_raw` says that nothing was taken off it yet.
    ///
    /// # Errors
    ///
    /// As [`Reading::request`].
    pub async fn request_again(&self, record: Record, is_raw: bool) -> Result<Request, Problem> {
        let wrapped = self
            .decoder
            .as_ref()
            .filter(|_| is_raw && record.value.is_some());
        let Some(decoder) = wrapped else {
            return self.request(&record).await;
        };
        let record = Record {
            defect: None,
            ..record
        };
        let parts = decoder.decode(record, None);
        match &*parts {
            [one] => self.request(one).await,
            parts => {
                let message = format!(
                    "the record holds {} records by now, and one is retried at a time: put it into the stream again",
                    parts.len()
                );
                Err(Problem::new(Code::UnreadableDocument, message))
            }
        }
    }
}

/// A dead letter's request, for its job's next attempt.
///
/// # Errors
///
/// As [`Reading::request`].
pub(crate) async fn again(
    gateway: &Gateway,
    integration: &str,
    of_record: OfRecord,
    document: Option<DocumentFile>,
) -> Result<Request, Problem> {
    let value = match document.map(|document| document.content) {
        None => None,
        Some(Content::Memory(bytes)) => Some(bytes),
        Some(Content::File(path)) => Some(
            tokio::fs::read(path)
                .await
                .map_err(|error| {
                    tracing::error!(%error, "a dead letter's document cannot be read");
                    Problem::new(Code::StoreUnavailable, "the stored record cannot be read")
                })?
                .into(),
        ),
    };
    let reading = match gateway.streams.of_integration(integration) {
        // It reads no stream any more: then the record is what a call's body is.
        None => Reading::default(),
        Some(reader) => reader
            .reading()
            .map_err(|error| Problem::new(Code::Internal, error))?,
    };
    let is_raw = of_record.defect.is_some();
    reading.request_again(of_record.with(value), is_raw).await
}

/// The caller's W3C trace context, where it is one.
pub(crate) fn traceparent(record: &Record) -> Option<String> {
    let text = header(record, TRACEPARENT)?;
    TraceParent::parse(text).map(|trace| trace.to_string())
}

/// What a call with the record's value as its body would ask for.
fn as_it_is(record: &Record) -> Result<Request, Problem> {
    let value = value(record)?;
    if let Some(asked) = as_call(value) {
        return Ok(request(record, asked, None));
    }
    let document = DocumentFile {
        content: Content::Memory(value.clone()),
        media_type: Some(media_type(record, value)),
        file_name: None,
    };
    Ok(request(record, Rest::default(), Some(document)))
}

fn request(record: &Record, rest: Rest, document: Option<DocumentFile>) -> Request {
    Request {
        traceparent: Some(traceparent(record).unwrap_or_else(|| TraceParent::root().to_string())),
        ..rest.with(document)
    }
}

fn value(record: &Record) -> Result<&Bytes, Problem> {
    if let Some(defect) = &record.defect {
        return Err(Problem::new(Code::UnreadableDocument, &**defect));
    }
    record.value.as_ref().ok_or_else(|| {
        let message = "the record has no value (a tombstone): there is nothing to work on";
        Problem::new(Code::BadRequest, message)
    })
}

fn json(record: &Record) -> Result<Value, Problem> {
    serde_json::from_slice(value(record)?).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let message = format!("the record is not JSON (line {line}, column {column})");
        Problem::new(Code::UnreadableDocument, message)
    })
}

/// What of a call's body is read; the rest of the record is its own business.
#[derive(Deserialize)]
struct AsCall {
    text: Arc<str>,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    claim: Option<Arc<Value>>,
}

/// The request that stands in JSON with a `text`, as in the body of a call.
fn as_call(value: &[u8]) -> Option<Rest> {
    if value.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return None;
    }
    let call: AsCall = serde_json::from_slice(value).ok()?;
    Some(Rest {
        text: Some(call.text),
        params: call.params,
        claim: call.claim,
        record: None,
    })
}

fn text_of(found: Result<Option<Value>, String>) -> Result<Arc<str>, Problem> {
    let found =
        found.map_err(|error| Problem::new(Code::UnreadableDocument, format!("text: {error}")))?;
    match found {
        Some(Value::String(text)) => Ok(text.into()),
        _ => Err(Problem::new(
            Code::UnreadableDocument,
            "text: the filter gives no text for this record",
        )),
    }
}

/// The header of that name, the last one where there are several.
pub(crate) fn header<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    let found = record
        .headers
        .iter()
        .rfind(|header| header.name.eq_ignore_ascii_case(name))?;
    str::from_utf8(found.value.as_deref()?).ok()
}

/// What the record says of itself, or what it looks like.
pub(crate) fn media_type(record: &Record, value: &[u8]) -> String {
    let plain = |said: &&str| {
        said.len() <= LONGEST_TYPE && !said.contains(|c: char| !(' '..='~').contains(&c))
    };
    match header(record, "content-type").filter(plain) {
        Some(said) => said.to_owned(),
        None if str::from_utf8(value).is_ok() => "text/plain; charset=utf-8".to_owned(),
        None => "application/octet-stream".to_owned(),
    }
}

/// What takes off what producers wrapped the records in; none where nothing is to be taken off.
pub(crate) fn decoder(given: &Given) -> Option<Decoder> {
    let wrapping = |wrapping: &Wrapping| match wrapping {
        Wrapping::Base64 => decode::Wrapping::Base64,
        Wrapping::Gzip => decode::Wrapping::Gzip,
        Wrapping::Kpl => decode::Wrapping::Kpl,
        Wrapping::CloudWatchLogs => decode::Wrapping::CloudWatchLogs,
    };
    let wrappings: Vec<_> = given.unwrap.iter().map(wrapping).collect();
    (!wrappings.is_empty()).then(|| Decoder::new(wrappings, LARGEST))
}

pub(super) const fn order(given: Order) -> flow::Order {
    match given {
        Order::Partition => flow::Order::Lane,
        Order::Key => flow::Order::Key,
        Order::None => flow::Order::None,
    }
}
