//! [`Import`] on PostgreSQL: rows as JSON, which the server itself reads into its tables.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::PostgresStore;
use super::fault::Fault;
use super::partitions::{Bucket, Family};
use super::pool::{Change, Scope, lock_key, query};
use super::rows::column;
use crate::store::copy::{Counts, Extent, IN_USE, Import, JobRows, Progress, Rest, Row};
use crate::store::error::{ErrorKind, StoreError};

const COPYING: &str = "copy the store";

/// What is counted, by kind.
const COUNTS: &str = "SELECT 'jobs', count(*) FROM jobs UNION ALL SELECT 'documents', count(*) FROM documents \
    UNION ALL SELECT 'large documents', count(*) FROM documents WHERE digest IS NOT NULL UNION ALL SELECT 'results', count(*) FROM results UNION ALL SELECT 'deliveries', count(*) FROM deliveries \
    UNION ALL SELECT 'pauses', count(*) FROM pauses UNION ALL SELECT 'keys', count(*) FROM keys \
    UNION ALL SELECT 'lanes', count(*) FROM lanes \
    UNION ALL SELECT 'labels', coalesce(sum(count), 0)::int8 FROM (SELECT count FROM labels UNION ALL SELECT count FROM label_changes) AS l \
    UNION ALL SELECT 'audit lines', count(*) FROM audit WHERE at BETWEEN $1 AND $2 \
    UNION ALL SELECT 'idempotency keys', count(*) FROM idempotency WHERE expires > $3 \
    UNION ALL SELECT 'jobs in state ' || state, count(*) FROM jobs GROUP BY state \
    UNION ALL SELECT 'deliveries in state ' || state, count(*) FROM deliveries GROUP BY state";

const USED: &str = "a gateway has worked on the target since the copy began, and a copy would undo what it did: if the move is over, copy \
                    no more; to move anew, copy into an empty database or schema";

const OTHERS: &str = "the target holds what this source did not bring (another store's copy, or jobs, keys or audit lines of its own): copy \
                      into an empty database or schema";

/// Begins a copy, by the name of its progress.
struct Begin(String);

struct TakeJobs {
    jobs: Vec<JobRows>,
    progress: (String, Progress),
}

struct TakeAudit {
    lines: Vec<Row>,
    progress: (String, Progress),
}

struct TakeLabels(Vec<Row>);

struct Remove(Vec<Uuid>);

#[async_trait]
impl Import for PostgresStore {
    async fn begin(&self, source: &str) -> Result<(), StoreError> {
        self.db.change(Begin(progress_name(source))).await
    }

    async fn count(&self, extent: Extent) -> Result<Counts, StoreError> {
        self.db
            .read(COPYING, move |client| async move {
                let (from, until) = extent.audit;
                let rows = query(&client, COUNTS, &[&from, &until, &extent.now]).await?;
                rows.iter()
                    .map(|row| {
                        let count = u64::try_from(row.try_get::<_, i64>(1)?);
                        Ok((row.try_get(0)?, count.map_err(Fault::damaged)?))
                    })
                    .collect()
            })
            .await
    }

    async fn progress(&self, source: &str) -> Result<Progress, StoreError> {
        let name = progress_name(source);
        self.db
            .read(COPYING, move |client| {
                let name = name.clone();
                async move {
                    let rows = query(
                        &client,
                        "SELECT value FROM settled WHERE name = $1",
                        &[&name],
                    )
                    .await?;
                    match rows.first() {
                        None => Ok(Progress::default()),
                        Some(row) => {
                            serde_json::from_slice(row.try_get(0)?).map_err(Fault::damaged)
                        }
                    }
                }
            })
            .await
    }

    async fn take_jobs(
        &self,
        jobs: Vec<JobRows>,
        source: &str,
        progress: Progress,
    ) -> Result<(), StoreError> {
        let progress = (progress_name(source), progress);
        self.db.change(TakeJobs { jobs, progress }).await
    }

    async fn take_audit(
        &self,
        lines: Vec<Row>,
        source: &str,
        progress: Progress,
    ) -> Result<(), StoreError> {
        let progress = (progress_name(source), progress);
        self.db.change(TakeAudit { lines, progress }).await
    }

    async fn take_rest(&self, rest: Rest) -> Result<(), StoreError> {
        self.db.change(rest).await
    }

    async fn take_labels(&self, labels: Vec<Row>) -> Result<(), StoreError> {
        self.db.change(TakeLabels(labels)).await
    }

    async fn ids(
        &self,
        after: Option<String>,
        until: i64,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        self.db
            .read(COPYING, move |client| {
                let after = after.as_deref().and_then(|after| after.parse().ok());
                let after: Uuid = after.unwrap_or_default();
                async move {
                    let rows = query(
                        &client,
                        "SELECT replace(id::text, '-', '') FROM jobs WHERE id > $1 AND updated <= $2 ORDER BY id LIMIT $3",
                        &[&after, &until, &i64::from(limit)],
                    )
                    .await?;
                    column(&rows)
                }
            })
            .await
    }

