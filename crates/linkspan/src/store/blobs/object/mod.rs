//! Blobs as objects of a bucket: `PREFIX/ab/abcdef…` by the SHA-256 of their content.
//!
//! An object is kept when the store has confirmed it: the part that is fsync elsewhere. Documents go there and come back in pieces;
//! a copy of what is worked on lies in a local folder ([`cache`]). Whether the store can be reached is known from what was asked of it
//! last, and while it cannot, from probes.
//!
//! **Several gateways on one bucket.** Pins hold within one process only. That no gateway removes an object while another one stores a
//! row that names it, is the business of the store of rows, which the gateways share: it asks [`Blobs::is_there`].

mod bucket;
mod cache;
#[cfg(test)]
pub(in crate::store) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutPayload};
use ring::digest::{Context, SHA256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use super::file::{PROBE, kind_of};
use super::{BlobRef, Blobs, Condemned, Digest, LocalBlob, Pin, Pins, Spooled};
use crate::logging;
use crate::store::error::{ErrorKind, StoreError};
use crate::store::gauge::Gauge;
use crate::store::upkeep::Health;
pub use bucket::connect;
use bucket::{OPENING, is_final, is_missing, reason};
use cache::Cache;

/// The pieces in which a document goes out. A larger document has larger ones: S3 takes 10,000.
const PART: u64 = 8 << 20;

/// How many pieces are in memory at once, over all documents.
const PARTS: usize = 8;

/// Blobs in a bucket.
#[derive(Clone)]
pub struct ObjectBlobs {
    shared: Arc<Shared>,
}

/// How a bucket is used.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// What the keys begin with, without `/` at its ends; it may be empty.
    pub prefix: String,
    /// The local folder.
    pub cache: PathBuf,
    /// The most bytes of copies in the local folder.
    pub cache_size: u64,
}

struct Shared {
    bucket: Arc<dyn ObjectStore>,
    prefix: String,
    cache: Cache,
    pins: Pins,
    /// Whether the store can be reached.
    far: Gauge,
    /// Whether the local folder can be written.
    near: Gauge,
    parts: Semaphore,
    /// What is being fetched, so that it is fetched once.
    fetches: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl ObjectBlobs {
    /// Opens a bucket. Where it cannot be reached just now, it is opened all the same, and refuses until it can.
    ///
    /// # Errors
    ///
    /// `Unusable`: the local folder cannot be made or written; there is no such bucket; the store refuses the key.
    pub async fn open(
        bucket: Arc<dyn ObjectStore>,
        options: ObjectOptions,
    ) -> Result<Self, StoreError> {
        let unusable =
            |reason: String| StoreError::new(ErrorKind::Unusable, OPENING).because(reason);
        let (folder, limit) = (options.cache, options.cache_size);
        let cache = blocking(OPENING, move || {
            Ok(Cache::open(&folder, limit)
                .map_err(|error| format!("{}: {error}", folder.display())))
        })
        .await?
        .map_err(unusable)?;
        let shared = Arc::new(Shared {
            bucket,
            prefix: options.prefix,
            cache,
            pins: Pins::default(),
            far: Gauge::default(),
            near: Gauge::default(),
            parts: Semaphore::new(PARTS),
            fetches: Mutex::default(),
        });
        if let Err(error) = shared.touch().await {
            if is_final(&error) {
                return Err(unusable(reason(&error)));
            }
            shared.lost(&error, OPENING);
        }
        Ok(Self { shared })
    }
}

#[async_trait]
impl Blobs for ObjectBlobs {
    fn spool(&self) -> &Path {
        self.shared.cache.spool()
    }

    async fn keep(
        &self,
        spooled: &Spooled,
        digest: Digest,
        size: u64,
    ) -> Result<BlobRef, StoreError> {
        const DOING: &str = "keep a document";
        let (shared, spooled) = (Arc::clone(&self.shared), spooled.clone());
        // In a task of its own: an upload that was begun is ended, or given up in order, also when the caller goes away.
        tokio::spawn(async move { shared.keep(&spooled, digest, size).await })
            .await
            .map_err(|join| StoreError::new(ErrorKind::Internal, DOING).because(join))?
    }

    async fn open(&self, blob: &BlobRef) -> Result<File, StoreError> {
        let local = self.local(blob).await?;
        blocking("open a document", move || File::open(local.path())).await
    }

    async fn local(&self, blob: &BlobRef) -> Result<LocalBlob, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (digest, size) = (blob.digest, blob.size);
        shared.local(digest, size).await
    }

