//! The sources, by what a configuration's `source` says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use linkspan_model::config::stream::{self, KafkaSource, KinesisSource, Stream};
use linkspan_model::config::{self, Config};
use linkspan_streams::flow::Progress;
use linkspan_streams::kafka::{self, Checkpoints, Group, SourceSettings};
use linkspan_streams::kinesis::{
    self, Keeper, KeptLane, KnownLane, OwnLags, OwnSettings, OwnSource, OwnStart, consumer,
};
use linkspan_streams::{Claimed, Lane, Source, Term};
use tokio::runtime::Handle;

use super::lanes::Kept;
use super::unwrapping::{self, Done, Unwrapped};
use super::{Behind, Counting, Lag, Lanes, Reader, ReaderError, amazon, cluster, reading};
use crate::gateway::Gateway;
use crate::logging;
use crate::store::{StoreError, StreamCommitted, Takeable};

/// How long a source that ended may take to leave its group.
const LEAVING: Duration = Duration::from_secs(10);

/// A source that is open.
pub(crate) struct Opened {
    /// The source.
    pub(crate) source: Box<dyn Source>,
    /// How far behind it is.
    pub(crate) lag: Arc<dyn Lag>,
    /// Who decides which lanes are read here.
    pub(crate) lanes_by: LanesBy,
    /// What is waited for when the source has ended.
    left: Option<Left>,
}

/// What a source leaves behind when it is dropped.
pub(crate) enum Left {
    /// It leaves its consumer group.
    Group(Group),
    /// It lets its lanes go.
    Amazon(consumer::Reading),
}

/// Who decides which lanes a reader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LanesBy {
    /// Others too: Kafka's group, other gateways. A lane that is lost is somebody else's, and the source learns of it.
    Others,
    /// Each of the gateways for itself, one lane at a time. A commit with a lane that is lost is offered again without it, when the source
    /// has learned which one it is.
    Each,
    /// This gateway alone. A lane that is lost is a fault, and the reading begins anew.
    Us,
}

/// Opens an integration's source; how far it is done stands in the store.
///
/// # Errors
///
/// What is wrong with its settings.
pub(crate) fn open(
    gateway: &Gateway,
    reader: &Reader,
    lanes: &Arc<Lanes>,
) -> Result<Opened, ReaderError> {
    match &reader.source.stream {
        Stream::KafkaSource(given) => of_kafka(gateway, reader, given, lanes),
        Stream::KinesisSource(given) => match &given.aws {
            None => own(gateway, reader, given, lanes),
            Some(aws) => Ok(of_amazon(gateway, reader, given, aws, lanes)),
        },
    }
}

impl Opened {
    /// Waits until what the source left behind has ended, when it was dropped itself.
    pub(crate) async fn leave(left: Option<Left>) {
        let leaving = async {
            match &left {
                Some(Left::Group(group)) => group.left().await,
                Some(Left::Amazon(reading)) => reading.left().await,
                None => {}
            }
        };
        let _ = tokio::time::timeout(LEAVING, leaving).await;
    }

    /// Its parts: the source, and what [`Opened::leave`] waits for.
    pub(crate) fn split(self) -> (Box<dyn Source>, Option<Left>) {
        (self.source, self.left)
    }
}

fn own(
    gateway: &Gateway,
    reader: &Reader,
    given: &KinesisSource,
    lanes: &Arc<Lanes>,
) -> Result<Opened, ReaderError> {
    let Some(streams) = &gateway.own_streams else {
        let message = "the gateway's own streams are off (streams.enabled)";
        return Err(ReaderError::Open(message.to_owned()));
    };
    let common = &reader.source.common;
    let settings = OwnSettings {
        stream: given.kinesis.to_string(),
        shards: given.shards,
        start: match common.start {
            stream::Start::Earliest => OwnStart::Earliest,
            stream::Start::Latest => OwnStart::Latest,
        },
        decoder: reading::decoder(&reader.source),
        sole: !gateway.store.is_shared(),
    };
    let keeper = Arc::new(InStore(lanes.clone()));
    let source = OwnSource::open(streams.service().clone(), settings, keeper);
    Ok(Opened {
        lag: Arc::new(source.lags()),
        source: Box::new(source),
        lanes_by: LanesBy::Us,
        left: None,
    })
}

