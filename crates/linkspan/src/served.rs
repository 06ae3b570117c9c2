//! A gateway with its server: started together, drained together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use linkspan_model::config::Config;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::engines::Engines;
use crate::gateway::{Gateway, StartError};
use crate::http::{self, server};
use crate::tls::{Tls, TlsFiles};

/// A gateway that serves.
pub struct Served {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Where it listens.
    pub address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Served {
    /// Starts a gateway and its server.
    ///
    /// # Errors
    ///
    /// When the address, the certificate, the store or an engine is not to be had.
    pub async fn start(config: Config, folder: &Path) -> Result<Self, StartError> {
        let engines = Engines::new(&config)?;
        Self::start_with(config, folder, engines).await
    }

    /// The same with engines of one's own.
    ///
    /// # Errors
    ///
    /// As [`Served::start`].
    pub async fn start_with(
        mut config: Config,
        folder: &Path,
        engines: Engines,
    ) -> Result<Self, StartError> {
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
                let files = TlsFiles::of(tls, folder);
                let reload = tls.reload_interval;
                let tls = Tls::load(files)?;
                let acceptor = TlsAcceptor::from(tls.config.clone());
                tokio::spawn(tls.follow(reload, stop.clone()));
                Some(acceptor)
            }
        };
        let listen = config.server.listen;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| StartError::Listen { listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| StartError::Listen { listen, source })?;
        // Where port 0 was asked for, links need the one that was given.
        config.server.listen = address;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let gateway = Box::pin(Gateway::start(config, folder, engines)).await?;
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
    pub async fn stop(self) {
        self.gateway.stop.cancel();
        self.stop.cancel();
        // Both have the same drain time; open requests may still need the store.
        let _ = tokio::join!(self.server, self.gateway.drain());
        self.gateway.close().await;
    }
}