    async fn is_there(&self, blob: &BlobRef) -> Result<bool, StoreError> {
        let key = self.shared.key(blob.digest);
        let object = self.shared.head(&key, "look for a document").await?;
        Ok(object.is_some_and(|object| object.size == blob.size))
    }

    fn condemn(&self, digest: Digest) -> Option<Condemned> {
        self.shared.pins.condemn(digest)
    }

    async fn erase(&self, condemned: Condemned) -> Result<bool, StoreError> {
        let shared = Arc::clone(&self.shared);
        let join = tokio::spawn(async move { shared.erase(condemned.digest()).await }).await;
        join.map_err(|join| StoreError::new(ErrorKind::Internal, ERASING).because(join))?
    }

    async fn list(
        &self,
        after: Option<Digest>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        self.shared.list(after, age, limit).await
    }

    fn fault(&self, error: io::Error, doing: &'static str) -> StoreError {
        self.shared.fault(error, doing)
    }

    fn health(&self) -> Health {
        let shared = &self.shared;
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            if shared.near.probe_is_due() {
                let shared = Arc::clone(shared);
                runtime.spawn_blocking(move || shared.probe_near());
            }
            if shared.far.probe_is_due() {
                let shared = Arc::clone(shared);
                runtime.spawn(async move { shared.probe_far().await });
            }
        }
        match shared.near.health() {
            Health::Accepting => shared.far.health(),
            refusing => refusing,
        }
    }
}

/// How long it may take to erase one.
const ERASE: Duration = Duration::from_secs(20);

const ERASING: &str = "remove a document";

impl Shared {
    async fn keep(
        self: Arc<Self>,
        spooled: &Spooled,
        digest: Digest,
        size: u64,
    ) -> Result<BlobRef, StoreError> {
        const DOING: &str = "keep a document";
        // A probe finds out when it can be reached again: nobody waits for a store that is known to be away.
        for health in [self.near.health(), self.far.health()] {
            if let Health::Refusing(
                kind @ (ErrorKind::Io | ErrorKind::Corrupt | ErrorKind::Unreachable),
            ) = health
            {
                return Err(StoreError::new(kind, DOING));
            }
        }
        let pin = self.pin(digest).await?;
        let key = self.key(digest);
        let there = self
            .head(&key, DOING)
            .await?
            .is_some_and(|meta| meta.size == size);
        if !there {
            self.upload(spooled, &key, digest, size).await?;
        }
        let (shared, spooled) = (Arc::clone(&self), spooled.clone());
        // The gateway that took a document in often works on it: no copy is no fault.
        let _ = blocking(DOING, move || {
            shared.cache.adopt(spooled.path(), digest, size)
        })
        .await;
        Ok(BlobRef {
            digest,
            size,
            pin: Some(pin),
        })
    }

    async fn upload(
        &self,
        spooled: &Spooled,
        key: &object_store::path::Path,
        digest: Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        const DOING: &str = "keep a document";
        let path = spooled.path().to_owned();
        let file = blocking(DOING, move || File::open(path)).await?;
        let mut content = Content {
            file,
            hash: Context::new(&SHA256),
        };
        let part = part_size(size);
        if size <= part {
            let place = self.parts.acquire().await;
            let (bytes, content) = content.read(size).await?;
            self.check(content, digest)?;
            let put = self.bucket.put(key, PutPayload::from(bytes)).await;
            drop(place);
            return self.told(put.map(drop), DOING);
        }
        let mut upload = self.told(self.bucket.put_multipart(key).await, DOING)?;
        let outcome = async {
            let mut left = size;
            while left > 0 {
                let place = self.parts.acquire().await;
                let bytes;
                (bytes, content) = content.read(left.min(part)).await?;
                left -= bytes.len() as u64;
                let put = upload.put_part(PutPayload::from(bytes)).await;
                drop(place);
                self.told(put, DOING)?;
            }
            self.check(content, digest)?;
            self.told(upload.complete().await.map(drop), DOING)
        }
        .await;
        if outcome.is_err() {
            // What cannot be given up now is for the bucket's own rule about unfinished uploads.
            let _ = upload.abort().await;
        }
        outcome
    }

    /// Whether what was read is what came in.
    fn check(&self, content: Content, digest: Digest) -> Result<(), StoreError> {
        if Digest::from_ring(&content.hash.finish()) == digest {
            return Ok(());
        }
        self.near.poison(ErrorKind::Io);
        Err(StoreError::new(ErrorKind::Io, "keep a document")
            .because("a temporary file holds another content than was written to it"))
    }

