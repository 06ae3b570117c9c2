//! The steps of an integration, one after another: the same for every pattern.

use std::sync::Arc;
use std::time::Instant;

use encoding_rs::{Encoding, UTF_8};
use linkspan_engines::EngineError;
use linkspan_model::task::Takes;
use linkspan_model::{Code, InvocationId, Problem, ResultDocument, Status, StepReport, Task};
use serde_json::{Map, Value};

use crate::engine::{Call, CallInput, Content, DocumentFile, Engine, Performed};
use crate::logging;
use crate::metrics::Metrics;

/// What is asked of an integration, whatever door it came in by.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The document, where one was sent.
    pub document: Option<DocumentFile>,
    /// The text, where one was sent as JSON.
    pub text: Option<Arc<str>>,
    /// The caller's parameters.
    pub params: Map<String, Value>,
    /// What the caller says of the document.
    pub claim: Option<Arc<Value>>,
    /// The caller's W3C trace context.
    pub traceparent: Option<String>,
}

/// The steps of one integration.
pub struct Pipeline {
    integration: String,
    steps: Vec<Step>,
    metrics: Arc<Metrics>,
}

/// One step: a service, bound to its engine.
#[derive(Clone)]
pub struct Step {
    /// The service's name, under which its answer stands.
    pub service: String,
    /// The service's task.
    pub task: Task,
    /// The engine that performs it.
    pub engine: Arc<dyn Engine>,
    /// The service's options.
    pub options: Arc<Map<String, Value>>,
    /// The parameters that the engine takes.
    pub parameters: &'static [&'static str],
}

impl Pipeline {
    /// The steps of an integration.
    #[must_use]
    pub fn new(integration: String, steps: Vec<Step>, metrics: Arc<Metrics>) -> Self {
        Self {
            integration,
            steps,
            metrics,
        }
    }

    /// Whether every step's engine runs in this process: then a call takes microseconds, and many records go into one.
    #[must_use]
    pub fn is_fast(&self) -> bool {
        self.steps.iter().all(|step| step.engine.is_fast())
    }

    /// The steps' services and tasks, in order.
    pub fn steps(&self) -> impl Iterator<Item = (&str, Task)> {
        self.steps
            .iter()
            .map(|step| (step.service.as_str(), step.task))
    }

