//! The service: streams, and the operations by their names.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use ring::hmac;
use tokio::sync::{Mutex, watch};

use super::catalogue::{Catalogue, StreamEntry, Unsaved};
use super::fault::{Fault, Kind};
use super::operations;
use super::shapes::Which;
use super::shard::{Shard, fault_of};
use super::wire::Codec;
use crate::log::disk::{Disk, FileSystem};
use crate::log::{Log, LogError, LogsError};

/// The account in the ARNs of these streams: they belong to none of Amazon's.
pub(super) const ACCOUNT: &str = "000000000000";

/// The logs of the shards, by name.
#[async_trait]
pub trait Logs: Send + Sync {
    /// Opens a log, made where it is not there.
    ///
    /// # Errors
    ///
    /// As [`Log::append`].
    async fn open(&self, name: &str) -> Result<Arc<dyn Log>, LogError>;

    /// Removes a log, where it is there.
    ///
    /// # Errors
    ///
    /// As [`Log::append`].
    async fn remove(&self, name: &str) -> Result<(), LogError>;

    /// The names of all logs.
    ///
    /// # Errors
    ///
    /// As [`Log::append`].
    async fn names(&self) -> Result<Vec<String>, LogError>;
}

#[async_trait]
impl Logs for crate::log::Logs {
    async fn open(&self, name: &str) -> Result<Arc<dyn Log>, LogError> {
        let log = match self.get(name).await.map_err(failed)? {
            Some(log) => log,
            None => self.create(name).await.map_err(failed)?,
        };
        Ok(log)
    }

    async fn remove(&self, name: &str) -> Result<(), LogError> {
        self.delete(name).await.map_err(failed).map(drop)
    }

    async fn names(&self) -> Result<Vec<String>, LogError> {
        Self::names(self).await.map_err(failed)
    }
}

fn failed(error: LogsError) -> LogError {
    match error {
        LogsError::Log(error) => error,
        error => LogError::Io {
            doing: "open a log",
            error: std::io::Error::other(error),
        },
    }
}

/// How the service goes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether Amazon's limits of a shard's throughput hold.
    pub throttle: bool,
    /// The most bytes that one shard keeps, besides the time.
    pub shard_size: Option<u64>,
    /// The most open shards of all streams together.
    pub shards: u32,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Put records.
    Write,
    /// Get records, list and describe.
    Read,
    /// Make, change and delete streams.
    Admin,
}

/// A request whose signature was checked.
pub struct Call<'a> {
    /// The operation's name, from `X-Amz-Target`.
    pub operation: &'a str,
    /// The form of the body.
    pub codec: Codec,
    /// The body.
    pub body: &'a [u8],
    /// The region that the caller thinks this is.
    pub region: &'a str,
    /// Whether the caller may do that, with one stream or (none) with all.
    pub may: &'a (dyn Fn(Access, Option<&str>) -> bool + Sync),
    /// When it came.
    pub now: Timestamp,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, in the request's form.
    pub body: Vec<u8>,
    /// The name of the error, if it is one.
    pub fault: Option<Kind>,
}

/// Kinesis, on logs of our own.
pub struct Service {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    logs: Arc<dyn Logs>,
    pub(super) options: Options,
    pub(super) tokens: hmac::Key,
    /// Replaced as a whole at each change.
    state: RwLock<Arc<State>>,
    changing: Mutex<()>,
    /// Nobody knows which streams the next start finds: what were acknowledged now might be lost then.
    unsure: AtomicBool,
    /// Told of each change of the streams.
    changes: watch::Sender<()>,
}

/// The streams at one moment.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) catalogue: Catalogue,
    pub(super) shards: HashMap<(uuid::Uuid, u32), Arc<Shard>>,
}

impl Service {
    /// Opens the streams whose catalogue is at `path`. `secret` signs iterators: the same at each start, so that they outlive one.
    ///
    /// # Errors
    ///
    /// The catalogue or a log cannot be read.
    pub async fn open(
        path: PathBuf,
        logs: Arc<dyn Logs>,
        secret: &[u8],
        options: Options,
    ) -> Result<Self, LogError> {
        Self::open_on(Arc::new(FileSystem), path, logs, secret, options).await
    }

