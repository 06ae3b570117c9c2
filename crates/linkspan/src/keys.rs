//! API keys: `lsk_<id>_<secret>`, kept as a keyed hash, with scopes, expiry and overlapping rotation.
//!
//! A caller is known by the *name* of its key, so that two keys of one name (a rotation) see the same jobs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use linkspan_model::config::{Config, JobStore};
use ring::rand::SecureRandom;
use ring::{hmac, rand};

use crate::store::{ErrorKind, Sight, Store, StoreError};

/// The key with which secrets are hashed before they are stored: 32 random bytes in a file of mode 0600 beside the store, so
/// that a stolen database alone lets nobody in and confirms no guess.
pub struct HashKey {
    key: hmac::Key,
    path: PathBuf,
}

impl HashKey {
    /// The hash key of a configuration in `folder`, which is the store's: the file that the configuration names, or else the one beside
    /// the database's file, or else `linkspan.key` in the folder. It is made only where the store has none yet.
    ///
    /// # Errors
    ///
    /// As [`HashKey::open`] and [`HashKey::agree`]. `Missing`: it is not there, and the store's keys are hashed with one.
    pub async fn of(
        config: &Config,
        folder: &Path,
        store: &dyn Store,
    ) -> Result<Self, HashKeyError> {
        let path = match (&config.store.hash_key, &config.store.jobs) {
            (Some(path), _) => folder.join(path),
            (None, JobStore::Sqlite(path)) => folder.join(path).with_extension("key"),
            (None, JobStore::Postgres(_)) => folder.join("linkspan.key"),
        };
        Self::of_store(&path, store).await
    }

    async fn of_store(path: &Path, store: &dyn Store) -> Result<Self, HashKeyError> {
        let missing = || HashKeyError::Missing {
            path: path.to_owned(),
        };
        let is_there = path.try_exists().unwrap_or(true); // what cannot be seen is told when it is read
        if !is_there
            && store
                .list_keys()
                .await?
                .iter()
                .any(|key| key.revoked.is_none())
        {
            return Err(missing());
        }
        let key = Self::open(path)?;
        match key.agree(store).await {
            Err(HashKeyError::Differs { .. }) if !is_there => {
                // Made just now, and of no use to anybody.
                std::fs::remove_file(path).ok();
                Err(missing())
            }
            agreed => agreed.map(|()| key),
        }
    }

    /// Reads the file, or makes it when it is not there.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or made, or holds anything but 32 bytes in base64.
    pub fn open(path: &Path) -> Result<Self, HashKeyError> {
        let key = read_or_make(path).map_err(|source| HashKeyError::Unusable {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            key,
            path: path.to_owned(),
        })
    }

    /// A key that is kept nowhere, for a check that signs nothing in earnest.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn throwaway() -> std::io::Result<Self> {
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, random(32)?.as_bytes()),
            path: PathBuf::new(),
        })
    }

    /// A key for one purpose, from which this one cannot be found. No secret that is hashed holds a zero byte, so none has the same.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.derive_bytes(purpose))
    }

    /// The same as 32 bytes, for who needs another kind of key.
    #[must_use]
    pub fn derive_bytes(&self, purpose: &str) -> Vec<u8> {
        hmac::sign(&self.key, format!("derived key\0{purpose}").as_bytes())
            .as_ref()
            .to_vec()
    }

    /// Checks that this is the hash key of everyone who uses the store. The first one's holds, also where the store is copied to another.
    ///
    /// # Errors
    ///
    /// `Differs`: another key was first. `Store`: the store cannot be asked.
    pub async fn agree(&self, store: &dyn Store) -> Result<(), HashKeyError> {
        let key = self.derive("agreement");
        let own = hmac::sign(&key, b"").as_ref().to_vec();
        let settled = match store.settle("hash-key-check", own).await {
            // A gateway of its own starts on a full disk too, and settles it when there is space.
            Err(error) if error.kind == ErrorKind::Full && !store.is_shared() => return Ok(()),
            settled => settled?,
        };
        hmac::verify(&key, b"", &settled).map_err(|_| HashKeyError::Differs {
            path: self.path.clone(),
        })
    }

    /// The keyed hash of a secret, as the store keeps it.
    #[must_use]
    pub fn hash(&self, secret: &str) -> Vec<u8> {
        hmac::sign(&self.key, secret.as_bytes()).as_ref().to_vec()
    }

    /// Whether a secret has this hash, in constant time.
    #[must_use]
    pub fn verify(&self, secret: &str, hash: &[u8]) -> bool {
        hmac::verify(&self.key, secret.as_bytes(), hash).is_ok()
    }
}

