//! What came of records, into the store: results, deliveries, dead letters and progress in one transaction.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::FutureExt as _;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use linkspan_model::{InvocationId, ResultDocument, Task};
use linkspan_streams::flow::{Commit, CommitError, Committer, Output};
use linkspan_streams::{Lane, Record};
use serde_json::Value;

use super::lanes::Kept;
use super::letters::Letters;
use super::sources::LanesBy;
use super::{Lanes, Processed, reading, work};
use crate::gateway::Gateway;
use crate::integration::Integration;
use crate::logging;
use crate::patterns::to_json;
use crate::request::{OfRecord, Rest};
use crate::store::{
    DocumentRef, ErrorKind, Intake, IntakeError, Label, RecordOutcome, StoreError, StreamCommitted,
};

/// How many outcomes are made ready at once: filters of channels run beside each other, and large dead letters are written.
const AT_ONCE: usize = 16;

/// The longest label that is counted, in bytes: longer ones are texts.
const LONGEST_LABEL: usize = 200;

/// Puts what came of an integration's records into the store.
pub(crate) struct StoreCommitter {
    gateway: Arc<Gateway>,
    integration: Arc<Integration>,
    lanes: Arc<Lanes>,
    lanes_by: LanesBy,
    letters: Letters,
}

impl StoreCommitter {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        integration: Arc<Integration>,
        lanes: Arc<Lanes>,
        lanes_by: LanesBy,
    ) -> Self {
        Self {
            gateway,
            integration,
            lanes,
            lanes_by,
            letters: Letters::default(),
        }
    }

    async fn outcome(&self, output: &Output<Processed>) -> Result<RecordOutcome, StoreError> {
        let record = &*output.record;
        let (result, traceparent, dead) = match &output.outcome {
            Ok(processed) => {
                let result = processed.result.clone();
                (result, processed.traceparent.clone(), None)
            }
            Err(failure) => {
                let id = self.letters.id(record).unwrap_or_else(InvocationId::new);
                let problem = work::problem(failure);
                let result = ResultDocument::failed(id, &self.integration.name, problem.clone());
                (result, reading::traceparent(record), Some(problem))
            }
        };
        let now = jiff::Timestamp::now();
        let deliveries = self.gateway.deliveries.outbox(&result, now).await;
        let json =
            to_json(&result).map_err(|_| StoreError::new(ErrorKind::Internal, "write a result"))?;
        let (problem, document, request) = match dead {
            None => (None, None, None),
            Some(problem) => {
                let (document, request) = self.dead_letter(record).await?;
                (Some(problem), document, Some(request))
            }
        };
        Ok(RecordOutcome {
            id: result.id,
            integration: self.integration.name.clone(),
            labels: labels(&result),
            problem,
            result: json,
            document,
            request,
            record: format!("{}/{}", record.lane, record.position),
            traceparent,
            attempts: output.attempts,
            max_attempts: self.integration.attempts,
            started: output.taken,
            keep: self.integration.retention,
            deliveries,
        })
    }

    /// What is kept of a record that could not be worked on: its bytes, and all else that a retry needs.
    async fn dead_letter(
        &self,
        record: &Record,
    ) -> Result<(Option<DocumentRef>, String), StoreError> {
        let document = match &record.value {
            None => None,
            Some(value) => {
                let mut intake = Intake::new(self.gateway.blobs.clone(), u64::MAX);
                let kept = async {
                    intake.write(value).await?;
                    let media_type = Some(reading::media_type(record, value));
                    intake.finish_durable(media_type, None).await
                };
                Some(kept.await.map_err(|error| match error {
                    IntakeError::Store(error) => error,
                    IntakeError::TooLarge { .. } => {
                        StoreError::new(ErrorKind::Internal, "keep a record")
                    }
                })?)
            }
        };
        let request = Rest {
            record: Some(OfRecord::of(record)),
            ..Rest::default()
        };
        Ok((document, request.to_json()?))
    }
}

