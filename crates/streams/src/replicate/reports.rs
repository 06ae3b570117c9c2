//! What became of the records that were given to the producer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::Message as _;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::clients;
use super::map::{self, Run};

/// The context of the producer: which target offset each record got.
#[derive(Default)]
pub(super) struct Reports(Mutex<Reported>);

/// Since it was last taken.
#[derive(Default)]
pub(super) struct Reported {
    /// By the number of the partition's slot. The source offsets are relative to the transaction's first of the slot.
    pub(super) runs: Vec<Vec<Run>>,
    /// The first record that did not arrive: its slot, if it is not of the progress, and why.
    pub(super) failed: Option<(Option<usize>, Code)>,
}

/// Where a record comes from, as the number that librdkafka gives back with its report.
#[derive(Clone, Copy)]
pub(super) struct Origin(usize);

/// Bits of an [`Origin`] that are the offset's.
const OFFSET: u32 = 44;

/// The slot of the progress' own records.
const PROGRESS: usize = (1 << 20) - 1;

impl Origin {
    /// A record of a slot, by its distance from the transaction's first of that slot.
    pub(super) fn record(slot: usize, distance: i64) -> Self {
        debug_assert!(slot < PROGRESS && (0..1 << OFFSET).contains(&distance));
        Self((slot << OFFSET) | usize::try_from(distance).unwrap_or_default())
    }

    /// A record of the progress.
    pub(super) fn progress() -> Self {
        Self(PROGRESS << OFFSET)
    }

    pub(super) fn number(self) -> usize {
        self.0
    }
}

impl Reports {
    /// What was told since the last time.
    pub(super) fn take(&self) -> Reported {
        std::mem::take(&mut *self.lock())
    }

    /// Whether something did not arrive.
    pub(super) fn failed(&self) -> bool {
        self.lock().failed.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Reported> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        clients::log(level, facility, message);
    }

    fn error(&self, error: rdkafka::error::KafkaError, _: &str) {
        tracing::debug!(%error, "librdkafka");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, origin: usize) {
        let slot = origin >> OFFSET;
        let mut reported = self.lock();
        let code = match result {
            // A batch that was sent twice, and of which the broker no longer knows where it stands, has no offset.
            Ok(message) if message.offset() < 0 => Code::Fail,
            Ok(message) => {
                if slot != PROGRESS {
                    if reported.runs.len() <= slot {
                        reported.runs.resize_with(slot + 1, Vec::new);
                    }
                    let distance = (origin & ((1 << OFFSET) - 1)) as i64;
                    map::push(&mut reported.runs[slot], distance, message.offset());
                }
                return;
            }
            Err((fault, _)) => fault.rdkafka_error_code().unwrap_or(Code::Fail),
        };
        // What a purge takes back failed for another reason.
        let purged = matches!(code, Code::PurgeQueue | Code::PurgeInflight);
        if !purged && reported.failed.is_none() {
            reported.failed = Some(((slot != PROGRESS).then_some(slot), code));
        }
    }
}
