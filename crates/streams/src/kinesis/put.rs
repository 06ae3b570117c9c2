//! Records to a stream of Amazon's, or of a service that speaks its protocol.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use bytes::Bytes;

use super::amazon::{AmazonError, AmazonErrorKind};

/// The most records and bytes (partition keys counted) of one call, and the most bytes of one record.
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>
pub const MOST_RECORDS: usize = 500;
/// See [`MOST_RECORDS`].
pub const MOST_BYTES: usize = 5 << 20;
/// See [`MOST_RECORDS`].
pub const MOST_RECORD: usize = 1 << 20;
/// The longest partition key, in characters.
pub const LONGEST_KEY: usize = 256;

/// A record that is put.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The partition key.
    pub key: String,
    /// The content.
    pub data: Bytes,
}

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The shard.
    pub shard: String,
    /// The sequence number.
    pub sequence: String,
}

/// Puts records, [`MOST_RECORDS`] and [`MOST_BYTES`] at the most. Gives what became of each, in order: where it is, or why it is not there.
///
/// # Errors
///
/// Nothing was put, or nobody knows: no answer came.
pub async fn records(
    client: &Client,
    stream: &str,
    entries: &[Entry],
) -> Result<Vec<Result<Placed, AmazonError>>, AmazonError> {
    let attempted = format!("PutRecords to the stream {stream}");
    let failed = |kind, code| AmazonError {
        kind,
        attempted: attempted.clone(),
        code,
    };
    let mut call = client.put_records().stream_name(stream);
    for entry in entries {
        let one = PutRecordsRequestEntry::builder()
            .partition_key(&entry.key)
            .data(Blob::new(entry.data.clone()))
            .build()
            .map_err(|_| failed(AmazonErrorKind::Argument, None))?;
        call = call.records(one);
    }
    let answer = call.send().await;
    let answer = answer.map_err(|error| AmazonError::of(&attempted, &error))?;
    let mut placed = answer.records.into_iter().map(|one| {
        match (one.error_code, one.shard_id, one.sequence_number) {
            (None, Some(shard), Some(sequence)) => Ok(Placed { shard, sequence }),
            (code, ..) => {
                let kind = code.as_deref().map(AmazonErrorKind::of);
                Err(failed(kind.unwrap_or(AmazonErrorKind::Unreachable), code))
            }
        }
    });
    let outcomes = entries.iter().map(|_| {
        let missing = || Err(failed(AmazonErrorKind::Unreachable, None));
        placed.next().unwrap_or_else(missing)
    });
    Ok(outcomes.collect())
}
