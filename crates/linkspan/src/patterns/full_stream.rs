//! `full-stream` (pattern 4): records of a Kafka topic come in; results, dead letters and progress are one Kafka transaction.
//!
//! A record becomes a message in each topic of `deliver` whose `when` holds, or one dead letter, never both, and exactly once for whoever
//! reads committed transactions. Filters run with the steps: no transaction is open meanwhile.
//!
//! A message keeps its record's headers, timestamp and partition ([`KafkaCommitter`] says what happens where a topic has fewer), and has
//! `linkspan-id`, `linkspan-integration`, `linkspan-status`, `content-type` and, where the record came without one, `traceparent` behind
//! them.

mod outputs;
mod topics;
mod unwrapping;

use std::sync::Arc;
use std::time::Duration;

use linkspan_model::config::stream::{KafkaSource as Given, Start as Begin, Stream};
use linkspan_streams::flow::Flow;
use linkspan_streams::kafka::{
    CommitterSettings, Group, KafkaCommitter, KafkaError, KafkaSource, SourceSettings, Start,
    transactional_id,
};
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::logging;
use crate::streaming::{Reader, ReaderError, Work, cluster, decoder};
use outputs::Outputs;
use unwrapping::Unwrapping;

/// How long the group is waited for when it is left.
const FAREWELL: Duration = Duration::from_secs(5);

/// Reads an integration's stream until it is stopped.
///
/// # Errors
///
/// Source or committer cannot be opened, or ended by themselves.
pub async fn read(
    gateway: &Arc<Gateway>,
    reader: &Reader,
    stop: CancellationToken,
) -> Result<(), ReaderError> {
    let opening = open(gateway, reader);
    let Some(opened) = stop.run_until_cancelled(opening).await else {
        return Ok(());
    };
    let Opened {
        source,
        group,
        committer,
        outputs,
    } = opened?;
    reader.is_reading(Arc::new(group.clone()));
    let flow = Flow {
        source,
        process: Arc::new(outputs),
        committer,
        settings: reader.settings(gateway),
        meter: reader.meter.clone(),
        stop,
    };
    let ended = flow.run().await;
    // So that the next start, or another gateway, finds no member of this name.
    let _ = tokio::time::timeout(FAREWELL, group.left()).await;
    Ok(ended?)
}

struct Opened {
    source: KafkaSource,
    group: Group,
    committer: KafkaCommitter,
    outputs: Outputs,
}

async fn open(gateway: &Gateway, reader: &Reader) -> Result<Opened, ReaderError> {
    let (name, config) = (reader.integration.name.as_str(), &gateway.config);
    let Stream::KafkaSource(given) = &reader.source.stream else {
        return Err(ReaderError::Open(
            "full-stream reads a Kafka topic".to_owned(),
        ));
    };
    let (_, on) = config
        .cluster(given.cluster.as_ref())
        .ok_or_else(|| ReaderError::Open("there is no Kafka cluster".to_owned()))?;
    let cluster = cluster(on, &gateway.folder).map_err(refused)?;
    let work = Work::new(
        reader.integration.clone(),
        reader.reading().map_err(ReaderError::Open)?,
        gateway.metrics.clone(),
    );
    let deliver = config
        .integrations
        .iter()
        .find(|(integration, _)| integration.as_str() == name);
    let deliver = deliver.map_or(&[][..], |(_, integration)| &integration.deliver);
    let in_flight = reader.settings(gateway).in_flight_bytes;
    let unwrap = decoder(&reader.source).map(|decoder| Unwrapping::new(decoder, in_flight));
    let outputs = Outputs::open(name, deliver, work, unwrap).map_err(ReaderError::Open)?;
    let dead_letters: Arc<str> = given.dead_letters().into();
    let topics = topics::prepare(&cluster, given.kafka.as_str(), &outputs, &dead_letters).await?;
    let (source, group) =
        KafkaSource::open(&cluster, source_settings(gateway, reader, given)).map_err(refused)?;
    // A name for this start only is as right, but slower: what an earlier start left open is ended by the cluster when its time is over.
    let instance = match gateway.streams.instance() {
        Some(instance) => instance.name(),
        None => &gateway.owner,
    };
    let settings = CommitterSettings {
        transactional_id: transactional_id(instance, name),
        dead_letters,
        topics,
        ..CommitterSettings::default()
    };
    let committer = KafkaCommitter::open(&cluster, settings, group.clone())
        .await
        .map_err(refused)?;
    Ok(Opened {
        source,
        group,
        committer,
        outputs,
    })
}

fn source_settings(gateway: &Gateway, reader: &Reader, given: &Given) -> SourceSettings {
    let name = &reader.integration.name;
    let instance = gateway.streams.instance();
    let group = given.group.clone();
    SourceSettings {
        topics: vec![given.kafka.to_string()],
        group: group.unwrap_or_else(|| format!("linkspan.{name}")),
        // A member of a name that nobody takes again would only be waited for.
        instance: instance.map(|instance| format!("{}-{name}", instance.name())),
        start: match reader.source.common.start {
            Begin::Earliest => Start::Earliest,
            Begin::Latest => Start::Latest,
        },
        // The flow releases when its own time is over; this only bounds that.
        release_wait: reader.settings(gateway).drain + Duration::from_secs(2),
        ..SourceSettings::default()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn refused(error: KafkaError) -> ReaderError {
    tracing::debug!(error = logging::chain(&error), "Kafka");
    ReaderError::Open(error.to_string())
}
