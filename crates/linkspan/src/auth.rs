//! Who makes a request: API keys checked against the store, each within its rate limit.

use std::path::Path;

use jiff::Timestamp;
use linkspan_model::Code;
use linkspan_model::config::{self, Config};

use crate::access_key::Seal;
use crate::keys::{ApiKey, Caller, HashKey, HashKeyError, Scope};
use crate::rate_limit::RateLimit;
use crate::refusal::Refusal;
use crate::store::{KeyRecord, Store, StoreError};

/// Checks who makes a request.
pub struct Auth {
    mode: Mode,
    rate_limit: RateLimit,
}

enum Mode {
    Keys(Box<HashKey>, Option<Box<Seal>>),
    Off,
}

/// Who signs requests with an access key.
pub struct Signer {
    /// Who that is.
    pub caller: Caller,
    /// With what.
    pub secret: String,
    rate: Option<u32>,
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
                let hash_key = HashKey::of(config, folder, store).await?;
                let seal = Seal::of(&hash_key).map(Box::new);
                Mode::Keys(Box::new(hash_key), seal)
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

    /// The keyed hash of a new key's secret, as the store keeps it; none where no keys are looked at.
    #[must_use]
    pub fn hash(&self, secret: &str) -> Option<Vec<u8>> {
        match &self.mode {
            Mode::Keys(hash_key, _) => Some(hash_key.hash(secret)),
            Mode::Off => None,
        }
    }

    /// A key for one purpose, the same on all gateways of a store; none where no keys are looked at.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Option<ring::hmac::Key> {
        match &self.mode {
            Mode::Keys(hash_key, _) => Some(hash_key.derive(purpose)),
            Mode::Off => None,
        }
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
        let Mode::Keys(hash_key, _) = &self.mode else {
            return Ok(Caller::anyone());
        };
        let Some(header) = authorization else {
            return Err(Refusal::new(
                Code::Unauthenticated,
                "send a key: Authorization: Bearer lsk_…; make one with: linkspan keys add NAME --scope invoke --scope read",
            ));
        };
        let key = bearer(header)
            .and_then(|token| ApiKey::parse(token.trim()))
            .ok_or_else(|| {
                Refusal::new(
                    Code::Unauthenticated,
                    "the Authorization header holds no key of the form: Bearer lsk_<id>_<secret>",
                )
            })?;
        let record = proven(hash_key, store, &key, known).await?;
        self.within_rate(&record.id, record.rate)?;
        Ok(caller(record))
    }

    /// The caller whose key somebody shows to sign in. `known` as in [`Auth::check`].
    ///
    /// # Errors
    ///
    /// As [`Auth::check`].
    pub async fn holder(
        &self,
        store: &dyn Store,
        key: &str,
        known: impl FnOnce(&str) + Send,
    ) -> Result<Caller, Refusal> {
        let Mode::Keys(hash_key, _) = &self.mode else {
            return Ok(Caller::anyone());
        };
        let key = ApiKey::parse(key.trim()).ok_or_else(|| {
            Refusal::new(
                Code::Unauthenticated,
                "this is no key of the form lsk_<id>_<secret>",
            )
        })?;
        let record = proven(hash_key, store, &key, known).await?;
        Ok(caller(record))
    }

    /// The caller of a key that was shown before; none where it has ended since. A request of that caller counts for the key's rate
    /// where `counts`.
    ///
    /// # Errors
    ///
    /// 429 with `Retry-After`; 503 when the store cannot be asked.
    pub async fn holder_of(
        &self,
        store: &dyn Store,
        key_id: &str,
        counts: bool,
    ) -> Result<Option<Caller>, Refusal> {
        let record = store.find_key(key_id).await?;
        let Some(record) = record.filter(|record| holds(record, Timestamp::now())) else {
            return Ok(None);
        };
        if counts {
            self.within_rate(&record.id, record.rate)?;
        }
        Ok(Some(caller(record)))
    }

    /// Who signs with the access key of this id; none where there is none that holds. The secret must not outlive the request.
    ///
    /// # Errors
    ///
    /// The store cannot be asked.
    pub async fn signer(
        &self,
        store: &dyn Store,
        access_key_id: &str,
    ) -> Result<Option<Signer>, StoreError> {
        let Mode::Keys(_, Some(seal)) = &self.mode else {
            return Ok(None);
        };
        let record = store.find_key(access_key_id).await?;
        let record = record.filter(|record| holds(record, Timestamp::now()));
        let Some((record, sealed)) =
            record.and_then(|mut record| record.sealed.take().map(|sealed| (record, sealed)))
        else {
            return Ok(None);
        };
        let Some(secret) = seal.open(access_key_id, &sealed) else {
            tracing::error!(
                key = access_key_id,
                "the secret of an access key cannot be opened: it was sealed with another hash key, or changed in the store"
            );
            return Ok(None);
        };
        Ok(Some(Signer {
            rate: record.rate,
            caller: caller(record),
            secret,
        }))
    }

    /// Counts a signed request for the rate that its key was made with. The default rate is for calls: records are many.
    ///
    /// # Errors
    ///
    /// 429 with `Retry-After`.
    pub fn within_own_rate(&self, signer: &Signer) -> Result<(), Refusal> {
        match (&signer.caller.key_id, signer.rate) {
            (Some(id), Some(_)) => self.within_rate(id, signer.rate),
            _ => Ok(()),
        }
    }

    /// Counts a request of a key, or of a person whom the identity provider knows; `own` is the key's own rate.
    ///
    /// # Errors
    ///
    /// 429 with `Retry-After`.
    pub fn within_rate(&self, id: &str, own: Option<u32>) -> Result<(), Refusal> {
        self.rate_limit.check(id, own)
    }
}

/// Whether an `Authorization` header is of the scheme with which keys come (RFC 6750).
#[must_use]
pub fn is_bearer(authorization: &str) -> bool {
    bearer(authorization).is_some()
}

fn bearer(authorization: &str) -> Option<&str> {
    authorization
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token)
}

/// The record of a key whose secret is right and which holds.
async fn proven(
    hash_key: &HashKey,
    store: &dyn Store,
    key: &ApiKey,
    known: impl FnOnce(&str) + Send,
) -> Result<KeyRecord, Refusal> {
    let record = store.find_key(&key.id).await?;
    // A hash is compared also where there is no such key, so that the time tells nothing.
    // That of an access key is empty: it signs, and opens nothing.
    let hash = record.as_ref().map_or(&[0; 32][..], |record| &record.hash);
    let matches = hash_key.verify(&key.secret, hash);
    if let Some(record) = record.as_ref().filter(|_| matches) {
        // Also of a key that is refused, for the audit log.
        known(&record.name);
    }
    record
        .filter(|record| matches && holds(record, Timestamp::now()))
        .ok_or_else(|| {
            Refusal::new(
                Code::Unauthenticated,
                "the key is not known, or has expired or been revoked",
            )
        })
}

fn holds(record: &KeyRecord, now: Timestamp) -> bool {
    record.revoked.is_none() && record.expires.is_none_or(|end| end > now)
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
