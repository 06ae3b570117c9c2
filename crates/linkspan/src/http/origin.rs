//! Which addresses are the gateway's own, by what a browser says of a request.

use http::header;
use http::request::Parts;
use http::uri::Authority;

use super::console::browser::is_secure;
use crate::gateway::Gateway;

/// The host and port that the request was sent to: `Host`, or in HTTP/2 `:authority`.
pub(super) fn host(parts: &Parts) -> Option<&str> {
    match parts.headers.get(header::HOST) {
        Some(host) => Some(host.to_str().unwrap_or_default()),
        None => parts.uri.authority().map(Authority::as_str),
    }
}

/// The web page that makes the request, where the browser says so.
pub(super) fn of(parts: &Parts) -> Option<&str> {
    parts
        .headers
        .get(header::ORIGIN)
        .map(|origin| origin.to_str().unwrap_or_default())
}

/// Whether an origin is the gateway's own: that of `server.public_url`, or of the address that the request was sent to. A page of
/// another site cannot choose the first, and has no cookie under the second.
pub(super) fn is_own(origin: &str, parts: &Parts, gateway: &Gateway) -> bool {
    let public = gateway.config.server.public_url.as_ref();
    if public.is_some_and(|public| public.origin() == origin) {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port = match scheme {
        // Where browsers come by TLS, a page without it is somebody else's.
        "http" if !is_secure(gateway) => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |host: &str| host.trim_end_matches(port).to_ascii_lowercase();
    host(parts).is_some_and(|host| !host.is_empty() && plain(host) == plain(authority))
}
