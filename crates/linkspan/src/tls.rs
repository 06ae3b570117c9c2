//! TLS by rustls, with the certificate read again when its files change, so that a renewal needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use linkspan_model::config;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

/// Makes `ring` the cryptography of every TLS connection in this process: for libraries that ask rustls for the process's default.
/// Called first of all; a second call changes nothing.
pub fn install_provider() {
    // An error says that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The files that TLS needs.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain, PEM, the server's own first.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Where given, every client must show a certificate that this authority signed.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// The files that a configuration in `folder` names.
    #[must_use]
    pub fn of(tls: &config::Tls, folder: &Path) -> Self {
        Self {
            cert: folder.join(&tls.cert),
            key: folder.join(&tls.key),
            client_ca: tls.client_ca.as_ref().map(|path| folder.join(path)),
        }
    }
}

/// Why TLS cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read {what} from {path}")]
    File {
        /// What was wanted.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds nothing of the kind that is wanted.
    #[error("there is no PEM block with {what} in {path}")]
    Empty {
        /// What was wanted.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The parts do not fit together.
    #[error("the certificate in {path} cannot be used")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TlsError {
    fn file(what: &'static str, path: &Path, source: rustls::pki_types::pem::Error) -> Self {
        let path = path.to_owned();
        match source {
            rustls::pki_types::pem::Error::NoItemsFound => Self::Empty { what, path },
            source => Self::File { what, path, source },
        }
    }
}

/// Adds the authorities of a PEM file to those that are trusted.
///
/// # Errors
///
/// When the file cannot be read, holds no certificate, or one that cannot be an authority's.
pub fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    for authority in certificates(path, "an authority's certificate")? {
        roots.add(authority).map_err(|error| TlsError::Unusable {
            path: path.to_owned(),
            source: error.into(),
        })?;
    }
    Ok(())
}

/// A rustls configuration whose certificate follows its files.
pub struct Tls {
    /// For the acceptor.
    pub config: Arc<ServerConfig>,
    current: Arc<Current>,
    files: TlsFiles,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When a file is missing, holds no PEM of its kind, or key and certificate do not belong together.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Unusable {
            path: files.cert.clone(),
            source,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = Arc::new(Current(RwLock::new(Arc::new(read(&files)?))));
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.into()))?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                add_authorities(&mut roots, path)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .map_err(|error| unusable(error.into()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            current,
            files,
        })
    }

    /// Looks at the files again and again until the gateway stops. A new pair that does not fit together is logged and
    /// the old one stays in use: renewal writes two files, and one may be seen before the other.
    pub async fn follow(self, every: Duration, stop: CancellationToken) {
        let mut seen = self.changed_at();
        while stop
            .run_until_cancelled(tokio::time::sleep(every))
            .await
            .is_some()
        {
            let now = self.changed_at();
            if now == seen {
                continue;
            }
            match read(&self.files) {
                Ok(pair) => {
                    self.current.set(pair);
                    seen = now;
                    tracing::info!(cert = %self.files.cert.display(), "certificate reloaded");
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the new certificate cannot be used; the old one stays"
                ),
            }
        }
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        [&self.files.cert, &self.files.key]
            .map(|path| path.metadata().and_then(|data| data.modified()).ok())
    }
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn set(&self, pair: CertifiedKey) {
        *self
            .0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(pair);
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.0
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .clone(),
        )
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.cert, "a certificate")?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::file("a private key", &files.key, source))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(|error| {
        TlsError::Unusable {
            path: files.cert.clone(),
            source: error.into(),
        }
    })
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file_error = |source| TlsError::file(what, path, source);
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(file_error)?;
    if chain.is_empty() {
        return Err(file_error(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(chain)
}
