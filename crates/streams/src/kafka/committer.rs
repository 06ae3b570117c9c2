//! Outputs, dead letters and input offsets in one transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::Cluster;
use super::error::{ErrorKind, KafkaError};
use super::group::{Committed, Group, Membership};
use super::letter::{self, Letter};
use super::ranges;
use super::record::partition_of;
use super::takes::{Refusal, Takes};
use super::transactions::{Outgoing, Sizes, Transactions, Trouble};
use crate::flow::{Commit, CommitError, Committer, Failure, LaneCommit, Output};
use crate::record::{Header, Lane, Record};

/// What a record becomes. The headers, the timestamp, the partition and, where nothing else is said, the key of the record are kept.
#[derive(Clone, Debug, Default)]
pub struct KafkaOutput {
    /// The messages; none where the record is of no interest to anybody.
    pub messages: Vec<KafkaMessage>,
}

/// One message of an output.
#[derive(Clone)]
pub struct KafkaMessage {
    /// The topic.
    pub topic: Arc<str>,
    /// Another key than the record's; none: that one.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// Headers that are added behind those of the record.
    pub headers: Vec<Header>,
}

/// How outputs are committed.
#[derive(Clone, Debug)]
pub struct CommitterSettings {
    /// What the cluster knows this producer by: the same after a restart, and nobody else's. See [`transactional_id`].
    pub transactional_id: String,
    /// The topic of the dead letters. It is not compacted: of dead letters with the same key each one counts.
    pub dead_letters: Arc<str>,
    /// How long the cluster keeps an open transaction of a producer that says nothing. Until then the records behind it cannot be read
    /// by others, and whoever takes its partitions over waits.
    pub transaction_timeout: Duration,
    /// How long a commit may take before what became of it is called unknown.
    pub patience: Duration,
    /// What the topics take, that of the dead letters too; of one that is not here, what is usual. An output that its topic does not
    /// take makes its record a dead letter.
    pub topics: HashMap<Arc<str>, Takes>,
}

/// Commits what a [`KafkaSource`](super::KafkaSource) of the same cluster has given, exactly once.
///
/// An output goes to the partition with the number that its record came from; where its topic has fewer partitions, to that number
/// modulo theirs. So what was in order stays in order.
///
/// A dead letter is the record as it was, with headers that say why: `linkspan-error-code`, `linkspan-error-reason`,
/// `linkspan-attempts`, `linkspan-source` (the lane) and `linkspan-offset`. Of one that is too large for its topic,
/// what is largest is left out, the value, the record's headers or the key, until it is not; and its time where that is out of the
/// topic's bounds. Then behind the others stand `linkspan-value-left-out`, `linkspan-key-left-out` (how many bytes),
/// `linkspan-headers-left-out` (how many headers) or `linkspan-timestamp-left-out` (in milliseconds): the lane and the offset say where all
/// of it is. So no record stops the stream, and none passes unseen.
pub struct KafkaCommitter {
    cluster: Cluster,
    settings: CommitterSettings,
    group: Group,
    transactions: Option<Transactions>,
    /// How often in succession another producer took our place.
    fenced: u32,
}

/// How often a producer that was fenced is opened again before it is said that two have the same id. A transaction that the cluster
/// gave up because it took too long looks the same.
const FENCED: u32 = 3;

/// The transactional id of an integration on a gateway. `instance` is the gateway's own name.
#[must_use]
pub fn transactional_id(instance: &str, integration: &str) -> String {
    format!("linkspan-{instance}-{integration}")
}

impl KafkaCommitter {
    /// A committer for the source that `group` came with. What an earlier run with the same transactional id left open is ended: open it
    /// before the source is first asked, and the source does not have to wait for that.
    ///
    /// # Errors
    ///
    /// By kind: the cluster does not answer, does not let us in, does not take the settings.
    pub async fn open(
        cluster: &Cluster,
        settings: CommitterSettings,
        group: Group,
    ) -> Result<Self, KafkaError> {
        let mut committer = Self {
            cluster: cluster.clone(),
            settings,
            group,
            transactions: None,
            fenced: 0,
        };
        committer.transactions = Some(committer.producer().await?);
        Ok(committer)
    }

