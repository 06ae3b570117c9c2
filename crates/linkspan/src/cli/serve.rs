//! `linkspan serve`: the gateway, from configuration to drain.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{DONE, Done, Failure, load_silently, runtime};
use crate::configuration;
use crate::logging;
use crate::served::Served;

/// The arguments of `linkspan serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Listen here instead of where the configuration says; the same rules hold.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
}

pub(super) fn run(path: &Path, args: &Args) -> Done {
    let mut config = load_silently(path)?;
    if let Some(listen) = args.listen {
        config.server.listen = listen;
        config
            .check_listen()
            .map_err(|sentence| Failure::usage(format!("--listen {listen}: {sentence}")))?;
    }
    logging::start(config.server.log_format, "info");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let folder = configuration::folder(path);
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        // Before anything starts: a signal that comes in between must drain too, not kill.
        let mut interrupts = Interrupts::catch().map_err(|error| Failure::of(&error))?;
        let served = Served::start(config, &folder)
            .await
            .map_err(|error| Failure::of(&error))?;
        interrupts.next().await;
        tracing::info!(
            "stopping: no new work is taken, open work ends first; a second signal ends at once"
        );
        tokio::spawn(async move {
            interrupts.next().await;
            std::process::exit(130);
        });
        served.stop().await;
        tracing::info!("stopped");
        Ok(DONE)
    });
    // An engine in this process that is still at work is not waited for: its invocation was given back.
    runtime.shutdown_timeout(Duration::from_secs(2));
    done
}

/// An address and a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "it is not an IP address and a port such as 127.0.0.1:8080 or [::1]:8080".to_owned()
    })
}

/// SIGINT (Ctrl-C) and SIGTERM, caught from the moment that this is made.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Resolves at SIGINT (Ctrl-C) or SIGTERM.
pub(super) async fn interrupted() {
    match Interrupts::catch() {
        Ok(mut interrupts) => interrupts.next().await,
        Err(_) => std::future::pending().await,
    }
}
