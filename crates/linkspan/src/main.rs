//! The `linkspan` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    linkspan::tls::install_provider();
    linkspan::cli::main()
}
