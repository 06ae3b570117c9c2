//! [`KeyStore`] and [`AuditLog`] on PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::Row as Columns;

use super::PostgresStore;
use super::fault::Fault;
use super::jobs::Conditions;
use super::partitions::{Bucket, Family};
use super::pool::{Change, Scope, query};
use super::rows::{column, micro, optional_time, text, time, unsigned};
use crate::store::audit::{Actor, AuditLine, AuditLog, AuditPage, AuditQuery, name_and_id};
use crate::store::error::StoreError;
use crate::store::keys::{KeyRecord, KeyStore};

const COLUMNS: &str = "id, name, hash, scopes, rate, created, expires, revoked, sealed";

#[async_trait]
impl KeyStore for PostgresStore {
    async fn insert_key(&self, key: KeyRecord, actor: Actor) -> Result<bool, StoreError> {
        let (id, now) = (key.id.clone(), key.created);
        let what = What::Add(key);
        self.db
            .change(KeyChange {
                id,
                what,
                actor,
                now,
            })
            .await
    }

    async fn find_key(&self, id: &str) -> Result<Option<KeyRecord>, StoreError> {
        let id = text(id);
        self.db
            .read("look up a key", move |client| {
                let id = id.clone();
                async move {
                    let rows = query(
                        &client,
                        &format!("SELECT {COLUMNS} FROM keys WHERE id = $1"),
                        &[&id],
                    )
                    .await?;
                    rows.first().map(read_key).transpose()
                }
            })
            .await
    }

    async fn list_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.db
            .read("list the keys", |client| async move {
                let rows = query(
                    &client,
                    &format!("SELECT {COLUMNS} FROM keys ORDER BY created, id"),
                    &[],
                )
                .await?;
                rows.iter().map(read_key).collect()
            })
            .await
    }

    async fn revoke_key(&self, id: &str, actor: Actor, now: Timestamp) -> Result<bool, StoreError> {
        self.db
            .change(KeyChange {
                id: text(id),
                what: What::Revoke,
                actor,
                now,
            })
            .await
    }

    async fn set_key_expiry(
        &self,
        id: &str,
        expires: Option<Timestamp>,
        actor: Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.db
            .change(KeyChange {
                id: text(id),
                what: What::Expire(expires),
                actor,
                now,
            })
            .await
    }
}

#[async_trait]
impl AuditLog for PostgresStore {
    async fn append_audit(&self, line: AuditLine) -> Result<(), StoreError> {
        self.db.change(line).await
    }

    async fn list_audit(&self, wanted: AuditQuery) -> Result<AuditPage, StoreError> {
        self.db
            .read("list the audit lines", move |client| {
                let wanted = wanted.clone();
                async move { list(&client, &wanted).await }
            })
            .await
    }
}

async fn list(client: &deadpool_postgres::Client, wanted: &AuditQuery) -> Result<AuditPage, Fault> {
    let limit = wanted.limit.clamp(1, 1000) as usize;
    let mut conditions = Conditions::default();
    conditions.add("actor =", wanted.actor.as_deref().map(text));
    conditions.add("action =", wanted.action.as_deref().map(text));
    conditions.add("at >=", wanted.from.map(micro));
    conditions.add("at <", wanted.until.map(micro));
    let after = wanted
        .after
        .map(|after| i64::try_from(after).unwrap_or(i64::MAX));
    conditions.add("seq <", after);
    // One more than asked for says whether there is a next page.
    let statement = format!(
        "SELECT seq, at, actor, request_id, remote, action, target, outcome FROM audit WHERE {} ORDER BY seq DESC LIMIT {}",
        conditions.text(),
        limit + 1
    );
    let rows = client.query(&statement, &conditions.values()).await?;
    let mut lines = rows.iter().map(read_line).collect::<Result<Vec<_>, _>>()?;
    let more = lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| more).map(|(seq, _)| *seq);
    Ok(AuditPage {
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        next,
    })
}

