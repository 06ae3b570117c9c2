//! What an engine is: something that performs a task.

use linkspan_model::{Answer, Code, Task};
use serde_json::{Map, Value};

/// A built-in engine.
///
/// The gateway makes one per process and shares it between threads. Engines with [`Isolation::Worker`] run in a sandboxed worker
/// process, one call at a time; the others run in the gateway's own process on a thread that may block.
pub trait Builtin: Send + Sync {
    /// The task that it performs.
    fn task(&self) -> Task;

    /// The engine's name and version for the result document, for example `builtin/tesseract 5.3.0`. Called after
    /// [`Builtin::perform`], so that a library that is opened on demand can say its version.
    fn label(&self) -> String;

    /// Where it must run: [`Isolation::Worker`] for everything that parses hostile input with native code.
    fn isolation(&self) -> Isolation;

    /// The names of the caller's parameters (`params`) that it takes. The gateway refuses others before any work is begun.
    fn parameters(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks a service's options, for `linkspan check` and at the gateway's start.
    ///
    /// # Errors
    ///
    /// A sentence that names the option and what is wrong with it.
    fn check_options(&self, options: &Map<String, Value>) -> Result<(), String> {
        match options.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("{name}: the engine takes no options")),
        }
    }

    /// What the engine needs for these options and this machine lacks, in sentences with what to install. For `linkspan check`.
    fn lacking(&self, options: &Map<String, Value>) -> Vec<String> {
        let _ = options;
        Vec::new()
    }

    /// Does the work. Called once for each invocation; it may be killed at any moment and must leave nothing behind. The same
    /// work must give the same answer.
    ///
    /// # Errors
    ///
    /// The error's code decides what the caller sees and whether the work is tried again; its detail says what is wrong, where, and
    /// what to do, and holds nothing of the document's content.
    fn perform(&self, work: &Work<'_>) -> Result<Answer, EngineError>;
}

/// Where an engine must run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In the gateway's process: safe Rust, bounded time and memory.
    InProcess,
    /// In a worker process with limits.
    Worker,
}

/// One piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// What to work on.
    pub input: Input<'a>,
    /// The service's `options` from the configuration, checked by the engine.
    pub options: &'a Map<String, Value>,
    /// The caller's parameters (`password`, …), checked by the engine.
    pub params: &'a Map<String, Value>,
    /// What the caller says of the document (name, birth date, address), for `proof-of-identity`.
    pub claim: Option<&'a Value>,
}

/// What to work on.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A text.
    Text(&'a str),
    /// A file.
    Document(Document<'a>),
}

/// A file, as it came in. The media type and the name are hints from outside: believe the content.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    /// The whole content.
    pub bytes: &'a [u8],
    /// The media type that the caller gave.
    pub media_type: Option<&'a str>,
    /// The file name that the caller gave.
    pub file_name: Option<&'a str>,
}

impl std::fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the content: a document must not reach a log.
        f.debug_struct("Document")
            .field("bytes", &self.bytes.len())
            .field("media_type", &self.media_type)
            .finish_non_exhaustive()
    }
}

/// Why an engine gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct EngineError {
    /// What kind of problem it is; decides status and retry.
    pub code: Code,
    /// For the caller: what is wrong, where, and what to do.
    pub detail: String,
    /// For the log: what the library said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EngineError {
    /// An error with a sentence for the caller.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            source: None,
        }
    }

    /// The same with what the library said, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