    async fn local(self: Arc<Self>, digest: Digest, size: u64) -> Result<LocalBlob, StoreError> {
        if let Some(copy) = self.copy(digest, size).await? {
            return Ok(copy);
        }
        let turn = self.turn(digest);
        let held = turn.lock().await;
        // Whoever had the turn before has fetched it.
        let found = match self.copy(digest, size).await? {
            Some(copy) => Ok(copy),
            None => self.fetch(digest, size).await,
        };
        drop(held);
        drop(turn);
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.retain(|_, turn| turn.strong_count() > 0);
        found
    }

    async fn copy(
        self: &Arc<Self>,
        digest: Digest,
        size: u64,
    ) -> Result<Option<LocalBlob>, StoreError> {
        const DOING: &str = "open a document";
        let shared = Arc::clone(self);
        blocking(DOING, move || {
            Ok(shared
                .cache
                .get(digest, size)
                .map_err(|error| shared.fault(error, DOING)))
        })
        .await?
    }

    fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        let known = fetches.get(&digest).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let turn = Arc::default();
            fetches.insert(digest, Arc::downgrade(&turn));
            turn
        })
    }

    async fn fetch(self: &Arc<Self>, digest: Digest, size: u64) -> Result<LocalBlob, StoreError> {
        const DOING: &str = "fetch a document";
        let corrupt =
            |reason: String| Err(StoreError::new(ErrorKind::Corrupt, DOING).because(reason));
        let object = match self.bucket.get(&self.key(digest)).await {
            Err(error) if is_missing(&error) => {
                return corrupt("the bucket has no such object".to_owned());
            }
            got => self.told(got, DOING)?,
        };
        if object.meta.size != size {
            let there = object.meta.size;
            return corrupt(format!("the object has {there} bytes, its row says {size}"));
        }
        let spool = self.cache.spool().to_owned();
        let temporary = blocking(DOING, move || NamedTempFile::new_in(spool))
            .await
            .map_err(|error| self.noted(error))?;
        let (file, path) = temporary.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let mut hash = Context::new(&SHA256);
        let mut pieces = object.into_stream();
        loop {
            let Some(piece) = self.told(pieces.try_next().await, DOING)? else {
                break;
            };
            hash.update(&piece);
            file.write_all(&piece)
                .await
                .map_err(|error| self.fault(error, DOING))?;
        }
        file.flush()
            .await
            .map_err(|error| self.fault(error, DOING))?;
        if Digest::from_ring(&hash.finish()) != digest {
            return corrupt("the object has another content than its name says".to_owned());
        }
        let shared = Arc::clone(self);
        blocking(DOING, move || {
            // No copy is no fault: this one is there.
            let _ = shared.cache.adopt(&path, digest, size);
            Ok(LocalBlob {
                path: path.to_path_buf(),
                _copy: Some(path),
            })
        })
        .await
    }

    async fn erase(&self, digest: Digest) -> Result<bool, StoreError> {
        self.cache.forget(digest);
        let key = self.key(digest);
        let erasing = async {
            // Some stores say nothing of whether there was one.
            let there = self.head(&key, ERASING).await?.is_some();
            match self.bucket.delete(&key).await {
                Err(error) if is_missing(&error) => Ok(false),
                told => self.told(told, ERASING).map(|()| there),
            }
        };
        // Others may wait for the lock under which it is erased.
        let late =
            |_| StoreError::new(ErrorKind::Busy, ERASING).because("the bucket takes too long");
        tokio::time::timeout(ERASE, erasing).await.map_err(late)?
    }

    async fn list(
        &self,
        after: Option<Digest>,
        age: Duration,
        limit: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        const DOING: &str = "list the blobs";
        let prefix = (!self.prefix.is_empty()).then(|| self.prefix.as_str().into());
        let mut objects = match after {
            Some(after) => self
                .bucket
                .list_with_offset(prefix.as_ref(), &self.key(after)),
            None => self.bucket.list(prefix.as_ref()),
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut found = Vec::new();
        while let Some(object) = self.told(objects.try_next().await, DOING)? {
            let Some(digest) = self.digest(&object) else {
                continue;
            };
            if now.saturating_sub(since_epoch(&object)) < age {
                continue;
            }
            found.push(digest);
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    async fn head(
        &self,
        key: &object_store::path::Path,
        doing: &'static str,
    ) -> Result<Option<ObjectMeta>, StoreError> {
        match self.bucket.head(key).await {
            Err(error) if is_missing(&error) => {
                self.found();
                Ok(None)
            }
            told => self.told(told, doing).map(Some),
        }
    }

    /// Takes note of what an answer says of the store.
    fn told<T>(
        &self,
        answer: object_store::Result<T>,
        doing: &'static str,
    ) -> Result<T, StoreError> {
        match answer {
            Ok(answer) => {
                self.found();
                Ok(answer)
            }
            Err(error) => Err(self.lost(&error, doing)),
        }
    }

    fn found(&self) {
        if self.far.reached() {
            tracing::info!("the bucket of documents can be reached again");
        }
    }

    fn lost(&self, error: &object_store::Error, doing: &'static str) -> StoreError {
        let error = StoreError::new(ErrorKind::Unreachable, doing).because(reason(error));
        if self.far.unreachable() {
            tracing::error!(
                error = logging::chain(&error),
                "the bucket of documents cannot be reached; large documents are refused until it can"
            );
        }
        error
    }

    fn fault(&self, error: io::Error, doing: &'static str) -> StoreError {
        let kind = kind_of(&error);
        match kind {
            ErrorKind::Full => {
                self.near.full();
                // Copies make room.
                let _ = self.cache.shrink(0);
            }
            ErrorKind::Io => self.near.poison(kind),
            _ => {}
        }
        StoreError::new(kind, doing).because(error)
    }

    /// The same for an error that has its kind.
    fn noted(&self, error: StoreError) -> StoreError {
        match error.kind {
            ErrorKind::Full => self.near.full(),
            ErrorKind::Io => self.near.poison(error.kind),
            _ => {}
        }
        error
    }

    fn probe_near(&self) {
        let outcome = tempfile::tempfile_in(self.cache.spool())
            .and_then(|mut file| file.write_all(&vec![0; PROBE]));
        match outcome {
            Ok(()) => self.near.has_space(),
            Err(error) => {
                self.fault(error, "probe for space");
            }
        }
    }

    async fn probe_far(&self) {
        match self.touch().await {
            Ok(()) => self.found(),
            Err(error) => {
                tracing::debug!(reason = reason(&error), "the bucket cannot be reached yet");
            }
        }
    }

    /// Writes a small object: only that tells whether documents are taken.
    async fn touch(&self) -> object_store::Result<()> {
        let key = self.in_prefix("probe");
        self.bucket.put(&key, PROBED.into()).await.map(drop)
    }

    async fn pin(&self, digest: Digest) -> Result<Pin, StoreError> {
        let pins = self.pins.clone();
        blocking("keep a document", move || Ok(pins.pin(digest))).await
    }

    fn key(&self, digest: Digest) -> object_store::path::Path {
        let name = digest.to_string();
        self.in_prefix(&format!("{}/{name}", &name[..2]))
    }

    fn in_prefix(&self, name: &str) -> object_store::path::Path {
        // An empty prefix leaves an empty segment, which is dropped.
        format!("{}/{name}", self.prefix).into()
    }

    /// The digest by which an object is named; none where it is no blob.
    fn digest(&self, object: &ObjectMeta) -> Option<Digest> {
        let digest = Digest::from_hex(object.location.filename()?)?;
        (object.location == self.key(digest)).then_some(digest)
    }
}

/// What a probe writes: some stores keep no empty object.
const PROBED: &str = "linkspan\n";

/// A temporary file that is read from its beginning, and hashed on the way.
struct Content {
    file: File,
    hash: Context,
}

impl Content {
    async fn read(mut self, size: u64) -> Result<(Vec<u8>, Self), StoreError> {
        blocking("keep a document", move || {
            let size = usize::try_from(size).map_err(io::Error::other)?;
            let mut bytes = vec![0; size];
            self.file.read_exact(&mut bytes)?;
            self.hash.update(&bytes);
            Ok((bytes, self))
        })
        .await
    }
}

fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(10_000))
}

fn since_epoch(object: &ObjectMeta) -> Duration {
    Duration::from_secs(u64::try_from(object.last_modified.timestamp()).unwrap_or(0))
}

impl fmt::Debug for ObjectBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the client: it shows the key's id.
        f.debug_struct("ObjectBlobs")
            .field("prefix", &self.shared.prefix)
            .finish_non_exhaustive()
    }
}

/// Does what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|join| StoreError::new(ErrorKind::Internal, doing).because(join))?
        .map_err(|error| StoreError::new(kind_of(&error), doing).because(error))
}
