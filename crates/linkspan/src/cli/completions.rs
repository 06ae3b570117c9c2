//! `linkspan completions SHELL`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, DONE, Done};

/// The arguments of `linkspan completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

#[expect(clippy::unnecessary_wraps, reason = "every verb ends the same way")]
pub(super) fn run(args: &Args) -> Done {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "linkspan",
        &mut std::io::stdout(),
    );
    Ok(DONE)
}
