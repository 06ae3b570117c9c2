//! API keys, as the store keeps them. How a key is hashed and checked is not the store's business.

use async_trait::async_trait;
use jiff::Timestamp;

use super::audit::Actor;
use super::error::StoreError;

/// The keys that let callers in. Every change writes its audit line in the same transaction.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Adds a key. False where the id is taken: nothing was changed. Called by `linkspan keys add`, beside a running gateway or not.
    ///
    /// # Errors
    ///
    /// Nothing was changed.
    async fn insert_key(&self, key: KeyRecord, actor: Actor) -> Result<bool, StoreError>;

    /// The key with this id, also a revoked or expired one: the caller checks that. Called for each request.
    ///
    /// # Errors
    ///
    /// Unknown whether there is such a key: answer 503, never 401.
    async fn find_key(&self, id: &str) -> Result<Option<KeyRecord>, StoreError>;

    /// Every key, oldest first.
    ///
    /// # Errors
    ///
    /// As [`KeyStore::find_key`].
    async fn list_keys(&self) -> Result<Vec<KeyRecord>, StoreError>;

    /// Revokes a key. False where there is none, or it is revoked already.
    ///
    /// # Errors
    ///
    /// Nothing was changed.
    async fn revoke_key(&self, id: &str, actor: Actor, now: Timestamp) -> Result<bool, StoreError>;

    /// Sets when a key ends, for a rotation in which both keys hold for a while. False where there is no such key.
    ///
    /// # Errors
    ///
    /// Nothing was changed.
    async fn set_key_expiry(
        &self,
        id: &str,
        expires: Option<Timestamp>,
        actor: Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError>;
}

/// A key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public part of the key.
    pub id: String,
    /// Who owns it: the caller's name. Several keys may have one owner.
    pub name: String,
    /// The keyed hash of the secret part.
    pub hash: Vec<u8>,
    /// The secret itself, sealed: of a key that signs requests (SigV4). The store does not look into it.
    pub sealed: Option<Vec<u8>>,
    /// The scopes, as JSON text.
    pub scopes: String,
    /// The key's own rate limit, in the configuration's unit; none: the default one.
    pub rate: Option<u32>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends; none: never.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

impl std::fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the hash or the sealed secret.
        f.debug_struct("KeyRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("expires", &self.expires)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}
