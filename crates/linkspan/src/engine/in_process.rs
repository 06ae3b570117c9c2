//! Fast engines in safe Rust, on threads of the gateway's own process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use linkspan_engines::{Builtin, Document, EngineError, Input, Work};
use linkspan_model::Code;
use tokio::sync::Semaphore;

use super::{Call, CallInput, Content, Engine, Performed};

/// A built-in engine on this process's blocking threads, as many at a time as there are cores.
pub struct InProcess {
    engine: Arc<dyn Builtin>,
    places: Arc<Semaphore>,
}

impl InProcess {
    /// Hosts an engine.
    #[must_use]
    pub fn new(engine: Box<dyn Builtin>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            engine: engine.into(),
            places: Arc::new(Semaphore::new(cores)),
        }
    }
}

#[async_trait]
impl Engine for InProcess {
    async fn perform(&self, call: Call) -> Result<Performed, EngineError> {
        let mut outcomes = self.perform_all(vec![call]).await;
        outcomes.pop().unwrap_or_else(|| Err(stopped()))
    }

    /// A whole batch on one thread: handing a text over costs more than looking for its language.
    async fn perform_all(&self, calls: Vec<Call>) -> Vec<Result<Performed, EngineError>> {
        let count = calls.len();
        let all_stopped = || (0..count).map(|_| Err(stopped())).collect();
        let Ok(place) = self.places.clone().acquire_owned().await else {
            return all_stopped();
        };
        let engine = self.engine.clone();
        let wanted = Arc::new(());
        let still_wanted = Arc::downgrade(&wanted);
        let work = tokio::task::spawn_blocking(move || {
            let _place = place; // held to the end, also where the caller has gone
            let one = |call: &Call| {
                if still_wanted.strong_count() == 0 {
                    return Err(stopped());
                }
                catch_unwind(AssertUnwindSafe(|| run(&*engine, call))).unwrap_or_else(|_| {
                    Err(EngineError::new(
                        Code::EngineCrashed,
                        "the engine met a fault of its own on this input",
                    ))
                })
            };
            calls.iter().map(one).collect()
        });
        let outcomes = work.await.unwrap_or_else(|_| all_stopped());
        drop(wanted); // gone before this where the caller has gone
        outcomes
    }

    fn is_fast(&self) -> bool {
        true
    }
}

fn stopped() -> EngineError {
    EngineError::new(Code::ShuttingDown, "the gateway is stopping")
}

fn run(engine: &dyn Builtin, call: &Call) -> Result<Performed, EngineError> {
    let bytes;
    let input = match &call.input {
        CallInput::Text(text) => Input::Text(text),
        CallInput::Document(document) => {
            bytes = match &document.content {
                Content::Memory(bytes) => bytes.clone(),
                Content::File(path) => std::fs::read(path)
                    .map_err(|error| {
                        EngineError::new(Code::Internal, "the stored document cannot be read")
                            .because(error)
                    })?
                    .into(),
            };
            Input::Document(Document {
                bytes: &bytes,
                media_type: document.media_type.as_deref(),
                file_name: document.file_name.as_deref(),
            })
        }
    };
    let answer = engine.perform(&Work {
        input,
        options: &call.options,
        params: &call.params,
        claim: call.claim.as_deref(),
    })?;
    Ok(Performed {
        answer,
        engine: engine.label(),
    })
}
