//! A page of results as the caller wants it: JSON, a line a result (NDJSON), or CSV.
//!
//! What has no place for `next` says it in the header `Linkspan-Next`.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use linkspan_model::Code;

use super::ResultsPage;
use crate::refusal::Refusal;

/// The header with the next page's cursor.
const NEXT: HeaderName = HeaderName::from_static("linkspan-next");

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One document.
    Json,
    /// A line a result.
    Lines,
    /// A row a result, under a header.
    Csv,
}

impl Form {
    /// As the caller asks for it; JSON where it asks for something else.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let wanted = headers.get_all(header::ACCEPT).iter();
        wanted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|kind| {
                let kind = kind.split(';').next().unwrap_or_default().trim();
                match kind.to_ascii_lowercase().as_str() {
                    "application/x-ndjson" | "application/jsonl" => Some(Self::Lines),
                    "text/csv" => Some(Self::Csv),
                    "application/json" => Some(Self::Json),
                    _ => None,
                }
            })
            .unwrap_or(Self::Json)
    }

    /// The page's answer.
    pub(super) fn answer(self, page: ResultsPage) -> Result<Response, Refusal> {
        let (kind, body) = match self {
            Self::Json => return Ok(axum::Json(page).into_response()),
            Self::Lines => ("application/x-ndjson", lines(&page)?),
            Self::Csv => ("text/csv; charset=utf-8", csv(&page)?),
        };
        let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
        if let Some(next) = page.next
            && let Ok(value) = HeaderValue::from_str(&next.to_string())
        {
            response.headers_mut().insert(NEXT, value);
        }
        Ok(response)
    }
}

fn lines(page: &ResultsPage) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    for result in &page.results {
        serde_json::to_writer(&mut body, result).map_err(|_| unwritable())?;
        body.push(b'\n');
    }
    Ok(body)
}

fn csv(page: &ResultsPage) -> Result<Vec<u8>, Refusal> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = [
        "id",
        "integration",
        "status",
        "created",
        "finished",
        "record",
        "result",
    ];
    writer.write_record(head).map_err(|_| unwritable())?;
    for result in &page.results {
        let row = [
            result.id.to_string(),
            result.integration.clone(),
            result.status.name().to_owned(),
            result.created.to_string(),
            result.finished.map(|at| at.to_string()).unwrap_or_default(),
            result.record.clone().unwrap_or_default(),
            result.result.to_string(),
        ];
        writer.write_record(row).map_err(|_| unwritable())?;
    }
    writer.into_inner().map_err(|_| unwritable())
}

fn unwritable() -> Refusal {
    Refusal::new(Code::Internal, "the results cannot be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_known_is_the_one() {
        for (accept, form) in [
            ("*/*", Form::Json),
            ("application/json", Form::Json),
            ("application/x-ndjson", Form::Lines),
            ("text/html, text/csv;q=0.9", Form::Csv),
            ("text/html", Form::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Form::of(&headers), form, "{accept}");
        }
        assert_eq!(Form::of(&HeaderMap::new()), Form::Json);
    }
}
