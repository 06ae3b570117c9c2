//! Engines as the gateway calls them: built in and in this process, or hosted in a worker process.

mod hosted;
mod in_process;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use linkspan_engines::EngineError;
use linkspan_engines::host::Stats;
use linkspan_model::{Answer, InvocationId, Task};
use serde_json::{Map, Value};

pub use hosted::Hosted;
pub use in_process::InProcess;

/// Something that performs a task.
///
/// One engine serves all services that name it; calls come from many tasks at once, and waiting for a free place is the
/// engine's business. Dropping the future cancels the work: nothing may go on, and nothing may be left behind. An error's
/// code decides what the caller sees and whether a job tries again.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Does the work.
    async fn perform(&self, call: Call) -> Result<Performed, EngineError>;

    /// Does several pieces of work, and gives an outcome for each, in order. One that fails spoils no other.
    async fn perform_all(&self, calls: Vec<Call>) -> Vec<Result<Performed, EngineError>> {
        join_all(calls.into_iter().map(|call| self.perform(call))).await
    }

    /// Whether a call takes microseconds.
    fn is_fast(&self) -> bool {
        false
    }

    /// What its workers do, where it has some.
    fn workers(&self) -> Option<Stats> {
        None
    }

    /// Ends what the engine keeps running. Called once, when no call is under way any more.
    async fn shutdown(&self) {}
}

/// One call of an engine.
#[derive(Clone, Debug)]
pub struct Call {
    /// The invocation that it is a part of.
    pub id: InvocationId,
    /// The caller's W3C trace context.
    pub traceparent: Option<String>,
    /// The task to perform.
    pub task: Task,
    /// What to work on.
    pub input: CallInput,
    /// The service's options.
    pub options: Arc<Map<String, Value>>,
    /// The caller's parameters.
    pub params: Arc<Map<String, Value>>,
    /// What the caller says of the document.
    pub claim: Option<Arc<Value>>,
}

/// What to work on.
#[derive(Clone)]
pub enum CallInput {
    /// A text.
    Text(Arc<str>),
    /// A file.
    Document(DocumentFile),
}

impl std::fmt::Debug for CallInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content: a document must not reach a log.
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Document(document) => document.fmt(f),
        }
    }
}

/// A document on its way to an engine.
#[derive(Clone)]
pub struct DocumentFile {
    /// Where its bytes are.
    pub content: Content,
    /// The media type that the caller gave.
    pub media_type: Option<String>,
    /// The file name that the caller gave.
    pub file_name: Option<String>,
}

/// Where a document's bytes are.
#[derive(Clone)]
pub enum Content {
    /// In memory: small documents.
    Memory(Bytes),
    /// In a file.
    File(PathBuf),
}

impl std::fmt::Debug for DocumentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DocumentFile")
            .field("media_type", &self.media_type)
            .finish_non_exhaustive()
    }
}

/// What an engine did.
#[derive(Clone, Debug)]
pub struct Performed {
    /// The answer.
    pub answer: Answer,
    /// The engine and its version.
    pub engine: String,
}
