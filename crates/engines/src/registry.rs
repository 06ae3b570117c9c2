//! The built-in engines, one line each.

use linkspan_model::Task;

use crate::detect_language::DetectLanguage;
use crate::engine::Builtin;
use crate::sentiment::SentimentEngine;

/// The engine that comes with linkspan for a task.
#[must_use]
pub fn builtin(task: Task) -> Option<Box<dyn Builtin>> {
    match task {
        Task::DetectLanguage => Some(Box::new(DetectLanguage)),
        Task::Sentiment => Some(Box::new(SentimentEngine)),
        Task::ExtractText
        | Task::ProofOfIdentity
        | Task::Transcribe
        | Task::Classify
        | Task::Translate
        | Task::Forecast => None,
    }
}
