//! `linkspan store`: moving a running installation's history to another store.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use linkspan_model::config::{BlobStore, Config, JobStore, Reference, Resolve as _};

use super::{DONE, Done, Failure, SOME_FAILED, runtime};
use crate::configuration::{self, Resolver};
use crate::store;
use crate::store::copy::{self, Copied, Export, Import, Step};

/// The verbs of `linkspan store`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Copy jobs, results, deliveries, keys and the audit log to another store; a second run goes on where the first ended.
    #[command(
        after_help = "The source may be in use: copy once while its gateway runs, then stop the gateway and copy again; the second run \
                      takes over the rest, and checks the counts. The target is empty before the first run; once a gateway has worked \
                      on it, a copy is refused, because it would undo what that did.\n\nExample:\n  linkspan store copy --from sqlite:data/linkspan.db --to \
                      '${env:DATABASE_URL}' --blobs-from file:data/blobs --blobs-to s3://documents/linkspan"
    )]
    Copy(CopyArgs),
}

/// The arguments of `linkspan store copy`. An address may be a reference such as '${env:DATABASE_URL}', so that no password stands on
/// the command line.
#[derive(Debug, clap::Args)]
pub(super) struct CopyArgs {
    /// The store to copy from, such as sqlite:data/linkspan.db.
    #[arg(long, value_name = "ADDRESS")]
    from: String,
    /// The store to copy to, such as postgres://db.internal/linkspan or '${env:DATABASE_URL}'.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// The folder or bucket of documents to copy from; with --blobs-to. A bucket is reached as [store.s3] says.
    #[arg(long, value_name = "ADDRESS", requires = "blobs_to")]
    blobs_from: Option<String>,
    /// The folder or bucket of documents to copy to.
    #[arg(long, value_name = "ADDRESS", requires = "blobs_from")]
    blobs_to: Option<String>,
}

pub(super) fn run(path: &Path, verb: Verb) -> Done {
    let Verb::Copy(args) = verb;
    let folder = configuration::folder(path);
    let resolver = Resolver {
        folder: folder.clone(),
    };
    // Only for how a bucket is reached; a copy needs no file.
    let config = if path.exists() {
        super::load(path)?
    } else {
        Config::parse("", "linkspan.toml", &|_: Reference<'_>| Err(String::new()))
            .map_err(|faults| Failure::usage(faults.to_string()))?
    };
    let from: JobStore = address("--from", &args.from, &resolver)?;
    let to: JobStore = address("--to", &args.to, &resolver)?;
    let blobs = match (&args.blobs_from, &args.blobs_to) {
        (Some(from), Some(to)) => Some((
            address::<BlobStore>("--blobs-from", from, &resolver)?,
            address::<BlobStore>("--blobs-to", to, &resolver)?,
        )),
        _ => None,
    };
    let work = Work {
        config,
        from,
        to,
        blobs,
        // Arguments are relative to where the command runs, as every path of a command line.
        folder: PathBuf::from("."),
    };
    runtime()?.block_on(work.run())
}

struct Work {
    config: Config,
    from: JobStore,
    to: JobStore,
    blobs: Option<(BlobStore, BlobStore)>,
    folder: PathBuf,
}

impl Work {
    async fn run(self) -> Done {
        let failed = |error| Failure::of(&error);
        let from = self.export()?;
        let blobs = match &self.blobs {
            None => None,
            Some((from, to)) => Some((
                store::blobs_beside(&self.config, from, &self.folder)
                    .await
                    .map_err(failed)?,
                store::blobs_of(&self.config, to, &self.folder)
                    .await
                    .map_err(failed)?,
            )),
        };
        let to = self.import().await?;
        let bar = progress();
        let copied = copy::copy(
            &*from,
            &*to,
            blobs.as_ref().map(|(from, to)| (&**from, to)),
            |step| match step {
                Step::Ahead(jobs) => bar.set_length(jobs),
                Step::Jobs(jobs) => bar.inc(jobs),
            },
        )
        .await;
        bar.finish_and_clear();
        Ok(self.tell(&copied.map_err(failed)?))
    }

    fn export(&self) -> Result<Box<dyn Export>, Failure> {
        match &self.from {
            JobStore::Sqlite(path) => {
                let path = self.folder.join(path);
                if !path.exists() {
                    return Err(Failure::usage(format!(
                        "--from: there is no file {}",
                        path.display()
                    )));
                }
                let store = store::SqliteStore::open_beside(path);
                Ok(Box::new(store.map_err(|error| Failure::of(&error))?))
            }
            JobStore::Postgres(_) => Err(Failure::usage(
                "--from: a copy goes from SQLite to PostgreSQL; between databases of PostgreSQL use its own tools, such as pg_dump",
            )),
        }
    }

    async fn import(&self) -> Result<Box<dyn Import>, Failure> {
        match &self.to {
            JobStore::Postgres(url) => {
                let store = store::PostgresStore::open_beside(url.reveal()).await;
                Ok(Box::new(store.map_err(|error| Failure::of(&error))?))
            }
            JobStore::Sqlite(_) => Err(Failure::usage(
                "--to: a copy goes from SQLite to PostgreSQL: write postgres://HOST/DATABASE",
            )),
        }
    }

    fn tell(&self, copied: &Copied) -> u8 {
        println!(
            "copied {} jobs and {} documents from {} to {}; looked again at {} that changed lately, removed {} that are gone",
            copied.jobs, copied.blobs, self.from, self.to, copied.renewed, copied.removed
        );
        if copied.lost > 0 {
            eprintln!(
                "linkspan: {} documents that jobs name are not in the source",
                copied.lost
            );
        }
        for (kind, source, target) in &copied.differences {
            eprintln!("linkspan: {kind}: {source} in the source, {target} in the target");
        }
        if copied.left > 0 {
            eprintln!(
                "linkspan: this run copied no documents over 64 KiB, and jobs name {}: give --blobs-from and --blobs-to",
                copied.left
            );
        }
        if copied.differences.is_empty() && copied.lost + copied.left == 0 {
            eprintln!(
                "the counts agree. Before the first gateway starts on the new store: stop the one on the old store and copy once more if \
                 it ran meanwhile (afterwards a copy is refused); and copy its hash key (by default the .key file beside the database) to where store.hash_key names it, \
                 or linkspan.key beside linkspan.toml"
            );
            return DONE;
        }
        if !copied.differences.is_empty() {
            eprintln!(
                "linkspan: the counts differ: a gateway that runs on the source changes it meanwhile (stop it and copy again), or the target \
                 holds what did not come from this source (keys that were made there, say)"
            );
        }
        SOME_FAILED
    }
}

/// Reads an address, which may be a reference. What is wrong is told without the address: it may hold a password.
fn address<T: std::str::FromStr<Err = String>>(
    flag: &str,
    given: &str,
    resolver: &Resolver,
) -> Result<T, Failure> {
    let wrong = |clause: &str| Failure::usage(format!("{flag}: the address {clause}"));
    let reference = Reference::in_argument(given)
        .map_err(|sentence| Failure::usage(format!("{flag}: {sentence}")))?;
    let text = match reference {
        None => given.to_owned(),
        Some(reference) => resolver
            .resolve(reference)
            .map_err(|why| Failure::usage(format!("{flag}: {reference}: {why}")))?,
    };
    text.parse().map_err(|clause: String| wrong(&clause))
}

fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} jobs, {eta} left") {
        bar.set_style(style);
    }
    bar
}