/// Where the right hash key is.
const WHICH: &str = "from a backup, from a gateway that uses the database, or from where the database was copied from (the file that \
                     store.hash_key names there, or else the .key file beside the SQLite database, or linkspan.key beside linkspan.toml)";

/// Why there is no hash key to use.
#[derive(Debug, thiserror::Error)]
pub enum HashKeyError {
    /// It is not there and cannot be made, or is damaged.
    #[error("cannot use the hash key {path}")]
    Unusable {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store's API keys are hashed with another one.
    #[error(
        "the hash key {path} is not the one with which the API keys in the database are hashed: copy the right one over it, {WHICH}"
    )]
    Differs {
        /// The file of this one.
        path: PathBuf,
    },
    /// It is not there, and the store's API keys are hashed with it.
    #[error(
        "the hash key {path} is not there, and none is made anew, for the API keys in the database are hashed with the right one: copy it \
         there, {WHICH}"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The store cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn read_or_make(path: &Path) -> std::io::Result<hmac::Key> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(error),
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim())
        .ok()
        .filter(|bytes| bytes.len() == 32)
        .ok_or_else(|| {
            std::io::Error::other("it does not hold a key of linkspan; restore it from a backup")
        })?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

fn create(path: &Path) -> std::io::Result<String> {
    use std::io::Write as _;
    let text = random(32)?;
    // Written aside and linked into place, so that two first starts at once agree on one key.
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?; // mode 0600
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            std::fs::File::open(folder)?.sync_all()?;
            Ok(text)
        }
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::read_to_string(path)
        }
        Err(error) => Err(error.error),
    }
}

fn random(bytes: usize) -> std::io::Result<String> {
    let mut buffer = vec![0; bytes];
    rand::SystemRandom::new()
        .fill(&mut buffer)
        .map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(buffer))
}

/// Refuses a name that a key must not have.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
        return Err(format!(
            "{name:?} is not a name of 1 to 63 letters, digits and . - _ @"
        ));
    }
    Ok(())
}

/// A key as its holder has it. Never stored, never logged.
pub struct ApiKey {
    /// The public part, by which the store finds it.
    pub id: String,
    /// The secret part.
    pub secret: String,
}

impl ApiKey {
    const PREFIX: &'static str = "lsk_";

    /// A new key: 9 random bytes of id, 32 of secret.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn generate() -> std::io::Result<Self> {
        // `_` parts the two, so the id is drawn without it.
        let id = loop {
            let id = random(9)?;
            if !id.contains(['_', '-']) {
                break id;
            }
        };
        Ok(Self {
            id,
            secret: random(32)?,
        })
    }

    /// Reads a key as it was shown to its holder.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(Self::PREFIX)?.split_once('_')?;
        let plain = |part: &str| !part.is_empty() && part.len() <= 128 && part.is_ascii();
        (plain(id) && plain(secret)).then(|| Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// The whole key, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}{}_{}", Self::PREFIX, self.id, self.secret)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}{}_…)", Self::PREFIX, self.id)
    }
}