    async fn remove(&self, ids: Vec<String>) -> Result<(), StoreError> {
        let ids = ids.iter().filter_map(|id| id.parse().ok()).collect();
        self.db.change(Remove(ids)).await
    }
}

impl Change for Begin {
    type Out = ();
    const DOING: &'static str = COPYING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        let key = lock_key(&scope.db.address.schema, "copy");
        scope
            .query("SELECT pg_advisory_xact_lock($1)", &[&key])
            .await?;
        unused(scope).await?;
        let begun = scope
            .query("SELECT 1 FROM settled WHERE name = $1", &[&self.0])
            .await?;
        if !begun.is_empty() {
            return Ok(());
        }
        let found = scope
            .query(
                "SELECT EXISTS (SELECT FROM settled) OR EXISTS (SELECT FROM jobs) OR EXISTS (SELECT FROM keys) \
                 OR EXISTS (SELECT FROM audit)",
                &[],
            )
            .await?;
        if column::<bool>(&found)?.contains(&true) {
            return Err(Fault::Kind(ErrorKind::Foreign, OTHERS));
        }
        note(scope, &(self.0.clone(), Progress::default())).await
    }
}

impl Change for TakeJobs {
    type Out = ();
    const DOING: &'static str = COPYING;

    fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        for rows in &self.jobs {
            let job = id(&rows.job);
            buckets.push(Family::Jobs.of_id(job.as_bytes()));
            buckets.push(Family::Content.of_id(job.as_bytes()));
            let deliveries = rows.deliveries.iter().map(|row| *id(row).as_bytes());
            buckets.extend(deliveries.map(|id| Family::Deliveries.of_id(&id)));
        }
        buckets
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        unused(scope).await?;
        let (ids, versions): (Vec<Uuid>, Vec<i64>) = self
            .jobs
            .iter()
            .map(|rows| (id(&rows.job), number(&rows.job, "version")))
            .unzip();
        let newer = scope
            .query(
                "SELECT j.id FROM unnest($1::uuid[], $2::int8[]) AS n (id, version) JOIN jobs j USING (id) \
                 WHERE j.version > n.version",
                &[&ids, &versions],
            )
            .await?;
        let newer: Vec<Uuid> = column(&newer)?;
        let taken: Vec<&JobRows> = self
            .jobs
            .iter()
            .filter(|rows| !newer.contains(&id(&rows.job)))
            .collect();
        let ids: Vec<Uuid> = taken.iter().map(|rows| id(&rows.job)).collect();
        remove(scope, &ids).await?;
        let jobs = json(taken.iter().map(|rows| &rows.job));
        let deliveries = json(taken.iter().flat_map(|rows| &rows.deliveries));
        let documents = json(taken.iter().filter_map(|rows| rows.document.as_ref()));
        let results = json(taken.iter().filter_map(|rows| rows.result.as_ref()));
        let keys = json(taken.iter().flat_map(|rows| &rows.keys));
        for (statement, rows) in [
            (
                "INSERT INTO jobs SELECT * FROM json_populate_recordset(NULL::jobs, $1::text::json)",
                &jobs,
            ),
            (
                "INSERT INTO tallies SELECT integration, state, count(*) FROM json_populate_recordset(NULL::jobs, $1::text::json) \
                 GROUP BY 1, 2",
                &jobs,
            ),
            (
                "INSERT INTO deliveries SELECT * FROM json_populate_recordset(NULL::deliveries, $1::text::json)",
                &deliveries,
            ),
            (
                "INSERT INTO delivery_tallies SELECT integration, channel, state, count(*) \
                 FROM json_populate_recordset(NULL::deliveries, $1::text::json) GROUP BY 1, 2, 3",
                &deliveries,
            ),
            (
                "INSERT INTO documents SELECT * FROM json_populate_recordset(NULL::documents, $1::text::json)",
                &documents,
            ),
            (
                "INSERT INTO blob_uses SELECT digest, id FROM json_populate_recordset(NULL::documents, $1::text::json) \
                 WHERE digest IS NOT NULL ON CONFLICT DO NOTHING",
                &documents,
            ),
            (
                "INSERT INTO results SELECT * FROM json_populate_recordset(NULL::results, $1::text::json)",
                &results,
            ),
            (
                // The key of a job that ended may be another job's by now.
                "INSERT INTO idempotency SELECT * FROM json_populate_recordset(NULL::idempotency, $1::text::json) \
                 ON CONFLICT (caller, integration, key) DO UPDATE SET fingerprint = excluded.fingerprint, id = excluded.id, \
                 expires = excluded.expires",
                &keys,
            ),
        ] {
            if rows != "[]" {
                scope.execute(statement, &[rows]).await?;
            }
        }
        for id in &ids {
            scope.db.partitions.has_live(id.as_bytes());
        }
        note(scope, &self.progress).await
    }
}

impl Change for TakeAudit {
    type Out = ();
    const DOING: &'static str = COPYING;

