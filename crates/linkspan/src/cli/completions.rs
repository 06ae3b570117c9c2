//! `linkspan completions SHELL`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, DONE, Done, output};

/// The arguments of `linkspan completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Done {
    // Through memory: the generator panics when its reader goes away (`| head`).
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "linkspan", &mut script);
    output::write(&script)?;
    Ok(DONE)
}
