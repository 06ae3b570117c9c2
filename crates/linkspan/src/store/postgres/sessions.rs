//! [`SessionStore`] on PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::Row as Columns;

use super::PostgresStore;
use super::fault::Fault;
use super::pool::{Change, Scope, query};
use super::rows::{micro, text, time};
use crate::store::error::StoreError;
use crate::store::sessions::{SessionRecord, SessionStore};

#[async_trait]
impl SessionStore for PostgresStore {
    async fn insert_session(&self, session: SessionRecord) -> Result<(), StoreError> {
        self.db.change(session).await
    }

    async fn find_session(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<SessionRecord>, StoreError> {
        self.db
            .read("look up a session", move |client| async move {
                let rows = query(
                    &client,
                    "SELECT hash, data, created, expires FROM sessions WHERE hash = $1 AND expires > $2",
                    &[&&hash[..], &micro(now)],
                )
                .await?;
                rows.first().map(read_session).transpose()
            })
            .await
    }

    async fn remove_session(&self, hash: [u8; 32]) -> Result<Option<SessionRecord>, StoreError> {
        self.db.change(Remove(hash)).await
    }

    async fn settle(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let name = text(name);
        self.db.change(Settle { name, value }).await
    }
}

struct Remove([u8; 32]);

struct Settle {
    name: String,
    value: Vec<u8>,
}

impl Change for SessionRecord {
    type Out = ();
    const DOING: &'static str = "keep a session";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        scope
            .execute(
                "INSERT INTO sessions (hash, data, created, expires) VALUES ($1, $2, $3, $4)",
                &[
                    &&self.hash[..],
                    &text(&self.data),
                    &micro(self.created),
                    &micro(self.expires),
                ],
            )
            .await?;
        Ok(())
    }
}

impl Change for Remove {
    type Out = Option<SessionRecord>;
    const DOING: &'static str = "remove a session";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Option<SessionRecord>, Fault> {
        let rows = scope
            .query(
                "DELETE FROM sessions WHERE hash = $1 RETURNING hash, data, created, expires",
                &[&&self.0[..]],
            )
            .await?;
        rows.first().map(read_session).transpose()
    }
}

impl Change for Settle {
    type Out = Vec<u8>;
    const DOING: &'static str = "settle what the gateways agree on";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<u8>, Fault> {
        // Of several at once, the later ones wait here for the first one's commit, and see its value below.
        scope
            .execute(
                "INSERT INTO settled (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                &[&self.name, &self.value],
            )
            .await?;
        let rows = scope
            .query("SELECT value FROM settled WHERE name = $1", &[&self.name])
            .await?;
        let row = rows
            .first()
            .ok_or_else(|| Fault::damaged("a settled value is gone"))?;
        Ok(row.try_get(0)?)
    }
}

fn read_session(row: &Columns) -> Result<SessionRecord, Fault> {
    let hash: &[u8] = row.try_get(0)?;
    Ok(SessionRecord {
        hash: hash.try_into().map_err(Fault::damaged)?,
        data: row.try_get(1)?,
        created: time(row, 2)?,
        expires: time(row, 3)?,
    })
}
