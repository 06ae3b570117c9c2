//! The signatures of Standard Webhooks 1.0: HMAC-SHA256 (`v1`) and ed25519 (`v1a`) over id, time and body.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use linkspan_model::config::Secret;
use ring::hmac;
use ring::signature::Ed25519KeyPair;

/// The bytes that a symmetric secret may have.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// People copy base64 with and without its padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What events are signed with.
pub(super) enum SigningKey {
    Hmac(hmac::Key),
    Ed25519(Box<Ed25519KeyPair>),
}

impl SigningKey {
    /// Reads `whsec_…` or `whsk_…`.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to do, without a part of it.
    pub(super) fn read(secret: &Secret) -> Result<Self, String> {
        let text = secret.reveal().trim();
        if let Some(encoded) = text.strip_prefix("whsec_") {
            let bytes = decode(encoded, "whsec_")?;
            if !SECRET_BYTES.contains(&bytes.len()) {
                return Err(format!(
                    "holds {} bytes after whsec_, where Standard Webhooks asks for {} to {}: make one with \
                     `echo whsec_$(openssl rand -base64 32)` and give it to the receiver too",
                    bytes.len(),
                    SECRET_BYTES.start(),
                    SECRET_BYTES.end(),
                ));
            }
            return Ok(Self::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        }
        if let Some(encoded) = text.strip_prefix("whsk_") {
            let bytes = decode(encoded, "whsk_")?;
            // The seed alone, or with the public key after it.
            let pair = match bytes.split_at_checked(32) {
                Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
                Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
                None => {
                    return Err(format!(
                        "holds {} bytes after whsk_, where an ed25519 key has 32 (or 64 with its public key)",
                        bytes.len()
                    ));
                }
            };
            return pair.map(|pair| Self::Ed25519(Box::new(pair))).map_err(|_| {
                "is no ed25519 key: its public part does not belong to its seed".to_owned()
            });
        }
        Err("must begin with whsec_ (HMAC-SHA256) or whsk_ (ed25519), as Standard Webhooks writes secrets".to_owned())
    }

    /// One signature, with its version: `v1,…` or `v1a,…`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        match self {
            Self::Hmac(key) => format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed))),
            Self::Ed25519(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(&signed))),
        }
    }
}

fn decode(encoded: &str, prefix: &str) -> Result<Vec<u8>, String> {
    LENIENT
        .decode(encoded)
        .map_err(|_| format!("is not base64 after {prefix}"))
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hmac(_) => "Hmac(…)",
            Self::Ed25519(_) => "Ed25519(…)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SigningKey, String> {
        SigningKey::read(&Secret::new(text.to_owned()))
    }

    #[test]
    fn the_published_example_has_its_published_signature() {
        // From the test suites of the Standard Webhooks libraries.
        let key = read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_the_standard_does_not_allow_is_refused_with_what_to_do() {
        let encoded =
            |prefix: &str, bytes: usize| format!("{prefix}{}", STANDARD.encode(vec![b'k'; bytes]));
        for (secret, told) in [
            ("hunter2-hunter2".to_owned(), "must begin with whsec_"),
            ("whpk_abcd".to_owned(), "must begin with whsec_"),
            ("whsec_not base64!".to_owned(), "is not base64"),
            (encoded("whsec_", 23), "holds 23 bytes"),
            (encoded("whsec_", 65), "openssl rand"),
            (encoded("whsk_", 31), "holds 31 bytes"),
            (encoded("whsk_", 33), "is no ed25519 key"),
            (encoded("whsk_", 64), "is no ed25519 key"),
        ] {
            let fault = read(&secret).unwrap_err();
            assert!(fault.contains(told), "{fault}");
            assert!(
                !fault.contains("hunter2") && !fault.contains("a2tr"),
                "{fault}"
            );
        }
        for secret in [
            encoded("whsec_", 24),
            encoded("whsec_", 64),
            encoded("whsk_", 32),
        ] {
            assert!(read(&secret).is_ok(), "{secret}");
            assert!(read(secret.trim_end_matches('=')).is_ok(), "{secret}");
        }
    }
}
