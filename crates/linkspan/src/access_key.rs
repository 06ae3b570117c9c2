//! Access keys: an id and a secret with which Amazon's clients sign their requests (SigV4).
//!
//! A signature is checked by signing anew, so the secret itself is needed and not only its hash. It is kept sealed (AES-256-GCM, RFC 5116),
//! under a key that comes of the hash key's file and is not in the store: a stolen database alone opens none. What is sealed is bound to
//! the id, so that a row's secret cannot be put into another row.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::keys::HashKey;

/// What ids begin with. Amazon's own begin with `A`.
const PREFIX: &str = "LSKA";
/// How many characters of an id are drawn, five bits each.
const DRAWN: usize = 16;
/// RFC 4648's base 32, which Amazon's ids are of too.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// An access key as its holder has it. Never stored so, never logged.
pub struct AccessKey {
    /// The public part, by which the store finds it: 20 characters.
    pub id: String,
    /// The secret part: 40 characters.
    pub secret: String,
}

impl AccessKey {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn generate() -> std::io::Result<Self> {
        let drawn: [u8; DRAWN] = random()?;
        // In a table of cells, what begins with a hyphen could be taken for a formula.
        let secret = loop {
            let secret = URL_SAFE_NO_PAD.encode(random::<30>()?);
            if !secret.starts_with('-') {
                break secret;
            }
        };
        let id = drawn.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
        Ok(Self {
            id: PREFIX.chars().chain(id).collect(),
            secret,
        })
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Seals secrets, and opens them again.
pub struct Seal(LessSafeKey);

impl Seal {
    /// The seal of everyone who has this hash key; none where the cryptography refuses a key of 32 bytes, which it does not.
    #[must_use]
    pub fn of(hash_key: &HashKey) -> Option<Self> {
        let key = hash_key.derive_bytes("access keys");
        let key = UnboundKey::new(&AES_256_GCM, &key).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// A key's secret, sealed: the nonce, then the ciphertext with its tag.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn seal(&self, key: &AccessKey) -> std::io::Result<Vec<u8>> {
        // Drawn, not counted: several programs seal, and 2^32 keys would have to be made before two nonces may be the same.
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = nonce.to_vec();
        let mut text = key.secret.clone().into_bytes();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(key.id.as_bytes()),
                &mut text,
            )
            .map_err(|_| std::io::Error::other("the secret cannot be sealed"))?;
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// The secret of the key with this id; none where it was sealed for another id, by another seal, or was changed since.
    #[must_use]
    pub fn open(&self, id: &str, sealed: &[u8]) -> Option<String> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut text = text.to_vec();
        let secret = self.0.open_in_place(nonce, Aad::from(id), &mut text).ok()?;
        String::from_utf8(secret.to_vec()).ok()
    }
}

fn random<const BYTES: usize>() -> std::io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_looks_like_amazons_and_no_two_keys_are_the_same() {
        let keys: Vec<_> = (0..50).map(|_| AccessKey::generate().unwrap()).collect();
        for key in &keys {
            assert!(key.id.starts_with(PREFIX), "{key:?}");
            assert_eq!((key.id.len(), key.secret.len()), (20, 40), "{key:?}");
            assert!(
                key.id
                    .bytes()
                    .all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')),
                "{key:?}"
            );
            assert!(!format!("{key:?}").contains(&key.secret));
        }
        let ids: std::collections::HashSet<_> = keys.iter().map(|key| &key.id).collect();
        assert_eq!(ids.len(), keys.len());
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_hash_key_under_the_same_id_only() {
        let seal = Seal::of(&HashKey::throwaway().unwrap()).unwrap();
        let other = Seal::of(&HashKey::throwaway().unwrap()).unwrap();
        let key = AccessKey::generate().unwrap();
        let sealed = seal.seal(&key).unwrap();
        assert_eq!(seal.open(&key.id, &sealed).as_ref(), Some(&key.secret));
        assert_ne!(seal.seal(&key).unwrap(), sealed, "a nonce of its own");
        assert!(
            !sealed
                .windows(8)
                .any(|part| key.secret.as_bytes().starts_with(part))
        );
        assert_eq!(other.open(&key.id, &sealed), None);
        assert_eq!(seal.open("LSKAAAAAAAAAAAAAAAAA", &sealed), None);
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(seal.open(&key.id, &changed), None, "byte {place}");
            assert_eq!(seal.open(&key.id, &sealed[..place]), None, "cut at {place}");
        }
    }
}
