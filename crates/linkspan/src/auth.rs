//! Who makes a request: API keys checked against the store, each within its rate limit.

use std::path::Path;

use jiff::Timestamp;
use linkspan_model::Code;
use linkspan_model::config::{self, Config};

use crate::keys::{ApiKey, Caller, HashKey, HashKeyError, Scope};
use crate::rate_limit::RateLimit;
use crate::refusal::Refusal;
use crate::store::{KeyRecord, Store};

/// Checks who makes a request.
pub struct Auth {
    mode: Mode,
    rate_limit: RateLimit,
}

enum Mode {
    Keys(HashKey),
    Off,
}

impl Auth {
    /// The checks that the configuration in `folder` asks for.
    ///
    /// # Errors
    ///
    /// When the hash key cannot be read or made, or is not the one that the others on the store use.
    pub async fn open(
        config: &Config,
        folder: &Path,
        store: &dyn Store,
    ) -> Result<Self, HashKeyError> {
        let mode = match config.server.auth {
            config::Auth::None => Mode::Off,
            config::Auth::Keys => {
                let hash_key = HashKey::of(config, folder)?;
                hash_key.agree(store).await?;
                Mode::Keys(hash_key)
            }
        };
        Ok(Self {
            mode,
            rate_limit: RateLimit::new(config.server.rate_limit, config.server.rate_burst),
        })
    }

    /// Whether everyone may do everything.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self.mode, Mode::Off)
    }

    /// The caller behind an `Authorization` header. `known` is told the name that a secret proves, also where its key is refused.
    ///
    /// # Errors
    ///
    /// 401 without saying which part is wrong; 429 with `Retry-After`; 503 when the store cannot be asked.
    pub async fn check(
        &self,
        store: &dyn Store,
        authorization: Option<&str>,
        known: impl FnOnce(&str) + Send,
    ) -> Result<Caller, Refusal> {
        let Mode::Keys(hash_key) = &self.mode else {
            return Ok(Caller::anyone());
        };
        let Some(header) = authorization else {
            return Err(Refusal::new(
                Code::Unauthenticated,
                "send a key: Authorization: Bearer lsk_…; make one with: linkspan keys add NAME --scope invoke --scope read",
            ));
        };
        let key = header
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, token)| ApiKey::parse(token.trim()))
            .ok_or_else(|| {
                Refusal::new(
                    Code::Unauthenticated,
                    "the Authorization header holds no key of the form: Bearer lsk_<id>_<secret>",
                )
            })?;
        let record = store.find_key(&key.id).await?;
        // A hash is compared also where there is no such key, so that the time tells nothing.
        let hash = record.as_ref().map_or(&[0; 32][..], |record| &record.hash);
        let matches = hash_key.verify(&key.secret, hash);
        let now = Timestamp::now();
        if let Some(record) = record.as_ref().filter(|_| matches) {
            // Also of a key that is refused, for the audit log.
            known(&record.name);
        }
        match record {
            Some(record)
                if matches
                    && record.revoked.is_none()
                    && record.expires.is_none_or(|end| end > now) =>
            {
                self.rate_limit.check(&record.id, record.rate)?;
                Ok(caller(record))
            }
            _ => Err(Refusal::new(
                Code::Unauthenticated,
                "the key is not known, or has expired or been revoked",
            )),
        }
    }
}

fn caller(record: KeyRecord) -> Caller {
    let scopes: Vec<String> = serde_json::from_str(&record.scopes).unwrap_or_default();
    Caller {
        name: record.name,
        key_id: Some(record.id),
        // A scope that this version does not know allows nothing.
        scopes: scopes
            .iter()
            .filter_map(|scope| scope.parse::<Scope>().ok())
            .collect(),
    }
}
