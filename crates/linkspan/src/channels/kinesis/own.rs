//! Records to the gateway's own streams, without a way over the network.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use linkspan_streams::kinesis::put::{Entry, Placed};
use linkspan_streams::kinesis::{AmazonError, AmazonErrorKind, Answer, Call, Codec, Kind, Service};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is answered to `PutRecords`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    records: Vec<One>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    shard_id: Option<String>,
    sequence_number: Option<String>,
    error_code: Option<String>,
}

/// Puts records; the stream is made where it is not there. Gives what became of each, in order.
///
/// # Errors
///
/// Nothing was put.
pub(super) async fn records(
    service: &Arc<Service>,
    stream: &str,
    entries: &[Entry],
) -> Result<Vec<Result<Placed, AmazonError>>, AmazonError> {
    let failed = |kind, code: Option<String>| AmazonError {
        kind,
        attempted: format!("PutRecords to the gateway's stream {stream}"),
        code,
    };
    let records: Vec<_> = entries
        .iter()
        .map(|entry| json!({ "PartitionKey": entry.key, "Data": STANDARD.encode(&entry.data) }))
        .collect();
    let request = json!({ "StreamName": stream, "Records": records });
    let mut answer = call(service, "PutRecords", &request).await;
    if answer.fault == Some(Kind::ResourceNotFound) {
        // Somebody else may make it at the same time; then it is there as well.
        let make = json!({ "StreamName": stream, "ShardCount": 1 });
        call(service, "CreateStream", &make).await;
        answer = call(service, "PutRecords", &request).await;
    }
    if let Some(fault) = answer.fault {
        let name = fault.name().to_owned();
        return Err(failed(AmazonErrorKind::of(&name), Some(name)));
    }
    let put: Put = serde_json::from_slice(&answer.body)
        .map_err(|_| failed(AmazonErrorKind::Unreachable, None))?;
    let outcomes = put
        .records
        .into_iter()
        .map(|one| match (one.shard_id, one.sequence_number) {
            (Some(shard), Some(sequence)) => Ok(Placed { shard, sequence }),
            _ => {
                let kind = one.error_code.as_deref().map(AmazonErrorKind::of);
                let kind = kind.unwrap_or(AmazonErrorKind::Unreachable);
                Err(failed(kind, one.error_code))
            }
        });
    Ok(outcomes.collect())
}

async fn call(service: &Arc<Service>, operation: &str, request: &Value) -> Answer {
    let body = request.to_string();
    let call = Call {
        operation,
        codec: Codec::Json,
        body: body.as_bytes(),
        region: "local",
        may: &|_, _| true,
        now: Timestamp::now(),
    };
    service.answer(call).await
}
