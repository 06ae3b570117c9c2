//! `linkspan run INTEGRATION FILE…`: the same work with no server.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use linkspan_model::{Code, InvocationId, Problem, ResultDocument, Status};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::output::{self, Output, Row};
use super::{DONE, Done, Failure, SOME_FAILED, load, runtime};
use crate::engine::{Content, DocumentFile};
use crate::engines::Engines;
use crate::integration::Integration;
use crate::logging;
use crate::metrics::Metrics;
use crate::pipeline::Request;
use crate::summary::Summary;

/// The arguments of `linkspan run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The integration.
    integration: String,
    /// The files: names, patterns such as 'scans/**/*.pdf', or `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The form of the output.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// A parameter for the engines, NAME=VALUE; VALUE is text, or JSON but for plain numbers; @FILE reads it as text from a file (a
    /// password, say).
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// What is claimed of the documents (name, birth date, address), as JSON or @FILE.
    #[arg(long, value_name = "JSON")]
    claim: Option<String>,
    /// How many files at once; default: one for each processor.
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Show no progress bar.
    #[arg(long, short)]
    quiet: bool,
}

/// One file's outcome: the result document with its file.
#[derive(Debug, Serialize)]
struct Outcome {
    file: String,
    #[serde(flatten)]
    result: ResultDocument,
    #[serde(skip)]
    took_ms: f64,
}

impl Row for Outcome {
    const COLUMNS: &'static [&'static str] = &["file", "status", "answer", "confidence", "ms"];

    fn cells(&self) -> Vec<String> {
        let summary = Summary::of(&self.result);
        vec![
            self.file.clone(),
            match self.result.status {
                Status::Succeeded => "succeeded".to_owned(),
                Status::Failed => "failed".to_owned(),
            },
            summary.words,
            summary
                .confidence
                .map(|confidence| format!("{confidence:.2}"))
                .unwrap_or_default(),
            format!("{:.0}", self.took_ms),
        ]
    }
}

pub(super) fn run(path: &Path, args: &Args) -> Done {
    let config = load(path)?;
    logging::start(config.server.log_format, "warn");
    let params = params(&args.params)?;
    let claim = args.claim.as_deref().map(claim).transpose()?;
    let files = expand(&args.files)?;
    runtime()?.block_on(async {
        let engines =
            Engines::new(&config).map_err(|error| Failure::usage(logging::chain(&error)))?;
        let integrations =
            engines.integrations(&config, &Arc::new(Metrics::new()), &Arc::new(Notify::new()));
        let integration = integrations.get(&args.integration).ok_or_else(|| {
            let known: Vec<_> = integrations.keys().map(String::as_str).collect();
            Failure::usage(format!(
                "no integration is called {:?}; the file has: {}",
                args.integration,
                known.join(", ")
            ))
        })?;
        let bar = progress(files.len() as u64, args.quiet);
        let at_once = args
            .jobs
            .map(usize::from)
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let all = files.len();
        let mut work = stream::iter(files)
            .map(|file| one(integration, file, params.clone(), claim.clone(), &bar))
            .buffered(at_once); // keeps the order of the arguments
        let interrupted = super::serve::interrupted();
        tokio::pin!(interrupted);
        let mut outcomes = Vec::with_capacity(all);
        output::head::<Outcome>(args.output)?;
        loop {
            let outcome = tokio::select! {
                outcome = work.next() => outcome,
                () = &mut interrupted => None,
            };
            let Some(outcome) = outcome else { break };
            bar.suspend(|| output::line(args.output, &outcome))?;
            outcomes.push(outcome);
        }
        drop(work);
        bar.finish_and_clear();
        engines.shutdown().await;
        output::tail(args.output, &outcomes)?;
        if outcomes.len() < all {
            return Err(Failure::work(format!(
                "interrupted: {} of {all} files were done and are printed",
                outcomes.len()
            )));
        }
        let failed = outcomes
            .iter()
            .filter(|outcome| outcome.result.status == Status::Failed)
            .count();
        if failed == 0 {
            return Ok(DONE);
        }
        eprintln!("linkspan: {failed} of {} files failed", outcomes.len());
        Ok(SOME_FAILED)
    })
}

