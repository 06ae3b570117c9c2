//! The built-in engines, one line each.

use linkspan_model::Task;

use crate::detect_language::DetectLanguage;
use crate::engine::Builtin;
use crate::extract_text::ExtractText;
use crate::ocr::tesseract::Tesseract;
use crate::proof_of_identity::IdentityByZone;
use crate::sentiment::SentimentEngine;

/// The engine that comes with linkspan for a task. Cheap: what an engine needs is opened at its first work.
#[must_use]
pub fn builtin(task: Task) -> Option<Box<dyn Builtin>> {
    match task {
        Task::ExtractText => Some(Box::new(ExtractText::new(Box::new(Tesseract::new())))),
        Task::ProofOfIdentity => Some(Box::new(IdentityByZone::new())),
        Task::DetectLanguage => Some(Box::new(DetectLanguage)),
        Task::Sentiment => Some(Box::new(SentimentEngine)),
        Task::Transcribe | Task::Classify | Task::Translate | Task::Forecast => None,
    }
}

#[cfg(test)]
mod tests {
    use linkspan_model::config::BUILTIN_TASKS;

    use super::*;

    #[test]
    fn the_configuration_knows_the_tasks_that_have_an_engine() {
        for task in Task::ALL {
            let engine = builtin(task);
            assert_eq!(engine.is_some(), BUILTIN_TASKS.contains(&task), "{task}");
            assert!(engine.is_none_or(|engine| engine.task() == task), "{task}");
        }
    }
}