#[async_trait]
impl Committer<Processed> for StoreCommitter {
    async fn commit(&mut self, commit: &Commit<Processed>) -> Result<(), CommitError> {
        let name = &self.integration.name;
        self.letters.number(commit, |record, failure| {
            tracing::warn!(
                integration = name, lane = %record.lane, position = %record.position, code = failure.code,
                "a record is a dead letter: {}", failure.reason
            );
        });
        let mut outcomes = Vec::new();
        for lane in &commit.lanes {
            for output in &lane.outputs {
                outcomes.push(self.outcome(output).boxed());
            }
        }
        let outcomes = stream::iter(outcomes)
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await
            // Nothing was offered to the store yet.
            .map_err(|error| match error.kind.retry_after() {
                Some(_) => CommitError::Passing(said(&error)),
                None => CommitError::Lasting(said(&error)),
            })?;
        let lanes = commit.lanes.iter().map(|part| Kept {
            lane: part.lane.clone(),
            term: part.term,
            progress: Some(part.progress.clone()),
            ended: false,
        });
        match self.lanes.commit(lanes.collect(), outcomes).await {
            Ok(StreamCommitted::Done) => {
                self.letters.settled();
                Ok(())
            }
            Ok(StreamCommitted::Fenced(over)) => {
                let why = format!("the lanes {over:?} were taken since");
                Err(match self.lanes_by {
                    LanesBy::Others => CommitError::Fenced(why),
                    LanesBy::Each => {
                        let parts = commit.lanes.iter();
                        let parts = parts.map(|part| (&part.lane, part.term));
                        let lost = |lane: &Lane| over.iter().any(|over| over == lane.as_str());
                        self.lanes.lose(parts.filter(|(lane, _)| lost(lane)));
                        CommitError::Passing(why)
                    }
                    LanesBy::Us => CommitError::Lasting(why),
                })
            }
            Err(error) => Err(match error.kind {
                ErrorKind::Full | ErrorKind::Busy => CommitError::Passing(said(&error)),
                // A server that cannot be reached may have committed all the same.
                _ => CommitError::Unknown(said(&error)),
            }),
        }
    }
}

/// The labels that services gave: what a classification, a sentiment or another task calls `label`, and the language that was found.
fn labels(result: &ResultDocument) -> Vec<Label> {
    let labels = result.steps.iter().filter_map(|step| {
        let answer = result.answers.get(&step.service)?;
        let label = match answer.get("label") {
            None if step.task == Task::DetectLanguage => answer.get("language"),
            label => label,
        };
        let label = label.and_then(Value::as_str)?;
        let is_one = label.len() <= LONGEST_LABEL && !label.contains(char::is_control);
        is_one.then(|| Label {
            service: step.service.clone(),
            label: label.to_owned(),
        })
    });
    labels.collect()
}

/// A store's error as a sentence; the log has the rest.
fn said(error: &StoreError) -> String {
    tracing::debug!(error = logging::chain(error), "the store and a commit");
    error.to_string()
}

#[cfg(test)]
mod tests {
    use linkspan_model::{Status, StepReport};
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_what_services_call_so_and_the_language() {
        let long = "x".repeat(LONGEST_LABEL + 1);
        let steps = [
            ("mood", Task::Sentiment, json!({ "label": "negative" })),
            ("tongue", Task::DetectLanguage, json!({ "language": "de" })),
            ("kind", Task::Classify, json!({ "label": long })),
            ("torn", Task::Classify, json!({ "label": "a\u{0}b" })),
            (
                "scan",
                Task::ExtractText,
                json!({ "text": "label", "language": "de" }),
            ),
        ];
        let report = |service: &str, task| StepReport {
            service: service.to_owned(),
            task,
            engine: "builtin".to_owned(),
            took_ms: 1.0,
        };
        let result = ResultDocument {
            id: InvocationId::new(),
            integration: "reviews".to_owned(),
            status: Status::Succeeded,
            answers: steps
                .iter()
                .map(|(service, _, answer)| ((*service).to_owned(), answer.clone()))
                .collect(),
            steps: steps
                .iter()
                .map(|(service, task, _)| report(service, *task))
                .collect(),
            error: None,
        };
        let label = |service: &str, label: &str| Label {
            service: service.to_owned(),
            label: label.to_owned(),
        };
        assert_eq!(
            labels(&result),
            [label("mood", "negative"), label("tongue", "de")]
        );
    }
}
