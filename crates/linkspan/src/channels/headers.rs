//! The headers that a configuration adds to a channel's requests.

use http::{HeaderMap, HeaderName, HeaderValue};
use linkspan_model::config::Headers;

use super::hidden::Hidden;

/// Headers of the connection, not of the request (RFC 9110 section 7.6.1), and those that follow from address and body.
const OF_THE_CONNECTION: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether nobody but the client itself may set a header.
pub(super) fn is_of_the_connection(name: &str) -> bool {
    OF_THE_CONNECTION.contains(&name)
}

/// The configured headers as the client takes them; `ours` are those that the channel sets itself. Their values are hidden from now on.
///
/// # Errors
///
/// A sentence for each header that cannot be sent, which begins with its key and holds no value.
pub(super) fn configured(
    headers: Option<&Headers>,
    ours: &[&str],
    hidden: &mut Hidden,
) -> Result<HeaderMap, Vec<String>> {
    let mut map = HeaderMap::new();
    let mut faults = Vec::new();
    for (name, value) in headers.into_iter().flat_map(Headers::iter) {
        if is_of_the_connection(name) || ours.contains(&name) {
            faults.push(format!(
                "headers.{name}: is set by the gateway itself: remove it"
            ));
            continue;
        }
        let pair = HeaderName::try_from(name)
            .ok()
            .zip(HeaderValue::try_from(value.reveal()).ok());
        let Some((header, mut content)) = pair else {
            faults.push(format!("headers.{name}: cannot be sent as a header"));
            continue;
        };
        content.set_sensitive(true);
        hidden.add(value.reveal());
        map.append(header, content);
    }
    if faults.is_empty() {
        Ok(map)
    } else {
        Err(faults)
    }
}
