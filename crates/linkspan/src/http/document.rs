//! `GET /v1/jobs/{id}/document`: the document that came with a job, as it came.
//!
//! Its sender chose its content, its name and its media type. So a browser that is led here saves a file: it never shows it as a page
//! of the gateway, guesses no type, and runs nothing of it.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};
use linkspan_model::Code;
use tokio_util::io::ReaderStream;

use super::segment::Segment;
use super::session::Session;
use crate::refusal::Refusal;
use crate::store::{Content, DocumentRef};

/// The types that are said as the sender said them; everything else is bytes.
const PLAIN: [&str; 6] = [
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "application/pdf",
    "text/plain",
];

/// The longest name that is sent, in bytes.
const MAX_NAME: usize = 200;

pub(super) async fn show(session: Session, Segment(id): Segment) -> Result<Response, Refusal> {
    let job = session.job(&id).await?;
    let document = session.gateway.store.document(job.id).await?;
    let document = document.ok_or_else(|| {
        Refusal::new(
            Code::NotFound,
            "the job has no document: it came with a text, or its retention is over",
        )
    })?;
    let body = match &document.content {
        Content::Inline(bytes) => Body::from(bytes.clone()),
        Content::Blob(blob) => {
            let file = session.gateway.blobs.open(blob).await?;
            Body::from_stream(ReaderStream::with_capacity(
                tokio::fs::File::from_std(file),
                64 * 1024,
            ))
        }
    };
    let mut response = Response::new(body);
    let fixed = [
        (header::CONTENT_TYPE, media_type(&document)),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'; frame-ancestors 'none'",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_LENGTH, document.size().into());
    let name = document.file_name.as_deref().unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(&disposition(name, &job.id.to_string())) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

fn media_type(document: &DocumentRef) -> &'static str {
    let said = document.media_type.as_deref().unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    PLAIN
        .into_iter()
        .find(|plain| plain.eq_ignore_ascii_case(essence))
        .unwrap_or("application/octet-stream")
}

/// `Content-Disposition` (RFC 6266), with the name in RFC 8187's form. What is no letter, digit or one of a few signs goes as percent
/// and digits, so no name can end the header or add to it. A name is a name: no folder, no control characters, nothing that turns
/// the direction of writing around, no dot at its begin.
fn disposition(name: &str, id: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut plain: String = last
        .chars()
        .map(|char| if is_tricky(char) { '_' } else { char })
        .collect();
    while plain.len() > MAX_NAME {
        plain.pop();
    }
    let plain = plain.trim().trim_start_matches('.');
    let name = if plain.is_empty() { id } else { plain };
    let mut header = "attachment; filename*=UTF-8''".to_owned();
    for byte in name.bytes() {
        // attr-char of RFC 8187 section 3.2.1
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            header.push(char::from(byte));
        } else {
            header.push_str(&format!("%{byte:02X}"));
        }
    }
    header
}

/// Control characters, and those that change how the ones around them are shown (Unicode's Bidi_Control, and invisible ones).
fn is_tricky(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
        || "<>:\"|?*".contains(char)
}

#[cfg(test)]
mod tests {
    use super::disposition;

    #[test]
    fn no_name_adds_to_the_header_or_hides_what_it_is() {
        for (name, shown) in [
            ("bill.pdf", "bill.pdf"),
            ("Müller & Söhne.pdf", "M%C3%BCller%20&%20S%C3%B6hne.pdf"),
            ("a\r\nset-cookie: x=1", "a__set-cookie_%20x%3D1"),
            ("\"; filename=evil.exe", "_%3B%20filename%3Devil.exe"),
            ("../../etc/passwd", "passwd"),
            ("..\\..\\run.bat", "run.bat"),
            ("invoice\u{202E}fdp.exe", "invoice_fdp.exe"),
            (".htaccess", "htaccess"),
            ("", "id"),
            ("///", "id"),
            ("…", "%E2%80%A6"),
            ("<script>.png", "_script_.png"),
        ] {
            assert_eq!(
                disposition(name, "id"),
                format!("attachment; filename*=UTF-8''{shown}"),
                "{name:?}"
            );
        }
        let long = disposition(&"ä".repeat(5000), "id");
        assert!(long.len() < 1000 && long.is_ascii());
    }
}