fn of_amazon(
    gateway: &Gateway,
    reader: &Reader,
    given: &KinesisSource,
    aws: &stream::Aws,
    lanes: &Arc<Lanes>,
) -> Opened {
    let source = &reader.source;
    let (source, reading) = amazon::open(gateway, lanes.clone(), source, &given.kinesis, aws);
    Opened {
        source: Box::new(source),
        lag: Arc::new(reading.clone()),
        lanes_by: LanesBy::Each,
        left: Some(Left::Amazon(reading)),
    }
}

fn of_kafka(
    gateway: &Gateway,
    reader: &Reader,
    given: &KafkaSource,
    lanes: &Arc<Lanes>,
) -> Result<Opened, ReaderError> {
    let Some((_, found)) = gateway.config.cluster(given.cluster.as_ref()) else {
        let message = "the source's Kafka cluster is not configured";
        return Err(ReaderError::Open(message.to_owned()));
    };
    let failed = |error: kafka::KafkaError| ReaderError::Open(error.to_string());
    let cluster = cluster(found, &gateway.folder).map_err(failed)?;
    let common = &reader.source.common;
    let decoder = reading::decoder(&reader.source);
    let checkpoints = Checkpointed {
        lanes: lanes.clone(),
        runtime: Handle::current(),
        done: decoder.as_ref().map(|_| Done::default()),
    };
    let done = checkpoints.done.clone();
    let name = &reader.integration.name;
    let instance = gateway.streams.instance();
    let settings = SourceSettings {
        topics: vec![given.kafka.to_string()],
        group: group(given, name),
        // One member for each reader of this gateway.
        instance: instance.map(|instance| format!("{}-{name}", instance.name())),
        start: match common.start {
            stream::Start::Earliest => kafka::Start::Earliest,
            stream::Start::Latest => kafka::Start::Latest,
        },
        release_wait: gateway.config.server.drain_timeout / 2,
        checkpoints: Some(Arc::new(checkpoints)),
        ..SourceSettings::default()
    };
    let (source, group) = kafka::KafkaSource::open(&cluster, settings).map_err(failed)?;
    let source: Box<dyn Source> = match decoder.zip(done) {
        None => Box::new(source),
        Some((decoder, done)) => Box::new(Unwrapped::new(source, decoder, done)),
    };
    Ok(Opened {
        source,
        lag: Arc::new(group.clone()),
        lanes_by: LanesBy::Others,
        left: Some(Left::Group(group)),
    })
}

/// How the records of a source are counted.
pub(crate) fn counting(source: &config::Source) -> Counting {
    let decoder = reading::decoder(source);
    Counting {
        unwrap: decoder.map(|decoder| decoder.name()).unwrap_or_default(),
        whole: match &source.stream {
            Stream::KafkaSource(_) => |progress| unwrapping::messages(&progress),
            Stream::KinesisSource(given) if given.aws.is_none() => kinesis::own_whole,
            Stream::KinesisSource(_) => consumer::whole,
        },
    }
}

/// The consumer group of a source.
pub(crate) fn group(given: &KafkaSource, integration: &str) -> String {
    let given = given.group.clone();
    given.unwrap_or_else(|| format!("linkspan.{integration}"))
}

/// A source's name, the same at each start: the kind, where it is, and what is read. Another group is another reading.
pub(super) fn name(source: &config::Source, config: &Config) -> String {
    match &source.stream {
        Stream::KafkaSource(kafka) => {
            let cluster = config.cluster(kafka.cluster.as_ref());
            let cluster = cluster.map_or("", |(name, _)| name.as_str());
            let group = kafka.group.as_ref();
            let group = group.map_or_else(String::new, |group| format!(":{group}"));
            format!("kafka:{cluster}:{}{group}", kafka.kafka)
        }
        Stream::KinesisSource(kinesis) => match &kinesis.aws {
            Some(aws) => format!("kinesis:{}:{}", aws.region, kinesis.kinesis),
            None => format!("kinesis:own:{}", kinesis.kinesis),
        },
    }
}

