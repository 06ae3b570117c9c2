//! `linkspan serve`: the gateway, from configuration to drain.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use linkspan_model::config::Config;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{DONE, Done, Failure, load, runtime};
use crate::configuration;
use crate::gateway::Gateway;
use crate::http::{self, server};
use crate::logging;
use crate::tls::{Tls, TlsFiles};

/// The arguments of `linkspan serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Listen here instead of where the configuration says; the same rules hold.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) fn run(path: &Path, args: Args) -> Done {
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
        let served = Served::start(config, &folder).await?;
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

/// A gateway that serves.
pub(super) struct Served {
    /// The gateway.
    pub(super) gateway: Arc<Gateway>,
    /// Where it listens.
    pub(super) address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Served {
    /// Starts a gateway and its server.
    pub(super) async fn start(config: Config, folder: &Path) -> Result<Self, Failure> {
        let limits = server::ServerLimits {
            max_connections: config.server.max_connections as usize,
            max_header_bytes: usize::try_from(config.server.max_header_bytes.bytes())
                .unwrap_or(usize::MAX),
            header_timeout: config.server.header_timeout,
            drain_timeout: config.server.drain_timeout,
        };
        let stop = CancellationToken::new();
        let tls = match &config.server.tls {
            None => None,
            Some(tls) => {
                let files = TlsFiles {
                    cert: folder.join(&tls.cert),
                    key: folder.join(&tls.key),
                    client_ca: tls.client_ca.as_ref().map(|path| folder.join(path)),
                };
                let reload = tls.reload_interval;
                let tls = Tls::load(files).map_err(|error| Failure::of(&error))?;
                let acceptor = TlsAcceptor::from(tls.config.clone());
                tokio::spawn(tls.follow(reload, stop.clone()));
                Some(acceptor)
            }
        };
        let listen = config.server.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| Failure::work(format!("cannot listen on {listen}: {error}")))?;
        let address = listener.local_addr().map_err(|error| Failure::of(&error))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let gateway = Gateway::start(config, folder)
            .await
            .map_err(|error| Failure::of(&error))?;
        let router = http::router(gateway.clone());
        let server = tokio::spawn(server::serve(listener, tls, router, limits, stop.clone()));
        tracing::info!(%address, integrations = gateway.integrations.len(), "listening on {scheme}://{address}");
        Ok(Self {
            gateway,
            address,
            server,
            stop,
        })
    }

    /// Drains: no new connections, open requests and attempts end, the store closes.
    pub(super) async fn stop(self) {
        self.gateway.stop.cancel();
        self.stop.cancel();
        let _ = self.server.await;
        self.gateway.drain().await;
    }
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
