//! A transactional producer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header as NativeHeader, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::cluster::{self, Cluster};
use super::error::{ErrorKind, KafkaError};
use crate::record::Header;

/// How long one call of librdkafka may block before it is asked whether to go on.
const SLICE: Duration = Duration::from_secs(5);

/// The same for a call during which reports are to be fetched.
const GLANCE: Duration = Duration::from_millis(20);

/// How often it is asked whether a topic has grown.
const GROWTH: Duration = Duration::from_secs(60);

/// How many of librdkafka's events are served between two looks at the transaction.
const SERVED: usize = 64;

/// How many records are produced before the runtime's thread is given to others.
const STRETCH: usize = 128;

/// A producer whose records become visible together, or never.
///
/// The order is `begin`, `send`…, `offsets`…, then `commit` or `abort`. After an error the one thing to do is what [`Trouble`] says.
/// Dropping it purges what was not committed; the broker aborts an open transaction after its time-out, or when a producer with the
/// same id is opened.
pub struct Transactions {
    producer: Arc<Dropped>,
    id: String,
    /// How long a call may try before it gives up.
    patience: Duration,
    sent: usize,
    /// How many partitions a topic has, and when that was asked.
    partitions: HashMap<Arc<str>, (i32, Instant)>,
}

/// How large what a producer sends may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The largest record.
    pub largest: usize,
    /// The largest batch of them, where it has more than one record: no topic that is written to takes less.
    pub batch: usize,
}

/// A record on its way out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The key.
    pub key: Option<&'a Bytes>,
    /// The value.
    pub value: Option<&'a Bytes>,
    /// The headers: those of the first list, then those of the second.
    pub headers: [&'a [Header]; 2],
    /// Milliseconds; none: now. (librdkafka writes now for 0 too.)
    pub timestamp: Option<i64>,
}

/// What is to be done after a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The transaction is to be aborted. Nothing of it will be seen.
    Abort(ErrorKind),
    /// The producer is of no use any more and is to be dropped. What an unanswered `commit` came to is unknown; of anything else nothing
    /// will be seen.
    Fatal(ErrorKind),
    /// It took longer than the patience: the same as a fatal one.
    Late,
}

/// The producer. Dropping it can take a second, so that is done on another thread.
struct Dropped(Option<Arc<BaseProducer<Reports>>>);

/// What became of records: only failures are reported.
struct Reports {
    /// The topic of the record that was the first to fail since the transaction began, and of what.
    failed: Mutex<Option<(String, Code)>>,
}

/// What librdkafka takes as `message.max.bytes`.
const LARGEST: (usize, usize) = (1_000, 1_000_000_000);

/// The largest batch where the topics take more: librdkafka's default.
const BATCH: usize = 1_000_000;

impl Transactions {
    /// Opens a producer with that transactional id. An earlier one with the same id is fenced and what it left open is ended: when this
    /// returns, the offsets of its last transaction are settled.
    ///
    /// # Errors
    ///
    /// By kind; [`ErrorKind::Unreachable`] when `patience` is over.
    pub async fn open(
        cluster: &Cluster,
        id: &str,
        timeout: Duration,
        patience: Duration,
        sizes: Sizes,
    ) -> Result<Self, KafkaError> {
        let mut config = cluster.client();
        let mut own = |name: &str, value: &str| {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        };
        own("linger.ms", "2");
        // A transaction that begins while the cluster still writes the end of the one before is told to come again. With librdkafka's
        // 100 ms every small transaction took that long.
        own("retry.backoff.ms", "5");
        own("retry.backoff.max.ms", "1000");
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set("enable.idempotence", "true")
            .set("delivery.report.only.error", "true")
            // Nobody reads them, and they would stand in the way of the reports.
            .set("statistics.interval.ms", "0")
            .set(
                "message.max.bytes",
                sizes.largest.clamp(LARGEST.0, LARGEST.1).to_string(),
            );
        // Topics bound their batches: records that each would be taken are refused together where they are more.
        let batch = config.get("batch.size").and_then(|it| it.parse().ok());
        let batch = sizes.batch.min(batch.unwrap_or(BATCH)).max(1);
        config.set("batch.size", batch.to_string());
        let attempted = format!("open transactions as {id} on {}", cluster.brokers());
        let opened = blocking(move || {
            let reports = Reports {
                failed: Mutex::default(),
            };
            let producer: BaseProducer<Reports> = config
                .create_with_context(reports)
                .map_err(|fault| KafkaError::new(attempted.clone(), fault))?;
            let producer = Dropped(Some(Arc::new(producer)));
            let end = Instant::now() + patience;
            loop {
                let slice = SLICE.min(patience);
                let Err(fault) = producer.get()?.init_transactions(slice) else {
                    return Ok(producer);
                };
                let again = matches!(&fault, Native::Transaction(fault) if fault.is_retriable());
                if !again || Instant::now() >= end {
                    return Err(KafkaError::new(attempted, fault));
                }
            }
        });
        let producer = opened.await.ok_or_else(stopped)??;
        Ok(Self {
            producer: Arc::new(producer),
            id: id.to_owned(),
            patience,
            sent: 0,
            partitions: HashMap::new(),
        })
    }

