//! Records to a Kinesis stream: one of the gateway's own, or one of Amazon's.
//!
//! Deliveries are put in batches (`PutRecords`), and each has its own verdict. At least once: a record whose answer is lost is put again.
//! Each record's content is JSON on its own; the delivery's id is not in it, and the invocation's is where `map` leaves it.

mod carrier;
mod own;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use linkspan_model::config::deliver::{self, Deliver};
use linkspan_streams::kinesis::put::{
    self, Entry, LONGEST_KEY, MOST_BYTES, MOST_RECORD, MOST_RECORDS, Placed,
};
use linkspan_streams::kinesis::{AmazonError, AmazonErrorKind, Client, Service};
use serde_json::Value;
use tokio::sync::OnceCell;

use self::carrier::Carrier;
use super::{Channel, Context, Parcel, Verdict, reply};
use crate::jq::Filter;
use crate::outbound::CallError;
use crate::streaming::amazon::amazon;

/// The Kinesis channel of one integration.
#[derive(Debug)]
pub(super) struct Kinesis {
    stream: String,
    key: Option<Filter>,
    way: Way,
}

/// How the stream is reached.
#[derive(Debug)]
enum Way {
    /// It is one of the gateway's own; none where they are not open, as in a check.
    Own(Option<Arc<Service>>),
    Amazon(Box<Reached>),
}

/// A stream of Amazon's.
struct Reached {
    aws: linkspan_model::config::stream::Aws,
    carrier: Carrier,
    client: OnceCell<Client>,
}

impl fmt::Debug for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the client: it shows the access key's id.
        f.debug_struct("Reached")
            .field("aws", &self.aws)
            .finish_non_exhaustive()
    }
}

/// Why a batch was not put at all.
enum Failed {
    Amazon(AmazonError),
    Call(CallError),
}

impl Kinesis {
    /// Opens the channel; calls nobody.
    ///
    /// # Errors
    ///
    /// Every fault, as a sentence that begins with its key.
    pub(super) fn open(
        item: &Deliver,
        given: &deliver::Kinesis,
        context: &Context,
    ) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let key = given.key.as_ref().and_then(|filter| {
            Filter::compile(filter.as_str())
                .map_err(|sentence| faults.push(format!("key: {sentence}")))
                .ok()
        });
        let endpoint = given.aws.as_ref().and_then(|aws| aws.endpoint.as_ref());
        if let Some(endpoint) = endpoint
            && let Err(sentence) = reply::allowed(endpoint, &context.outbound)
        {
            faults.push(format!("aws.endpoint: {sentence}"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            stream: given.kinesis.to_string(),
            key,
            way: match &given.aws {
                None => Way::Own(context.own_streams.clone()),
                Some(aws) => Way::Amazon(Box::new(Reached {
                    aws: aws.clone(),
                    carrier: Carrier::new(context.outbound.clone(), item.common.timeout),
                    client: OnceCell::new(),
                })),
            },
        })
    }

    /// The record of a parcel.
    async fn entry(&self, parcel: &Parcel) -> Result<Entry, Verdict> {
        let dead = |detail: String| Verdict::dead(None, detail);
        let data = serde_json::to_vec(&parcel.content)
            .map_err(|_| dead("the result cannot be written as JSON".to_owned()))?;
        let key = match &self.key {
            None => parcel.job.to_string(),
            Some(filter) => {
                let found = filter.run_limited(&parcel.result).await;
                match found.map_err(|sentence| dead(format!("key: {sentence}")))? {
                    Some(Value::String(text)) => text,
                    Some(Value::Number(number)) => number.to_string(),
                    _ => {
                        let message = "key: the filter gives neither a text nor a number";
                        return Err(dead(message.to_owned()));
                    }
                }
            }
        };
        let length = key.chars().count();
        if !(1..=LONGEST_KEY).contains(&length) {
            return Err(dead(format!(
                "key: the partition key has {length} characters; Kinesis takes 1 to {LONGEST_KEY}"
            )));
        }
        let size = data.len() + key.len();
        if size > MOST_RECORD {
            return Err(dead(format!(
                "the record has {size} bytes with its partition key; Kinesis takes {MOST_RECORD}: send less of the result by map"
            )));
        }
        Ok(Entry {
            key,
            data: data.into(),
        })
    }

