//! [`SessionStore`] on SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::rows::time;
use super::writer::Need;
use crate::store::error::StoreError;
use crate::store::sessions::{SessionRecord, SessionStore};

#[async_trait]
impl SessionStore for SqliteStore {
    async fn insert_session(&self, session: SessionRecord) -> Result<(), StoreError> {
        self.writer
            .write("keep a session", Need::Space, move |scope| {
                scope
                    .connection
                    .prepare_cached("INSERT INTO sessions (hash, data, created, expires) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![
                        session.hash,
                        session.data,
                        session.created.as_microsecond(),
                        session.expires.as_microsecond(),
                    ])?;
                Ok(())
            })
            .await
    }

    async fn find_session(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<SessionRecord>, StoreError> {
        self.readers
            .read("look up a session", move |connection| {
                connection
                    .prepare_cached("SELECT hash, data, created, expires FROM sessions WHERE hash = ?1 AND expires > ?2")?
                    .query_row(params![hash, now.as_microsecond()], read_session)
                    .optional()
            })
            .await
    }

    async fn remove_session(&self, hash: [u8; 32]) -> Result<Option<SessionRecord>, StoreError> {
        self.writer
            .write("remove a session", Need::Little, move |scope| {
                scope
                    .connection
                    .prepare_cached("DELETE FROM sessions WHERE hash = ?1 RETURNING hash, data, created, expires")?
                    .query_row([hash], read_session)
                    .optional()
            })
            .await
    }

    async fn settle(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        const DOING: &str = "settle what the gateways agree on";
        let name = name.to_owned();
        let asked = name.clone();
        let kept = self
            .readers
            .read(DOING, move |connection| {
                setting(connection, &asked).optional()
            })
            .await?;
        if let Some(kept) = kept {
            return Ok(kept);
        }
        self.writer
            .write(DOING, Need::Space, move |scope| {
                scope
                    .connection
                    .prepare_cached("INSERT OR IGNORE INTO settings (name, value) VALUES (?1, ?2)")?
                    .execute(params![name, value])?;
                setting(scope.connection, &name)
            })
            .await
    }
}

fn setting(connection: &Connection, name: &str) -> rusqlite::Result<Vec<u8>> {
    connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
}

fn read_session(row: &rusqlite::Row<'_>) -> rusqlite::Result<SessionRecord> {
    Ok(SessionRecord {
        hash: row.get(0)?,
        data: row.get(1)?,
        created: time(row, 2)?,
        expires: time(row, 3)?,
    })
}
