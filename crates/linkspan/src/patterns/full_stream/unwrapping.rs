//! Records without what producers wrapped them in, no more of them at once than there is room for.

use std::sync::Arc;

use linkspan_streams::Record;
use linkspan_streams::kinesis::decode::Decoder;
use linkspan_streams::kinesis::room::{BATCH_BYTES, Room, Taken};

/// Takes off what producers wrapped records in.
pub(super) struct Unwrapping {
    decoder: Arc<Decoder>,
    room: Room,
}

impl Unwrapping {
    /// With room for so many bytes beside the record that is being unwrapped.
    pub(super) fn new(decoder: Decoder, room: usize) -> Self {
        Self {
            room: Room::new(decoder.most(0), room),
            decoder: Arc::new(decoder),
        }
    }

    /// The first records of those, at least one, unwrapped; and the room that they take for as long as they are worked on. One that holds
    /// several, or cannot be read, stays as it is.
    pub(super) async fn some(&self, records: &[Arc<Record>]) -> (Vec<Arc<Record>>, Taken) {
        let mut room = self.room.take().await;
        let (decoder, wrapped) = (self.decoder.clone(), records.to_vec());
        let unwrapped = tokio::task::spawn_blocking(move || some(&decoder, wrapped)).await;
        let (unwrapped, bytes) = unwrapped.unwrap_or_else(|_| (records.to_vec(), 0));
        (unwrapped, room.split(bytes))
    }
}

fn some(decoder: &Decoder, wrapped: Vec<Arc<Record>>) -> (Vec<Arc<Record>>, usize) {
    let mut unwrapped = Vec::with_capacity(wrapped.len());
    let mut bytes = 0;
    for record in wrapped {
        let mut parts = decoder.decode(Record::clone(&record), None);
        let one = match parts.pop() {
            Some(part) if parts.is_empty() => Arc::new(part),
            _ => record,
        };
        bytes += one.size();
        unwrapped.push(one);
        if bytes >= BATCH_BYTES {
            break;
        }
    }
    (unwrapped, bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use futures_util::FutureExt as _;
    use linkspan_streams::kinesis::decode::Wrapping;
    use linkspan_streams::{Lane, Position};

    use super::*;

    #[tokio::test]
    async fn no_more_is_unwrapped_at_once_than_there_is_room_for() {
        let limit = 2 * BATCH_BYTES;
        let record = |size: usize| {
            Arc::new(Record {
                lane: Lane::new("reviews/0"),
                ordinal: 0,
                position: Position::number(0),
                key: None,
                value: Some(STANDARD.encode(vec![7; size]).into()),
                headers: Vec::new(),
                timestamp: None,
                defect: None,
            })
        };
        let (small, large) = (record(10), record(limit - 1_000));
        let records = [small.clone(), large.clone(), small, large];
        let decoder = Decoder::new(vec![Wrapping::Base64], limit);
        let unwrapping = Unwrapping::new(decoder, limit);
        let (first, room) = unwrapping.some(&records).await;
        let size = |record: &Arc<Record>| record.value.as_ref().map(bytes::Bytes::len);
        let sizes: Vec<_> = first.iter().map(size).collect();
        assert_eq!(sizes, [Some(10), Some(limit - 1_000)]);
        let (second, other_room) = unwrapping.some(&records[2..]).await;
        assert_eq!(second.len(), 2);
        assert!(unwrapping.some(&records).now_or_never().is_none());
        drop((first, room));
        let (third, _room) = unwrapping.some(&records[..1]).await;
        assert_eq!(third.len(), 1);
        drop(other_room);
    }
}
