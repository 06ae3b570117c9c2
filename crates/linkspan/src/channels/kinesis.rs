//! The channel `kinesis`.

use async_trait::async_trait;
use linkspan_model::config::deliver::{self, Deliver};

use super::{Channel, Context, Parcel, Verdict};

/// A channel of that kind.
#[derive(Debug)]
pub(super) struct Kinesis {
    receiver: String,
}

impl Kinesis {
    /// Opens it. Calls nobody.
    pub(super) fn open(
        _item: &Deliver,
        given: &deliver::Kinesis,
        _context: &Context,
    ) -> Result<Self, String> {
        Ok(Self {
            receiver: given.kinesis.to_string(),
        })
    }
}

#[async_trait]
impl Channel for Kinesis {
    fn receiver(&self) -> String {
        self.receiver.clone()
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let verdict = |_| Verdict::retry(None, "not built yet");
        parcels.iter().map(verdict).collect()
    }
}
