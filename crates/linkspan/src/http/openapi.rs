//! The OpenAPI 3.1 description of the HTTP face.

mod operations;

use linkspan_model::answer::{DetectedLanguage, ExtractedText, ProofOfIdentity, Sentiment};
use linkspan_model::{Problem, ResultDocument, Task};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use operations::{OPERATIONS, Operation};

use super::audit::AuditLines;
use super::catalog::{IntegrationView, ServiceView};
use super::deliveries::{DeliveriesPage, DeliveryView, Replay, Replayed};
use super::endpoints::{EndpointView, EndpointsPage, Pausing};
use super::jobs::{JobView, JobsPage};
use super::keys::{KeyRequest, KeyView, KeysPage, NewKey};
use super::replications::ReplicationsPage;
use super::results::ResultsPage;
use super::retries::{Retried, RetryMany};
use super::streams::{LabelsView, StreamView, StreamsPage};

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
    let more = [
        ("Delivery", subschema::<DeliveryView>(&mut generator)),
        (
            "DeliveriesPage",
            subschema::<DeliveriesPage>(&mut generator),
        ),
        ("Replay", subschema::<Replay>(&mut generator)),
        ("Replayed", subschema::<Replayed>(&mut generator)),
        ("Endpoint", subschema::<EndpointView>(&mut generator)),
        ("EndpointsPage", subschema::<EndpointsPage>(&mut generator)),
        ("Pausing", subschema::<Pausing>(&mut generator)),
        (
            "ReplicationsPage",
            subschema::<ReplicationsPage>(&mut generator),
        ),
        ("Key", subschema::<KeyView>(&mut generator)),
        ("KeysPage", subschema::<KeysPage>(&mut generator)),
        ("NewKey", subschema::<NewKey>(&mut generator)),
        ("KeyRequest", subschema::<KeyRequest>(&mut generator)),
        ("AuditLines", subschema::<AuditLines>(&mut generator)),
        ("RetryMany", subschema::<RetryMany>(&mut generator)),
        ("Retried", subschema::<Retried>(&mut generator)),
        ("ResultsPage", subschema::<ResultsPage>(&mut generator)),
        ("Stream", subschema::<StreamView>(&mut generator)),
        ("StreamsPage", subschema::<StreamsPage>(&mut generator)),
        ("Labels", subschema::<LabelsView>(&mut generator)),
    ];
    named.extend(more.map(|(name, schema)| (name.to_owned(), schema)));
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
    if let Some((schema, required)) = operations::body(operation.id) {
        described["requestBody"] = json!({
            "required": required,
            "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } },
        });
    }
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
    use crate::http::query::Words;
    use crate::http::{audit, deliveries, jobs, results, streams};

    /// The words of a sentence such as `a, b and c (a number)`.
    fn words(sentence: &str) -> Vec<String> {
        let plain = sentence.replace(" and ", ", ");
        let plain = plain
            .split(", ")
            .map(|word| word.split(' ').next().unwrap());
        plain.map(str::to_owned).collect()
    }

    #[test]
    fn the_query_that_an_operation_names_is_the_one_that_it_takes() {
        for operation in OPERATIONS {
            let named = operation.parameters.iter();
            let named = named.filter(|(place, ..)| *place == "query");
            let named: Vec<_> = named.map(|(_, name, _)| (*name).to_owned()).collect();
            let taken = match operation.id {
                "listJobs" => words(jobs::ListQuery::WORDS),
                "listDeliveries" => words(deliveries::ListQuery::WORDS),
                "listResults" => words(results::ListQuery::WORDS),
                "streamLabels" => words(streams::LabelsQuery::WORDS),
                "listAudit" => words(audit::ListQuery::WORDS),
                "getPreview" => words("page and turn"),
                "getResult" => words("expires and signature"),
                _ => Vec::new(),
            };
            assert_eq!(named, taken, "{}", operation.id);
        }
    }

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
