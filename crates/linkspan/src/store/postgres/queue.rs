//! The runner's side: [`JobQueue`] on PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::JobState;
use linkspan_model::job::JobEvent;
use uuid::Uuid;

use super::PostgresStore;
use super::deliveries::outbox;
use super::fault::Fault;
use super::partitions::{Bucket, Family};
use super::pool::{Change, Scope, query};
use super::requests::{self, NewRequest, insert_results, release_keys};
use super::rows::{self, COLUMNS, Row, big, micro, optional_time, text, uuid};
use crate::store::error::StoreError;
use crate::store::jobs::AttemptOutcome;
use crate::store::queue::{
    Attempt, AttemptEnd, Claim, Claimed, Claims, Detach, Ending, Finished, JobQueue, Places,
    Recover, Recovered,
};

#[async_trait]
impl JobQueue for PostgresStore {
    async fn claim(&self, claim: Claim) -> Result<Claims, StoreError> {
        self.db.change(claim).await
    }

    async fn finish(&self, end: AttemptEnd) -> Result<Finished, StoreError> {
        self.finish.make(end).await
    }

    async fn detach(&self, detach: Detach) -> Result<Finished, StoreError> {
        self.db.change(detach).await
    }

    async fn renew(
        &self,
        attempts: Vec<Attempt>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<Attempt>, StoreError> {
        self.db
            .change(Renew {
                attempts,
                until: self
                    .db
                    .by_server(now)
                    .checked_add(lease)
                    .unwrap_or(Timestamp::MAX),
            })
            .await
    }

    async fn recover(&self, recover: Recover) -> Result<Recovered, StoreError> {
        let mut all = Recovered::default();
        let mut after = Uuid::nil();
        loop {
            let found = self.dead_after(after, &recover).await?;
            let Some(last) = found.last() else {
                return Ok(all);
            };
            after = last.uuid();
            let jobs = found.into_iter().map(|row| {
                let (id, token) = (row.job.id, row.token);
                (Attempt { id, token }, row.job)
            });
            // The deliveries are made here: filters are slow, and no lock waits for them.
            let endings = recover.endings(jobs.collect()).await?;
            let recover = recover.clone();
            let recovered = self.db.change(RecoverPiece { recover, endings }).await?;
            all.waiting += recovered.waiting;
            all.failed += recovered.failed;
        }
    }
}

impl PostgresStore {
    /// The next jobs whose attempts are dead, by id.
    async fn dead_after(&self, after: Uuid, recover: &Recover) -> Result<Vec<Row>, StoreError> {
        let statement = format!(
            "SELECT {COLUMNS} FROM jobs WHERE state = 1 AND {} AND id > $2 ORDER BY id LIMIT $3",
            dead(recover)
        );
        let now = micro(self.db.by_server(recover.now));
        self.db
            .read("recover jobs", move |client| {
                let statement = statement.clone();
                async move {
                    let found = query(&client, &statement, &[&now, &after, &PIECE]).await?;
                    found.iter().map(Row::read).collect()
                }
            })
            .await
    }
}

/// Which attempts are dead, at a time.
fn dead(recover: &Recover) -> &'static str {
    if recover.all {
        "$1::int8 >= 0"
    } else {
        "lease <= $1"
    }
}

/// How many jobs are recovered in one transaction.
const PIECE: i64 = 100;

/// Jobs whose attempts are dead, and how they end.
struct RecoverPiece {
    recover: Recover,
    endings: Vec<(Attempt, Option<Ending>)>,
}

struct Renew {
    attempts: Vec<Attempt>,
    until: Timestamp,
}

impl Change for Claim {
    type Out = Claims;
    const DOING: &'static str = "claim jobs";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Claims, Fault> {
        let first = scope.db.partitions.first_live();
        let shared = &*scope;
        // All at once on one connection: the answers come in one round trip.
        let due = try_join_all(
            self.places
                .iter()
                .map(|places| due(shared, places, first, self.now)),
        )
        .await?;
        let mut rows: Vec<Row> = due.into_iter().flatten().collect();
        let lease = self.lease.saturating_add(scope.db.ahead());
        for row in &mut rows {
            if row.job.state == JobState::Waiting {
                row.advance(JobEvent::Requeue, self.now);
            }
            row.start(&self.owner, lease, self.now);
        }
        rows::save(scope, &mut rows, self.now).await?;
        let ids: Vec<Uuid> = rows.iter().map(Row::uuid).collect();
        let mut requests = if ids.is_empty() {
            Default::default()
        } else {
            requests::find(scope, &ids).await?
        };
        let shared = &*scope;
        let next =
            try_join_all(self.places.iter().map(|places| next(shared, places, first))).await?;
        Ok(Claims {
            claimed: rows
                .into_iter()
                .map(|row| {
                    let (request, document) = requests
                        .remove(&row.job.id)
                        .unwrap_or_else(|| ("{}".to_owned(), None));
                    Claimed {
                        attempt: Attempt {
                            id: row.job.id,
                            token: row.token,
                        },
                        document,
                        request,
                        job: row.job,
                    }
                })
                .collect(),
            next: next.into_iter().flatten().min(),
        })
    }
}

/// The due jobs of an integration, locked. Those that another gateway is just claiming are left out.
async fn due(
    scope: &Scope<'_>,
    places: &Places,
    first: Uuid,
    now: Timestamp,
) -> Result<Vec<Row>, Fault> {
    if places.limit == 0 {
        return Ok(Vec::new());
    }
    let rows = scope
        .query(
            &format!(
                "SELECT {COLUMNS} FROM jobs WHERE integration = $1 AND state IN (0, 2) AND due <= $2 AND id >= $3 \
                 ORDER BY due, id LIMIT $4 FOR UPDATE SKIP LOCKED"
            ),
            &[
                &text(&places.integration),
                &micro(now),
                &first,
                &i64::from(places.limit),
            ],
        )
        .await?;
    rows.iter().map(Row::read).collect()
}

