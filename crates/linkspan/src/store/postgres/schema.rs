//! The tables, as numbered steps. A step that was published is never changed; a new one is added below it.
//!
//! Times are microseconds since 1970. States are [`super::rows::code`]'s numbers. The tables that grow are partitioned; see
//! [`super::partitions`]. No foreign key: a partition that others refer to could not be dropped.

use tokio_postgres::Client;

use super::fault::Fault;
use super::pool::lock_key;
use crate::store::error::ErrorKind;

const STEPS: &[&str] = &[
    // 1: nearly everything.
    "
    CREATE TABLE jobs (
        id           uuid NOT NULL PRIMARY KEY,
        integration  text NOT NULL,
        caller       text NOT NULL,
        state        int2 NOT NULL,
        version      int8 NOT NULL,
        token        int8 NOT NULL,
        attempts     int4 NOT NULL,
        max_attempts int4 NOT NULL,
        created      int8 NOT NULL,
        updated      int8 NOT NULL,
        due          int8 NOT NULL,
        started      int8,
        finished     int8,
        keep         int8 NOT NULL,
        expires      int8,
        owner        text,
        lease        int8,
        held         bool NOT NULL,
        request_id   text NOT NULL,
        traceparent  text,
        problem      text,
        history      text
    ) PARTITION BY RANGE (id);
    CREATE INDEX jobs_by_state   ON jobs (state, id);
    CREATE INDEX jobs_by_caller  ON jobs (caller, id);
    CREATE INDEX jobs_by_request ON jobs (request_id, id);
    CREATE INDEX jobs_due        ON jobs (integration, due, id) WHERE state IN (0, 2);
    CREATE INDEX jobs_leased     ON jobs (lease) WHERE state = 1;
    CREATE INDEX jobs_ending     ON jobs (state, expires) WHERE state >= 3;

    CREATE TABLE documents (
        id         uuid NOT NULL PRIMARY KEY,
        request    text NOT NULL,
        inline     bytea,
        digest     bytea,
        size       int8,
        media_type text,
        file_name  text
    ) PARTITION BY RANGE (id);
    CREATE TABLE results (
        id     uuid NOT NULL PRIMARY KEY,
        result text NOT NULL
    ) PARTITION BY RANGE (id);

    -- Which jobs' documents are which blobs. Not partitioned: it is asked by digest.
    CREATE TABLE blob_uses (
        digest bytea NOT NULL,
        id     uuid NOT NULL,
        PRIMARY KEY (digest, id)
    );
    CREATE INDEX blob_uses_by_job ON blob_uses (id);

    -- Blobs whose last row may be gone. `erased`: since when such a blob is removed; see `blobs`.
    CREATE TABLE trash (
        digest bytea PRIMARY KEY,
        erased int8
    );

    CREATE TABLE idempotency (
        caller      text NOT NULL,
        integration text NOT NULL,
        key         text NOT NULL,
        fingerprint bytea NOT NULL,
        id          uuid NOT NULL,
        expires     int8 NOT NULL,
        PRIMARY KEY (caller, integration, key)
    );
    CREATE INDEX idempotency_by_job    ON idempotency (id);
    CREATE INDEX idempotency_by_expiry ON idempotency (expires);

    -- How many jobs, and deliveries, are in which state: the sum over the rows. Changes are added as rows, so that no two transactions
    -- wait for each other's count; the rows are summed up now and then.
    CREATE TABLE tallies (
        integration text NOT NULL,
        state       int2 NOT NULL,
        jobs        int8 NOT NULL
    );
    CREATE TABLE delivery_tallies (
        integration text NOT NULL,
        channel     text NOT NULL,
        state       int2 NOT NULL,
        deliveries  int8 NOT NULL
    );

    CREATE TABLE deliveries (
        id          uuid NOT NULL PRIMARY KEY,
        job         uuid NOT NULL,
        caller      text NOT NULL,
        integration text NOT NULL,
        channel     text NOT NULL,
        kind        text NOT NULL,
        receiver    text NOT NULL,
        state       int2 NOT NULL,
        version     int8 NOT NULL,
        token       int8 NOT NULL,
        attempts    int4 NOT NULL,
        created     int8 NOT NULL,
        updated     int8 NOT NULL,
        due         int8 NOT NULL,
        started     int8,
        finished    int8,
        owner       text,
        lease       int8,
        tries       text,
        reason      text,
        superseded  bool NOT NULL
    ) PARTITION BY RANGE (id);
    CREATE INDEX deliveries_by_job      ON deliveries (job);
    CREATE INDEX deliveries_by_state    ON deliveries (state, id);
    CREATE INDEX deliveries_by_endpoint ON deliveries (integration, channel, state, id);
    CREATE INDEX deliveries_due         ON deliveries (integration, channel, due, id) WHERE state = 0;
    CREATE INDEX deliveries_leased      ON deliveries (lease) WHERE state = 1;

    CREATE TABLE pauses (
        integration text NOT NULL,
        channel     text NOT NULL,
        since       int8 NOT NULL,
        reason      text NOT NULL,
        PRIMARY KEY (integration, channel)
    );

    CREATE TABLE keys (
        id      text PRIMARY KEY,
        name    text NOT NULL,
        hash    bytea NOT NULL,
        scopes  text NOT NULL,
        rate    int8,
        created int8 NOT NULL,
        expires int8,
        revoked int8
    );

    CREATE TABLE sessions (
        hash    bytea PRIMARY KEY,
        data    text NOT NULL,
        created int8 NOT NULL,
        expires int8 NOT NULL
    );
    CREATE INDEX sessions_by_expiry ON sessions (expires);

    -- What all gateways on this store agree on.
    CREATE TABLE settled (
        name  text PRIMARY KEY,
        value bytea NOT NULL
    );

    CREATE SEQUENCE audit_seq;
    CREATE TABLE audit (
        seq        int8 NOT NULL DEFAULT nextval('audit_seq'),
        at         int8 NOT NULL,
        actor      text NOT NULL,
        request_id text,
        remote     text,
        action     text NOT NULL,
        target     text NOT NULL,
        outcome    text NOT NULL,
        PRIMARY KEY (seq, at)
    ) PARTITION BY RANGE (at);
    CREATE INDEX audit_by_actor  ON audit (actor, seq);
    CREATE INDEX audit_by_action ON audit (action, seq);

    -- What a probe for space writes and removes.
    CREATE TABLE probe (filler bytea NOT NULL);
    ",
    // 2: attempts of deliveries that the gateway's end cut off.
    "
    ALTER TABLE deliveries ADD COLUMN cut_off int4 NOT NULL DEFAULT 0;
    ",
    // 3: streams, and keys whose secret signs requests.
    "
    -- Who reads which lane of a stream, and how far it is.
    CREATE TABLE lanes (
        stream   text NOT NULL,
        lane     text NOT NULL,
        token    int8 NOT NULL,
        owner    text,
        lease    int8,
        progress text,
        ended    bool NOT NULL,
        updated  int8,
        PRIMARY KEY (stream, lane)
    );

    -- The tokens of all lanes: a lane that was forgotten and comes back gets none that it had.
    CREATE SEQUENCE lane_tokens;

    -- How often which label came out, by minute: the sum over both tables. Changes are added as rows to the second one, so that no two
    -- transactions wait for each other's count; now and then they are added to the first.
    CREATE TABLE labels (
        integration text NOT NULL,
        minute      int8 NOT NULL,
        service     text NOT NULL,
        label       text NOT NULL,
        count       int8 NOT NULL,
        PRIMARY KEY (integration, minute, service, label)
    );
    CREATE INDEX labels_by_minute ON labels (minute);
    CREATE TABLE label_changes (
        integration text NOT NULL,
        minute      int8 NOT NULL,
        service     text NOT NULL,
        label       text NOT NULL,
        count       int8 NOT NULL
    );

    CREATE INDEX jobs_by_integration ON jobs (integration, id);
    CREATE INDEX jobs_failed         ON jobs (integration, id) WHERE state = 4;

    ALTER TABLE keys ADD COLUMN sealed bytea;
    ",
];

