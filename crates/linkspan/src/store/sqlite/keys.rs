//! [`KeyStore`] and [`AuditLog`] on SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::SqliteStore;
use super::rows::{optional_time, time};
use super::writer::{Need, Scope};
use crate::store::audit::{Actor, AuditLine, AuditLog, AuditPage, AuditQuery, name_and_id};
use crate::store::error::StoreError;
use crate::store::keys::{KeyRecord, KeyStore};

const COLUMNS: &str = "id, name, hash, scopes, rate, created, expires, revoked, sealed";

#[async_trait]
impl KeyStore for SqliteStore {
    async fn insert_key(&self, key: KeyRecord, actor: Actor) -> Result<bool, StoreError> {
        self.writer
            .write("add a key", Need::Space, move |scope| {
                let added = scope
                    .connection
                    .prepare_cached(&format!(
                        "INSERT OR IGNORE INTO keys ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
                    ))?
                    .execute(params![
                        key.id,
                        key.name,
                        key.hash,
                        key.scopes,
                        key.rate,
                        key.created.as_microsecond(),
                        key.expires.map(Timestamp::as_microsecond),
                        key.revoked.map(Timestamp::as_microsecond),
                        key.sealed,
                    ])?;
                let name = (added > 0).then_some(&*key.name);
                settle(scope, "key.add", name, &key.id, &actor, key.created)
            })
            .await
    }

    async fn find_key(&self, id: &str) -> Result<Option<KeyRecord>, StoreError> {
        let id = id.to_owned();
        self.readers
            .read("look up a key", move |connection| {
                connection
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE id = ?1"))?
                    .query_row([&id], read_key)
                    .optional()
            })
            .await
    }

    async fn list_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.readers
            .read("list the keys", |connection| {
                connection
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM keys ORDER BY created, id"))?
                    .query_map([], read_key)?
                    .collect()
            })
            .await
    }

    async fn revoke_key(&self, id: &str, actor: Actor, now: Timestamp) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.writer
            .write("revoke a key", Need::Little, move |scope| {
                let name: Option<String> = scope
                    .connection
                    .prepare_cached(
                        "UPDATE keys SET revoked = ?2 WHERE id = ?1 AND revoked IS NULL RETURNING name",
                    )?
                    .query_row(params![id, now.as_microsecond()], |row| row.get(0))
                    .optional()?;
                settle(scope, "key.revoke", name.as_deref(), &id, &actor, now)
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
        let id = id.to_owned();
        self.writer
            .write("set a key's expiry", Need::Little, move |scope| {
                let name: Option<String> = scope
                    .connection
                    .prepare_cached("UPDATE keys SET expires = ?2 WHERE id = ?1 RETURNING name")?
                    .query_row(params![id, expires.map(Timestamp::as_microsecond)], |row| {
                        row.get(0)
                    })
                    .optional()?;
                settle(scope, "key.expire", name.as_deref(), &id, &actor, now)
            })
            .await
    }
}

#[async_trait]
impl AuditLog for SqliteStore {
    async fn append_audit(&self, line: AuditLine) -> Result<(), StoreError> {
        self.writer
            .write("write an audit line", Need::Space, move |scope| {
                write_audit(scope, &line)
            })
            .await
    }

    async fn list_audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError> {
        self.readers
            .read("list the audit lines", move |connection| {
                list(connection, &query)
            })
            .await
    }
}

fn list(connection: &Connection, query: &AuditQuery) -> rusqlite::Result<AuditPage> {
    let limit = query.limit.clamp(1, 1000) as usize;
    let mut conditions = vec!["1"];
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut narrow = |condition, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(value);
        }
    };
    let text = |text: &String| Box::new(text.clone()) as Box<dyn ToSql>;
    let number = |number: i64| Box::new(number) as Box<dyn ToSql>;
    narrow("actor = ?", query.actor.as_ref().map(text));
    narrow("action = ?", query.action.as_ref().map(text));
    narrow("at >= ?", query.from.map(|at| number(at.as_microsecond())));
    narrow("at < ?", query.until.map(|at| number(at.as_microsecond())));
    let after = query
        .after
        .map(|after| i64::try_from(after).unwrap_or(i64::MAX));
    narrow("seq < ?", after.map(number));
    // One more than asked for says whether there is a next page.
    let statement = format!(
        "SELECT seq, at, actor, request_id, remote, action, target, outcome FROM audit WHERE {} ORDER BY seq DESC LIMIT {}",
        conditions.join(" AND "),
        limit + 1
    );
    let mut lines = connection
        .prepare_cached(&statement)?
        .query_map(params_from_iter(values), read_line)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let more = lines.len() > limit;
    lines.truncate(limit);
    let next = lines.last().filter(|_| more).map(|(seq, _)| *seq);
    Ok(AuditPage {
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        next,
    })
}

fn read_line(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, AuditLine)> {
    let line = AuditLine {
        at: time(row, 1)?,
        actor: Actor {
            name: row.get(2)?,
            request_id: row.get(3)?,
            remote: row.get(4)?,
        },
        action: row.get(5)?,
        target: row.get(6)?,
        outcome: row.get(7)?,
    };
    Ok((row.get(0)?, line))
}

/// Writes an audit line in the change's transaction.
pub(super) fn write_audit(scope: &Scope<'_>, line: &AuditLine) -> rusqlite::Result<()> {
    scope
        .connection
        .prepare_cached(
            "INSERT INTO audit (at, actor, request_id, remote, action, target, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            line.at.as_microsecond(),
            line.actor.name,
            line.actor.request_id,
            line.actor.remote,
            line.action,
            line.target,
            line.outcome,
        ])?;
    Ok(())
}

/// Writes the audit line of a change of the key with this name, where there was one.
fn settle(
    scope: &Scope<'_>,
    action: &str,
    name: Option<&str>,
    id: &str,
    actor: &Actor,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let Some(name) = name else {
        return Ok(false);
    };
    write_audit(
        scope,
        &AuditLine {
            at: now,
            actor: actor.clone(),
            action: action.to_owned(),
            target: name_and_id(name, id),
            outcome: "done".to_owned(),
        },
    )?;
    Ok(true)
}

fn read_key(row: &rusqlite::Row<'_>) -> rusqlite::Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        hash: row.get(2)?,
        scopes: row.get(3)?,
        rate: row.get(4)?,
        created: time(row, 5)?,
        expires: optional_time(row, 6)?,
        revoked: optional_time(row, 7)?,
        sealed: row.get(8)?,
    })
}
