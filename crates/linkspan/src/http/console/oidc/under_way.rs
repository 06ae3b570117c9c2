//! A sign-in that is under way at the identity provider.
//!
//! Nothing of it is stored: what must be known of it at its end is computed again from the token in the browser's cookie, the end of its
//! time and a key of the gateways'. So it costs nothing to begin one, however many do, and nobody's can be crowded out. Only the browser
//! that began it has the cookie, and the `state` fits no other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;

use crate::sessions::Token;

/// How many bytes of the `state` are the time; the others are the signature over it and the cookie.
const TIME: usize = 8;

/// What a sign-in goes by.
#[derive(Clone)]
pub(super) struct SignIn {
    /// What the provider brings back (RFC 6749 section 10.12).
    pub(super) state: Token,
    /// What the ID token must repeat (OpenID Connect Core section 3.1.2.1).
    pub(super) nonce: String,
    /// What proves that whoever redeems the code began the sign-in (RFC 7636).
    pub(super) verifier: String,
}

impl SignIn {
    /// The sign-in of the browser with this cookie that may be ended until `end`.
    pub(super) fn begin(key: &hmac::Key, cookie: &Token, end: Timestamp) -> Self {
        let time = end.as_second().to_be_bytes();
        let derive =
            |purpose: &str| hmac::sign(key, &[purpose.as_bytes(), &time, cookie.bytes()].concat());
        let (mut state, signature) = ([0; 32], derive("state"));
        let (first, rest) = state.split_at_mut(TIME);
        first.copy_from_slice(&time);
        for (byte, from) in rest.iter_mut().zip(signature.as_ref()) {
            *byte = *from;
        }
        let text = |purpose| URL_SAFE_NO_PAD.encode(derive(purpose));
        Self {
            state: Token::of(state),
            nonce: text("nonce"),
            verifier: text("verifier"),
        }
    }

    /// The same at its end; none where the state is not of this browser's sign-in, or its time is over.
    pub(super) fn end(
        key: &hmac::Key,
        cookie: &Token,
        state: &Token,
        now: Timestamp,
    ) -> Option<Self> {
        let (time, _) = state.bytes().split_first_chunk::<TIME>()?;
        let end = Timestamp::from_second(i64::from_be_bytes(*time)).ok()?;
        let begun = Self::begin(key, cookie, end);
        // Their hashes: how long that takes tells nothing of where they differ.
        (begun.state.hash() == state.hash() && now < end).then_some(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_ended_in_time_with_its_own_cookie_state_and_key() {
        let key = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
        let (cookie, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        let at = |second| Timestamp::from_second(second).unwrap();
        let begun = SignIn::begin(&key(1), &cookie, at(600));
        let end = |key: &hmac::Key, cookie: &Token, state: &Token, now| {
            SignIn::end(key, cookie, state, at(now)).map(|found| (found.nonce, found.verifier))
        };
        let same = Some((begun.nonce.clone(), begun.verifier.clone()));
        assert_eq!(end(&key(1), &cookie, &begun.state, 599), same);
        assert_eq!(end(&key(1), &cookie, &begun.state, 600), None);
        assert_eq!(end(&key(1), &other, &begun.state, 0), None);
        assert_eq!(end(&key(2), &cookie, &begun.state, 0), None);
        for at in 0..32 {
            let mut state = *begun.state.bytes();
            state[at] ^= 1;
            assert_eq!(
                end(&key(1), &cookie, &Token::of(state), 0),
                None,
                "byte {at}"
            );
        }
        // RFC 7636 section 4.1
        assert_eq!(begun.verifier.len(), 43);
        assert_ne!(begun.verifier, begun.nonce);
        assert_ne!(SignIn::begin(&key(1), &cookie, at(601)).nonce, begun.nonce);
    }
}
