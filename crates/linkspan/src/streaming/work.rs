//! The pipeline as the work on records.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures_util::future::join_all;
use linkspan_model::{Code, InvocationId, Problem, ResultDocument, Status};
use linkspan_streams::Record;
use linkspan_streams::flow::{Failure, Process};

use super::Reading;
use crate::integration::Integration;
use crate::metrics::Metrics;
use crate::runner::run_within;

/// How many records a call takes where all steps are fast.
const BATCH: usize = 64;

/// The work on an integration's records: the same pipeline as behind every other door.
pub struct Work {
    integration: Arc<Integration>,
    reading: Reading,
    metrics: Arc<Metrics>,
}

/// What came of a record.
#[derive(Clone, Debug)]
pub struct Processed {
    /// The result document; it succeeded.
    pub result: ResultDocument,
    /// The W3C trace context that came with the record.
    pub traceparent: Option<String>,
}

impl Work {
    /// The work of an integration, on records that are read so.
    #[must_use]
    pub const fn new(
        integration: Arc<Integration>,
        reading: Reading,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            integration,
            reading,
            metrics,
        }
    }

    async fn one(&self, record: &Record) -> Result<Processed, Failure> {
        let start = Instant::now();
        let done = self.perform(record).await;
        let outcome = if done.is_ok() { "succeeded" } else { "failed" };
        let integration = &self.integration;
        self.metrics
            .invocation(&integration.name, integration.pattern.name(), outcome);
        integration.recent.note(start.elapsed(), done.is_err());
        done.map_err(|problem| failure(&problem))
    }

    async fn perform(&self, record: &Record) -> Result<Processed, Problem> {
        let request = self.reading.request(record).await?;
        self.integration.pipeline.check(&request)?;
        let limit = self.integration.attempt_time_limit;
        let id = InvocationId::new();
        let result = run_within(&self.integration, limit, id, &request).await;
        match (result.status, result.error) {
            (Status::Failed, Some(problem)) => Err(problem),
            (status, error) => Ok(Processed {
                result: ResultDocument {
                    status,
                    error,
                    ..result
                },
                traceparent: request.traceparent,
            }),
        }
    }
}

#[async_trait]
impl Process for Work {
    type Output = Processed;

    fn batch(&self) -> usize {
        if self.integration.pipeline.is_fast() {
            BATCH
        } else {
            1
        }
    }

    async fn process(&self, records: &[Arc<Record>]) -> Vec<Result<Processed, Failure>> {
        join_all(records.iter().map(|record| self.one(record))).await
    }
}

fn failure(problem: &Problem) -> Failure {
    Failure {
        code: problem.code.name().to_owned(),
        reason: problem.detail.clone(),
        retryable: problem.retryable,
        after: None,
        overloaded: matches!(problem.code, Code::Overloaded | Code::RateLimited),
    }
}

/// The problem that a failure was, for the result document of a dead letter.
#[must_use]
pub fn problem(failure: &Failure) -> Problem {
    let code = match &*failure.code {
        // The flow's own.
        "undecodable" => Code::UnreadableDocument,
        "deadline" => Code::DeadlineExceeded,
        name => Code::of_name(name).unwrap_or(Code::Internal),
    };
    Problem {
        retryable: false, // it was tried as often as it may be
        ..Problem::new(code, failure.reason.clone())
    }
}
