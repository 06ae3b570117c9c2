//! Streams of records through integrations: what reads them, what is done with a record, and how they are kept going.
//!
//! ```text
//! source ─▶ flow (in linkspan-streams) ─▶ Work: record → request → pipeline ─▶ committer of the pattern
//! ```
//!
//! [`Streams`] has a reader for each integration that reads a stream. A reader opens its source and its committer
//! (`patterns/stream_in.rs`, `patterns/full_stream.rs`), runs the flow, and opens them anew, after a wait, where it ended by a fault.

pub(crate) mod amazon;
mod clusters;
mod committer;
mod instance;
pub(crate) mod lanes;
mod leases;
mod letters;
pub mod own;
mod reading;
mod sources;
mod unwrapping;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use linkspan_model::config::{self, Config, Pattern};
use linkspan_streams::Lane;
use linkspan_streams::flow::{Meter, Settings};

pub use clusters::{Clusters, check_clusters, cluster};
pub(crate) use committer::StoreCommitter;
pub use instance::Instance;
pub use lanes::{Counting, Lanes, Taken};
pub use reading::Reading;
pub(crate) use reading::{TRACEPARENT, again, decoder, header};
pub(crate) use sources::{Opened, counting, open as open_source};
pub use work::{Processed, Work, problem};

use crate::gateway::Gateway;
use crate::integration::Integration;
use crate::patterns;

/// The waits before a reader that ended by a fault begins again: the first and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A reader that ran for so long begins with the first wait again.
const STEADY: Duration = Duration::from_secs(120);

/// The readers of a gateway, by integration.
#[derive(Debug, Default)]
pub struct Streams {
    readers: BTreeMap<String, Arc<Reader>>,
    instance: Option<Instance>,
}

/// What reads an integration's stream.
pub struct Reader {
    /// The integration.
    pub integration: Arc<Integration>,
    /// What the integration's `source` says.
    pub source: config::Source,
    /// The name of its reading in the store, which holds for ever: the integration and the source.
    pub stream: String,
    /// What its flow counts.
    pub meter: Arc<Meter>,
    status: Mutex<Status>,
    lag: Mutex<Option<Arc<dyn Lag>>>,
}

/// How far behind a source its reading is.
pub trait Lag: Send + Sync {
    /// The lanes that are read here, with how much of each was not read yet, as far as that is known.
    fn behind(&self) -> Vec<(Lane, Behind)>;
}

/// How much of a lane was not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// So many records.
    Records(u64),
    /// What came in so long a time.
    Time(Duration),
}

/// How a reader does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
}

/// What a reader does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It opens its source.
    Starting,
    /// It reads.
    Reading,
    /// It met a fault, and begins again after a wait.
    Waiting {
        /// The fault, in a sentence without content of a record.
        reason: String,
    },
    /// The gateway stops.
    Stopped,
}

/// Why a reader ended.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// Its source or its committer cannot be opened.
    #[error("{0}")]
    Open(String),
    /// It ended by itself.
    #[error(transparent)]
    Flow(#[from] linkspan_streams::flow::FlowError),
}

impl Streams {
    /// The readers of a configuration in `folder`; none of them reads yet.
    #[must_use]
    pub fn of(
        config: &Config,
        integrations: &BTreeMap<String, Arc<Integration>>,
        folder: &Path,
    ) -> Self {
        let readers = config.integrations.iter().filter_map(|(name, given)| {
            let source = given.source.clone()?;
            let integration = integrations.get(name.as_str())?;
            given.pattern.reads_stream().then(|| {
                let reader = Reader::new(integration.clone(), source, config);
                (name.to_string(), Arc::new(reader))
            })
        });
        let readers: BTreeMap<_, _> = readers.collect();
        let from_kafka = |reader: &Arc<Reader>| {
            matches!(reader.source.stream, config::stream::Stream::KafkaSource(_))
        };
        let instance = if readers.values().any(from_kafka) {
            instance(&folder.join(&config.streams.path))
        } else {
            None
        };
        Self { readers, instance }
    }

    /// What this gateway is known by to Kafka; none where another gateway has that name, or it cannot be kept.
    #[must_use]
    pub const fn instance(&self) -> Option<&Instance> {
        self.instance.as_ref()
    }

    /// The reader of an integration.
    #[must_use]
    pub fn of_integration(&self, name: &str) -> Option<&Arc<Reader>> {
        self.readers.get(name)
    }

