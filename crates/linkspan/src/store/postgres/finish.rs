//! Ends of attempts: many in one transaction, each under its token, with results and deliveries.

use linkspan_model::job::JobEvent;
use uuid::Uuid;

use super::batch::Batch;
use super::deliveries::outbox;
use super::fault::Fault;
use super::partitions::{Bucket, Family};
use super::pool::{Change, Scope};
use super::queue::is_running;
use super::requests::{insert_results, release_keys};
use super::rows::{self, Row, uuid};
use crate::store::jobs::AttemptOutcome;
use crate::store::queue::{AttemptEnd, Finished, Outcome};

/// Attempts to end.
pub(super) struct Finish(Vec<AttemptEnd>);

impl Batch for Finish {
    type Item = AttemptEnd;
    type Answer = Finished;

    fn of(items: Vec<AttemptEnd>) -> Self {
        Self(items)
    }
}

impl Change for Finish {
    type Out = Vec<Finished>;
    const DOING: &'static str = "end an attempt";

    fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        for end in &self.0 {
            let content = Family::Content.of_id(end.attempt.id.as_bytes());
            let deliveries = end
                .deliveries
                .iter()
                .map(|new| Family::Deliveries.of_id(new.id.as_bytes()));
            for bucket in deliveries.chain([content]) {
                if !buckets.contains(&bucket) {
                    buckets.push(bucket);
                }
            }
        }
        buckets
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<Finished>, Fault> {
        let ids: Vec<Uuid> = self.0.iter().map(|end| uuid(end.attempt.id)).collect();
        let mut locked = rows::lock(scope, &ids).await?;
        let mut answers = Vec::with_capacity(self.0.len());
        let mut ended: Vec<(Row, &AttemptEnd)> = Vec::new();
        for end in &self.0 {
            // Taken out: a second end of the same attempt in one batch finds nothing, as one in the next does.
            let row = match locked.remove(&end.attempt.id) {
                Some(row) if is_running(&row, end.attempt) => row,
                Some(row) => {
                    locked.insert(end.attempt.id, row);
                    answers.push(None);
                    continue;
                }
                None => {
                    answers.push(None);
                    continue;
                }
            };
            answers.push(Some(ended.len()));
            ended.push((row, end));
        }
        let (mut results, mut free) = (Vec::new(), Vec::new());
        for (row, end) in &mut ended {
            finish(row, end, &mut results, &mut free);
        }
        insert_results(scope, &results).await?;
        release_keys(scope, &free).await?;
        rows::save_each(scope, ended.iter_mut().map(|(row, end)| (row, end.now))).await?;
        let outbox: Vec<_> = ended
            .iter()
            .filter(|(_, end)| has_result(&end.outcome))
            .map(|(row, end)| (row.job.clone(), &end.deliveries[..], end.now))
            .collect();
        outbox::send_out(scope, &outbox).await?;
        let mut ended: Vec<Option<Row>> = ended.into_iter().map(|(row, _)| Some(row)).collect();
        Ok(answers
            .into_iter()
            .map(|place| {
                match place.and_then(|place| ended.get_mut(place).and_then(Option::take)) {
                    Some(row) => Finished::Done(row.job),
                    None => Finished::Fenced,
                }
            })
            .collect())
    }
}

/// Whether an outcome has a result, which is delivered.
const fn has_result(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Succeeded { .. } | Outcome::Failed { .. })
}

/// Ends one attempt. Its result, and its key where that is free again, are added to the others'.
fn finish(
    row: &mut Row,
    end: &AttemptEnd,
    results: &mut Vec<(Uuid, String)>,
    free: &mut Vec<Uuid>,
) {
    let now = end.now;
    match &end.outcome {
        Outcome::Succeeded { result } => {
            row.remember(AttemptOutcome::Succeeded, None, now);
            row.advance(JobEvent::Succeed, now);
            row.job.problem = None;
            results.push((row.uuid(), result.clone()));
        }
        Outcome::Failed {
            problem,
            result,
            release_key,
        } => {
            row.remember(AttemptOutcome::Failed, Some(problem.code), now);
            row.advance(JobEvent::Fail, now);
            row.job.problem = Some(problem.clone());
            results.push((row.uuid(), result.clone()));
            if *release_key {
                free.push(row.uuid());
            }
        }
        Outcome::Retry { due, problem } => {
            row.remember(AttemptOutcome::Retried, Some(problem.code), now);
            row.advance(JobEvent::Postpone, now);
            row.job.due = *due;
            row.job.problem = Some(problem.clone());
        }
        Outcome::Cancelled => {
            row.remember(AttemptOutcome::Cancelled, None, now);
            row.advance(JobEvent::Cancel, now);
            free.push(row.uuid());
        }
        Outcome::Released => {
            row.remember(AttemptOutcome::Released, None, now);
            row.advance(JobEvent::Postpone, now);
            row.advance(JobEvent::Requeue, now);
            row.job.attempts = row.job.attempts.saturating_sub(1);
        }
    }
}
