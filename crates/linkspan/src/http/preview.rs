//! Pictures of documents' pages, for people: of a document that was sent along, and of a job's.

use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, header};
use linkspan_engines::host::Source;
use linkspan_engines::page_picture::PageRequest;
use linkspan_model::Code;
use serde::Deserialize;

use super::intake;
use super::segment::Segment;
use super::session::Session;
use crate::keys::Action;
use crate::preview::Preview;
use crate::refusal::Refusal;
use crate::store::Content;

const PAGES: HeaderName = HeaderName::from_static("linkspan-pages");
const WIDTH: HeaderName = HeaderName::from_static("linkspan-page-width");
const HEIGHT: HeaderName = HeaderName::from_static("linkspan-page-height");
/// The document's password: UTF-8 in Base64, for a header has no other way for all characters. Never in the query, which is logged.
const PASSWORD: HeaderName = HeaderName::from_static("linkspan-document-password");

/// The query of both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    #[serde(default = "first")]
    page: u32,
    #[serde(default)]
    turn: u16,
}

fn first() -> u32 {
    1
}

type PageOf = Result<Query<PageQuery>, axum::extract::rejection::QueryRejection>;

/// A page of the body, which is not kept.
pub(super) async fn of_body(
    session: Session,
    query: PageOf,
    request: Request,
) -> Result<Response, Refusal> {
    session.must(Action::Invoke)?;
    let wanted = wanted(query, request.headers())?;
    let body = intake::read_document(&session.gateway, request).await?;
    let source = match (body.inline(), body.path()) {
        (None, Some(path)) => Source::File(path.to_owned()),
        (bytes, _) => Source::Bytes(bytes.cloned().unwrap_or_default()),
    };
    let page = session.gateway.previews.page(source, &wanted).await?;
    Ok(answer(page))
}

/// A page of a job's document.
pub(super) async fn of_job(
    session: Session,
    Segment(id): Segment,
    query: PageOf,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let wanted = wanted(query, &headers)?;
    let job = session.job(&id).await?;
    let gateway = &session.gateway;
    let document = gateway.store.document(job.id).await?.ok_or_else(|| {
        Refusal::new(
            Code::NotFound,
            "the job has no document, or it has been erased",
        )
    })?;
    // The file is there until the picture is made.
    let (source, _local) = match &document.content {
        Content::Inline(bytes) => (Source::Bytes(bytes.clone()), None),
        Content::Blob(blob) => {
            let local = gateway.blobs.local(blob).await?;
            (Source::File(local.path().to_owned()), Some(local))
        }
    };
    let page = gateway.previews.page(source, &wanted).await?;
    Ok(answer(page))
}

fn wanted(query: PageOf, headers: &HeaderMap) -> Result<PageRequest, Refusal> {
    let Query(query) = query.map_err(|_| {
        Refusal::new(
            Code::BadRequest,
            "the query takes page (from 1) and turn (0, 90, 180 or 270)",
        )
    })?;
    let password = headers.get(PASSWORD).map(|value| {
        let bytes = BASE64_STANDARD.decode(value.as_bytes()).ok();
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| {
                Refusal::new(
                    Code::BadRequest,
                    "linkspan-document-password is a password's UTF-8 bytes in Base64",
                )
            })
    });
    Ok(PageRequest {
        page: query.page,
        turn: query.turn,
        password: password.transpose()?,
    })
}

fn answer(page: Preview) -> Response {
    let [width, height] = page.size;
    let headers = [
        (header::CONTENT_TYPE, "image/png".to_owned()),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (PAGES, page.pages.to_string()),
        (WIDTH, width.to_string()),
        (HEIGHT, height.to_string()),
    ];
    (headers, page.png).into_response()
}
