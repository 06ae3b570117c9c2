//! The built-in engines, one line each.

use linkspan_model::Task;

use crate::engine::Builtin;

/// The engine that comes with linkspan for a task.
#[must_use]
pub fn builtin(task: Task) -> Option<Box<dyn Builtin>> {
    match task {
        Task::ExtractText
        | Task::DetectLanguage
        | Task::Sentiment
        | Task::ProofOfIdentity
        | Task::Transcribe
        | Task::Classify
        | Task::Translate
        | Task::Forecast => None,
    }
}
