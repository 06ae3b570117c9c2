//! [`Export`] on SQLite: rows as JSON objects, a page in one transaction.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ToSql, params_from_iter};
use serde_json::Value;

use super::SqliteStore;
use super::jobs::digest;
use crate::store::SessionStore as _;
use crate::store::blobs::BlobRef;
use crate::store::copy::{Counts, Export, Extent, IDENTITY, JobRows, Rest, Row};
use crate::store::error::StoreError;

const COPYING: &str = "copy the store";

const JOBS: &str = "SELECT seq AS position, lower(hex(id)) AS id, integration, caller, state, version, token, attempts, max_attempts, \
                    created, updated, due, started, finished, keep, expires, owner, lease, held, request_id, traceparent, problem, \
                    history FROM jobs";

/// What is counted, by kind; a state's number follows the kind where there are states.
const COUNTS: &[(&str, &str)] = &[
    ("jobs", "SELECT count(*) FROM jobs"),
    ("documents", "SELECT count(*) FROM documents"),
    (
        "large documents",
        "SELECT count(*) FROM documents WHERE digest IS NOT NULL",
    ),
    ("results", "SELECT count(*) FROM results"),
    ("deliveries", "SELECT count(*) FROM deliveries"),
    ("pauses", "SELECT count(*) FROM pauses"),
    ("keys", "SELECT count(*) FROM keys"),
    ("lanes", "SELECT count(*) FROM lanes"),
    ("labels", "SELECT coalesce(sum(count), 0) FROM labels"),
];

#[async_trait]
impl Export for SqliteStore {
    async fn identity(&self) -> Result<String, StoreError> {
        let id = uuid::Uuid::now_v7().as_bytes().to_vec();
        Ok(hex(&self.settle(IDENTITY, id).await?))
    }

    async fn count(&self, extent: Extent) -> Result<Counts, StoreError> {
        self.reading(move |connection| {
            let mut counts = Counts::new();
            let mut add = |kind: &str, statement: &str, values: &[i64]| {
                let count =
                    connection.query_row(statement, params_from_iter(values), |row| row.get(0))?;
                counts.insert(kind.to_owned(), count);
                Ok::<_, rusqlite::Error>(())
            };
            let (from, until) = extent.audit;
            add(
                "audit lines",
                "SELECT count(*) FROM audit WHERE at BETWEEN ?1 AND ?2",
                &[from, until],
            )?;
            add(
                "idempotency keys",
                "SELECT count(*) FROM idempotency WHERE expires > ?1",
                &[extent.now],
            )?;
            for (kind, statement) in COUNTS {
                let count = connection.query_row(statement, [], |row| row.get(0))?;
                counts.insert((*kind).to_owned(), count);
            }
            for kind in ["jobs", "deliveries"] {
                let statement = format!("SELECT state, count(*) FROM {kind} GROUP BY state");
                let mut by_state = connection.prepare_cached(&statement)?;
                let mut rows = by_state.query([])?;
                while let Some(row) = rows.next()? {
                    let state: i64 = row.get(0)?;
                    counts.insert(format!("{kind} in state {state}"), row.get(1)?);
                }
            }
            Ok(counts)
        })
        .await
    }

    async fn extent(&self, now: Timestamp) -> Result<Extent, StoreError> {
        self.reading(move |connection| {
            connection.query_row(
                "SELECT coalesce(max(seq), 0), max(coalesce(max(updated), 0), (SELECT coalesce(max(updated), 0) FROM deliveries)), \
                 (SELECT coalesce(min(at), 0) FROM audit), (SELECT coalesce(max(at), 0) FROM audit) FROM jobs",
                [],
                |row| {
                    Ok(Extent {
                        position: row.get(0)?,
                        changed: row.get(1)?,
                        audit: (row.get(2)?, row.get(3)?),
                        now: now.as_microsecond(),
                    })
                },
            )
        })
        .await
    }

    async fn jobs(&self, after: i64, limit: u32) -> Result<Vec<JobRows>, StoreError> {
        self.reading(move |connection| {
            let statement = format!("{JOBS} WHERE seq > ?1 ORDER BY seq LIMIT ?2");
            with_all(connection, rows(connection, &statement, &[&after, &limit])?)
        })
        .await
    }

    async fn changed(&self, since: i64, until: i64) -> Result<Vec<i64>, StoreError> {
        self.reading(move |connection| {
            connection
                .prepare_cached(
                    "SELECT seq FROM jobs WHERE updated >= ?1 AND seq <= ?2 \
                     UNION SELECT job FROM deliveries WHERE updated >= ?1 AND job <= ?2 ORDER BY 1",
                )?
                .query_map([since, until], |row| row.get(0))?
                .collect()
        })
        .await
    }

    async fn jobs_at(&self, positions: Vec<i64>) -> Result<Vec<JobRows>, StoreError> {
        self.reading(move |connection| {
            let mut found = Vec::new();
            for position in &positions {
                found.extend(rows(
                    connection,
                    &format!("{JOBS} WHERE seq = ?1"),
                    &[position],
                )?);
            }
            with_all(connection, found)
        })
        .await
    }

