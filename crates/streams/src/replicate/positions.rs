//! Where partitions begin and end, and where reading stands, with the epochs of leaders (KIP-320), which rdkafka does not offer.
#![expect(
    unsafe_code,
    reason = "rdkafka has no call for the leader epochs of a list; librdkafka's are wrapped here and nowhere else"
)]

use std::collections::HashMap;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError as Native;
use rdkafka::topic_partition_list::Offset;

use super::ReplicateError;
use super::clients::{ANSWER, Reader};
use crate::kafka::ErrorKind;

/// A topic and the number of one of its partitions.
pub(super) type Partition = (String, i32);

/// One of the two ends of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edge {
    /// The first offset that is there.
    Begin,
    /// The offset behind the last one that a reader of committed records may see.
    End,
}

/// Where reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The offset that is read next.
    pub(super) offset: i64,
    /// The epoch of the leader that wrote what lies before it. With it a cluster can tell whether it still has just that.
    pub(super) epoch: Option<i32>,
}

/// Asks for one end of each of these partitions, of their leaders themselves: `ListOffsets`.
pub(super) fn ask<'a>(
    reader: &Reader,
    partitions: impl IntoIterator<Item = (&'a str, i32)>,
    edge: Edge,
    side: &str,
) -> Result<HashMap<Partition, i64>, ReplicateError> {
    let where_to = match edge {
        Edge::Begin => "begin",
        Edge::End => "end",
    };
    let attempted = format!("ask the {side} cluster where its partitions {where_to}");
    let failed = |fault: Native| ReplicateError::new(&attempted, &fault);
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        let logical = match edge {
            Edge::Begin => Offset::Beginning,
            Edge::End => Offset::End,
        };
        list.add_partition_offset(topic, partition, logical)
            .map_err(failed)?;
    }
    if list.count() == 0 {
        return Ok(HashMap::new());
    }
    // The protocol has them as times: -2 is the first offset, and -1 the end.
    let told = reader.offsets_for_times(list, ANSWER).map_err(failed)?;
    let told = told.elements();
    told.iter()
        .map(|element| {
            element.error().map_err(failed)?;
            match element.offset() {
                Offset::Offset(offset) => {
                    Ok(((element.topic().to_owned(), element.partition()), offset))
                }
                _ => Err(ReplicateError::of_kind(&attempted, ErrorKind::Unreachable)),
            }
        })
        .collect()
}

/// Adds a partition to what is to be assigned. The cluster is asked whether it has what was read before this position.
pub(super) fn add(
    list: &mut TopicPartitionList,
    topic: &str,
    partition: i32,
    at: Position,
) -> Result<(), Native> {
    list.add_partition_offset(topic, partition, Offset::Offset(at.offset))?;
    let Some(epoch) = at.epoch else { return Ok(()) };
    // SAFETY: the list is borrowed alone, and its last element is the one that was just added.
    unsafe {
        let list = list.ptr();
        if let Some(last) = usize::try_from((*list).cnt)
            .unwrap_or_default()
            .checked_sub(1)
        {
            native::rd_kafka_topic_partition_set_leader_epoch((*list).elems.add(last), epoch);
        }
    }
    Ok(())
}

/// The positions of a list, as a consumer has told them: each with its topic and partition. Left out is where nothing was read yet.
pub(super) fn of(list: &TopicPartitionList, mut seen: impl FnMut(&str, i32, Position)) {
    for (index, element) in list.elements().iter().enumerate() {
        let Offset::Offset(offset) = element.offset() else {
            continue;
        };
        // SAFETY: `elements` has as many as the list, in its order, and the list lives as long as the borrow.
        let epoch = unsafe {
            native::rd_kafka_topic_partition_get_leader_epoch((*list.ptr()).elems.add(index))
        };
        let epoch = Some(epoch).filter(|epoch| *epoch >= 0);
        seen(
            element.topic(),
            element.partition(),
            Position { offset, epoch },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_the_epoch_of_each_position() {
        let mut list = TopicPartitionList::new();
        let positions = [
            (
                "orders",
                0,
                Position {
                    offset: 7,
                    epoch: Some(3),
                },
            ),
            (
                "orders",
                1,
                Position {
                    offset: 0,
                    epoch: None,
                },
            ),
            (
                "bills",
                0,
                Position {
                    offset: 9,
                    epoch: Some(0),
                },
            ),
        ];
        for (topic, partition, at) in positions {
            add(&mut list, topic, partition, at).expect("it is added");
        }
        let mut told = Vec::new();
        of(&list, |topic, partition, at| {
            told.push((topic.to_owned(), partition, at));
        });
        let expected = positions.map(|(topic, partition, at)| (topic.to_owned(), partition, at));
        assert_eq!(told, expected);
    }
}
