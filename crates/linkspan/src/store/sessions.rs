//! Sessions of people who are signed in to the console, and of those who are on their way in.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::StoreError;

/// The sessions. On a store that several gateways share, a session holds on all of them.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Stores a session.
    ///
    /// # Errors
    ///
    /// Nothing was stored.
    async fn insert_session(&self, session: SessionRecord) -> Result<(), StoreError>;

    /// The session whose hash this is and which has not ended by `now`. Called for each request of a browser.
    ///
    /// # Errors
    ///
    /// Unknown whether there is one: answer 503, never 401.
    async fn find_session(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<SessionRecord>, StoreError>;

    /// Removes a session, and gives what it was: of several callers, one gets it.
    ///
    /// # Errors
    ///
    /// Nothing was removed.
    async fn remove_session(&self, hash: [u8; 32]) -> Result<Option<SessionRecord>, StoreError>;

    /// What the store keeps under a name: what is there, or else `value`, which is kept from then on. For what all gateways on one
    /// store must agree on.
    ///
    /// # Errors
    ///
    /// Unknown what the store keeps.
    async fn settle(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>, StoreError>;
}

/// A session.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The SHA-256 of what the browser shows: the store never holds that itself.
    pub hash: [u8; 32],
    /// What it is, as JSON text: who is signed in with which scopes, or what a sign-in under way has to remember.
    pub data: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends. Removed by the sweep after that.
    pub expires: Timestamp,
}

impl std::fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRecord")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
