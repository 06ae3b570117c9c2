//! A producer outside of transactions: what it sends arrives at least once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::cluster::{self, Cluster};
use super::error::{ErrorKind, KafkaError};
use super::transactions::native_headers;
use crate::record::Header;

/// How long what was taken may still be on its way when the producer is closed.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// How long is waited for room in librdkafka's queue, each time.
const ROOM: Duration = Duration::from_millis(5);

/// A producer for many callers at once: idempotent (KIP-98), `acks=all`. It is opened at its first use and opened anew after an error
/// that it cannot go on from.
pub struct Sender {
    cluster: Cluster,
    patience: Duration,
    producer: Mutex<State>,
}

enum State {
    Unused,
    Open(Arc<Inner>),
    Closed,
}

type Inner = ThreadedProducer<Reports>;

/// A record to send.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The key; it chooses the partition, as Java's clients have it (murmur2).
    pub key: Option<&'a Bytes>,
    /// The value.
    pub value: Option<&'a Bytes>,
    /// The headers.
    pub headers: &'a [Header],
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

type Report = Result<Placed, Code>;

/// Tells each record's sender what became of it.
struct Reports;

impl Sender {
    /// A producer of a cluster, which tries for `patience` to write a record. Calls nobody.
    #[must_use]
    pub const fn new(cluster: Cluster, patience: Duration) -> Self {
        Self {
            cluster,
            patience,
            producer: Mutex::new(State::Unused),
        }
    }

    /// Sends a record, and waits until all replicas that are in step have it. librdkafka tries again by itself for a time; dropping
    /// the future leaves open whether it arrives.
    ///
    /// # Errors
    ///
    /// By kind: [`ErrorKind::TooLarge`], [`ErrorKind::Absent`], and those that pass.
    pub async fn send(&self, sending: Sending<'_>) -> Result<Placed, KafkaError> {
        let attempted = || format!("write to the topic {}", sending.topic);
        let producer = self.producer()?;
        let (tell, told) = oneshot::channel();
        let mut record = BaseRecord::with_opaque_to(sending.topic, Box::new(tell))
            .headers(native_headers(&[sending.headers]));
        if let Some(key) = sending.key {
            record = record.key(&key[..]);
        }
        if let Some(value) = sending.value {
            record = record.payload(&value[..]);
        }
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((Native::MessageProduction(Code::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(ROOM).await;
                }
                Err((fault, _)) => {
                    if producer.client().fatal_error().is_some() {
                        self.give_up(&producer);
                        return Err(KafkaError::of_kind(attempted(), ErrorKind::Unreachable));
                    }
                    return Err(KafkaError::new(attempted(), fault));
                }
            }
        }
        match told.await {
            Ok(Ok(placed)) => Ok(placed),
            Ok(Err(code)) => {
                if producer.client().fatal_error().is_some() {
                    self.give_up(&producer);
                    // The records that it held may be there: they are sent anew.
                    return Err(KafkaError::of_kind(attempted(), ErrorKind::Unreachable));
                }
                Err(KafkaError::new(
                    attempted(),
                    Native::MessageProduction(code),
                ))
            }
            Err(_) => Err(KafkaError::of_kind(attempted(), ErrorKind::Unreachable)),
        }
    }

    /// Waits a little for what is on its way, and sends nothing more.
    pub async fn close(&self) {
        let before = std::mem::replace(&mut *self.lock(), State::Closed);
        if let State::Open(producer) = before {
            let _ = tokio::task::spawn_blocking(move || producer.flush(LAST_WAIT)).await;
        }
    }
}

impl Sender {
    fn producer(&self) -> Result<Arc<Inner>, KafkaError> {
        let mut state = self.lock();
        match &*state {
            State::Open(producer) => Ok(producer.clone()),
            State::Closed => Err(KafkaError::of_kind(
                "write while the gateway stops",
                ErrorKind::Unreachable,
            )),
            State::Unused => {
                let producer = Arc::new(self.open()?);
                *state = State::Open(producer.clone());
                Ok(producer)
            }
        }
    }

    fn open(&self) -> Result<Inner, KafkaError> {
        let mut config = self.cluster.client();
        let mut own = |name: &str, value: &str| {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        };
        own("linger.ms", "2");
        own("partitioner", "murmur2_random");
        // How long a topic that nobody knows may still become known: so long after its first use it is said not to be there.
        own("topic.metadata.propagation.max.ms", "5000");
        own(
            "message.timeout.ms",
            &self.patience.as_millis().max(1).to_string(),
        );
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("statistics.interval.ms", "0");
        config.create_with_context(Reports).map_err(|fault| {
            KafkaError::new(
                format!("make a producer of {}", self.cluster.brokers()),
                fault,
            )
        })
    }

    /// The producer is of no use any more: the next record opens another one.
    fn give_up(&self, useless: &Arc<Inner>) {
        let mut state = self.lock();
        if matches!(&*state, State::Open(now) if Arc::ptr_eq(now, useless)) {
            let before = std::mem::replace(&mut *state, State::Unused);
            drop(state);
            drop_apart(before);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.lock(), State::Closed);
        drop_apart(before);
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
    type DeliveryOpaque = Box<oneshot::Sender<Report>>;

    fn delivery(&self, result: &DeliveryResult<'_>, tell: Self::DeliveryOpaque) {
        let report = match result {
            Ok(message) => Ok(Placed {
                partition: message.partition(),
                offset: message.offset(),
            }),
            Err((fault, _)) => Err(fault.rdkafka_error_code().unwrap_or(Code::Fail)),
        };
        let _ = tell.send(report);
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.cluster).finish()
    }
}

/// Dropping a producer can take a second.
fn drop_apart(state: State) {
    if let State::Open(producer) = state {
        let _ = std::thread::Builder::new()
            .name("kafka-drop".to_owned())
            .spawn(move || drop(producer));
    }
}
