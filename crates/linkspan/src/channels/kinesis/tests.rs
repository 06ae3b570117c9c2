//! Records put into a stream of the gateway's own, and by Amazon's client at a receiver that answers as Kinesis does.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use linkspan_streams::kinesis::{Call, Codec, Options, Service};
use linkspan_streams::log::{Logs, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::channels::testing::{context, opened, parcel, result, send};
use crate::channels::{Channel, Context, VerdictKind};
use crate::outbound::testing::{Receiver, answer};

const RETRY: VerdictKind = VerdictKind::Retry { after: None };

async fn own() -> (TempDir, Context, Arc<Service>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs");
    let logs = Arc::new(Logs::open(&path, Settings::default()).await.unwrap());
    let options = Options {
        throttle: false,
        shard_size: None,
        shards: 10,
    };
    let path = folder.path().join("streams.json");
    let service = Service::open(path, logs, b"secret", options).await.unwrap();
    let service = Arc::new(service);
    let context = context().with_own_streams(Some(service.clone()));
    (folder, context, service)
}

async fn call(service: &Service, operation: &str, request: Value) -> Value {
    let body = request.to_string();
    let call = Call {
        operation,
        codec: Codec::Json,
        body: body.as_bytes(),
        region: "local",
        may: &|_, _| true,
        now: Timestamp::now(),
    };
    serde_json::from_slice(&service.answer(call).await.body).unwrap()
}

/// The keys and contents in the stream's only shard.
async fn read(service: &Service) -> Vec<(String, Value)> {
    let iterator = json!({
        "StreamName": "scored", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON",
    });
    let iterator = call(service, "GetShardIterator", iterator).await;
    let page = call(service, "GetRecords", iterator).await;
    let records = page["Records"].as_array().unwrap().iter();
    records
        .map(|record| {
            let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
            let key = record["PartitionKey"].as_str().unwrap().to_owned();
            (key, serde_json::from_slice(&data).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn results_become_records_of_an_own_stream_which_is_made_for_them() {
    let (_folder, context, service) = own().await;
    let plain = opened(r#"{ kinesis = "scored" }"#, &context).unwrap();
    let keyed = opened(
        r#"{ kinesis = "scored", key = ".answers.mood.label" }"#,
        &context,
    );
    let mut mapped = parcel(result());
    mapped.content = json!({ "label": "negative" });
    let parcels = [parcel(result()), mapped];
    let verdicts = plain.send(&parcels).await;
    for verdict in &verdicts {
        assert_eq!(verdict.kind, VerdictKind::Delivered, "{verdict:?}");
        assert!(
            verdict.detail.contains("shardId-000000000000"),
            "{verdict:?}"
        );
    }
    let keyed = send(&keyed.unwrap(), parcels[0].clone()).await;
    assert_eq!(keyed.kind, VerdictKind::Delivered, "{keyed:?}");
    let records = read(&service).await;
    let expected = [
        (parcels[0].job.to_string(), parcels[0].result.clone()),
        (parcels[1].job.to_string(), json!({ "label": "negative" })),
        ("negative".to_owned(), parcels[0].result.clone()),
    ];
    assert_eq!(records, expected);
}

#[tokio::test]
async fn what_no_record_can_hold_is_a_dead_letter_and_spoils_no_other() {
    let (_folder, context, service) = own().await;
    let channel = opened(r#"{ kinesis = "scored", key = ".key" }"#, &context).unwrap();
    assert_eq!(channel.batch(), 500);
    let with = |key: Value, content: Value| {
        let mut parcel = parcel(result());
        parcel.result["key"] = key;
        parcel.content = content;
        parcel
    };
    let cases = [
        (with(json!("a"), json!("x".repeat(1 << 20))), "1048576"),
        (with(json!(""), json!(1)), "0 characters"),
        (with(json!("é".repeat(257)), json!(1)), "257 characters"),
        (with(json!({}), json!(1)), "neither a text nor a number"),
        (with(json!(null), json!(1)), "neither a text nor a number"),
        (with(json!("é".repeat(256)), json!(2)), ""),
        (with(json!(7), json!(3)), ""),
    ];
    let parcels: Vec<_> = cases.iter().map(|(parcel, _)| parcel.clone()).collect();
    let verdicts = channel.send(&parcels).await;
    for ((_, why), verdict) in cases.iter().zip(&verdicts) {
        let expected = if why.is_empty() {
            VerdictKind::Delivered
        } else {
            VerdictKind::Dead
        };
        assert_eq!(verdict.kind, expected, "{why}: {verdict:?}");
        assert!(verdict.detail.contains(why), "{why}: {verdict:?}");
    }
    let contents: Vec<_> = read(&service).await.into_iter().map(|(_, it)| it).collect();
    assert_eq!(contents, [json!(2), json!(3)]);
}

/// A channel by Amazon's client.
fn by_amazon(receiver: &Receiver, more: &str) -> Arc<dyn Channel> {
    let item = format!(
        r#"{{ kinesis = "scored", aws = {{ region = "eu-central-1", endpoint = "{}", access_key_id = "${{env:AKIDTESTS}}", secret_access_key = "${{env:SecretOfTheTests}}" }}{more} }}"#,
        receiver.url("/")
    );
    opened(&item, &context()).unwrap()
}

#[tokio::test]
async fn each_record_of_a_call_to_amazon_has_a_verdict_of_its_own() {
    let receiver = Receiver::start(|_| {
        let body = json!({ "FailedRecordCount": 2, "Records": [
            { "SequenceNumber": "49", "ShardId": "shardId-000000000003" },
            { "ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded" },
            { "ErrorCode": "InternalFailure", "ErrorMessage": "Internal" },
        ] });
        answer(200, &[], body.to_string())
    })
    .await;
    let channel = by_amazon(&receiver, "");
    let parcels = [parcel(result()), parcel(result()), parcel(result())];
    let verdicts = channel.send(&parcels).await;
    let kinds: Vec<_> = verdicts.iter().map(|verdict| verdict.kind).collect();
    assert_eq!(
        kinds,
        [VerdictKind::Delivered, RETRY, RETRY],
        "{verdicts:?}"
    );
    assert!(verdicts[0].detail.contains("shardId-000000000003"));
    assert!(verdicts[1].detail.contains("fewer calls"), "{verdicts:?}");
    let seen = receiver.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        seen[0].header("x-amz-target"),
        Some("Kinesis_20131202.PutRecords")
    );
    let authorization = seen[0].header("authorization").unwrap();
    assert!(
        authorization.contains("Credential=AKIDTESTS/"),
        "{authorization}"
    );
    assert!(authorization.contains("/eu-central-1/kinesis/aws4_request"));
    let put = seen[0].json();
    assert_eq!(put["Records"].as_array().unwrap().len(), 3);
    assert_eq!(
        put["Records"][1]["PartitionKey"],
        parcels[1].job.to_string()
    );
}

#[tokio::test]
async fn a_call_that_fails_is_tried_again_and_tells_no_secret() {
    for (status, code, words) in [
        (400, "ResourceNotFoundException", "no such stream"),
        (400, "UnrecognizedClientException", "access key"),
        (400, "LimitExceededException", "fewer calls"),
        (500, "InternalFailure", "fault of its own"),
        (503, "", "fault of its own"),
    ] {
        let receiver = Receiver::start(move |_| {
            let body = json!({ "__type": code, "message": "SecretOfTheTests" });
            answer(status, &[], body.to_string())
        })
        .await;
        let channel = by_amazon(&receiver, "");
        let verdict = send(&channel, parcel(result())).await;
        assert_eq!(verdict.kind, RETRY, "{verdict:?}");
        assert!(verdict.detail.contains(words), "{verdict:?}");
        let receiver = channel.receiver();
        assert!(
            receiver.starts_with("scored at http://127.0.0.1:"),
            "{receiver}"
        );
        for shown in [receiver, verdict.detail, format!("{channel:?}")] {
            assert!(!shown.contains("SecretOfTheTests"), "{shown}");
            assert!(!shown.contains("AKIDTESTS"), "{shown}");
        }
    }
}

#[tokio::test]
async fn nothing_is_called_but_what_the_way_out_allows() {
    let mut context = context();
    let aws = |endpoint: &str| {
        format!(
            r#"{{ kinesis = "scored", aws = {{ region = "eu-central-1", endpoint = "{endpoint}", access_key_id = "${{env:AKID}}", secret_access_key = "${{env:SECRET}}" }} }}"#
        )
    };
    let closed = crate::outbound::testing::settings(&[]);
    context.outbound = crate::outbound::Outbound::new(&closed, std::path::Path::new(".")).unwrap();
    let faults = opened(&aws("http://127.0.0.1:4568"), &context).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].starts_with("aws.endpoint: ") && faults[0].contains("this machine"),
        "{faults:?}"
    );
    let faults = opened(r#"{ kinesis = "scored", key = ".[" }"#, &context).unwrap_err();
    assert!(faults[0].starts_with("key: "), "{faults:?}");
    // A name is judged when it is called.
    let silent = Receiver::silent().await;
    let refused = crate::channels::kinesis::carrier::Carrier::new(
        context.outbound.clone(),
        std::time::Duration::from_secs(30),
    );
    let amazon = linkspan_streams::kinesis::Amazon {
        region: "eu-central-1".to_owned(),
        endpoint: Some(format!("http://localhost:{}", silent.address.port())),
        access_key: Some(("AKID".to_owned(), "SECRET".to_owned())),
    };
    let client = amazon.client(Some(refused.client())).await;
    let entry = linkspan_streams::kinesis::put::Entry {
        key: "a".to_owned(),
        data: "1".into(),
    };
    let put = linkspan_streams::kinesis::put::records(&client, "scored", &[entry]).await;
    assert!(put.is_err());
    let failed = refused.failed().unwrap();
    assert!(
        !failed.may_pass() && failed.to_string().contains("private_networks"),
        "{failed}"
    );
}
