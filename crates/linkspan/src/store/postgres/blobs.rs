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
//! One blob is removed at a time, each in a transaction of its own: whoever wants to name another does not wait for it, and the one that
//! is being removed is waited for no longer than its store takes, which is bounded.
//!
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
        let mut removed = 0;
        for condemned in condemned {
            if unnamed.contains(&condemned.digest()) {
                removed += remove(&self.db, &*blobs, condemned)
                    .await
                    .map_err(|fault| fault.at(SWEEPING))?;
            }
        }
        Ok(removed)
    }
}

/// Removes a blob whose mark is still there, under the lock on its digest. Gives 1 where it was there.
async fn remove(db: &Db, blobs: &dyn Blobs, condemned: Condemned) -> Result<u64, Fault> {
    let digest = condemned.digest();
    let mut client = db.pool.get().await?;
    let tx = client.transaction().await?;
    // The removal is bounded here; ended by the server, the lock would go while it is under way.
    tx.batch_execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        .await?;
    tx.query("SELECT pg_advisory_xact_lock($1)", &[&key(digest)])
        .await?;
    let marked = tx
        .query(
            "SELECT digest FROM trash t WHERE digest = $1 AND erased IS NOT NULL \
             AND NOT EXISTS (SELECT FROM blob_uses u WHERE u.digest = t.digest)",
            &[&&digest.0[..]],
        )
        .await?;
    if marked.is_empty() {
        return Ok(0);
    }
    let removed = match blobs.erase(condemned).await {
        Ok(there) => u64::from(there),
        Err(error) => {
            if error.kind != ErrorKind::Busy {
                tracing::warn!(
                    error = crate::logging::chain(&error),
                    "a blob without a row could not be removed"
                );
            }
            // Without the mark it is trash as before: the next sweep tries again.
            tx.execute(
                "UPDATE trash SET erased = NULL WHERE digest = $1",
                &[&&digest.0[..]],
            )
            .await?;
            0
        }
    };
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
