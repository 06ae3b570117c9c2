//! The store's address: `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`, and how its connections are secured.
//!
//! What tokio-postgres reads holds, with these additions:
//! - without `sslmode`, TLS is required unless every host is this machine (a loopback address, `localhost`, a socket's folder);
//! - `require`, `verify-ca` and `verify-full` are one thing here: the server's certificate and its name are always checked, against
//!   the system's roots or the certificates of the file `sslrootcert`;
//! - without `target_session_attrs`, it is `read-write`: of several hosts, the one that can be written to;
//! - `options=-c search_path=NAME` names the schema of the tables; without it, it is `linkspan`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The schema of the tables where the address names none.
const SCHEMA: &str = "linkspan";

/// How long a server may take to accept a connection, where the address says nothing else.
const CONNECT: Duration = Duration::from_secs(5);

/// What an address says.
pub(super) struct Address {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: MakeRustlsConnect,
    /// The schema of the tables: letters, digits and underscores.
    pub(super) schema: String,
}

/// Reads an address. The error is a sentence without the address: that holds a password.
pub(super) fn read(url: &str) -> Result<Address, String> {
    let (text, given, roots) = split(url)?;
    // Its own error may quote a part of the address.
    let mut config: tokio_postgres::Config = text.parse().map_err(|_| {
        "the store's address cannot be read: write postgres://USER:PASSWORD@HOST:PORT/DATABASE"
            .to_owned()
    })?;
    if config.get_hosts().is_empty() {
        return Err("the store's address names no host".to_owned());
    }
    let schema = schema(config.get_options().unwrap_or_default())?;
    config.ssl_mode(match given.as_deref() {
        None if is_here(&config) => SslMode::Disable,
        None | Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        Some("prefer" | "allow") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some(_) => {
            return Err("sslmode in the store's address is disable, prefer or require".to_owned());
        }
    });
    if !text.contains("target_session_attrs=") {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_application_name().is_none() {
        config.application_name("linkspan");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    // A server that went away without a word is noticed.
    config.keepalives_idle(Duration::from_secs(30));
    config.keepalives_interval(Duration::from_secs(10));
    config.keepalives_retries(3);
    config.tcp_user_timeout(Duration::from_secs(30));
    let tls = tls(config.get_ssl_mode(), roots.as_deref())?;
    Ok(Address {
        config,
        tls,
        schema,
    })
}

/// The address without what tokio-postgres does not know, its `sslmode` and its `sslrootcert`.
fn split(url: &str) -> Result<(String, Option<String>, Option<String>), String> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None, None));
    };
    let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let value = || {
            url::form_urlencoded::parse(pair.as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
        };
        match pair.split_once('=').map_or(pair, |(name, _)| name) {
            "sslmode" => mode = value(),
            "sslrootcert" => roots = value(),
            "sslcert" | "sslkey" => {
                return Err("the store's address names a client certificate; linkspan signs in with a password".to_owned());
            }
            _ => rest.push(pair),
        }
    }
    let text = if rest.is_empty() {
        base.to_owned()
    } else {
        format!("{base}?{}", rest.join("&"))
    };
    Ok((text, mode, roots))
}

/// Whether every host is this machine.
fn is_here(config: &tokio_postgres::Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .trim_matches(['[', ']'])
                    .parse()
                    .is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

/// The first schema of `-c search_path=…`, or the default one.
fn schema(options: &str) -> Result<String, String> {
    let Some((_, rest)) = options.split_once("search_path=") else {
        return Ok(SCHEMA.to_owned());
    };
    let name: String = rest
        .chars()
        .take_while(|letter| !letter.is_whitespace() && *letter != ',')
        .collect();
    let fits = name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if fits {
        Ok(name)
    } else {
        Err("search_path in the store's address must be a name of lower-case letters, digits and underscores".to_owned())
    }
}

fn tls(mode: SslMode, roots: Option<&str>) -> Result<MakeRustlsConnect, String> {
    let mut store = RootCertStore::empty();
    if mode != SslMode::Disable {
        match roots {
            Some(path) => {
                let unreadable = || {
                    format!(
                        "sslrootcert in the store's address: no certificates can be read from {path}"
                    )
                };
                let certificates = CertificateDer::pem_file_iter(path).map_err(|_| unreadable())?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|_| unreadable())?;
                    store.add(certificate).map_err(|_| unreadable())?;
                }
            }
            None => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if store.is_empty() && mode == SslMode::Require {
            return Err("there are no root certificates to check the server's with: install ca-certificates, or name a file with sslrootcert".to_owned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_unless_the_server_is_here_or_the_address_says_otherwise() {
        let cases = [
            ("postgres://u:p@db.example.com/linkspan", SslMode::Require),
            (
                "postgres://u:p@192.0.2.7/linkspan?sslmode=verify-full",
                SslMode::Require,
            ),
            (
                "postgres://u:p@db.example.com/linkspan?sslmode=disable",
                SslMode::Disable,
            ),
            (
                "postgres://u:p@db.example.com/linkspan?connect_timeout=3&sslmode=prefer",
                SslMode::Prefer,
            ),
            ("postgres://u@localhost:5433/linkspan", SslMode::Disable),
            ("postgres://u@127.0.0.1/linkspan", SslMode::Disable),
            ("postgres://u@[::1]/linkspan", SslMode::Disable),
            (
                "postgres://u@%2Frun%2Fpostgresql/linkspan",
                SslMode::Disable,
            ),
            (
                "postgres://u@localhost,db.example.com/linkspan",
                SslMode::Require,
            ),
            (
                "postgres://u@localhost/linkspan?sslmode=require",
                SslMode::Require,
            ),
        ];
        for (url, expected) in cases {
            let address = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(address.config.get_ssl_mode(), expected, "{url}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_without_quoting_its_password() {
        let cases = [
            ("postgres://u:hunter2@h:99999/d", "cannot be read"),
            ("postgres://u:hunter2@h/d?sslmode=maybe", "sslmode"),
            ("postgres://u:hunter2@h/d?sslcert=x", "client certificate"),
            (
                "postgres://u:hunter2@h/d?sslrootcert=/nowhere.pem",
                "sslrootcert",
            ),
            (
                "postgres://u:hunter2@h/d?options=-csearch_path%3D%22A%22",
                "search_path",
            ),
        ];
        for (url, expected) in cases {
            let Err(error) = read(url) else {
                panic!("{url} was read");
            };
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_schema_is_the_addresss_or_linkspan() {
        let named = "postgres://u@localhost/d?options=-c%20search_path%3Dai_jobs%2Cpublic";
        assert_eq!(read(named).unwrap().schema, "ai_jobs");
        assert_eq!(read("postgres://u@localhost/d").unwrap().schema, "linkspan");
    }
}