    async fn producer(&self) -> Result<Transactions, KafkaError> {
        let settings = &self.settings;
        Transactions::open(
            &self.cluster,
            &settings.transactional_id,
            settings.transaction_timeout,
            settings.patience,
            self.sizes(),
        )
        .await
    }

    fn sizes(&self) -> Sizes {
        let usual = Takes::USUAL.largest;
        let topics = self.settings.topics.values();
        let sizes = topics.map(|takes| takes.largest);
        Sizes {
            largest: sizes.clone().fold(usual, usize::max),
            batch: sizes.fold(usual, usize::min),
        }
    }

    /// One attempt. Nothing is committed before the last call.
    async fn attempt(
        &self,
        transactions: &mut Transactions,
        commit: &Commit<KafkaOutput>,
        offsets: TopicPartitionList,
        membership: Arc<Membership>,
    ) -> Result<(), Stop> {
        transactions.begin().map_err(Stop::Before)?;
        let now = Timestamp::now();
        for LaneCommit { lane, outputs, .. } in &commit.lanes {
            for output in outputs {
                self.send(transactions, lane, output, now).await?;
            }
        }
        transactions
            .offsets(offsets, membership)
            .await
            .map_err(Stop::Before)?;
        transactions.commit().await.map_err(Stop::Commit)
    }

    async fn send(
        &self,
        transactions: &mut Transactions,
        lane: &Lane,
        output: &Output<KafkaOutput>,
        now: Timestamp,
    ) -> Result<(), Stop> {
        let record = &*output.record;
        let refused;
        let failure = match &output.outcome {
            Ok(KafkaOutput { messages }) => {
                let mut refusals = messages
                    .iter()
                    .filter_map(|it| self.refuses(record, it, now));
                let Some(refusal) = refusals.next() else {
                    for message in messages {
                        self.produce(transactions, record, message).await?;
                    }
                    return Ok(());
                };
                refused = Failure {
                    code: refusal.code.to_owned(),
                    reason: refusal.reason,
                    retryable: false,
                    after: None,
                    overloaded: false,
                };
                &refused
            }
            Err(failure) => failure,
        };
        let topic = &self.settings.dead_letters;
        let takes = self.takes(topic);
        let letter = Letter::of(lane, record, failure, output.attempts, takes, now);
        let outgoing = Outgoing {
            topic,
            partition: partition(transactions, record, topic).await?,
            key: letter.key,
            value: letter.value,
            headers: [letter.headers, &letter.reasons],
            timestamp: letter.timestamp.map(Timestamp::as_millisecond),
        };
        transactions.send(outgoing).await.map_err(Stop::Before)
    }

    fn takes(&self, topic: &str) -> &Takes {
        self.settings.topics.get(topic).unwrap_or(&Takes::USUAL)
    }

    fn refuses(&self, record: &Record, message: &KafkaMessage, now: Timestamp) -> Option<Refusal> {
        let key = message.key.as_ref().or(record.key.as_ref());
        let headers = [&*record.headers, &message.headers];
        let size = letter::size(key, message.value.as_ref(), headers);
        let topic = &message.topic;
        self.takes(topic)
            .refuses(topic, size, key, record.timestamp, now)
    }

    async fn produce(
        &self,
        transactions: &mut Transactions,
        record: &Record,
        message: &KafkaMessage,
    ) -> Result<(), Stop> {
        let topic = &message.topic;
        let outgoing = Outgoing {
            topic,
            partition: partition(transactions, record, topic).await?,
            key: message.key.as_ref().or(record.key.as_ref()),
            value: message.value.as_ref(),
            headers: [&record.headers, &message.headers],
            timestamp: record.timestamp.map(Timestamp::as_millisecond),
        };
        transactions.send(outgoing).await.map_err(Stop::Before)
    }

