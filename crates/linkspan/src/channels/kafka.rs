//! The channel `kafka`.

use async_trait::async_trait;
use linkspan_model::config::deliver::{self, Deliver};

use super::{Channel, Context, Parcel, Verdict};

/// A channel of that kind.
#[derive(Debug)]
pub(super) struct Kafka {
    receiver: String,
}

impl Kafka {
    /// Opens it. Calls nobody.
    pub(super) fn open(
        _item: &Deliver,
        given: &deliver::Kafka,
        _context: &Context,
    ) -> Result<Self, String> {
        Ok(Self {
            receiver: given.kafka.to_string(),
        })
    }
}

#[async_trait]
impl Channel for Kafka {
    fn receiver(&self) -> String {
        self.receiver.clone()
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let verdict = |_| Verdict::retry(None, "not built yet");
        parcels.iter().map(verdict).collect()
    }
}
