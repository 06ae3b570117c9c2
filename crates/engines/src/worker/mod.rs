//! The worker's side: what `linkspan worker TASK` does.
//!
//! It opens its one connection to the host, shuts itself in ([`crate::sandbox`]), and then takes one piece of work after the other until the
//! connection ends. The host kills it when it takes too long; it may die at any moment and leaves nothing behind.

mod client;
mod panics;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linkspan_model::Code;

use self::client::{Client, Lost, Next};
use crate::engine::{Builtin, EngineError, Input, Work};
use crate::host::event::{Event, Fault, HOST_PID, LOG_PREFIX, MEMORY_SIZE, Performed};
use crate::sandbox::{self, Enforcement, Policy};

/// The stack of the thread that works: native parsers recurse deeply.
const STACK: usize = 64 << 20;
/// Memory that the worker may use where the host does not say.
const MEMORY: u64 = 2 << 30;

/// What a worker does with a piece of work: an engine's task, or another thing that needs a process of its own.
pub trait Performs: Send + Sync {
    /// Does what the event asks for. `file` is the content of its document; empty where there is none.
    ///
    /// # Errors
    ///
    /// As [`Builtin::perform`].
    fn perform(&self, event: &Event, file: &[u8]) -> Result<Performed, EngineError>;
}

/// Serves as a worker until the host ends the connection.
///
/// Call it from `main` before any thread is started: the sandbox covers later threads only. All that the worker needs to know is in its
/// environment; started by hand it says so and fails.
#[must_use]
pub fn run(work: impl Performs + 'static) -> ExitCode {
    panics::keep_quiet();
    match serve(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::FAILURE
        }
    }
}

/// Writes a line that the host may log. Never anything of a document.
fn say(message: &str) {
    eprintln!("{LOG_PREFIX}{message}");
}

fn serve(performs: impl Performs + 'static) -> Result<(), String> {
    let client = Client::connect()?;
    let enforcement = sandbox::enter(&policy()?).map_err(|gone| gone.to_string())?;
    let work = move || take_work(client, &performs, &enforcement);
    let thread = std::thread::Builder::new()
        .name("engine".to_owned())
        .stack_size(STACK)
        .spawn(work);
    let thread = thread.map_err(|error| format!("no thread for the engine: {error}"))?;
    thread
        .join()
        .unwrap_or_else(|_| Err("the worker failed in its own code".to_owned()))
}

fn policy() -> Result<Policy, String> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    Ok(Policy {
        folder: std::env::current_dir().map_err(|error| format!("no working folder: {error}"))?,
        readable: std::env::var_os("TESSDATA_PREFIX")
            .map(PathBuf::from)
            .into_iter()
            .collect(),
        memory: number(MEMORY_SIZE).map_or(MEMORY, |mebibytes| mebibytes << 20),
        host: number(HOST_PID).and_then(|pid| u32::try_from(pid).ok()),
    })
}

fn take_work(
    mut client: Client,
    work: &dyn Performs,
    enforcement: &Enforcement,
) -> Result<(), String> {
    loop {
        let next = match client.next(enforcement) {
            Ok(next) => next,
            // The host has no more work for this worker.
            Err(Lost::Ended) => return Ok(()),
            Err(Lost::Failed(error)) => return Err(format!("no next invocation: {error}")),
        };
        sandbox::allow_processor_time(time_left(&next).as_secs());
        let (sent, goes_on) = match catch_unwind(AssertUnwindSafe(|| perform(work, &next.event))) {
            Ok(Ok(answer)) => (client.respond(&next.id, answer), true),
            Ok(Err(error)) => (client.fail(&next.id, &Fault::from(&error)), true),
            // After a panic nobody knows the engine's state.
            Err(panic) => (client.fail(&next.id, &Fault::from(&panicked(panic))), false),
        };
        match sent {
            Ok(()) if goes_on => {}
            Ok(()) => return Err("ends after a panic".to_owned()),
            Err(Lost::Ended) => return Ok(()),
            Err(Lost::Failed(error)) => return Err(format!("no way to answer: {error}")),
        }
    }
}

fn time_left(next: &Next) -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Duration::from_millis(next.deadline_ms).saturating_sub(now)
}

fn perform(work: &dyn Performs, event: &[u8]) -> Result<Vec<u8>, EngineError> {
    let internal = |detail: &str| EngineError::new(Code::Internal, detail);
    // The parser's words are left out: they may quote the event.
    let event: Event =
        serde_json::from_slice(event).map_err(|_| internal("The worker cannot read its event."))?;
    let file = match &event.document {
        Some(document) => std::fs::read(&document.path).map_err(|error| {
            EngineError::new(
                Code::Internal,
                format!(
                    "The worker cannot read the document's file: {}.",
                    error.kind()
                ),
            )
        })?,
        None => Vec::new(),
    };
    let performed = work.perform(&event, &file)?;
    serde_json::to_vec(&performed).map_err(|_| internal("The answer cannot be written as JSON."))
}

impl<B: Builtin + ?Sized> Performs for Box<B> {
    fn perform(&self, event: &Event, file: &[u8]) -> Result<Performed, EngineError> {
        let internal = |detail: &str| EngineError::new(Code::Internal, detail);
        if event.task != self.task() {
            return Err(internal("The worker was given another task than its own."));
        }
        let input = match (&event.text, event.document(file)) {
            (None, Some(document)) => Input::Document(document),
            (Some(text), None) => Input::Text(text),
            _ => {
                return Err(internal(
                    "The worker needs a text or a document, and not both.",
                ));
            }
        };
        let answer = Builtin::perform(
            self.as_ref(),
            &Work {
                input,
                options: &event.options,
                params: &event.params,
                claim: event.claim.as_ref(),
            },
        )?;
        let answer = serde_json::to_value(&answer)
            .map_err(|_| internal("The answer cannot be written as JSON."))?;
        Ok(Performed {
            engine: self.label(),
            answer,
        })
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> EngineError {
    // What the panic says may quote the document; where it happened does not.
    drop(panic);
    let place = panics::last_place().map_or_else(String::new, |place| format!(" at {place}"));
    say(&format!("a panic{place}"));
    EngineError::new(
        Code::EngineCrashed,
        format!(
            "The engine failed on this document in a way that it does not foresee (a panic{place}). Other documents are not affected."
        ),
    )
}
