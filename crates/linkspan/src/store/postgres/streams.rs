//! [`StreamStore`] on PostgreSQL.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use linkspan_model::InvocationId;
use uuid::Uuid;

use super::PostgresStore;
use super::deliveries::outbox;
use super::fault::Fault;
use super::lanes::{Forget, Release, Renew, lock};
use super::partitions::{Bucket, Family};
use super::pool::{Change, Scope, query};
use super::requests::{self, NewRequest, insert_results};
use super::results;
use super::rows::{self, Row, big, micro, optional_time, text, time, uuid};
use crate::store::error::StoreError;
use crate::store::jobs::Job;
use crate::store::streams::{
    Hold, Label, LabelCount, LabelQuery, LaneStatus, ResultPage, ResultQuery, StreamCommit,
    StreamCommitted, StreamStore, TOLD, TakeLanes, TakenLane,
};
use crate::store::watch::Event;

#[async_trait]
impl StreamStore for PostgresStore {
    async fn take_lanes(&self, take: TakeLanes) -> Result<Vec<TakenLane>, StoreError> {
        self.db.change(take).await
    }

    async fn renew_lanes(
        &self,
        stream: &str,
        held: Vec<Hold>,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Result<Vec<Hold>, StoreError> {
        self.db
            .change(Renew {
                stream: text(stream),
                held,
                lease,
                now,
            })
            .await
    }

    async fn release_lanes(&self, stream: &str, held: Vec<Hold>) -> Result<(), StoreError> {
        let stream = text(stream);
        self.db.change(Release { stream, held }).await
    }

    async fn commit_stream(&self, commit: StreamCommit) -> Result<StreamCommitted, StoreError> {
        self.db.change(commit).await
    }

    async fn lanes(&self, stream: &str) -> Result<Vec<LaneStatus>, StoreError> {
        let (stream, ahead) = (text(stream), self.db.ahead());
        self.db
            .read("list lanes", move |client| {
                let stream = stream.clone();
                async move {
                    let rows = query(
                        &client,
                        "SELECT lane, token, owner, lease, progress, ended, updated FROM lanes WHERE stream = $1 \
                         ORDER BY lane COLLATE \"C\"",
                        &[&stream],
                    )
                    .await?;
                    rows.iter()
                        .map(|row| {
                            let until = optional_time(row, 3)?;
                            Ok(LaneStatus {
                                lane: row.try_get(0)?,
                                token: rows::unsigned(row, 1)?,
                                owner: row.try_get(2)?,
                                until: until.map(|until| {
                                    until.checked_sub(ahead).unwrap_or(Timestamp::MIN)
                                }),
                                progress: row.try_get(4)?,
                                ended: row.try_get(5)?,
                                updated: optional_time(row, 6)?,
                            })
                        })
                        .collect()
                }
            })
            .await
    }

    async fn forget_lanes(&self, stream: &str, lanes: Vec<String>) -> Result<(), StoreError> {
        let stream = text(stream);
        self.db.change(Forget { stream, lanes }).await
    }

    async fn list_results(&self, query: ResultQuery) -> Result<ResultPage, StoreError> {
        self.db
            .read("list results", move |client| {
                let query = query.clone();
                async move { results::list(&client, &query).await }
            })
            .await
    }

    async fn label_counts(&self, asked: LabelQuery) -> Result<Vec<LabelCount>, StoreError> {
        let integration = text(&asked.integration);
        let (from, until) = (micro(asked.from), micro(asked.until));
        self.db
            .read("count labels", move |client| {
                let integration = integration.clone();
                async move {
                    let rows = query(
                        &client,
                        "SELECT minute, service, label, sum(count)::int8 FROM ( \
                             SELECT minute, service, label, count FROM labels WHERE integration = $1 AND minute >= $2 AND minute < $3 \
                             UNION ALL \
                             SELECT minute, service, label, count FROM label_changes \
                                 WHERE integration = $1 AND minute >= $2 AND minute < $3) AS counts \
                         GROUP BY minute, service, label ORDER BY minute, service COLLATE \"C\", label COLLATE \"C\"",
                        &[&integration, &from, &until],
                    )
                    .await?;
                    rows.iter()
                        .map(|row| {
                            Ok(LabelCount {
                                minute: time(row, 0)?,
                                label: Label {
                                    service: row.try_get(1)?,
                                    label: row.try_get(2)?,
                                },
                                count: rows::unsigned(row, 3)?,
                            })
                        })
                        .collect()
                }
            })
            .await
    }
}

impl Change for StreamCommit {
    type Out = StreamCommitted;
    const DOING: &'static str = "commit a stream";