/// What a key allows: `invoke`, `read` or `admin`, for all integrations or for one (`invoke:onboarding`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What may be done.
    pub action: Action,
    /// The one integration, or all.
    pub integration: Option<String>,
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Call integrations.
    Invoke,
    /// Read jobs and results, cancel, retry and delete one's own.
    Read,
    /// Everything, and everybody's jobs.
    Admin,
}

impl Action {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Invoke, "invoke"),
        (Self::Read, "read"),
        (Self::Admin, "admin"),
    ];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invoke => "invoke",
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (action, integration) = match text.split_once(':') {
            Some((action, integration)) => (action, Some(integration.to_owned())),
            None => (text, None),
        };
        let action = Action::ALL
            .into_iter()
            .find(|(_, name)| *name == action)
            .map(|(action, _)| action)
            .ok_or_else(|| format!("no scope is called {action:?}; the scopes are invoke, read and admin, each alone or with :INTEGRATION"))?;
        if integration.as_deref() == Some("") {
            return Err(format!(
                "the scope {text:?} names no integration after its colon"
            ));
        }
        Ok(Self {
            action,
            integration,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.integration {
            Some(integration) => write!(f, "{}:{integration}", self.action),
            None => self.action.fmt(f),
        }
    }
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the key; jobs belong to it.
    pub name: String,
    /// The key that was used; `None` where authentication is off.
    pub key_id: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

impl Caller {
    /// The caller when authentication is off (loopback only): everything is allowed.
    #[must_use]
    pub fn anyone() -> Self {
        Self {
            name: "anyone".to_owned(),
            key_id: None,
            scopes: vec![Scope {
                action: Action::Admin,
                integration: None,
            }],
        }
    }

    /// Whether an action is allowed on an integration. `admin` holds `read` and `invoke` of the same reach.
    #[must_use]
    pub fn may(&self, action: Action, integration: &str) -> bool {
        self.scopes.iter().any(|scope| {
            (scope.action == action || scope.action == Action::Admin)
                && scope
                    .integration
                    .as_deref()
                    .is_none_or(|one| one == integration)
        })
    }

    /// Whether an action is allowed on any integration at all.
    #[must_use]
    pub fn may_somewhere(&self, action: Action) -> bool {
        self.scopes
            .iter()
            .any(|scope| scope.action == action || scope.action == Action::Admin)
    }

    /// Whether an action is allowed on every integration.
    #[must_use]
    pub fn may_everywhere(&self, action: Action) -> bool {
        self.scopes.iter().any(|scope| {
            (scope.action == action || scope.action == Action::Admin) && scope.integration.is_none()
        })
    }

    /// How far the caller's listings look: at its own things where it may read, and at everybody's where it is an administrator. None:
    /// at everything.
    #[must_use]
    pub fn sight(&self) -> Option<Sight> {
        if self.is_admin() {
            return None;
        }
        let of = |action| {
            let scopes = self
                .scopes
                .iter()
                .filter(move |scope| scope.action == action);
            scopes
                .filter_map(|scope| scope.integration.clone())
                .collect()
        };
        Some(Sight {
            caller: self.name.clone(),
            own: (!self.may_everywhere(Action::Read)).then(|| of(Action::Read)),
            whole: of(Action::Admin),
        })
    }

    /// Whether the caller may do everything everywhere.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.may_everywhere(Action::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::KeyStore as _;

    #[test]
    fn a_key_reads_back_and_only_its_own_secret_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/linkspan.key");
        let hash_key = HashKey::open(&path).unwrap();
        let key = ApiKey::generate().unwrap();
        let again = ApiKey::parse(&key.reveal()).unwrap();
        assert_eq!((&again.id, &again.secret), (&key.id, &key.secret));
        let hash = hash_key.hash(&key.secret);
        assert!(HashKey::open(&path).unwrap().verify(&again.secret, &hash));
        assert!(!hash_key.verify("another", &hash));
        assert!(!format!("{key:?}").contains(&key.secret));
    }

    #[test]
    fn a_damaged_hash_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("linkspan.key");
        std::fs::write(&path, "short").unwrap();
        assert!(HashKey::open(&path).is_err());
    }

    #[test]
    fn scopes_reach_one_integration_or_all() {
        let caller = |scopes: &[&str]| Caller {
            name: "crm".to_owned(),
            key_id: None,
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
        };
        let one = caller(&["invoke:onboarding", "read"]);
        assert!(one.may(Action::Invoke, "onboarding"));
        assert!(!one.may(Action::Invoke, "reviews"));
        assert!(one.may(Action::Read, "reviews"));
        assert!(!one.is_admin());
        assert!(caller(&["admin:reviews"]).may(Action::Invoke, "reviews"));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (scopes, own, whole) in [
            (&["read"][..], None, vec![]),
            (&["read:bills", "invoke"], Some(names(&["bills"])), vec![]),
            (&["read", "admin:bills"], None, names(&["bills"])),
            (&["admin:bills"], Some(vec![]), names(&["bills"])),
        ] {
            let sight = caller(scopes).sight().unwrap();
            assert_eq!((sight.own, sight.whole), (own, whole), "{scopes:?}");
        }
        assert_eq!(caller(&["admin", "read:bills"]).sight(), None);
        assert!(!caller(&["admin:reviews"]).is_admin());
        assert!("invoke:".parse::<Scope>().is_err());
        assert!(
            "write"
                .parse::<Scope>()
                .unwrap_err()
                .contains("invoke, read and admin")
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_hash_key_is_made_for_a_database_that_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::SqliteStore::open_beside(folder.path().join("a.db")).unwrap();
        let path = folder.path().join("a.key");
        let first = HashKey::of_store(&path, &store).await.unwrap();
        HashKey::of_store(&path, &store).await.unwrap();
        let kept = folder.path().join("kept.key");
        std::fs::rename(&path, &kept).unwrap();
        let keyless = HashKey::of_store(&path, &store).await;
        assert!(matches!(keyless, Err(HashKeyError::Missing { .. })));
        assert!(!path.exists());

        // The keys were copied from an older store, without what the gateways agreed on.
        let store = crate::store::SqliteStore::open_beside(folder.path().join("b.db")).unwrap();
        let record = crate::store::KeyRecord {
            id: "k1".to_owned(),
            name: "crm".to_owned(),
            hash: first.hash("open sesame"),
            sealed: None,
            scopes: "[\"invoke\"]".to_owned(),
            rate: None,
            created: jiff::Timestamp::now(),
            expires: None,
            revoked: None,
        };
        let actor = crate::store::Actor {
            name: "olena".to_owned(),
            request_id: None,
            remote: None,
        };
        store.insert_key(record, actor).await.unwrap();
        let told = HashKey::of_store(&path, &store)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(
            told.contains(&path.display().to_string()) && told.contains("store.hash_key"),
            "{told}"
        );
        assert!(!path.exists());
        std::fs::rename(&kept, &path).unwrap();
        HashKey::of_store(&path, &store).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gateways_on_one_database_have_the_same_hash_key() {
        let folder = tempfile::tempdir().unwrap();
        let url = linkspan_testkit::PostgresServer::shared().database();
        let store = crate::store::PostgresStore::open_beside(&url)
            .await
            .unwrap();
        let first = HashKey::open(&folder.path().join("a/linkspan.key")).unwrap();
        first.agree(&store).await.unwrap();
        first.agree(&store).await.unwrap();
        let path = folder.path().join("b/linkspan.key");
        let error = HashKey::open(&path).unwrap().agree(&store).await;
        let told = error.unwrap_err().to_string();
        assert!(
            told.contains(&path.display().to_string()) && told.contains("copy"),
            "{told}"
        );
        std::fs::copy(folder.path().join("a/linkspan.key"), &path).unwrap();
        HashKey::open(&path).unwrap().agree(&store).await.unwrap();
    }
}
