//! The ids that a request carries: `x-request-id` and the W3C `traceparent` (Trace Context level 1).

use std::fmt;

use http::HeaderMap;
use uuid::Uuid;

/// A request's ids, taken over from the caller where they are well formed, else made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestIds {
    /// `x-request-id`: up to 128 visible ASCII characters.
    pub request_id: String,
    /// Where this request stands in its trace.
    pub trace: TraceParent,
}

impl RequestIds {
    /// Reads or makes a request's ids.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = text("x-request-id")
            .filter(|id| {
                !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
        let trace = text("traceparent")
            .and_then(TraceParent::parse)
            .map_or_else(TraceParent::root, TraceParent::child);
        Self { request_id, trace }
    }
}

/// A `traceparent`: version 00, trace id, this span's id, flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceParent {
    /// A new trace.
    #[must_use]
    pub fn root() -> Self {
        Self {
            trace_id: Uuid::new_v4().as_u128(),
            span_id: new_span_id(),
            flags: 1,
        }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span_id: new_span_id(),
            ..self
        }
    }

    /// Reads a header's value; `None` where it is not well formed (the trace then starts anew, as the standard asks).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let well_formed = version.len() == 2
            && version != "ff"
            && (version != "00" || parts.next().is_none())
            && trace.len() == 32
            && span.len() == 16
            && flags.len() == 2
            && text
                .bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !well_formed {
            return None;
        }
        let parent = Self {
            trace_id: u128::from_str_radix(trace, 16).ok()?,
            span_id: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()? & 1,
        };
        (parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }
}

fn new_span_id() -> u64 {
    // Half of a v4 UUID, without the half that holds the version; the variant bits keep it from being zero.
    Uuid::new_v4().as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_well_formed_trace_goes_on_with_a_new_span() {
        let parent = TraceParent::parse(PARENT).unwrap();
        assert_eq!(parent.to_string(), PARENT);
        let child = parent.child().to_string();
        assert_eq!(child[..36], PARENT[..36]);
        assert_ne!(child, PARENT);
    }

    #[test]
    fn a_malformed_trace_starts_anew() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_id_is_kept_when_it_is_plain_and_short() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", value.parse().unwrap());
            RequestIds::of(&headers).request_id
        };
        assert_eq!(id("order-17/b"), "order-17/b");
        assert_ne!(id("two words"), "two words");
        assert_ne!(id(&"x".repeat(129)), "x".repeat(129));
    }
}
