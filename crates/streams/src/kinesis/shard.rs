//! A shard that is open for use: its log, and the gate that closes it.

use std::sync::{Arc, PoisonError};

use bytes::{BufMut as _, Bytes, BytesMut};
use jiff::Timestamp;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use super::fault::{Fault, Kind};
use super::throttle::Throttle;
use crate::log::{Log, LogError};

/// A shard.
pub(super) struct Shard {
    /// The log's name.
    pub(super) name: String,
    /// Another one after a failed sync: the old one takes nothing more.
    log: std::sync::RwLock<Arc<dyn Log>>,
    pub(super) throttle: Throttle,
    /// Read by whoever appends, written by whoever closes: so nothing is appended after the end was taken.
    open: Arc<RwLock<bool>>,
}

impl Shard {
    pub(super) fn new(name: String, log: Arc<dyn Log>, open: bool) -> Self {
        Self {
            name,
            log: std::sync::RwLock::new(log),
            throttle: Throttle::default(),
            open: Arc::new(RwLock::new(open)),
        }
    }

    /// The log.
    pub(super) fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts the log, opened anew, in the old one's place.
    pub(super) fn replace(&self, log: Arc<dyn Log>) {
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = log;
    }

    /// Appends; none where the shard was closed meanwhile.
    pub(super) async fn append(
        &self,
        entries: Vec<Bytes>,
        now: Timestamp,
    ) -> Option<Result<u64, LogError>> {
        let open = self.open.read().await;
        if !*open {
            return None;
        }
        Some(self.log().append(entries, now).await)
    }

    /// Lets nobody append until the guard is dropped, and nobody after that where it then holds false.
    pub(super) async fn hold(&self) -> OwnedRwLockWriteGuard<bool> {
        Arc::clone(&self.open).write_owned().await
    }
}

/// What an entry of the log holds.
pub(super) struct Stored {
    pub(super) partition_key: String,
    pub(super) data: Bytes,
}

impl Stored {
    /// The entry's bytes: the length of the partition key (at most 256 characters, so two bytes), the key, the data.
    pub(super) fn encode(partition_key: &str, data: &[u8]) -> Bytes {
        let mut bytes = BytesMut::with_capacity(2 + partition_key.len() + data.len());
        bytes.put_u16(partition_key.len() as u16);
        bytes.put_slice(partition_key.as_bytes());
        bytes.put_slice(data);
        bytes.freeze()
    }

    /// Reads an entry's bytes.
    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        let length = bytes.get(..2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let _ = bytes.split_to(2);
        if bytes.len() < length {
            return None;
        }
        let key = bytes.split_to(length);
        Some(Self {
            partition_key: String::from_utf8(key.into()).ok()?,
            data: bytes,
        })
    }
}

/// What an error of the log is to the caller.
pub(super) fn fault_of(error: &LogError) -> Fault {
    match error {
        LogError::Full => Fault::new(
            Kind::ServiceUnavailable,
            "The disk is full: nothing is taken for now.",
        ),
        error => {
            tracing::error!(%error, "a shard's log failed");
            Fault::new(Kind::InternalFailure, "Internal service failure.")
        }
    }
}