    /// As [`Service::open`], with the catalogue on any disk.
    pub(super) async fn open_on(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        logs: Arc<dyn Logs>,
        secret: &[u8],
        options: Options,
    ) -> Result<Self, LogError> {
        let doing = |doing| move |error| LogError::Io { doing, error };
        let catalogue = Catalogue::load(&*disk, &path);
        let catalogue = catalogue.map_err(doing("read the catalogue of streams"))?;
        let mut shards = HashMap::new();
        let mut known = Vec::new();
        for stream in catalogue.streams.values() {
            for shard in &stream.shards {
                let name = stream.log(shard.number);
                let log = logs.open(&name).await?;
                let shard_open = Shard::new(name.clone(), log, shard.closed.is_none());
                shards.insert((stream.id, shard.number), Arc::new(shard_open));
                known.push(name);
            }
        }
        // A stream that was deleted, or not yet made, when the process ended.
        for name in logs.names().await? {
            if !known.contains(&name) {
                logs.remove(&name).await?;
            }
        }
        Ok(Self {
            disk,
            path,
            logs,
            options,
            tokens: hmac::Key::new(hmac::HMAC_SHA256, secret),
            state: RwLock::new(Arc::new(State { catalogue, shards })),
            changing: Mutex::new(()),
            unsure: AtomicBool::new(false),
            changes: watch::Sender::new(()),
        })
    }

    /// Answers a request.
    pub async fn answer(&self, call: Call<'_>) -> Answer {
        match operations::perform(self, &call).await {
            Ok(body) => Answer {
                status: 200,
                body,
                fault: None,
            },
            Err(fault) => Answer::refusing(&fault, call.codec),
        }
    }