    /// The transactional id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many partitions a topic has. Asked once, and once a minute where that is fewer than `wanted`: topics grow.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Absent`] where there is no such topic, and others.
    pub async fn partitions(&mut self, topic: &Arc<str>, wanted: i32) -> Result<i32, KafkaError> {
        if let Some((count, asked)) = self.partitions.get(topic)
            && (*count >= wanted || asked.elapsed() < GROWTH)
        {
            return Ok(*count);
        }
        let (producer, name) = (self.producer.clone(), topic.clone());
        let asked = blocking(move || {
            let attempted = format!("ask for the partitions of the topic {name}");
            let metadata = producer
                .get()?
                .client()
                .fetch_metadata(Some(&name), SLICE)
                .map_err(|fault| KafkaError::new(attempted.clone(), fault))?;
            let found = metadata
                .topics()
                .iter()
                .find(|found| found.name() == &*name);
            match found {
                Some(found) if found.error().is_none() && !found.partitions().is_empty() => {
                    Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))
                }
                Some(found) => {
                    let code = found
                        .error()
                        .map_or(Code::UnknownTopicOrPartition, Code::from);
                    Err(KafkaError::of_kind(attempted, ErrorKind::of(code)))
                }
                None => Err(KafkaError::of_kind(attempted, ErrorKind::Absent)),
            }
        });
        let count = asked.await.ok_or_else(stopped)??;
        self.partitions
            .insert(topic.clone(), (count, Instant::now()));
        Ok(count)
    }

    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub fn begin(&mut self) -> Result<(), Trouble> {
        let producer = self.producer()?;
        *producer.context().failed() = None;
        producer
            .begin_transaction()
            .map_err(|fault| trouble(&fault))
    }

    /// Gives a record to the transaction. It is on its way when this returns, not yet there.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub async fn send(&mut self, outgoing: Outgoing<'_>) -> Result<(), Trouble> {
        let end = Instant::now() + self.patience;
        loop {
            match self.produce(outgoing) {
                Ok(()) => break,
                Err(Native::MessageProduction(Code::QueueFull)) => {
                    self.producer()?.poll(Duration::ZERO);
                    if Instant::now() >= end {
                        return Err(Trouble::Late);
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(fault) => return Err(trouble(&fault)),
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(STRETCH) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Gives the group's offsets to the transaction.
    ///
    /// # Errors
    ///
    /// [`Trouble`]; [`ErrorKind::Generation`] or [`ErrorKind::Fenced`] in [`Trouble::Abort`] when the group has gone on without this
    /// member.
    pub async fn offsets<M>(
        &mut self,
        offsets: TopicPartitionList,
        member: Arc<M>,
    ) -> Result<(), Trouble>
    where
        M: AsRef<ConsumerGroupMetadata> + Send + Sync + 'static,
    {
        let producer = self.producer.clone();
        let end = Instant::now() + self.patience;
        let sent = blocking(move || {
            loop {
                let producer = producer.get().map_err(|_| Trouble::Late)?;
                match producer.send_offsets_to_transaction(&offsets, (*member).as_ref(), SLICE) {
                    Ok(()) => return Ok(()),
                    Err(fault) if retriable(&fault) && Instant::now() < end => {}
                    Err(fault) => return Err(trouble(&fault)),
                }
            }
        });
        sent.await.ok_or(Trouble::Late)?
    }

    /// Waits until all records are there, and makes everything visible.
    ///
    /// # Errors
    ///
    /// [`Trouble`]. After [`Trouble::Abort`] nothing was committed. After the others it may or may not have been.
    pub async fn commit(&mut self) -> Result<(), Trouble> {
        self.arrived().await?;
        let producer = self.producer.clone();
        let end = Instant::now() + self.patience;
        let committed = blocking(move || {
            loop {
                let producer = producer.get().map_err(|_| Trouble::Late)?;
                match producer.commit_transaction(SLICE) {
                    Ok(()) => return Ok(()),
                    Err(fault) if retriable(&fault) => {
                        if Instant::now() >= end {
                            return Err(Trouble::Late);
                        }
                    }
                    Err(fault) => return Err(trouble(&fault)),
                }
            }
        });
        committed.await.ok_or(Trouble::Late)?
    }

    /// Makes sure that nothing of the transaction is ever seen.
    ///
    /// # Errors
    ///
    /// [`Trouble`]: the producer is to be dropped then, and the next one with its id ends the transaction.
    pub async fn abort(&mut self) -> Result<(), Trouble> {
        let producer = self.producer.clone();
        let end = Instant::now() + self.patience;
        let aborted = blocking(move || {
            let producer = producer.get().map_err(|_| Trouble::Late)?;
            loop {
                // librdkafka waits until the reports of what it takes back are fetched.
                glance(producer);
                match producer.abort_transaction(GLANCE) {
                    Ok(()) => return Ok(()),
                    Err(fault) if retriable(&fault) => {
                        if Instant::now() >= end {
                            return Err(Trouble::Late);
                        }
                    }
                    Err(fault) => return Err(trouble(&fault)),
                }
            }
        });
        aborted.await.ok_or(Trouble::Late)?
    }

    /// The topic of the first record of the transaction that did not arrive, and why.
    #[must_use]
    pub fn failed(&self) -> Option<(String, ErrorKind)> {
        let producer = self.producer().ok()?;
        // What librdkafka says of a transaction that must be aborted is in a report that may not be fetched yet.
        glance(producer);
        let failed = producer.context().failed();
        let (topic, code) = failed.as_ref()?;
        Some((topic.clone(), ErrorKind::of(*code)))
    }

    /// Waits for the records' acknowledgements in short steps: rdkafka's own flush polls in steps of 100 ms, and so would every
    /// transaction take that long. librdkafka gives a record up after the transaction's time-out.
    async fn arrived(&self) -> Result<(), Trouble> {
        let producer = self.producer.clone();
        let end = Instant::now() + self.patience;
        let arrived = blocking(move || {
            loop {
                let producer = producer.get().map_err(|_| Trouble::Late)?;
                if producer.in_flight_count() == 0 {
                    return Ok(());
                }
                if Instant::now() >= end {
                    return Err(Trouble::Abort(ErrorKind::Unreachable));
                }
                glance(producer);
            }
        });
        arrived.await.ok_or(Trouble::Late)?
    }

    fn produce(&self, outgoing: Outgoing<'_>) -> Result<(), Native> {
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(outgoing.topic).partition(outgoing.partition);
        if let Some(key) = outgoing.key {
            record = record.key(key);
        }
        if let Some(value) = outgoing.value {
            record = record.payload(value);
        }
        if let Some(timestamp) = outgoing.timestamp {
            record = record.timestamp(timestamp);
        }
        if outgoing.headers.iter().any(|list| !list.is_empty()) {
            record = record.headers(native_headers(&outgoing.headers));
        }
        let producer = self.producer.get().map_err(|_| Native::Canceled)?;
        producer.send(record).map_err(|(fault, _)| fault)
    }

    fn producer(&self) -> Result<&Arc<BaseProducer<Reports>>, Trouble> {
        self.producer.get().map_err(|_| Trouble::Late)
    }
}

impl Trouble {
    /// The kind of what went wrong.
    #[must_use]
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::Abort(kind) | Self::Fatal(kind) => kind,
            Self::Late => ErrorKind::Unreachable,
        }
    }
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transactions").field(&self.id).finish()
    }
}