    /// The offsets of a commit, and what is committed when it has gone through.
    fn offsets(
        commit: &Commit<KafkaOutput>,
        membership: &Membership,
    ) -> Result<(TopicPartitionList, Vec<(Lane, Committed)>), CommitError> {
        let mut list = TopicPartitionList::with_capacity(commit.lanes.len());
        let mut then = Vec::with_capacity(commit.lanes.len());
        for LaneCommit { lane, progress, .. } in &commit.lanes {
            let Some(before) = membership.committed(lane) else {
                return Err(CommitError::Fenced(format!("{lane} is not ours any more")));
            };
            let committed = before.and(progress);
            let Some((topic, partition)) = partition_of(lane) else {
                return Err(CommitError::Lasting(format!(
                    "{lane} is no partition of Kafka's"
                )));
            };
            let Some(metadata) = ranges::write(committed.next, &committed.beyond) else {
                return Err(CommitError::Lasting(format!(
                    "{lane}: {} ranges of records are done out of order, more than an offset's metadata takes; take fewer records at once, or keep the lane's order",
                    committed.beyond.len()
                )));
            };
            let mut element = list.add_partition(topic, partition);
            let offset = Offset::Offset(i64::try_from(committed.next).unwrap_or(i64::MAX));
            element
                .set_offset(offset)
                .map_err(|_| CommitError::Lasting(format!("{lane}: no offset of Kafka's")))?;
            if !metadata.is_empty() {
                element.set_metadata(metadata);
            }
            then.push((lane.clone(), committed));
        }
        Ok((list, then))
    }

    /// What a failed attempt means, and whether the producer is of further use.
    async fn settle(&mut self, mut transactions: Transactions, stop: Stop) -> CommitError {
        let id = &self.settings.transactional_id;
        let failed = transactions.failed();
        let (trouble, kind) = match stop {
            Stop::Commit(trouble @ (Trouble::Fatal(_) | Trouble::Late)) => {
                return CommitError::Unknown(format!(
                    "the end of a transaction of {id}: {}",
                    trouble.kind().text()
                ));
            }
            Stop::Before(trouble) | Stop::Commit(trouble) => (trouble, trouble.kind()),
            Stop::Asked(fault) => (Trouble::Abort(fault.kind), fault.kind),
        };
        // What a record failed of says more than that the transaction is to be aborted.
        let (what, kind) = match failed {
            Some((topic, kind)) => (format!("write to the topic {topic}"), kind),
            None => (format!("a transaction of {id}"), kind),
        };
        let text = format!("{what}: {}", kind.text());
        if matches!(trouble, Trouble::Abort(_)) && transactions.abort().await.is_ok() {
            self.transactions = Some(transactions);
        }
        match (trouble, kind) {
            (Trouble::Abort(_), ErrorKind::Generation | ErrorKind::Fenced) => {
                CommitError::Fenced(text)
            }
            // Another producer with this id, or the cluster gave the transaction up.
            (_, ErrorKind::Fenced) => {
                self.fenced += 1;
                if self.fenced >= FENCED {
                    CommitError::Lasting(format!("{text} ({id})"))
                } else {
                    CommitError::Passing(text)
                }
            }
            _ if kind.passes() => CommitError::Passing(text),
            _ => CommitError::Lasting(text),
        }
    }
}

#[async_trait]
impl Committer<KafkaOutput> for KafkaCommitter {
    async fn commit(&mut self, commit: &Commit<KafkaOutput>) -> Result<(), CommitError> {
        if commit.lanes.is_empty() {
            return Ok(());
        }
        let Some(membership) = self.group.membership() else {
            let group = self.group.name();
            return Err(CommitError::Fenced(format!(
                "no partition of the group {group} is ours"
            )));
        };
        let (offsets, then) = Self::offsets(commit, &membership)?;
        let mut transactions = match self.transactions.take() {
            Some(transactions) => transactions,
            None => self.producer().await.map_err(|fault| {
                tracing::debug!(source = ?fault.source, "{fault}");
                let text = fault.to_string();
                if fault.kind.passes() {
                    CommitError::Passing(text)
                } else {
                    CommitError::Lasting(text)
                }
            })?,
        };
        let attempt = self.attempt(&mut transactions, commit, offsets, membership.clone());
        match attempt.await {
            Ok(()) => {
                self.transactions = Some(transactions);
                self.fenced = 0;
                for (lane, committed) in then {
                    membership.set_committed(&lane, committed);
                }
                Ok(())
            }
            Err(stop) => Err(self.settle(transactions, stop).await),
        }
    }
}