    fn buckets(&self) -> Vec<Bucket> {
        let mut buckets: HashSet<Bucket> = HashSet::new();
        for outcome in &self.outcomes {
            for family in [Family::Jobs, Family::Content] {
                buckets.insert(family.of_id(outcome.id.as_bytes()));
            }
            let deliveries = outcome.deliveries.iter();
            buckets.extend(deliveries.map(|new| Family::Deliveries.of_id(new.id.as_bytes())));
        }
        buckets.into_iter().collect()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<StreamCommitted, Fault> {
        let stream = text(&self.stream);
        let lanes = self.lanes.iter().map(|lane| lane.hold.lane.as_str());
        let locked = lock(scope, &stream, lanes).await?;
        let holds = self.lanes.iter().map(|lane| &lane.hold);
        let is_fenced = |hold: &&Hold| {
            locked
                .get(&text(&hold.lane))
                .is_none_or(|lane| lane.token != hold.token)
        };
        let fenced: Vec<String> = holds
            .filter(is_fenced)
            .map(|hold| hold.lane.clone())
            .collect();
        if !fenced.is_empty() {
            return Ok(StreamCommitted::Fenced(fenced));
        }
        self.store_outcomes(scope).await?;
        self.count_labels(scope).await?;
        self.note_progress(scope, &stream).await?;
        self.tell_less(scope);
        Ok(StreamCommitted::Done)
    }
}

impl StreamCommit {
    async fn store_outcomes(&self, scope: &mut Scope<'_>) -> Result<(), Fault> {
        let rows: Vec<Row> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let job = storable(outcome.job(&self.stream, self.now));
                let mut row = Row::new(job, outcome.keep);
                row.token = 1;
                row
            })
            .collect();
        rows::insert(scope, &rows).await?;
        let results: Vec<(Uuid, String)> = self
            .outcomes
            .iter()
            .map(|outcome| (uuid(outcome.id), text(&outcome.result)))
            .collect();
        insert_results(scope, &results).await?;
        let requests: Vec<NewRequest<'_>> = self
            .outcomes
            .iter()
            .filter_map(|outcome| {
                Some(NewRequest {
                    id: uuid(outcome.id),
                    request: outcome.stored_request()?,
                    document: outcome.document.as_ref(),
                })
            })
            .collect();
        requests::insert(scope, &requests).await?;
        let outbox: Vec<_> = rows
            .into_iter()
            .zip(&self.outcomes)
            .filter(|(_, outcome)| !outcome.deliveries.is_empty())
            .map(|(row, outcome)| (row.job, &outcome.deliveries[..], self.now))
            .collect();
        outbox::send_out(scope, &outbox).await
    }

    async fn count_labels(&self, scope: &Scope<'_>) -> Result<(), Fault> {
        let (mut integrations, mut services, mut labels, mut counts) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((integration, label), count) in self.labels() {
            integrations.push(text(integration));
            services.push(text(&label.service));
            labels.push(text(&label.label));
            counts.push(big(count));
        }
        if counts.is_empty() {
            return Ok(());
        }
        scope
            .execute(
                "INSERT INTO label_changes (integration, minute, service, label, count) \
                 SELECT i, $1, s, l, c FROM unnest($2::text[], $3::text[], $4::text[], $5::int8[]) AS n (i, s, l, c)",
                &[&self.minute(), &integrations, &services, &labels, &counts],
            )
            .await?;
        Ok(())
    }

    async fn note_progress(&self, scope: &Scope<'_>, stream: &str) -> Result<(), Fault> {
        let (mut lanes, mut progress, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for lane in &self.lanes {
            lanes.push(text(&lane.hold.lane));
            progress.push(lane.progress.as_deref().map(text));
            ended.push(lane.ended);
        }
        scope
            .execute(
                "UPDATE lanes SET progress = coalesce(n.progress, lanes.progress), ended = n.ended, updated = $2 \
                 FROM unnest($3::text[], $4::text[], $5::bool[]) AS n (lane, progress, ended) \
                 WHERE lanes.stream = $1 AND lanes.lane = n.lane",
                &[&stream, &micro(self.now), &lanes, &progress, &ended],
            )
            .await?;
        Ok(())
    }

    /// Of very many, the latest are told.
    fn tell_less(&self, scope: &mut Scope<'_>) {
        let untold = self.outcomes.len().saturating_sub(TOLD);
        if untold == 0 {
            return;
        }
        let told: HashSet<InvocationId> = self
            .outcomes
            .iter()
            .skip(untold)
            .map(|outcome| outcome.id)
            .collect();
        scope.effects.events.retain(|event| match event {
            Event::Job { id: job, .. } | Event::Delivery { job, .. } => told.contains(job),
            Event::Endpoint(_) => true,
        });
    }
}

/// A job as PostgreSQL can keep it.
fn storable(job: Job) -> Job {
    Job {
        integration: text(&job.integration),
        caller: text(&job.caller),
        request_id: text(&job.request_id),
        traceparent: job.traceparent.as_deref().map(text),
        ..job
    }
}
