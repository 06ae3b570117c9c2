//! `linkspan init`: an annotated configuration file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use linkspan_model::config;

use super::{DONE, Done, Failure, output};

/// The arguments of `linkspan init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to write it (`-`: standard output) instead of the configuration file's own place.
    file: Option<PathBuf>,
    /// Write over a file that is there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(path: &Path, args: &Args) -> Done {
    let text = config::annotated_example();
    let path = args.file.as_deref().unwrap_or(path);
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(format!(
            "{} is there already; --force writes over it",
            path.display()
        )),
        _ => Failure::work(format!("cannot write {}: {error}", path.display())),
    };
    if path == Path::new("-") {
        output::write(text.as_bytes())?;
        return Ok(DONE);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    eprintln!(
        "wrote {}; next: linkspan check, linkspan keys add NAME --scope invoke --scope read, linkspan serve",
        path.display()
    );
    Ok(DONE)
}