    /// The readers, by integration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Reader>> {
        self.readers.values()
    }

    /// Starts all of them. They end with [`Gateway::stop`], and [`Gateway::drain`] waits for them.
    pub fn start(&self, gateway: &Arc<Gateway>) {
        for reader in self.readers.values() {
            gateway
                .tasks
                .spawn(keep_reading(gateway.clone(), reader.clone()));
        }
    }
}

/// The name that is kept in a folder. Without it the gateway is another member of its groups after each restart.
fn instance(folder: &Path) -> Option<Instance> {
    match Instance::of(folder) {
        Ok(instance) => {
            if instance.is_none() {
                tracing::warn!(folder = %folder.display(), "another gateway has this folder's name in Kafka's groups; give each gateway a folder of its own (streams.path)");
            }
            instance
        }
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "the gateway's name in Kafka's groups cannot be kept");
            None
        }
    }
}

/// Reads until the gateway stops.
async fn keep_reading(gateway: Arc<Gateway>, reader: Arc<Reader>) {
    let mut wait = WAITS.0;
    loop {
        reader.set(State::Starting);
        let stop = gateway.stop.child_token();
        let began = Instant::now();
        let reading = async {
            match reader.integration.pattern {
                Pattern::FullStream => patterns::full_stream::read(&gateway, &reader, stop).await,
                _ => patterns::stream_in::read(&gateway, &reader, stop).await,
            }
        };
        let ended = gateway.abandon.run_until_cancelled(reading).await;
        reader.set_lag(None);
        let error = match ended {
            None | Some(Ok(())) => break,
            Some(Err(error)) => error,
        };
        if gateway.stop.is_cancelled() {
            break;
        }
        if began.elapsed() > STEADY {
            wait = WAITS.0;
        }
        tracing::error!(
            integration = reader.integration.name,
            stream = reader.stream,
            seconds = wait.as_secs(),
            "reading ended and begins again: {error}"
        );
        reader.set(State::Waiting {
            reason: error.to_string(),
        });
        if gateway
            .stop
            .run_until_cancelled(tokio::time::sleep(wait))
            .await
            .is_none()
        {
            break;
        }
        wait = (wait * 2).min(WAITS.1);
    }
    reader.set(State::Stopped);
}

impl State {
    /// All that there are, as they are written.
    pub const NAMES: [&'static str; 4] = ["starting", "reading", "waiting", "stopped"];

    /// The state in a word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting => Self::NAMES[0],
            Self::Reading => Self::NAMES[1],
            Self::Waiting { .. } => Self::NAMES[2],
            Self::Stopped => Self::NAMES[3],
        }
    }
}

impl Reader {
    fn new(integration: Arc<Integration>, source: config::Source, config: &Config) -> Self {
        Self {
            stream: format!("{}/{}", integration.name, sources::name(&source, config)),
            integration,
            source,
            meter: Arc::default(),
            status: Mutex::new(Status {
                state: State::Starting,
                since: Timestamp::now(),
            }),
            lag: Mutex::default(),
        }
    }

    /// How it reads a record.
    ///
    /// # Errors
    ///
    /// What is wrong with its filter, as a sentence.
    pub fn reading(&self) -> Result<Reading, String> {
        Reading::of(&self.source)
    }

    /// How it does.
    #[must_use]
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    /// It reads: said by its pattern, when source and committer are open.
    pub fn is_reading(&self, lag: Arc<dyn Lag>) {
        self.set_lag(Some(lag));
        self.set(State::Reading);
    }

    /// How far behind the source it is; empty where that is not known.
    #[must_use]
    pub fn behind(&self) -> Vec<(Lane, Behind)> {
        let lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = lag.clone();
        lag.map(|lag| lag.behind()).unwrap_or_default()
    }

    /// How its flow goes.
    #[must_use]
    pub fn settings(&self, gateway: &Gateway) -> Settings {
        let (given, integration) = (&self.source.common, &self.integration);
        Settings {
            order: reading::order(given.order),
            in_flight: given.in_flight as usize,
            in_flight_bytes: usize::try_from(given.in_flight_size.bytes()).unwrap_or(usize::MAX),
            concurrency: integration.concurrency,
            attempts: integration.attempts,
            backoff_first: integration.backoff.first,
            backoff_max: integration.backoff.max,
            deadline: given.deadline,
            linger: given.linger,
            drain: gateway.config.server.drain_timeout / 2,
            ..Settings::default()
        }
    }

    fn set(&self, state: State) {
        *self.lock() = Status {
            state,
            since: Timestamp::now(),
        };
    }

    fn set_lag(&self, lag: Option<Arc<dyn Lag>>) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