/// Where an attempt stopped.
enum Stop {
    /// Before its end was asked for: nothing was committed.
    Before(Trouble),
    /// When its end was asked for.
    Commit(Trouble),
    /// At a question about a topic.
    Asked(KafkaError),
}

impl Committed {
    /// What is committed when `progress` is committed on top of this.
    fn and(&self, progress: &crate::flow::Progress) -> Self {
        let next = progress.last.as_ref().map_or(self.next, |(ordinal, _)| {
            self.next.max(ordinal.saturating_add(1))
        });
        // What an earlier run has done beyond is not known to the flow: the source left it out.
        let beyond = ranges::union(next, &self.beyond, &progress.beyond);
        let mut committed = Self { next, beyond };
        while let Some(&(first, last)) = committed.beyond.first()
            && first == committed.next
        {
            committed.next = last.saturating_add(1);
            committed.beyond.remove(0);
        }
        committed
    }
}

impl AsRef<ConsumerGroupMetadata> for Membership {
    fn as_ref(&self) -> &ConsumerGroupMetadata {
        &self.metadata
    }
}

impl std::fmt::Debug for KafkaMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaMessage")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for KafkaCommitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaCommitter")
            .field("settings", &self.settings)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Default for CommitterSettings {
    fn default() -> Self {
        Self {
            transactional_id: String::new(),
            dead_letters: "".into(),
            transaction_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            topics: HashMap::new(),
        }
    }
}

/// The partition of a topic that a record goes to.
async fn partition(
    transactions: &mut Transactions,
    record: &Record,
    topic: &Arc<str>,
) -> Result<i32, Stop> {
    let (_, partition) = partition_of(&record.lane).unwrap_or(("", 0));
    let asked = transactions.partitions(topic, partition.saturating_add(1));
    let partitions = asked.await.map_err(Stop::Asked)?;
    Ok(partition % partitions.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Progress;
    use crate::record::Position;

    fn committed(next: u64, beyond: &[(u64, u64)]) -> Committed {
        Committed {
            next,
            beyond: beyond.to_vec(),
        }
    }

    #[test]
    fn progress_on_top_of_what_is_committed_forgets_nothing() {
        let progress = |last: Option<u64>, beyond: &[(u64, u64)]| Progress {
            last: last.map(|last| (last, Position::number(last))),
            beyond: beyond.to_vec(),
        };
        for (before, progress, after) in [
            (
                committed(5, &[]),
                progress(Some(9), &[]),
                committed(10, &[]),
            ),
            // Only records beyond the prefix are done.
            (
                committed(5, &[]),
                progress(None, &[(7, 8)]),
                committed(5, &[(7, 8)]),
            ),
            // What an earlier run has done stays, until the prefix has passed it.
            (
                committed(5, &[(20, 29)]),
                progress(Some(9), &[(15, 15)]),
                committed(10, &[(15, 15), (20, 29)]),
            ),
            (
                committed(5, &[(20, 29)]),
                progress(Some(24), &[]),
                committed(30, &[]),
            ),
            // The prefix has come to what was done before: it goes over it.
            (
                committed(5, &[(10, 14)]),
                progress(Some(9), &[]),
                committed(15, &[]),
            ),
            (
                committed(5, &[(10, 14)]),
                progress(Some(9), &[(16, 16)]),
                committed(15, &[(16, 16)]),
            ),
        ] {
            assert_eq!(before.and(&progress), after);
        }
    }
}
