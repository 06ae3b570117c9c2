//! The part of a job that is erased with its content: the request, the document, the result.
//!
//! A row in `blob_uses` keeps a blob. Whoever adds one holds a shared lock on the digest to the end of the transaction; see
//! [`super::blobs`].

use std::collections::HashMap;

use bytes::Bytes;
use linkspan_model::InvocationId;
use uuid::Uuid;

use super::blobs::hold_blobs;
use super::fault::Fault;
use super::pool::Scope;
use super::rows::{big, column, invocation, text};
use crate::store::blobs::{BlobRef, Content, Digest, DocumentRef};

/// The columns of a stored request.
pub(super) const COLUMNS: &str = "id, request, inline, digest, size, media_type, file_name";

/// A request to store.
pub(super) struct NewRequest<'r> {
    pub(super) id: Uuid,
    pub(super) request: &'r str,
    pub(super) document: Option<&'r DocumentRef>,
}

/// Stores requests with their documents.
pub(super) async fn insert(scope: &Scope<'_>, new: &[NewRequest<'_>]) -> Result<(), Fault> {
    if new.is_empty() {
        return Ok(());
    }
    let blobs: Vec<(&BlobRef, Uuid)> = new
        .iter()
        .filter_map(|new| match &new.document?.content {
            Content::Blob(blob) => Some((blob, new.id)),
            Content::Inline(_) => None,
        })
        .collect();
    if !blobs.is_empty() {
        hold_blobs(scope, &blobs).await?;
    }
    let ids: Vec<_> = new.iter().map(|new| new.id).collect();
    let requests: Vec<_> = new.iter().map(|new| text(new.request)).collect();
    let (mut inline, mut digests, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut types, mut names) = (Vec::new(), Vec::new());
    for document in new.iter().map(|new| new.document) {
        let (bytes, blob) = match document.map(|document| &document.content) {
            Some(Content::Inline(bytes)) => (Some(&bytes[..]), None),
            Some(Content::Blob(blob)) => (None, Some(blob)),
            None => (None, None),
        };
        inline.push(bytes);
        digests.push(blob.map(|blob| &blob.digest.0[..]));
        sizes.push(blob.map(|blob| big(blob.size)));
        types.push(
            document
                .and_then(|document| document.media_type.as_deref())
                .map(text),
        );
        names.push(
            document
                .and_then(|document| document.file_name.as_deref())
                .map(text),
        );
    }
    scope
        .execute(
            &format!(
                "INSERT INTO documents ({COLUMNS}) \
                 SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[], $5::int8[], $6::text[], $7::text[])"
            ),
            &[&ids, &requests, &inline, &digests, &sizes, &types, &names],
        )
        .await?;
    Ok(())
}

/// The requests of jobs and their documents, where they are there.
pub(super) async fn find(
    scope: &Scope<'_>,
    ids: &[Uuid],
) -> Result<HashMap<InvocationId, (String, Option<DocumentRef>)>, Fault> {
    let rows = scope
        .query(
            &format!("SELECT {COLUMNS} FROM documents WHERE id = ANY($1)"),
            &[&ids],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((invocation(row.try_get(0)?), read(row)?)))
        .collect()
}

/// A request and its document from their columns.
pub(super) fn read(row: &tokio_postgres::Row) -> Result<(String, Option<DocumentRef>), Fault> {
    let content = match (
        row.try_get::<_, Option<Vec<u8>>>(2)?,
        row.try_get::<_, Option<&[u8]>>(3)?,
    ) {
        (Some(bytes), _) => Some(Content::Inline(Bytes::from(bytes))),
        (None, Some(bytes)) => Some(Content::Blob(BlobRef {
            digest: digest(bytes)?,
            size: row
                .try_get::<_, Option<i64>>(4)?
                .and_then(|size| u64::try_from(size).ok())
                .ok_or_else(|| Fault::damaged("a blob without its size"))?,
            pin: None,
        })),
        (None, None) => None,
    };
    let (media_type, file_name) = (row.try_get(5)?, row.try_get(6)?);
    let document = content.map(|content| DocumentRef {
        content,
        media_type,
        file_name,
    });
    Ok((row.try_get(1)?, document))
}

/// Stores results.
pub(super) async fn insert_results(
    scope: &Scope<'_>,
    results: &[(Uuid, String)],
) -> Result<(), Fault> {
    if results.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = results.iter().map(|(id, _)| *id).collect();
    let texts: Vec<&str> = results.iter().map(|(_, text)| text.as_str()).collect();
    scope
        .execute(
            "INSERT INTO results (id, result) SELECT * FROM unnest($1::uuid[], $2::text[])",
            &[&ids, &texts],
        )
        .await?;
    Ok(())
}

/// Erases the requests, documents and results of jobs, and leaves their blobs to the sweep.
pub(super) async fn erase(scope: &Scope<'_>, ids: &[Uuid]) -> Result<(), Fault> {
    release_blobs(scope, ids).await?;
    for statement in [
        "DELETE FROM documents WHERE id = ANY($1)",
        "DELETE FROM results WHERE id = ANY($1)",
    ] {
        scope.execute(statement, &[&ids]).await?;
    }
    Ok(())
}

/// The jobs use their blobs no more.
pub(super) async fn release_blobs(scope: &Scope<'_>, ids: &[Uuid]) -> Result<(), Fault> {
    let rows = scope
        .query(
            "DELETE FROM blob_uses WHERE id = ANY($1) RETURNING digest",
            &[&ids],
        )
        .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut digests: Vec<&[u8]> = column(&rows)?;
    digests.sort_unstable();
    digests.dedup();
    scope
        .execute(
            "INSERT INTO trash (digest) SELECT * FROM unnest($1::bytea[]) ON CONFLICT DO NOTHING",
            &[&digests],
        )
        .await?;
    Ok(())
}

/// Frees the idempotency keys of jobs.
pub(super) async fn release_keys(scope: &Scope<'_>, ids: &[Uuid]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    scope
        .execute("DELETE FROM idempotency WHERE id = ANY($1)", &[&ids])
        .await?;
    Ok(())
}

/// A digest from its column.
pub(super) fn digest(bytes: &[u8]) -> Result<Digest, Fault> {
    bytes.try_into().map(Digest).map_err(Fault::damaged)
}
