//! The OpenAPI 3.1 description of the HTTP face.

use linkspan_model::answer::{DetectedLanguage, ExtractedText, ProofOfIdentity, Sentiment};
use linkspan_model::{Problem, ResultDocument, Task};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::catalog::{IntegrationView, ServiceView};
use super::jobs::{JobView, JobsPage};

/// One operation: method, path, summary, what it takes and gives.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: &'static [(&'static str, &'static str, &'static str)],
    answers: &'static [(&'static str, &'static str, Option<&'static str>)],
}

const JOB: (&str, &str, &str) = ("path", "id", "The invocation's id.");
const WAIT: (&str, &str, &str) = (
    "header",
    "Prefer",
    "`wait=N`: hold the answer for up to N seconds (RFC 7240).",
);

const OPERATIONS: &[Operation] = &[
    Operation {
        method: "post",
        path: "/v1/integrations/{name}/invocations",
        id: "invoke",
        summary: "Invoke an integration: the body is the document itself, JSON with a text, or a multipart form.",
        parameters: &[
            ("path", "name", "The integration."),
            (
                "header",
                "Prefer",
                "`respond-async`: 202 at once; `wait=N`: hold up to N seconds, then 202 (RFC 7240).",
            ),
            (
                "header",
                "Idempotency-Key",
                "The same key with the same request brings the first result again.",
            ),
        ],
        answers: &[
            ("200", "The result document.", Some("ResultDocument")),
            (
                "202",
                "Accepted as a job, durably; Location names it.",
                Some("Job"),
            ),
        ],
    },
    Operation {
        method: "get",
        path: "/v1/jobs",
        id: "listJobs",
        summary: "Jobs, newest first.",
        parameters: &[
            ("query", "integration", "Only this integration's."),
            ("query", "state", "Only in this state."),
            ("query", "after", "The `next` of the page before."),
            ("query", "limit", "Jobs a page."),
        ],
        answers: &[("200", "A page.", Some("JobsPage"))],
    },
    Operation {
        method: "get",
        path: "/v1/jobs/{id}",
        id: "getJob",
        summary: "A job's state, attempts and timings; with If-None-Match and Prefer: wait=N it waits for the next change.",
        parameters: &[
            JOB,
            WAIT,
            ("header", "If-None-Match", "The ETag that the caller knows."),
        ],
        answers: &[
            ("200", "The job.", Some("Job")),
            ("304", "It has not changed.", None),
        ],
    },
    Operation {
        method: "delete",
        path: "/v1/jobs/{id}",
        id: "deleteJob",
        summary: "Erase a job with its document and result; an audit line stays.",
        parameters: &[JOB],
        answers: &[("204", "Erased.", None)],
    },
    Operation {
        method: "get",
        path: "/v1/jobs/{id}/result",
        id: "getResult",
        summary: "A job's result: the result document, or the problem with which it failed; 409 not ready, 410 expired.",
        parameters: &[JOB, WAIT],
        answers: &[("200", "The result document.", Some("ResultDocument"))],
    },
    Operation {
        method: "get",
        path: "/v1/jobs/{id}/events",
        id: "jobEvents",
        summary: "A job's changes as server-sent events, to its end.",
        parameters: &[
            JOB,
            (
                "header",
                "Last-Event-ID",
                "The last event that the caller saw.",
            ),
        ],
        answers: &[(
            "200",
            "A stream of events; the data of each is the job.",
            None,
        )],
    },
    Operation {
        method: "post",
        path: "/v1/jobs/{id}/cancel",
        id: "cancelJob",
        summary: "Stop a queued, running or waiting job.",
        parameters: &[JOB],
        answers: &[("200", "The job.", Some("Job"))],
    },
    Operation {
        method: "post",
        path: "/v1/jobs/{id}/retry",
        id: "retryJob",
        summary: "Run a failed or cancelled job again.",
        parameters: &[JOB],
        answers: &[("200", "The job.", Some("Job"))],
    },
    Operation {
        method: "get",
        path: "/v1/integrations",
        id: "listIntegrations",
        summary: "The integrations that the caller may invoke.",
        parameters: &[],
        answers: &[("200", "The integrations.", Some("Integrations"))],
    },
    Operation {
        method: "get",
        path: "/v1/services",
        id: "listServices",
        summary: "The services, with the schemas of their answers.",
        parameters: &[],
        answers: &[("200", "The services.", Some("Services"))],
    },
    Operation {
        method: "get",
        path: "/healthz",
        id: "alive",
        summary: "200 while the process answers.",
        parameters: &[],
        answers: &[("200", "Alive.", None)],
    },
    Operation {
        method: "get",
        path: "/readyz",
        id: "ready",
        summary: "200 while new work is accepted; 503 says why not.",
        parameters: &[],
        answers: &[("200", "Ready.", None)],
    },
    Operation {
        method: "get",
        path: "/metrics",
        id: "metrics",
        summary: "Prometheus metrics (OpenMetrics text), for keys with the scope read for all integrations.",
        parameters: &[],
        answers: &[("200", "The metrics.", None)],
    },
    Operation {
        method: "get",
        path: "/openapi.json",
        id: "openapi",
        summary: "This description (OpenAPI 3.1).",
        parameters: &[],
        answers: &[("200", "The description.", None)],
    },
    Operation {
        method: "get",
        path: "/docs",
        id: "docs",
        summary: "This description as a page for people.",
        parameters: &[],
        answers: &[("200", "The page.", None)],
    },
    Operation {
        method: "get",
        path: "/problems/{code}",
        id: "problem",
        summary: "What a problem document's `type` points to: what its code means.",
        parameters: &[("path", "code", "The problem's code.")],
        answers: &[("200", "The page.", None)],
    },
];

