//! Who reads which lane. Leases are kept by the server's clock, as those of jobs are.
//!
//! Whoever changes lanes locks their rows first, by name, and then looks at their tokens: from then on nobody takes them. Lanes are
//! locked before everything else.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::fault::Fault;
use super::pool::{Change, Scope};
use super::rows::{self, micro, optional_time, text};
use crate::store::streams::{Hold, TakeLanes, Takeable, TakenLane};

/// Leases to prolong.
pub(super) struct Renew {
    pub(super) stream: String,
    pub(super) held: Vec<Hold>,
    pub(super) lease: SignedDuration,
    pub(super) now: Timestamp,
}

/// Lanes to let go.
pub(super) struct Release {
    pub(super) stream: String,
    pub(super) held: Vec<Hold>,
}

/// Lanes that are no more.
pub(super) struct Forget {
    pub(super) stream: String,
    pub(super) lanes: Vec<String>,
}

/// A lane's row, locked.
pub(super) struct Lane {
    pub(super) token: u64,
    owner: Option<String>,
    lease: Option<Timestamp>,
    progress: Option<String>,
    ended: bool,
}

/// The rows of lanes, locked for the transaction, by name.
pub(super) async fn lock<'l>(
    scope: &Scope<'_>,
    stream: &str,
    lanes: impl Iterator<Item = &'l str>,
) -> Result<HashMap<String, Lane>, Fault> {
    let lanes: Vec<String> = lanes.map(text).collect();
    // In the order of the names, so that two transactions do not wait for each other crosswise.
    let found = scope
        .query(
            "SELECT lane, token, owner, lease, progress, ended FROM lanes WHERE stream = $1 AND lane = ANY($2) \
             ORDER BY lane FOR UPDATE",
            &[&stream, &lanes],
        )
        .await?;
    found
        .iter()
        .map(|row| {
            let lane = Lane {
                token: rows::unsigned(row, 1)?,
                owner: row.try_get(2)?,
                lease: optional_time(row, 3)?,
                progress: row.try_get(4)?,
                ended: row.try_get(5)?,
            };
            Ok((row.try_get(0)?, lane))
        })
        .collect()
}

/// Those of the lanes that are still held under these tokens, locked.
async fn still_held<'h>(
    scope: &Scope<'_>,
    stream: &str,
    held: &'h [Hold],
) -> Result<HashSet<&'h Hold>, Fault> {
    let lanes = held.iter().map(|hold| hold.lane.as_str());
    let locked = lock(scope, stream, lanes).await?;
    let is_ours = |hold: &&Hold| {
        locked
            .get(&text(&hold.lane))
            .is_some_and(|lane| lane.token == hold.token && lane.owner.is_some())
    };
    Ok(held.iter().filter(is_ours).collect())
}

fn names<'h>(held: impl IntoIterator<Item = &'h Hold>) -> Vec<String> {
    held.into_iter().map(|hold| text(&hold.lane)).collect()
}

impl Change for TakeLanes {
    type Out = Vec<TakenLane>;
    const DOING: &'static str = "take lanes";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<TakenLane>, Fault> {
        let (stream, asked) = (text(&self.stream), self.distinct());
        let lanes: Vec<String> = asked.iter().map(|lane| text(lane)).collect();
        // A new lane has a row before it is taken: of two who come to it at once, the second waits.
        scope
            .execute(
                "INSERT INTO lanes (stream, lane, token, ended) SELECT $1, lane, 0, false FROM unnest($2::text[]) AS n (lane) \
                 ORDER BY lane ON CONFLICT DO NOTHING",
                &[&stream, &lanes],
            )
            .await?;
        let mut locked = lock(scope, &stream, asked.iter().copied()).await?;
        if self.which == Takeable::Free {
            let now = scope.db.by_server(self.now);
            locked.retain(|_, lane| {
                lane.owner.is_none() || lane.lease.is_none_or(|until| until <= now)
            });
        }
        let taken: Vec<&String> = locked.keys().collect();
        let until = scope.db.by_server(self.now).checked_add(self.lease);
        // Under the locks: whose token is later, took it later.
        let rows = scope
            .query(
                "UPDATE lanes SET token = nextval('lane_tokens'), owner = $3, lease = $4 WHERE stream = $1 AND lane = ANY($2) \
                 RETURNING lane, token",
                &[
                    &stream,
                    &taken,
                    &text(&self.owner),
                    &micro(until.unwrap_or(Timestamp::MAX)),
                ],
            )
            .await?;
        let tokens = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, rows::unsigned(row, 1)?)))
            .collect::<Result<HashMap<String, u64>, Fault>>()?;
        let one = |lane: &&str| {
            let name = text(lane);
            let before = locked.get(&name)?;
            Some(TakenLane {
                hold: Hold {
                    lane: (*lane).to_owned(),
                    token: *tokens.get(&name)?,
                },
                progress: before.progress.clone(),
                ended: before.ended,
            })
        };
        Ok(asked.iter().filter_map(one).collect())
    }
}

impl Change for Renew {
    type Out = Vec<Hold>;
    const DOING: &'static str = "renew the leases of lanes";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<Hold>, Fault> {
        let held = still_held(scope, &self.stream, &self.held).await?;
        let until = scope.db.by_server(self.now).checked_add(self.lease);
        scope
            .execute(
                "UPDATE lanes SET lease = $3 WHERE stream = $1 AND lane = ANY($2)",
                &[
                    &self.stream,
                    &names(held.iter().copied()),
                    &micro(until.unwrap_or(Timestamp::MAX)),
                ],
            )
            .await?;
        let lost = self.held.iter().filter(|hold| !held.contains(hold));
        Ok(lost.cloned().collect())
    }
}

impl Change for Release {
    type Out = ();
    const DOING: &'static str = "release lanes";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        let held = still_held(scope, &self.stream, &self.held).await?;
        scope
            .execute(
                "UPDATE lanes SET owner = NULL, lease = NULL WHERE stream = $1 AND lane = ANY($2)",
                &[&self.stream, &names(held)],
            )
            .await?;
        Ok(())
    }
}

impl Change for Forget {
    type Out = ();
    const DOING: &'static str = "forget lanes";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        let mut locked = lock(scope, &self.stream, self.lanes.iter().map(String::as_str)).await?;
        locked.retain(|_, lane| lane.owner.is_none());
        let lanes: Vec<String> = locked.into_keys().collect();
        scope
            .execute(
                "DELETE FROM lanes WHERE stream = $1 AND lane = ANY($2)",
                &[&self.stream, &lanes],
            )
            .await?;
        Ok(())
    }
}