/// When the next job of an integration is due.
async fn next(scope: &Scope<'_>, places: &Places, first: Uuid) -> Result<Option<Timestamp>, Fault> {
    let rows = scope
        .query(
            "SELECT due FROM jobs WHERE integration = $1 AND state IN (0, 2) AND id >= $2 ORDER BY due LIMIT 1",
            &[&text(&places.integration), &first],
        )
        .await?;
    rows.first().map_or(Ok(None), |row| optional_time(row, 0))
}

impl Change for Detach {
    type Out = Finished;
    const DOING: &'static str = "detach an attempt";

    fn buckets(&self) -> Vec<Bucket> {
        vec![Family::Content.of_id(self.attempt.id.as_bytes())]
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Finished, Fault> {
        let id = uuid(self.attempt.id);
        let found = rows::lock(scope, &[id]).await?.remove(&self.attempt.id);
        let Some(mut row) = found.filter(|row| is_running(row, self.attempt)) else {
            return Ok(Finished::Fenced);
        };
        if row.job.held {
            let request = NewRequest {
                id,
                request: &self.request,
                document: self.document.as_ref(),
            };
            requests::insert(scope, &[request]).await?;
            row.job.held = false;
            rows::save(scope, [&mut row], self.now).await?;
        }
        Ok(Finished::Done(row.job))
    }
}

impl Change for Renew {
    type Out = Vec<Attempt>;
    const DOING: &'static str = "renew leases";

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<Attempt>, Fault> {
        let mut sorted: Vec<_> = self.attempts.clone();
        sorted.sort_by_key(|attempt| attempt.id);
        let ids: Vec<Uuid> = sorted.iter().map(|attempt| uuid(attempt.id)).collect();
        let tokens: Vec<i64> = sorted.iter().map(|attempt| big(attempt.token)).collect();
        // Locked in the order of the ids first: an update has an order of its own.
        let rows = scope
            .query(
                "WITH held AS MATERIALIZED (SELECT j.id FROM jobs j JOIN unnest($2::uuid[], $3::int8[]) AS n (id, token) \
                     ON j.id = n.id AND j.token = n.token WHERE j.id = ANY($2) AND j.state = 1 ORDER BY j.id FOR UPDATE OF j) \
                 UPDATE jobs j SET lease = $1 FROM held WHERE j.id = held.id AND j.id = ANY($2) RETURNING j.id, j.token",
                &[&micro(self.until), &ids, &tokens],
            )
            .await?;
        let mut held = std::collections::HashSet::new();
        for row in &rows {
            held.insert(Attempt {
                id: rows::invocation(row.try_get(0)?),
                token: rows::unsigned(row, 1)?,
            });
        }
        Ok(self
            .attempts
            .iter()
            .filter(|attempt| !held.contains(attempt))
            .copied()
            .collect())
    }
}

impl Change for RecoverPiece {
    type Out = Recovered;
    const DOING: &'static str = "recover jobs";

    fn buckets(&self) -> Vec<Bucket> {
        vec![Family::Deliveries.of_time(Timestamp::now())]
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Recovered, Fault> {
        let recover = &self.recover;
        let ids: Vec<Uuid> = self.endings.iter().map(|(one, _)| uuid(one.id)).collect();
        let found = scope
            .query(
                &format!(
                    "SELECT {COLUMNS} FROM jobs WHERE id = ANY($2) AND state = 1 AND {} ORDER BY id FOR UPDATE SKIP LOCKED",
                    dead(recover)
                ),
                &[&micro(scope.db.by_server(recover.now)), &ids],
            )
            .await?;
        let endings: HashMap<Attempt, &Option<Ending>> = self
            .endings
            .iter()
            .map(|(attempt, ending)| (*attempt, ending))
            .collect();
        let mut rows = found.iter().map(Row::read).collect::<Result<Vec<_>, _>>()?;
        // Those whose attempt is still theirs.
        let ending_of = |row: &Row| {
            let (id, token) = (row.job.id, row.token);
            endings.get(&Attempt { id, token }).copied()
        };
        rows.retain(|row| ending_of(row).is_some());
        let mut recovered = Recovered::default();
        let (mut results, mut free, mut outbox) = (Vec::new(), Vec::new(), Vec::new());
        for row in &mut rows {
            let ending = ending_of(row).and_then(Option::as_ref);
            row.remember(AttemptOutcome::Lost, None, recover.now);
            match ending {
                Some(ending) => {
                    row.advance(JobEvent::Fail, recover.now);
                    row.job.problem = Some(ending.problem.clone());
                    results.push((row.uuid(), ending.result.clone()));
                    if row.job.held {
                        free.push(row.uuid());
                    }
                    outbox.push((row.job.clone(), &ending.deliveries[..], recover.now));
                    recovered.failed += 1;
                }
                None => {
                    row.advance(JobEvent::Postpone, recover.now);
                    let wait = (recover.backoff)(&row.job);
                    row.job.due = recover.now.checked_add(wait).unwrap_or(Timestamp::MAX);
                    recovered.waiting += 1;
                }
            }
        }
        insert_results(scope, &results).await?;
        release_keys(scope, &free).await?;
        rows::save(scope, &mut rows, recover.now).await?;
        outbox::send_out(scope, &outbox).await?;
        Ok(recovered)
    }
}

/// Whether this attempt is still the job's running one.
pub(super) fn is_running(row: &Row, attempt: Attempt) -> bool {
    row.job.state == JobState::Running && row.token == attempt.token
}
