//! `/openapi.json` and `/docs`: the HTTP face described, for programs and for people. No request to any other host.

use std::fmt::Write as _;

use axum::response::{Html, IntoResponse, Response};
use http::header;

use super::openapi;

pub(super) async fn openapi() -> Response {
    axum::Json(openapi::description()).into_response()
}

/// A page that needs no script.
pub(super) async fn page() -> Response {
    let mut rows = String::new();
    for (method, path, summary, parameters) in openapi::rows() {
        let _ = write!(
            rows,
            "<section><h2><code>{}</code> {}</h2><p>{}</p>",
            method.to_uppercase(),
            escape(path),
            code_spans(summary)
        );
        if !parameters.is_empty() {
            rows.push_str("<dl>");
            for (name, text) in parameters {
                let _ = write!(
                    rows,
                    "<dt><code>{}</code></dt><dd>{}</dd>",
                    escape(name),
                    code_spans(text)
                );
            }
            rows.push_str("</dl>");
        }
        rows.push_str("</section>");
    }
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>linkspan: the HTTP face</title><style>{STYLE}</style>\
         <h1>linkspan {version}</h1><p>Send a key with every call: <code>Authorization: Bearer lsk_…</code>. Errors are problem documents \
         (RFC 9457). For programs: <a href=\"/openapi.json\">openapi.json</a>.</p>{rows}</html>",
        version = env!("CARGO_PKG_VERSION"),
    );
    (
        [(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        )],
        Html(page),
    )
        .into_response()
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}\
    h2{font-size:1rem;overflow-wrap:anywhere;margin:1.5rem 0 0}h2 code{color:light-dark(#0550ae,#79c0ff)}p{margin:.3rem 0}\
    dt{float:left;clear:left;min-width:9rem}dd{margin-left:9.5rem}section{border-top:1px solid #8884;padding-bottom:.5rem}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn code_spans(text: &str) -> String {
    escape(text)
        .split('`')
        .enumerate()
        .map(|(at, part)| {
            if at % 2 == 1 {
                format!("<code>{part}</code>")
            } else {
                part.to_owned()
            }
        })
        .collect()
}
