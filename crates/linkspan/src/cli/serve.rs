//! `linkspan serve`: the gateway, from configuration to drain.

use std::net::SocketAddr;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};

use super::{DONE, Done, Failure, load, runtime};
use crate::configuration;
use crate::logging;
use crate::served::Served;

/// The arguments of `linkspan serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Listen here instead of where the configuration says; the same rules hold.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) fn run(path: &Path, args: &Args) -> Done {
    let mut config = load(path)?;
    if let Some(listen) = args.listen {
        config.server.listen = listen;
        config
            .check_listen()
            .map_err(|sentence| Failure::usage(format!("--listen {listen}: {sentence}")))?;
    }
    logging::start(config.server.log_format, "info");
    let folder = configuration::folder(path);
    runtime()?.block_on(async {
        let served = Served::start(config, &folder)
            .await
            .map_err(|error| Failure::of(&error))?;
        interrupted().await;
        tracing::info!(
            "stopping: no new work is taken, open work ends first; a second signal ends at once"
        );
        tokio::spawn(async {
            interrupted().await;
            std::process::exit(130);
        });
        served.stop().await;
        Ok(DONE)
    })
}

/// Resolves at SIGINT (Ctrl-C) or SIGTERM.
pub(super) async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => {
            if result.is_err() {
                std::future::pending::<()>().await;
            }
        }
        () = terminated => {}
    }
}