async fn one(
    integration: &Integration,
    file: PathBuf,
    params: Map<String, Value>,
    claim: Option<Arc<Value>>,
    bar: &ProgressBar,
) -> Outcome {
    let start = std::time::Instant::now();
    let id = InvocationId::new();
    let result = match document(&file, integration.max_body).await {
        Err(problem) => ResultDocument::failed(id, &integration.name, problem),
        Ok(document) => {
            let request = Request {
                document: Some(document),
                params,
                claim,
                ..Request::default()
            };
            match integration.pipeline.check(&request) {
                Err(problem) => ResultDocument::failed(id, &integration.name, problem),
                Ok(()) => integration.pipeline.run(id, &request).await,
            }
        }
    };
    bar.inc(1);
    Outcome {
        file: file.display().to_string(),
        result,
        took_ms: logging::in_ms(start.elapsed()),
    }
}

async fn document(file: &Path, limit: u64) -> Result<DocumentFile, Problem> {
    let too_large = |size: u64| {
        Problem::new(
            Code::BodyTooLarge,
            format!("{size} bytes are more than the integration's max_body of {limit}"),
        )
    };
    let unreadable = |error: std::io::Error| {
        Problem::new(Code::BadRequest, format!("cannot read the file: {error}"))
    };
    let file_name = file
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin()
            .lock()
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes);
        read.map_err(unreadable)?;
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
        let media_type = std::str::from_utf8(&bytes)
            .is_ok()
            .then(|| "text/plain".to_owned());
        return Ok(DocumentFile {
            content: Content::Memory(bytes.into()),
            media_type,
            file_name: None,
        });
    }
    let data = tokio::fs::metadata(file).await.map_err(unreadable)?;
    if !data.is_file() {
        let what = if data.is_dir() {
            "it is a folder: name its files, or quote a pattern such as 'scans/*.pdf'"
        } else {
            "it is not a regular file: pipe it in, and write - as the file"
        };
        return Err(Problem::new(Code::BadRequest, what));
    }
    if data.len() > limit {
        return Err(too_large(data.len()));
    }
    let path = tokio::fs::canonicalize(file).await.map_err(unreadable)?;
    Ok(DocumentFile {
        content: Content::File(path),
        media_type: mime_guess::from_path(file).first_raw().map(str::to_owned),
        file_name,
    })
}

/// The files that the arguments name, in their order. A pattern that fits nothing is an error; a name is taken as it is.
fn expand(arguments: &[String]) -> Result<Vec<PathBuf>, Failure> {
    if arguments.iter().filter(|argument| *argument == "-").count() > 1 {
        return Err(Failure::usage(
            "- is standard input, which can be read once: name it once",
        ));
    }
    let mut files = Vec::new();
    for argument in arguments {
        let is_pattern = argument.contains(['*', '?', '[']) && !Path::new(argument).exists();
        if !is_pattern {
            files.push(PathBuf::from(argument));
            continue;
        }
        let found = glob::glob(argument).map_err(|error| {
            Failure::usage(format!("the pattern {argument:?} is wrong: {error}"))
        })?;
        let before = files.len();
        for file in found {
            let file = file.map_err(|error| Failure::work(error.to_string()))?;
            if file.is_file() {
                files.push(file);
            }
        }
        if files.len() == before {
            return Err(Failure::usage(format!(
                "no file fits the pattern {argument:?}"
            )));
        }
    }
    Ok(files)
}

fn params(given: &[String]) -> Result<Map<String, Value>, Failure> {
    given
        .iter()
        .map(|param| {
            let (name, value) = param
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("--param {param}: write NAME=VALUE")))?;
            let value = match value.strip_prefix('@') {
                Some(file) => Value::String(
                    read_argument(file)?
                        .trim_end_matches(['\r', '\n'])
                        .to_owned(),
                ),
                // Digits stay text: a password may be nothing else.
                None => serde_json::from_str(value)
                    .ok()
                    .filter(|json: &Value| !json.is_number())
                    .unwrap_or_else(|| Value::String(value.to_owned())),
            };
            Ok((name.to_owned(), value))
        })
        .collect()
}

fn claim(given: &str) -> Result<Arc<Value>, Failure> {
    let text = match given.strip_prefix('@') {
        Some(file) => read_argument(file)?,
        None => given.to_owned(),
    };
    serde_json::from_str(&text)
        .map(Arc::new)
        .map_err(|error| Failure::usage(format!("--claim is not JSON: {error}")))
}

fn read_argument(file: &str) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))
}

fn progress(files: u64, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(files), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("{bar:32} {pos}/{len} files, {elapsed} so far, {eta} to go")
    {
        bar.set_style(style);
    }
    bar.tick();
    bar
}