    fn buckets(&self) -> Vec<Bucket> {
        let times = self.lines.iter().map(|line| number(line, "at"));
        times
            .filter_map(|at| Timestamp::from_microsecond(at).ok())
            .map(|at| Family::Audit.of_time(at))
            .collect()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        unused(scope).await?;
        scope
            .execute(
                "INSERT INTO audit (at, actor, request_id, remote, action, target, outcome) \
                 SELECT at, actor, request_id, remote, action, target, outcome \
                 FROM json_populate_recordset(NULL::audit, $1::text::json)",
                &[&json(self.lines.iter())],
            )
            .await?;
        note(scope, &self.progress).await
    }
}

impl Change for Rest {
    type Out = ();
    const DOING: &'static str = COPYING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        unused(scope).await?;
        for table in ["pauses", "lanes", "labels", "label_changes"] {
            scope.execute(&format!("DELETE FROM {table}"), &[]).await?;
        }
        for (statement, rows) in [
            (
                "INSERT INTO keys SELECT * FROM json_populate_recordset(NULL::keys, $1::text::json) \
                 ON CONFLICT (id) DO UPDATE SET expires = least(keys.expires, excluded.expires), \
                 revoked = least(keys.revoked, excluded.revoked)",
                &self.keys,
            ),
            (
                "INSERT INTO pauses SELECT * FROM json_populate_recordset(NULL::pauses, $1::text::json)",
                &self.pauses,
            ),
            (
                "INSERT INTO settled SELECT * FROM json_populate_recordset(NULL::settled, $1::text::json) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                &self.settings,
            ),
            (
                "INSERT INTO lanes SELECT * FROM json_populate_recordset(NULL::lanes, $1::text::json)",
                &self.lanes,
            ),
        ] {
            scope.execute(statement, &[&json(rows.iter())]).await?;
        }
        // The next token is later than all of theirs.
        scope
            .query(
                "SELECT setval('lane_tokens', greatest(max(token), (SELECT last_value FROM lane_tokens))) FROM lanes",
                &[],
            )
            .await?;
        Ok(())
    }
}

impl Change for TakeLabels {
    type Out = ();
    const DOING: &'static str = COPYING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        unused(scope).await?;
        scope
            .execute(
                "INSERT INTO labels SELECT * FROM json_populate_recordset(NULL::labels, $1::text::json) \
                 ON CONFLICT (integration, minute, service, label) DO UPDATE SET count = excluded.count",
                &[&json(self.0.iter())],
            )
            .await?;
        Ok(())
    }
}

impl Change for Remove {
    type Out = ();
    const DOING: &'static str = COPYING;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        unused(scope).await?;
        remove(scope, &self.0).await
    }
}

/// Refuses where a gateway has worked on the store.
async fn unused(scope: &Scope<'_>) -> Result<(), Fault> {
    let used = scope
        .query("SELECT 1 FROM settled WHERE name = $1", &[&IN_USE])
        .await?;
    if used.is_empty() {
        Ok(())
    } else {
        Err(Fault::Kind(ErrorKind::Foreign, USED))
    }
}

/// Removes jobs with everything that belongs to them. Their blobs are for a gateway's sweep.
async fn remove(scope: &Scope<'_>, ids: &Vec<Uuid>) -> Result<(), Fault> {
    for statement in [
        "WITH gone AS (DELETE FROM jobs WHERE id = ANY($1) RETURNING integration, state) \
         INSERT INTO tallies SELECT integration, state, -count(*) FROM gone GROUP BY 1, 2",
        "WITH gone AS (DELETE FROM deliveries WHERE job = ANY($1) RETURNING integration, channel, state) \
         INSERT INTO delivery_tallies SELECT integration, channel, state, -count(*) FROM gone GROUP BY 1, 2, 3",
        "DELETE FROM documents WHERE id = ANY($1)",
        "DELETE FROM results WHERE id = ANY($1)",
        "DELETE FROM idempotency WHERE id = ANY($1)",
        "WITH gone AS (DELETE FROM blob_uses WHERE id = ANY($1) RETURNING digest) \
         INSERT INTO trash SELECT DISTINCT digest FROM gone ON CONFLICT DO NOTHING",
    ] {
        scope.execute(statement, &[ids]).await?;
    }
    Ok(())
}

async fn note(scope: &Scope<'_>, (name, progress): &(String, Progress)) -> Result<(), Fault> {
    let value = serde_json::to_vec(progress)?;
    scope
        .execute(
            "INSERT INTO settled (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[name, &value],
        )
        .await?;
    Ok(())
}

fn progress_name(source: &str) -> String {
    format!("copied from {source}")
}

/// Rows as one JSON text. PostgreSQL's texts hold no NUL.
fn json<'r>(rows: impl Iterator<Item = &'r Row>) -> String {
    let rows: Vec<Value> = rows
        .map(|row| {
            let columns = row.iter().map(|(name, value)| {
                let value = match value {
                    Value::String(text) => super::rows::text(text).into(),
                    other => other.clone(),
                };
                (name.clone(), value)
            });
            Value::Object(columns.collect())
        })
        .collect();
    Value::Array(rows).to_string()
}

fn id(row: &Row) -> Uuid {
    let text = row.get("id").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn number(row: &Row, column: &str) -> i64 {
    row.get(column).and_then(Value::as_i64).unwrap_or(0)
}