    async fn put(&self, entries: &[Entry]) -> Result<Vec<Result<Placed, AmazonError>>, Failed> {
        match &self.way {
            Way::Own(Some(service)) => own::records(service, &self.stream, entries).await,
            Way::Own(None) => Err(AmazonError {
                kind: AmazonErrorKind::Absent,
                attempted: "the gateway's own streams are not open".to_owned(),
                code: None,
            }),
            Way::Amazon(reached) => {
                let Reached {
                    aws,
                    carrier,
                    client,
                } = &**reached;
                let open = || async { amazon(aws).client(Some(carrier.client())).await };
                let client = client.get_or_init(open).await;
                let failed = match put::records(client, &self.stream, entries).await {
                    Ok(outcomes) => return Ok(outcomes),
                    Err(failed) => failed,
                };
                // Without an error's name there was no answer, and the way out knows why.
                let call = match failed.code {
                    None => carrier.failed(),
                    Some(_) => None,
                };
                return Err(call.map_or(Failed::Amazon(failed), Failed::Call));
            }
        }
        .map_err(Failed::Amazon)
    }
}

#[async_trait]
impl Channel for Kinesis {
    fn receiver(&self) -> String {
        match &self.way {
            Way::Own(_) => self.stream.clone(),
            Way::Amazon(reached) => match &reached.aws.endpoint {
                Some(endpoint) => format!("{} at {}", self.stream, endpoint.origin()),
                None => format!("{} in {}", self.stream, reached.aws.region),
            },
        }
    }

    fn batch(&self) -> usize {
        MOST_RECORDS
    }

    async fn send(&self, parcels: &[Parcel]) -> Vec<Verdict> {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; parcels.len()];
        let mut entries = Vec::new();
        for (nth, parcel) in parcels.iter().enumerate() {
            match self.entry(parcel).await {
                Ok(entry) => entries.push((nth, entry)),
                Err(verdict) => verdicts[nth] = Some(verdict),
            }
        }
        while !entries.is_empty() {
            let (nths, some): (Vec<_>, Vec<_>) = entries.drain(..fitting(&entries)).unzip();
            match self.put(&some).await {
                Ok(outcomes) => {
                    for (nth, outcome) in nths.into_iter().zip(outcomes) {
                        verdicts[nth] = Some(outcome.map_or_else(
                            |error| refused(&error),
                            |placed| {
                                let Placed { shard, sequence } = placed;
                                Verdict::delivered(None, format!("record {sequence} of {shard}"))
                            },
                        ));
                    }
                }
                Err(failed) => {
                    let verdict = match &failed {
                        Failed::Amazon(error) => refused(error),
                        Failed::Call(error) => reply::unanswered(error),
                    };
                    for nth in nths {
                        verdicts[nth] = Some(verdict.clone());
                    }
                }
            }
        }
        let missing = || Verdict::retry(None, "it was not put");
        let verdicts = verdicts.into_iter();
        verdicts
            .map(|verdict| verdict.unwrap_or_else(missing))
            .collect()
    }
}

/// How many of the entries fit into one call, at least one.
fn fitting(entries: &[(usize, Entry)]) -> usize {
    let mut bytes = 0;
    let fit = entries.iter().take(MOST_RECORDS).take_while(|(_, entry)| {
        bytes += entry.key.len() + entry.data.len();
        bytes <= MOST_BYTES
    });
    fit.count().max(1).min(entries.len())
}

/// It was not put: a wrong argument never will be; everything else can be mended on the other side, or passes.
fn refused(error: &AmazonError) -> Verdict {
    let detail = match &error.code {
        Some(code) => format!("{error} ({code})"),
        None => error.to_string(),
    };
    match error.kind {
        AmazonErrorKind::Argument => Verdict::dead(None, detail),
        _ => Verdict::retry(None, detail),
    }
}