    async fn missing(&self, ids: Vec<String>) -> Result<Vec<String>, StoreError> {
        self.reading(move |connection| {
            let mut find = connection.prepare_cached("SELECT 1 FROM jobs WHERE id = unhex(?1)")?;
            let mut missing = Vec::new();
            for id in ids {
                if !find.exists([&id])? {
                    missing.push(id);
                }
            }
            Ok(missing)
        })
        .await
    }

    async fn rest(&self) -> Result<Rest, StoreError> {
        self.reading(|connection| {
            let mut lanes = rows(connection, "SELECT * FROM lanes", &[])?;
            for lane in &mut lanes {
                truth(lane, "ended");
            }
            Ok(Rest {
                lanes,
                keys: rows(connection, "SELECT * FROM keys", &[])?,
                pauses: rows(connection, "SELECT * FROM pauses", &[])?,
                settings: rows(
                    connection,
                    "SELECT * FROM settings WHERE name <> ?1",
                    &[&IDENTITY],
                )?,
            })
        })
        .await
    }

    async fn labels(&self, after: Option<Row>, limit: u32) -> Result<Vec<Row>, StoreError> {
        self.reading(move |connection| {
            let after = after.unwrap_or_default();
            let text = |column| after.get(column).and_then(Value::as_str).unwrap_or("");
            let minute = after
                .get("minute")
                .and_then(Value::as_i64)
                .unwrap_or(i64::MIN);
            let statement = "SELECT integration, minute, service, label, count FROM labels \
                             WHERE (integration, minute, service, label) > (?1, ?2, ?3, ?4) \
                             ORDER BY integration, minute, service, label LIMIT ?5";
            let values: [&dyn ToSql; 5] = [
                &text("integration"),
                &minute,
                &text("service"),
                &text("label"),
                &limit,
            ];
            rows(connection, statement, &values)
        })
        .await
    }

    async fn audit(&self, after: i64, limit: u32) -> Result<Vec<(i64, Row)>, StoreError> {
        self.reading(move |connection| {
            let statement = "SELECT seq AS position, at, actor, request_id, remote, action, target, outcome \
                             FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2";
            let lines = rows(connection, statement, &[&after, &limit])?;
            Ok(lines
                .into_iter()
                .map(|mut line| (position(&mut line), line))
                .collect())
        })
        .await
    }
}

impl SqliteStore {
    /// Reads in one transaction: everything as it is at one moment.
    async fn reading<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers
            .read(COPYING, move |connection| {
                let transaction = connection.unchecked_transaction()?;
                query(&transaction)
            })
            .await
    }
}

/// Jobs with everything that belongs to them.
fn with_all(connection: &Connection, jobs: Vec<Row>) -> rusqlite::Result<Vec<JobRows>> {
    let mut all = Vec::new();
    for mut job in jobs {
        let position = position(&mut job);
        let id = job.get("id").cloned().unwrap_or_default();
        let of = |statement: &str| {
            let mut found = rows(connection, statement, &[&position])?;
            for row in &mut found {
                row.insert("id".to_owned(), id.clone());
            }
            Ok::<_, rusqlite::Error>(found)
        };
        truth(&mut job, "held");
        let document = of("SELECT request, inline, digest, size, media_type, file_name FROM documents WHERE seq = ?1")?.pop();
        let result = of("SELECT result FROM results WHERE seq = ?1")?.pop();
        let keys = of(
            "SELECT caller, integration, key, fingerprint, expires FROM idempotency WHERE seq = ?1",
        )?;
        let mut deliveries = rows(
            connection,
            "SELECT lower(hex(id)) AS id, integration, channel, caller, kind, receiver, state, version, token, attempts, created, \
             updated, due, finished, owner, lease, tries, reason, superseded, cut_off FROM deliveries WHERE job = ?1",
            &[&position],
        )?;
        for delivery in &mut deliveries {
            delivery.insert("job".to_owned(), id.clone());
            truth(delivery, "superseded");
        }
        let blob = connection
            .prepare_cached(
                "SELECT digest, size FROM documents WHERE seq = ?1 AND digest IS NOT NULL",
            )?
            .query_map([position], |row| {
                Ok(BlobRef {
                    digest: digest(0, &row.get::<_, Vec<u8>>(0)?)?,
                    size: row.get(1)?,
                    pin: None,
                })
            })?
            .next()
            .transpose()?;
        all.push(JobRows {
            position,
            job,
            document,
            result,
            keys,
            deliveries,
            blob,
        });
    }
    Ok(all)
}

/// The rows of a statement, by column.
fn rows(
    connection: &Connection,
    statement: &str,
    values: &[&dyn ToSql],
) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(statement)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut all = statement.query(params_from_iter(values))?;
    while let Some(row) = all.next()? {
        let mut columns = Row::new();
        for (nth, name) in names.iter().enumerate() {
            let value = match row.get_ref(nth)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => number.into(),
                ValueRef::Real(number) => number.into(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
                ValueRef::Blob(bytes) => hex(bytes).into(),
            };
            columns.insert(name.clone(), value);
        }
        found.push(columns);
    }
    Ok(found)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// SQLite keeps a truth as a number.
fn truth(row: &mut Row, column: &str) {
    if let Some(value) = row.get_mut(column) {
        *value = (value.as_i64() == Some(1)).into();
    }
}

fn position(row: &mut Row) -> i64 {
    row.remove("position")
        .and_then(|position| position.as_i64())
        .unwrap_or(0)
}
