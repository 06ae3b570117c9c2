//! `linkspan migrate`: brings the store's tables to this version's form, before the gateways of this version start.

use std::path::Path;

use super::{DONE, Done, Failure, load, runtime};
use crate::{configuration, store};

/// The arguments of `linkspan migrate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(path: &Path, _args: &Args) -> Done {
    let config = load(path)?;
    let folder = configuration::folder(path);
    let (from, to) = runtime()?
        .block_on(store::migrate(&config, &folder))
        .map_err(|error| Failure::of(&error))?;
    let jobs = &config.store.jobs;
    if from == to {
        println!("{jobs}: at version {to} already");
    } else {
        println!("{jobs}: migrated from version {from} to {to}");
    }
    Ok(DONE)
}
