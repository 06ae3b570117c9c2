//! `linkspan keys`: API keys in the store, beside a running gateway or without one.

use std::path::Path;

use jiff::Timestamp;
use linkspan_model::config::{Config, parse_duration};
use serde::Serialize;

use super::output::{self, Output, Row};
use super::{DONE, Done, Failure, load, runtime};
use crate::access_key::{AccessKey, Seal};
use crate::configuration;
use crate::http::keys::KeyKind;
use crate::keys::{ApiKey, HashKey, Scope, check_name};
use crate::store::{self, Actor, KeyRecord, Store, signed};

/// The verbs of `linkspan keys`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make a key and print it, once.
    Add {
        /// Whose it is; jobs belong to this name.
        name: String,
        /// What it allows: invoke, read or admin, each alone or for one integration (invoke:onboarding); with --sigv4, for one stream.
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<Scope>,
        /// When it ends: a time from now (90d, 12h).
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        /// Requests a second, instead of server.rate_limit.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// Make an access key of the Kinesis API, which signs requests (AWS Signature Version 4), instead of one for the Authorization
        /// header.
        #[arg(long)]
        sigv4: bool,
        /// The form of the output; without it, a key is printed alone, and an access key as a table.
        #[arg(long, value_enum)]
        output: Option<Output>,
    },
    /// Make a new key of the same name and scopes; the old ones end after the overlap.
    Rotate {
        /// Whose it is.
        name: String,
        /// How long the old keys still hold.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        /// When the new key ends: a time from now (90d, 12h); without it, it lives as long as the old one was given.
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        /// Rotate the access keys (AWS Signature Version 4) where the name has both kinds.
        #[arg(long)]
        sigv4: bool,
        /// The form of the output; without it, a key is printed alone, and an access key as a table.
        #[arg(long, value_enum)]
        output: Option<Output>,
    },
    /// List the keys; secrets are not stored and cannot be shown.
    List {
        /// The form of the output.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Revoke a key at once, by its id (see list), or every key of a name.
    Revoke {
        /// The id, or the name.
        key: String,
    },
}

/// A key as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    name: String,
    kind: &'static str,
    scopes: Vec<String>,
    state: &'static str,
    created: Timestamp,
    expires: Option<Timestamp>,
}

/// A key that was made, of either kind.
enum Made {
    Bearer(ApiKey),
    Access(AccessKey),
}

impl Made {
    fn id(&self) -> &str {
        match self {
            Self::Bearer(key) => &key.id,
            Self::Access(key) => &key.id,
        }
    }

    /// Prints it, this once.
    fn print(&self, output: Option<Output>) -> Result<(), Failure> {
        match (self, output) {
            (Self::Bearer(key), None) => output::write(format!("{}\n", key.reveal()).as_bytes()),
            (Self::Bearer(key), Some(output)) => {
                let id = key.id.clone();
                let key = key.reveal();
                output::print(output, &[BearerRow { id, key }])
            }
            (Self::Access(key), output) => {
                let row = AccessRow {
                    access_key_id: key.id.clone(),
                    secret_access_key: key.secret.clone(),
                };
                output::print(output.unwrap_or(Output::Table), &[row])
            }
        }
    }
}

/// A key for the Authorization header, as it is printed once.
#[derive(Serialize)]
struct BearerRow {
    id: String,
    key: String,
}

impl Row for BearerRow {
    const COLUMNS: &'static [&'static str] = &["id", "key"];

    fn cells(&self) -> Vec<String> {
        vec![self.id.clone(), self.key.clone()]
    }
}

/// An access key, as it is printed once.
#[derive(Serialize)]
struct AccessRow {
    access_key_id: String,
    secret_access_key: String,
}

impl Row for AccessRow {
    const COLUMNS: &'static [&'static str] = &["access_key_id", "secret_access_key"];

    fn cells(&self) -> Vec<String> {
        vec![self.access_key_id.clone(), self.secret_access_key.clone()]
    }
}

impl Row for Listed {
    const COLUMNS: &'static [&'static str] = &[
        "id", "name", "kind", "scopes", "state", "created", "expires",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.name.clone(),
            self.kind.to_owned(),
            self.scopes.join(" "),
            self.state.to_owned(),
            time(self.created),
            self.expires.map(time).unwrap_or_default(),
        ]
    }
}

