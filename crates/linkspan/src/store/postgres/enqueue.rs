//! Accepting jobs: many in one transaction.

use std::collections::HashMap;

use jiff::SignedDuration;
use linkspan_model::JobState;
use uuid::Uuid;

use super::batch::Batch;
use super::fault::Fault;
use super::partitions::{Bucket, Family};
use super::pool::{Change, Scope};
use super::requests::{self, NewRequest};
use super::rows::{self, COLUMNS, Row, column, micro, text, time, uuid};
use crate::store::error::ErrorKind;
use crate::store::jobs::{Enqueued, Idempotency, Job, NewJob};
use crate::store::queue::Attempt;

/// How often a key is looked up anew when it changes hands meanwhile.
const LOOKS: u32 = 5;

/// Jobs to accept.
pub(super) struct Enqueue(Vec<NewJob>);

impl Batch for Enqueue {
    type Item = NewJob;
    type Answer = Enqueued;

    fn of(items: Vec<NewJob>) -> Self {
        Self(items)
    }
}

impl Change for Enqueue {
    type Out = Vec<Enqueued>;
    const DOING: &'static str = "enqueue a job";

    fn buckets(&self) -> Vec<Bucket> {
        let mut buckets: Vec<Bucket> = Vec::new();
        for new in &self.0 {
            for family in [Family::Jobs, Family::Content] {
                let bucket = family.of_id(new.id.as_bytes());
                if !buckets.contains(&bucket) {
                    buckets.push(bucket);
                }
            }
        }
        buckets
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<Enqueued>, Fault> {
        let ahead = scope.db.ahead();
        let mut rows: Vec<Row> = self.0.iter().map(|new| row(new, ahead)).collect();
        let found = self.take_keys(scope, &rows).await?;
        let mut taken = found.iter();
        rows.retain(|_| matches!(taken.next(), Some(None)));
        rows::insert(scope, &rows).await?;
        for row in &rows {
            scope.db.partitions.has_live(row.job.id.as_bytes());
        }
        let requests: Vec<_> = self
            .0
            .iter()
            .zip(&found)
            .filter(|(new, found)| {
                found.is_none() && !new.start.as_ref().is_some_and(|start| start.held)
            })
            .map(|(new, _)| NewRequest {
                id: uuid(new.id),
                request: &new.request,
                document: new.document.as_ref(),
            })
            .collect();
        requests::insert(scope, &requests).await?;
        let mut rows = rows.into_iter();
        self.0
            .iter()
            .zip(found)
            .map(|(new, found)| match found {
                Some(found) => Ok(found),
                None => rows
                    .next()
                    .map(|row| Enqueued::Created {
                        attempt: new.start.as_ref().map(|_| Attempt {
                            id: row.job.id,
                            token: row.token,
                        }),
                        job: row.job,
                    })
                    .ok_or_else(|| Fault::Value("a job without its row".into())),
            })
            .collect()
    }
}

impl Enqueue {
    /// Takes the idempotency keys. Gives, for each job, what its key says; none where it has no key or took it.
    async fn take_keys(
        &self,
        scope: &Scope<'_>,
        rows: &[Row],
    ) -> Result<Vec<Option<Enqueued>>, Fault> {
        let mut found: Vec<Option<Enqueued>> = self.0.iter().map(|_| None).collect();
        let keyed: Vec<(usize, &NewJob, &Idempotency)> = self
            .0
            .iter()
            .enumerate()
            .filter_map(|(index, new)| Some((index, new, new.idempotency.as_ref()?)))
            .collect();
        if keyed.is_empty() {
            return Ok(found);
        }
        let mut ours: HashMap<Uuid, usize> = insert_keys(scope, &keyed)
            .await?
            .into_iter()
            .filter_map(|id| keyed.iter().find(|(_, new, _)| uuid(new.id) == id))
            .map(|(index, new, _)| (uuid(new.id), *index))
            .collect();
        for &(index, new, idempotency) in &keyed {
            if ours.contains_key(&uuid(new.id)) {
                continue;
            }
            let in_batch = |id: &Uuid| ours.get(id).map(|index| rows[*index].job.clone());
            match look_up(scope, new, idempotency, in_batch).await? {
                Some(answer) => found[index] = Some(answer),
                None => {
                    ours.insert(uuid(new.id), index);
                }
            }
        }
        Ok(found)
    }
}

/// A new job's row. `ahead`: by how much the server's clock is.
fn row(new: &NewJob, ahead: SignedDuration) -> Row {
    let job = Job {
        id: new.id,
        integration: text(&new.integration),
        caller: text(&new.caller),
        state: JobState::Queued,
        version: 1,
        attempts: 0,
        max_attempts: new.max_attempts,
        created: new.now,
        updated: new.now,
        due: new.due,
        started: None,
        finished: None,
        expires: None,
        problem: None,
        request_id: text(&new.request_id),
        traceparent: new.traceparent.as_deref().map(text),
        held: new.start.as_ref().is_some_and(|start| start.held),
        history: Vec::new(),
    };
    let mut row = Row::new(job, new.keep);
    if let Some(start) = &new.start {
        row.start(&start.owner, start.lease.saturating_add(ahead), new.now);
    }
    row
}

/// Stores the keys that nobody has. Gives the jobs that have theirs. Of two with the same key, the first one of the batch.
async fn insert_keys(
    scope: &Scope<'_>,
    keyed: &[(usize, &NewJob, &Idempotency)],
) -> Result<Vec<Uuid>, Fault> {
    let callers: Vec<_> = keyed.iter().map(|(_, new, _)| text(&new.caller)).collect();
    let integrations: Vec<_> = keyed
        .iter()
        .map(|(_, new, _)| text(&new.integration))
        .collect();
    let keys: Vec<_> = keyed.iter().map(|(_, _, key)| text(&key.key)).collect();
    let fingerprints: Vec<_> = keyed
        .iter()
        .map(|(_, _, key)| &key.fingerprint[..])
        .collect();
    let ids: Vec<_> = keyed.iter().map(|(_, new, _)| uuid(new.id)).collect();
    let expires: Vec<_> = keyed.iter().map(|(_, _, key)| micro(key.expires)).collect();
    // In the order of the keys, so that two batches do not wait for each other crosswise.
    let rows = scope
        .query(
            "INSERT INTO idempotency (caller, integration, key, fingerprint, id, expires) \
             SELECT c, i, k, f, id, e FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::uuid[], $6::int8[]) \
             WITH ORDINALITY AS t (c, i, k, f, id, e, place) ORDER BY c, i, k, place \
             ON CONFLICT DO NOTHING RETURNING id",
            &[&callers, &integrations, &keys, &fingerprints, &ids, &expires],
        )
        .await?;
    column(&rows)
}

/// What a key that somebody has says. None where it was free again, and is this job's now.
async fn look_up(
    scope: &Scope<'_>,
    new: &NewJob,
    idempotency: &Idempotency,
    in_batch: impl Fn(&Uuid) -> Option<Job> + Sync,
) -> Result<Option<Enqueued>, Fault> {
    let (caller, integration) = (text(&new.caller), text(&new.integration));
    let key = text(&idempotency.key);
    for _ in 0..LOOKS {
        let rows = scope
            .query(
                "SELECT id, fingerprint, expires FROM idempotency WHERE caller = $1 AND integration = $2 AND key = $3",
                &[&caller, &integration, &key],
            )
            .await?;
        let Some(row) = rows.first() else {
            // Freed just now.
            if insert_keys(scope, &[(0, new, idempotency)])
                .await?
                .is_empty()
            {
                continue;
            }
            return Ok(None);
        };
        let first: Uuid = row.try_get(0)?;
        let same = row.try_get::<_, &[u8]>(1)? == idempotency.fingerprint;
        let over = time(row, 2)? <= new.now;
        let job = match in_batch(&first) {
            Some(job) => Some(job),
            None => find(scope, first, over).await?,
        };
        match job {
            // The one with this key is there; a key whose job is gone is free.
            Some(job) if !(over && job.state.is_terminal()) => {
                return Ok(Some(if same {
                    Enqueued::Existing(job)
                } else {
                    Enqueued::KeyMismatch
                }));
            }
            _ => {
                let taken = scope
                    .execute(
                        "UPDATE idempotency SET fingerprint = $4, id = $5, expires = $6 \
                         WHERE caller = $1 AND integration = $2 AND key = $3 AND id = $7",
                        &[
                            &caller,
                            &integration,
                            &key,
                            &&idempotency.fingerprint[..],
                            &uuid(new.id),
                            &micro(idempotency.expires),
                            &first,
                        ],
                    )
                    .await?;
                if taken == 1 {
                    return Ok(None);
                }
            }
        }
    }
    Err(Fault::Kind(
        ErrorKind::Busy,
        "the idempotency key changes hands again and again",
    ))
}

/// A job; locked where it may lose its key, so that nobody retries it meanwhile.
async fn find(scope: &Scope<'_>, id: Uuid, lock: bool) -> Result<Option<Job>, Fault> {
    let lock = if lock { "FOR UPDATE" } else { "" };
    let rows = scope
        .query(
            &format!("SELECT {COLUMNS} FROM jobs WHERE id = $1 {lock}"),
            &[&id],
        )
        .await?;
    rows.first()
        .map(|columns| Row::read(columns).map(|row| row.job))
        .transpose()
}
