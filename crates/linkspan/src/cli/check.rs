//! `linkspan check`: a configuration file and what it points to.

use std::path::Path;

use super::{DONE, Done, Failure, load};
use crate::configuration;

/// The arguments of `linkspan check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(path: &Path, _args: &Args) -> Done {
    let config = load(path)?;
    let faults = configuration::check_targets(&config, &configuration::folder(path));
    if !faults.is_empty() {
        return Err(Failure::usage(faults.join("\n")));
    }
    let lacking = configuration::lacking(&config);
    for warning in lacking.iter().chain(&configuration::short_lived(&config)) {
        eprintln!("linkspan: warning: {warning}");
    }
    println!(
        "{}: ok ({}, {})",
        path.display(),
        counted(config.services.len(), "service"),
        counted(config.integrations.len(), "integration")
    );
    Ok(DONE)
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