pub(super) fn run(path: &Path, verb: Verb) -> Done {
    let config = load(path)?;
    let folder = configuration::folder(path);
    runtime()?.block_on(async {
        let store = store::open_beside(&config, &folder)
            .await
            .map_err(|error| Failure::of(&error))?;
        let done = dispatch(&config, &folder, &*store, verb).await;
        store.close().await;
        done
    })
}

async fn dispatch(config: &Config, folder: &Path, store: &dyn Store, verb: Verb) -> Done {
    match verb {
        Verb::Add {
            name,
            scopes,
            expires,
            rate,
            sigv4,
            output,
        } => {
            check_name(&name).map_err(Failure::usage)?;
            // An access key's are streams, which producers make and delete.
            for scope in scopes.iter().filter(|_| !sigv4) {
                if let Some(integration) = &scope.integration
                    && !config
                        .integrations
                        .keys()
                        .any(|known| known.as_str() == integration)
                {
                    eprintln!(
                        "linkspan: warning: the configuration has no integration {integration:?}, which the scope {scope} names"
                    );
                }
            }
            let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
            let expires = expiry("--expires", expires.as_deref())?;
            let hash_key = hash_key(config, folder, store).await?;
            let made = if sigv4 {
                Made::Access(add_access(&hash_key, store, &name, &scopes, rate, expires).await?)
            } else {
                Made::Bearer(add(&hash_key, store, &name, &scopes, rate, expires).await?)
            };
            made.print(output)?;
            eprintln!("the key {} of {name}; it is shown this once", made.id());
            Ok(DONE)
        }
        Verb::Rotate {
            name,
            overlap,
            expires,
            sigv4,
            output,
        } => {
            let now = Timestamp::now();
            let ends = time_from(now, "--overlap", &overlap)?;
            let mut old: Vec<KeyRecord> = listed(store)
                .await?
                .into_iter()
                .filter(|key| key.name == name && state(key, now) == "valid")
                .collect();
            let kind = if sigv4 { "access " } else { "" };
            let sigv4 = sigv4 || old.iter().all(|key| key.sealed.is_some());
            old.retain(|key| key.sealed.is_some() == sigv4);
            let Some(latest) = old.last() else {
                return Err(Failure::usage(format!(
                    "{name} has no valid {kind}key to rotate; linkspan keys add makes one"
                )));
            };
            let scopes: Vec<String> =
                serde_json::from_str(&latest.scopes).map_err(|error| Failure::of(&error))?;
            let expires = match expiry("--expires", expires.as_deref())? {
                Some(given) => Some(given),
                // As long a life as the old key was given.
                None => latest
                    .expires
                    .and_then(|end| now.checked_add(end.duration_since(latest.created)).ok()),
            };
            let hash_key = hash_key(config, folder, store).await?;
            let rate = latest.rate;
            let made = if sigv4 {
                Made::Access(add_access(&hash_key, store, &name, &scopes, rate, expires).await?)
            } else {
                Made::Bearer(add(&hash_key, store, &name, &scopes, rate, expires).await?)
            };
            for one in old
                .iter()
                .filter(|key| key.expires.is_none_or(|end| end > ends))
            {
                store
                    .set_key_expiry(&one.id, Some(ends), actor(), now)
                    .await
                    .map_err(|error| Failure::of(&error))?;
            }
            made.print(output)?;
            eprintln!(
                "the new key {} of {name}; it is shown this once. The old ones hold until {}",
                made.id(),
                time(ends)
            );
            Ok(DONE)
        }
        Verb::List { output } => {
            let now = Timestamp::now();
            let rows: Vec<Listed> = listed(store)
                .await?
                .into_iter()
                .map(|key| Listed {
                    state: state(&key, now),
                    kind: KeyKind::of(&key).name(),
                    scopes: serde_json::from_str(&key.scopes).unwrap_or_default(),
                    id: key.id,
                    name: key.name,
                    created: key.created,
                    expires: key.expires,
                })
                .collect();
            output::list(output, &rows, "keys")?;
            Ok(DONE)
        }
        Verb::Revoke { key } => {
            let now = Timestamp::now();
            let keys: Vec<KeyRecord> = listed(store)
                .await?
                .into_iter()
                .filter(|record| {
                    record.revoked.is_none() && (record.id == key || record.name == key)
                })
                .collect();
            if keys.is_empty() {
                return Err(Failure::usage(format!(
                    "no key that is not revoked has the id or the name {key:?}; linkspan keys list shows them"
                )));
            }
            for record in keys {
                store
                    .revoke_key(&record.id, actor(), now)
                    .await
                    .map_err(|error| Failure::of(&error))?;
                eprintln!("revoked the key {} of {}", record.id, record.name);
            }
            Ok(DONE)
        }
    }
}

