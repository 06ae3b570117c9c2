//! [`StreamStore`] on SQLite.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::deliveries::outbox::send_out;
use super::jobs::store_request;
use super::queue::store_result;
use super::results;
use super::rows::{Row, optional_time, time};
use super::writer::{Need, Scope};
use crate::store::error::StoreError;
use crate::store::streams::{
    Hold, Label, LabelCount, LabelQuery, LaneStatus, RecordOutcome, ResultPage, ResultQuery,
    StreamCommit, StreamCommitted, StreamStore, TOLD, TakeLanes, Takeable, TakenLane,
};

#[async_trait]
impl StreamStore for SqliteStore {
    async fn take_lanes(&self, take: TakeLanes) -> Result<Vec<TakenLane>, StoreError> {
        self.writer
            .write("take lanes", Need::Space, move |scope| {
                let mut taken = Vec::new();
                for lane in take.distinct() {
                    taken.extend(take_one(scope.connection, &take, lane)?);
                }
                Ok(taken)
            })
            .await
    }

    async fn renew_lanes(
        &self,
        stream: &str,
        held: Vec<Hold>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<Hold>, StoreError> {
        let stream = stream.to_owned();
        let until = until(now, lease);
        self.writer
            .write("renew the leases of lanes", Need::Little, move |scope| {
                let mut renew = scope.connection.prepare_cached(
                    "UPDATE lanes SET lease = ?1 WHERE stream = ?2 AND lane = ?3 AND token = ?4 AND owner IS NOT NULL",
                )?;
                let mut lost = Vec::new();
                for hold in &held {
                    if renew.execute(params![until, stream, hold.lane, hold.token])? == 0 {
                        lost.push(hold.clone());
                    }
                }
                Ok(lost)
            })
            .await
    }

    async fn release_lanes(&self, stream: &str, held: Vec<Hold>) -> Result<(), StoreError> {
        let stream = stream.to_owned();
        self.writer
            .write("release lanes", Need::Little, move |scope| {
                let mut release = scope.connection.prepare_cached(
                    "UPDATE lanes SET owner = NULL, lease = NULL WHERE stream = ?1 AND lane = ?2 AND token = ?3",
                )?;
                for hold in &held {
                    release.execute(params![stream, hold.lane, hold.token])?;
                }
                Ok(())
            })
            .await
    }

    async fn commit_stream(&self, commit: StreamCommit) -> Result<StreamCommitted, StoreError> {
        self.writer
            .write("commit a stream", Need::Space, move |scope| {
                store(scope, &commit)
            })
            .await
    }

    async fn lanes(&self, stream: &str) -> Result<Vec<LaneStatus>, StoreError> {
        let stream = stream.to_owned();
        self.readers
            .read("list lanes", move |connection| {
                connection
                    .prepare_cached(
                        "SELECT lane, token, owner, lease, progress, ended, updated FROM lanes WHERE stream = ?1 ORDER BY lane",
                    )?
                    .query_map([&stream], |row| {
                        Ok(LaneStatus {
                            lane: row.get(0)?,
                            token: row.get(1)?,
                            owner: row.get(2)?,
                            until: optional_time(row, 3)?,
                            progress: row.get(4)?,
                            ended: row.get(5)?,
                            updated: optional_time(row, 6)?,
                        })
                    })?
                    .collect()
            })
            .await
    }

    async fn forget_lanes(&self, stream: &str, lanes: Vec<String>) -> Result<(), StoreError> {
        let stream = stream.to_owned();
        self.writer
            .write("forget lanes", Need::Little, move |scope| {
                let mut forget = scope.connection.prepare_cached(
                    "DELETE FROM lanes WHERE stream = ?1 AND lane = ?2 AND owner IS NULL",
                )?;
                for lane in &lanes {
                    forget.execute([&stream, lane])?;
                }
                Ok(())
            })
            .await
    }

    async fn list_results(&self, query: ResultQuery) -> Result<ResultPage, StoreError> {
        self.readers
            .read("list results", move |connection| {
                results::list(connection, &query)
            })
            .await
    }

    async fn label_counts(&self, query: LabelQuery) -> Result<Vec<LabelCount>, StoreError> {
        self.readers
            .read("count labels", move |connection| {
                connection
                    .prepare_cached(
                        "SELECT minute, service, label, count FROM labels WHERE integration = ?1 AND minute >= ?2 AND minute < ?3 \
                         ORDER BY minute, service, label",
                    )?
                    .query_map(
                        params![
                            query.integration,
                            query.from.as_microsecond(),
                            query.until.as_microsecond()
                        ],
                        |row| {
                            Ok(LabelCount {
                                minute: time(row, 0)?,
                                label: Label {
                                    service: row.get(1)?,
                                    label: row.get(2)?,
                                },
                                count: row.get(3)?,
                            })
                        },
                    )?
                    .collect()
            })
            .await
    }
}

/// Takes one lane, where it can be taken.
fn take_one(
    connection: &Connection,
    take: &TakeLanes,
    lane: &str,
) -> rusqlite::Result<Option<TakenLane>> {
    let known = connection
        .prepare_cached(
            "SELECT owner, lease, progress, ended FROM lanes WHERE stream = ?1 AND lane = ?2",
        )?
        .query_row([&take.stream, lane], |row| {
            let owner: Option<String> = row.get(0)?;
            let is_free =
                owner.is_none() || optional_time(row, 1)?.is_none_or(|until| until <= take.now);
            Ok((is_free, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let (is_free, progress, ended) = known.unwrap_or((true, None, false));
    if !is_free && take.which == Takeable::Free {
        return Ok(None);
    }
    let token = connection
        .prepare_cached("UPDATE lane_tokens SET latest = latest + 1 RETURNING latest")?
        .query_row([], |row| row.get(0))?;
    connection
        .prepare_cached(
            "INSERT INTO lanes (stream, lane, token, owner, lease, ended) VALUES (?1, ?2, ?3, ?4, ?5, FALSE) \
             ON CONFLICT DO UPDATE SET token = excluded.token, owner = excluded.owner, lease = excluded.lease",
        )?
        .execute(params![
            take.stream,
            lane,
            token,
            take.owner,
            until(take.now, take.lease)
        ])?;
    Ok(Some(TakenLane {
        hold: Hold {
            lane: lane.to_owned(),
            token,
        },
        progress,
        ended,
    }))
}

/// Stores a commit, or names the lanes that are somebody else's.
fn store(scope: &mut Scope<'_>, commit: &StreamCommit) -> rusqlite::Result<StreamCommitted> {
    let mut fenced = Vec::new();
    for lane in &commit.lanes {
        let hold = &lane.hold;
        let is_ours = scope
            .connection
            .prepare_cached("SELECT 1 FROM lanes WHERE stream = ?1 AND lane = ?2 AND token = ?3")?
            .exists(params![commit.stream, hold.lane, hold.token])?;
        if !is_ours {
            fenced.push(hold.lane.clone());
        }
    }
    if !fenced.is_empty() {
        return Ok(StreamCommitted::Fenced(fenced));
    }
    let untold = commit.outcomes.len().saturating_sub(TOLD);
    for (place, outcome) in commit.outcomes.iter().enumerate() {
        let told = scope.effects.events.len();
        store_outcome(scope, commit, outcome)?;
        if place < untold {
            scope.effects.events.truncate(told);
        }
    }
    let mut count = scope.connection.prepare_cached(
        "INSERT INTO labels (integration, minute, service, label, count) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    for ((integration, label), times) in commit.labels() {
        count.execute(params![
            integration,
            commit.minute(),
            label.service,
            label.label,
            times
        ])?;
    }
    let mut progress = scope.connection.prepare_cached(
        "UPDATE lanes SET progress = coalesce(?3, progress), ended = ?4, updated = ?5 WHERE stream = ?1 AND lane = ?2",
    )?;
    for lane in &commit.lanes {
        progress.execute(params![
            commit.stream,
            lane.hold.lane,
            lane.progress,
            lane.ended,
            commit.now.as_microsecond()
        ])?;
    }
    Ok(StreamCommitted::Done)
}

/// Stores what came of one record.
fn store_outcome(
    scope: &mut Scope<'_>,
    commit: &StreamCommit,
    outcome: &RecordOutcome,
) -> rusqlite::Result<()> {
    let mut row = Row {
        seq: 0,
        token: 1,
        keep: outcome.keep,
        lease: None,
        job: outcome.job(&commit.stream, commit.now),
    };
    row.insert(scope)?;
    store_result(scope, &row, &outcome.result)?;
    if let Some(request) = outcome.stored_request() {
        store_request(scope, row.seq, request, outcome.document.as_ref())?;
    }
    send_out(scope, &row, &outcome.deliveries, commit.now)
}

fn until(now: Timestamp, lease: SignedDuration) -> i64 {
    now.checked_add(lease)
        .unwrap_or(Timestamp::MAX)
        .as_microsecond()
}
