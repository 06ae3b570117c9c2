//! The `linkspan` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    linkspan::cli::main()
}
