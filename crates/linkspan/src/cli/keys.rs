//! `linkspan keys`: API keys in the store, beside a running gateway or without one.

use std::path::Path;

use jiff::Timestamp;
use linkspan_model::config::{Config, parse_duration};
use serde::Serialize;

use super::output::{self, Output, Row};
use super::{DONE, Done, Failure, load, runtime};
use crate::configuration;
use crate::keys::{ApiKey, HashKey, Scope, check_name};
use crate::store::{self, Actor, KeyRecord, Store, signed};

/// The verbs of `linkspan keys`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make a key and print it, once.
    Add {
        /// Whose it is; jobs belong to this name.
        name: String,
        /// What it allows: invoke, read or admin, each alone or for one integration (invoke:onboarding).
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<Scope>,
        /// When it ends: a time from now (90d, 12h).
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        /// Requests a second, instead of server.rate_limit.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
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
    scopes: Vec<String>,
    state: &'static str,
    created: Timestamp,
    expires: Option<Timestamp>,
}

impl Row for Listed {
    const COLUMNS: &'static [&'static str] =
        &["id", "name", "scopes", "state", "created", "expires"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.name.clone(),
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
        } => {
            check_name(&name).map_err(Failure::usage)?;
            for scope in &scopes {
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
            let key = add(
                &hash_key(config, folder, store).await?,
                store,
                &name,
                &scopes,
                rate,
                expiry("--expires", expires.as_deref())?,
            )
            .await?;
            println!("{}", key.reveal());
            eprintln!("the key {} of {name}; it is shown this once", key.id);
            Ok(DONE)
        }
        Verb::Rotate {
            name,
            overlap,
            expires,
        } => {
            let now = Timestamp::now();
            let ends = time_from(now, "--overlap", &overlap)?;
            let old: Vec<KeyRecord> = listed(store)
                .await?
                .into_iter()
                .filter(|key| key.name == name && state(key, now) == "valid")
                .collect();
            let Some(latest) = old.last() else {
                return Err(Failure::usage(format!(
                    "{name} has no valid key to rotate; linkspan keys add makes one"
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
            let key = add(&hash_key, store, &name, &scopes, latest.rate, expires).await?;
            for one in old
                .iter()
                .filter(|key| key.expires.is_none_or(|end| end > ends))
            {
                store
                    .set_key_expiry(&one.id, Some(ends), actor(), now)
                    .await
                    .map_err(|error| Failure::of(&error))?;
            }
            println!("{}", key.reveal());
            eprintln!(
                "the new key {} of {name}; it is shown this once. The old ones hold until {}",
                key.id,
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
    match store.insert_key(record, actor()).await {
        Ok(true) => Ok(key),
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
