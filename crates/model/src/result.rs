//! The result document: one shape for the HTTP body, a job's result, a channel's data and a results file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{InvocationId, Problem, Task};

/// What an invocation answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResultDocument {
    /// The invocation.
    pub id: InvocationId,
    /// The integration that was invoked.
    pub integration: String,
    /// How it ended.
    pub status: Status,
    /// The answers, by service, in the order of the steps. A failed step has none.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub answers: Map<String, Value>,
    /// The steps that were taken.
    pub steps: Vec<StepReport>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

impl ResultDocument {
    /// The result of an invocation that failed before its first step.
    #[must_use]
    pub fn failed(id: InvocationId, integration: &str, problem: Problem) -> Self {
        Self {
            id,
            integration: integration.to_owned(),
            status: Status::Failed,
            answers: Map::new(),
            steps: Vec::new(),
            error: Some(problem),
        }
    }
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every step answered.
    Succeeded,
    /// A step did not.
    Failed,
}

/// One step that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    /// The service.
    pub service: String,
    /// Its task.
    pub task: Task,
    /// The engine that did it, with its version: `builtin/tesseract 5.3.0`.
    pub engine: String,
    /// How long it took, in milliseconds, waiting included.
    pub took_ms: f64,
}
