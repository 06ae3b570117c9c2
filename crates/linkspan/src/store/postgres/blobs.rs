//! Blobs and their rows, where several gateways use one store of blobs.
//!
//! A gateway's pins are its own, so they cannot say whether another gateway is just about to name a blob. The database can:
//! - who adds a row that names a blob takes a *shared* advisory lock on its digest, to the end of the transaction;
//! - who removes one marks its digest in `trash`, where no row names it, and commits; then takes the lock *alone*, and removes the
//!   blob if the mark is still there, before it gives the lock back.
//!
//! So of the two one is first. Is it the row, then the mark is gone, and the blob stays. Is it the removal, then the other finds the
//! mark, and looks whether the blob is there: it is where it was uploaded anew. Else the change is refused as `Busy`, and its caller
//! sends it again. The mark is durable before the removal, so a crash between the two loses nothing.
//! A mark stays for [`MARKED`], longer than any upload is under way. In one process the pins hold as well; they save the question.
//! A delete erases at once. A blob that never had a row is removed when it is [`ORPHAN_AGE`] old.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::PostgresStore;
use super::fault::Fault;
use super::pool::{Change, Db, Scope, query};
use super::requests::digest;
use super::rows::column;
use crate::store::blobs::{BlobRef, Blobs, Condemned, Digest};
use crate::store::error::{ErrorKind, StoreError};

/// How many blobs a sweep looks at.
pub(super) const PIECE: usize = 500;

/// A blob without a row is left alone for so long.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// How long it is remembered that a blob was erased.
const MARKED: SignedDuration = SignedDuration::from_hours(1);

/// How many blobs are removed under one set of locks.
const AT_ONCE: usize = 20;

pub(super) const SWEEPING: &str = "sweep";

/// Marks blobs as erased that no row names. Gives those that may be removed.
struct Mark {
    digests: Vec<Digest>,
    now: Timestamp,
}

/// Forgets trash that is settled: named by a row again, or erased long ago.
struct Forget {
    before: i64,
}

/// Names blobs for jobs, so that nobody removes them.
pub(super) async fn hold_blobs(scope: &Scope<'_>, blobs: &[(&BlobRef, Uuid)]) -> Result<(), Fault> {
    let keys = keys(blobs.iter().map(|(blob, _)| blob.digest));
    scope
        .query(
            "SELECT pg_advisory_xact_lock_shared(key) FROM unnest($1::int8[]) AS t (key)",
            &[&keys],
        )
        .await?;
    let digests: Vec<&[u8]> = blobs.iter().map(|(blob, _)| &blob.digest.0[..]).collect();
    let ids: Vec<Uuid> = blobs.iter().map(|(_, id)| *id).collect();
    let marked = scope
        .query(
            "SELECT digest FROM trash WHERE digest = ANY($1) AND erased IS NOT NULL",
            &[&digests],
        )
        .await?;
    for marked in &column::<&[u8]>(&marked)? {
        let Some((blob, _)) = blobs.iter().find(|(blob, _)| blob.digest.0 == *marked) else {
            continue;
        };
        let there = match scope.db.blobs.upgrade() {
            Some(store) => store.is_there(blob).await.unwrap_or(false),
            None => false,
        };
        if !there {
            return Err(Fault::Kind(
                ErrorKind::Busy,
                "the document was being removed for its last job; send it again",
            ));
        }
        scope
            .execute("DELETE FROM trash WHERE digest = $1", &[marked])
            .await?;
    }
    scope
        .execute(
            "INSERT INTO blob_uses (digest, id) SELECT * FROM unnest($1::bytea[], $2::uuid[]) ON CONFLICT DO NOTHING",
            &[&digests, &ids],
        )
        .await?;
    Ok(())
}

