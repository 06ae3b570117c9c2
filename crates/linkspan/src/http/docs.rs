//! `/openapi.json` and `/docs`: the HTTP face described, for programs and for people. No request to any other host.

use std::fmt::Write as _;

use axum::response::{Html, IntoResponse, Response};
use http::header;
use linkspan_model::Code;

use super::advice::what_to_do;
use super::openapi;
use super::segment::Segment;
use crate::refusal::Refusal;

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
    html(&format!(
        "<h1>linkspan {version}</h1><p>Send a key with every call: <code>Authorization: Bearer lsk_…</code>. Errors are problem \
         documents (RFC 9457). For programs: <a href=\"/openapi.json\">openapi.json</a>.</p>{rows}",
        version = env!("CARGO_PKG_VERSION"),
    ))
}

/// What a problem document's `type` points to.
pub(super) async fn problem(Segment(name): Segment) -> Result<Response, Refusal> {
    let code = Code::ALL.iter().find(|code| code.name() == name);
    let code = code.ok_or_else(|| Refusal::new(Code::NotFound, "no problem has this name"))?;
    let again = if code.retryable() {
        "The same request can succeed later; try again, after Retry-After where it is given."
    } else {
        "The same request will fail again: change it as the problem's detail says."
    };
    Ok(html(&format!(
        "<h1>{}</h1><p><code>{}</code>, status {}</p><p>{again}</p><p>{}</p>",
        escape(code.title()),
        code.name(),
        code.status(),
        code_spans(what_to_do(*code))
    )))
}

/// A plain page: no script, no form, no request to anywhere.
pub(super) fn html(body: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>linkspan</title><style>{STYLE}</style>{body}</html>"
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response()
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}\
    h2{font-size:1rem;overflow-wrap:anywhere;margin:1.5rem 0 0}h2 code{color:light-dark(#0550ae,#79c0ff)}p{margin:.3rem 0}\
    dt{float:left;clear:left;min-width:9rem}dd{margin-left:9.5rem}section{border-top:1px solid #8884;padding-bottom:.5rem}";

pub(super) fn escape(text: &str) -> String {
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
