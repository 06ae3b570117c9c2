//! The command line: `linkspan [-c linkspan.toml] VERB`.
//!
//! Results go to standard output, everything else to standard error. Exit codes: [`DONE`], [`SOME_FAILED`], [`WRONG_USAGE`].

mod check;
mod completions;
mod deliveries;
mod demo;
mod doctor;
mod init;
mod jobs;
mod keys;
mod migrate;
mod output;
mod reference;
mod remote;
mod replicate;
mod run;
mod serve;
mod store;
mod streams;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use linkspan_model::config::Config;

use crate::store::{ErrorKind, StoreError};

/// Everything was done.
pub const DONE: u8 = 0;
/// Some of the work failed; the rest was done.
pub const SOME_FAILED: u8 = 1;
/// The command or the configuration is wrong; nothing was done.
pub const WRONG_USAGE: u8 = 2;

/// Connects AI services to the systems that an enterprise already runs.
#[derive(Debug, Parser)]
#[command(
    name = "linkspan",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = "linkspan.toml",
        env = "LINKSPAN_CONFIG"
    )]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway: the HTTP API, jobs and results.
    #[command(
        after_help = "Example:\n  linkspan init && linkspan serve\n\nCtrl-C drains: open requests and running jobs end first."
    )]
    Serve(serve::Args),
    /// Put files through an integration, with no server.
    #[command(
        after_help = "Examples:\n  linkspan run onboarding passport.jpg\n  linkspan run reading 'scans/*.pdf' --output json\n  cat letter.eml | linkspan run reading -"
    )]
    Run(run::Args),
    /// Validate a configuration file, and the files and folders that it points to. Calls nobody: no database, bucket or receiver.
    #[command(after_help = "Example:\n  linkspan -c production.toml check")]
    Check(check::Args),
    /// Write an annotated configuration file.
    #[command(
        after_help = "Example:\n  linkspan init            # writes linkspan.toml\n  linkspan init - | less"
    )]
    Init(init::Args),
    /// Say which engines, libraries and kernel protections are there, and how to get the rest.
    #[command(after_help = "Example:\n  linkspan doctor --output json")]
    Doctor(doctor::Args),
    /// Make, list, rotate and revoke API keys.
    #[command(
        subcommand,
        after_help = "Example:\n  linkspan keys add crm --scope invoke --scope read --expires 90d"
    )]
    Keys(keys::Verb),
    /// List, show, cancel and retry the jobs of a running gateway.
    #[command(
        after_help = "Examples:\n  linkspan jobs list --state failed\n  linkspan jobs retry 01980f2e-…\n\nThe gateway is that of --url or LINKSPAN_URL, the key that of LINKSPAN_KEY."
    )]
    Jobs(jobs::Args),
    /// List, show and replay the deliveries of a running gateway; look at, pause and resume where they go.
    #[command(
        after_help = "Examples:\n  linkspan deliveries list --state dead\n  linkspan deliveries endpoints\n  linkspan deliveries replay --integration letters --from 2026-11-20T00:00:00Z\n  linkspan deliveries pause letters webhook --reason 'the CRM moves'\n\nThe gateway is that of --url or LINKSPAN_URL, the key that of LINKSPAN_KEY."
    )]
    Deliveries(deliveries::Args),
    /// List the streams of a running gateway, and show their results as they come.
    #[command(
        after_help = "Examples:\n  linkspan streams list\n  linkspan streams tail reviews --status failed\n  linkspan streams results reviews -q refund --output json\n\nThe gateway is that of --url or LINKSPAN_URL, the key that of LINKSPAN_KEY."
    )]
    Streams(streams::Args),
    /// Look after replications between Kafka clusters: how far they are, groups that move, both sides compared.
    #[command(
        after_help = "Examples:\n  linkspan replicate status\n  linkspan replicate verify estate\n  linkspan replicate translate estate --group billing --apply\n\nThe clusters are asked themselves, as the configuration reaches them: the gateway need not run."
    )]
    Replicate(replicate::Args),
    /// Bring the store's tables to this version's form.
    #[command(
        after_help = "Gateways do it by themselves at their start; run it before a rolling update to see that it works.\n\nExample:\n  linkspan -c production.toml migrate"
    )]
    Migrate(migrate::Args),
    /// Move an installation's history to another store.
    #[command(
        subcommand,
        after_help = "Example:\n  linkspan store copy --from sqlite:data/linkspan.db --to '${env:DATABASE_URL}'"
    )]
    Store(store::Verb),
    /// Show the main job on files that come along.
    #[command(after_help = "Example:\n  linkspan demo --exit")]
    Demo(demo::Args),
    /// Print shell completions.
    #[command(
        after_help = "Example:\n  linkspan completions bash > /etc/bash_completion.d/linkspan"
    )]
    Completions(completions::Args),
    /// Serve one engine to a host over the Lambda Runtime API (started by the gateway itself).
    #[command(hide = true)]
    Worker(worker::Args),
    /// Write the generated reference (docs/).
    #[command(hide = true)]
    Reference(reference::Args),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // exits with 2 on wrong usage
    let done = match cli.verb {
        Verb::Serve(args) => serve::run(&cli.config, &args),
        Verb::Run(args) => run::run(&cli.config, &args),
        Verb::Check(args) => check::run(&cli.config, &args),
        Verb::Init(args) => init::run(&cli.config, &args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Keys(verb) => keys::run(&cli.config, verb),
        Verb::Jobs(args) => jobs::run(args),
        Verb::Deliveries(args) => deliveries::run(args),
        Verb::Streams(args) => streams::run(args),
        Verb::Replicate(args) => replicate::run(&cli.config, args),
        Verb::Migrate(args) => migrate::run(&cli.config, &args),
        Verb::Store(verb) => store::run(&cli.config, verb),
        Verb::Demo(args) => demo::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Worker(args) => return worker::run(&args),
        Verb::Reference(args) => reference::run(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            for line in failure.message.lines() {
                eprintln!("linkspan: {line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Why a verb ends early.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The command or the configuration is wrong.
    fn usage(message: impl Into<String>) -> Self {
        Self {
            code: WRONG_USAGE,
            message: message.into(),
        }
    }

    /// The work failed.
    fn work(message: impl Into<String>) -> Self {
        Self {
            code: SOME_FAILED,
            message: message.into(),
        }
    }

    /// The work failed, with the error and everything behind it.
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        match error.downcast_ref::<StoreError>() {
            Some(error) => Self::work(told(error)),
            None => Self::work(crate::logging::chain(error)),
        }
    }
}

/// A store's error for whoever stands at a command line: nothing is tried again, and there is no log but what is said here.
fn told(error: &StoreError) -> String {
    let why = match error.kind {
        ErrorKind::Unreachable => "its server does not answer".to_owned(),
        ErrorKind::Unusable => "it cannot be opened".to_owned(),
        ErrorKind::Internal => "of a fault in linkspan".to_owned(),
        kind => kind.to_string(),
    };
    let source = error.source.as_deref().map(|source| {
        let source: &(dyn std::error::Error + 'static) = source;
        format!(": {}", crate::logging::chain(source))
    });
    format!(
        "the store could not {}: {why}{}",
        error.doing,
        source.unwrap_or_default()
    )
}

type Done = Result<u8, Failure>;

/// Reads and checks the configuration; its warnings go to standard error.
fn load(path: &Path) -> Result<Config, Failure> {
    let config = load_silently(path)?;
    for warning in &config.warnings {
        eprintln!("linkspan: warning: {warning}");
    }
    Ok(config)
}

/// The same for a verb that logs the warnings.
fn load_silently(path: &Path) -> Result<Config, Failure> {
    crate::configuration::load(path).map_err(|error| Failure::usage(error.to_string()))
}

/// A runtime for the verbs that do I/O.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::work(format!("cannot start the runtime: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{ErrorKind, Failure, StoreError};

    #[test]
    fn a_command_says_what_a_store_said_and_promises_no_second_try() {
        let source = || std::io::Error::other("the server says 28P01");
        for kind in [
            ErrorKind::Unreachable,
            ErrorKind::Unusable,
            ErrorKind::Internal,
        ] {
            let error = StoreError::new(kind, "open").because(source());
            let message = Failure::of(&error).message;
            assert!(message.ends_with(": the server says 28P01"), "{message}");
            for promise in ["by itself", "see the log"] {
                assert!(!message.contains(promise), "{message}");
            }
        }
    }
}
