//! The tables, as numbered steps. A step that was published is never changed; a new one is added below it.
//!
//! Times are microseconds since 1970. States are [`super::rows::code`]'s numbers: 0 queued, 1 running, 2 waiting, 3 succeeded,
//! 4 failed, 5 cancelled, 6 expired; a delivery's: 0 pending, 1 sending, 2 delivered, 3 dead, 4 paused.

use rusqlite::{Connection, TransactionBehavior};

/// What keeps `linkspan` from using a file that is another program's: "lspn".
pub(super) const APPLICATION: i32 = 0x6c73_706e;

pub(super) const STEPS: &[&str] = &[
    // 1: jobs, keys, audit.
    "
    CREATE TABLE jobs (
        seq          INTEGER PRIMARY KEY,
        id           BLOB NOT NULL UNIQUE,
        integration  TEXT NOT NULL,
        caller       TEXT NOT NULL,
        state        INTEGER NOT NULL,
        version      INTEGER NOT NULL,
        token        INTEGER NOT NULL,
        attempts     INTEGER NOT NULL,
        max_attempts INTEGER NOT NULL,
        created      INTEGER NOT NULL,
        updated      INTEGER NOT NULL,
        due          INTEGER NOT NULL,
        started      INTEGER,
        finished     INTEGER,
        keep         INTEGER NOT NULL,
        expires      INTEGER,
        owner        TEXT,
        lease        INTEGER,
        held         INTEGER NOT NULL,
        request_id   TEXT NOT NULL,
        traceparent  TEXT,
        problem      TEXT
    ) STRICT;
    CREATE INDEX jobs_by_state  ON jobs (state, id);
    CREATE INDEX jobs_by_caller ON jobs (caller, id);
    CREATE INDEX jobs_due       ON jobs (integration, due, seq) WHERE state IN (0, 2);
    CREATE INDEX jobs_leased    ON jobs (lease) WHERE state = 1;
    CREATE INDEX jobs_ending    ON jobs (state, expires) WHERE expires IS NOT NULL;

    -- How many jobs are in which state, so that the metrics need not count a million rows.
    CREATE TABLE tallies (
        integration TEXT NOT NULL,
        state       INTEGER NOT NULL,
        jobs        INTEGER NOT NULL,
        PRIMARY KEY (integration, state)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER jobs_come AFTER INSERT ON jobs BEGIN
        INSERT INTO tallies VALUES (new.integration, new.state, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    END;
    CREATE TRIGGER jobs_move AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
        UPDATE tallies SET jobs = jobs - 1 WHERE integration = old.integration AND state = old.state;
        INSERT INTO tallies VALUES (new.integration, new.state, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    END;
    CREATE TRIGGER jobs_go AFTER DELETE ON jobs BEGIN
        UPDATE tallies SET jobs = jobs - 1 WHERE integration = old.integration AND state = old.state;
    END;

    CREATE TABLE documents (
        seq        INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
        request    TEXT NOT NULL,
        inline     BLOB,
        digest     BLOB,
        size       INTEGER,
        media_type TEXT,
        file_name  TEXT
    ) STRICT;
    CREATE INDEX documents_by_digest ON documents (digest) WHERE digest IS NOT NULL;

    CREATE TABLE results (
        seq    INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
        result TEXT NOT NULL
    ) STRICT;

    CREATE TABLE idempotency (
        caller      TEXT NOT NULL,
        integration TEXT NOT NULL,
        key         TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        seq         INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        expires     INTEGER NOT NULL,
        PRIMARY KEY (caller, integration, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX idempotency_by_job    ON idempotency (seq);
    CREATE INDEX idempotency_by_expiry ON idempotency (expires);

    -- Blobs whose last row may be gone; the sweep removes those that no row names.
    CREATE TABLE trash (digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;

    CREATE TABLE keys (
        id      TEXT PRIMARY KEY,
        name    TEXT NOT NULL,
        hash    BLOB NOT NULL,
        scopes  TEXT NOT NULL,
        rate    INTEGER,
        created INTEGER NOT NULL,
        expires INTEGER,
        revoked INTEGER
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE audit (
        seq        INTEGER PRIMARY KEY AUTOINCREMENT,
        at         INTEGER NOT NULL,
        actor      TEXT NOT NULL,
        request_id TEXT,
        remote     TEXT,
        action     TEXT NOT NULL,
        target     TEXT NOT NULL,
        outcome    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_time ON audit (at);

    -- What a probe for space writes and removes.
    CREATE TABLE probe (filler BLOB NOT NULL) STRICT;
    ",
    // 2: deliveries, sessions, what jobs remember of their attempts.
    "
    ALTER TABLE jobs ADD COLUMN history TEXT;

    CREATE TABLE deliveries (
        seq         INTEGER PRIMARY KEY,
        id          BLOB NOT NULL UNIQUE,
        job         INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        integration TEXT NOT NULL,
        channel     TEXT NOT NULL,
        caller      TEXT NOT NULL,
        kind        TEXT NOT NULL,
        receiver    TEXT NOT NULL,
        state       INTEGER NOT NULL,
        version     INTEGER NOT NULL,
        token       INTEGER NOT NULL,
        attempts    INTEGER NOT NULL,
        created     INTEGER NOT NULL,
        updated     INTEGER NOT NULL,
        due         INTEGER NOT NULL,
        finished    INTEGER,
        owner       TEXT,
        lease       INTEGER,
        tries       TEXT,
        reason      TEXT,
        superseded  INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX deliveries_by_job      ON deliveries (job);
    CREATE INDEX deliveries_by_state    ON deliveries (state, id);
    CREATE INDEX deliveries_by_caller   ON deliveries (caller, id);
    CREATE INDEX deliveries_by_endpoint ON deliveries (integration, channel, id);
    CREATE INDEX deliveries_due         ON deliveries (integration, channel, due, seq) WHERE state = 0;
    CREATE INDEX deliveries_dead        ON deliveries (integration, channel, id) WHERE state = 3;
    CREATE INDEX deliveries_paused      ON deliveries (integration, channel) WHERE state = 4;

    -- How many deliveries of which endpoint are in which state.
    CREATE TABLE delivery_tallies (
        integration TEXT NOT NULL,
        channel     TEXT NOT NULL,
        state       INTEGER NOT NULL,
        deliveries  INTEGER NOT NULL,
        PRIMARY KEY (integration, channel, state)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER deliveries_come AFTER INSERT ON deliveries BEGIN
        INSERT INTO delivery_tallies VALUES (new.integration, new.channel, new.state, 1)
            ON CONFLICT DO UPDATE SET deliveries = deliveries + 1;
    END;
    CREATE TRIGGER deliveries_move AFTER UPDATE OF state ON deliveries WHEN old.state <> new.state BEGIN
        UPDATE delivery_tallies SET deliveries = deliveries - 1
            WHERE integration = old.integration AND channel = old.channel AND state = old.state;
        INSERT INTO delivery_tallies VALUES (new.integration, new.channel, new.state, 1)
            ON CONFLICT DO UPDATE SET deliveries = deliveries + 1;
    END;
    CREATE TRIGGER deliveries_go AFTER DELETE ON deliveries BEGIN
        UPDATE delivery_tallies SET deliveries = deliveries - 1
            WHERE integration = old.integration AND channel = old.channel AND state = old.state;
    END;

    -- Endpoints that are paused.
    CREATE TABLE pauses (
        integration TEXT NOT NULL,
        channel     TEXT NOT NULL,
        since       INTEGER NOT NULL,
        reason      TEXT NOT NULL,
        PRIMARY KEY (integration, channel)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE sessions (
        hash    BLOB PRIMARY KEY,
        data    TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_by_expiry ON sessions (expires);

    CREATE INDEX audit_by_actor  ON audit (actor, seq);
    CREATE INDEX audit_by_action ON audit (action, seq);

    -- What all gateways on this store agree on.
    CREATE TABLE settings (
        name  TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    // 3: attempts of deliveries that the gateway's end cut off.
    "
    ALTER TABLE deliveries ADD COLUMN cut_off INTEGER NOT NULL DEFAULT 0;
    ",
    // 4: streams, and keys whose secret signs requests.
    "
    -- Who reads which lane of a stream, and how far it is.
    CREATE TABLE lanes (
        stream   TEXT NOT NULL,
        lane     TEXT NOT NULL,
        token    INTEGER NOT NULL,
        owner    TEXT,
        lease    INTEGER,
        progress TEXT,
        ended    INTEGER NOT NULL,
        updated  INTEGER,
        PRIMARY KEY (stream, lane)
    ) STRICT, WITHOUT ROWID;
    -- The latest token of all lanes: a lane that was forgotten and comes back gets none that it had.
    CREATE TABLE lane_tokens (latest INTEGER NOT NULL) STRICT;
    INSERT INTO lane_tokens VALUES (0);

    -- How often which label came out, by minute.
    CREATE TABLE labels (
        integration TEXT NOT NULL,
        minute      INTEGER NOT NULL,
        service     TEXT NOT NULL,
        label       TEXT NOT NULL,
        count       INTEGER NOT NULL,
        PRIMARY KEY (integration, minute, service, label)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX labels_by_minute ON labels (minute);

    CREATE INDEX jobs_by_integration ON jobs (integration, id);
    CREATE INDEX jobs_failed         ON jobs (integration, id) WHERE state = 4;
    -- What became of a record: the callers of such jobs begin with that word.
    CREATE INDEX jobs_by_record      ON jobs (request_id, id) WHERE caller >= 'stream:' AND caller < 'stream;';

    ALTER TABLE keys ADD COLUMN sealed BLOB;
    ",
];

/// Why a file's tables cannot be used.
pub(super) enum Unfit {
    /// A later program wrote them.
    Newer,
    /// Another program wrote them.
    Foreign,
    /// SQLite says no.
    Failed(rusqlite::Error),
}

/// Brings the tables to this program's form.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Unfit> {
    // Each step reads the version again under the write lock: the gateway and the command line may start at the same time.
    loop {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: usize = step.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let application: i32 = step.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let tables: i64 =
            step.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if application != APPLICATION && (version > 0 || tables > 0) {
            return Err(Unfit::Foreign);
        }
        let Some(statements) = STEPS.get(version) else {
            return if version == STEPS.len() {
                Ok(())
            } else {
                Err(Unfit::Newer)
            };
        };
        step.execute_batch(statements)?;
        step.pragma_update(None, "application_id", APPLICATION)?;
        step.pragma_update(None, "user_version", version + 1)?;
        step.commit()?;
    }
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}
