//! `linkspan worker TASK`: one engine behind the Lambda Runtime API. The gateway starts it; it shuts itself in.

use std::process::ExitCode;

use linkspan_engines::page_picture::{PAGE_PICTURE, PagePictures};
use linkspan_engines::{registry, worker};
use linkspan_model::Task;

use super::WRONG_USAGE;

/// The arguments of `linkspan worker`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The task, or `page-picture`.
    task: String,
}

pub(super) fn run(args: &Args) -> ExitCode {
    if args.task == PAGE_PICTURE {
        return worker::run(PagePictures);
    }
    let engine = args.task.parse::<Task>().ok().and_then(registry::builtin);
    match engine {
        Some(engine) => worker::run(engine),
        None => {
            eprintln!("linkspan: no engine performs the task {:?}", args.task);
            ExitCode::from(WRONG_USAGE)
        }
    }
}