impl Lag for Group {
    fn behind(&self) -> Vec<(Lane, Behind)> {
        records(self.lags())
    }
}

impl Lag for OwnLags {
    fn behind(&self) -> Vec<(Lane, Behind)> {
        records(self.lags())
    }
}

fn records(lags: HashMap<Lane, u64>) -> Vec<(Lane, Behind)> {
    let mut lags: Vec<_> = lags.into_iter().collect();
    lags.sort_unstable();
    let behind = |(lane, records)| (lane, Behind::Records(records));
    lags.into_iter().map(behind).collect()
}

/// The lanes of one of the gateway's own streams, in the store.
struct InStore(Arc<Lanes>);

#[async_trait]
impl Keeper for InStore {
    async fn known(&self) -> Result<Vec<KnownLane>, String> {
        let known = self.0.all().await.map_err(|error| said(&error))?;
        let known = known.into_iter().map(|lane| KnownLane {
            lane: Lane::new(lane.lane),
            begun: lane.progress.is_some(),
            ended: lane.ended,
        });
        Ok(known.collect())
    }

    async fn take(&self, lanes: &[Lane]) -> Result<Vec<Claimed>, String> {
        take(&self.0, lanes).await
    }

    async fn keep(&self, kept: Vec<KeptLane>) -> Result<(), String> {
        let kept = kept.into_iter().map(|kept| Kept {
            lane: kept.lane,
            term: kept.term,
            progress: kept.progress,
            ended: kept.ended,
        });
        keep(&self.0, kept.collect()).await
    }

    async fn forget(&self, lanes: Vec<Lane>) -> Result<(), String> {
        self.0.drop_lanes(lanes).await.map_err(|error| said(&error))
    }
}

/// The partitions of a topic, in the store. Called on the source's own thread.
struct Checkpointed {
    lanes: Arc<Lanes>,
    runtime: Handle,
    /// Given where messages are unwrapped.
    done: Option<Done>,
}

impl Checkpoints for Checkpointed {
    fn claim(&self, lanes: &[Lane]) -> Result<Vec<Claimed>, String> {
        let claimed = self.runtime.block_on(take(&self.lanes, lanes))?;
        let claimed = lanes.iter().zip(claimed).map(|(lane, claimed)| Claimed {
            progress: match &self.done {
                None => claimed.progress,
                Some(done) => done.note(lane, claimed.progress),
            },
            ..claimed
        });
        Ok(claimed.collect())
    }

    fn begin(&self, lanes: &[(Lane, Term, Progress)]) -> Result<(), String> {
        let kept = lanes.iter().cloned();
        let kept = kept.map(|(lane, term, progress)| Kept {
            lane,
            term,
            progress: Some(progress),
            ended: false,
        });
        self.runtime.block_on(keep(&self.lanes, kept.collect()))
    }
}

/// Takes lanes, whoever has them. All of them: somebody has decided that they are this gateway's.
async fn take(lanes: &Lanes, asked: &[Lane]) -> Result<Vec<Claimed>, String> {
    let taken = lanes
        .take(asked, Takeable::Any)
        .await
        .map_err(|error| said(&error))?;
    if taken.len() == asked.len() {
        let claimed = taken.into_iter().map(|taken| Claimed {
            term: taken.term,
            progress: taken.progress,
        });
        return Ok(claimed.collect());
    }
    Err("not all lanes could be taken".to_owned())
}

async fn keep(lanes: &Lanes, kept: Vec<Kept>) -> Result<(), String> {
    match lanes
        .commit(kept, Vec::new())
        .await
        .map_err(|error| said(&error))?
    {
        StreamCommitted::Done => Ok(()),
        StreamCommitted::Fenced(lanes) => Err(format!("the lanes {lanes:?} are another's")),
    }
}

/// A store's error as a sentence; the log has the rest.
fn said(error: &StoreError) -> String {
    tracing::debug!(
        error = logging::chain(error),
        "the store and a stream's lanes"
    );
    error.to_string()
}