/// A change of a key. Gives whether there was something to change.
struct KeyChange {
    id: String,
    what: What,
    actor: Actor,
    now: Timestamp,
}

enum What {
    Add(KeyRecord),
    Revoke,
    Expire(Option<Timestamp>),
}

impl Change for KeyChange {
    type Out = bool;
    const DOING: &'static str = "change a key";

    fn buckets(&self) -> Vec<Bucket> {
        vec![audit_bucket(self.now)]
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<bool, Fault> {
        let (action, name) = match &self.what {
            What::Add(key) => {
                let added = add(scope, key).await? > 0;
                ("key.add", added.then(|| key.name.clone()))
            }
            What::Revoke => {
                let rows = scope
                    .query(
                        "UPDATE keys SET revoked = $2 WHERE id = $1 AND revoked IS NULL RETURNING name",
                        &[&self.id, &micro(self.now)],
                    )
                    .await?;
                ("key.revoke", column(&rows)?.pop())
            }
            What::Expire(expires) => {
                let rows = scope
                    .query(
                        "UPDATE keys SET expires = $2 WHERE id = $1 RETURNING name",
                        &[&self.id, &expires.map(micro)],
                    )
                    .await?;
                ("key.expire", column(&rows)?.pop())
            }
        };
        if let Some(name) = &name {
            let line = AuditLine {
                at: self.now,
                actor: self.actor.clone(),
                action: action.to_owned(),
                target: name_and_id(name, &self.id),
                outcome: "done".to_owned(),
            };
            write_audit(scope, &line).await?;
        }
        Ok(name.is_some())
    }
}

impl Change for AuditLine {
    type Out = ();
    const DOING: &'static str = "write an audit line";

    fn buckets(&self) -> Vec<Bucket> {
        vec![audit_bucket(self.at)]
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        write_audit(scope, self).await
    }
}

/// The partition of an audit line.
pub(super) fn audit_bucket(at: Timestamp) -> Bucket {
    Family::Audit.of_time(at)
}

/// Writes an audit line in the change's transaction.
pub(super) async fn write_audit(scope: &Scope<'_>, line: &AuditLine) -> Result<(), Fault> {
    scope
        .execute(
            "INSERT INTO audit (at, actor, request_id, remote, action, target, outcome) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[
                &micro(line.at),
                &text(&line.actor.name),
                &line.actor.request_id.as_deref().map(text),
                &line.actor.remote.as_deref().map(text),
                &line.action,
                &text(&line.target),
                &line.outcome,
            ],
        )
        .await?;
    Ok(())
}

async fn add(scope: &Scope<'_>, key: &KeyRecord) -> Result<u64, Fault> {
    scope
        .execute(
            &format!("INSERT INTO keys ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"),
            &[
                &key.id,
                &text(&key.name),
                &key.hash,
                &key.scopes,
                &key.rate.map(i64::from),
                &micro(key.created),
                &key.expires.map(micro),
                &key.revoked.map(micro),
                &key.sealed,
            ],
        )
        .await
}

fn read_key(row: &Columns) -> Result<KeyRecord, Fault> {
    Ok(KeyRecord {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        hash: row.try_get(2)?,
        scopes: row.try_get(3)?,
        rate: row
            .try_get::<_, Option<i64>>(4)?
            .map(u32::try_from)
            .transpose()
            .map_err(Fault::damaged)?,
        created: time(row, 5)?,
        expires: optional_time(row, 6)?,
        revoked: optional_time(row, 7)?,
        sealed: row.try_get(8)?,
    })
}

fn read_line(row: &Columns) -> Result<(u64, AuditLine), Fault> {
    let line = AuditLine {
        at: time(row, 1)?,
        actor: Actor {
            name: row.try_get(2)?,
            request_id: row.try_get(3)?,
            remote: row.try_get(4)?,
        },
        action: row.try_get(5)?,
        target: row.try_get(6)?,
        outcome: row.try_get(7)?,
    };
    Ok((unsigned(row, 0)?, line))
}