    /// Refuses what no step can use, before anything is stored or begun.
    ///
    /// # Errors
    ///
    /// When there is nothing to work on, or a parameter that no step takes.
    pub fn check(&self, request: &Request) -> Result<(), Problem> {
        if request.document.is_none() && request.text.is_none() {
            return Err(Problem::new(
                Code::BadRequest,
                "the request holds neither a document nor a text: send the document as the body, JSON with a \"text\", or a multipart form with a part named \"document\"",
            ));
        }
        let known: Vec<_> = self.steps.iter().flat_map(|step| step.parameters).collect();
        match request
            .params
            .keys()
            .find(|name| !known.iter().any(|known| known == name))
        {
            None => Ok(()),
            Some(name) if known.is_empty() => Err(Problem::new(
                Code::InvalidParameter,
                format!(
                    "params.{name}: no step of the integration {} takes a parameter",
                    self.integration
                ),
            )),
            Some(name) => Err(Problem::new(
                Code::InvalidParameter,
                format!(
                    "params.{name}: no step of the integration {} takes it; they take {}",
                    self.integration,
                    known
                        .iter()
                        .map(|name| format!("{name:?}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            )),
        }
    }

    /// Takes the steps. A step that fails ends the run; the answers before it stay. Dropping the future cancels the work.
    pub async fn run(&self, id: InvocationId, request: &Request) -> ResultDocument {
        let mut result = ResultDocument {
            id,
            integration: self.integration.clone(),
            status: Status::Succeeded,
            answers: Map::new(),
            steps: Vec::new(),
            error: None,
        };
        let mut text = request.text.clone();
        for step in &self.steps {
            let start = Instant::now();
            let outcome = step
                .perform(id, request, text.as_ref())
                .await
                .and_then(|performed| {
                    let json = serde_json::to_value(&performed.answer).map_err(|error| {
                        EngineError::new(Code::Internal, "the answer cannot be written as JSON")
                            .because(error)
                    })?;
                    Ok((performed, json))
                });
            let took = start.elapsed();
            let mut report = StepReport {
                service: step.service.clone(),
                task: step.task,
                engine: "builtin".to_owned(),
                took_ms: logging::in_ms(took),
            };
            self.metrics.step(
                &step.service,
                step.task,
                outcome.as_ref().err().map(|error| error.code),
                took,
            );
            match outcome {
                Ok((performed, json)) => {
                    report.engine = performed.engine;
                    result.steps.push(report);
                    if let Some(found) = performed.answer.text() {
                        text = Some(found.into());
                    }
                    result.answers.insert(step.service.clone(), json);
                }
                Err(error) => {
                    result.steps.push(report);
                    tracing::info!(
                        invocation = %id, integration = self.integration, service = step.service, code = %error.code,
                        source = error.source.as_ref().map(|source| logging::chain(&**source)), "a step failed"
                    );
                    result.status = Status::Failed;
                    result.error = Some(Problem::new(
                        error.code,
                        format!("step {}: {}", step.service, error.detail),
                    ));
                    break;
                }
            }
        }
        result
    }
}

impl Step {
    async fn perform(
        &self,
        id: InvocationId,
        request: &Request,
        text: Option<&Arc<str>>,
    ) -> Result<Performed, EngineError> {
        let params = request
            .params
            .iter()
            .filter(|(name, _)| self.parameters.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<_, _>>();
        let call = Call {
            id,
            traceparent: request.traceparent.clone(),
            task: self.task,
            input: self.input(request, text).await?,
            options: self.options.clone(),
            params: Arc::new(params),
            claim: request.claim.clone(),
        };
        self.engine.perform(call).await
    }

    /// What the step works on: a text-taking step takes the latest text there is, a document-taking step the request's document.
    async fn input(
        &self,
        request: &Request,
        text: Option<&Arc<str>>,
    ) -> Result<CallInput, EngineError> {
        match (self.task.takes(), &request.document, text) {
            (Takes::Text | Takes::Series, _, Some(text)) => Ok(CallInput::Text(text.clone())),
            (Takes::Text | Takes::Series, Some(document), None) => {
                Ok(CallInput::Text(plain_text(document, self.task).await?))
            }
            (Takes::Document | Takes::Audio, Some(document), _) => {
                Ok(CallInput::Document(document.clone()))
            }
            (Takes::Document | Takes::Audio, None, Some(text)) => {
                Ok(CallInput::Document(DocumentFile {
                    content: Content::Memory(text.as_bytes().to_vec().into()),
                    media_type: Some("text/plain; charset=utf-8".to_owned()),
                    file_name: None,
                }))
            }
            (_, None, None) => Err(EngineError::new(
                Code::BadRequest,
                "there is nothing to work on",
            )),
        }
    }
}

/// The text of a document that is plain text, for a step that takes text.
async fn plain_text(document: &DocumentFile, task: Task) -> Result<Arc<str>, EngineError> {
    let media_type = document
        .media_type
        .as_deref()
        .unwrap_or("application/octet-stream");
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    if !essence.eq_ignore_ascii_case("text/plain") {
        return Err(EngineError::new(
            Code::UnsupportedMediaType,
            format!(
                "{task} takes text and a document of type {essence:?} came: send text/plain or JSON with a \"text\", or put an extract-text step before it"
            ),
        ));
    }
    let label = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("charset"))
        .map_or("utf-8", |(_, label)| label.trim_matches('"'));
    let encoding = Encoding::for_label(label.as_bytes()).ok_or_else(|| {
        EngineError::new(
            Code::UnsupportedMediaType,
            format!("the charset {label:?} is not known"),
        )
    })?;
    let bytes = match &document.content {
        Content::Memory(bytes) => bytes.clone(),
        Content::File(path) => tokio::fs::read(path)
            .await
            .map_err(|error| {
                EngineError::new(Code::Internal, "the stored document cannot be read")
                    .because(error)
            })?
            .into(),
    };
    let (text, _, damaged) = encoding.decode(&bytes);
    if damaged {
        let hint = if encoding == UTF_8 {
            "; name its charset in Content-Type, or put an extract-text step first, which finds it"
        } else {
            ""
        };
        return Err(EngineError::new(
            Code::UnreadableDocument,
            format!("the text is not valid {}{hint}", encoding.name()),
        ));
    }
    Ok(text.into())
}