impl Dropped {
    fn get(&self) -> Result<&Arc<BaseProducer<Reports>>, KafkaError> {
        self.0.as_ref().ok_or_else(stopped)
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(producer) = self.0.take() {
            let _ = std::thread::Builder::new()
                .name("kafka-drop".to_owned())
                .spawn(move || drop(producer));
        }
    }
}

impl Reports {
    fn failed(&self) -> MutexGuard<'_, Option<(String, Code)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        cluster::log(level, facility, message);
    }

    fn error(&self, error: Native, _: &str) {
        tracing::debug!(%error, "librdkafka");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((fault, message)) = result {
            let code = fault.rdkafka_error_code().unwrap_or(Code::Fail);
            // What a purge takes back failed for another reason.
            if matches!(code, Code::PurgeQueue | Code::PurgeInflight) {
                return;
            }
            let mut failed = self.failed();
            // Another record of the batch is to blame, and says so itself.
            let blameless = matches!(&*failed, Some((_, Code::InvalidDifferentRecord)));
            if failed.is_none() || blameless {
                *failed = Some((message.topic().to_owned(), code));
            }
        }
    }
}

/// Headers as librdkafka takes them, those of all lists one after another.
pub(super) fn native_headers(lists: &[&[Header]]) -> OwnedHeaders {
    let count = lists.iter().map(|list| list.len()).sum();
    let mut headers = OwnedHeaders::new_with_capacity(count);
    for header in lists.iter().copied().flatten() {
        headers = headers.insert(NativeHeader {
            key: &header.name,
            value: header.value.as_deref(),
        });
    }
    headers
}

