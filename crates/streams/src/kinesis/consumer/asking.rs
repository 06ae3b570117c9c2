//! What a shard's reader asks the service.

use std::time::Duration;

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::coordinator::Hint;
use super::cursor::Cursor;
use super::place::{At, Sequence};
use super::reader::{Reader, Stop, TOLD_AT};
use super::shards::ANEW;
use crate::kinesis::amazon::{AmazonError, AmazonErrorKind};
use crate::source::SourceError;

impl Reader {
    /// An iterator behind the last record that was fetched, or where reading began.
    pub(super) async fn iterator(&self, cursor: &Cursor) -> Result<String, AmazonError> {
        if let Some(fetched) = &cursor.fetched {
            let after = ShardIteratorType::AfterSequenceNumber;
            return self.of_type(after, Some(fetched), None).await;
        }
        let (kind, sequence, time) = match &cursor.from.at {
            // With the record, not after it: so it shows whether retention has removed it, and others after it.
            At::After(sequence, _) | At::With(sequence) => {
                (ShardIteratorType::AtSequenceNumber, Some(sequence), None)
            }
            At::Time => (ShardIteratorType::AtTimestamp, None, cursor.from.settled),
            At::Oldest => (ShardIteratorType::TrimHorizon, None, None),
            At::Newest => (ShardIteratorType::Latest, None, None),
        };
        self.of_type(kind, sequence, time).await
    }

    pub(super) async fn of_type(
        &self,
        kind: ShardIteratorType,
        sequence: Option<&Sequence>,
        time: Option<Timestamp>,
    ) -> Result<String, AmazonError> {
        let attempted = self.attempted("GetShardIterator");
        let call = self.common.client.get_shard_iterator();
        let answer = call
            .stream_name(&self.common.settings.stream)
            .shard_id(self.lane.as_str())
            .shard_iterator_type(kind)
            .set_starting_sequence_number(sequence.map(|it| it.as_str().to_owned()))
            .set_timestamp(time.map(|time| DateTime::from_millis(time.as_millisecond())))
            .send()
            .await
            .map_err(|error| AmazonError::of(&attempted, &error))?;
        answer.shard_iterator.ok_or(AmazonError {
            kind: AmazonErrorKind::Unreachable,
            attempted,
            code: None,
        })
    }

    /// What an iterator gives, at most so many records.
    pub(super) async fn page(
        &self,
        iterator: &str,
        most: i32,
    ) -> Result<GetRecordsOutput, AmazonError> {
        let call = self.common.client.get_records();
        let answer = call.shard_iterator(iterator).limit(most).send().await;
        answer.map_err(|error| AmazonError::of(self.attempted("GetRecords"), &error))
    }

    /// Whether a record that was fetched is still there.
    pub(super) async fn is_there(
        &self,
        cursor: &mut Cursor,
        record: &Sequence,
    ) -> Result<bool, Stop> {
        let mut next = None;
        loop {
            sleep_until(cursor.pace.next()).await;
            let iterator = match next.take() {
                Some(iterator) => iterator,
                None => {
                    let at = ShardIteratorType::AtSequenceNumber;
                    match self.of_type(at, Some(record), None).await {
                        Ok(iterator) => iterator,
                        Err(error) => {
                            self.failed(cursor, &error, true)?;
                            continue;
                        }
                    }
                }
            };
            let begun = Instant::now();
            match self.page(&iterator, 1).await {
                Ok(page) => {
                    let bytes = page.records.iter().map(|record| record.data.as_ref().len());
                    cursor.pace.gave(begun, bytes.sum(), Duration::ZERO);
                    let first = page.records.first();
                    let is_all = page.millis_behind_latest == Some(0);
                    if first.is_some() || is_all || page.next_shard_iterator.is_none() {
                        let first = first.and_then(|it| Sequence::new(it.sequence_number()));
                        return Ok(first.as_ref() == Some(record));
                    }
                    next = page.next_shard_iterator;
                }
                Err(error) => {
                    if !error.is_of_iterator() {
                        next = Some(iterator);
                    }
                    self.failed(cursor, &error, false)?;
                }
            }
        }
    }

    /// What follows from a failed call: another try after a wait, or the end.
    pub(super) fn failed(
        &self,
        cursor: &mut Cursor,
        error: &AmazonError,
        is_iterator: bool,
    ) -> Result<(), Stop> {
        let failures = cursor.pace.failed(Instant::now(), fastrand::f64());
        match error.kind {
            AmazonErrorKind::Refused | AmazonErrorKind::Key => {
                return Err(Stop::Fault(SourceError::Lasting(error.to_string())));
            }
            // A number that is none of this shard's.
            AmazonErrorKind::Argument
                if is_iterator
                    && (cursor.fetched.is_some() || cursor.from.sequence().is_some()) =>
            {
                return Err(self.broken(ANEW));
            }
            // The list of shards will tell what is gone: the shard, or the stream.
            AmazonErrorKind::Absent => self.hint(Hint::Absent),
            _ => {}
        }
        if failures.is_multiple_of(TOLD_AT) {
            let fault = SourceError::Passing(error.to_string());
            self.common.queue.fault(fault);
        }
        Ok(())
    }

    fn attempted(&self, operation: &str) -> String {
        let stream = &self.common.settings.stream;
        format!("{operation} on {} of the stream {stream}", self.lane)
    }
}
