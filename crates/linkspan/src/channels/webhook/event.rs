//! The event: CloudEvents 1.0 in JSON, with its extensions for distributed tracing (`traceparent`) and large data (`dataref`).

use http::HeaderValue;
use serde::Serialize;
use serde_json::Value;

use crate::channels::Parcel;

pub(super) const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/cloudevents+json");

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: String,
    time: String,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

/// Writes a parcel's event. One over `max_size` bytes comes without its data, and with a link to the same data in place of them.
pub(super) fn write(
    parcel: &Parcel,
    source: &str,
    max_size: u64,
    link: impl FnOnce() -> String,
) -> Vec<u8> {
    let mut event = Event {
        specversion: "1.0",
        id: parcel.id.to_string(),
        source,
        kind: match parcel.result["status"].as_str() {
            Some("succeeded") => "linkspan.result.succeeded",
            _ => "linkspan.result.failed",
        },
        subject: parcel.job.to_string(),
        time: parcel.created.to_string(),
        datacontenttype: "application/json",
        traceparent: parcel.traceparent.as_deref(),
        dataref: None,
        data: Some(&parcel.content),
    };
    let whole = json(&event);
    if whole.len() as u64 <= max_size {
        return whole;
    }
    event.data = None;
    event.dataref = Some(link());
    json(&event)
}

/// Values that were read from JSON can be written as JSON.
fn json(event: &Event<'_>) -> Vec<u8> {
    serde_json::to_vec(event).unwrap_or_default()
}
