//! One warm worker: its process, its endpoint and its folder.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use linkspan_model::Code;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout};

use super::Invocation;
use super::event::{HOST_PID, MEMORY_SIZE, RUNTIME_API, TOKEN};
use super::folder::{DOCUMENT, PoolFolder, WorkerFolder};
use super::outcome::{ended, not_started, plain_name, reported};
use super::process::Process;
use super::runtime_api::{Delivery, Endpoint, Outcome};
use super::spec::{Handshake, INHERITED, Limits, WorkerSpec};
use super::stats::{Counters, Running};
use crate::engine::EngineError;
use crate::sandbox::Enforcement;

/// How long an answer may be on its way after its worker has ended, or an end after the connection: on a machine that has much to do,
/// a process with a gigabyte takes its time to end, and how it ended is the reason that the caller is told.
const GRACE: Duration = Duration::from_secs(10);

/// A worker process that has asked for work. Dropped, it is killed.
pub(super) struct Worker {
    process: Process,
    endpoint: Endpoint,
    folder: Arc<WorkerFolder>,
    handshake: Handshake,
    /// Whether the document's path in the event is absolute: the worker's working folder is not its private one.
    absolute: bool,
    /// Whether the worker cannot write to a file that it can read.
    may_link: bool,
    done: u32,
}

/// A worker that has just asked for its first work.
pub(super) struct Started {
    pub(super) worker: Worker,
    /// How well it is shut in, if it says.
    pub(super) enforcement: Option<Enforcement>,
    /// How long the start took.
    pub(super) took: Duration,
}

/// How an invocation went for its worker.
pub(super) enum Worked {
    /// It ended, and the worker can go on.
    Done(Result<Value, EngineError>),
    /// It ended, and so must the worker.
    Broken(EngineError),
    /// The worker itself said that it must end.
    Crashed(EngineError),
    /// It was not begun: the worker had died while it waited.
    NotTaken,
}

impl Worker {
    /// Starts a worker and waits until it asks for work.
    pub(super) async fn start(
        spec: &WorkerSpec,
        limits: &Limits,
        folder: &Arc<PoolFolder>,
        counters: &Arc<Counters>,
    ) -> Result<Started, EngineError> {
        let begin = Instant::now();
        let failed = |source: std::io::Error| {
            EngineError::new(
                Code::EngineUnavailable,
                "The engine's worker could not be started. `linkspan doctor` tells what is missing.",
            )
            .because(source)
        };
        let folder = folder.worker().map_err(failed)?;
        let endpoint = Endpoint::open(&spec.name, spec.handshake, limits.max_answer)
            .await
            .map_err(failed)?;
        let command = command(spec, limits, &endpoint, &folder);
        let at_exit = {
            // Both live until the process has been reaped.
            let (folder, running, counters, name) = (
                folder.clone(),
                Running::new(counters),
                counters.clone(),
                spec.name.clone(),
            );
            move |exit: &super::outcome::Exit| {
                if exit.by_itself {
                    counters.crashed.fetch_add(1, Relaxed);
                    tracing::warn!(worker = %name, status = ?exit.status, "a worker ended by itself");
                }
                drop((folder, running));
            }
        };
        let process = Process::start(command, spec.name.clone(), spec.handshake, at_exit)
            .await
            .map_err(failed)?;

        let hello = tokio::select! {
            biased;
            hello = endpoint.hello() => hello,
            exit = process.exited() => return Err(not_started(Some(&exit), spec.handshake)),
            () = sleep_until(begin + limits.start_timeout) => return Err(not_started(None, spec.handshake)),
        };
        let hello = hello.map_err(|fault| match spec.handshake {
            Handshake::Token => EngineError::new(Code::EngineUnavailable, fault.message),
            Handshake::Open => EngineError::new(
                Code::EngineUnavailable,
                format!("The function could not start: {}.", plain_name(&fault.kind)),
            ),
        })?;
        let took = begin.elapsed();
        counters.cold_start(took);
        let enforcement: Option<Enforcement> = hello
            .sandbox
            .and_then(|said| serde_json::from_str(&said).ok());
        let may_link = spec.handshake == Handshake::Token
            && enforcement.as_ref().is_some_and(Enforcement::keeps_files);
        let worker = Self {
            process,
            endpoint,
            folder,
            handshake: spec.handshake,
            absolute: spec.task_root.is_some(),
            may_link,
            done: 0,
        };
        Ok(Started {
            worker,
            enforcement,
            took,
        })
    }

