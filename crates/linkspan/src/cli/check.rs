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
        return Err(Failure::usage(faults.join("\nlinkspan: ")));
    }
    println!(
        "{}: ok ({} services, {} integrations)",
        path.display(),
        config.services.len(),
        config.integrations.len()
    );
    Ok(DONE)
}
