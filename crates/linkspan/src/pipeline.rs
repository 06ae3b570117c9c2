//! The steps of an integration, one after another: the same for every pattern.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
        let mut going = Going::new(&self.integration, id, request);
        for step in &self.steps {
            let start = Instant::now();
            let outcome = match step.call(&going).await {
                Ok(call) => step.engine.perform(call).await,
                Err(error) => Err(error),
            };
            self.note(&mut going, step, outcome, start.elapsed());
            if going.has_failed() {
                break;
            }
        }
        going.result
    }

    /// The same for many at once, step by step: an engine gets all of a step's calls together. Gives the results in order; one that
    /// fails spoils no other. `took_ms` is the call's share of the time.
    pub async fn run_all(&self, requests: &[(InvocationId, Request)]) -> Vec<ResultDocument> {
        let mut all: Vec<_> = requests
            .iter()
            .map(|(id, request)| Going::new(&self.integration, *id, request))
            .collect();
        for step in &self.steps {
            let start = Instant::now();
            let mut called = Vec::with_capacity(all.len());
            let mut calls = Vec::with_capacity(all.len());
            for going in all.iter_mut().filter(|going| !going.has_failed()) {
                match step.call(going).await {
                    Ok(call) => {
                        called.push(going);
                        calls.push(call);
                    }
                    Err(error) => self.note(going, step, Err(error), start.elapsed()),
                }
            }
            let outcomes = step.engine.perform_all(calls).await;
            let share = u32::try_from(called.len()).unwrap_or(u32::MAX).max(1);
            let took = start.elapsed() / share;
            let mut outcomes = outcomes.into_iter();
            for going in called {
                let outcome = outcomes.next().unwrap_or_else(|| {
                    let message = "the engine gave no outcome for this input";
                    Err(EngineError::new(Code::EngineCrashed, message))
                });
                self.note(going, step, outcome, took);
            }
        }
        all.into_iter().map(|going| going.result).collect()
    }

    /// Writes a step's outcome into the result.
    fn note(
        &self,
        going: &mut Going<'_>,
        step: &Step,
        outcome: Result<Performed, EngineError>,
        took: Duration,
    ) {
        let outcome = outcome.and_then(|performed| {
            let json = serde_json::to_value(&performed.answer).map_err(|error| {
                EngineError::new(Code::Internal, "the answer cannot be written as JSON")
                    .because(error)
            })?;
            Ok((performed, json))
        });
        self.metrics.step(
            &step.service,
            step.task,
            outcome.as_ref().err().map(|error| error.code),
            took,
        );
        let mut report = StepReport {
            service: step.service.clone(),
            task: step.task,
            engine: "builtin".to_owned(),
            took_ms: logging::in_ms(took),
        };
        let result = &mut going.result;
        match outcome {
            Ok((performed, json)) => {
                report.engine = performed.engine;
                result.steps.push(report);
                if let Some(found) = performed.answer.text() {
                    going.text = Some(found.into());
                }
                result.answers.insert(step.service.clone(), json);
            }
            Err(error) => {
                result.steps.push(report);
                tracing::info!(
                    invocation = %result.id, integration = self.integration, service = step.service, code = %error.code,
                    source = error.source.as_ref().map(|source| logging::chain(&**source)), "a step failed"
                );
                result.status = Status::Failed;
                result.error = Some(Problem::new(
                    error.code,
                    format!("step {}: {}", step.service, error.detail),
                ));
            }
        }
    }
}

/// An invocation on its way through the steps.
struct Going<'r> {
    request: &'r Request,
    /// The latest text there is.
    text: Option<Arc<str>>,
    result: ResultDocument,
}

impl<'r> Going<'r> {
    fn new(integration: &str, id: InvocationId, request: &'r Request) -> Self {
        Self {
            request,
            text: request.text.clone(),
            result: ResultDocument {
                id,
                integration: integration.to_owned(),
                status: Status::Succeeded,
                answers: Map::new(),
                steps: Vec::new(),
                error: None,
            },
        }
    }

    const fn has_failed(&self) -> bool {
        matches!(self.result.status, Status::Failed)
    }
}

impl Step {
    async fn call(&self, going: &Going<'_>) -> Result<Call, EngineError> {
        let request = going.request;
        let params = request
            .params
            .iter()
            .filter(|(name, _)| self.parameters.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<_, _>>();
        Ok(Call {
            id: going.result.id,
            traceparent: request.traceparent.clone(),
            task: self.task,
            input: self.input(request, going.text.as_ref()).await?,
            options: self.options.clone(),
            params: Arc::new(params),
            claim: request.claim.clone(),
        })
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