/// Fetches what there is to report, and rests. (rdkafka's poll with a time-out spins through its last millisecond.)
fn glance(producer: &BaseProducer<Reports>) {
    // One call serves one event, and does not say whether there was one. An abort waits until all reports are fetched.
    for _ in 0..SERVED {
        producer.poll(Duration::ZERO);
    }
    std::thread::sleep(Duration::from_micros(500));
}

fn retriable(fault: &Native) -> bool {
    matches!(fault, Native::Transaction(fault) if fault.is_retriable())
        || matches!(fault, Native::Flush(_))
}

fn trouble(fault: &Native) -> Trouble {
    tracing::debug!(%fault, "a transaction");
    let kind = fault
        .rdkafka_error_code()
        .map_or(ErrorKind::Other, ErrorKind::of);
    match fault {
        Native::Transaction(fault) if fault.is_fatal() => Trouble::Fatal(kind),
        Native::Transaction(fault) if fault.txn_requires_abort() => Trouble::Abort(kind),
        // Out of time before it was done.
        Native::Transaction(fault) if fault.is_retriable() => Trouble::Late,
        Native::Transaction(_) => Trouble::Fatal(kind),
        // `State`: the transaction must be aborted; why, the reports or the next call tell.
        Native::MessageProduction(Code::Fatal) => Trouble::Fatal(kind),
        Native::Canceled => Trouble::Late,
        _ => Trouble::Abort(kind),
    }
}

fn stopped() -> KafkaError {
    KafkaError::of_kind("use a producer that is being dropped", ErrorKind::Other)
}

/// Runs what blocks. None when the runtime is ending.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