    /// Whether the worker can take work.
    pub(super) fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// How many invocations it has done.
    pub(super) fn done(&self) -> u32 {
        self.done
    }

    /// Ends a worker that has no work.
    pub(super) fn end(self) {
        // First the wish, then the connection, whose end alone lets a worker end: an end that is wished for is no crash.
        self.process.end();
        drop(self.endpoint);
    }

    /// Ends a worker whose state nobody knows.
    pub(super) fn end_crashed(self) {
        self.process.end_crashed();
    }

    /// Has the worker do one invocation. When the future is dropped, so must the worker be.
    pub(super) async fn work(
        &mut self,
        event: &Value,
        invocation: &Invocation,
        limits: &Limits,
        counters: &Counters,
    ) -> Worked {
        let event = match self.prepare(event, invocation).await {
            Ok(event) => event,
            Err(error) => return Worked::Broken(error),
        };
        let limit = Instant::now() + limits.time_limit;
        let (until, late) = match invocation.deadline.map(Instant::from_std) {
            Some(deadline) if deadline < limit => (deadline, deadline_passed()),
            _ => (limit, time_limit_passed(limits.time_limit)),
        };
        let delivery = Delivery {
            id: invocation.id.clone(),
            deadline_ms: epoch_ms(until),
            trace: trace(invocation),
            event,
        };
        self.process.forget_words();
        let outcome = tokio::select! {
            biased;
            _ = self.process.exited() => None,
            outcome = self.endpoint.hand_over(delivery), if self.process.is_alive() => outcome,
            () = sleep_until(until) => return Worked::Broken(late),
            else => None,
        };
        let Some(mut outcome) = outcome else {
            return Worked::NotTaken;
        };
        counters.invocations.fetch_add(1, Relaxed);
        self.done += 1;

        let outcome = tokio::select! {
            biased;
            outcome = &mut outcome => outcome.ok(),
            // What the worker sent before its end may still be on its way.
            _ = self.process.exited() => timeout(GRACE, &mut outcome).await.ok().and_then(Result::ok),
            () = sleep_until(until) => {
                counters.timed_out.fetch_add(1, Relaxed);
                return Worked::Broken(late);
            }
        };
        let worked = match outcome {
            Some(outcome) => self.judge(outcome, limits).await,
            None => Worked::Broken(match timeout(GRACE, self.process.exited()).await {
                Ok(exit) => ended(&exit),
                Err(_) => EngineError::new(
                    Code::EngineCrashed,
                    "The engine's worker closed its connection while it worked on this document.",
                ),
            }),
        };
        match worked {
            Worked::Done(_) if self.clear(invocation).await.is_err() => {
                Worked::Broken(EngineError::new(
                    Code::Internal,
                    "The document could not be removed from the worker's folder.",
                ))
            }
            worked => worked,
        }
    }

    /// Puts the document where the worker finds it and writes the event that says where.
    async fn prepare(
        &self,
        event: &Value,
        invocation: &Invocation,
    ) -> Result<bytes::Bytes, EngineError> {
        let internal = |detail: &str| EngineError::new(Code::Internal, detail.to_owned());
        let mut event = std::borrow::Cow::Borrowed(event);
        if let Some(document) = invocation.document.clone() {
            let (folder, may_link) = (self.folder.clone(), self.may_link);
            tokio::task::spawn_blocking(move || document.place(&folder, may_link))
                .await
                .map_err(|source| {
                    internal("The document could not be handed to the worker.").because(source)
                })?
                .map_err(|source| {
                    internal("The document could not be handed to the worker.").because(source)
                })?;
            let path = if self.absolute {
                self.folder.document().to_string_lossy().into_owned()
            } else {
                DOCUMENT.to_owned()
            };
            let place = event
                .to_mut()
                .as_object_mut()
                .map(|event| {
                    event
                        .entry("document")
                        .or_insert_with(|| serde_json::json!({}))
                })
                .and_then(Value::as_object_mut)
                .ok_or_else(|| internal("The event has no place for its document."))?;
            place.insert("path".to_owned(), path.into());
        }
        serde_json::to_vec(&event)
            .map(Into::into)
            .map_err(|source| internal("The event could not be written.").because(source))
    }

    async fn clear(&self, invocation: &Invocation) -> std::io::Result<()> {
        match invocation.document {
            Some(_) => tokio::fs::remove_file(self.folder.document()).await,
            None => Ok(()),
        }
    }