/// Adds a key to a store.
pub(super) async fn add(
    hash_key: &HashKey,
    store: &dyn Store,
    name: &str,
    scopes: &[String],
    rate: Option<u32>,
    expires: Option<Timestamp>,
) -> Result<ApiKey, Failure> {
    let key = ApiKey::generate().map_err(|error| Failure::of(&error))?;
    let record = KeyRecord {
        id: key.id.clone(),
        name: name.to_owned(),
        hash: hash_key.hash(&key.secret),
        sealed: None,
        scopes: serde_json::to_string(scopes).map_err(|error| Failure::of(&error))?,
        rate,
        created: Timestamp::now(),
        expires,
        revoked: None,
    };
    insert(store, record).await.map(|()| key)
}

/// Adds an access key to a store.
pub(super) async fn add_access(
    hash_key: &HashKey,
    store: &dyn Store,
    name: &str,
    scopes: &[String],
    rate: Option<u32>,
    expires: Option<Timestamp>,
) -> Result<AccessKey, Failure> {
    let key = AccessKey::generate().map_err(|error| Failure::of(&error))?;
    let seal = Seal::of(hash_key).ok_or_else(|| Failure::work("secrets cannot be sealed"))?;
    let record = KeyRecord {
        id: key.id.clone(),
        name: name.to_owned(),
        // It is no key for the Authorization header: no secret has an empty hash.
        hash: Vec::new(),
        sealed: Some(seal.seal(&key).map_err(|error| Failure::of(&error))?),
        scopes: serde_json::to_string(scopes).map_err(|error| Failure::of(&error))?,
        rate,
        created: Timestamp::now(),
        expires,
        revoked: None,
    };
    insert(store, record).await.map(|()| key)
}

async fn insert(store: &dyn Store, record: KeyRecord) -> Result<(), Failure> {
    match store.insert_key(record, actor()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::work("a key with the same id exists; try again")),
        Err(error) => Err(Failure::of(&error)),
    }
}

/// The hash key, once it is known to be that of all gateways on the store.
async fn hash_key(config: &Config, folder: &Path, store: &dyn Store) -> Result<HashKey, Failure> {
    HashKey::of(config, folder, store)
        .await
        .map_err(|error| Failure::of(&error))
}

async fn listed(store: &dyn Store) -> Result<Vec<KeyRecord>, Failure> {
    store.list_keys().await.map_err(|error| Failure::of(&error))
}

fn state(key: &KeyRecord, now: Timestamp) -> &'static str {
    match (key.revoked, key.expires) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        _ => "valid",
    }
}

fn expiry(flag: &str, given: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let now = Timestamp::now();
    let Some(text) = given else { return Ok(None) };
    let end = time_from(now, flag, text)?;
    if end <= now {
        return Err(Failure::usage(format!(
            "{flag} {text}: the key would have ended already: write a time from now such as 90d"
        )));
    }
    Ok(Some(end))
}

fn time_from(now: Timestamp, flag: &str, text: &str) -> Result<Timestamp, Failure> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return Err(Failure::usage(format!(
            "{flag} {text}: has no unit: write {text}d, {text}h, {text}m or {text}s"
        )));
    }
    let duration = parse_duration(text)
        .map_err(|clause| Failure::usage(format!("{flag} {text:?} {clause}")))?;
    now.checked_add(signed(duration))
        .map_err(|_| Failure::usage(format!("{flag} {text} is too far away")))
}

fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn actor() -> Actor {
    Actor {
        name: "command line".to_owned(),
        request_id: None,
        remote: None,
    }
}
