//! A record, read as a request.

use std::sync::Arc;

use linkspan_model::config::stream::{Order, Reading as Given, Wrapping};
use linkspan_model::{Code, Problem};
use linkspan_streams::Record;
use linkspan_streams::flow;
use linkspan_streams::kinesis::decode::{self, Decoder};
use serde_json::Value;

use crate::engine::{Content, DocumentFile};
use crate::jq::Filter;
use crate::pipeline::Request;
use crate::request::Rest;

/// The most that one record may become when it is unwrapped.
const LARGEST: usize = 64 << 20;

/// The header with the caller's W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// How an integration reads records.
pub struct Reading {
    text: Option<Filter>,
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
        Ok(Self { text })
    }

    /// What a record asks for: the text that the filter finds; or what a call with this body would ask for.
    ///
    /// # Errors
    ///
    /// What no request can be made of.
    pub async fn request(&self, record: &Record) -> Result<Request, Problem> {
        if let Some(defect) = &record.defect {
            return Err(Problem::new(Code::UnreadableDocument, &**defect));
        }
        let Some(value) = &record.value else {
            let message = "the record has no value (a tombstone): there is nothing to work on";
            return Err(Problem::new(Code::BadRequest, message));
        };
        let mut rest = Rest::default();
        let mut document = None;
        if let Some(filter) = &self.text {
            let json: Value = serde_json::from_slice(value).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                let message = format!("the record is not JSON (line {line}, column {column})");
                Problem::new(Code::UnreadableDocument, message)
            })?;
            rest.text = Some(text_of(filter, &json).await?);
        } else if let Some(asked) = as_call(value) {
            rest = asked;
        } else {
            document = Some(DocumentFile {
                content: Content::Memory(value.clone()),
                media_type: Some(media_type(record, value)),
                file_name: None,
            });
        }
        let traceparent = header(record, TRACEPARENT).map(str::to_owned);
        Ok(Request {
            traceparent,
            ..rest.with(document)
        })
    }
}

/// The request that stands in JSON with a `text`, as in the body of a call.
fn as_call(value: &[u8]) -> Option<Rest> {
    if value.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return None;
    }
    let rest: Rest = serde_json::from_slice(value).ok()?;
    rest.text.is_some().then_some(rest)
}

async fn text_of(filter: &Filter, json: &Value) -> Result<Arc<str>, Problem> {
    let found = filter
        .run_limited(json)
        .await
        .map_err(|error| Problem::new(Code::UnreadableDocument, format!("text: {error}")))?;
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
fn media_type(record: &Record, value: &[u8]) -> String {
    match header(record, "content-type") {
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
