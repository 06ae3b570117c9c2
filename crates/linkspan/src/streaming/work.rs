//! The pipeline as the work on records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use linkspan_model::{Code, InvocationId, Problem, ResultDocument, Status};
use linkspan_streams::Record;
use linkspan_streams::flow::{Failure, Process};

use super::Reading;
use crate::integration::Integration;
use crate::metrics::Metrics;
use crate::pipeline::Request;
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
    /// The W3C trace context that came with the record, or was made for it.
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

    /// One record by itself.
    async fn one(&self, request: Result<Request, Problem>) -> Result<Processed, Failure> {
        let start = Instant::now();
        let done = match self.checked(request) {
            Ok(request) => {
                let limit = self.integration.attempt_time_limit;
                let id = InvocationId::new();
                let result = run_within(&self.integration, limit, id, &request).await;
                processed(result, request)
            }
            Err(problem) => Err(problem),
        };
        self.noted(done, start.elapsed())
    }

    /// Many records, step by step. Where that takes too long, each by itself: one slow record gives up no other.
    async fn all(
        &self,
        requests: Vec<Result<Request, Problem>>,
    ) -> Vec<Result<Processed, Failure>> {
        let start = Instant::now();
        let mut refused = Vec::with_capacity(requests.len());
        let mut open = Vec::with_capacity(requests.len());
        for request in requests {
            match self.checked(request) {
                Ok(request) => {
                    refused.push(None);
                    open.push((InvocationId::new(), request));
                }
                Err(problem) => refused.push(Some(problem)),
            }
        }
        let limit = self.integration.attempt_time_limit;
        let run = self.integration.pipeline.run_all(&open);
        let Ok(results) = tokio::time::timeout(limit, run).await else {
            let mut open = open.into_iter();
            let again = refused.into_iter().map(|refused| match refused {
                Some(problem) => Err(problem),
                None => open
                    .next()
                    .map(|(_, request)| request)
                    .ok_or_else(|| Problem::new(Code::Internal, "the record was not read")),
            });
            return join_all(again.map(|request| self.one(request))).await;
        };
        let share = u32::try_from(open.len()).unwrap_or(u32::MAX).max(1);
        let took = start.elapsed() / share;
        let mut done = results.into_iter().zip(open);
        let outcomes = refused.into_iter().map(|refused| {
            let done = match refused {
                Some(problem) => Err(problem),
                None => match done.next() {
                    Some((result, (_, request))) => processed(result, request),
                    None => Err(Problem::new(Code::Internal, "the record was not read")),
                },
            };
            self.noted(done, took)
        });
        outcomes.collect()
    }

    /// Refuses what no step can use.
    fn checked(&self, request: Result<Request, Problem>) -> Result<Request, Problem> {
        let request = request?;
        self.integration.pipeline.check(&request)?;
        Ok(request)
    }

    fn noted(
        &self,
        done: Result<Processed, Problem>,
        took: Duration,
    ) -> Result<Processed, Failure> {
        let outcome = if done.is_ok() { "succeeded" } else { "failed" };
        let integration = &self.integration;
        self.metrics
            .invocation(&integration.name, integration.pattern.name(), outcome);
        integration.recent.note(took, done.is_err());
        done.map_err(|problem| failure(&problem))
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
        let requests = self.reading.requests(records).await;
        if self.integration.pipeline.is_fast() {
            self.all(requests).await
        } else {
            join_all(requests.into_iter().map(|request| self.one(request))).await
        }
    }
}

fn processed(result: ResultDocument, request: Request) -> Result<Processed, Problem> {
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
