//! A record, read as a request.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;
use linkspan_model::config;
use linkspan_model::config::stream::{Order, Stream, Wrapping};
use linkspan_model::{Code, Problem};
use linkspan_streams::Record;
use linkspan_streams::flow;
use linkspan_streams::kinesis::decode::{self, Decoder};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::engine::{Content, DocumentFile};
use crate::gateway::Gateway;
use crate::http::trace::TraceParent;
use crate::jq::{Filter, FilterError};
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
    pub fn of(given: &config::Source) -> Result<Self, String> {
        let text = match &given.common.text {
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

fn text_of(found: Result<Option<Value>, FilterError>) -> Result<Arc<str>, Problem> {
    let found = found.map_err(|error| {
        // What is no fault of the record is tried again.
        let code = if error.passes {
            Code::Internal
        } else {
            Code::UnreadableDocument
        };
        Problem::new(code, format!("text: {error}"))
    })?;
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

/// What takes off what producers wrapped a source's records in; none where nothing is to be taken off.
pub(crate) fn decoder(given: &config::Source) -> Option<Decoder> {
    let wrapping = |wrapping: &Wrapping| match wrapping {
        Wrapping::Base64 => decode::Wrapping::Base64,
        Wrapping::Gzip => decode::Wrapping::Gzip,
        Wrapping::Kpl => decode::Wrapping::Kpl,
        Wrapping::CloudWatchLogs => decode::Wrapping::CloudWatchLogs,
    };
    let wrappings: Vec<_> = given.common.unwrap.iter().map(wrapping).collect();
    // Producers of Amazon's streams put records together by themselves.
    let is_amazon =
        matches!(&given.stream, Stream::KinesisSource(kinesis) if kinesis.aws.is_some());
    if is_amazon {
        return Some(Decoder::new(wrappings, LARGEST).with_kpl());
    }
    (!wrappings.is_empty()).then(|| Decoder::new(wrappings, LARGEST))
}

pub(super) const fn order(given: Order) -> flow::Order {
    match given {
        Order::Partition => flow::Order::Lane,
        Order::Key => flow::Order::Key,
        Order::None => flow::Order::None,
    }
}

#[cfg(test)]
mod tests {
    use linkspan_model::config::{Config, Reference};
    use linkspan_streams::{Lane, Position};

    use super::*;

    /// An aggregate of the Kinesis Producer Library with one record: `{"text":"good"}` with the key `a`.
    const AGGREGATE: &[u8] = b"\xf3\x89\x9a\xc2\x0a\x01a\x1a\x13\x08\x00\x1a\x0f{\"text\":\"good\"}\xc0[\xcf\xbbAnHf\xc8\xa5\x8e\x09\x8a\x8eS\xfb";

    fn source(given: &str) -> config::Source {
        let toml = format!(
            "[service.mood]\ntask = \"sentiment\"\n[integration.reviews]\npattern = \"stream-in\"\nsource = {{ {given} }}\nsteps = [\"mood\"]\n"
        );
        let nothing = |_: Reference<'_>| Err("no references here".to_owned());
        let config = Config::parse(&toml, "linkspan.toml", &nothing).unwrap();
        let mut integrations = config.integrations.into_values();
        integrations.next().unwrap().source.unwrap()
    }

    fn record(value: &'static [u8]) -> Record {
        Record {
            lane: Lane::new("shardId-000000000000"),
            ordinal: 0,
            position: Position::new("49590338271490256608559692538361571095921575989136588898"),
            key: None,
            value: Some(Bytes::from_static(value)),
            headers: Vec::new(),
            timestamp: None,
            defect: Some("it is no gzip, or is cut off".into()),
        }
    }

    #[tokio::test]
    async fn a_raw_dead_letter_is_read_again_as_its_source_reads_it() {
        for (given, value, text) in [
            (
                "kinesis = \"reviews\", aws = { region = \"eu-central-1\" }",
                AGGREGATE,
                Some("good"),
            ),
            (
                "kinesis = \"reviews\", unwrap = [\"kpl\"]",
                AGGREGATE,
                Some("good"),
            ),
            (
                "kinesis = \"reviews\", unwrap = [\"base64\"]",
                b"R29vZA==",
                None,
            ),
        ] {
            let reading = Reading::of(&source(given)).unwrap();
            let request = reading.request_again(record(value), true).await.unwrap();
            assert_eq!(request.text.as_deref(), text, "{given}");
            assert_eq!(request.document.is_some(), text.is_none(), "{given}");
        }
    }

    #[test]
    fn a_record_is_tried_again_where_its_filter_cannot_be_evaluated_just_now() {
        for (passes, code) in [(true, Code::Internal), (false, Code::UnreadableDocument)] {
            let sentence = "it failed".to_owned();
            let problem = text_of(Err(FilterError { sentence, passes })).unwrap_err();
            assert_eq!((problem.code, problem.retryable), (code, passes));
        }
    }
}
