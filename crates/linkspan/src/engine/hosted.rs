//! Engines in worker processes: what they cost on hostile input is one invocation.

use async_trait::async_trait;
use linkspan_engines::EngineError;
use linkspan_engines::host::event::{DocumentRef, Event};
use linkspan_engines::host::{Invocation, Source, Stats, WorkerPool};
use linkspan_model::{Answer, Code};

use super::{Call, CallInput, Content, Engine, Performed};

/// A built-in engine in worker processes.
pub struct Hosted {
    workers: WorkerPool,
}

impl Hosted {
    /// Uses a pool of workers.
    #[must_use]
    pub fn new(workers: WorkerPool) -> Self {
        Self { workers }
    }
}

#[async_trait]
impl Engine for Hosted {
    async fn perform(&self, call: Call) -> Result<Performed, EngineError> {
        let (text, document, source) = match call.input {
            CallInput::Text(text) => (Some(text.to_string()), None, None),
            CallInput::Document(document) => {
                let source = match document.content {
                    Content::Memory(bytes) => Source::Bytes(bytes),
                    Content::File(path) => Source::File(path),
                };
                let reference = DocumentRef {
                    path: String::new(), // the host fills it in
                    media_type: document.media_type,
                    file_name: document.file_name,
                };
                (None, Some(reference), Some(source))
            }
        };
        let event = Event {
            task: call.task,
            text,
            document,
            options: (*call.options).clone(),
            params: (*call.params).clone(),
            claim: call.claim.as_deref().cloned(),
        };
        let invocation = Invocation {
            document: source,
            deadline: None, // whoever stops waiting drops this future
            id: call.id.to_string(),
            traceparent: call.traceparent,
        };
        let performed = self.workers.perform(&event, &invocation).await?;
        // Without what serde says: it quotes values, which are the document's.
        let answer = Answer::from_json(call.task, performed.answer).map_err(|_| {
            EngineError::new(
                Code::Internal,
                "the worker's answer has not the task's shape",
            )
        })?;
        Ok(Performed {
            answer,
            engine: performed.engine,
        })
    }

    fn workers(&self) -> Option<Stats> {
        Some(self.workers.stats())
    }

    async fn shutdown(&self) {
        self.workers.shutdown().await;
    }
}