/// The whole description.
#[must_use]
pub fn description() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    for task in Task::ALL {
        add_answer(&mut generator, task);
    }
    let mut named = Map::new();
    named.insert(
        "ResultDocument".to_owned(),
        subschema::<ResultDocument>(&mut generator),
    );
    named.insert("Problem".to_owned(), subschema::<Problem>(&mut generator));
    named.insert("Job".to_owned(), subschema::<JobView>(&mut generator));
    named.insert("JobsPage".to_owned(), subschema::<JobsPage>(&mut generator));
    let integration = subschema::<IntegrationView>(&mut generator);
    let service = subschema::<ServiceView>(&mut generator);
    named.insert(
        "Integrations".to_owned(),
        list("integrations", &integration),
    );
    named.insert("Services".to_owned(), list("services", &service));
    let mut schemas: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    for (name, schema) in named {
        // A type that is called as its schema is defined already, and its subschema is a reference to itself.
        schemas.entry(name).or_insert(schema);
    }
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "linkspan",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "AI services for the systems that an enterprise already runs. Errors are RFC 9457 problem documents.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer", "bearerFormat": "lsk_<id>_<secret>" } },
            "schemas": schemas,
        },
    })
}

/// The JSON Schema of a task's answer; `true`, which any value meets, for a task without an engine yet.
#[must_use]
pub fn answer_schema(task: Task) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    match task {
        Task::ExtractText => generator.root_schema_for::<ExtractedText>().to_value(),
        Task::ProofOfIdentity => generator.root_schema_for::<ProofOfIdentity>().to_value(),
        Task::DetectLanguage => generator.root_schema_for::<DetectedLanguage>().to_value(),
        Task::Sentiment => generator.root_schema_for::<Sentiment>().to_value(),
        Task::Transcribe | Task::Classify | Task::Translate | Task::Forecast => {
            generator = SchemaGenerator::default();
            generator.root_schema_for::<Value>().to_value()
        }
    }
}

fn add_answer(generator: &mut SchemaGenerator, task: Task) {
    match task {
        Task::ExtractText => drop(generator.subschema_for::<ExtractedText>()),
        Task::ProofOfIdentity => drop(generator.subschema_for::<ProofOfIdentity>()),
        Task::DetectLanguage => drop(generator.subschema_for::<DetectedLanguage>()),
        Task::Sentiment => drop(generator.subschema_for::<Sentiment>()),
        Task::Transcribe | Task::Classify | Task::Translate | Task::Forecast => {}
    }
}

fn subschema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn list(member: &str, item: &Value) -> Value {
    json!({ "type": "object", "required": [member], "properties": { member: { "type": "array", "items": item } } })
}

fn describe(operation: &Operation) -> Value {
    let parameters: Vec<_> = operation
        .parameters
        .iter()
        .map(|(place, name, text)| json!({ "in": place, "name": name, "required": *place == "path", "description": text, "schema": { "type": "string" } }))
        .collect();
    let problem = json!({
        "description": "A problem document (RFC 9457).",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    let mut answers: Map<String, Value> = operation
        .answers
        .iter()
        .map(|(status, text, schema)| {
            let answer = match schema {
                Some(schema) => json!({
                    "description": text,
                    "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } },
                }),
                None => json!({ "description": text }),
            };
            ((*status).to_owned(), answer)
        })
        .collect();
    answers.insert("default".to_owned(), problem);
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": answers,
    });
    if operation.id == "invoke" {
        described["requestBody"] = json!({
            "required": true,
            "content": {
                "application/json": { "schema": {
                    "type": "object", "required": ["text"], "additionalProperties": false,
                    "properties": { "text": { "type": "string" }, "params": { "type": "object" }, "claim": { "type": "object" } },
                } },
                "multipart/form-data": { "schema": {
                    "type": "object",
                    "properties": {
                        "document": { "type": "string", "format": "binary" },
                        "text": { "type": "string" },
                        "params": { "type": "object" },
                        "claim": { "type": "object" },
                    },
                } },
                "*/*": { "schema": { "type": "string", "format": "binary" } },
            },
        });
    }
    if matches!(
        operation.id,
        "alive" | "ready" | "openapi" | "docs" | "problem"
    ) {
        described["security"] = json!([]);
    }
    described
}

/// The operations as rows of a page: method, path, summary, parameters.
pub(super) fn rows() -> impl Iterator<
    Item = (
        &'static str,
        &'static str,
        &'static str,
        Vec<(&'static str, &'static str)>,
    ),
> {
    OPERATIONS.iter().map(|operation| {
        let parameters = operation
            .parameters
            .iter()
            .map(|(_, name, text)| (*name, *text))
            .collect();
        (
            operation.method,
            operation.path,
            operation.summary,
            parameters,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_description_resolves() {
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(members) => {
                    for (name, value) in members {
                        if name == "$ref" {
                            found.extend(value.as_str());
                        }
                        references(value, found);
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let description = description();
        let mut found = Vec::new();
        references(&description, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let target = description.pointer(reference.trim_start_matches('#'));
            let target = target.unwrap_or_else(|| panic!("{reference} resolves to nothing"));
            assert_ne!(
                target.get("$ref").and_then(Value::as_str),
                Some(reference),
                "{reference} is itself"
            );
        }
    }
}
