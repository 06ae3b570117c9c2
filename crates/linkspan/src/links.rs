//! Links to results and to what deliveries carry: whoever has one may read that until it expires, with no key.
//!
//! `BASE/v1/jobs/ID/result?expires=UNIX&signature=BASE64URL`, or `BASE/v1/deliveries/ID/content?…` for what a channel's `map` made of a
//! result, signed with HMAC-SHA256 by a key that is derived from the gateway's hash key. A link is for one job or delivery and one time.
//! There is no list of links: what takes them all back is a new hash key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use linkspan_model::config::Config;
use linkspan_model::{DeliveryId, InvocationId};
use ring::hmac;

use crate::keys::HashKey;

const PURPOSE: &str = "linkspan-result-link";
const CONTENT: &str = "linkspan-content-link";

/// Makes links and checks them.
#[derive(Clone)]
pub struct Links {
    base: String,
    key: hmac::Key,
}

/// What a link opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// A job's result.
    Result(InvocationId),
    /// What a delivery carries.
    Content(DeliveryId),
}

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// The signature is not ours, or not of this and its time.
    #[error("the link's signature does not fit it; copy the whole link as it was sent")]
    Forged,
    /// Its time is over.
    #[error("the link has expired; read the result with a key instead")]
    Expired,
}

impl Links {
    /// Links below the gateway's public address (`https://linkspan.example.com`, with or without a path).
    #[must_use]
    pub fn new(base: &str, key: &HashKey) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            key: key.derive(PURPOSE),
        }
    }

    /// The address under which others reach a gateway: `server.public_url`, or else where it listens.
    #[must_use]
    pub fn base_of(config: &Config) -> String {
        let server = &config.server;
        match &server.public_url {
            Some(url) => {
                let path = url.reveal().path().trim_end_matches('/');
                format!("{}{path}", url.origin())
            }
            None if server.tls.is_some() => format!("https://{}", server.listen),
            None => format!("http://{}", server.listen),
        }
    }

    /// The public address, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The link for whoever has it, until `expires` (in whole seconds).
    #[must_use]
    pub fn link(&self, opens: impl Into<Opens>, expires: Timestamp) -> String {
        let (opens, expires) = (opens.into(), expires.as_second());
        let signature = hmac::sign(&self.key, &signed(opens, expires));
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let path = match opens {
            Opens::Result(job) => format!("jobs/{job}/result"),
            Opens::Content(delivery) => format!("deliveries/{delivery}/content"),
        };
        format!(
            "{}/v1/{path}?expires={expires}&signature={signature}",
            self.base
        )
    }

    /// The console's page of a job, for people who may sign in.
    #[must_use]
    pub fn page(&self, job: InvocationId) -> String {
        format!("{}/#/jobs/{job}", self.base)
    }

    /// Whether a link of these parts opens this now.
    ///
    /// # Errors
    ///
    /// Why it does not. A forged one never tells whether it would have expired.
    pub fn check(
        &self,
        opens: impl Into<Opens>,
        expires: i64,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), LinkFault> {
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| LinkFault::Forged)?;
        hmac::verify(&self.key, &signed(opens.into(), expires), &signature)
            .map_err(|_| LinkFault::Forged)?;
        if now.as_second() >= expires {
            return Err(LinkFault::Expired);
        }
        Ok(())
    }
}

/// What a signature is over: what is opened, its 16 bytes, the expiry's 8.
fn signed(opens: Opens, expires: i64) -> Vec<u8> {
    let (kind, id): (&str, &[u8]) = match &opens {
        Opens::Result(job) => (PURPOSE, job.as_bytes()),
        Opens::Content(delivery) => (CONTENT, delivery.as_bytes()),
    };
    [kind.as_bytes(), id, &expires.to_be_bytes()].concat()
}

impl From<InvocationId> for Opens {
    fn from(job: InvocationId) -> Self {
        Self::Result(job)
    }
}

impl From<DeliveryId> for Opens {
    fn from(delivery: DeliveryId) -> Self {
        Self::Content(delivery)
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Expiry and signature of a link.
    fn parts(link: &str) -> (i64, String) {
        let (_, query) = link.split_once("?expires=").unwrap();
        let (expires, signature) = query.split_once("&signature=").unwrap();
        (expires.parse().unwrap(), signature.to_owned())
    }

    #[test]
    fn a_link_opens_its_own_result_until_it_expires() {
        let key = HashKey::throwaway().unwrap();
        let links = Links::new("https://linkspan.example.com/", &key);
        let job = InvocationId::new();
        let link = links.link(job, at(2_000));
        assert!(link.starts_with(&format!(
            "https://linkspan.example.com/v1/jobs/{job}/result?expires=2000&signature="
        )));
        let (expires, signature) = parts(&link);
        assert_eq!(links.check(job, expires, &signature, at(1_999)), Ok(()));
        assert_eq!(
            links.check(job, expires, &signature, at(2_000)),
            Err(LinkFault::Expired)
        );
        // Another gateway of the same key takes it; one of another key does not.
        let same = Links::new("http://elsewhere", &key);
        assert_eq!(same.check(job, expires, &signature, at(0)), Ok(()));
        let other = Links::new("", &HashKey::throwaway().unwrap());
        assert_eq!(
            other.check(job, expires, &signature, at(0)),
            Err(LinkFault::Forged)
        );
    }

    #[test]
    fn a_link_that_was_changed_opens_nothing() {
        let links = Links::new("", &HashKey::throwaway().unwrap());
        let job = InvocationId::new();
        let (expires, signature) = parts(&links.link(job, at(2_000)));
        // The same bytes as another kind of id open nothing else.
        let twin = DeliveryId::from_bytes(*job.as_bytes());
        let checked = links.check(twin, expires, &signature, at(0));
        assert_eq!(checked, Err(LinkFault::Forged));
        let (expires_of_twin, own) = parts(&links.link(twin, at(2_000)));
        assert_eq!(links.check(twin, expires_of_twin, &own, at(0)), Ok(()));
        let mut cut = signature.clone();
        cut.pop();
        for (job, expires, signature) in [
            (InvocationId::new(), expires, signature.as_str()),
            (job, expires + 1, signature.as_str()),
            (job, 9_000, signature.as_str()),
            (job, expires, cut.as_str()),
            (job, expires, ""),
            (job, expires, "é"),
        ] {
            let checked = links.check(job, expires, signature, at(0));
            assert_eq!(checked, Err(LinkFault::Forged), "{expires} {signature}");
        }
        assert!(!format!("{links:?}").contains("key"));
    }

    #[test]
    fn a_derived_key_is_neither_the_hash_key_nor_another_purposes() {
        let key = HashKey::throwaway().unwrap();
        let tag = |purpose| hmac::sign(&key.derive(purpose), b"x").as_ref().to_vec();
        assert_ne!(tag("one"), tag("two"));
        assert_ne!(tag("one"), key.hash("x"));
    }
}