/// The version of this program's tables.
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "a handful"
)]
pub(super) const VERSION: i32 = STEPS.len() as i32;

/// What a migration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version of the tables before; 0 where there were none.
    pub from: u32,
    /// The version since.
    pub to: u32,
}

/// Which tables are brought to this program's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// An earlier version's too.
    All,
    /// Only those that are not there yet. An earlier version's are refused: its gateways may be running.
    New,
}

/// Brings the tables of a schema to this program's form, under a lock: of several that start at once, one does it.
pub(super) async fn migrate(
    client: &mut Client,
    schema: &str,
    which: Which,
) -> Result<Migrated, Fault> {
    let tx = client.transaction().await?;
    let key = lock_key(schema, "migrate");
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&key])
        .await?;
    let there = tx
        .query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&schema])
        .await?
        .try_get::<_, bool>(0)?;
    if !there {
        // The name is letters, digits and underscores.
        tx.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    tx.batch_execute(&format!("SET LOCAL search_path = {schema}"))
        .await?;
    let ours = tx
        .query_one("SELECT to_regclass('linkspan_schema') IS NOT NULL", &[])
        .await?
        .try_get::<_, bool>(0)?;
    let from = if ours {
        tx.query_one("SELECT version FROM linkspan_schema", &[])
            .await?
            .try_get(0)?
    } else {
        tx.batch_execute(
            "CREATE TABLE linkspan_schema (version int4 NOT NULL); INSERT INTO linkspan_schema VALUES (0)",
        )
        .await?;
        0_i32
    };
    fits(from, VERSION, which)?;
    let done = usize::try_from(from).map_err(Fault::damaged)?;
    for step in STEPS.iter().skip(done) {
        tx.batch_execute(step).await?;
    }
    if from < VERSION {
        tx.execute("UPDATE linkspan_schema SET version = $1", &[&VERSION])
            .await?;
    }
    tx.commit().await?;
    Ok(Migrated {
        from: u32::try_from(from).map_err(Fault::damaged)?,
        to: VERSION.unsigned_abs(),
    })
}

/// Whether tables of one version may be brought to another.
fn fits(from: i32, to: i32, which: Which) -> Result<(), Fault> {
    if from > to {
        return Err(Fault::Kind(
            ErrorKind::Newer,
            "the tables are of a later version of linkspan",
        ));
    }
    if which == Which::New && 0 < from && from < to {
        return Err(Fault::Kind(
            ErrorKind::Unusable,
            "the tables are of an earlier version of linkspan; when all gateways on them can be replaced, run linkspan migrate",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_upgrades_tables_that_are_there() {
        let cases = [
            (0, Which::All, None),
            (0, Which::New, None),
            (1, Which::All, None),
            (1, Which::New, Some(ErrorKind::Unusable)),
            (2, Which::New, None),
            (3, Which::All, Some(ErrorKind::Newer)),
            (3, Which::New, Some(ErrorKind::Newer)),
        ];
        for (from, which, refused) in cases {
            let kind = fits(from, 2, which).err().map(|fault| fault.kind());
            assert_eq!(kind, refused, "from {from}, {which:?}");
        }
    }
}