impl PostgresStore {
    /// Removes the blobs in the trash that no row names and no pin holds.
    pub(super) async fn bury(&self, now: Timestamp) -> Result<u64, StoreError> {
        if self.blobs.is_none() {
            return Ok(0);
        }
        let trash = self
            .db
            .read(SWEEPING, |client| async move {
                let limit = i64::try_from(PIECE).unwrap_or(i64::MAX);
                let rows = query(
                    &client,
                    "SELECT digest FROM trash WHERE erased IS NULL LIMIT $1",
                    &[&limit],
                )
                .await?;
                column::<&[u8]>(&rows)?
                    .into_iter()
                    .map(digest)
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        let removed = if trash.is_empty() {
            0
        } else {
            self.remove_unnamed(trash, now).await?
        };
        let before = super::rows::micro(now.checked_sub(MARKED).unwrap_or(Timestamp::MIN));
        self.db.change(Forget { before }).await?;
        Ok(removed)
    }

    /// Looks at the next blobs and removes those without a row: a gateway that ended between the two left them.
    pub(super) async fn find_orphans(&self, now: Timestamp) -> Result<u64, StoreError> {
        let Some(blobs) = &self.blobs else {
            return Ok(0);
        };
        let after = *self.searched();
        let found = blobs.list(after, ORPHAN_AGE, PIECE).await?;
        let next = found.last().copied().filter(|_| found.len() == PIECE);
        let removed = if found.is_empty() {
            0
        } else {
            self.remove_unnamed(found, now).await?
        };
        *self.searched() = next;
        Ok(removed)
    }

    /// Removes those of the blobs that no row names and no pin holds.
    async fn remove_unnamed(
        &self,
        digests: Vec<Digest>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let Some(blobs) = self.blobs.as_ref().map(Arc::clone) else {
            return Ok(0);
        };
        // Condemned first: in this process no row can come to name them from then on, since who stores a row holds a pin.
        let condemned: Vec<Condemned> = digests
            .into_iter()
            .filter_map(|digest| blobs.condemn(digest))
            .collect();
        let digests = condemned.iter().map(Condemned::digest).collect();
        let unnamed: HashSet<Digest> = self
            .db
            .change(Mark { digests, now })
            .await?
            .into_iter()
            .collect();
        let mut rest = condemned
            .into_iter()
            .filter(|condemned| unnamed.contains(&condemned.digest()));
        let mut removed = 0;
        loop {
            let few: Vec<Condemned> = rest.by_ref().take(AT_ONCE).collect();
            if few.is_empty() {
                return Ok(removed);
            }
            removed += remove(&self.db, &*blobs, few)
                .await
                .map_err(|fault| fault.at(SWEEPING))?;
        }
    }
}

/// Removes blobs whose mark is still there, under the locks on their digests.
async fn remove(db: &Db, blobs: &dyn Blobs, condemned: Vec<Condemned>) -> Result<u64, Fault> {
    let mut client = db.pool.get().await?;
    let tx = client.transaction().await?;
    let digests: Vec<Digest> = condemned.iter().map(Condemned::digest).collect();
    let digests: Vec<&[u8]> = digests.iter().map(|digest| &digest.0[..]).collect();
    let keys = keys(condemned.iter().map(Condemned::digest));
    tx.query(
        "SELECT pg_advisory_xact_lock(key) FROM unnest($1::int8[]) AS t (key)",
        &[&keys],
    )
    .await?;
    let rows = tx
        .query(
            "SELECT digest FROM trash t WHERE digest = ANY($1) AND erased IS NOT NULL \
             AND NOT EXISTS (SELECT FROM blob_uses u WHERE u.digest = t.digest)",
            &[&digests],
        )
        .await?;
    let marked: HashSet<Digest> = column::<&[u8]>(&rows)?
        .into_iter()
        .map(digest)
        .collect::<Result<_, _>>()?;
    let (mut removed, mut left) = (0, Vec::new());
    for condemned in condemned {
        let digest = condemned.digest();
        if !marked.contains(&digest) {
            continue;
        }
        match blobs.erase(condemned).await {
            Ok(there) => removed += u64::from(there),
            Err(error) => {
                left.push(digest);
                if error.kind != ErrorKind::Busy {
                    tracing::warn!(
                        error = crate::logging::chain(&error),
                        "a blob without a row could not be removed"
                    );
                }
            }
        }
    }
    if !left.is_empty() {
        // Without the mark they are trash as before: the next sweep tries again.
        let left: Vec<&[u8]> = left.iter().map(|digest| &digest.0[..]).collect();
        tx.execute(
            "UPDATE trash SET erased = NULL WHERE digest = ANY($1)",
            &[&left],
        )
        .await?;
    }
    tx.commit().await?;
    Ok(removed)
}

impl Change for Mark {
    type Out = Vec<Digest>;
    const DOING: &'static str = SWEEPING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<Digest>, Fault> {
        let digests: Vec<&[u8]> = self.digests.iter().map(|digest| &digest.0[..]).collect();
        let rows = scope
            .query(
                "INSERT INTO trash (digest, erased) \
                 SELECT d, $2 FROM unnest($1::bytea[]) AS t (d) WHERE NOT EXISTS (SELECT FROM blob_uses u WHERE u.digest = d) \
                 ON CONFLICT (digest) DO UPDATE SET erased = excluded.erased RETURNING digest",
                &[&digests, &super::rows::micro(self.now)],
            )
            .await?;
        column::<&[u8]>(&rows)?.into_iter().map(digest).collect()
    }
}

impl Change for Forget {
    type Out = ();
    const DOING: &'static str = SWEEPING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        scope
            .execute(
                "DELETE FROM trash t WHERE erased <= $1 \
                 OR (erased IS NULL AND EXISTS (SELECT FROM blob_uses u WHERE u.digest = t.digest))",
                &[&self.before],
            )
            .await?;
        Ok(())
    }
}

/// The advisory locks of contents, in the order in which everybody takes them.
fn keys(digests: impl Iterator<Item = Digest>) -> Vec<i64> {
    let mut keys: Vec<i64> = digests.map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn key(digest: Digest) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.0[..8]);
    i64::from_be_bytes(bytes)
}