    /// Lets go of records past their stream's retention, and of closed shards without any. Called every minute or so.
    ///
    /// # Errors
    ///
    /// A log cannot be trimmed.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), LogError> {
        let state = self.state();
        let mut over = Vec::new();
        // One log that refuses keeps no other from its retention.
        let mut failed = None;
        for (name, stream) in &state.catalogue.streams {
            let age = Duration::from_secs(u64::from(stream.retention_hours) * 3600);
            for entry in &stream.shards {
                let Some(shard) = state.shards.get(&(stream.id, entry.number)) else {
                    continue;
                };
                if let Err(error) = shard.log().trim(age, self.options.shard_size, now).await {
                    failed.get_or_insert(error);
                }
                let kept = SignedDuration::from_hours(i64::from(stream.retention_hours));
                if entry
                    .closed
                    .is_some_and(|(_, at)| now.duration_since(at) > kept)
                {
                    over.push((name.clone(), stream.id, entry.number));
                }
            }
        }
        for (name, id, number) in over {
            let removed = self
                .change(|state| {
                    let stream = state.catalogue.streams.get_mut(&name);
                    let stream = stream.filter(|stream| stream.id == id)?;
                    stream.shards.retain(|shard| shard.number != number);
                    state.shards.remove(&(id, number));
                    Some(stream.log(number))
                })
                .await;
            if let Ok(Some(log)) = removed
                && let Err(error) = self.logs.remove(&log).await
            {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Tells that streams or shards were made, closed or removed.
    pub(super) fn follow(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Makes a stream, durably. False where there is one of that name already.
    pub(super) async fn create(&self, name: &str, stream: StreamEntry) -> Result<bool, Fault> {
        let _one = self.changing().await;
        let mut state = State::clone(&self.state());
        if state.catalogue.streams.contains_key(name) {
            return Ok(false);
        }
        let shards = u32::try_from(stream.shards.len()).unwrap_or(u32::MAX);
        operations::bounded(self, &state, shards)?;
        for shard in &stream.shards {
            let opened = self.open_shard(&stream, shard.number).await?;
            state.shards.insert((stream.id, shard.number), opened);
        }
        state.catalogue.streams.insert(name.to_owned(), stream);
        self.keep(state).await?;
        Ok(true)
    }

    /// The streams, now.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the streams, durably; nothing changes where the change gives an error or cannot be written.
    pub(super) async fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> Result<T, Fault> {
        let _one = self.changing.lock().await;
        let mut state = State::clone(&self.state());
        let outcome = change(&mut state);
        self.keep(state).await?;
        Ok(outcome)
    }

    /// As [`Service::change`], by a change that waits for something.
    pub(super) async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Writes the state down and puts it in the old one's place. Whoever calls it holds the lock of changes.
    pub(super) async fn keep(&self, state: State) -> Result<(), Fault> {
        self.is_sure()?;
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        let (old, new) = (self.state(), state.catalogue.clone());
        let written =
            tokio::task::spawn_blocking(move || new.replace(&old.catalogue, &*disk, &path)).await;
        let unsure = match written {
            Ok(Ok(())) => {
                *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
                self.changes.send_replace(());
                return Ok(());
            }
            Ok(Err(Unsaved::Unchanged(error))) => {
                tracing::error!(%error, "the catalogue of streams cannot be written");
                false
            }
            Ok(Err(Unsaved::Unsure(error))) => {
                tracing::error!(%error, "it is not known which catalogue of streams is on the disk: nothing is taken until the restart");
                true
            }
            Err(_) => true,
        };
        self.unsure.fetch_or(unsure, Ordering::AcqRel);
        Err(Fault::new(
            Kind::InternalFailure,
            "Internal service failure.",
        ))
    }

    /// Refuses what is to last where nobody knows which streams the next start finds.
    pub(super) fn is_sure(&self) -> Result<(), Fault> {
        if !self.unsure.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Fault::new(
            Kind::InternalFailure,
            "The disk failed while the streams were changed: nothing is taken until the restart.",
        ))
    }

    /// Opens the log of a shard that is being made.
    pub(super) async fn open_shard(
        &self,
        stream: &StreamEntry,
        number: u32,
    ) -> Result<Arc<Shard>, Fault> {
        let name = stream.log(number);
        let log = self.logs.open(&name).await;
        let log = log.map_err(|error| fault_of(&error))?;
        Ok(Arc::new(Shard::new(name, log, true)))
    }

    /// Opens the log of a shard anew after it failed: the next append finds out whether it works again.
    pub(super) async fn heal(&self, shard: &Shard) {
        if let Ok(log) = self.logs.open(&shard.name).await {
            shard.replace(log);
        }
    }

    /// Removes the logs of a stream that is gone from the catalogue.
    pub(super) async fn remove_logs(&self, stream: &StreamEntry) {
        for shard in &stream.shards {
            if let Err(error) = self.logs.remove(&stream.log(shard.number)).await {
                // It goes at the next start.
                tracing::warn!(%error, "a deleted stream's log stays for now");
            }
        }
    }
}

impl State {
    /// The stream that a request names.
    pub(super) fn named(&self, which: &Which) -> Result<(&str, &StreamEntry), Fault> {
        let name = name_of(which)?;
        match self.catalogue.streams.get_key_value(&name) {
            Some((name, stream)) => Ok((name, stream)),
            None => Err(no_stream(&name)),
        }
    }
}

/// The name in a request, by name or ARN.
pub(super) fn name_of(which: &Which) -> Result<String, Fault> {
    let arn = which.stream_arn.as_deref();
    let by_arn = arn.map(|arn| {
        let mut parts = arn.splitn(6, ':').skip(5);
        parts
            .next()
            .and_then(|resource| resource.strip_prefix("stream/"))
            .ok_or_else(|| Fault::validation(arn, "streamARN", "Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"))
    });
    let name = match (by_arn, which.stream_name.as_deref()) {
        (None, None) => {
            return Err(Fault::new(
                Kind::InvalidArgument,
                "Either StreamARN or StreamName must be provided.",
            ));
        }
        (Some(by_arn), given) => {
            let by_arn = by_arn?;
            if given.is_some_and(|given| given != by_arn) {
                return Err(Fault::new(
                    Kind::InvalidArgument,
                    "StreamARN and StreamName name two streams.",
                ));
            }
            by_arn
        }
        (None, Some(given)) => given,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if (1..=128).contains(&name.len()) && name.bytes().all(plain) {
        Ok(name.to_owned())
    } else {
        Err(Fault::validation(
            name,
            "streamName",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]{1,128}",
        ))
    }
}

/// There is no such stream.
pub(super) fn no_stream(name: &str) -> Fault {
    Fault::new(
        Kind::ResourceNotFound,
        format!("Stream {name} under account {ACCOUNT} not found."),
    )
}

impl Answer {
    /// An error as an answer.
    #[must_use]
    pub fn refusing(fault: &Fault, codec: Codec) -> Self {
        #[derive(serde::Serialize)]
        struct Body<'a> {
            __type: &'a str,
            message: &'a str,
        }
        let body = Body {
            __type: fault.kind.name(),
            message: &fault.message,
        };
        Self {
            status: fault.kind.status(),
            body: codec.write(&body),
            fault: Some(fault.kind),
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
