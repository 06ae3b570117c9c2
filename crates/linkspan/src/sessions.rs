//! Sessions of people at the console: what their browser holds, and what the store keeps of it.
//!
//! A browser holds 32 random bytes; the store knows their SHA-256 alone, so a copy of it signs nobody in.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::store::{Digest, ErrorKind, SessionRecord, StoreError};

/// 32 random bytes that only their holder knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

/// What the store keeps under a token's hash.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kept {
    /// Somebody is signed in.
    Person(Person),
    /// A sign-in through the identity provider that was ended, and is not ended again.
    Ended,
}

/// Who is signed in.
#[derive(Clone, Serialize, Deserialize)]
pub struct Person {
    /// What the page shows with each change that it asks for.
    pub csrf: String,
    /// How they signed in.
    pub by: By,
}

/// How somebody signed in.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// With a key: its scopes hold, for as long as it does.
    Key {
        /// The key's public part.
        id: String,
    },
    /// Through the identity provider.
    Oidc {
        /// The provider's name for the person, which never changes.
        subject: String,
        /// The provider.
        issuer: String,
        /// The provider's word for the person that the configuration asks for.
        name: String,
        /// Those values of the claim `scope_claim` for which there was a rule. What they allow is looked up at each request, so that a
        /// changed rule holds at once.
        values: Vec<String>,
    },
}

impl Token {
    /// A new token.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, StoreError> {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| StoreError::new(ErrorKind::Internal, "draw random bytes"))?;
        Ok(Self(bytes))
    }

    /// A token of these bytes.
    #[must_use]
    pub fn of(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a token as it was given to its holder.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The token itself, for its holder.
    #[must_use]
    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// What the store knows it by.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Digest::of(&self.0).0
    }

    /// What the store knows two tokens by that belong together: whoever has one of them alone finds nothing.
    #[must_use]
    pub fn hash_with(&self, other: &Self) -> [u8; 32] {
        Digest::of(&[self.0, other.0].concat()).0
    }
}

impl Kept {
    /// What the store keeps under a hash until `now` and some time.
    ///
    /// # Errors
    ///
    /// Never in practice.
    pub fn record(
        &self,
        hash: [u8; 32],
        now: Timestamp,
        ttl: SignedDuration,
    ) -> Result<SessionRecord, StoreError> {
        let data = serde_json::to_string(self).map_err(|error| {
            StoreError::new(ErrorKind::Internal, "write a session").because(error)
        })?;
        Ok(SessionRecord {
            hash,
            data,
            created: now,
            expires: now.checked_add(ttl).unwrap_or(Timestamp::MAX),
        })
    }

    /// Reads it back; none where another version wrote it in a form of its own.
    #[must_use]
    pub fn of(record: &SessionRecord) -> Option<Self> {
        serde_json::from_str(&record.data).ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Whether two texts are the same, in a time that tells nothing of where they differ.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    Digest::of(one.as_bytes()) == Digest::of(other.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_shows_nothing_of_itself() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_eq!(Token::parse(&one.reveal()), Some(one.clone()));
        assert_ne!(one.hash(), other.hash());
        assert_ne!(one.hash_with(&other), other.hash_with(&one));
        assert_eq!(format!("{one:?}"), "Token(…)");
        for bad in ["", "short", &"A".repeat(44), &format!("{}=", one.reveal())] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_kept_reads_back_as_what_it_is() {
        let kept = Kept::Person(Person {
            csrf: "c".to_owned(),
            by: By::Key { id: "k".to_owned() },
        });
        let record = kept
            .record(
                [1; 32],
                Timestamp::UNIX_EPOCH,
                SignedDuration::from_hours(1),
            )
            .unwrap();
        assert_eq!(record.expires.as_second(), 3600);
        assert!(
            matches!(Kept::of(&record), Some(Kept::Person(person)) if matches!(&person.by, By::Key { id } if id == "k"))
        );
        let strange = SessionRecord {
            data: "{}".to_owned(),
            ..record
        };
        assert!(Kept::of(&strange).is_none());
    }
}
