//! The console's page and what belongs to it, from the binary.
//!
//! Plain modules and style sheets, as they are written: nothing is built, and nothing comes from another host. The policy holds the
//! page to that.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use linkspan_model::Code;

use crate::http::segment::Segment;
use crate::refusal::Refusal;

/// Nothing from anywhere else, no inline script or style, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Lists the files: a line a file.
macro_rules! assets {
    ($($name:literal,)+) => {
        /// What `/console/assets/` has, by name.
        static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
            vec![$(Asset::new($name, include_bytes!(concat!("assets/", $name))),)+]
        });
    };
}

assets! {
    "answer.js",
    "api.js",
    "app.css",
    "app.js",
    "audit.js",
    "call.js",
    "charts.js",
    "curl.js",
    "deadletters.js",
    "deliveries.js",
    "delivery.js",
    "dom.js",
    "drop.js",
    "format.js",
    "icons.svg",
    "job.js",
    "jobs.js",
    "keys.js",
    "lists.js",
    "live.js",
    "mark.svg",
    "mix.js",
    "overview.js",
    "pages.css",
    "paper.js",
    "parts.css",
    "parts.js",
    "patterns.js",
    "route.js",
    "signin.js",
    "stream.js",
    "streams.js",
    "text.js",
    "theme.js",
    "try.js",
    "waterfall.js",
}

static PAGE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("index.html", include_bytes!("assets/index.html")));

/// A file of the console.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
    /// The entity tag: of the content, so that a new version of the program is seen at once.
    tag: String,
}

impl Asset {
    fn new(name: &'static str, bytes: &'static [u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let tag = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]);
        Self {
            name,
            media_type: media_type(name),
            bytes,
            tag: format!("\"{tag}\""),
        }
    }

    /// The file, or that it has not changed.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim().trim_start_matches("W/") == self.tag);
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, self.media_type)], self.bytes).into_response()
        };
        let headers = response.headers_mut();
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        for (name, value) in COMMON {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// `no-cache`: kept by the browser, and asked about each time.
const COMMON: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
];

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

pub(super) async fn page(headers: HeaderMap) -> Response {
    PAGE.answer(&headers)
}

pub(super) async fn asset(Segment(name): Segment, headers: HeaderMap) -> Result<Response, Refusal> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    asset
        .map(|asset| asset.answer(&headers))
        .ok_or_else(|| Refusal::new(Code::NotFound, "the console has no such file"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/console/assets");

    #[test]
    fn every_file_of_the_folder_is_served_and_has_a_type() {
        let served: BTreeSet<String> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        let there: BTreeSet<String> = std::fs::read_dir(FOLDER)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .collect();
        assert_eq!(served, there);
        for asset in ASSETS.iter() {
            assert_ne!(
                asset.media_type, "application/octet-stream",
                "{}",
                asset.name
            );
        }
    }

    #[test]
    fn what_the_files_refer_to_is_served() {
        let names: BTreeSet<&str> = ASSETS.iter().map(|asset| asset.name).collect();
        for asset in ASSETS.iter().chain([&*PAGE]) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for prefix in ["\"./", "\"/console/assets/"] {
                for found in text.split(prefix).skip(1) {
                    let end = found.find(['"', '#', '`']).unwrap();
                    assert!(
                        names.contains(&found[..end]),
                        "{} refers to {}",
                        asset.name,
                        &found[..end]
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_is_inline_and_nothing_is_elsewhere() {
        let page = std::str::from_utf8(PAGE.bytes).unwrap();
        assert!(
            !page.contains(" style=") && !page.contains("<style"),
            "a style in the page"
        );
        assert!(!page.contains(" on"), "a handler in the page");
        assert!(
            page.split("<script")
                .skip(1)
                .all(|tag| tag.contains("src="))
        );
        for asset in ASSETS.iter().chain([&*PAGE]) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for found in [
                "https://",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(found), "{} has {found}", asset.name);
            }
            // The name of SVG's namespace is no address.
            let addresses = text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !addresses.contains("http://"),
                "{} has an address",
                asset.name
            );
        }
    }

    #[test]
    fn an_unchanged_file_is_not_sent_again() {
        let asset = &ASSETS[0];
        let mut headers = HeaderMap::new();
        assert_eq!(asset.answer(&headers).status(), StatusCode::OK);
        let tag = format!("\"other\", W/{}", asset.tag);
        headers.insert(header::IF_NONE_MATCH, tag.parse().unwrap());
        assert_eq!(asset.answer(&headers).status(), StatusCode::NOT_MODIFIED);
    }
}
