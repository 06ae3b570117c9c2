//! `GET /v1/integrations` and `/v1/services`: what is there, with the schemas of requests and answers.

use axum::response::{IntoResponse, Response};
use linkspan_model::Task;
use linkspan_model::task::Takes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::openapi;
use super::session::Session;
use crate::keys::Action;
use crate::refusal::Refusal;

/// An integration as callers see it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IntegrationView {
    /// Its name.
    pub name: String,
    /// `sync` or `async`.
    pub pattern: &'static str,
    /// What a request brings: `document` or `text`.
    pub takes: &'static str,
    /// The services, in order.
    pub steps: Vec<String>,
    /// Where invocations go.
    pub invocations: String,
    /// The largest body in bytes.
    pub max_body: u64,
    /// How long a synchronous caller waits, in milliseconds.
    pub deadline_ms: u64,
    /// What happens then: `error` or `async`.
    pub overflow: &'static str,
}

/// A service as callers see it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Its task.
    pub task: Task,
    /// Its engine.
    pub engine: &'static str,
    /// The parameters that a request may carry for it.
    pub parameters: Vec<&'static str>,
    /// The JSON Schema of its answer.
    pub answer: Value,
}

pub(super) async fn integrations(session: Session) -> Result<Response, Refusal> {
    session.must(Action::Invoke)?;
    let config = &session.gateway.config;
    let views: Vec<_> = config
        .integrations
        .iter()
        .filter(|(name, _)| session.caller.may(Action::Invoke, name.as_str()))
        .map(|(name, integration)| IntegrationView {
            name: name.to_string(),
            pattern: integration.pattern.name(),
            takes: takes(config.takes(integration)),
            steps: integration.steps.iter().map(ToString::to_string).collect(),
            invocations: format!("/v1/integrations/{name}/invocations"),
            max_body: config.max_body(integration).bytes(),
            deadline_ms: u64::try_from(integration.deadline.as_millis()).unwrap_or(u64::MAX),
            overflow: integration.overflow.name(),
        })
        .collect();
    Ok(axum::Json(json!({ "integrations": views })).into_response())
}

pub(super) async fn services(session: Session) -> Result<Response, Refusal> {
    session.must(Action::Invoke)?;
    let views: Vec<_> = session
        .gateway
        .config
        .services
        .iter()
        .map(|(name, service)| ServiceView {
            name: name.to_string(),
            task: service.task,
            engine: "builtin",
            parameters: linkspan_engines::registry::builtin(service.task)
                .map_or_else(Vec::new, |engine| engine.parameters().to_vec()),
            answer: openapi::answer_schema(service.task),
        })
        .collect();
    Ok(axum::Json(json!({ "services": views })).into_response())
}

/// What a request brings, in a word.
pub(super) const fn takes(takes: Takes) -> &'static str {
    match takes {
        Takes::Document => "document",
        Takes::Audio => "recording",
        Takes::Text => "text",
        Takes::Series => "series",
    }
}