    async fn judge(&self, outcome: Outcome, limits: &Limits) -> Worked {
        let broken = |code, detail: String| Worked::Broken(EngineError::new(code, detail));
        match outcome {
            Outcome::Answer(answer) => match parse(answer).await {
                Ok(answer) => Worked::Done(Ok(answer)),
                // The parser's words are left out: they may quote the answer.
                Err(_) => broken(
                    Code::EngineCrashed,
                    "The engine's answer is not JSON.".to_owned(),
                ),
            },
            Outcome::Fault(fault) => {
                let error = reported(&fault, self.handshake);
                match (self.handshake, error.code) {
                    (Handshake::Token, Code::EngineCrashed) => Worked::Crashed(error),
                    _ => Worked::Done(Err(error)),
                }
            }
            Outcome::TooLarge => broken(
                Code::DocumentTooComplex,
                format!(
                    "The engine's answer is larger than {} MiB.",
                    limits.max_answer >> 20
                ),
            ),
            Outcome::Abandoned => broken(
                Code::EngineCrashed,
                "The engine's worker asked for new work without an answer.".to_owned(),
            ),
        }
    }
}

/// The error when the caller's deadline came first.
pub(super) fn deadline_passed() -> EngineError {
    EngineError::new(
        Code::DeadlineExceeded,
        "The deadline passed before the engine was done.",
    )
}

fn time_limit_passed(limit: Duration) -> EngineError {
    EngineError::new(
        Code::EngineTimeout,
        format!(
            "The engine did not finish with this document in its {} s.",
            limit.as_secs_f64()
        ),
    )
}

async fn parse(answer: bytes::Bytes) -> Result<Value, serde_json::Error> {
    const LARGE: usize = 256 << 10;
    if answer.len() < LARGE {
        return serde_json::from_slice(&answer);
    }
    tokio::task::spawn_blocking(move || serde_json::from_slice(&answer))
        .await
        .unwrap_or_else(|_| Err(serde::de::Error::custom("the parser was stopped")))
}

fn epoch_ms(at: Instant) -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let then = now + at.saturating_duration_since(Instant::now());
    u64::try_from(then.as_millis()).unwrap_or(u64::MAX)
}

/// The X-Ray form of a W3C `traceparent`; without one, of the invocation's own id.
fn trace(invocation: &Invocation) -> String {
    let parts: Vec<&str> = invocation
        .traceparent
        .as_deref()
        .unwrap_or_default()
        .split('-')
        .collect();
    if let [_, trace, parent, flags] = parts[..]
        && let (Some(time), Some(rest)) = (trace.get(..8), trace.get(8..))
    {
        let sampled = u8::from_str_radix(flags, 16).unwrap_or(0) & 1;
        return format!("Root=1-{time}-{rest};Parent={parent};Sampled={sampled}");
    }
    let id: String = invocation
        .id
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(32)
        .collect();
    format!(
        "Root=1-{:0<8}-{:0<24};Sampled=0",
        id.get(..8).unwrap_or(&id),
        id.get(8..).unwrap_or_default()
    )
}

fn command(
    spec: &WorkerSpec,
    limits: &Limits,
    endpoint: &Endpoint,
    folder: &WorkerFolder,
) -> Command {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let root = spec.task_root.as_deref().unwrap_or(folder.path());
    command.current_dir(root);

    command.env_clear();
    command.envs(
        INHERITED
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?))),
    );
    command
        // Tesseract's own threads make it slower, not faster.
        .env("OMP_THREAD_LIMIT", "1")
        .env(RUNTIME_API, endpoint.address().to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", &spec.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env(MEMORY_SIZE, (limits.memory >> 20).to_string())
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        .env(
            "AWS_LAMBDA_LOG_GROUP_NAME",
            format!("/aws/lambda/{}", spec.name),
        )
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "linkspan")
        .env("_HANDLER", spec.handler.as_deref().unwrap_or(&spec.name))
        .env("LAMBDA_TASK_ROOT", root)
        .env("TMPDIR", folder.path())
        .env(HOST_PID, std::process::id().to_string())
        .envs(spec.env.iter().map(|(name, value)| (name, value)));
    match endpoint.token() {
        Some(token) => {
            command.env(TOKEN, token);
        }
        None => super::death::with_host(&mut command),
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_becomes_an_x_ray_header() {
        let mut invocation = Invocation::default();
        let own = trace(&invocation);
        assert!(
            own.starts_with("Root=1-")
                && own.len() == "Root=1-00000000-000000000000000000000000;Sampled=0".len(),
            "{own}"
        );
        invocation.traceparent =
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
        assert_eq!(
            trace(&invocation),
            "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"
        );
    }
}
